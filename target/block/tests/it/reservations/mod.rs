//! Reservations: each rule by itself, all of them against a second and simpler account of them, and at work in the service.

mod kept;
mod model;
mod naive;
mod registering;
mod table;
mod working;

use holdfast_block::SubsystemId;
use holdfast_block::reservations::{
    Attention, Effects, InitiatorPort, Keep, Key, Nexus, Reach, Refusal, Request, ReservationType,
    Reservations, TargetPort,
};

pub(super) fn key(raw: u64) -> Option<Key> {
    Key::new(raw)
}

pub(super) fn port(number: u16) -> TargetPort {
    TargetPort { subsystem: SubsystemId::new(1).unwrap(), relative: number }
}

pub(super) fn initiator(number: u8) -> InitiatorPort {
    InitiatorPort::new(&format!("iqn.2026-11.example:host-{number}"), [0, 2, 0x3d, 0, 0, number]).unwrap()
}

/// Initiator `number` at target port 1.
pub(super) fn scsi(number: u8) -> Nexus {
    at_port(number, 1)
}

pub(super) fn at_port(number: u8, relative: u16) -> Nexus {
    Nexus::Scsi { initiator: initiator(number), target: port(relative) }
}

pub(super) fn register(own: u64, new: u64) -> Request {
    Request::Register { key: key(own), new: key(new), lasting: None, reach: Reach::default() }
}

pub(super) fn reserve(own: u64, kind: ReservationType) -> Request {
    Request::Reserve { key: key(own), kind }
}

pub(super) fn preempt(own: u64, victim: u64, kind: ReservationType, abort: bool) -> Request {
    Request::Preempt { key: key(own), new: key(victim), kind: Some(kind), abort }
}

/// Carries a request out, and gives what others notice.
pub(super) fn apply(
    state: &mut Reservations,
    from: &Nexus,
    request: &Request,
) -> Result<(Effects, Keep), Refusal> {
    let change = state.decide(from, request)?;
    *state = change.next;
    Ok((change.effects, change.keep))
}

/// The same, of a request that must pass.
pub(super) fn done(state: &mut Reservations, from: &Nexus, request: &Request) -> Effects {
    apply(state, from, request).unwrap_or_else(|refusal| panic!("{request:?}: {refusal}")).0
}

pub(super) fn told(nexuses: &[Nexus], attention: Attention) -> Vec<(Nexus, Attention)> {
    nexuses.iter().map(|nexus| (nexus.clone(), attention)).collect()
}

/// Holder 1 with key 11, registrants 2 and 3 with keys 12 and 13; 4 is a stranger.
pub(super) fn held(kind: ReservationType) -> Reservations {
    let mut state = Reservations::default();
    for number in 1..=3_u8 {
        done(&mut state, &scsi(number), &register(0, 10 + u64::from(number)));
    }
    done(&mut state, &scsi(1), &reserve(11, kind));
    state
}

pub(super) fn holds(state: &Reservations, nexus: &Nexus) -> bool {
    let report = state.report().unwrap();
    report.registrants().any(|registrant| registrant.nexus == nexus && registrant.holds.is_some())
}

pub(super) fn generation(state: &Reservations) -> u32 {
    state.report().unwrap().generation()
}
