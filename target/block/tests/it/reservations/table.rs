//! Every type × every operation × holder, registrant and stranger.

use holdfast_block::Operation;
use holdfast_block::reservations::{
    Access, Attention, Field, Refusal, Request, ReservationType, Reservations,
};

use super::*;

use ReservationType::{
    ExclusiveAccess as Ea, ExclusiveAccessAllRegistrants as EaAll, ExclusiveAccessRegistrantsOnly as EaOnly,
    WriteExclusive as We, WriteExclusiveAllRegistrants as WeAll, WriteExclusiveRegistrantsOnly as WeOnly,
};

/// SPC-4 5.13.1 table 65 and SBC-4 4.17 table 13, in letters: what holder, registrant and stranger may do of Always,
/// Status, Read, Write.
const ACCESS: [(ReservationType, &str, &str, &str); 6] = [
    (We, "ASRW", "ASR-", "ASR-"),
    (Ea, "ASRW", "AS--", "AS--"),
    (WeOnly, "ASRW", "ASRW", "ASR-"),
    (EaOnly, "ASRW", "ASRW", "AS--"),
    (WeAll, "ASRW", "ASRW", "ASR-"),
    (EaAll, "ASRW", "ASRW", "AS--"),
];

fn allowed(state: &Reservations, nexus: &Nexus) -> String {
    let accesses = [(Access::Always, 'A'), (Access::Status, 'S'), (Access::Read, 'R'), (Access::Write, 'W')];
    let letter = |(access, letter)| if state.allows(nexus, access) { letter } else { '-' };
    accesses.into_iter().map(letter).collect()
}

#[test]
fn each_type_allows_holder_registrant_and_stranger_what_the_table_says() {
    for (kind, holder, registrant, stranger) in ACCESS {
        let state = held(kind);
        let found = [1, 2, 4].map(|number| allowed(&state, &scsi(number)));
        assert_eq!(found, [holder, registrant, stranger], "{kind:?}");
    }
}

#[test]
fn without_a_reservation_everybody_may_do_everything() {
    let mut state = Reservations::default();
    done(&mut state, &scsi(1), &register(0, 11));
    assert_eq!([1, 4].map(|number| allowed(&state, &scsi(number))), ["ASRW", "ASRW"]);
}

#[test]
fn operations_that_change_blocks_are_writes_and_flush_is_one_of_them() {
    use Operation::*;
    let reads = [Read, Compare, Verify, CopySource].map(Access::of);
    assert_eq!(reads, [Access::Read; 4]);
    let writes = [Write, WriteZeroes, Deallocate, Flush, WriteUncorrectable, CopyTarget].map(Access::of);
    assert_eq!(writes, [Access::Write; 6]);
}

/// What comes of an operation: how it ends, who holds the volume then, how many are registered, who is told what.
#[derive(Debug, PartialEq)]
struct Seen {
    result: Result<(), Refusal>,
    held: Option<ReservationType>,
    registered: usize,
    told: Vec<(Nexus, Attention)>,
    counted: bool,
}

fn try_out(kind: ReservationType, number: u8, request: &Request) -> Seen {
    let mut state = held(kind);
    let before = state.clone();
    let result = apply(&mut state, &scsi(number), request);
    if result.is_err() {
        assert_eq!(state, before, "what is refused changes nothing");
    }
    let report = state.report().unwrap();
    Seen {
        held: report.reservation().map(|(_, kind)| kind),
        registered: report.registrants().len(),
        counted: report.generation() != generation(&before),
        told: result.as_ref().map(|(effects, _)| effects.attentions.clone()).unwrap_or_default(),
        result: result.map(drop),
    }
}

fn unchanged(kind: ReservationType, result: Result<(), Refusal>) -> Seen {
    Seen { result, held: Some(kind), registered: 3, told: Vec::new(), counted: false }
}

/// The key of the holder, of the registrant, and one of a stranger's making.
const ASKERS: [(u8, u64); 3] = [(1, 11), (2, 12), (4, 14)];

#[test]
fn reserve_passes_again_for_who_holds_the_same_and_is_in_conflict_for_all_others() {
    for kind in ReservationType::ALL {
        for (number, own) in ASKERS {
            for asked in ReservationType::ALL {
                let holds = number == 1 || (number == 2 && kind.is_all_registrants());
                let result = if holds && asked == kind { Ok(()) } else { Err(Refusal::Conflict) };
                let seen = try_out(kind, number, &reserve(own, asked));
                assert_eq!(seen, unchanged(kind, result), "{kind:?} {number} {asked:?}");
            }
        }
    }
}

#[test]
fn release_is_for_holders_with_the_right_type_and_tells_registrants_if_they_had_a_share() {
    for kind in ReservationType::ALL {
        for (number, own) in ASKERS {
            for asked in ReservationType::ALL {
                let seen = try_out(kind, number, &Request::Release { key: key(own), kind: asked });
                let holds = number == 1 || (number == 2 && kind.is_all_registrants());
                let expected = match (number, holds) {
                    (4, _) => unchanged(kind, Err(Refusal::Conflict)),
                    (_, false) => unchanged(kind, Ok(())),
                    (_, true) if asked != kind => unchanged(kind, Err(Refusal::InvalidRelease)),
                    (_, true) => {
                        let others: Vec<_> = (1..=3).filter(|other| *other != number).map(scsi).collect();
                        let shared = !matches!(kind, We | Ea);
                        let told =
                            if shared { told(&others, Attention::ReservationsReleased) } else { Vec::new() };
                        Seen { held: None, told, ..unchanged(kind, Ok(())) }
                    }
                };
                assert_eq!(seen, expected, "{kind:?} {number} {asked:?}");
            }
        }
    }
}

#[test]
fn clear_is_for_the_registered_and_leaves_nothing() {
    for kind in ReservationType::ALL {
        for (number, own) in ASKERS {
            let seen = try_out(kind, number, &Request::Clear { key: key(own) });
            let expected = if number == 4 {
                unchanged(kind, Err(Refusal::Conflict))
            } else {
                let others: Vec<_> = (1..=3).filter(|other| *other != number).map(scsi).collect();
                let told = told(&others, Attention::ReservationsPreempted);
                Seen { result: Ok(()), held: None, registered: 0, told, counted: true }
            };
            assert_eq!(seen, expected, "{kind:?} {number}");
        }
    }
}

#[test]
fn unregistering_releases_what_nobody_is_left_to_hold() {
    for kind in ReservationType::ALL {
        for (number, own) in ASKERS {
            let seen = try_out(kind, number, &register(own, 0));
            let expected = match (number, kind) {
                (4, _) => unchanged(kind, Err(Refusal::Conflict)),
                (1, We | Ea) => Seen { held: None, registered: 2, counted: true, ..unchanged(kind, Ok(())) },
                (1, WeOnly | EaOnly) => {
                    let told = told(&[scsi(2), scsi(3)], Attention::ReservationsReleased);
                    Seen { result: Ok(()), held: None, registered: 2, told, counted: true }
                }
                (_, _) => Seen { registered: 2, counted: true, ..unchanged(kind, Ok(())) },
            };
            assert_eq!(seen, expected, "{kind:?} {number}");
        }
    }
}

#[test]
fn all_registrants_hold_until_the_last_has_left() {
    for kind in [WeAll, EaAll] {
        let mut state = held(kind);
        for (number, own) in [(1, 11), (2, 12)] {
            assert!(holds(&state, &scsi(number)));
            assert_eq!(done(&mut state, &scsi(number), &register(own, 0)).attentions, []);
            assert!(state.report().unwrap().reservation().is_some());
        }
        assert_eq!(done(&mut state, &scsi(3), &register(13, 0)).attentions, []);
        assert_eq!(state.report().unwrap().reservation(), None);
    }
}

#[test]
fn a_new_key_changes_neither_reservation_nor_holder() {
    for kind in ReservationType::ALL {
        let seen = try_out(kind, 1, &register(11, 99));
        assert_eq!(seen, Seen { counted: true, ..unchanged(kind, Ok(())) });
        let seen = try_out(kind, 4, &register(0, 14));
        assert_eq!(seen, Seen { counted: true, registered: 4, ..unchanged(kind, Ok(())) });
        let ignoring = Request::RegisterAndIgnore { new: key(99), lasting: None, all_ports: Vec::new() };
        assert_eq!(try_out(kind, 2, &ignoring), Seen { counted: true, ..unchanged(kind, Ok(())) });
    }
}

#[test]
fn preempting_the_holder_takes_the_reservation_over_and_removes_it() {
    for (kind, new) in [(We, Ea), (Ea, Ea), (WeOnly, EaAll), (EaOnly, EaOnly)] {
        for abort in [false, true] {
            let mut state = held(kind);
            let effects = done(&mut state, &scsi(2), &preempt(12, 11, new, abort));
            let mut expected = Vec::new();
            if kind != new {
                expected = told(&[scsi(3)], Attention::ReservationsReleased);
            }
            expected.extend(told(&[scsi(1)], Attention::RegistrationsPreempted));
            assert_eq!(effects.attentions, expected, "{kind:?}");
            assert_eq!(effects.aborted, if abort { vec![scsi(1)] } else { Vec::new() });
            assert_eq!(state.key_of(&scsi(1)), None);
            assert!(holds(&state, &scsi(2)));
            assert_eq!(state.report().unwrap().reservation().map(|(_, kind)| kind), Some(new));
        }
    }
}

#[test]
fn preempting_all_registrants_with_zero_removes_all_others() {
    for kind in [WeAll, EaAll] {
        let mut state = held(kind);
        let effects = done(&mut state, &scsi(2), &preempt(12, 0, We, true));
        assert_eq!(effects.attentions, told(&[scsi(1), scsi(3)], Attention::RegistrationsPreempted));
        assert_eq!(effects.aborted, [scsi(1), scsi(2), scsi(3)]);
        let report = state.report().unwrap();
        assert_eq!(report.reservation(), Some((key(12), We)));
        assert_eq!(report.registrants().len(), 1);
    }
}

#[test]
fn preempting_all_registrants_with_a_key_removes_those_alone() {
    for kind in [WeAll, EaAll] {
        let mut state = held(kind);
        let effects = done(&mut state, &scsi(2), &preempt(12, 11, We, true));
        assert_eq!(effects.attentions, told(&[scsi(1)], Attention::RegistrationsPreempted));
        assert_eq!(effects.aborted, [scsi(1)]);
        assert_eq!(state.report().unwrap().reservation(), Some((None, kind)), "as it was");
    }
}

#[test]
fn preempting_a_registrant_leaves_the_reservation() {
    for kind in ReservationType::ALL {
        let mut state = held(kind);
        let effects = done(&mut state, &scsi(1), &preempt(11, 13, Ea, false));
        assert_eq!(effects.attentions, told(&[scsi(3)], Attention::RegistrationsPreempted));
        assert_eq!(state.report().unwrap().reservation().map(|(_, kind)| kind), Some(kind));
        assert!(holds(&state, &scsi(1)));
    }
}

#[test]
fn preempt_refuses_strangers_unknown_keys_and_a_zero_that_means_nobody() {
    for kind in ReservationType::ALL {
        let refused = |number, own, victim| try_out(kind, number, &preempt(own, victim, We, true)).result;
        assert_eq!(refused(4, 0, 11), Err(Refusal::Conflict), "a stranger");
        assert_eq!(refused(2, 99, 11), Err(Refusal::Conflict), "a wrong key");
        assert_eq!(refused(2, 12, 99), Err(Refusal::Conflict), "a key of nobody");
        if !kind.is_all_registrants() {
            assert_eq!(refused(2, 12, 0), Err(Refusal::InvalidField(Field::NewKey)));
        }
    }
}

#[test]
fn who_preempts_itself_stays_registered_if_it_holds_and_leaves_if_not() {
    let mut state = held(We);
    let effects = done(&mut state, &scsi(1), &preempt(11, 11, EaOnly, true));
    assert_eq!(effects.attentions, told(&[scsi(2), scsi(3)], Attention::ReservationsReleased));
    assert_eq!(effects.aborted, [scsi(1)]);
    assert!(holds(&state, &scsi(1)));

    let effects = done(&mut state, &scsi(2), &preempt(12, 12, We, false));
    assert_eq!(effects, Effects::default());
    assert_eq!(state.key_of(&scsi(2)), None);
    assert!(holds(&state, &scsi(1)));
}

#[test]
fn the_last_of_all_registrants_that_preempts_itself_leaves_nothing() {
    let mut state = Reservations::default();
    done(&mut state, &scsi(1), &register(0, 11));
    done(&mut state, &scsi(1), &reserve(11, WeAll));
    assert_eq!(done(&mut state, &scsi(1), &preempt(11, 11, We, false)), Effects::default());
    assert_eq!(state.report().unwrap().reservation(), None);
    assert_eq!(state.report().unwrap().registrants().len(), 0);
}

#[test]
fn only_the_one_holder_moves_a_reservation() {
    for kind in ReservationType::ALL {
        for (number, own) in ASKERS {
            let to = scsi(4);
            let request =
                Request::Move { key: key(own), new: key(44), lasting: None, to: to.clone(), leave: false };
            let seen = try_out(kind, number, &request);
            if number == 1 && !kind.is_all_registrants() {
                assert_eq!(seen, Seen { registered: 4, counted: true, ..unchanged(kind, Ok(())) });
            } else {
                assert_eq!(seen, unchanged(kind, Err(Refusal::Conflict)), "{kind:?} {number}");
            }
        }
    }
}
