//! Reservations of one volume, for all protocols. SPC-4 5.13 "Reservations"; NVMe Base 2.1 8.1.22 "Reservations".
//!
//! A [`Reservations`] is a value: [`Reservations::decide`] looks at a request and gives a [`Change`], that is the next value,
//! what has to be kept before it is acknowledged, and what others notice. Nothing here does I/O, reads a clock or waits.
//!
//! | file | what it decides |
//! |---|---|
//! | `nexus` | who can register and hold |
//! | `kinds` | types, and what each refuses to whom |
//! | `request` | requests, refusals, effects |
//! | `register` | REGISTER in its forms, REGISTER AND MOVE, REPLACE LOST RESERVATION |
//! | `hold` | RESERVE, RELEASE, CLEAR; RESERVE and RELEASE (6) |
//! | `preempt` | PREEMPT, PREEMPT AND ABORT |
//! | `report` | what PERSISTENT RESERVE IN and Reservation Report show |
//! | `kept` | what lasts over a restart, in bytes |
//! | `desk` | one change after the other: proposed, written down, committed |
//! | `book` | what all cores see |

mod book;
mod desk;
mod hold;
mod kept;
mod kinds;
mod nexus;
mod preempt;
mod register;
mod report;
mod request;

pub use book::ReservationBook;
pub(crate) use desk::Desk;
pub use kept::{KEPT_LEN_MAX, KeptError};
pub use kinds::{Access, Key, ReservationType, Standing};
pub use nexus::{INITIATOR_NAME_LEN_MAX, InitiatorPort, Nexus, TargetPort};
pub use report::{Capabilities, Registrant, Report};
pub use request::{Attention, Change, Effects, Field, Keep, Reach, Refusal, Request};

/// Registrations of one volume: a cluster of 64 hosts with 8 paths each.
pub const REGISTRATIONS_MAX: usize = 512;

/// Who is registered with a volume, and who holds it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reservations {
    /// PRgeneration, NVMe's Generation. Counts from 0 after every restart, whatever lasts.
    generation: u32,
    /// APTPL, NVMe's PTPLS: registrations and reservation outlast a restart.
    lasting: bool,
    /// What was kept could not be read: nobody knows who held what.
    lost: bool,
    /// In the order of their nexuses, each of which is there once.
    registrations: Vec<Registration>,
    held: Option<Held>,
    /// Who holds the volume by RESERVE (6). Never beside a registration.
    legacy: Option<Nexus>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Registration {
    nexus: Nexus,
    key: Key,
}

/// A persistent reservation.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Held {
    kind: ReservationType,
    /// A registered nexus; `None` if all registered are holders, of which there is one at least.
    holder: Option<Nexus>,
}

/// A change in the making.
struct Draft<'a> {
    from: &'a Nexus,
    state: Reservations,
    effects: Effects,
}

impl Reservations {
    /// The state in which reservations are known to have been lost: whoever replaces them ends it (SPC-4 5.13.5.3).
    pub fn lost() -> Self {
        Reservations { lasting: true, lost: true, ..Reservations::default() }
    }

    /// Finds out what comes of a request.
    pub fn decide(&self, from: &Nexus, request: &Request) -> Result<Change, Refusal> {
        let mut draft = Draft { from, state: self.clone(), effects: Effects::default() };
        match (request, self.lost) {
            (Request::ReplaceLost { key, new, kind, lasting }, _) => {
                draft.replace_lost(*key, *new, *kind, *lasting)?;
            }
            (_, true) => return Err(Refusal::Lost),
            (Request::LegacyReserve, false) => draft.legacy_reserve()?,
            (Request::LegacyRelease, false) => draft.legacy_release()?,
            // SPC-2 5.5.1: while anybody has reserved the old way, the new way is closed to all.
            (_, false) if self.legacy.is_some() => return Err(Refusal::Conflict),
            (Request::Register { key, new, lasting, reach }, false) => {
                draft.register(*key, *new, *lasting, reach)?;
            }
            (Request::RegisterAndIgnore { new, lasting, all_ports }, false) => {
                draft.register_and_ignore(*new, *lasting, all_ports)?;
            }
            (Request::Reserve { key, kind }, false) => draft.reserve(*key, *kind)?,
            (Request::Release { key, kind }, false) => draft.release(*key, *kind)?,
            (Request::Clear { key }, false) => draft.clear(*key)?,
            (Request::Preempt { key, new, kind, abort }, false) => {
                draft.preempt(*key, *new, *kind, *abort)?;
            }
            (Request::Move { key, new, lasting, to, leave }, false) => {
                draft.move_to(*key, *new, *lasting, to, *leave)?;
            }
        }
        let Draft { state: next, effects, .. } = draft;
        let keep = next.to_keep_after(self);
        Ok(Change { next, effects, keep })
    }

    /// What is refused to a nexus. SPC-4 5.13.1 table 65.
    pub fn standing(&self, nexus: &Nexus) -> Standing {
        if self.lost {
            return Standing::UNKNOWN;
        }
        if let Some(holder) = &self.legacy {
            return if holder == nexus { Standing::FREE } else { Standing::LEGACY };
        }
        let Some(held) = &self.held else { return Standing::FREE };
        let admitted = held.kind.admits_registrants() && self.is_registered(nexus);
        if admitted || held.holder.as_ref() == Some(nexus) {
            Standing::FREE
        } else if held.kind.is_exclusive_access() {
            Standing::NO_ACCESS
        } else {
            Standing::NO_WRITES
        }
    }

    /// Whether such a command of this nexus may be carried out.
    pub fn allows(&self, nexus: &Nexus, access: Access) -> bool {
        self.standing(nexus).allows(access)
    }

    /// Ends a RESERVE (6): of this nexus, which is lost, or whoever's, after a reset. Persistent reservations stay.
    pub fn end_legacy(&mut self, whose: Option<&Nexus>) {
        if whose.is_none() || self.legacy.as_ref() == whose {
            self.legacy = None;
        }
    }

    /// Who holds the volume by RESERVE (6).
    pub(crate) fn legacy_holder(&self) -> Option<&Nexus> {
        self.legacy.as_ref()
    }

    /// With what key a nexus is registered, if it is.
    pub fn key_of(&self, nexus: &Nexus) -> Option<Key> {
        let at = self.place_of(nexus).ok()?;
        self.registrations.get(at).map(|registration| registration.key)
    }

    fn place_of(&self, nexus: &Nexus) -> Result<usize, usize> {
        self.registrations.binary_search_by(|registration| registration.nexus.cmp(nexus))
    }

    fn is_registered(&self, nexus: &Nexus) -> bool {
        self.place_of(nexus).is_ok()
    }

    /// SPC-4 5.13.10 "Persistent reservation holder".
    fn is_holder(&self, nexus: &Nexus) -> bool {
        self.held.as_ref().is_some_and(|held| match &held.holder {
            Some(holder) => holder == nexus,
            None => self.is_registered(nexus),
        })
    }

    /// Makes or changes a registration; a change of key has no effect on the reservation.
    fn set_key(&mut self, nexus: &Nexus, key: Key) -> Result<(), Refusal> {
        match self.place_of(nexus) {
            Ok(at) => {
                if let Some(registration) = self.registrations.get_mut(at) {
                    registration.key = key;
                }
            }
            Err(_) if self.registrations.len() >= REGISTRATIONS_MAX => return Err(Refusal::NoRoom),
            Err(at) => self.registrations.insert(at, Registration { nexus: nexus.clone(), key }),
        }
        Ok(())
    }

    fn set_held(&mut self, kind: ReservationType, holder: &Nexus) {
        let holder = (!kind.is_all_registrants()).then(|| holder.clone());
        self.held = Some(Held { kind, holder });
    }

    /// Releases what nobody is left to hold, and says what that was. SPC-4 5.13.11.2.1 table 71.
    fn release_orphaned(&mut self) -> Option<ReservationType> {
        let held = self.held.as_ref()?;
        let orphaned = match &held.holder {
            Some(holder) => !self.is_registered(holder),
            None => self.registrations.is_empty(),
        };
        if orphaned { self.held.take().map(|held| held.kind) } else { None }
    }
}

impl Draft<'_> {
    /// Most requests come from a registered nexus that knows its key. SPC-4 6.16.3 "Basic PERSISTENT RESERVE OUT parameter
    /// list".
    fn check_key(&self, key: Option<Key>) -> Result<(), Refusal> {
        let registered = self.state.key_of(self.from);
        if registered.is_some() && registered == key { Ok(()) } else { Err(Refusal::Conflict) }
    }

    /// Counts a change of registrations. SPC-4 6.15.2 "READ KEYS service action".
    fn count(&mut self) {
        self.state.generation = self.state.generation.wrapping_add(1);
    }

    fn set_lasting(&mut self, lasting: Option<bool>) {
        self.state.lasting = lasting.unwrap_or(self.state.lasting);
    }

    /// Tells every registered nexus but the one that asks.
    fn tell_registered(&mut self, attention: Attention) {
        let others = self.state.registrations.iter().map(|registration| &registration.nexus);
        let others = others.filter(|nexus| *nexus != self.from);
        self.effects.attentions.extend(others.map(|nexus| (nexus.clone(), attention)));
    }
}
