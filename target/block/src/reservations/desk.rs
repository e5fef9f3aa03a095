//! One change after the other: found right, written down by others, which takes time, then made or given up. Commands see the
//! old value until then.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Change, Effects, Keep, Nexus, Refusal, Request, Reservations};
use crate::TicketId;

/// A volume's reservations and what is to become of them.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    state: Arc<Reservations>,
    pending: Option<Change>,
    /// The request whose change is being written down, or is made and waits for the commands that it aborts.
    pub(crate) serving: Option<TicketId>,
    /// Number of the order to write it down.
    pub(crate) keeping: Option<u64>,
    /// Requests that came after it, in their order. Bounded by the number of tickets.
    pub(crate) line: VecDeque<TicketId>,
    /// Commands that the latest change aborts and that are still with the store: until they are back, a write of theirs may
    /// come after what follows the change.
    pub(crate) aborting: usize,
}

impl Desk {
    pub(crate) fn state(&self) -> &Arc<Reservations> {
        &self.state
    }

    /// Takes other reservations up; what was proposed is given up.
    pub(crate) fn replace(&mut self, state: Reservations) {
        self.state = Arc::new(state);
        self.pending = None;
    }

    /// Whether a change has not come to its end.
    pub(crate) fn is_busy(&self) -> bool {
        self.serving.is_some() || self.aborting > 0
    }

    /// Finds out what comes of a request; if something does, what has to be kept before it is committed.
    pub(crate) fn propose(&mut self, from: &Nexus, request: &Request) -> Result<Keep, Refusal> {
        debug_assert!(!self.is_busy(), "one change after the other");
        let mut change = self.state.decide(from, request)?;
        let keep = std::mem::replace(&mut change.keep, Keep::AsIs);
        self.pending = Some(change);
        Ok(keep)
    }

    /// Makes the change that was proposed; nothing if it was given up meanwhile.
    pub(crate) fn commit(&mut self) -> Option<Effects> {
        let change = self.pending.take()?;
        self.state = Arc::new(change.next);
        Some(change.effects)
    }

    /// Gives the change up that was proposed.
    pub(crate) fn abandon(&mut self) {
        self.pending = None;
    }

    /// Ends a RESERVE (6), made or proposed. `true` if anything has changed.
    pub(crate) fn end_legacy(&mut self, whose: Option<&Nexus>) -> bool {
        if let Some(change) = &mut self.pending {
            change.next.end_legacy(whose);
        }
        let held = self.state.legacy_holder().is_some_and(|holder| whose.is_none_or(|whose| whose == holder));
        if held {
            Arc::make_mut(&mut self.state).end_legacy(whose);
        }
        held
    }
}
