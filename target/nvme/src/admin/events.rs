//! Asynchronous events. Base 2.1 §5.1.2 "Asynchronous Event Request command".
//!
//! An event of one kind is reported once; then that kind stays masked until the host has read the log page it points at.

use std::collections::VecDeque;

use crate::limits::{ASYNC_EVENTS_MAX, CHANGED_NAMESPACES_MAX};
use crate::slots::SlotId;
use crate::wire::log::{WARNING_TEMPERATURE, lid};

/// What can happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// SMART / Health: a temperature threshold is reached.
    Temperature,
    /// Namespace Attribute Changed.
    NamespaceAttribute,
    /// Discovery Log Page Change.
    DiscoveryLog,
}

impl Event {
    const ALL: [Event; 3] = [Event::Temperature, Event::NamespaceAttribute, Event::DiscoveryLog];

    /// The bit in Asynchronous Event Configuration that lets it through. Base 2.1 §5.1.25.1.6.
    fn enable_bit(self) -> u32 {
        match self {
            Event::Temperature => u32::from(WARNING_TEMPERATURE),
            Event::NamespaceAttribute => 1 << 8,
            Event::DiscoveryLog => 1 << 31,
        }
    }

    /// Dword 0 of the completion: type (1h SMART / Health Status, 2h Notice), information, log page.
    fn completion(self) -> u32 {
        let (kind, information, page) = match self {
            Event::Temperature => (0x1, 0x01, lid::SMART),
            Event::NamespaceAttribute => (0x2, 0x00, lid::CHANGED_NAMESPACES),
            Event::DiscoveryLog => (0x2, 0xf0, lid::DISCOVERY),
        };
        kind | (information << 8) | (u32::from(page) << 16)
    }

    fn bit(self) -> u8 {
        match self {
            Event::NamespaceAttribute => 1,
            Event::DiscoveryLog => 2,
            Event::Temperature => 4,
        }
    }
}

/// Requests and events of one controller.
#[derive(Debug, Default)]
pub(crate) struct Events {
    parked: VecDeque<SlotId>,
    pending: u8,
    masked: u8,
    changed: Vec<u32>,
}

/// What the changed namespace list says when more have changed than it can hold.
const TOO_MANY: u32 = u32::MAX;

impl Events {
    /// Whether the host has as many requests outstanding as it may.
    pub(crate) fn is_full(&self) -> bool {
        self.parked.len() >= ASYNC_EVENTS_MAX + usize::from(holdfast_mutant::active("event-limit"))
    }

    pub(crate) fn park(&mut self, slot: SlotId) {
        self.parked.push_back(slot);
    }

    /// Takes a request back; whether it was there.
    pub(crate) fn unpark(&mut self, slot: SlotId) -> bool {
        let before = self.parked.len();
        self.parked.retain(|parked| *parked != slot);
        self.parked.len() != before
    }

    /// Forgets everything; the requests themselves are ended by the connection.
    pub(crate) fn reset(&mut self) {
        *self = Events::default();
    }

    /// Something happened. Told unless the host did not ask for it, or has not looked since the last time.
    pub(crate) fn raise(&mut self, event: Event, enabled: u32) {
        let enabled = if holdfast_mutant::active("event-enable") { u32::MAX } else { enabled };
        if enabled & event.enable_bit() != 0 && self.masked & event.bit() == 0 {
            self.pending |= event.bit();
        }
    }

    /// A request and the event to answer it with, if there are both.
    pub(crate) fn next_answer(&mut self) -> Option<(SlotId, u32)> {
        let event = Event::ALL.into_iter().find(|event| self.pending & event.bit() != 0)?;
        let slot = self.parked.pop_front()?;
        self.pending &= !event.bit();
        self.masked |= if holdfast_mutant::active("event-mask") { 0 } else { event.bit() };
        Some((slot, event.completion()))
    }

    /// The host has read the log page of an event.
    pub(crate) fn unmask(&mut self, event: Event) {
        self.masked &= !event.bit();
        self.pending &= !event.bit();
    }

    /// Adds to the changed namespace list, which is in order.
    pub(crate) fn namespaces_changed(&mut self, nsids: &[u32]) {
        if self.changed.first() == Some(&TOO_MANY) {
            return;
        }
        self.changed.extend_from_slice(nsids);
        self.changed.sort_unstable();
        self.changed.dedup();
        if self.changed.len() > CHANGED_NAMESPACES_MAX {
            self.changed = vec![TOO_MANY];
        }
    }

    pub(crate) fn changed_namespaces(&self) -> &[u32] {
        &self.changed
    }

    pub(crate) fn clear_changed_namespaces(&mut self) {
        self.changed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::Slots;
    use crate::wire::sqe::Sqe;
    use zerocopy::FromZeros;

    const NAMESPACES: u32 = 1 << 8;

    fn slot() -> SlotId {
        Slots::new(1).insert(Sqe::new_zeroed()).unwrap().0
    }

    #[test]
    fn an_event_is_told_once_until_its_page_is_read() {
        let mut events = Events::default();
        events.park(slot());
        events.park(slot());
        events.raise(Event::NamespaceAttribute, NAMESPACES);
        assert_eq!(events.next_answer().map(|answer| answer.1), Some(0x0004_0002));
        events.raise(Event::NamespaceAttribute, NAMESPACES);
        assert!(events.next_answer().is_none());
        events.unmask(Event::NamespaceAttribute);
        events.raise(Event::NamespaceAttribute, NAMESPACES);
        assert!(events.next_answer().is_some());
    }

    #[test]
    fn an_event_waits_for_a_request() {
        let mut events = Events::default();
        events.raise(Event::DiscoveryLog, 1 << 31);
        assert!(events.next_answer().is_none());
        events.park(slot());
        assert_eq!(events.next_answer().map(|answer| answer.1), Some(0x0070_f002));
    }

    #[test]
    fn an_event_that_nobody_asked_for_is_not_told() {
        let mut events = Events::default();
        events.park(slot());
        events.raise(Event::NamespaceAttribute, 0);
        assert!(events.next_answer().is_none());
    }

    #[test]
    fn too_many_changed_namespaces_are_said_to_be_too_many() {
        let mut events = Events::default();
        let many: Vec<u32> = (1..=1025).collect();
        events.namespaces_changed(&many);
        events.namespaces_changed(&[1]);
        assert_eq!(events.changed_namespaces(), [TOO_MANY]);
    }
}
