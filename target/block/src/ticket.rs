//! Tables whose entries are named by index and generation: an old name never finds a new entry.
//! Entries are reused with their allocations, so that a warm table allocates nothing.

use holdfast_pi::{BlockGuard, Counts, Fault, PiFormat};

use crate::reserving::Reserving;
use crate::{AttachmentId, Command, SlotRef, TicketId, VolumeId};

/// A value that can be made ready for its next use without giving its allocations away.
pub(crate) trait Reusable: Default {
    fn reset(&mut self);
}

/// A name in a [`Table`].
pub(crate) trait Name: Copy {
    fn new(index: u32, generation: u32) -> Self;
    fn index(self) -> usize;
    fn generation(self) -> u32;
}

macro_rules! name {
    ($type:ty) => {
        impl Name for $type {
            fn new(index: u32, generation: u32) -> Self {
                Self { index, generation }
            }
            fn index(self) -> usize {
                usize::try_from(self.index).unwrap_or(usize::MAX)
            }
            fn generation(self) -> u32 {
                self.generation
            }
        }
    };
}
name!(TicketId);
name!(AttachmentId);

#[derive(Debug)]
struct Entry<T> {
    generation: u32,
    used: bool,
    value: T,
}

#[derive(Debug)]
pub(crate) struct Table<T> {
    entries: Vec<Entry<T>>,
    free: Vec<u32>,
    limit: usize,
}

impl<T: Reusable> Table<T> {
    /// An empty table of at most `limit` entries.
    pub(crate) fn new(limit: usize) -> Self {
        Table { entries: Vec::new(), free: Vec::new(), limit }
    }

    /// A fresh or reset entry; `None` at the limit.
    pub(crate) fn insert<N: Name>(&mut self) -> Option<(N, &mut T)> {
        let index = match self.free.pop() {
            Some(index) => index,
            None if self.entries.len() < self.limit => {
                let index = u32::try_from(self.entries.len()).ok()?;
                self.entries.push(Entry { generation: 0, used: false, value: T::default() });
                index
            }
            None => return None,
        };
        let entry = self.entries.get_mut(usize::try_from(index).ok()?)?;
        debug_assert!(!entry.used, "an entry of the free list is free");
        entry.used = true;
        Some((N::new(index, entry.generation), &mut entry.value))
    }

    pub(crate) fn get<N: Name>(&self, name: N) -> Option<&T> {
        let entry = self.entries.get(name.index())?;
        (entry.used && entry.generation == name.generation()).then_some(&entry.value)
    }

    pub(crate) fn get_mut<N: Name>(&mut self, name: N) -> Option<&mut T> {
        let entry = self.entries.get_mut(name.index())?;
        (entry.used && entry.generation == name.generation()).then_some(&mut entry.value)
    }

    /// The entry at an index, whatever its generation, with its current name: for completions that carry the index only
    /// and whose entry is known to be still there.
    pub(crate) fn name_at<N: Name>(&self, index: u32) -> Option<N> {
        let entry = self.entries.get(usize::try_from(index).ok()?)?;
        entry.used.then(|| N::new(index, entry.generation))
    }

    /// The values in use.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.entries.iter_mut().filter(|entry| entry.used).map(|entry| &mut entry.value)
    }

    /// Ends an entry; its name is worthless from here on.
    pub(crate) fn remove<N: Name>(&mut self, name: N) {
        let Some(entry) = self.entries.get_mut(name.index()) else { return };
        if !entry.used || entry.generation != name.generation() {
            return;
        }
        entry.used = false;
        entry.generation = entry.generation.wrapping_add(1);
        entry.value.reset();
        if let Ok(index) = u32::try_from(name.index()) {
            self.free.push(index);
        }
    }

    /// Entries in use.
    pub(crate) fn len(&self) -> usize {
        self.entries.len() - self.free.len()
    }
}

/// Where a ticket stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Stage {
    /// Admitted; a payload may be on its way.
    #[default]
    Open,
    /// Complete, and waiting for its turn; a change of reservations: for those before it.
    Waiting,
    /// With the store; a change of reservations: decided.
    Submitted,
    /// As `Submitted`, but nobody wants the completion any more.
    Orphaned,
    /// Completion given out or queued; blocks of a Read are pinned.
    Completed,
}

/// Geometry and format that a command was admitted with.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) volume: VolumeId,
    pub(crate) block_len: usize,
    /// Tuple bytes kept with each block; 0 without protection information.
    pub(crate) format: Option<PiFormat>,
    /// Tuple bytes on the wire behind each block; 0 where only data moves.
    pub(crate) wire_tuple_len: usize,
}

/// A command under way.
#[derive(Debug, Default)]
pub(crate) struct Ticket {
    pub(crate) stage: Stage,
    pub(crate) work: Option<Work>,
    /// One per block: reserved (Write), or pinned (Read and its like once completed).
    pub(crate) slots: Vec<SlotRef>,
    /// Payload of a Compare, in room that the service lends.
    pub(crate) staged: Vec<u8>,
    pub(crate) arrival: Arrival,
    /// Its number in the line of those that wait for a turn or have one.
    pub(crate) turn: Option<u64>,
    /// Its place among the changes with the store.
    pub(crate) change: Option<usize>,
    /// Its nexus was preempted: whatever comes of it, it fails.
    pub(crate) preempted: bool,
    /// It is no command, but asks for a change of reservations.
    pub(crate) reserving: Option<Box<Reserving>>,
    pub(crate) admitted_us: u64,
}

/// What is known of an admitted command.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) command: Command,
    pub(crate) shape: Shape,
}

/// The payload so far.
#[derive(Debug, Default)]
pub(crate) struct Arrival {
    /// Bytes taken.
    pub(crate) taken: usize,
    /// Running guard of the block that is arriving in pieces.
    pub(crate) guard: Option<BlockGuard>,
    /// Its tuple's bytes.
    pub(crate) tuple: [u8; 16],
    /// Tallies of complete blocks.
    pub(crate) counts: Counts,
    /// The first fault.
    pub(crate) fault: Option<Fault>,
    /// Whether the guard of the block with the first fault is right, asked for or not.
    pub(crate) fault_guard_good: bool,
    /// A data digest did not match.
    pub(crate) damaged: bool,
}

/// Room for payloads that is used again: some of it, since one core may have had many long ones under way at some time.
#[derive(Debug, Default)]
pub(crate) struct SpareRooms(Vec<Vec<u8>>);

/// Rooms that are kept: a deep queue of Compares.
const ROOMS_KEPT: usize = 256;
/// Capacity that each may keep: most Compares are for one block.
const ROOM_KEPT: usize = 8192;

impl SpareRooms {
    pub(crate) fn lend(&mut self) -> Vec<u8> {
        self.0.pop().unwrap_or_default()
    }

    pub(crate) fn take_back(&mut self, mut room: Vec<u8>) {
        room.clear();
        room.shrink_to(ROOM_KEPT);
        if room.capacity() > 0 && self.0.len() < ROOMS_KEPT {
            self.0.push(room);
        }
    }
}

impl Reusable for Ticket {
    fn reset(&mut self) {
        self.stage = Stage::Open;
        self.work = None;
        self.slots.clear();
        // Any ticket may carry a Compare once, so that what they keep would add up.
        self.staged = Vec::new();
        self.arrival = Arrival::default();
        self.turn = None;
        self.change = None;
        self.preempted = false;
        self.reserving = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_rooms_are_used_again_and_neither_many_nor_long() {
        let mut spare = SpareRooms::default();
        let room = Vec::with_capacity(5000);
        let place = room.as_ptr();
        spare.take_back(room);
        let lent = spare.lend();
        assert_eq!(lent.as_ptr(), place);
        for _ in 0..2 * ROOMS_KEPT {
            spare.take_back(Vec::with_capacity(1 << 20));
        }
        assert_eq!(spare.0.len(), ROOMS_KEPT);
        assert!(spare.0.iter().all(|room| room.capacity() <= ROOM_KEPT));
    }

    #[test]
    fn a_ticket_that_has_ended_keeps_no_payload() {
        let mut ticket = Ticket::default();
        ticket.staged.extend_from_slice(&[1; 100_000]);
        ticket.reset();
        assert_eq!(ticket.staged.capacity(), 0);
    }

    #[test]
    fn an_old_name_never_finds_a_new_entry() {
        let mut table: Table<Ticket> = Table::new(1);
        let (old, _) = table.insert::<TicketId>().unwrap();
        assert!(table.insert::<TicketId>().is_none(), "the limit holds");
        table.remove(old);
        table.remove(old);
        let (new, _) = table.insert::<TicketId>().unwrap();
        assert!(table.get(old).is_none());
        assert!(table.get(new).is_some());
        assert_eq!(table.len(), 1);
    }
}
