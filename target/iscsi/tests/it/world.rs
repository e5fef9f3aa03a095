//! What is around connections: exports, books, the block layer over a memory pool, and both ends of every connection.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use holdfast_block::attribution::{FaultReport, FaultSink};
use holdfast_block::{
    BlockPort, ConnectionConfig, CounterBook, Disposition, Enforce, Exports, Grant, HostBook, HostId,
    HostRecord, Namespace, PoolId, Portal, Service, ServiceLimits, SessionBook, Subsystem, SubsystemId,
    TransmitSink, View, VolumeId, VolumeInfo,
};
use holdfast_iscsi::{Connection, Context, Directory};
use holdfast_scsi::UnitBook;
use holdfast_store::{MemoryPool, PoolConfig, Stores, VolumeSpec};

use crate::wire::{Digests, Pdu};

/// The target of the tests: LUN 0 and LUN 1.
pub(crate) const TARGET: &str = "iqn.2026-11.io.holdfast:test";
/// A registered initiator.
pub(crate) const INITIATOR: &str = "iqn.2026-11.example:a";
/// Another one that nobody registered.
pub(crate) const STRANGER: &str = "iqn.2026-11.example:stranger";

/// Blocks of 512 bytes, of each LUN.
pub(crate) const BLOCKS: u64 = 8192;

type Port = Service<Stores<Vec<u8>>, Nobody>;

/// Takes reports of failed checks.
pub(crate) struct Nobody;

impl FaultSink for Nobody {
    fn report(&mut self, _: FaultReport) {}
}

/// A connection, both ends.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) digests: Digests,
    inbox: Vec<u8>,
    /// A batch is on its way.
    sending: bool,
    pub(crate) closed: bool,
}

/// The target, and who is connected to it.
pub(crate) struct World {
    pub(crate) exports: Exports,
    pub(crate) directory: Directory,
    pub(crate) units: UnitBook,
    pub(crate) hosts: HostBook,
    pub(crate) sessions: SessionBook,
    pub(crate) counters: Arc<CounterBook>,
    pub(crate) port: Port,
    pub(crate) links: Vec<Link>,
    pub(crate) now_ms: u64,
    directory_seen: u64,
    units_seen: u64,
}

enum Piece {
    Inline(Vec<u8>),
    Region { offset: usize, len: usize },
    Zeroes(usize),
}

#[derive(Default)]
struct Batch(Vec<Piece>);

impl TransmitSink for Batch {
    fn inline(&mut self, bytes: &[u8]) {
        self.0.push(Piece::Inline(bytes.to_vec()));
    }
    fn region(&mut self, _: u16, offset: usize, len: usize) {
        self.0.push(Piece::Region { offset, len });
    }
    fn zeroes(&mut self, len: usize) {
        self.0.push(Piece::Zeroes(len));
    }
}

impl World {
    pub(crate) fn new() -> World {
        let pool = PoolId::new(1).unwrap();
        let config =
            PoolConfig { in_flight_bytes: 8 << 20, map_bytes: 2 << 20, ..PoolConfig::new(pool, 16 << 20) };
        let memory = vec![0; MemoryPool::<Vec<u8>>::layout_len(&config).unwrap()];
        let mut stores = Stores::new();
        stores.add_pool(0, MemoryPool::create(memory, &config).unwrap()).unwrap();
        for info in [volume(1), volume(2)] {
            let VolumeInfo { id, block_len, block_count, format, uuid, nguid } = info;
            let spec = VolumeSpec { id, uuid, nguid, block_len, block_count, format };
            stores.create_volume(pool, &spec).unwrap();
        }
        let counters = Arc::new(CounterBook::default());
        let portal = Portal { advertised: None, listening: "127.0.0.1:3260".parse().unwrap() };
        World {
            exports: exports(1, true),
            directory: Directory::new(vec![portal]),
            units: UnitBook::default(),
            hosts: HostBook::new(vec![], || HostId::new(77).unwrap()),
            sessions: SessionBook::default(),
            counters: Arc::clone(&counters),
            port: Service::new(stores, Nobody, counters, ServiceLimits::default()),
            links: Vec::new(),
            now_ms: 1_000,
            directory_seen: 0,
            units_seen: 0,
        }
    }

    /// A new connection; its place.
    pub(crate) fn accept(&mut self) -> usize {
        let config = ConnectionConfig {
            id: self.links.len() as u64,
            peer: "127.0.0.1:40000".parse().unwrap(),
            local: "127.0.0.1:3260".parse().unwrap(),
            portal: 0,
            now_ms: self.now_ms,
            half_open_ms: holdfast_block::HALF_OPEN_MS,
        };
        let connection = Connection::new(config);
        let digests = Digests::default();
        self.links.push(Link { connection, digests, inbox: vec![], sending: false, closed: false });
        self.links.len() - 1
    }

    /// Hands over bytes, and nothing happens beside.
    pub(crate) fn feed(&mut self, at: usize, bytes: &[u8]) {
        if self.links[at].closed {
            return;
        }
        let taken = self.with(at, |connection, cx| connection.receive(cx, bytes, u64::MAX));
        assert_eq!(taken.bytes, bytes.len(), "without a budget all is taken");
    }

    /// Hands over a PDU, and nothing happens beside.
    pub(crate) fn send(&mut self, at: usize, pdu: &Pdu) {
        let bytes = pdu.encode(self.links[at].digests);
        self.feed(at, &bytes);
    }

    /// Lets everything go on until nothing moves.
    pub(crate) fn pump(&mut self) {
        loop {
            let mut moved = self.deliver();
            for at in 0..self.links.len() {
                moved |= self.take_batch(at);
                self.transmitted(at);
                self.close_if_asked(at);
            }
            moved |= self.follow();
            if !moved {
                return;
            }
        }
    }

    /// All that the target has sent and nobody has looked at, after everything has moved.
    pub(crate) fn answers(&mut self, at: usize) -> Vec<Pdu> {
        self.pump();
        self.sent(at)
    }

    /// The only PDU that came.
    pub(crate) fn answer(&mut self, at: usize) -> Pdu {
        let mut answers = self.answers(at);
        assert_eq!(answers.len(), 1, "one PDU: {answers:02x?}");
        answers.remove(0)
    }

    /// Sends a PDU and takes the only one that comes.
    pub(crate) fn ask(&mut self, at: usize, pdu: &Pdu) -> Pdu {
        self.send(at, pdu);
        self.answer(at)
    }

    /// What has been sent so far.
    pub(crate) fn sent(&mut self, at: usize) -> Vec<Pdu> {
        let link = &mut self.links[at];
        std::iter::from_fn(|| Pdu::decode(&mut link.inbox, link.digests)).collect()
    }

    /// Nothing that the target sent is left.
    pub(crate) fn is_quiet(&mut self, at: usize) -> bool {
        self.pump();
        self.links[at].inbox.is_empty()
    }

    /// Gives completions to their connections; whether there were any.
    pub(crate) fn deliver(&mut self) -> bool {
        let mut any = false;
        self.port.poll();
        while let Some(completion) = self.port.next_completion() {
            any = true;
            let at = completion.origin.connection as usize;
            self.with(at, |connection, cx| connection.complete(cx, completion));
            self.port.poll();
        }
        any
    }

    /// Takes a batch, unless one is on its way; whether there was one.
    pub(crate) fn take_batch(&mut self, at: usize) -> bool {
        if self.links[at].sending || self.links[at].closed {
            return false;
        }
        let mut batch = Batch::default();
        if !self.with(at, |connection, cx| connection.poll_transmit(cx, &mut batch)) {
            return false;
        }
        let memory = self.port.store().pool(PoolId::new(1).unwrap()).unwrap().memory();
        let link = &mut self.links[at];
        link.sending = true;
        for piece in batch.0 {
            match piece {
                Piece::Inline(bytes) => link.inbox.extend_from_slice(&bytes),
                Piece::Region { offset, len } => link.inbox.extend_from_slice(&memory[offset..offset + len]),
                Piece::Zeroes(len) => link.inbox.resize(link.inbox.len() + len, 0),
            }
        }
        true
    }

    /// The batch on its way has arrived.
    pub(crate) fn transmitted(&mut self, at: usize) {
        if std::mem::take(&mut self.links[at].sending) && !self.links[at].closed {
            self.with(at, |connection, cx| connection.transmitted(cx));
        }
    }

    /// Lets time pass, as far as connections look at it.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        for at in 0..self.links.len() {
            let due = self.links[at].connection.deadline_ms().is_some_and(|due| due <= self.now_ms);
            if due && !self.links[at].closed {
                self.with(at, |connection, cx| connection.tick(cx));
            }
        }
        self.pump();
    }

    /// Another picture of what is exported.
    pub(crate) fn show(&mut self, exports: Exports) {
        self.exports = exports;
        for at in 0..self.links.len() {
            if !self.links[at].closed {
                self.with(at, |connection, cx| connection.exports_changed(cx));
            }
        }
        self.pump();
    }

    /// The socket is gone.
    pub(crate) fn close(&mut self, at: usize) {
        if !std::mem::replace(&mut self.links[at].closed, true) {
            self.links[at].sending = false;
            self.with(at, |connection, cx| connection.closed(cx));
        }
    }

    /// When all have gone, nothing is left.
    pub(crate) fn finish(mut self) {
        self.pump();
        for at in 0..self.links.len() {
            self.close(at);
        }
        self.deliver();
        assert_eq!(self.port.tickets_in_use(), 0, "tickets are left");
        assert_eq!(self.directory.sessions(), 0, "sessions are left in the directory");
        assert_eq!(self.sessions.list().len(), 0, "sessions are left in the block layer");
    }

    pub(crate) fn with<T>(
        &mut self,
        at: usize,
        work: impl FnOnce(&mut Connection, &mut Context<'_, Port>) -> T,
    ) -> T {
        let World { links, exports, directory, units, hosts, sessions, counters, port, now_ms, .. } = self;
        let mut random = |bytes: &mut [u8]| bytes.fill(0x5a);
        let mut cx = Context {
            now_ms: *now_ms,
            unix_seconds: 0,
            exports,
            directory,
            units,
            hosts,
            sessions,
            counters,
            random: &mut random,
            port,
        };
        work(&mut links[at].connection, &mut cx)
    }

    fn close_if_asked(&mut self, at: usize) {
        let over = match self.links[at].connection.disposition() {
            Disposition::Open => false,
            Disposition::CloseAfterTransmit => !self.links[at].sending && !self.take_batch(at),
            Disposition::CloseNow => true,
        };
        if over {
            self.close(at);
        }
    }

    fn follow(&mut self) -> bool {
        let seen = (self.directory.generation(), self.units.generation());
        let changed = (seen.0 != self.directory_seen, seen.1 != self.units_seen);
        (self.directory_seen, self.units_seen) = seen;
        for at in 0..self.links.len() {
            if !self.links[at].closed && changed.0 {
                self.with(at, |connection, cx| connection.directory_changed(cx));
            }
            if !self.links[at].closed && changed.1 {
                self.with(at, |connection, cx| connection.units_changed(cx));
            }
        }
        changed.0 || changed.1
    }
}

fn volume(number: u64) -> VolumeInfo {
    VolumeInfo {
        id: VolumeId::new(number).unwrap(),
        block_len: 512,
        block_count: BLOCKS,
        format: None,
        uuid: [number as u8; 16],
        nguid: [number as u8; 16],
    }
}

/// The target's LUNs for [`INITIATOR`], and for others if `open`.
pub(crate) fn exports(revision: u64, open: bool) -> Exports {
    exports_for(revision, open, true)
}

/// The same with or without a grant for [`INITIATOR`].
pub(crate) fn exports_for(revision: u64, open: bool, granted: bool) -> Exports {
    let host = HostId::new(10).unwrap();
    let grant = Grant { nvme_view: View::Plain, iscsi_view: View::Plain, enforce: Enforce::Any };
    let namespaces: BTreeMap<u32, Namespace> = [(1, 1), (2, 2)]
        .into_iter()
        .map(|(nsid, number)| (nsid, Namespace { nsid, volume: volume(number) }))
        .collect();
    let subsystem = Subsystem {
        id: SubsystemId::new(5).unwrap(),
        name: "test".into(),
        nqn: String::new(),
        iqn: TARGET.into(),
        allow_any_host: open,
        namespaces,
        grants: HashMap::from_iter(granted.then_some((host, grant))),
    };
    let record = HostRecord {
        id: host,
        name: "a".into(),
        nqn: None,
        iqn: Some(INITIATOR.into()),
        chap: None,
        aliases: vec![],
    };
    Exports::new(revision, vec![subsystem], vec![record])
}
