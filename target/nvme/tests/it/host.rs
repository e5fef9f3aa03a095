//! A scripted host. Its wire code is its own, so that a mistake in the product's is not repeated here.

use holdfast_block::{BlockPort, ConnectionConfig, Disposition, HALF_OPEN_MS, TransmitSink};
use holdfast_nvme::Connection;
use holdfast_pi::{GuardKind, guard_of};

use crate::world::{SUBNQN, World};

/// A PDU from the target, taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Pdu {
    IcResp { dgst: u8, maxh2cdata: u32 },
    Response { cid: u16, status: u16, result: u64, sqhd: u16 },
    Data { cid: u16, offset: u32, data: Vec<u8>, last: bool, success: bool },
    R2t { cid: u16, ttag: u16, offset: u32, length: u32 },
    Term { fes: u16, fei: u32, quoted: Vec<u8> },
}

/// Status type and code, without Do Not Retry.
pub(crate) fn code(status: u16) -> (u8, u8) {
    (((status >> 9) & 7) as u8, (status >> 1) as u8)
}

/// The Do Not Retry bit.
pub(crate) fn dnr(status: u16) -> bool {
    status & 0x8000 != 0
}

#[derive(Default)]
struct Bytes(Vec<u8>);

impl TransmitSink for Bytes {
    fn inline(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
    fn region(&mut self, _: u16, _: usize, _: usize) {
        unreachable!("the test's block layer has no regions");
    }
    fn zeroes(&mut self, len: usize) {
        self.0.resize(self.0.len() + len, 0);
    }
}

pub(crate) struct Host {
    pub(crate) connection: Connection,
    pub(crate) hdgst: bool,
    pub(crate) ddgst: bool,
    /// Sizes of the pieces in which bytes are handed over; 0: whole.
    pub(crate) cut: usize,
    /// Everything that was sent by the target.
    pub(crate) raw: Vec<u8>,
    next_cid: u16,
    id: u64,
    /// Whether the last piece was handed over with a small budget.
    frugal: bool,
}

pub(crate) fn crc(bytes: &[u8]) -> [u8; 4] {
    (guard_of(GuardKind::Crc32c, bytes) as u32).to_le_bytes()
}

/// An SQE of this opcode; dwords follow by [`put`].
pub(crate) fn sqe(opcode: u8, nsid: u32) -> [u8; 64] {
    let mut sqe = [0; 64];
    sqe[0] = opcode;
    sqe[1] = 0x40;
    sqe[4..8].copy_from_slice(&nsid.to_le_bytes());
    sqe
}

/// Sets a dword.
pub(crate) fn put(sqe: &mut [u8; 64], dword: usize, value: u32) {
    sqe[dword * 4..dword * 4 + 4].copy_from_slice(&value.to_le_bytes());
}

/// Sets SGL1.
pub(crate) fn sgl(sqe: &mut [u8; 64], identifier: u8, address: u64, length: u32) {
    sqe[24..32].copy_from_slice(&address.to_le_bytes());
    sqe[32..36].copy_from_slice(&length.to_le_bytes());
    sqe[39] = identifier;
}

/// A command with a range of blocks.
pub(crate) fn ranged(opcode: u8, nsid: u32, lba: u64, blocks: u32, control: u32) -> [u8; 64] {
    let mut sqe = sqe(opcode, nsid);
    put(&mut sqe, 10, lba as u32);
    put(&mut sqe, 11, (lba >> 32) as u32);
    put(&mut sqe, 12, (blocks - 1) | control);
    put(&mut sqe, 14, lba as u32);
    sqe
}

impl Host {
    pub(crate) fn new(world: &World, id: u64) -> Host {
        let peer = "127.0.0.1:40000".parse().unwrap();
        let local = "127.0.0.1:4420".parse().unwrap();
        let config =
            ConnectionConfig { id, peer, local, portal: 0, now_ms: world.now_ms, half_open_ms: HALF_OPEN_MS };
        Host {
            connection: Connection::new(config),
            hdgst: false,
            ddgst: false,
            cut: 0,
            raw: Vec::new(),
            next_cid: 100,
            id,
            frugal: false,
        }
    }

    /// Hands over bytes, in pieces if so wished.
    pub(crate) fn send(&mut self, world: &mut World, bytes: &[u8]) {
        let cut = if self.cut == 0 { bytes.len().max(1) } else { self.cut };
        for piece in bytes.chunks(cut) {
            self.offer(world, piece);
        }
    }

    /// Hands over one piece, with a small budget at a time in every other call.
    pub(crate) fn offer(&mut self, world: &mut World, mut piece: &[u8]) {
        self.frugal = !self.frugal;
        let budget = if self.frugal { 1 } else { u64::MAX };
        while !piece.is_empty() {
            let taken = self.connection.receive(&mut world.context(), piece, budget);
            assert!(taken.bytes > 0, "a budget that is not 0 takes something");
            piece = &piece[taken.bytes..];
        }
    }

    pub(crate) fn icreq(dgst: u8) -> Vec<u8> {
        let mut pdu = vec![0; 128];
        pdu[2] = 128;
        pdu[4] = 128;
        pdu[11] = dgst;
        pdu
    }

    /// A command capsule with this data behind it.
    pub(crate) fn capsule(&self, sqe: &[u8; 64], data: &[u8]) -> Vec<u8> {
        self.pdu(0x04, 0, sqe, data)
    }

    /// H2CData.
    pub(crate) fn h2cdata(&self, cid: u16, ttag: u16, offset: u32, data: &[u8], last: bool) -> Vec<u8> {
        let mut fields = [0; 16];
        fields[0..2].copy_from_slice(&cid.to_le_bytes());
        fields[2..4].copy_from_slice(&ttag.to_le_bytes());
        fields[4..8].copy_from_slice(&offset.to_le_bytes());
        fields[8..12].copy_from_slice(&(data.len() as u32).to_le_bytes());
        self.pdu(0x06, if last { 4 } else { 0 }, &fields, data)
    }

    fn pdu(&self, kind: u8, flags: u8, fields: &[u8], data: &[u8]) -> Vec<u8> {
        let hlen = 8 + fields.len();
        let pdo = hlen + if self.hdgst { 4 } else { 0 };
        let ddgst = self.ddgst && !data.is_empty();
        let plen = pdo + data.len() + if ddgst { 4 } else { 0 };
        let mut flags = flags;
        flags |= u8::from(self.hdgst) | (u8::from(ddgst) << 1);
        let mut pdu = vec![kind, flags, hlen as u8, if data.is_empty() { 0 } else { pdo as u8 }];
        pdu.extend_from_slice(&(plen as u32).to_le_bytes());
        pdu.extend_from_slice(fields);
        if self.hdgst {
            pdu.extend_from_slice(&crc(&pdu.clone()));
        }
        pdu.extend_from_slice(data);
        if ddgst {
            pdu.extend_from_slice(&crc(data));
        }
        pdu
    }

    /// Lets the target work, and gives what it sends.
    pub(crate) fn pump(&mut self, world: &mut World) -> Vec<Pdu> {
        let mut bytes = Bytes::default();
        loop {
            while let Some(completion) = world.port.next_completion() {
                assert_eq!(completion.origin.connection, self.id);
                self.connection.complete(&mut world.context(), completion);
            }
            if !self.connection.poll_transmit(&mut world.context(), &mut bytes) {
                break;
            }
            self.connection.transmitted(&mut world.context());
        }
        self.raw.extend_from_slice(&bytes.0);
        self.parse(&bytes.0)
    }

    fn parse(&self, mut bytes: &[u8]) -> Vec<Pdu> {
        let mut pdus = Vec::new();
        while !bytes.is_empty() {
            let plen = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
            let (pdu, rest) = bytes.split_at(plen);
            bytes = rest;
            pdus.push(self.parse_one(pdu));
        }
        pdus
    }

    fn parse_one(&self, pdu: &[u8]) -> Pdu {
        let half = |at: usize| u16::from_le_bytes(pdu[at..at + 2].try_into().unwrap());
        let word = |at: usize| u32::from_le_bytes(pdu[at..at + 4].try_into().unwrap());
        let (kind, flags, hlen, pdo) = (pdu[0], pdu[1], usize::from(pdu[2]), usize::from(pdu[3]));
        let digested = matches!(kind, 5 | 7 | 9);
        assert_eq!(digested && self.hdgst, flags & 1 != 0);
        if flags & 1 != 0 {
            assert_eq!(pdu[hlen..hlen + 4], crc(&pdu[..hlen]), "header digest");
        }
        match kind {
            1 => Pdu::IcResp { dgst: pdu[11], maxh2cdata: word(12) },
            3 => Pdu::Term { fes: half(8), fei: word(10), quoted: pdu[24..].to_vec() },
            5 => Pdu::Response {
                result: u64::from_le_bytes(pdu[8..16].try_into().unwrap()),
                sqhd: half(16),
                cid: half(20),
                status: half(22),
            },
            7 => {
                let len = word(16) as usize;
                let data = pdu[pdo..pdo + len].to_vec();
                assert_eq!(self.ddgst, flags & 2 != 0);
                if self.ddgst {
                    assert_eq!(pdu[pdo + len..], crc(&data), "data digest");
                }
                Pdu::Data {
                    cid: half(8),
                    offset: word(12),
                    data,
                    last: flags & 4 != 0,
                    success: flags & 8 != 0,
                }
            }
            9 => Pdu::R2t { cid: half(8), ttag: half(10), offset: word(12), length: word(16) },
            other => panic!("PDU type {other:#x} from a target"),
        }
    }

    /// ICReq and ICResp.
    pub(crate) fn initialize(&mut self, world: &mut World, hdgst: bool, ddgst: bool) {
        self.send(world, &Host::icreq(u8::from(hdgst) | (u8::from(ddgst) << 1)));
        let answer = self.pump(world);
        let [Pdu::IcResp { dgst, maxh2cdata }] = answer[..] else { panic!("{answer:?}") };
        assert_eq!(dgst, u8::from(hdgst) | (u8::from(ddgst) << 1));
        assert!(maxh2cdata >= 4096 && maxh2cdata.is_multiple_of(4));
        (self.hdgst, self.ddgst) = (hdgst, ddgst);
    }

    /// Sends a command with a fresh CID, which is given.
    pub(crate) fn submit(&mut self, world: &mut World, mut sqe: [u8; 64], data: &[u8]) -> u16 {
        self.next_cid += 1;
        let cid = self.next_cid;
        sqe[2..4].copy_from_slice(&cid.to_le_bytes());
        if !data.is_empty() && sqe[39] == 0 {
            sgl(&mut sqe, 0x01, 0, data.len() as u32);
        }
        let capsule = self.capsule(&sqe, data);
        self.send(world, &capsule);
        cid
    }

    /// A command to its response; data of the target is put together.
    pub(crate) fn run(&mut self, world: &mut World, sqe: [u8; 64], data: &[u8]) -> (u16, u64, Vec<u8>) {
        let cid = self.submit(world, sqe, data);
        let mut received = Vec::new();
        for pdu in self.pump(world) {
            match pdu {
                Pdu::Data { cid: other, offset, data, success, .. } => {
                    assert_eq!((other, offset as usize), (cid, received.len()));
                    received.extend(data);
                    if success {
                        return (0, 0, received);
                    }
                }
                Pdu::Response { cid: other, status, result, .. } => {
                    assert_eq!(other, cid);
                    return (status, result, received);
                }
                other => panic!("{other:?}"),
            }
        }
        panic!("no response");
    }

    /// A command that brings `data`, asked for by R2T.
    pub(crate) fn run_r2t(&mut self, world: &mut World, mut sqe: [u8; 64], data: &[u8], piece: usize) -> u16 {
        sgl(&mut sqe, 0x5a, 0, data.len() as u32);
        let cid = self.submit(world, sqe, &[]);
        let asked = self.pump(world);
        let [Pdu::R2t { cid: other, ttag, offset: 0, length }] = asked[..] else { panic!("{asked:?}") };
        assert_eq!((other, length as usize), (cid, data.len()));
        for (number, chunk) in data.chunks(piece).enumerate() {
            let offset = number * piece;
            let last = offset + chunk.len() == data.len();
            let pdu = self.h2cdata(cid, ttag, offset as u32, chunk, last);
            self.send(world, &pdu);
        }
        let answer = self.pump(world);
        let [Pdu::Response { cid: other, status, .. }] = answer[..] else { panic!("{answer:?}") };
        assert_eq!(other, cid);
        status
    }

    pub(crate) fn connect_sqe(qid: u16, sqsize: u16, kato_ms: u32) -> [u8; 64] {
        let mut sqe = sqe(0x7f, 1);
        put(&mut sqe, 10, u32::from(qid) << 16);
        put(&mut sqe, 11, sqsize.into());
        put(&mut sqe, 12, kato_ms);
        sqe
    }

    pub(crate) fn connect_data(cntlid: u16, subnqn: &str, hostnqn: &str) -> Vec<u8> {
        let mut data = vec![0; 1024];
        data[..16].fill(0x5a);
        data[16..18].copy_from_slice(&cntlid.to_le_bytes());
        data[256..256 + subnqn.len()].copy_from_slice(subnqn.as_bytes());
        data[512..512 + hostnqn.len()].copy_from_slice(hostnqn.as_bytes());
        data
    }

    pub(crate) fn property_set(&mut self, world: &mut World, offset: u32, value: u32) -> u16 {
        let mut sqe = sqe(0x7f, 0);
        put(&mut sqe, 11, offset);
        put(&mut sqe, 12, value);
        self.run(world, sqe, &[]).0
    }

    pub(crate) fn property_get(&mut self, world: &mut World, offset: u32, size: u32) -> (u16, u64) {
        let mut sqe = sqe(0x7f, 4);
        put(&mut sqe, 10, size);
        put(&mut sqe, 11, offset);
        let (status, value, _) = self.run(world, sqe, &[]);
        (status, value)
    }

    /// An enabled controller's admin queue; the CNTLID is given.
    pub(crate) fn admin(world: &mut World, id: u64, hostnqn: &str, subnqn: &str) -> (Host, u16) {
        let mut host = Host::new(world, id);
        host.initialize(world, false, false);
        let data = Host::connect_data(0xffff, subnqn, hostnqn);
        let (status, result, _) = host.run(world, Host::connect_sqe(0, 31, 0), &data);
        assert_eq!(status, 0);
        assert_eq!(host.property_set(world, 0x14, 0x0046_0001), 0);
        assert_eq!(host.property_get(world, 0x1c, 0), (0, 1));
        (host, result as u16)
    }

    /// An I/O queue, and the admin queue that it needs.
    pub(crate) fn io(world: &mut World, hostnqn: &str, hdgst: bool, ddgst: bool) -> (Host, Host) {
        let (admin, cntlid) = Host::admin(world, 1, hostnqn, SUBNQN);
        let mut host = Host::new(world, 2);
        host.initialize(world, hdgst, ddgst);
        let data = Host::connect_data(cntlid, SUBNQN, hostnqn);
        let (status, result, _) = host.run(world, Host::connect_sqe(1, 127, 0), &data);
        assert_eq!((status, result), (0, cntlid.into()));
        (admin, host)
    }

    /// Ends the connection, as when the socket is gone.
    pub(crate) fn close(&mut self, world: &mut World) {
        self.connection.closed(&mut world.context());
        assert_eq!(self.connection.disposition(), Disposition::CloseNow);
    }

    /// Asserts that the target ends the connection with this reason.
    pub(crate) fn expect_term(&mut self, world: &mut World, fes: u16, fei: u32) -> Vec<u8> {
        let answer = self.pump(world);
        let Some(Pdu::Term { fes: found, fei: information, quoted }) = answer.last() else {
            panic!("{answer:?}");
        };
        assert_eq!((*found, *information), (fes, fei));
        assert_eq!(self.connection.disposition(), Disposition::CloseAfterTransmit);
        quoted.clone()
    }
}
