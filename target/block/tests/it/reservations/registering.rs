//! The forms of REGISTER, REGISTER AND MOVE, REPLACE LOST RESERVATION, and the old RESERVE and RELEASE.

use holdfast_block::reservations::{Access, Field, REGISTRATIONS_MAX, Standing};

use super::*;

use ReservationType::{ExclusiveAccess, WriteExclusive, WriteExclusiveRegistrantsOnly};

fn reaching(own: u64, new: u64, ports: &[u16], initiators: Option<&[u8]>) -> Request {
    let all_ports = ports.iter().map(|number| port(*number)).collect();
    let initiators = initiators.map(|list| list.iter().map(|number| initiator(*number)).collect());
    Request::Register { key: key(own), new: key(new), lasting: None, reach: Reach { all_ports, initiators } }
}

fn registered(state: &Reservations) -> Vec<Nexus> {
    state.report().unwrap().registrants().map(|registrant| registrant.nexus.clone()).collect()
}

#[test]
fn a_register_of_nothing_by_nobody_passes_and_does_nothing() {
    let mut state = Reservations::default();
    let lasting = Request::Register { key: None, new: None, lasting: Some(true), reach: Reach::default() };
    assert_eq!(apply(&mut state, &scsi(1), &lasting), Ok((Effects::default(), Keep::AsIs)));
    assert_eq!(state, Reservations::default());
}

#[test]
fn a_stranger_with_a_key_and_a_registrant_with_a_wrong_one_are_in_conflict() {
    let mut state = held(WriteExclusive);
    for (number, own) in [(4, 1), (2, 0), (2, 11)] {
        for new in [0, 5] {
            assert_eq!(apply(&mut state, &scsi(number), &register(own, new)), Err(Refusal::Conflict));
        }
    }
}

#[test]
fn the_existing_key_can_be_ignored() {
    let mut state = held(WriteExclusive);
    let ignoring = |new| Request::RegisterAndIgnore { new: key(new), lasting: None, all_ports: Vec::new() };
    done(&mut state, &scsi(2), &ignoring(77));
    assert_eq!(state.key_of(&scsi(2)), key(77));
    done(&mut state, &scsi(2), &ignoring(0));
    assert_eq!(state.key_of(&scsi(2)), None);
    let before = state.clone();
    done(&mut state, &scsi(2), &ignoring(0));
    assert_eq!(state, before, "nobody leaves twice");
}

#[test]
fn all_target_ports_are_registered_and_left_together() {
    let mut state = Reservations::default();
    done(&mut state, &scsi(1), &reaching(0, 11, &[1, 2, 3], None));
    assert_eq!(registered(&state), [at_port(1, 1), at_port(1, 2), at_port(1, 3)]);
    done(&mut state, &scsi(2), &register(0, 12));
    done(&mut state, &scsi(1), &reserve(11, WriteExclusiveRegistrantsOnly));
    let effects = done(&mut state, &scsi(1), &reaching(11, 0, &[1, 2, 3], None));
    assert_eq!(effects.attentions, told(&[scsi(2)], Attention::ReservationsReleased));
    assert_eq!(registered(&state), [scsi(2)]);
}

#[test]
fn a_conflict_at_one_of_all_target_ports_is_one_of_the_whole() {
    let mut state = Reservations::default();
    done(&mut state, &at_port(1, 2), &register(0, 22));
    let before = state.clone();
    let request = reaching(0, 11, &[1, 2], None);
    assert_eq!(apply(&mut state, &scsi(1), &request), Err(Refusal::Conflict));
    assert_eq!(state, before);
}

#[test]
fn specified_initiator_ports_are_registered_with_the_asker() {
    let mut state = Reservations::default();
    done(&mut state, &scsi(1), &reaching(0, 11, &[1, 2], Some(&[2, 3])));
    let expected: Vec<_> = (1..=3).flat_map(|number| [at_port(number, 1), at_port(number, 2)]).collect();
    assert_eq!(state.report().unwrap().keys().collect::<Vec<_>>(), [key(11).unwrap(); 6]);
    let mut found = registered(&state);
    found.sort();
    assert_eq!(found, expected);
    assert_eq!(generation(&state), 1);
}

#[test]
fn a_specified_initiator_port_that_is_registered_spoils_the_whole() {
    let mut state = held(WriteExclusive);
    let request = reaching(0, 14, &[], Some(&[5, 2]));
    let refused = Err(Refusal::InvalidField(Field::TransportId(1)));
    assert_eq!(apply(&mut state, &scsi(4), &request), refused);
    assert_eq!(registered(&state).len(), 3);
}

#[test]
fn only_the_unregistered_specify_initiator_ports() {
    let mut state = held(WriteExclusive);
    for new in [0, 9] {
        let request = reaching(12, new, &[], Some(&[5]));
        let refused = Err(Refusal::InvalidField(Field::SpecInitiatorPorts));
        assert_eq!(apply(&mut state, &scsi(2), &request), refused);
    }
    assert_eq!(apply(&mut state, &scsi(2), &reaching(1, 9, &[], Some(&[5]))), Err(Refusal::Conflict));
    done(&mut state, &scsi(4), &reaching(0, 0, &[], Some(&[5])));
    assert_eq!(registered(&state).len(), 3, "nothing is registered with no key");
}

#[test]
fn there_is_room_for_so_many_registrations_and_no_more() {
    let mut state = Reservations::default();
    let ports: Vec<u16> = (1..=u16::try_from(REGISTRATIONS_MAX).unwrap()).collect();
    done(&mut state, &scsi(1), &reaching(0, 11, &ports, None));
    let before = state.clone();
    assert_eq!(apply(&mut state, &scsi(2), &register(0, 12)), Err(Refusal::NoRoom));
    assert_eq!(state, before);
    done(&mut state, &scsi(1), &register(11, 0));
    assert_eq!(apply(&mut state, &scsi(2), &reaching(0, 12, &[], Some(&[3]))), Err(Refusal::NoRoom));
    done(&mut state, &scsi(2), &register(0, 12));
}

fn moving(own: u64, new: u64, to: &Nexus, leave: bool) -> Request {
    Request::Move { key: key(own), new: key(new), lasting: None, to: to.clone(), leave }
}

#[test]
fn a_reservation_moves_with_its_type_to_a_nexus_that_gets_the_new_key() {
    for leave in [false, true] {
        for to in [2, 4] {
            let mut state = held(ExclusiveAccess);
            assert_eq!(done(&mut state, &scsi(1), &moving(11, 55, &scsi(to), leave)), Effects::default());
            assert_eq!(state.report().unwrap().reservation(), Some((key(55), ExclusiveAccess)));
            assert!(holds(&state, &scsi(to)));
            assert_eq!(state.key_of(&scsi(1)), if leave { None } else { key(11) });
        }
    }
}

#[test]
fn what_cannot_be_moved_is_refused_for_the_right_reason() {
    let mut free = Reservations::default();
    done(&mut free, &scsi(1), &register(0, 11));
    let to = scsi(4);
    assert_eq!(free.decide(&scsi(1), &moving(11, 5, &to, false)), Err(Refusal::NothingToMove));
    assert_eq!(free.decide(&scsi(1), &moving(12, 5, &to, false)), Err(Refusal::Conflict));
    let state = held(WriteExclusive);
    let zero = state.decide(&scsi(1), &moving(11, 0, &to, false));
    assert_eq!(zero, Err(Refusal::InvalidField(Field::NewKey)));
    let itself = state.decide(&scsi(1), &moving(11, 5, &at_port(1, 2), false));
    assert_eq!(itself, Err(Refusal::InvalidField(Field::TransportId(0))), "the same initiator port");
    assert_eq!(state.decide(&scsi(2), &moving(12, 5, &to, false)), Err(Refusal::Conflict));
}

fn replacing(own: u64, new: u64, lasting: bool) -> Request {
    Request::ReplaceLost { key: key(own), new: key(new), kind: WriteExclusive, lasting: Some(lasting) }
}

#[test]
fn nothing_is_replaced_that_was_not_lost() {
    let state = held(WriteExclusive);
    assert_eq!(state.decide(&scsi(1), &replacing(0, 5, true)), Err(Refusal::InvalidRelease));
    assert_eq!(state.decide(&scsi(4), &replacing(0, 5, true)), Err(Refusal::Conflict));
    let free = Reservations::default();
    assert_eq!(free.decide(&scsi(4), &replacing(0, 5, true)), Err(Refusal::InvalidRelease));
}

#[test]
fn until_lost_reservations_are_replaced_nothing_else_passes() {
    let mut state = Reservations::lost();
    let release = Request::Release { key: key(1), kind: WriteExclusive };
    for request in [register(0, 5), reserve(1, WriteExclusive), release, Request::LegacyReserve] {
        assert_eq!(state.decide(&scsi(1), &request), Err(Refusal::Lost));
    }
    assert_eq!(state.report().map(drop), Err(Refusal::Lost));
    for access in [Access::Status, Access::Read, Access::Write] {
        assert!(!state.allows(&scsi(1), access));
    }
    assert!(state.allows(&scsi(1), Access::Always));
    let refused = |field| Err(Refusal::InvalidField(field));
    assert_eq!(state.decide(&scsi(1), &replacing(1, 5, true)), refused(Field::Key));
    assert_eq!(state.decide(&scsi(1), &replacing(0, 0, true)), refused(Field::NewKey));

    let (effects, keep) = apply(&mut state, &scsi(1), &replacing(0, 5, true)).unwrap();
    assert_eq!(effects, Effects::default());
    assert!(matches!(keep, Keep::Value(_)));
    assert!(holds(&state, &scsi(1)));
    assert_eq!(generation(&state), 0);
    let mut state = Reservations::lost();
    assert_eq!(apply(&mut state, &scsi(1), &replacing(0, 5, false)).unwrap().1, Keep::Nothing);
}

#[test]
fn the_old_reserve_keeps_everybody_else_away_even_from_the_new_commands() {
    let mut state = Reservations::default();
    done(&mut state, &scsi(1), &Request::LegacyReserve);
    done(&mut state, &scsi(1), &Request::LegacyReserve);
    assert_eq!(state.standing(&scsi(1)), Standing::FREE);
    for access in [Access::Status, Access::Read, Access::Write] {
        assert!(!state.allows(&scsi(2), access));
    }
    assert!(state.allows(&scsi(2), Access::Always));
    assert_eq!(state.decide(&scsi(2), &Request::LegacyReserve), Err(Refusal::Conflict));
    for number in [1, 2] {
        assert_eq!(state.decide(&scsi(number), &register(0, 5)), Err(Refusal::Conflict));
    }
    assert_eq!(state.report().map(drop), Err(Refusal::Conflict));
    done(&mut state, &scsi(2), &Request::LegacyRelease);
    assert!(!state.allows(&scsi(2), Access::Read), "released by its holder alone");
    done(&mut state, &scsi(1), &Request::LegacyRelease);
    assert_eq!(state, Reservations::default());
}

#[test]
fn the_old_reserve_ends_with_its_nexus_or_a_reset() {
    let mut state = Reservations::default();
    done(&mut state, &scsi(1), &Request::LegacyReserve);
    state.end_legacy(Some(&scsi(2)));
    assert!(!state.allows(&scsi(2), Access::Read));
    state.end_legacy(Some(&scsi(1)));
    assert_eq!(state, Reservations::default());
    done(&mut state, &scsi(1), &Request::LegacyReserve);
    state.end_legacy(None);
    assert_eq!(state, Reservations::default());
    let mut persistent = held(WriteExclusive);
    persistent.end_legacy(None);
    assert_eq!(persistent, held(WriteExclusive), "a reset leaves persistent reservations");
}

#[test]
fn beside_registrations_the_old_commands_pass_for_those_with_a_share_and_do_nothing() {
    for kind in ReservationType::ALL {
        for (number, shares) in
            [(1, true), (2, !matches!(kind, WriteExclusive | ExclusiveAccess)), (4, false)]
        {
            for request in [Request::LegacyReserve, Request::LegacyRelease] {
                let mut state = held(kind);
                let result = apply(&mut state, &scsi(number), &request);
                let expected =
                    if shares { Ok((Effects::default(), Keep::AsIs)) } else { Err(Refusal::Conflict) };
                assert_eq!(result, expected, "{kind:?} {number}");
                assert_eq!(state, held(kind));
            }
        }
    }
    let mut state = Reservations::default();
    done(&mut state, &scsi(1), &register(0, 11));
    for request in [Request::LegacyReserve, Request::LegacyRelease] {
        assert_eq!(
            state.decide(&scsi(1), &request),
            Err(Refusal::Conflict),
            "registered, and no reservation"
        );
    }
}

#[test]
fn an_nvme_host_and_a_scsi_nexus_see_each_others_reservations() {
    let nvme = Nexus::Nvme { host: [7; 16] };
    let mut state = held(ExclusiveAccess);
    assert!(!state.allows(&nvme, Access::Read));
    done(&mut state, &nvme, &register(0, 7));
    let effects = done(&mut state, &nvme, &preempt(7, 11, WriteExclusive, true));
    assert_eq!(effects.aborted, [scsi(1)]);
    assert!(state.allows(&nvme, Access::Write));
    assert!(state.allows(&scsi(1), Access::Read) && !state.allows(&scsi(1), Access::Write));
}
