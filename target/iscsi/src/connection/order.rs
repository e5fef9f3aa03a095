//! Task attributes: what waits for what. SAM-5 §8.6 "Task attributes", §8.8 "Task state and task attribute".
//!
//! An ordered task begins when all tasks of its logical unit that came before have ended, and what comes behind it begins
//! when it has ended; what is to go to the head of the queue waits for nothing. Nearly all tasks are simple, and pay for this with one
//! comparison.

use holdfast_block::BlockPort;
use zerocopy::transmute_ref;

use super::{Connection, Context};
use crate::slots::{SlotId, State};
use crate::wire::ScsiCommand;

/// Task attributes. RFC 7143 §11.3.1 "Flags and Task Attributes (Byte 1)".
const ORDERED: u8 = 2;
const HEAD_OF_QUEUE: u8 = 3;

/// The order of tasks on one connection.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Ordered tasks that have not ended.
    ordered: usize,
    /// Tasks that have yet to begin, oldest first.
    later: Vec<SlotId>,
    /// A task has ended that others may have waited for.
    moved: bool,
}

impl Connection {
    /// Whether a task that has just come has to wait for others. It then begins by itself.
    pub(super) fn comes_later(&mut self, id: SlotId) -> bool {
        let attribute = self.attribute(id);
        if attribute != ORDERED && self.order.ordered == 0 {
            return false;
        }
        if attribute == ORDERED {
            self.order.ordered += 1;
            self.slots.get_mut(id).is_ordered = true;
        }
        let waits = self.has_to_wait(id, &self.order.later);
        if waits {
            self.order.later.push(id);
        }
        waits
    }

    fn attribute(&self, id: SlotId) -> u8 {
        let command: &ScsiCommand = transmute_ref!(&self.slots.get(id).bhs);
        command.attribute()
    }

    /// Whether older tasks of its unit hold this one back; `before`: those of them that have not begun either.
    fn has_to_wait(&self, id: SlotId, before: &[SlotId]) -> bool {
        let attribute = self.attribute(id);
        let lun = self.slots.get(id).bhs.lun;
        let is_of_unit = |other: &SlotId| *other != id && self.slots.get(*other).bhs.lun == lun;
        let has_begun = |other: &SlotId| {
            let slot = self.slots.get(*other);
            !self.order.later.contains(other)
                && matches!(slot.state, State::Receiving | State::Running | State::Draining | State::Aborting)
        };
        let holds_back = |other: &SlotId| attribute == ORDERED || self.slots.get(*other).is_ordered;
        attribute != HEAD_OF_QUEUE
            && (before.iter().filter(|other| is_of_unit(other)).any(holds_back)
                || self.slots.in_use().filter(is_of_unit).filter(has_begun).any(|other| holds_back(&other)))
    }

    /// A task has ended, or never begins.
    pub(super) fn left_order(&mut self, id: SlotId) {
        if self.order.ordered == 0 && self.order.later.is_empty() {
            return;
        }
        self.order.moved = true;
        self.order.later.retain(|other| *other != id);
        if std::mem::take(&mut self.slots.get_mut(id).is_ordered) {
            self.order.ordered -= 1;
        }
    }

    /// Begins tasks that have waited long enough.
    pub(super) fn begin_later<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        while std::mem::take(&mut self.order.moved) {
            let mut at = 0;
            while let Some((before, [id, ..])) = self.order.later.split_at_checked(at) {
                let id = *id;
                if self.has_to_wait(id, before) {
                    at += 1;
                } else {
                    self.order.later.remove(at);
                    self.start(cx, id);
                }
            }
        }
    }
}
