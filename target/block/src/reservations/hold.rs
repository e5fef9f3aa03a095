//! Reservations come and go. SPC-4 5.13.9 "Reserving", 5.13.11.2.2 "Releasing", 5.13.11.2.7 "Clearing", 5.13.3 "Exceptions to
//! SPC-2 RESERVE and RELEASE behavior"; SPC-2 7.21 "RESERVE (6) command".

use super::{Attention, Draft, Key, Refusal, ReservationType};

impl Draft<'_> {
    /// RESERVE. Asking again for what one holds changes nothing; a holder cannot change the type.
    pub(super) fn reserve(&mut self, key: Option<Key>, kind: ReservationType) -> Result<(), Refusal> {
        self.check_key(key)?;
        match &self.state.held {
            None => {
                self.state.set_held(kind, self.from);
                Ok(())
            }
            Some(held) if held.kind == kind && self.state.is_holder(self.from) => Ok(()),
            Some(_) => Err(Refusal::Conflict),
        }
    }

    /// RELEASE. Who is registered and holds nothing is told that all went well.
    pub(super) fn release(&mut self, key: Option<Key>, kind: ReservationType) -> Result<(), Refusal> {
        self.check_key(key)?;
        let held = match &self.state.held {
            Some(held) if self.state.is_holder(self.from) => held.kind,
            Some(_) | None => return Ok(()),
        };
        if held != kind {
            return Err(Refusal::InvalidRelease);
        }
        self.state.held = None;
        if held.admits_registrants() {
            self.tell_registered(Attention::ReservationsReleased);
        }
        Ok(())
    }

    /// CLEAR.
    pub(super) fn clear(&mut self, key: Option<Key>) -> Result<(), Refusal> {
        self.check_key(key)?;
        self.tell_registered(Attention::ReservationsPreempted);
        self.state.registrations.clear();
        self.state.held = None;
        self.count();
        Ok(())
    }

    /// RESERVE (6).
    pub(super) fn legacy_reserve(&mut self) -> Result<(), Refusal> {
        if self.legacy_changes_nothing()? {
            return Ok(());
        }
        if self.state.legacy.as_ref().is_some_and(|holder| holder != self.from) {
            return Err(Refusal::Conflict);
        }
        self.state.legacy = Some(self.from.clone());
        Ok(())
    }

    /// RELEASE (6). Who holds nothing is told that all went well.
    pub(super) fn legacy_release(&mut self) -> Result<(), Refusal> {
        if !self.legacy_changes_nothing()? {
            self.state.end_legacy(Some(self.from));
        }
        Ok(())
    }

    /// Beside registrations the old commands are in conflict (SPC-2 5.5.1), except for those who have a share in the
    /// persistent reservation: for them they succeed and do nothing.
    fn legacy_changes_nothing(&self) -> Result<bool, Refusal> {
        if self.state.registrations.is_empty() {
            return Ok(false);
        }
        let shares = match &self.state.held {
            Some(held) if held.kind.admits_registrants() => self.state.is_registered(self.from),
            Some(_) => self.state.is_holder(self.from),
            None => false,
        };
        if shares { Ok(true) } else { Err(Refusal::Conflict) }
    }
}
