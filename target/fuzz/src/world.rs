//! What is around the connections: the real block layer over a memory pool, two subsystems for two hosts, a clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use holdfast_block::{
    BlockCount, BlockPort, ConnectionConfig, CounterBook, Disposition, Enforce, Exports, Grant, HostBook,
    HostId, HostRecord, Lba, Namespace, Portal, SessionBook, Store, Subsystem, SubsystemId, View, VolumeId,
    VolumeInfo,
};
use holdfast_nvme::{Connection, Context, Directory, DirectoryConfig, H2cDataMax};
use holdfast_pi::{GuardKind, PiFormat, PiType};

use crate::bystander::Bystander;
use crate::link::Link;
use crate::medium::{self, Batch, Port};
use crate::wire::{self, Digests};

/// The subsystem and the host that are played with.
pub(crate) const SUBNQN: &str = "nqn.2026-11.io.holdfast:played-with";
pub(crate) const HOST: &str = "nqn.2026-11.io.holdfast:player";
/// Those that nobody may notice.
pub(crate) const BYSTANDER_SUBNQN: &str = "nqn.2026-11.io.holdfast:quiet";
pub(crate) const BYSTANDER: &str = "nqn.2026-11.io.holdfast:bystander";
/// Namespaces of [`SUBNQN`]: 4096-byte blocks with tuples of type 1, 512-byte blocks with tuples of type 2.
pub(crate) const LARGE_NSID: u32 = 1;
pub(crate) const SMALL_NSID: u32 = 2;
/// Blocks of each volume.
pub(crate) const BLOCKS: u64 = 64;

/// The target, and who is connected to it.
pub(crate) struct World {
    exports: Exports,
    revision: u64,
    directory: Directory,
    hosts: HostBook,
    sessions: SessionBook,
    counters: Arc<CounterBook>,
    port: Port,
    directory_seen: u64,
    pub(crate) now_ms: u64,
    pub(crate) links: Vec<Link>,
    bystander: Option<Bystander>,
    /// Blocks that the pool could take at the beginning.
    room: [u64; 2],
}

impl World {
    /// A target whose bystander is at work.
    pub(crate) fn new() -> World {
        let (port, counters) = medium::port(&[volume(1), volume(2), volume(3)]);
        let portal = Portal { advertised: None, listening: "127.0.0.1:4420".parse().unwrap() };
        let directory = DirectoryConfig {
            serial_prefix: "HF".into(),
            model: "Holdfast".into(),
            firmware: "0".into(),
            started_unix_seconds: 0,
            h2c_data_max: H2cDataMax::default(),
            portals: vec![portal],
        };
        let mut world = World {
            exports: exports(1, u8::MAX),
            revision: 1,
            directory: Directory::new(directory),
            hosts: HostBook::new(vec![], || HostId::new(77).unwrap()),
            sessions: SessionBook::default(),
            counters,
            port,
            directory_seen: 0,
            now_ms: 1_000,
            links: Vec::new(),
            bystander: None,
            room: [0; 2],
        };
        world.room = world.room();
        let bystander = Bystander::new(&mut world);
        world.bystander = Some(bystander);
        world
    }

    /// A new connection; its place among the links.
    pub(crate) fn accept(&mut self) -> usize {
        let id = self.links.len() as u64;
        let config = ConnectionConfig {
            id,
            peer: "127.0.0.1:40000".parse().unwrap(),
            local: "127.0.0.1:4420".parse().unwrap(),
            portal: 0,
            now_ms: self.now_ms,
            half_open_ms: holdfast_block::HALF_OPEN_MS,
        };
        self.links.push(Link::new(Connection::new(config)));
        self.links.len() - 1
    }

    /// ICReq and ICResp.
    pub(crate) fn initialize(&mut self, at: usize, digests: Digests, alignment: u8) {
        self.feed(at, &wire::initialize(digests, alignment));
        self.pump();
        self.links[at].answers();
        assert_eq!(self.links[at].digests, digests, "the digests that were asked for");
    }

    /// Hands over bytes from the host.
    pub(crate) fn feed(&mut self, at: usize, bytes: &[u8]) {
        if !self.links[at].closed {
            let taken = self.with(at, |connection, cx| connection.receive(cx, bytes, u64::MAX));
            assert_eq!(taken.bytes, bytes.len(), "without a budget all is taken");
        }
    }

    /// Lets everything go on until nothing moves.
    pub(crate) fn pump(&mut self) {
        loop {
            let mut moved = self.deliver();
            for at in 0..self.links.len() {
                moved |= self.send(at);
                self.transmitted(at);
                self.close_if_asked(at);
            }
            moved |= self.follow_directory();
            if !moved {
                return;
            }
        }
    }

    /// Gives the block layer's completions to their connections; whether there were any.
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

    /// Takes a batch of a connection, unless one is on its way; whether there was one.
    pub(crate) fn send(&mut self, at: usize) -> bool {
        if self.links[at].sending || self.links[at].closed {
            return false;
        }
        let mut batch = Batch::default();
        if !self.with(at, |connection, cx| connection.poll_transmit(cx, &mut batch)) {
            return false;
        }
        let link = &mut self.links[at];
        link.sending = true;
        batch.arrive(&self.port, &mut link.inbox);
        true
    }

    /// The batch on its way has arrived.
    pub(crate) fn transmitted(&mut self, at: usize) {
        if std::mem::take(&mut self.links[at].sending) && !self.links[at].closed {
            self.with(at, |connection, cx| connection.transmitted(cx));
        }
    }

    /// Tells the time to every connection that wants to know it.
    pub(crate) fn tick(&mut self, ms: u64) {
        self.now_ms += ms;
        for at in 0..self.links.len() {
            if !self.links[at].closed {
                self.with(at, |connection, cx| connection.tick(cx));
            }
        }
    }

    /// Another picture of what is exported: see [`exports`].
    pub(crate) fn show(&mut self, shown: u8) {
        self.revision += 1;
        self.exports = exports(self.revision, shown);
        for at in 0..self.links.len() {
            if !self.links[at].closed {
                self.with(at, |connection, cx| connection.exports_changed(cx));
            }
        }
    }

    /// The socket is gone.
    pub(crate) fn close(&mut self, at: usize) {
        if !std::mem::replace(&mut self.links[at].closed, true) {
            self.links[at].sending = false;
            self.with(at, |connection, cx| connection.closed(cx));
        }
    }

    /// Whether a connection is open, as far as the target is concerned.
    pub(crate) fn is_open(&self, at: usize) -> bool {
        !self.links[at].closed && self.links[at].connection.disposition() == Disposition::Open
    }

    /// What has to hold, whatever happened: the bystander is at work, and when all have gone nothing is left.
    pub(crate) fn finish(mut self) {
        for at in 0..self.links.len() {
            self.transmitted(at);
        }
        self.pump();
        if let Some(bystander) = self.bystander.take() {
            bystander.check(&mut self);
        }
        for at in 0..self.links.len() {
            self.close(at);
        }
        self.deliver();
        assert_eq!(self.port.tickets_in_use(), 0, "tickets are left");
        assert_eq!(self.directory.controllers(), 0, "controllers are left");
        assert_eq!(self.sessions.list().len(), 0, "sessions are left");
        assert_eq!(self.room(), self.room, "room is left reserved");
    }

    fn with<T>(&mut self, at: usize, work: impl FnOnce(&mut Connection, &mut Context<'_, Port>) -> T) -> T {
        let World { links, exports, directory, hosts, sessions, counters, port, now_ms, .. } = self;
        let mut cx =
            Context { now_ms: *now_ms, unix_seconds: 0, exports, directory, hosts, sessions, counters, port };
        work(&mut links[at].connection, &mut cx)
    }

    fn close_if_asked(&mut self, at: usize) {
        let over = match self.links[at].connection.disposition() {
            Disposition::Open => false,
            Disposition::CloseAfterTransmit => !self.links[at].sending && !self.send(at),
            Disposition::CloseNow => true,
        };
        if over {
            self.close(at);
        }
    }

    fn follow_directory(&mut self) -> bool {
        let generation = self.directory.generation();
        if generation == self.directory_seen {
            return false;
        }
        self.directory_seen = generation;
        for at in 0..self.links.len() {
            if !self.links[at].closed {
                self.with(at, |connection, cx| connection.directory_changed(cx));
            }
        }
        true
    }

    /// Blocks of each size that hold data or could be reserved, found out by reserving them.
    fn room(&mut self) -> [u64; 2] {
        while self.port.store().has_work() {
            self.port.poll();
        }
        let volumes = [1, 2, 3].map(|number| VolumeId::new(number).unwrap());
        let stored = volumes.map(|volume| self.port.blocks_allocated(volume).unwrap());
        let [large, small, bystanders] = stored;
        let [first, second, _] = volumes;
        [large + bystanders + self.reservable(first), small + self.reservable(second)]
    }

    fn reservable(&mut self, volume: VolumeId) -> u64 {
        let store = self.port.store_mut();
        let mut taken = Vec::new();
        let mut piece = Vec::new();
        // By halves, down to single blocks.
        let mut blocks = 1024;
        while blocks > 0 {
            match store.reserve(volume, Lba(0), BlockCount::new(blocks), &mut piece) {
                Ok(()) => taken.append(&mut piece),
                Err(_) => blocks /= 2,
            }
            piece.clear();
        }
        store.unreserve(volume, &taken);
        taken.len() as u64
    }
}

/// Volume 1 and 3 have large blocks, volume 2 small ones.
fn volume(number: u64) -> VolumeInfo {
    let (pi_type, block_len) = if number == 2 { (PiType::Type2, 512) } else { (PiType::Type1, 4096) };
    let format = PiFormat::new(pi_type, GuardKind::Crc16, block_len, 0).unwrap();
    VolumeInfo {
        id: VolumeId::new(number).unwrap(),
        block_len: block_len as usize,
        block_count: BLOCKS,
        format: Some(format),
        uuid: [number as u8; 16],
        nguid: [number as u8; 16],
    }
}

/// What is exported: the player's namespaces and its grant, as far as the bits 0 to 2 of `shown` are set.
fn exports(revision: u64, shown: u8) -> Exports {
    let (player, quiet) = (HostId::new(10).unwrap(), HostId::new(11).unwrap());
    let grant = |nvme_view| Grant { nvme_view, iscsi_view: View::Plain, enforce: Enforce::Any };
    let namespaces: Vec<(u32, u64)> = [(LARGE_NSID, 1), (SMALL_NSID, 2)]
        .into_iter()
        .filter(|(nsid, _)| shown & (1 << (nsid - 1)) != 0)
        .collect();
    let granted = if shown & 4 != 0 { player } else { quiet };
    let subsystem = |id, nqn: &str, host, view, volumes: &[(u32, u64)]| Subsystem {
        id: SubsystemId::new(id).unwrap(),
        name: nqn.into(),
        nqn: nqn.into(),
        iqn: format!("iqn.2026-11.io.holdfast:{id}"),
        allow_any_host: false,
        namespaces: volumes
            .iter()
            .map(|(nsid, number)| (*nsid, Namespace { nsid: *nsid, volume: volume(*number) }))
            .collect::<BTreeMap<_, _>>(),
        grants: HashMap::from([(host, grant(view))]),
    };
    let record = |id, nqn: &str| HostRecord {
        id,
        name: nqn.into(),
        nqn: Some(nqn.into()),
        iqn: None,
        chap: None,
        aliases: vec![],
    };
    Exports::new(
        revision,
        vec![
            subsystem(5, SUBNQN, granted, View::Pi, &namespaces),
            subsystem(6, BYSTANDER_SUBNQN, quiet, View::Plain, &[(1, 3)]),
        ],
        vec![record(player, HOST), record(quiet, BYSTANDER)],
    )
}
