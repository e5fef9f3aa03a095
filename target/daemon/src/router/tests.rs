//! Two cores, and the mail between them carried by hand: what takes several commands or tickets is the same from both.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

use std::net::SocketAddr;

use holdfast_block::attribution::Verdict;
use holdfast_block::reservations::{Key, Nexus, Reach, Request, ReservationType};
use holdfast_block::{
    BlockCount, CounterBook, HostId, Lba, Origin, PoolId, ServiceLimits, Session, SubsystemId, Transport,
    View,
};
use holdfast_pi::{CheckPlan, GuardKind, InsertTags, PiFormat, PiType, guard_of, make_tuple};
use holdfast_store::VolumeSpec;

use super::*;
use crate::faults::{FaultReceiver, fault_queue};
use crate::intent::WantedPool;
use crate::pools::KeptMemory;

const BLOCKS: u64 = 1024;
const WIRE_BLOCK: usize = 520;

struct World {
    cores: [Router; 2],
    faults: FaultReceiver,
    format: PiFormat,
}

/// The volume that lives on a core.
fn volume(core: usize) -> VolumeId {
    VolumeId::new(core as u64 + 1).unwrap()
}

impl World {
    fn new() -> World {
        let format = PiFormat::new(PiType::Type1, GuardKind::Crc16, 512, 0).unwrap();
        let (sender, faults) = fault_queue();
        let book = Arc::new(CounterBook::default());
        let mut homes = HashMap::new();
        let mut cores = [0, 1].map(|core| {
            let id = PoolId::new(core as u64 + 1).unwrap();
            let wanted = WantedPool { id, name: format!("pool {core}"), size_bytes: 1 << 20 };
            let mut stores = Stores::new();
            stores.add_pool(0, KeptMemory::default().open(&wanted).unwrap().pool).unwrap();
            let (uuid, nguid) = ([1; 16], [2; 16]);
            let spec = VolumeSpec {
                id: volume(core),
                uuid,
                nguid,
                block_len: 512,
                block_count: BLOCKS,
                format: Some(format),
            };
            stores.create_volume(id, &spec).unwrap();
            let info = VolumeInfo {
                id: volume(core),
                block_len: 512,
                block_count: BLOCKS,
                format: Some(format),
                uuid,
                nguid,
            };
            homes.insert(volume(core), VolumeHome { core, info, allocated: Arc::default() });
            Router::new(
                core,
                Service::new(stores, sender.clone(), Arc::clone(&book), ServiceLimits::default()),
            )
        });
        let homes = Arc::new(homes);
        cores.iter_mut().for_each(|core| core.set_homes(Arc::clone(&homes)));
        World { cores, faults, format }
    }

    /// A host on a core, admitted to the volume that lives on another, or on the same.
    fn attach(&mut self, host: u64, core: usize, home: usize) -> AttachmentId {
        let session = Arc::new(Session {
            id: host,
            host: HostId::new(host).unwrap(),
            transport: Transport::NvmeTcp,
            peer: SocketAddr::from(([127, 0, 0, 1], 1000)),
            subsystem: SubsystemId::new(1).unwrap(),
            view: View::Pi,
            authenticated: false,
            label: String::new(),
            header_digest: false,
            data_digest: false,
            since: 0,
            nexus: nexus(host),
        });
        let request = AttachRequest { session, volume: volume(home), view: View::Pi, enforce: Enforce::Any };
        self.cores[core].attach(request).unwrap()
    }

    /// Carries mail until there is none.
    fn settle(&mut self) {
        loop {
            let mut idle = true;
            for core in 0..2 {
                self.cores[core].poll();
                for (to, mail) in self.cores[core].take_outgoing() {
                    idle = false;
                    match mail {
                        Mail::Command(command) => self.cores[to].execute(*command),
                        Mail::Reply(reply) => self.cores[to].finish(*reply),
                        _ => panic!("other mail"),
                    }
                }
            }
            if idle {
                return;
            }
        }
    }

    fn begin(&mut self, core: usize, command: &Command, payload: &[u8]) -> TicketId {
        let ticket = self.cores[core].begin(command).unwrap();
        if !payload.is_empty() {
            self.cores[core].fill(ticket, 0, payload);
        }
        ticket
    }

    /// The completions of a core; failed and finished tickets are released.
    fn completions(&mut self, core: usize) -> Vec<(TicketId, Result<(), BlockError>)> {
        self.settle();
        let mut all = Vec::new();
        while let Some(completion) = self.cores[core].next_completion() {
            all.push((completion.ticket, completion.result));
        }
        all
    }

    fn run(&mut self, core: usize, command: &Command, payload: &[u8]) -> Result<Vec<u8>, BlockError> {
        let ticket = self.begin(core, command, payload);
        self.cores[core].submit(ticket);
        let done = self.completions(core);
        let [(other, result)] = done[..] else { panic!("{done:?}") };
        assert_eq!(other, ticket);
        let mut bytes = Vec::new();
        if result.is_ok() && command.operation == Operation::Read {
            let len = self.cores[core].transfer_len(ticket);
            self.cores[core].visit(ticket, 0, len, &mut |piece| bytes.extend_from_slice(piece));
        }
        self.cores[core].release(ticket);
        result.map(|()| bytes)
    }

    /// Copies `blocks` blocks from LBA 10 of one volume to LBA 40 of another, for a host on core 0.
    fn copy(&mut self, from: AttachmentId, to: AttachmentId, blocks: u32) -> Result<(), BlockError> {
        let target = self.begin(0, &unchecked(to, Operation::CopyTarget, 40, blocks), &[]);
        let source = self.begin(0, &unchecked(from, Operation::CopySource, 10, blocks), &[]);
        self.cores[0].submit(source);
        assert_eq!(self.completions(0), [(source, Ok(()))]);
        self.cores[0].carry(source, target);
        self.cores[0].release(source);
        self.cores[0].submit(target);
        let done = self.completions(0);
        self.cores[0].release(target);
        done[0].1
    }

    fn wire(&self, lba: u64, blocks: u32, seed: u8) -> Vec<u8> {
        let tags = InsertTags { app_tag: 0, initial_ref: lba, storage_tag: 0 };
        let block = |index: u32| {
            let mut wire = vec![seed ^ index.to_le_bytes()[0]; WIRE_BLOCK];
            let guard = guard_of(GuardKind::Crc16, &wire[..512]);
            assert!(make_tuple(self.format, &tags, index, guard).encode(self.format, &mut wire[512..]));
            wire
        };
        (0..blocks).flat_map(block).collect()
    }

    fn nothing_is_left(&self) {
        assert!(self.cores.iter().all(|core| core.remote_bytes == 0 && core.local.tickets_in_use() == 0));
    }
}

fn nexus(host: u64) -> Nexus {
    let [low, ..] = host.to_le_bytes();
    Nexus::Nvme { host: [low; 16] }
}

fn unchecked(attachment: AttachmentId, operation: Operation, lba: u64, blocks: u32) -> Command {
    Command {
        origin: Origin { connection: 7, command: 9 },
        attachment,
        operation,
        lba: Lba(lba),
        blocks: BlockCount::new(blocks),
        layout: Layout::Interleaved,
        plan: CheckPlan::none(),
        insert: None,
        force_unit_access: false,
    }
}

#[test]
fn a_copy_is_the_same_wherever_its_ends_live_and_names_the_writer_of_a_bad_block() {
    for (from_home, to_home) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let mut world = World::new();
        let writer = world.attach(1, 1, from_home);
        let mut wire = world.wire(10, 5, 3);
        wire[2 * WIRE_BLOCK + 9] ^= 4;
        assert!(world.run(1, &unchecked(writer, Operation::Write, 10, 5), &wire).is_ok());
        let (from, to) = (world.attach(2, 0, from_home), world.attach(2, 0, to_home));
        assert_eq!(world.copy(from, to, 5), Ok(()));
        assert_eq!(world.run(0, &unchecked(to, Operation::Read, 40, 5), &[]), Ok(wire));
        let plan = CheckPlan { check_guard: true, ..CheckPlan::none() };
        let checked = Command { plan, ..unchecked(to, Operation::Read, 40, 5) };
        assert!(
            matches!(world.run(0, &checked, &[]), Err(BlockError::Protection(fault)) if fault.block_index == 2)
        );
        let mut reports = Vec::new();
        world.faults.drain(std::time::Duration::ZERO, |report| reports.push(report));
        assert_eq!(reports.len(), 1, "{from_home} to {to_home}");
        assert_eq!((reports[0].writer, reports[0].verdict), (HostId::new(1), Verdict::Undetermined));
        world.nothing_is_left();
    }
}

#[test]
fn pairs_from_all_cores_exclude_each_other() {
    let mut world = World::new();
    let near = world.attach(1, 1, 1);
    let far = world.attach(2, 0, 1);
    let mut now = world.wire(3, 1, 0);
    assert!(world.run(1, &unchecked(near, Operation::Write, 3, 1), &now).is_ok());
    for round in 1..20 {
        let mut writes = Vec::new();
        for (core, host) in [(0, far), (1, near)] {
            let next = world.wire(3, 1, round * 2 + u8::try_from(core).unwrap());
            let compare = world.begin(core, &unchecked(host, Operation::Compare, 3, 1), &now);
            let write = world.begin(core, &unchecked(host, Operation::Write, 3, 1), &next);
            world.cores[core].submit_fused(compare, write);
            writes.push((core, compare, write, next));
        }
        world.settle();
        let mut winners = Vec::new();
        for (core, compare, write, next) in writes {
            let done = world.completions(core);
            let won = [(compare, Ok(())), (write, Ok(()))];
            let lost = [(compare, Err(BlockError::Miscompare)), (write, Err(BlockError::FusedFailed))];
            assert!(done == won || done == lost, "{done:?}");
            if done == won {
                winners.push(next);
            }
            world.cores[core].release(compare);
            world.cores[core].release(write);
        }
        assert_eq!(winners.len(), 1);
        now = winners.remove(0);
    }
    assert_eq!(world.run(0, &unchecked(far, Operation::Read, 3, 1), &[]), Ok(now));
    world.nothing_is_left();
}

#[test]
fn a_pair_for_a_volume_that_is_gone_is_answered() {
    let mut world = World::new();
    let far = world.attach(2, 0, 1);
    let payload = world.wire(3, 1, 0);
    let compare = world.begin(0, &unchecked(far, Operation::Compare, 3, 1), &payload);
    let write = world.begin(0, &unchecked(far, Operation::Write, 3, 1), &payload);
    world.cores[0].set_homes(Arc::default());
    world.cores[0].submit_fused(compare, write);
    let gone = Err(BlockError::Gone);
    assert_eq!(world.completions(0), [(compare, gone), (write, gone)]);
    world.cores[0].release(compare);
    world.cores[0].release(write);
    world.nothing_is_left();
}

#[test]
fn a_reader_on_another_core_finds_all_of_a_write_or_nothing_of_it() {
    let mut world = World::new();
    let (near, far) = (world.attach(1, 1, 1), world.attach(2, 0, 1));
    let [old, new] = [0, 0x40].map(|seed| world.wire(0, 128, seed));
    assert!(world.run(1, &unchecked(near, Operation::Write, 0, 128), &old).is_ok());
    let write = world.begin(1, &unchecked(near, Operation::Write, 0, 128), &new[..new.len() / 2]);
    assert_eq!(world.run(0, &unchecked(far, Operation::Read, 0, 128), &[]), Ok(old.clone()), "half has come");
    world.cores[1].fill(write, new.len() / 2, &new[new.len() / 2..]);
    let between = world.begin(0, &unchecked(far, Operation::Read, 0, 128), &[]);
    world.cores[0].submit(between);
    world.cores[1].submit(write);
    assert_eq!(world.completions(0), [(between, Ok(()))]);
    let mut read = Vec::new();
    world.cores[0].visit(between, 0, old.len(), &mut |piece| read.extend_from_slice(piece));
    assert!(read == old || read == new, "a mixture");
    world.cores[0].release(between);
    assert_eq!(world.completions(1), [(write, Ok(()))]);
    world.cores[1].release(write);
    assert_eq!(world.run(0, &unchecked(far, Operation::Read, 0, 128), &[]), Ok(new));
    world.nothing_is_left();
}

#[test]
fn a_write_under_way_stays_its_hosts_when_another_takes_the_place_of_its_attachment() {
    let mut world = World::new();
    let first = world.attach(1, 0, 1);
    let wire = world.wire(3, 1, 5);
    let write = world.begin(0, &unchecked(first, Operation::Write, 3, 1), &wire);
    world.cores[0].detach(first);
    let second = world.attach(2, 0, 1);
    world.cores[0].submit(write);
    assert_eq!(world.completions(0), [(write, Ok(()))]);
    world.cores[0].release(write);
    let sessions: Vec<_> = world.cores[1].guests.keys().map(|(session, _)| *session).collect();
    assert_eq!(sessions, [1], "in whose name it was carried out");
    assert_eq!(world.run(0, &unchecked(second, Operation::Read, 3, 1), &[]), Ok(wire));
    world.nothing_is_left();
}

#[test]
fn an_attachment_that_has_ended_is_not_the_next_one_in_its_place() {
    let mut world = World::new();
    let ended = world.attach(1, 0, 1);
    world.cores[0].detach(ended);
    let next = world.attach(2, 0, 1);
    assert_eq!(world.cores[0].begin(&unchecked(ended, Operation::Read, 3, 1)), Err(BlockError::Gone));
    world.cores[0].set_enforce(ended, Enforce::RequirePi);
    world.cores[0].detach(ended);
    assert!(world.run(0, &unchecked(next, Operation::Read, 3, 1), &[]).is_ok());
    world.nothing_is_left();
}

#[test]
fn a_reservation_holds_off_hosts_of_every_core() {
    let mut world = World::new();
    let wire = world.wire(3, 1, 5);
    let attached = [(1, 0), (2, 0), (3, 1)].map(|(host, core)| (core, world.attach(host, core, 1)));
    let key = Key::new(9);
    let register = Request::Register { key: None, new: key, lasting: None, reach: Reach::default() };
    for request in [register, Request::Reserve { key, kind: ReservationType::WriteExclusive }] {
        world.cores[1].local().propose_reservation(volume(1), &nexus(1), &request).unwrap();
        world.cores[1].local().commit_reservation(volume(1)).unwrap();
    }
    let [(_, holder), (_, far), (_, near)] = attached;
    assert!(world.run(0, &unchecked(holder, Operation::Write, 3, 1), &wire).is_ok());
    let refused = Err(BlockError::ReservationConflict);
    assert_eq!(world.run(0, &unchecked(far, Operation::Write, 3, 1), &wire), refused);
    assert_eq!(world.cores[1].begin(&unchecked(near, Operation::Write, 3, 1)).map(drop), refused.map(drop));
    for (core, host) in attached {
        assert_eq!(world.run(core, &unchecked(host, Operation::Read, 3, 1), &[]), Ok(wire.clone()));
    }
    world.nothing_is_left();
}
