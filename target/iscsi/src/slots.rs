//! Tasks of one connection. RFC 7143 §11.2.1.8 "Initiator Task Tag": unique among the outstanding tasks of its session.
//!
//! Slots are reused with what they own, so that a warm connection allocates nothing.

use holdfast_block::RESPONSES_PER_BATCH;
use std::collections::VecDeque;

use holdfast_scsi::{Ended, Task};

use crate::limits::{IMMEDIATE_MAX, ROOM_KEPT_MAX, WINDOW};
use crate::wire::{Bhs, NO_TAG};

/// A slot, as its table numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotId(u8);

/// As many slots as there may be tasks, those whose answer is on its way out beside those that came for them already.
const SLOTS_MAX: usize = WINDOW as usize + IMMEDIATE_MAX + RESPONSES_PER_BATCH;
const _: () = assert!(SLOTS_MAX <= 256, "a slot's number is the low byte of a transfer tag");

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// Its immediate data is coming, or its room, or its data.
    Receiving,
    /// The device server is at it.
    Running,
    /// It is over; unsolicited data of it still comes.
    Draining,
    /// Its answer is to be sent.
    Answering,
    /// Its answer is on its way out.
    Sent,
    /// It was aborted while a part of its answer is on its way out.
    Leaving,
    /// It was aborted with others, and data that was asked for still comes.
    Aborting,
}

/// Data that was asked for with one R2T. §11.8 "Ready To Transfer (R2T)".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Burst {
    pub(crate) ttt: u32,
    /// Where in the transfer it ends.
    pub(crate) end: usize,
}

/// A task.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) state: State,
    /// The command's header.
    pub(crate) bhs: Bhs,
    pub(crate) task: Task,
    /// The bytes of its CDB behind the first 16.
    pub(crate) long_cdb: Vec<u8>,
    /// Expected Data Transfer Length.
    pub(crate) expected_len: usize,
    /// Bytes that the initiator is ready to take.
    pub(crate) read_len: usize,
    /// Others wait for its end, by its attribute.
    pub(crate) is_ordered: bool,
    /// It counts in the command window.
    pub(crate) numbered: bool,
    /// It waits for room.
    pub(crate) waiting: bool,
    /// Bytes that its command takes; `None`: there is no room yet.
    pub(crate) out_len: Option<usize>,
    /// Its own PDU, or one with data for it, is coming in.
    pub(crate) arriving: bool,
    /// A piece of its data came damaged.
    pub(crate) damaged: bool,
    /// Bytes that came, those that nobody wants counted.
    pub(crate) received: usize,
    /// Unsolicited data is still to come.
    pub(crate) unsolicited: bool,
    /// DataSN of the next Data-Out of its sequence.
    pub(crate) data_out_sn: u32,
    /// R2Ts that are not served yet, in order.
    pub(crate) bursts: VecDeque<Burst>,
    /// R2Ts that were made.
    pub(crate) r2t_sn: u32,
    /// It fails as soon as no more data comes.
    pub(crate) doomed: Option<holdfast_scsi::sense::Sense>,
    /// Data that came before there was room.
    pub(crate) staging: Vec<u8>,
    pub(crate) ended: Option<Ended>,
    /// Bytes of the answer that have been put into batches, and their PDUs.
    pub(crate) sent: usize,
    pub(crate) data_in_sn: u32,
    /// A part of its answer is on its way out.
    pub(crate) in_flight: bool,
    r2ts: u32,
}

/// The tasks of a connection.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u8>,
    /// Tags by slot, for the search; [`NO_TAG`] for those without a task that can be named.
    tags: Vec<u32>,
    /// Numbered tasks whose answer has not been put into a batch.
    numbered: u32,
    immediate: usize,
}

impl Slots {
    /// A slot for a command; `None`: there are too many.
    pub(crate) fn insert(&mut self, bhs: &Bhs) -> Option<SlotId> {
        if bhs.is_immediate() && self.immediate >= IMMEDIATE_MAX {
            return None;
        }
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u8::try_from(self.slots.len()).ok().filter(|_| self.slots.len() < SLOTS_MAX)?;
                self.slots.push(Slot::new(*bhs));
                self.tags.push(NO_TAG);
                index
            }
        };
        let id = SlotId(index);
        let slot = self.get_mut(id);
        slot.bhs = *bhs;
        slot.state = State::Receiving;
        slot.arriving = true;
        if let Some(tag) = self.tags.get_mut(usize::from(index)) {
            *tag = bhs.itt.get();
        }
        if bhs.is_immediate() {
            self.immediate += 1;
        }
        Some(id)
    }

    /// A task's command has been received, and takes a place in the window from here on unless it is immediate.
    pub(crate) fn count(&mut self, id: SlotId) {
        let slot = self.get_mut(id);
        if !slot.bhs.is_immediate() && !std::mem::replace(&mut slot.numbered, true) {
            self.numbered += 1;
        }
    }

    /// The task with this tag.
    pub(crate) fn find(&self, itt: u32) -> Option<SlotId> {
        let at = self.tags.iter().position(|tag| *tag == itt && itt != NO_TAG)?;
        u8::try_from(at).ok().map(SlotId)
    }

    /// The slot that a completion names, if it is in use.
    pub(crate) fn named(&self, index: u32) -> Option<SlotId> {
        let index = u8::try_from(index).ok()?;
        let slot = self.slots.get(usize::from(index))?;
        (slot.state != State::Free).then_some(SlotId(index))
    }

    /// Tasks that count in the command window.
    pub(crate) fn numbered(&self) -> u32 {
        self.numbered
    }

    /// Its tag may be used again from here on, and its place in the window.
    pub(crate) fn retire(&mut self, id: SlotId) {
        let Some(tag) = self.tags.get_mut(usize::from(id.0)) else { return };
        if std::mem::replace(tag, NO_TAG) == NO_TAG {
            return;
        }
        let slot = self.get_mut(id);
        let immediate = slot.bhs.is_immediate();
        let numbered = std::mem::take(&mut slot.numbered);
        if numbered || (immediate && holdfast_mutant::active("planted-place")) {
            self.numbered -= 1;
        }
        if immediate {
            self.immediate -= 1;
        }
    }

    /// Ends a task, whose device server's part is over.
    pub(crate) fn free(&mut self, id: SlotId) {
        self.retire(id);
        let slot = self.get_mut(id);
        debug_assert!(slot.state != State::Free);
        slot.clear();
        self.free.push(id.0);
    }

    /// A tag for the next R2T of a task.
    pub(crate) fn transfer_tag(&mut self, id: SlotId) -> u32 {
        let slot = self.get_mut(id);
        // 24 bits of count above the slot's number; all ones are reserved.
        slot.r2ts = (slot.r2ts + 1) % 0x00ff_ffff;
        slot.r2ts << 8 | u32::from(id.0)
    }

    pub(crate) fn get(&self, id: SlotId) -> &Slot {
        self.slots.get(usize::from(id.0)).expect("slot numbers come from this table, which never shrinks")
    }

    pub(crate) fn get_mut(&mut self, id: SlotId) -> &mut Slot {
        self.slots.get_mut(usize::from(id.0)).expect("slot numbers come from this table, which never shrinks")
    }

    /// Bytes of data that came before there was room.
    pub(crate) fn staged(&self) -> usize {
        self.slots.iter().map(|slot| slot.staging.len()).sum()
    }

    /// All tasks.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = SlotId> + '_ {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.state != State::Free);
        used.filter_map(|(index, _)| u8::try_from(index).ok().map(SlotId))
    }
}

impl SlotId {
    pub(crate) fn get(self) -> u32 {
        self.0.into()
    }
}

impl Slot {
    fn new(bhs: Bhs) -> Slot {
        Slot {
            state: State::Free,
            bhs,
            task: Task::default(),
            long_cdb: Vec::new(),
            expected_len: 0,
            read_len: 0,
            is_ordered: false,
            numbered: false,
            waiting: false,
            arriving: false,
            damaged: false,
            out_len: None,
            received: 0,
            unsolicited: false,
            data_out_sn: 0,
            bursts: VecDeque::new(),
            r2t_sn: 0,
            doomed: None,
            staging: Vec::new(),
            ended: None,
            sent: 0,
            data_in_sn: 0,
            in_flight: false,
            r2ts: 0,
        }
    }

    /// Whether more data is to come before anything can be answered.
    pub(crate) fn awaits_data(&self) -> bool {
        self.awaited() > 0
    }

    /// Sequences of data that are to come.
    pub(crate) fn awaited(&self) -> usize {
        self.bursts.len() + usize::from(self.unsolicited)
    }

    /// Makes it free. What it owns is kept for its next use; its task was cleared by its own end.
    fn clear(&mut self) {
        let Slot { state, bhs: _, task: _, long_cdb, expected_len, read_len, is_ordered, .. } = self;
        *state = State::Free;
        long_cdb.clear();
        (*expected_len, *read_len, *is_ordered) = (0, 0, false);
        let Slot { numbered, waiting, arriving, damaged, unsolicited, in_flight, .. } = self;
        for flag in [numbered, waiting, arriving, damaged, unsolicited, in_flight] {
            *flag = false;
        }
        let Slot { out_len, received, sent, doomed, ended, .. } = self;
        (*out_len, *received, *sent, *doomed, *ended) = (None, 0, 0, None, None);
        let Slot { data_out_sn, r2t_sn, data_in_sn, r2ts: _, bursts, staging, .. } = self;
        (*data_out_sn, *r2t_sn, *data_in_sn) = (0, 0, 0);
        bursts.clear();
        staging.clear();
        if staging.capacity() > ROOM_KEPT_MAX {
            *staging = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn bhs(itt: u32) -> Bhs {
        let mut bhs = Bhs::new_zeroed();
        bhs.itt.set(itt);
        bhs
    }

    #[test]
    fn a_task_is_found_by_its_tag_until_it_is_retired() {
        let mut slots = Slots::default();
        let id = slots.insert(&bhs(7)).unwrap();
        assert_eq!((slots.find(7), slots.numbered()), (Some(id), 0));
        slots.count(id);
        assert_eq!((slots.find(7), slots.numbered()), (Some(id), 1));
        slots.retire(id);
        assert_eq!((slots.find(7), slots.numbered()), (None, 0));
        let again = slots.insert(&bhs(7)).unwrap();
        assert_ne!(id, again);
        slots.free(id);
        assert_eq!(slots.find(7), Some(again));
        assert_eq!(slots.find(NO_TAG), None);
    }

    #[test]
    fn transfer_tags_differ_from_each_other_and_from_the_reserved_one() {
        let mut slots = Slots::default();
        let a = slots.insert(&bhs(1)).unwrap();
        let b = slots.insert(&bhs(2)).unwrap();
        let first = slots.transfer_tag(a);
        let other = slots.transfer_tag(b);
        slots.free(a);
        let a = slots.insert(&bhs(3)).unwrap();
        let tags = [first, other, slots.transfer_tag(a)];
        assert!(tags[0] != tags[1] && tags[1] != tags[2] && tags[0] != tags[2]);
        slots.get_mut(a).r2ts = 0x00ff_fffe;
        assert!((0..4).all(|_| slots.transfer_tag(a) != NO_TAG));
    }

    #[test]
    fn there_are_as_many_as_the_window_and_some_beside_it() {
        let mut slots = Slots::default();
        let mut immediate = bhs(1);
        zerocopy::IntoBytes::as_mut_bytes(&mut immediate)[0] = 0x41;
        let beside = (0..100).take_while(|_| slots.insert(&immediate).is_some()).count();
        assert_eq!(beside, IMMEDIATE_MAX);
        let numbered = (0..1000).take_while(|itt| slots.insert(&bhs(*itt)).is_some()).count();
        assert_eq!(numbered, SLOTS_MAX - IMMEDIATE_MAX);
    }
}
