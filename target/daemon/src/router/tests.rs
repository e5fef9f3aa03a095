//! Two cores, and the mail between them carried by hand: what takes several commands or tickets is the same from both.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "tests fail by panicking")]

use std::net::SocketAddr;

use holdfast_block::attribution::Verdict;
use holdfast_block::reservations::{InitiatorPort, Key, Nexus, Reach, ReservationType, TargetPort};
use holdfast_block::{
    BlockCount, CounterBook, Difference, HostId, Lba, Origin, PoolId, ServiceLimits, Session, SubsystemId,
    Transport, View,
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
        let reservations = Arc::new(ReservationBook::default());
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
            let mut service =
                Service::new(stores, sender.clone(), Arc::clone(&book), ServiceLimits::default());
            service.share_reservations(Arc::clone(&reservations));
            Router::new(core, service)
        });
        let homes = Arc::new(homes);
        cores.iter_mut().for_each(|core| core.set_homes(Arc::clone(&homes)));
        World { cores, faults, format }
    }

    /// A host on a core, admitted to the volume that lives on another, or on the same.
    fn attach(&mut self, host: u64, core: usize, home: usize) -> AttachmentId {
        self.attach_as(nexus(host), host, core, home)
    }

    /// The same of an iSCSI session, for the volume of core 1.
    fn attach_scsi(&mut self, host: u64, core: usize) -> AttachmentId {
        let target = TargetPort { subsystem: SubsystemId::new(1).unwrap(), relative: 1 };
        let initiator = InitiatorPort::new(&format!("iqn.2026-11.example:{host}"), [1; 6]).unwrap();
        self.attach_as(Nexus::Scsi { initiator, target }, host, core, 1)
    }

    fn attach_as(&mut self, nexus: Nexus, host: u64, core: usize, home: usize) -> AttachmentId {
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
            nexus,
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
                        Mail::Request(request) => self.cores[to].take_request(*request),
                        Mail::Detached { session, volume } => self.cores[to].forget_guest(session, volume),
                        Mail::EndLegacyReservation(access) => self.cores[to].take_end_of_legacy(&access),
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
        let tags = InsertTags { app_tag: 0, initial_ref: lba, storage_tag: 0, ref_stays: false };
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
        held: None,
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
            let difference = BlockError::Miscompare(Difference { block_index: 0, offset: 0, tag: None });
            let lost = [(compare, Err(difference)), (write, Err(BlockError::FusedFailed))];
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

impl World {
    /// Asks for a change, for a host on a core.
    fn ask(&mut self, core: usize, from: AttachmentId, request: Request) -> TicketId {
        self.cores[core].begin_reservation(Origin { connection: 7, command: 9 }, from, request).unwrap()
    }

    fn change(&mut self, core: usize, from: AttachmentId, request: Request) -> Result<Effects, Refusal> {
        let ticket = self.ask(core, from, request);
        assert_eq!(self.completions(core), [(ticket, Ok(()))]);
        let answer = self.cores[core].reservation_answer(ticket).unwrap().clone();
        self.cores[core].release(ticket);
        answer
    }
}

fn register(key: u64) -> Request {
    Request::Register { key: None, new: Key::new(key), lasting: None, reach: Reach::default() }
}

fn preempt(own: u64, victim: u64, abort: bool) -> Request {
    let (key, new) = (Key::new(own), Key::new(victim));
    Request::Preempt { key, new, kind: Some(ReservationType::WriteExclusive), abort }
}

#[test]
fn a_reservation_holds_off_hosts_of_every_core() {
    for holders_core in 0..2 {
        let mut world = World::new();
        let wire = world.wire(3, 1, 5);
        let attached =
            [(1, holders_core), (2, 0), (3, 1)].map(|(host, core)| (core, world.attach(host, core, 1)));
        let [(_, holder), (_, far), (_, near)] = attached;
        assert_eq!(world.change(holders_core, holder, register(9)), Ok(Effects::default()));
        let reserve = Request::Reserve { key: Key::new(9), kind: ReservationType::WriteExclusive };
        assert_eq!(world.change(holders_core, holder, reserve.clone()), Ok(Effects::default()));
        for (core, other) in [(0, far), (1, near)] {
            assert_eq!(world.change(core, other, reserve.clone()), Err(Refusal::Conflict));
            let report = world.cores[core].reservation_report(other).unwrap();
            assert_eq!(report.key_of(&nexus(1)), Key::new(9));
            assert!(!world.cores[core].standing(other).allows(Access::Write));
            let begun = world.cores[core].begin(&unchecked(other, Operation::Write, 3, 1));
            assert_eq!(begun, Err(BlockError::ReservationConflict), "before any payload is asked for");
        }
        assert!(world.run(holders_core, &unchecked(holder, Operation::Write, 3, 1), &wire).is_ok());
        for (core, host) in attached {
            assert_eq!(world.run(core, &unchecked(host, Operation::Read, 3, 1), &[]), Ok(wire.clone()));
        }
        world.nothing_is_left();
    }
}

#[test]
fn the_volumes_core_decides_about_what_was_admitted_elsewhere_before_a_reservation() {
    let mut world = World::new();
    let wire = world.wire(3, 1, 5);
    let (far, near) = (world.attach(2, 0, 1), world.attach(1, 1, 1));
    let write = world.begin(0, &unchecked(far, Operation::Write, 3, 1), &wire);
    assert!(world.change(1, near, register(9)).is_ok());
    let reserve = Request::Reserve { key: Key::new(9), kind: ReservationType::ExclusiveAccess };
    assert!(world.change(1, near, reserve).is_ok());
    world.cores[0].submit(write);
    assert_eq!(world.completions(0), [(write, Err(BlockError::ReservationConflict))]);
    world.cores[0].release(write);
    world.nothing_is_left();
}

#[test]
fn a_preempted_write_that_comes_from_another_core_after_the_abort_is_aborted() {
    let mut world = World::new();
    let (old, new) = (world.wire(3, 1, 5), world.wire(3, 1, 6));
    let (far, near) = (world.attach(2, 0, 1), world.attach(1, 1, 1));
    assert!(world.change(0, far, register(8)).is_ok());
    assert!(world.change(1, near, register(9)).is_ok());
    let late = world.begin(0, &unchecked(far, Operation::Write, 3, 1), &old);
    let effects = world.change(1, near, preempt(9, 8, true)).unwrap();
    assert_eq!(effects.aborted, [nexus(2)]);
    assert!(world.run(1, &unchecked(near, Operation::Write, 3, 1), &new).is_ok());
    world.cores[0].submit(late);
    assert_eq!(world.completions(0), [(late, Err(BlockError::Preempted))]);
    world.cores[0].release(late);
    assert_eq!(world.run(0, &unchecked(far, Operation::Read, 3, 1), &[]), Ok(new), "later ones pass");
    world.nothing_is_left();
}

#[test]
fn what_a_host_has_changed_before_it_went_away_is_noticed() {
    let mut world = World::new();
    let (far, near) = (world.attach(2, 0, 1), world.attach(1, 1, 1));
    for (taken, preempted, preempting) in [(false, 8, 9), (true, 7, 6)] {
        assert!(world.change(1, near, register(preempted)).is_ok());
        assert!(world.change(0, far, register(preempting)).is_ok());
        let ticket = world.ask(0, far, preempt(preempting, preempted, false));
        if taken {
            world.settle();
        }
        world.cores[0].cancel(ticket);
        world.settle();
        assert_eq!(world.cores[0].next_completion(), None);
        let (noticed, effects) = world.cores[0].next_unheard().unwrap();
        assert_eq!((noticed, effects.attentions.len()), (volume(1), 1));
        let leave = Request::Register {
            key: Key::new(preempting),
            new: None,
            lasting: None,
            reach: Reach::default(),
        };
        assert!(world.change(0, far, leave).is_ok());
    }
    world.nothing_is_left();
}

#[test]
fn the_old_reserve_from_another_core_ends_with_its_session_or_by_a_reset() {
    let mut world = World::new();
    let [far, near] = [(2, 0), (1, 1)].map(|(host, core)| world.attach_scsi(host, core));
    assert!(world.change(0, far, Request::LegacyReserve).is_ok());
    let read = unchecked(near, Operation::Read, 3, 1);
    assert_eq!(world.cores[1].begin(&read), Err(BlockError::ReservationConflict));
    world.cores[1].end_legacy_reservation(near);
    assert!(world.run(1, &read, &[]).is_ok());
    assert!(world.change(1, near, Request::LegacyReserve).is_ok());
    world.cores[0].end_legacy_reservation(far);
    world.settle();
    assert!(world.change(0, far, Request::LegacyReserve).is_ok());
    let again = world.attach_scsi(2, 0);
    world.cores[0].detach(far);
    world.settle();
    assert_eq!(world.cores[1].begin(&read), Err(BlockError::ReservationConflict), "it has another");
    world.cores[0].detach(again);
    world.settle();
    assert!(world.run(1, &read, &[]).is_ok());
    world.nothing_is_left();
}
