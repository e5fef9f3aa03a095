//! Commands in flight on one connection. Base 2.1 §3.3.3.1 "Submission Queue Entry": a Command Identifier is unique among the
//! outstanding commands of its queue, and anything up to 16 bits.
//!
//! Slots are reused with what they own, so that a warm connection allocates nothing. A command is found by its CID through
//! buckets over its low bits, which hosts number densely.
//!
//! The transfer tag of an R2T (NVMe/TCP 1.1 §3.6.2.10) is the slot's number and a count of the slot's R2Ts, so that data for
//! an earlier one is told from data for the present one.

use holdfast_block::{Command, Lba, TicketId};
use zerocopy::FromZeros;

use crate::io::Steps;
use crate::limits::{QUEUE_ENTRIES_MAX, STAGED_LEN_MAX};
use crate::status::Status;
use crate::wire::sqe::Sqe;

/// A slot, as its table numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SlotId(u16);

impl SlotId {
    pub(crate) fn get(self) -> u16 {
        self.0
    }
}

/// Where a command stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    /// Its capsule's payload is coming in.
    Arriving,
    /// It waits for room.
    Waiting,
    /// The first half of a pair that waits for the second, or a complete half that waits for the other.
    Paired,
    /// Its R2T is to be sent.
    R2tQueued,
    /// Its payload is coming in H2CData.
    Transferring,
    /// The block layer is at it.
    Executing,
    /// An Asynchronous Event Request that waits for an event.
    Parked,
    /// An Abort that waits for what another queue says, or a Disconnect that waits for the rest of its queue.
    Asking,
    /// Its response is to be sent, or on its way.
    Answering,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Work {
    /// Nothing of the block layer.
    None,
    /// One command.
    Block(Command),
    /// Several commands, one after another.
    Steps(Steps),
}

/// Which half of a fused pair a command is. Base 2.1 §3.4.2 "Fused Operations".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Half {
    /// None.
    Whole,
    /// The first; its second has not come yet.
    Lone,
    /// Either, and the other.
    Of(SlotId),
}

/// A command in flight.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) sqe: Sqe,
    pub(crate) state: State,
    pub(crate) work: Work,
    pub(crate) ticket: Option<TicketId>,
    /// What the ticket is, or was last, for.
    pub(crate) running: Option<Command>,
    /// The destination of a Copy, while its sources are read.
    pub(crate) held: Option<TicketId>,
    /// Part of a fused pair that is not with the block layer yet.
    pub(crate) half: Half,
    /// What it is to be answered with as soon as its payload has come.
    pub(crate) doomed: Option<Status>,
    /// The ticket is completed and holds the data of a Read.
    pub(crate) completed: bool,
    /// Bytes that the command moves.
    pub(crate) transfer_len: usize,
    /// How many of them have been moved.
    pub(crate) progress: usize,
    /// Bytes that count against the connection's limit of reserved buffers.
    pub(crate) reserved: usize,
    /// A piece of the payload came damaged.
    pub(crate) damaged: bool,
    /// Payload of commands that the block layer does not see, or the data of a reply.
    pub(crate) staging: Vec<u8>,
    pub(crate) status: Status,
    /// The lowest block with an error, where the failure lies in one.
    pub(crate) failed_lba: Option<Lba>,
    /// Dwords 0 and 1 of the completion.
    pub(crate) result: u64,
    /// In the CID buckets. Not so for the answer to a command whose CID was taken.
    listed: bool,
    next: u16,
    /// The last R2T of this slot, whoever's command it was for.
    last_r2t: Option<R2tTag>,
}

/// A transfer tag, and the CID of the command that it was given for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct R2tTag {
    tag: u16,
    cid: u16,
}

/// What a transfer tag that a host uses stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tagged {
    /// The command that waits for data of this R2T.
    Open(SlotId),
    /// An R2T that has been served, for the command with this CID.
    Over { cid: u16 },
    /// No R2T.
    Unknown,
}

const _: () = assert!(QUEUE_ENTRIES_MAX <= 256, "a slot's number is the low byte of a transfer tag");

/// Buckets of CIDs: as many as a queue has entries.
const BUCKETS: u16 = 256;
/// The end of a bucket's list.
const NONE: u16 = u16::MAX;
/// Rooms for payloads and replies that are kept for their next use: few commands have one, and a host may have many queues.
const ROOMS_KEPT: usize = 8;

/// The commands in flight.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u16>,
    buckets: Vec<u16>,
    limit: u16,
    /// For the staging of commands to come.
    rooms: Vec<Vec<u8>>,
}

impl Slots {
    pub(crate) fn new(limit: u16) -> Slots {
        Slots {
            slots: Vec::new(),
            free: Vec::new(),
            buckets: vec![NONE; usize::from(BUCKETS)],
            limit,
            rooms: Vec::new(),
        }
    }

    /// Most commands at once from here on.
    pub(crate) fn set_limit(&mut self, limit: u16) {
        self.limit = limit;
    }

    /// A slot for a command; `None` when the queue is overrun. Whether its CID was free comes with it.
    pub(crate) fn insert(&mut self, sqe: Sqe) -> Option<(SlotId, bool)> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u16::try_from(self.slots.len()).ok().filter(|index| *index < self.limit)?;
                self.slots.push(Slot::new());
                index
            }
        };
        let cid = sqe.cid.get();
        let listed = self.find(cid).is_none();
        let bucket = self.buckets.get_mut(usize::from(cid % BUCKETS));
        let head = match bucket {
            Some(bucket) if listed => std::mem::replace(bucket, index),
            _ => NONE,
        };
        let slot = self.get_mut(SlotId(index));
        slot.sqe = sqe;
        slot.listed = listed;
        slot.next = head;
        slot.state = State::Arriving;
        Some((SlotId(index), listed))
    }

    /// The command with this CID.
    pub(crate) fn find(&self, cid: u16) -> Option<SlotId> {
        let mut index = self.buckets.get(usize::from(cid % BUCKETS)).copied()?;
        // Ends: a list has no more members than there are slots, and each of them once.
        while let Some(slot) = self.slots.get(usize::from(index)) {
            if slot.sqe.cid.get() == cid {
                return Some(SlotId(index));
            }
            index = slot.next;
        }
        None
    }

    /// The slot that a peer or a completion names, if it is in use.
    pub(crate) fn named(&self, index: u32) -> Option<SlotId> {
        let index = u16::try_from(index).ok()?;
        let slot = self.slots.get(usize::from(index))?;
        (slot.state != State::Free).then_some(SlotId(index))
    }

    /// The tag for a command's R2T, other than all in `avoid`.
    pub(crate) fn tag(&mut self, id: SlotId, avoid: impl Fn(u16) -> bool) -> u16 {
        let slot = self.get_mut(id);
        let cid = slot.sqe.cid.get();
        let mut tag = slot.last_r2t.map_or(id.0, |last| last.tag.wrapping_add(1 << 8));
        // Ends: of the 256 tags of a slot, fewer are to be avoided.
        while avoid(tag) {
            tag = tag.wrapping_add(1 << 8);
        }
        slot.last_r2t = Some(R2tTag { tag, cid });
        tag
    }

    /// What a transfer tag stands for.
    pub(crate) fn tagged(&self, tag: u16) -> Tagged {
        let [index, _] = tag.to_le_bytes();
        let slot = self.slots.get(usize::from(index));
        let Some((slot, last)) = slot.and_then(|slot| Some((slot, slot.last_r2t?))) else {
            return Tagged::Unknown;
        };
        match slot.state {
            _ if last.tag != tag => Tagged::Unknown,
            State::Transferring => Tagged::Open(SlotId(index.into())),
            _ => Tagged::Over { cid: last.cid },
        }
    }

    pub(crate) fn get(&self, id: SlotId) -> &Slot {
        self.slots.get(usize::from(id.0)).expect("slot numbers come from this table, which never shrinks")
    }

    pub(crate) fn get_mut(&mut self, id: SlotId) -> &mut Slot {
        self.slots.get_mut(usize::from(id.0)).expect("slot numbers come from this table, which never shrinks")
    }

    /// Takes payload that the block layer does not see.
    pub(crate) fn stage(&mut self, id: SlotId, bytes: &[u8]) {
        let empty = self.get(id).staging.capacity() == 0;
        if let Some(room) = self.rooms.pop_if(|_| empty) {
            self.get_mut(id).staging = room;
        }
        self.get_mut(id).staging.extend_from_slice(bytes);
    }

    /// Ends a command. Its ticket has been taken care of.
    pub(crate) fn free(&mut self, id: SlotId) {
        let slot = self.get_mut(id);
        debug_assert!(slot.state != State::Free && slot.ticket.is_none() && slot.held.is_none());
        let (cid, listed, next) = (slot.sqe.cid.get(), slot.listed, slot.next);
        let mut room = slot.clear();
        if room.capacity() > 0 && self.rooms.len() < ROOMS_KEPT {
            room.clear();
            room.shrink_to(STAGED_LEN_MAX);
            self.rooms.push(room);
        }
        if listed {
            self.unlist(id.0, cid, next);
        }
        self.free.push(id.0);
    }

    /// All commands in flight.
    pub(crate) fn in_use(&self) -> impl Iterator<Item = SlotId> + '_ {
        let used = self.slots.iter().enumerate().filter(|(_, slot)| slot.state != State::Free);
        used.filter_map(|(index, _)| u16::try_from(index).ok().map(SlotId))
    }

    fn unlist(&mut self, index: u16, cid: u16, next: u16) {
        let Some(bucket) = self.buckets.get_mut(usize::from(cid % BUCKETS)) else { return };
        if *bucket == index {
            *bucket = next;
            return;
        }
        let mut at = *bucket;
        while let Some(slot) = self.slots.get_mut(usize::from(at)) {
            if slot.next == index {
                slot.next = next;
                return;
            }
            at = slot.next;
        }
    }
}

impl Slot {
    /// The tag of the command's R2T.
    pub(crate) fn tag(&self) -> Option<u16> {
        self.last_r2t.map(|last| last.tag)
    }

    fn new() -> Slot {
        Slot {
            sqe: Sqe::new_zeroed(),
            state: State::Free,
            work: Work::None,
            ticket: None,
            running: None,
            held: None,
            half: Half::Whole,
            doomed: None,
            completed: false,
            transfer_len: 0,
            progress: 0,
            reserved: 0,
            damaged: false,
            staging: Vec::new(),
            status: Status::SUCCESS,
            failed_lba: None,
            result: 0,
            listed: false,
            next: NONE,
            last_r2t: None,
        }
    }

    /// Makes the slot free, and gives its staging away.
    fn clear(&mut self) -> Vec<u8> {
        let staging = std::mem::take(&mut self.staging);
        *self = Slot { last_r2t: self.last_r2t, ..Slot::new() };
        staging
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn sqe(cid: u16) -> Sqe {
        let mut sqe = Sqe::new_zeroed();
        sqe.cid.set(cid);
        sqe
    }

    #[test]
    fn a_full_table_takes_no_more() {
        let mut slots = Slots::new(2);
        assert!(slots.insert(sqe(1)).is_some());
        let (second, _) = slots.insert(sqe(2)).unwrap();
        assert!(slots.insert(sqe(3)).is_none());
        slots.free(second);
        assert!(slots.insert(sqe(3)).is_some());
    }

    #[test]
    fn room_for_payload_is_used_again_and_does_not_add_up() {
        let mut slots = Slots::new(256);
        let ids: Vec<SlotId> = (0..256).map(|cid| slots.insert(sqe(cid)).unwrap().0).collect();
        for id in &ids {
            slots.stage(*id, &[7; 3]);
            slots.stage(*id, &[8; 5000]);
            assert_eq!((slots.get(*id).staging.len(), slots.get(*id).staging.last()), (5003, Some(&8)));
        }
        slots.get_mut(ids[0]).staging = Vec::with_capacity(1 << 20);
        ids.into_iter().for_each(|id| slots.free(id));
        assert_eq!(slots.rooms.len(), ROOMS_KEPT);
        assert!(slots.rooms.iter().all(|room| room.is_empty() && room.capacity() <= STAGED_LEN_MAX));
        let (id, _) = slots.insert(sqe(1)).unwrap();
        assert_eq!(slots.get(id).staging.capacity(), 0, "only those that bring a payload get one");
        slots.stage(id, &[9]);
        assert_eq!((slots.get(id).staging.as_slice(), slots.rooms.len()), ([9].as_slice(), ROOMS_KEPT - 1));
    }

    #[test]
    fn a_taken_cid_is_noticed_and_the_first_command_stays() {
        let mut slots = Slots::new(8);
        let (first, fresh) = slots.insert(sqe(7)).unwrap();
        assert!(fresh);
        let (second, fresh) = slots.insert(sqe(7)).unwrap();
        assert!(!fresh);
        slots.free(second);
        assert_eq!(slots.find(7), Some(first));
    }

    #[test]
    fn a_transfer_tag_is_that_of_one_r2t() {
        let mut slots = Slots::new(4);
        let (id, _) = slots.insert(sqe(7)).unwrap();
        assert_eq!(slots.tagged(id.get()), Tagged::Unknown);
        let first = slots.tag(id, |_| false);
        slots.get_mut(id).state = State::Transferring;
        assert_eq!(slots.tagged(first), Tagged::Open(id));
        slots.free(id);
        assert_eq!(slots.tagged(first), Tagged::Over { cid: 7 });
        let (id, _) = slots.insert(sqe(8)).unwrap();
        let second = slots.tag(id, |tag| tag == first.wrapping_add(1 << 8));
        slots.get_mut(id).state = State::Transferring;
        assert_eq!((slots.tagged(first), slots.tagged(second)), (Tagged::Unknown, Tagged::Open(id)));
        assert_eq!(second, first.wrapping_add(2 << 8));
    }

    proptest! {
        #[test]
        fn cids_are_found_as_in_a_map(steps in prop::collection::vec((any::<bool>(), 0_u16..1024), 0..400)) {
            let mut slots = Slots::new(256);
            let mut model = HashMap::new();
            for (insert, cid) in steps {
                if insert && !model.contains_key(&cid) {
                    if let Some((id, fresh)) = slots.insert(sqe(cid)) {
                        prop_assert!(fresh);
                        model.insert(cid, id);
                    } else {
                        prop_assert_eq!(model.len(), 256);
                    }
                } else if let Some(id) = model.remove(&cid) {
                    slots.free(id);
                }
                prop_assert_eq!(slots.find(cid), model.get(&cid).copied());
            }
            prop_assert_eq!(slots.in_use().count(), model.len());
        }
    }
}
