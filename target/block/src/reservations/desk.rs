//! One change after the other: found right, written down by others, which takes time, then made or given up. Commands see the
//! old value until then.

use super::{Change, Effects, Keep, Nexus, Refusal, Request, Reservations};

/// A volume's reservations and what is to become of them.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    state: Reservations,
    pending: Option<Change>,
    /// Commands that the latest change aborts and that are still with the store: until they are back, a write of theirs may
    /// come after what follows the change.
    pub(crate) aborting: usize,
}

impl Desk {
    pub(crate) fn new(state: Reservations) -> Self {
        Desk { state, pending: None, aborting: 0 }
    }

    pub(crate) fn state(&self) -> &Reservations {
        &self.state
    }

    /// Finds out what comes of a request; if something does, what has to be kept before it is committed.
    pub(crate) fn propose(&mut self, from: &Nexus, request: &Request) -> Result<Keep, Refusal> {
        if self.pending.is_some() || self.aborting > 0 {
            return Err(Refusal::UnderWay);
        }
        let mut change = self.state.decide(from, request)?;
        let keep = std::mem::replace(&mut change.keep, Keep::AsIs);
        self.pending = Some(change);
        Ok(keep)
    }

    /// Makes the change that was proposed.
    pub(crate) fn commit(&mut self) -> Option<Effects> {
        let change = self.pending.take()?;
        self.state = change.next;
        Some(change.effects)
    }

    /// Gives the change up that was proposed.
    pub(crate) fn abandon(&mut self) {
        self.pending = None;
    }

    /// Ends a RESERVE (6), made or proposed.
    pub(crate) fn end_legacy(&mut self, whose: Option<&Nexus>) {
        self.state.end_legacy(whose);
        if let Some(change) = &mut self.pending {
            change.next.end_legacy(whose);
        }
    }
}
