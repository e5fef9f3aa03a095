//! What is around the connections: the real block layer over a memory pool, two targets for two initiators, a clock.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use holdfast_block::{
    BlockPort, ConnectionConfig, CounterBook, Disposition, Enforce, Exports, Grant, HostBook, HostId,
    HostRecord, Namespace, Portal, SessionBook, Subsystem, SubsystemId, View, VolumeId, VolumeInfo,
};
use holdfast_iscsi::{Connection, Context, Directory};
use holdfast_pi::{GuardKind, PiFormat, PiType};
use holdfast_scsi::UnitBook;

use super::initiator::Initiator;
use super::wire::{DATA_IN, Digests, NO_TAG, NOP_IN, Pdu, R2T};
use crate::medium::{self, Batch, Port};

/// The target that is played with, and the initiator that does it.
pub(crate) const TARGET: &str = "iqn.2026-11.io.holdfast:played-with";
pub(crate) const INITIATOR: &str = "iqn.2026-11.example:player";
/// Those that nobody may notice.
const QUIET_TARGET: &str = "iqn.2026-11.io.holdfast:quiet";
const BYSTANDER: &str = "iqn.2026-11.example:bystander";

/// Blocks of each volume: of 512 bytes, with tuples of type 1 on LUN 0, and of type 2 on LUN 1.
pub(crate) const BLOCKS: u64 = 256;

/// A connection, and what came over it.
pub(crate) struct Link {
    connection: Connection,
    pub(crate) digests: Digests,
    inbox: Vec<u8>,
    sending: bool,
    pub(crate) closed: bool,
    /// StatSN of the next status, and the last MaxCmdSN, once there was any.
    numbers: Option<(u32, u32)>,
}

/// The target, and who is connected to it.
pub(crate) struct World {
    exports: Exports,
    revision: u64,
    directory: Directory,
    units: UnitBook,
    hosts: HostBook,
    sessions: SessionBook,
    counters: Arc<CounterBook>,
    port: Port,
    seen: (u64, u64),
    pub(crate) now_ms: u64,
    pub(crate) links: Vec<Link>,
    bystander: Option<Initiator>,
}

impl World {
    /// A target whose bystander is at work.
    pub(crate) fn new() -> World {
        let (port, counters) = medium::port(&[volume(1), volume(2), volume(3)]);
        let portal = Portal { advertised: None, listening: "127.0.0.1:3260".parse().unwrap() };
        let mut world = World {
            exports: exports(1, u8::MAX),
            revision: 1,
            directory: Directory::new(vec![portal]),
            units: UnitBook::default(),
            hosts: HostBook::new(vec![], || HostId::new(77).unwrap()),
            sessions: SessionBook::default(),
            counters,
            port,
            seen: (0, 0),
            now_ms: 1_000,
            links: Vec::new(),
            bystander: None,
        };
        let mut bystander = Initiator::open(&mut world, BYSTANDER, QUIET_TARGET, &["InitialR2T=No"]);
        bystander.write(&mut world, 0, 4, 1);
        bystander.write(&mut world, 100, 64, 2);
        world.bystander = Some(bystander);
        world
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
        self.links.push(Link {
            connection: Connection::new(config),
            digests: Digests::default(),
            inbox: Vec::new(),
            sending: false,
            closed: false,
            numbers: None,
        });
        self.links.len() - 1
    }

    /// Hands over bytes from the initiator.
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
            moved |= self.follow();
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
    fn transmitted(&mut self, at: usize) {
        if std::mem::take(&mut self.links[at].sending) && !self.links[at].closed {
            self.with(at, |connection, cx| connection.transmitted(cx));
        }
    }

    /// What the target has sent and nobody has looked at. Its numbers have to be right.
    pub(crate) fn answers(&mut self, at: usize) -> Vec<Pdu> {
        let link = &mut self.links[at];
        let pdus: Vec<Pdu> = std::iter::from_fn(|| Pdu::judge(&mut link.inbox, link.digests)).collect();
        for pdu in &pdus {
            link.check(pdu);
        }
        pdus
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

    /// The target is about to end.
    pub(crate) fn shut_down(&mut self, at: usize) {
        if !self.links[at].closed {
            self.with(at, |connection, _| connection.shut_down());
        }
    }

    /// The socket is gone.
    pub(crate) fn close(&mut self, at: usize) {
        if !std::mem::replace(&mut self.links[at].closed, true) {
            self.links[at].sending = false;
            self.with(at, |connection, cx| connection.closed(cx));
        }
    }

    /// Whether the target still listens.
    pub(crate) fn is_open(&self, at: usize) -> bool {
        !self.links[at].closed && self.links[at].connection.disposition() == Disposition::Open
    }

    /// What has to hold, whatever happened: the bystander is at work, and when all have gone nothing is left.
    pub(crate) fn finish(mut self) {
        for at in 0..self.links.len() {
            self.transmitted(at);
        }
        self.pump();
        if let Some(mut bystander) = self.bystander.take()
            && self.is_open(bystander.at)
        {
            self.answers(bystander.at);
            bystander.reads(&mut self, 0, 4, 1);
            bystander.reads(&mut self, 100, 64, 2);
            bystander.write(&mut self, 0, 4, 3);
            bystander.reads(&mut self, 0, 4, 3);
        }
        for at in 0..self.links.len() {
            self.answers(at);
            self.close(at);
        }
        self.deliver();
        assert_eq!(self.port.tickets_in_use(), 0, "tickets are left");
        assert_eq!(self.directory.sessions(), 0, "sessions are left in the directory");
        assert_eq!(self.sessions.list().len(), 0, "sessions are left in the block layer");
    }

    fn with<T>(&mut self, at: usize, work: impl FnOnce(&mut Connection, &mut Context<'_, Port>) -> T) -> T {
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
            Disposition::CloseAfterTransmit => !self.links[at].sending && !self.send(at),
            Disposition::CloseNow => true,
        };
        if over {
            self.close(at);
        }
    }

    fn follow(&mut self) -> bool {
        let seen = (self.directory.generation(), self.units.generation());
        let before = std::mem::replace(&mut self.seen, seen);
        for at in 0..self.links.len() {
            if !self.links[at].closed && seen.0 != before.0 {
                self.with(at, |connection, cx| connection.directory_changed(cx));
            }
            if !self.links[at].closed && seen.1 != before.1 {
                self.with(at, |connection, cx| connection.units_changed(cx));
            }
        }
        seen != before
    }
}

impl Link {
    /// Every status has the next number, and the window never shrinks.
    fn check(&mut self, pdu: &Pdu) {
        let [stat_sn, expected, highest] = [24, 28, 32].map(|at| pdu.word_at(at));
        let window = highest.wrapping_sub(expected) as i32;
        assert!((-1..=127).contains(&window), "a window from {expected} to {highest}");
        let (next, last) = self.numbers.unwrap_or((stat_sn, highest));
        let grown = highest.wrapping_sub(last) as i32;
        // A login sets it anew.
        assert!(
            grown >= 0 || pdu.opcode() == super::wire::LOGIN_RESPONSE,
            "MaxCmdSN from {last} to {highest}"
        );
        let carries = match pdu.opcode() {
            DATA_IN => pdu.bhs[1] & 1 != 0,
            R2T => false,
            NOP_IN => pdu.tag() != NO_TAG,
            _ => true,
        };
        let told = if pdu.opcode() == DATA_IN && !carries { 0 } else { next };
        assert_eq!(stat_sn, told, "StatSN of opcode {:#x}", pdu.opcode());
        self.numbers = Some((if carries { next.wrapping_add(1) } else { next }, highest));
    }
}

fn volume(number: u64) -> VolumeInfo {
    let pi_type = if number == 2 { PiType::Type2 } else { PiType::Type1 };
    VolumeInfo {
        id: VolumeId::new(number).unwrap(),
        block_len: 512,
        block_count: BLOCKS,
        format: Some(PiFormat::new(pi_type, GuardKind::Crc16, 512, 0).unwrap()),
        uuid: [number as u8; 16],
        nguid: [number as u8; 16],
    }
}

/// What is exported: the player's LUNs and its grant, as far as the bits 0 to 2 of `shown` are set.
fn exports(revision: u64, shown: u8) -> Exports {
    let (player, quiet) = (HostId::new(10).unwrap(), HostId::new(11).unwrap());
    let grant = |iscsi_view| Grant { nvme_view: View::Plain, iscsi_view, enforce: Enforce::Any };
    let subsystem = |id, iqn: &str, host, view, volumes: &[u64]| Subsystem {
        id: SubsystemId::new(id).unwrap(),
        name: iqn.into(),
        nqn: String::new(),
        iqn: iqn.into(),
        allow_any_host: false,
        namespaces: (1..)
            .zip(volumes)
            .filter(|(_, number)| **number != 0)
            .map(|(nsid, number)| (nsid, Namespace { nsid, volume: volume(*number) }))
            .collect::<BTreeMap<_, _>>(),
        grants: HashMap::from([(host, grant(view))]),
    };
    let record = |id, iqn: &str| HostRecord {
        id,
        name: iqn.into(),
        nqn: None,
        iqn: Some(iqn.into()),
        chap: None,
        aliases: vec![],
    };
    let volumes = [u64::from(shown & 1), u64::from(shown & 2)];
    let granted = if shown & 4 != 0 { player } else { quiet };
    let subsystems = vec![
        subsystem(1, TARGET, granted, View::Pi, &volumes),
        subsystem(2, QUIET_TARGET, quiet, View::Plain, &[3]),
    ];
    Exports::new(revision, subsystems, vec![record(player, INITIATOR), record(quiet, BYSTANDER)])
}
