//! A small scripted NVMe/TCP target: one thread for each connection, one namespace in memory, options that decide
//! how data moves. It exists to test the scripted host and the load generator where no real target is at hand.

use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use holdfast_testkit::pi::{PiFormat, Tags, deinterleave};
use holdfast_testkit::wire::{Cqe, DataPdu, Digests, Frame, IcResp, Pdu, R2t, Sqe, Status, le64, opcode};

pub(crate) const BLOCK: usize = 4096;
pub(crate) const BLOCKS: usize = 1024;
pub(crate) const SUBNQN: &str = "nqn.2026-11.io.example:scripted";

/// How the peer behaves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Manner {
    pub(crate) maxh2cdata: u32,
    pub(crate) cpda: u8,
    /// In-capsule data of I/O queues in bytes.
    pub(crate) in_capsule: u32,
    /// Host data is asked for in pieces of this size.
    pub(crate) r2t_len: usize,
    /// Data is sent in pieces of this size.
    pub(crate) c2h_len: usize,
    /// Reads end with the SUCCESS flag in place of a response.
    pub(crate) success_flag: bool,
    /// Protection type; 0 shows no metadata.
    pub(crate) pi_type: u8,
    /// Every read has its last data bit flipped before it is sent, after tuples and before digests.
    pub(crate) bend_reads: bool,
}

impl Default for Manner {
    fn default() -> Self {
        Self {
            maxh2cdata: 4096,
            cpda: 0,
            in_capsule: 8192,
            r2t_len: 16384,
            c2h_len: usize::MAX,
            success_flag: false,
            pi_type: 0,
            bend_reads: false,
        }
    }
}

/// A running peer; it stops accepting when dropped.
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
}

struct Shared {
    manner: Manner,
    /// Blocks, each with its tuple behind it.
    blocks: Mutex<Vec<u8>>,
    stop: AtomicBool,
}

impl Peer {
    pub(crate) fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let blocks =
            PiFormat::CRC16.protect(&vec![0; BLOCK * BLOCKS], BLOCK, Tags::constant(0xffff_ffff).app(0xffff));
        let shared = Arc::new(Shared { manner, blocks: Mutex::new(blocks), stop: AtomicBool::new(false) });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming() {
                if accepting.stop.load(Ordering::Relaxed) {
                    return;
                }
                let shared = Arc::clone(&accepting);
                thread::spawn(move || Served::new(stream.unwrap(), shared).serve());
            }
        });
        Self { addr, shared }
    }

    /// Block `lba` with its tuple, as stored.
    pub(crate) fn stored(&self, lba: usize) -> Vec<u8> {
        let blocks = self.shared.blocks.lock().unwrap();
        blocks[lba * (BLOCK + 8)..(lba + 1) * (BLOCK + 8)].to_vec()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.addr);
    }
}

/// One connection.
struct Served {
    stream: TcpStream,
    shared: Arc<Shared>,
    digests: Digests,
    is_io: bool,
    cc: u32,
    /// Commands that wait for their data: the entry and what has come.
    waiting: BTreeMap<u16, (Sqe, Vec<u8>)>,
}

impl Served {
    fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self { stream, shared, digests: Digests::default(), is_io: false, cc: 0, waiting: BTreeMap::new() }
    }

    /// Serves until the host goes, or does what this peer does not take.
    fn serve(mut self) -> Option<()> {
        loop {
            let frame = self.receive()?;
            match Pdu::decode(&frame, self.digests) {
                Ok(Pdu::IcReq(request)) => {
                    let manner = self.shared.manner;
                    let dgst = request.dgst;
                    self.send(&Pdu::IcResp(IcResp {
                        pfv: 0,
                        cpda: manner.cpda,
                        dgst,
                        maxh2cdata: manner.maxh2cdata,
                    }))?;
                    self.digests = Digests { header: dgst & 1 != 0, data: dgst & 2 != 0 };
                }
                Ok(Pdu::CapsuleCmd { sqe, data }) => self.command(sqe, data)?,
                Ok(Pdu::H2cData(pdu)) => self.host_data(&pdu)?,
                Ok(Pdu::H2cTermReq(_)) => return None,
                Ok(_) => return self.terminate(2, 0, &frame),
                Err(holdfast_testkit::wire::WireError::HeaderDigest { got, .. }) => {
                    return self.terminate(3, got, &frame);
                }
                Err(holdfast_testkit::wire::WireError::DataDigest { .. }) => {
                    let cid = frame.as_bytes()[10..12].try_into().unwrap();
                    self.respond(u16::from_le_bytes(cid), 0, Status { sc: 0x22, ..Status::SUCCESS })?;
                }
                Err(_) => return self.terminate(1, 0, &frame),
            }
        }
    }

    fn receive(&mut self) -> Option<Frame> {
        use std::io::Read as _;
        let mut bytes = vec![0; 8];
        self.stream.read_exact(&mut bytes).ok()?;
        let plen = u32::from_le_bytes(bytes[4..8].try_into().unwrap()) as usize;
        bytes.resize(plen.clamp(8, 2 << 20), 0);
        self.stream.read_exact(&mut bytes[8..]).ok()?;
        Some(Frame::from_bytes(bytes))
    }

    fn send(&mut self, pdu: &Pdu) -> Option<()> {
        use std::io::Write as _;
        self.stream.write_all(pdu.encode(self.digests, 4).as_bytes()).ok()
    }

    fn terminate(&mut self, fes: u16, fei: u32, frame: &Frame) -> Option<()> {
        let header = frame.as_bytes()[..frame.as_bytes().len().min(24)].to_vec();
        self.send(&Pdu::C2hTermReq(holdfast_testkit::wire::TermReq { fes, fei, header }))?;
        None
    }

    fn respond(&mut self, cid: u16, value: u64, status: Status) -> Option<()> {
        let (dw0, dw1) = (value as u32, (value >> 32) as u32);
        self.send(&Pdu::CapsuleResp(Cqe { dw0, dw1, sqhd: 0, sqid: 0, cid, status }))
    }

    fn command(&mut self, sqe: Sqe, data: Vec<u8>) -> Option<()> {
        let wanted = sqe.sgl_length() as usize;
        let is_fabrics = sqe.opcode() == opcode::FABRICS;
        let takes_data = is_fabrics && sqe.fctype() == opcode::CONNECT
            || self.is_io
                && [opcode::WRITE, opcode::COMPARE, opcode::DATASET_MANAGEMENT].contains(&sqe.opcode());
        if takes_data && data.is_empty() && wanted > 0 {
            self.waiting.insert(sqe.cid(), (sqe, Vec::new()));
            return self.ask(sqe.cid());
        }
        self.execute(sqe, data)
    }

    fn ask(&mut self, cid: u16) -> Option<()> {
        let (sqe, got) = &self.waiting[&cid];
        let left = sqe.sgl_length() as usize - got.len();
        let r2tl = left.min(self.shared.manner.r2t_len) as u32;
        self.send(&Pdu::R2t(R2t { cccid: cid, ttag: cid ^ 0x5555, r2to: got.len() as u32, r2tl }))
    }

    fn host_data(&mut self, pdu: &DataPdu) -> Option<()> {
        assert_eq!(pdu.ttag, pdu.cccid ^ 0x5555);
        assert!(pdu.datal <= self.shared.manner.maxh2cdata);
        let (sqe, got) = self.waiting.get_mut(&pdu.cccid).unwrap();
        assert_eq!(pdu.datao as usize, got.len());
        got.extend_from_slice(&pdu.data);
        if got.len() == sqe.sgl_length() as usize {
            assert!(pdu.last);
            let (sqe, data) = self.waiting.remove(&pdu.cccid).unwrap();
            return self.execute(sqe, data);
        }
        if pdu.last { self.ask(pdu.cccid) } else { Some(()) }
    }

    fn execute(&mut self, sqe: Sqe, data: Vec<u8>) -> Option<()> {
        let cid = sqe.cid();
        let manner = self.shared.manner;
        if sqe.opcode() == opcode::FABRICS {
            let value = match sqe.fctype() {
                opcode::CONNECT => {
                    assert_eq!(data.len(), 1024);
                    if !data[256..].starts_with(SUBNQN.as_bytes()) {
                        return self.respond(
                            cid,
                            0x0001_0100,
                            Status { sct: 1, sc: 0x82, dnr: true, ..Status::SUCCESS },
                        );
                    }
                    self.is_io = sqe.dword(10) >> 16 != 0;
                    1
                }
                opcode::PROPERTY_GET => match sqe.dword(11) {
                    0x00 => 1023 | 20 << 24,
                    0x1c => u64::from(self.cc & 1 | if self.cc & 0x4000 != 0 { 8 } else { 0 }),
                    _ => u64::from(self.cc),
                },
                opcode::PROPERTY_SET => {
                    self.cc = sqe.dword(12);
                    0
                }
                _ => 0,
            };
            return self.respond(cid, value, Status::SUCCESS);
        }
        if self.is_io {
            return self.execute_io(&sqe, &data);
        }
        match sqe.opcode() {
            opcode::ASYNC_EVENT => Some(()),
            opcode::IDENTIFY => match sqe.dword(10) & 0xff {
                0x00 => {
                    let mut raw = vec![0; 4096];
                    raw[0..8].copy_from_slice(&(BLOCKS as u64).to_le_bytes());
                    if manner.pi_type != 0 {
                        (raw[26], raw[29], raw[128]) = (0x10, manner.pi_type, 8);
                    }
                    raw[130] = 12;
                    self.give(&sqe, raw)
                }
                0x01 => {
                    let mut raw = vec![0; 4096];
                    raw[1792..1796].copy_from_slice(&((64 + manner.in_capsule) / 16).to_le_bytes());
                    self.give(&sqe, raw)
                }
                _ => self.respond(cid, 0, Status { sc: 2, dnr: true, ..Status::SUCCESS }),
            },
            opcode::SET_FEATURES => self.respond(cid, sqe.dword(11).into(), Status::SUCCESS),
            _ => self.respond(cid, 0, Status::SUCCESS),
        }
    }

    fn execute_io(&mut self, sqe: &Sqe, data: &[u8]) -> Option<()> {
        let lba = le64(sqe.as_bytes(), 40).unwrap() as usize;
        let count = (sqe.dword(12) & 0xffff) as usize + 1;
        let pract = sqe.dword(12) & 1 << 29 != 0 || self.shared.manner.pi_type == 0;
        let cid = sqe.cid();
        if lba.checked_add(count).is_none_or(|end| end > BLOCKS) {
            return self.respond(cid, 0, Status { sc: 0x80, dnr: true, ..Status::SUCCESS });
        }
        let range = lba * (BLOCK + 8)..(lba + count) * (BLOCK + 8);
        match sqe.opcode() {
            opcode::WRITE => {
                let whole = if pract {
                    PiFormat::CRC16.protect(data, BLOCK, Tags::counting(lba as u64))
                } else {
                    data.to_vec()
                };
                let checked = sqe.dword(12) & 1 << 28 != 0;
                if checked && PiFormat::CRC16.first_bad_guard(&whole, BLOCK).is_some() {
                    return self.respond(cid, 0, Status { sct: 2, sc: 0x82, dnr: true, ..Status::SUCCESS });
                }
                self.shared.blocks.lock().unwrap()[range].copy_from_slice(&whole);
                self.respond(cid, 0, Status::SUCCESS)
            }
            opcode::READ => {
                let whole = self.shared.blocks.lock().unwrap()[range].to_vec();
                let mut data = if pract { deinterleave(&whole, BLOCK, 8).0 } else { whole };
                if self.shared.manner.bend_reads {
                    data[BLOCK - 1] ^= 0x80;
                }
                self.give(sqe, data)
            }
            _ => self.respond(cid, 0, Status::SUCCESS),
        }
    }

    /// Sends data in pieces, and ends the command.
    fn give(&mut self, sqe: &Sqe, data: Vec<u8>) -> Option<()> {
        assert_eq!(data.len(), sqe.sgl_length() as usize);
        let manner = self.shared.manner;
        let mut at = 0;
        while at < data.len() {
            let next = at.saturating_add(manner.c2h_len).min(data.len());
            let last = next == data.len();
            self.send(&Pdu::C2hData(DataPdu {
                cccid: sqe.cid(),
                ttag: 0,
                datao: at as u32,
                datal: (next - at) as u32,
                last,
                success: last && manner.success_flag,
                data: data[at..next].to_vec(),
            }))?;
            at = next;
        }
        if manner.success_flag { Some(()) } else { self.respond(sqe.cid(), 0, Status::SUCCESS) }
    }
}
