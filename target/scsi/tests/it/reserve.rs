//! Reservations as initiators see them: what is answered, who is kept out of what, and who is told.

use holdfast_block::View;
use holdfast_scsi::{Status, TaskFunction};

use crate::world::{Answer, READ, Shown, WRITE, World, cdb16};

const TEST_UNIT_READY: [u8; 6] = [0; 6];
const RESERVATIONS_PREEMPTED: Option<(u8, u8, u8)> = Some((6, 0x2a, 3));
const RESERVATIONS_RELEASED: Option<(u8, u8, u8)> = Some((6, 0x2a, 4));
const REGISTRATIONS_PREEMPTED: Option<(u8, u8, u8)> = Some((6, 0x2a, 5));

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const RELEASE: u8 = 2;
const CLEAR: u8 = 3;
const PREEMPT: u8 = 4;
const PREEMPT_AND_ABORT: u8 = 5;
const REGISTER_AND_IGNORE: u8 = 6;
const REGISTER_AND_MOVE: u8 = 7;

/// Types: exclusive access; the same for registrants alone, and for all of them; write exclusive.
const WRITE_EXCLUSIVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;
const WRITE_EXCLUSIVE_REGISTRANTS: u8 = 5;
const EXCLUSIVE_ACCESS_REGISTRANTS: u8 = 6;
const WRITE_EXCLUSIVE_ALL: u8 = 7;
const EXCLUSIVE_ACCESS_ALL: u8 = 8;

fn world() -> World {
    World::new(Shown::plain(None, 512), &[View::Plain, View::Plain])
}

fn list(key: u64, new: u64, flags: u8) -> Vec<u8> {
    [&key.to_be_bytes()[..], &new.to_be_bytes(), &[0, 0, 0, 0, flags, 0, 0, 0]].concat()
}

impl World {
    fn reserve_out(&mut self, who: usize, action: u8, kind: u8, list: &[u8]) -> Answer {
        let [a, b, c, d] = (list.len() as u32).to_be_bytes();
        self.run_by(who, &[0x5f, action, kind, 0, 0, a, b, c, d, 0], list, 0)
    }

    fn asks(&mut self, who: usize, action: u8, kind: u8, key: u64, new: u64) -> Answer {
        self.reserve_out(who, action, kind, &list(key, new, 0))
    }

    fn reserve_in(&mut self, who: usize, action: u8, allocation_len: u16) -> Vec<u8> {
        let [a, b] = allocation_len.to_be_bytes();
        self.run_by(who, &[0x5e, action, 0, 0, 0, 0, 0, a, b, 0], &[], allocation_len.into()).good()
    }

    fn keys(&mut self, who: usize) -> Vec<u64> {
        let bytes = self.reserve_in(who, 0, 1000);
        assert_eq!(u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize, bytes.len() - 8);
        bytes[8..].chunks(8).map(|key| u64::from_be_bytes(key.try_into().unwrap())).collect()
    }

    fn generation(&mut self, who: usize) -> u32 {
        u32::from_be_bytes(self.reserve_in(who, 0, 8)[..4].try_into().unwrap())
    }

    /// Three registered with 11, 12 and 13, of which the first holds.
    fn held(kind: u8) -> World {
        let mut world = world();
        for who in 0..3 {
            world.asks(who, REGISTER_AND_IGNORE, 0, 0, 11 + who as u64).good();
        }
        world.asks(0, RESERVE, kind, 11, 0).good();
        world
    }

    fn told(&mut self, who: usize) -> Option<(u8, u8, u8)> {
        self.run_by(who, &TEST_UNIT_READY, &[], 0).code()
    }

    fn write(&mut self, who: usize) -> Answer {
        let data = self.data(1, 1);
        self.run_by(who, &cdb16(WRITE, 0, 3, 1), &data, 0)
    }

    fn read(&mut self, who: usize) -> Answer {
        self.run_by(who, &cdb16(READ, 0, 3, 1), &[], 512)
    }
}

#[test]
fn keys_reservation_and_status_are_shown_byte_by_byte() {
    let mut world = world();
    assert_eq!(world.reserve_in(0, 0, 100), [0; 8]);
    assert_eq!(world.reserve_in(0, 1, 100), [0; 8]);
    assert_eq!(world.reserve_in(0, 3, 100), [0; 8]);
    world.asks(0, REGISTER, 0, 0, 0x0102_0304_0506_0708).good();
    world.asks(1, REGISTER, 0, 0, 9).good();
    world.asks(1, RESERVE, WRITE_EXCLUSIVE_REGISTRANTS, 9, 0).good();
    let keys = [[0, 0, 0, 2, 0, 0, 0, 16], [1, 2, 3, 4, 5, 6, 7, 8], [0, 0, 0, 0, 0, 0, 0, 9]].concat();
    assert_eq!(world.reserve_in(0, 0, 100), keys);
    assert_eq!(world.reserve_in(0, 0, 10), keys[..10], "cut, with all of its length told");
    assert_eq!(world.reserve_in(0, 0, 0), []);
    let held = [[0, 0, 0, 2, 0, 0, 0, 16], [0, 0, 0, 0, 0, 0, 0, 9], [0, 0, 0, 0, 0, 0x05, 0, 0]].concat();
    assert_eq!(world.reserve_in(0, 1, 100), held);
    let full = world.reserve_in(2, 3, 1000);
    assert_eq!(full[..4], [0, 0, 0, 2]);
    let name = "iqn.2026-11.test:1,i,0x010101010101";
    let id_len = (name.len() + 1).next_multiple_of(4);
    assert_eq!(full.len(), 8 + 2 * (24 + 4 + id_len));
    let first = &full[8..8 + 28 + id_len];
    assert_eq!(first[..8], [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(first[8..20], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(first[20..28], [0, 0, 0, id_len as u8 + 4, 0x45, 0, 0, id_len as u8]);
    assert_eq!(&first[28..28 + name.len()], name.as_bytes());
    let second = &full[8 + 28 + id_len..];
    assert_eq!((second[12], second[13]), (1, 0x05), "the holder, and what it holds");
    // A reservation of all registrants has no key.
    world.asks(1, RELEASE, WRITE_EXCLUSIVE_REGISTRANTS, 9, 0).good();
    world.told(0);
    world.asks(1, RESERVE, EXCLUSIVE_ACCESS_ALL, 9, 0).good();
    assert_eq!(world.reserve_in(0, 1, 100)[8..], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]);
}

#[test]
fn capabilities_are_those_that_there_are() {
    let mut world = world();
    assert_eq!(world.reserve_in(0, 2, 100), [0, 8, 0x9d, 0xb0, 0xea, 0x01, 0, 0]);
    world.reserve_out(0, REGISTER, 0, &list(0, 5, 1)).good();
    assert_eq!(world.reserve_in(0, 2, 100)[3], 0xb1, "they last now");
}

#[test]
fn service_actions_that_there_are_not_are_refused() {
    let mut world = world();
    for action in 4..0x20 {
        let answer = world.run(&[0x5e, action, 0, 0, 0, 0, 0, 0, 100, 0], &[], 100);
        assert_eq!((answer.code(), answer.field()), (Some((5, 0x24, 0)), Some(1)));
    }
    for action in 9..0x20 {
        let answer = world.run(&[0x5f, action, 1, 0, 0, 0, 0, 0, 24, 0], &[0; 24], 0);
        assert_eq!((answer.code(), answer.field()), (Some((5, 0x24, 0)), Some(1)));
    }
}

#[test]
fn every_type_keeps_others_out_of_what_it_says() {
    // Type; whether a registrant reads and writes; whether a stranger does.
    let types = [
        (WRITE_EXCLUSIVE, (true, false), (true, false)),
        (EXCLUSIVE_ACCESS, (false, false), (false, false)),
        (WRITE_EXCLUSIVE_REGISTRANTS, (true, true), (true, false)),
        (EXCLUSIVE_ACCESS_REGISTRANTS, (true, true), (false, false)),
        (WRITE_EXCLUSIVE_ALL, (true, true), (true, false)),
        (EXCLUSIVE_ACCESS_ALL, (true, true), (false, false)),
    ];
    for (kind, registrant, stranger) in types {
        let mut world = World::held(kind);
        world.asks(2, REGISTER, 0, 13, 0).good();
        for (who, (reads, writes)) in [(0, (true, true)), (1, registrant), (2, stranger)] {
            let status = |may| if may { Status::Good } else { Status::ReservationConflict };
            assert_eq!(world.read(who).status, status(reads), "{who} reads beside {kind}");
            assert_eq!(world.write(who).status, status(writes), "{who} writes beside {kind}");
        }
        assert_eq!(world.read(0).good(), world.data(1, 1));
    }
}

/// Commands with what they are: allowed, refused by exclusive access, refused by both.
#[test]
fn each_command_passes_or_not_beside_a_reservation_of_others() {
    let always: [&[u8]; 9] = [
        &TEST_UNIT_READY,
        &[0x12, 0, 0, 0, 96, 0],
        &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        &[0x03, 0, 0, 0, 18, 0],
        &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x9e, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0],
        &[0x4d, 0, 0, 0, 0, 0, 0, 0, 100, 0],
        &[0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        &[0x1b, 0, 0, 0, 1, 0],
    ];
    let reads: [&[u8]; 6] = [
        &[0x1a, 0, 0x3f, 0, 200, 0],
        &[0xa3, 0x0c, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0],
        &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0],
        &cdb16(0x8f, 0, 3, 1),
        &cdb16(READ, 0, 3, 1),
        &cdb16(READ, 0, 3, 0),
    ];
    let writes: [&[u8]; 8] = [
        &cdb16(WRITE, 0, 3, 0),
        &[0x15, 0x10, 0, 0, 24, 0],
        &[0x1b, 0, 0, 0, 0, 0],
        &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0],
        &cdb16(0x93, 0, 3, 1),
        &cdb16(0x89, 0, 3, 0),
        &[0x83, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 40, 0, 0],
    ];
    for kind in [WRITE_EXCLUSIVE, EXCLUSIVE_ACCESS_REGISTRANTS] {
        let mut world = World::held(kind);
        world.asks(2, REGISTER, 0, 13, 0).good();
        let mut refused =
            |cdb: &[u8]| world.run_by(2, cdb, &[0; 40], 4096).status == Status::ReservationConflict;
        let exclusive = kind == EXCLUSIVE_ACCESS_REGISTRANTS;
        assert!(always.iter().all(|cdb| !refused(cdb)));
        for cdb in reads {
            assert_eq!(refused(cdb), exclusive, "{cdb:02x?}");
        }
        for cdb in writes {
            assert!(refused(cdb), "{cdb:02x?}");
        }
    }
}

#[test]
fn a_holder_that_leaves_or_releases_tells_registrants_where_they_shared() {
    for (kind, told) in [
        (WRITE_EXCLUSIVE, None),
        (EXCLUSIVE_ACCESS, None),
        (WRITE_EXCLUSIVE_REGISTRANTS, RESERVATIONS_RELEASED),
        (EXCLUSIVE_ACCESS_REGISTRANTS, RESERVATIONS_RELEASED),
    ] {
        for leaves in [false, true] {
            let mut world = World::held(kind);
            let asked =
                if leaves { world.asks(0, REGISTER, 0, 11, 0) } else { world.asks(0, RELEASE, kind, 11, 0) };
            asked.good();
            assert_eq!(world.reserve_in(0, 1, 100)[4..8], [0; 4]);
            assert_eq!((world.told(1), world.told(2), world.told(0)), (told, told, None));
            assert_eq!(world.told(1), None, "once");
        }
    }
    for kind in [WRITE_EXCLUSIVE_ALL, EXCLUSIVE_ACCESS_ALL] {
        let mut world = World::held(kind);
        world.asks(0, REGISTER, 0, 11, 0).good();
        assert_eq!(world.told(1), None);
        assert_eq!(world.reserve_in(1, 1, 100)[21], kind, "the others hold it");
        world.asks(1, RELEASE, kind, 12, 0).good();
        assert_eq!((world.told(2), world.told(0)), (RESERVATIONS_RELEASED, None));
    }
}

#[test]
fn clearing_tells_all_other_registrants() {
    let mut world = World::held(WRITE_EXCLUSIVE);
    let before = world.generation(0);
    world.asks(1, CLEAR, 0, 12, 0).good();
    assert_eq!((world.keys(1), world.generation(1)), (vec![], before + 1));
    assert_eq!((world.told(0), world.told(2)), (RESERVATIONS_PREEMPTED, RESERVATIONS_PREEMPTED));
    assert_eq!(world.told(1), None);
}

#[test]
fn preempting_takes_over_and_tells_who_lost_its_registration() {
    for (action, kind) in [(PREEMPT, WRITE_EXCLUSIVE), (PREEMPT_AND_ABORT, EXCLUSIVE_ACCESS)] {
        let mut world = World::held(kind);
        let before = world.generation(1);
        world.asks(1, action, kind, 12, 11).good();
        assert_eq!((world.keys(1), world.generation(1)), (vec![12, 13], before + 1));
        assert_eq!(world.reserve_in(1, 1, 100)[8..16], 12_u64.to_be_bytes());
        assert_eq!((world.told(0), world.told(1), world.told(2)), (REGISTRATIONS_PREEMPTED, None, None));
        assert_eq!(world.write(0).status, Status::ReservationConflict);
        world.write(1).good();
    }
    // Another type: the registrants that stay are told, too.
    let mut world = World::held(WRITE_EXCLUSIVE);
    world.asks(1, PREEMPT, EXCLUSIVE_ACCESS, 12, 11).good();
    assert_eq!((world.told(0), world.told(2)), (REGISTRATIONS_PREEMPTED, RESERVATIONS_RELEASED));
    // A type that there is not: it counts only where a reservation is taken over.
    let mut world = World::held(WRITE_EXCLUSIVE);
    let answer = world.asks(1, PREEMPT, 0, 12, 11);
    assert_eq!((answer.code(), answer.field()), (Some((5, 0x24, 0)), Some(2)));
    world.asks(1, PREEMPT, 0, 12, 13).good();
    assert_eq!((world.keys(1), world.told(2)), (vec![11, 12], REGISTRATIONS_PREEMPTED));
    // A key that nobody has, and none.
    let mut world = World::held(WRITE_EXCLUSIVE);
    assert_eq!(world.asks(1, PREEMPT, WRITE_EXCLUSIVE, 12, 99).status, Status::ReservationConflict);
    assert_eq!(world.asks(1, PREEMPT, WRITE_EXCLUSIVE, 12, 0).code(), Some((5, 0x26, 0)));
}

#[test]
fn a_conflict_comes_before_what_is_to_be_told_but_not_before_a_reset() {
    let mut world = World::held(EXCLUSIVE_ACCESS);
    world.asks(1, PREEMPT, EXCLUSIVE_ACCESS, 12, 11).good();
    assert_eq!(world.read(0).status, Status::ReservationConflict);
    assert_eq!(world.told(0), REGISTRATIONS_PREEMPTED, "it was kept");
    world.manage(1, TaskFunction::UnitReset);
    assert_eq!(world.read(0).code(), Some((6, 0x29, 3)));
    assert_eq!(world.read(0).status, Status::ReservationConflict);
}

#[test]
fn what_cannot_be_asked_for_is_refused() {
    let mut world = World::held(WRITE_EXCLUSIVE);
    assert_eq!(world.asks(0, RELEASE, EXCLUSIVE_ACCESS, 11, 0).code(), Some((5, 0x26, 4)));
    assert_eq!(world.asks(0, RESERVE, EXCLUSIVE_ACCESS, 11, 0).status, Status::ReservationConflict);
    assert_eq!(world.asks(1, RESERVE, WRITE_EXCLUSIVE, 12, 0).status, Status::ReservationConflict);
    assert_eq!(world.asks(1, REGISTER, 0, 99, 5).status, Status::ReservationConflict);
    world.asks(1, RELEASE, WRITE_EXCLUSIVE, 12, 0).good();
    assert_eq!(world.keys(0), [11, 12, 13]);
    for (list_len, data) in [(23, 23), (25, 25), (0, 0), (24, 20)] {
        let cdb = [0x5f, RESERVE, 1, 0, 0, 0, 0, 0, list_len, 0];
        assert_eq!(world.run(&cdb, &vec![0; data], 0).code(), Some((5, 0x1a, 0)), "{list_len}");
    }
}

#[test]
fn a_reservation_moves_to_another_port_which_is_registered_with_it() {
    let mut world = World::held(WRITE_EXCLUSIVE);
    let mut id = vec![0x45, 0, 0, 0];
    id.extend(b"iqn.2026-11.test:3,i,0x010101010101");
    id.resize(4 + (id.len() - 3).next_multiple_of(4), 0);
    id[3] = (id.len() - 4) as u8;
    let head = [&11_u64.to_be_bytes()[..], &77_u64.to_be_bytes(), &[0, 2, 0, 1]].concat();
    let list = [&head[..], &(id.len() as u32).to_be_bytes(), &id].concat();
    assert_eq!(world.reserve_out(1, REGISTER_AND_MOVE, 0, &list).status, Status::ReservationConflict);
    world.reserve_out(0, REGISTER_AND_MOVE, 0, &list).good();
    assert_eq!(world.keys(0), [12, 77]);
    world.write(2).good();
    assert_eq!(world.write(0).status, Status::ReservationConflict);
    world.asks(2, RELEASE, WRITE_EXCLUSIVE, 77, 0).good();
    assert_eq!(world.reserve_out(2, REGISTER_AND_MOVE, 0, &list).status, Status::ReservationConflict);
    let own = [&77_u64.to_be_bytes()[..], &list[8..]].concat();
    let none = world.reserve_out(2, REGISTER_AND_MOVE, 0, &own);
    assert_eq!((none.code(), none.field()), (Some((5, 0x24, 0)), Some(1)), "there is nothing to move");
}

#[test]
fn others_are_registered_by_name_all_or_none() {
    let mut world = world();
    let mut id = vec![0x05, 0, 0, 20];
    id.extend(b"iqn.2026-11.test:3\0\0");
    let rest = [&(id.len() as u32).to_be_bytes()[..], &id].concat();
    let bytes = [list(0, 5, 8), rest.clone()].concat();
    world.reserve_out(0, REGISTER, 0, &bytes).good();
    assert_eq!(world.keys(0), [5, 5]);
    assert_eq!(world.asks(2, REGISTER, 0, 5, 6).status, Status::Good);
    let again = [list(0, 7, 8), rest].concat();
    let refused = world.reserve_out(1, REGISTER, 0, &again);
    assert_eq!(refused.code(), Some((5, 0x26, 0)));
    assert_eq!(refused.sense[15..18], [0x80, 0, 28], "the TransportID");
    assert_eq!(world.keys(0), [5, 6]);
}

#[test]
fn the_old_reserve_keeps_all_others_out_until_it_is_released_or_reset() {
    let (reserve, release) = ([0x16, 0, 0, 0, 0, 0], [0x17, 0, 0, 0, 0, 0]);
    let mut world = world();
    world.run_by(0, &reserve, &[], 0).good();
    world.run_by(0, &reserve, &[], 0).good();
    let conflict = Status::ReservationConflict;
    assert_eq!(world.run_by(1, &reserve, &[], 0).status, conflict);
    assert_eq!(world.run_by(1, &TEST_UNIT_READY, &[], 0).status, conflict);
    assert_eq!(world.read(1).status, conflict);
    for who in [0, 1] {
        assert_eq!(world.run_by(who, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 100, 0], &[], 100).status, conflict);
        assert_eq!(world.asks(who, REGISTER, 0, 0, 5).status, conflict);
    }
    world.run_by(1, &[0x12, 0, 0, 0, 96, 0], &[], 96).good();
    world.run_by(1, &release, &[], 0).good();
    assert_eq!(world.read(1).status, conflict, "it was not its own");
    world.read(0).good();
    world.run_by(0, &release, &[], 0).good();
    world.read(1).good();
    world.run_by(0, &reserve, &[], 0).good();
    world.manage(1, TaskFunction::UnitReset);
    assert_eq!(world.told(1), Some((6, 0x29, 3)));
    world.read(1).good();
    // Beside registrations it is in conflict, but for those who have a share.
    let mut world = World::held(WRITE_EXCLUSIVE);
    world.run_by(0, &reserve, &[], 0).good();
    assert_eq!(world.run_by(1, &reserve, &[], 0).status, conflict);
    assert_eq!(world.run_by(1, &release, &[], 0).status, conflict);
}
