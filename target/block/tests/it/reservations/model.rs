//! Random requests of six nexuses against the plain account of the same rules.

use holdfast_block::reservations::Access;

use super::naive::{Ask, Naive, No, Noticed};
use super::*;

const NEXUSES: usize = 6;
const SEEDS: u64 = 300;
const STEPS: usize = 250;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound as u64) as usize
    }

    fn chance(&mut self, of: usize) -> bool {
        self.below(of) == 0
    }

    fn key(&mut self) -> u64 {
        self.below(4) as u64
    }

    fn kind(&mut self) -> ReservationType {
        ReservationType::ALL[self.below(6)]
    }

    fn last(&mut self) -> Option<bool> {
        [None, Some(false), Some(true)][self.below(3)]
    }
}

fn nexus(who: usize) -> Nexus {
    at_port((who / 2) as u8, (who % 2) as u16 + 1)
}

fn number(nexus: &Nexus) -> usize {
    (0..NEXUSES).find(|who| super::model::nexus(*who) == *nexus).unwrap()
}

/// Mostly with the key that the asker has, so that something happens.
fn roll(dice: &mut Dice, naive: &Naive, from: usize) -> Ask {
    let own = naive.keys.get(&from).copied().unwrap_or(0);
    let key = if dice.chance(6) { dice.key() } else { own };
    match dice.below(16) {
        0..=2 => Ask::Register {
            key,
            new: dice.key(),
            last: dice.last(),
            ports: dice.chance(4),
            names: dice.chance(4).then(|| vec![dice.below(3), dice.below(3)]),
        },
        3 | 4 => Ask::Ignore { new: dice.key(), last: dice.last(), ports: dice.chance(4) },
        5..=7 => Ask::Reserve { key, kind: dice.kind() },
        8 | 9 => {
            let held = naive.kind.filter(|_| !dice.chance(4));
            Ask::Release { key, kind: held.unwrap_or_else(|| dice.kind()) }
        }
        10 => Ask::Clear { key },
        11 | 12 => Ask::Preempt { key, victim: dice.key(), kind: dice.kind(), abort: dice.chance(2) },
        13 => Ask::Move {
            key,
            new: dice.key(),
            last: dice.last(),
            to: dice.below(NEXUSES),
            leave: dice.chance(2),
        },
        14 => Ask::Reserve6,
        _ => Ask::Release6,
    }
}

fn request(ask: &Ask) -> Request {
    let both = |ports: bool| if ports { vec![port(1), port(2)] } else { Vec::new() };
    match ask.clone() {
        Ask::Register { key: own, new, last, ports, names } => {
            let initiators = names.map(|names| names.iter().map(|name| initiator(*name as u8)).collect());
            let reach = Reach { all_ports: both(ports), initiators };
            Request::Register { key: key(own), new: key(new), lasting: last, reach }
        }
        Ask::Ignore { new, last, ports } => {
            Request::RegisterAndIgnore { new: key(new), lasting: last, all_ports: both(ports) }
        }
        Ask::Reserve { key: own, kind } => reserve(own, kind),
        Ask::Release { key: own, kind } => Request::Release { key: key(own), kind },
        Ask::Clear { key: own } => Request::Clear { key: key(own) },
        Ask::Preempt { key: own, victim, kind, abort } => preempt(own, victim, kind, abort),
        Ask::Move { key: own, new, last, to, leave } => {
            Request::Move { key: key(own), new: key(new), lasting: last, to: nexus(to), leave }
        }
        Ask::Reserve6 => Request::LegacyReserve,
        Ask::Release6 => Request::LegacyRelease,
    }
}

fn noticed(effects: &Effects) -> Noticed {
    let letter = |attention| match attention {
        Attention::ReservationsPreempted => 'P',
        Attention::ReservationsReleased => 'R',
        Attention::RegistrationsPreempted => 'X',
    };
    let told = effects.attentions.iter().map(|(nexus, attention)| (number(nexus), letter(*attention)));
    let found = Noticed { told: told.collect(), aborted: effects.aborted.iter().map(number).collect() };
    assert_eq!(found.told.len(), effects.attentions.len(), "nobody is told twice");
    found
}

fn no(refusal: Refusal) -> No {
    match refusal {
        Refusal::Conflict => No::Conflict,
        Refusal::InvalidField(_) => No::BadParameter,
        Refusal::NothingToMove => No::BadCdb,
        Refusal::InvalidRelease => No::BadRelease,
        Refusal::NoRoom | Refusal::Lost | Refusal::NoType => {
            panic!("not in this world: {refusal}")
        }
    }
}

fn compare(state: &Reservations, naive: &Naive, told: &str) {
    for who in 0..NEXUSES {
        let nexus = nexus(who);
        let may = (state.allows(&nexus, Access::Read), state.allows(&nexus, Access::Write));
        assert_eq!(may, naive.may(who), "what {who} may, {told}");
        assert!(state.allows(&nexus, Access::Always));
        let status = naive.six.is_none_or(|six| six == who);
        assert_eq!(state.allows(&nexus, Access::Status), status, "{told}");
        assert_eq!(state.key_of(&nexus), key(naive.keys.get(&who).copied().unwrap_or(0)), "{told}");
    }
    let Ok(report) = state.report() else {
        return assert!(naive.six.is_some(), "{told}");
    };
    assert_eq!(naive.six, None, "{told}");
    assert_eq!(report.generation(), naive.generation, "{told}");
    assert_eq!(report.capabilities().lasting, naive.lasts, "{told}");
    assert_eq!(report.reservation().map(|(_, kind)| kind), naive.kind, "{told}");
    assert_eq!(report.keys().count(), naive.keys.len(), "{told}");
    for found in report.registrants() {
        assert_eq!(found.holds.is_some(), naive.holds(number(found.nexus)), "{told}");
    }
}

#[test]
fn random_requests_end_as_in_the_plain_account() {
    let mut passed = 0;
    for seed in 0..SEEDS {
        let mut dice = Dice(seed);
        let (mut state, mut naive) = (Reservations::default(), Naive::default());
        let mut kept: Option<Vec<u8>> = None;
        for step in 0..STEPS {
            let from = dice.below(NEXUSES);
            let ask = roll(&mut dice, &naive, from);
            let told = format!("seed {seed}, step {step}: {from} asks {ask:?} of {naive:?}");
            let expected = naive.ask(from, &ask);
            let result = apply(&mut state, &nexus(from), &request(&ask));
            match result.as_ref().map(|(_, keep)| keep) {
                Ok(Keep::Value(bytes)) => kept = Some(bytes.clone()),
                Ok(Keep::Nothing) => kept = None,
                Ok(Keep::AsIs) | Err(_) => {}
            }
            passed += usize::from(result.is_ok());
            let found = result.map(|(effects, _)| noticed(&effects)).map_err(no);
            assert_eq!(found, expected, "{told}");
            compare(&state, &naive, &told);
            compare_kept(kept.as_deref(), &naive, &told);
        }
    }
    assert!(passed > 20_000, "requests that change something are what this is about: {passed}");
}

/// A restart now would bring back what lasts, and nothing else.
fn compare_kept(kept: Option<&[u8]>, naive: &Naive, told: &str) {
    assert_eq!(kept.is_some(), naive.lasts, "{told}");
    let Some(kept) = kept else { return };
    let after = Naive { generation: 0, six: None, ..naive.clone() };
    compare(&Reservations::restore(kept).unwrap(), &after, told);
}
