//! Slots of one block size: which are free, who holds the others, and which to hand out next.
//!
//! Slots come in chunks of 512. A volume fills one chunk after the other through its [`Cursor`], so that
//! blocks written one after the other lie one after the other: reads and sends of them merge.
//!
//! **Which chunk next**, in this order: the emptiest partly filled one, if a quarter of it is free; an empty
//! one; the emptiest partly filled one at all; one that another volume's cursor is in. So an untouched chunk
//! is touched only when no other chunk is a quarter free: memory in use stays below 4/3 of the most slots that
//! were ever in use at once, plus one chunk a volume. Runs get short when a pool is nearly full.
//!
//! Empty chunks give their memory back, all but a few that are kept to be filled again at once.
//!
//! States live in ordinary memory: after a kill, nothing is reserved or pinned any more.

use std::ops::Range;

use holdfast_block::SlotRef;

use super::lists::{ChunkLists, List, PARTIAL_LISTS};
use super::volume::VolumeIndex;

/// Slots in a chunk: 256 KiB of 512-byte blocks, 2 MiB of 4096-byte ones, and 16 KiB of records, all of them
/// whole pages, so that an empty chunk's memory can be given back.
pub(super) const SLOTS_PER_CHUNK: usize = 512;

/// Words of a chunk's bitmap.
const WORDS: usize = SLOTS_PER_CHUNK / 64;

/// Empty chunks of one size whose memory is kept: overwriting in sequence empties chunks at the rate at which
/// it fills others, and giving back and faulting in again costs more than the copy.
const WARM_CHUNKS_KEPT: usize = 4;

/// Partly filled chunks from this list up are filled before an untouched one is: a quarter free.
const WORTH_FILLING: u8 = PARTIAL_LISTS / 4;

/// Number of a slot within its area.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct SlotIndex(pub(super) usize);

impl SlotIndex {
    /// The slot behind a reference or a map entry; `None` for a hole.
    pub(super) fn from_raw(raw: u64) -> Option<SlotIndex> {
        usize::try_from(raw.checked_sub(1)?).ok().map(SlotIndex)
    }

    /// Its reference, which is also its map entry: never zero.
    pub(super) fn raw(self) -> u64 {
        self.0 as u64 + 1
    }

    fn chunk(self) -> usize {
        self.0 / SLOTS_PER_CHUNK
    }

    fn bit(self) -> usize {
        self.0 % SLOTS_PER_CHUNK
    }
}

/// What becomes of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Nobody's.
    Free,
    /// Being filled.
    Reserved,
    /// Being published, in the middle of one call.
    Claimed,
    /// In a volume's map.
    Live,
    /// No longer in the map, but pinned.
    Superseded,
}

/// The state of one slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotState {
    pub(super) pins: u32,
    pub(super) owner: VolumeIndex,
    pub(super) phase: Phase,
    /// Its record says that it cannot be read: kept here, where every read looks anyway.
    pub(super) marked: bool,
}

impl SlotState {
    fn new(owner: VolumeIndex, phase: Phase) -> Self {
        SlotState { pins: 0, owner, phase, marked: false }
    }
}

/// Where a volume takes its next slots.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Cursor {
    chunk: Option<usize>,
    bit: usize,
}

#[derive(Debug)]
struct Chunk {
    /// A set bit is a free slot.
    free_map: [u64; WORDS],
    free: usize,
    /// Cursors in this chunk.
    cursors: u32,
    /// Whether it may occupy memory.
    warm: bool,
    states: Box<[SlotState]>,
}

impl Chunk {
    fn new() -> Self {
        let free = SlotState::new(VolumeIndex::FIRST, Phase::Free);
        Chunk {
            free_map: [u64::MAX; WORDS],
            free: SLOTS_PER_CHUNK,
            cursors: 0,
            warm: true,
            states: vec![free; SLOTS_PER_CHUNK].into_boxed_slice(),
        }
    }

    fn next_free(&self, from: usize) -> Option<usize> {
        let mut mask = u64::MAX.checked_shl(u32::try_from(from % 64).ok()?)?;
        for word in from / 64..WORDS {
            let free = self.free_map.get(word)? & mask;
            if free != 0 {
                return Some(word * 64 + usize::try_from(free.trailing_zeros()).ok()?);
            }
            mask = u64::MAX;
        }
        None
    }

    fn set(&mut self, bit: usize, state: SlotState) {
        let (Some(place), Some(word)) = (self.states.get_mut(bit), self.free_map.get_mut(bit / 64)) else {
            return;
        };
        let mask = 1u64 << (bit % 64);
        match (place.phase == Phase::Free, state.phase == Phase::Free) {
            (true, false) => self.free -= 1,
            (false, true) => self.free += 1,
            _ => {}
        }
        if state.phase == Phase::Free {
            *word |= mask
        } else {
            *word &= !mask
        }
        *place = state;
    }

    fn list(&self) -> Option<List> {
        match self.free {
            0 => None,
            _ if self.cursors > 0 => Some(List::Open),
            SLOTS_PER_CHUNK if self.warm => Some(List::Warm),
            SLOTS_PER_CHUNK => Some(List::Cold),
            free => {
                let eighth = (free - 1) * usize::from(PARTIAL_LISTS) / SLOTS_PER_CHUNK;
                Some(List::Partial(u8::try_from(eighth).unwrap_or(PARTIAL_LISTS - 1)))
            }
        }
    }
}

/// All slots of one block size.
#[derive(Debug)]
pub(super) struct SlotAllocator {
    /// Those touched so far; the rest of the area is as it was made.
    chunks: Vec<Chunk>,
    lists: ChunkLists,
    chunks_max: usize,
    free_slots: usize,
}

impl SlotAllocator {
    /// An area of `chunks_max` chunks, of which the first `touched` may occupy memory. All slots are free.
    pub(super) fn new(chunks_max: usize, touched: usize) -> Self {
        let mut allocator = SlotAllocator {
            chunks: Vec::new(),
            lists: ChunkLists::new(),
            chunks_max,
            free_slots: chunks_max.saturating_mul(SLOTS_PER_CHUNK),
        };
        for _ in 0..touched.min(chunks_max) {
            allocator.touch_next();
        }
        allocator
    }

    /// Chunks that were ever touched, counted from the area's start.
    pub(super) fn touched(&self) -> usize {
        self.chunks.len()
    }

    /// Slots that can be taken.
    pub(super) fn free_slots(&self) -> usize {
        self.free_slots
    }

    /// Reserves `count` slots for `owner`, all or none, in runs as long as they come.
    pub(super) fn take(
        &mut self,
        cursor: &mut Cursor,
        owner: VolumeIndex,
        count: usize,
        out: &mut Vec<SlotRef>,
    ) -> bool {
        if count > self.free_slots {
            return false;
        }
        let mut left = count;
        while left > 0 {
            let Some(chunk) = cursor.chunk.or_else(|| self.open(cursor)) else {
                debug_assert!(false, "free slots are counted but not found");
                return false;
            };
            left -= self.take_from(chunk, cursor, owner, left, out);
            if left > 0 {
                self.close(cursor);
            }
        }
        true
    }

    fn take_from(
        &mut self,
        number: usize,
        cursor: &mut Cursor,
        owner: VolumeIndex,
        wanted: usize,
        out: &mut Vec<SlotRef>,
    ) -> usize {
        let Some(chunk) = self.chunks.get_mut(number) else { return 0 };
        let mut taken = 0;
        while taken < wanted {
            let Some(bit) = chunk.next_free(cursor.bit) else { break };
            chunk.set(bit, SlotState::new(owner, Phase::Reserved));
            out.push(SlotRef::from_raw(SlotIndex(number * SLOTS_PER_CHUNK + bit).raw()));
            cursor.bit = bit + 1;
            taken += 1;
        }
        chunk.warm |= taken > 0;
        self.free_slots -= taken;
        self.relink(number);
        taken
    }

    /// Sets a cursor into the chunk that is best filled next.
    fn open(&mut self, cursor: &mut Cursor) -> Option<usize> {
        let untouched = self.chunks.len() < self.chunks_max;
        let best = self
            .partial(WORTH_FILLING..PARTIAL_LISTS)
            .or_else(|| self.listed(List::Warm))
            .or_else(|| self.listed(List::Cold))
            .or_else(|| untouched.then(|| self.touch_next()))
            .or_else(|| self.partial(0..WORTH_FILLING))
            .or_else(|| self.listed(List::Open))?;
        self.chunks.get_mut(best)?.cursors += 1;
        *cursor = Cursor { chunk: Some(best), bit: 0 };
        self.relink(best);
        Some(best)
    }

    /// Takes a cursor out of its chunk.
    pub(super) fn close(&mut self, cursor: &mut Cursor) {
        if let Some(number) = cursor.chunk.take() {
            if let Some(chunk) = self.chunks.get_mut(number) {
                chunk.cursors -= 1;
            }
            self.relink(number);
        }
        cursor.bit = 0;
    }

    /// The state of a slot; `None` beyond what was ever touched.
    pub(super) fn state(&self, slot: SlotIndex) -> Option<SlotState> {
        self.chunks.get(slot.chunk())?.states.get(slot.bit()).copied()
    }

    /// Where that state lies; nothing if nowhere.
    pub(super) fn state_place(&self, slot: SlotIndex) -> &[SlotState] {
        let place = self.chunks.get(slot.chunk()).and_then(|chunk| chunk.states.get(slot.bit()));
        place.map_or(&[], std::slice::from_ref)
    }

    /// The slot that a cursor will give next, if it is in the same chunk.
    pub(super) fn next(&self, cursor: &Cursor) -> Option<SlotIndex> {
        let number = cursor.chunk?;
        let bit = self.chunks.get(number)?.next_free(cursor.bit)?;
        Some(SlotIndex(number * SLOTS_PER_CHUNK + bit))
    }

    /// The same, to change pins or to go from one phase of use to another; [`Self::release`] makes it free.
    pub(super) fn state_mut(&mut self, slot: SlotIndex) -> Option<&mut SlotState> {
        self.chunks.get_mut(slot.chunk())?.states.get_mut(slot.bit())
    }

    /// Marks a free slot as live. `false` if there is none such.
    pub(super) fn occupy(&mut self, slot: SlotIndex, owner: VolumeIndex) -> bool {
        let (Some(state), Some(chunk)) = (self.state(slot), self.chunks.get_mut(slot.chunk())) else {
            return false;
        };
        if state.phase != Phase::Free {
            return false;
        }
        chunk.set(slot.bit(), SlotState::new(owner, Phase::Live));
        self.free_slots -= 1;
        self.relink(slot.chunk());
        true
    }

    /// Frees a slot that is in use and has no pins.
    pub(super) fn release(&mut self, slot: SlotIndex) {
        let Some(chunk) = self.chunks.get_mut(slot.chunk()) else { return };
        let Some(state) = chunk.states.get(slot.bit()).copied() else { return };
        debug_assert!(state.phase != Phase::Free && state.pins == 0, "slot {slot:?} freed while {state:?}");
        if state.phase != Phase::Free {
            chunk.set(slot.bit(), SlotState::new(state.owner, Phase::Free));
            self.free_slots += 1;
            self.relink(slot.chunk());
        }
    }

    /// An empty chunk whose memory should be given back, by its number.
    pub(super) fn surplus(&self) -> Option<usize> {
        let first = self.lists.first(List::Warm).filter(|_| self.lists.len(List::Warm) > WARM_CHUNKS_KEPT)?;
        usize::try_from(first).ok()
    }

    /// The memory of an empty chunk is given back.
    pub(super) fn cooled(&mut self, number: usize) {
        if let Some(chunk) = self.chunks.get_mut(number) {
            debug_assert!(chunk.free == SLOTS_PER_CHUNK, "chunk {number} in use was emptied");
            chunk.warm = false;
        }
        self.relink(number);
    }

    fn listed(&self, list: List) -> Option<usize> {
        self.lists.first(list).and_then(|chunk| usize::try_from(chunk).ok())
    }

    /// The emptiest of the partly filled chunks in these lists.
    fn partial(&self, eighths: Range<u8>) -> Option<usize> {
        eighths.rev().find_map(|eighth| self.listed(List::Partial(eighth)))
    }

    fn touch_next(&mut self) -> usize {
        let number = self.chunks.len();
        self.chunks.push(Chunk::new());
        self.lists.extend();
        self.relink(number);
        number
    }

    fn relink(&mut self, number: usize) {
        if let (Some(chunk), Ok(link)) = (self.chunks.get(number), u32::try_from(number)) {
            self.lists.place(link, chunk.list());
        }
    }
}

#[cfg(test)]
impl SlotAllocator {
    /// Asserts that the counts are right; returns the slots in use.
    pub(super) fn audit(&self) -> Vec<(SlotIndex, SlotState)> {
        let mut used = Vec::new();
        for (number, chunk) in self.chunks.iter().enumerate() {
            let mut free = 0;
            for (bit, state) in chunk.states.iter().enumerate() {
                assert_eq!(chunk.free_map[bit / 64] >> (bit % 64) & 1 == 1, state.phase == Phase::Free);
                if state.phase == Phase::Free {
                    assert_eq!(state.pins, 0);
                    free += 1;
                } else {
                    used.push((SlotIndex(number * SLOTS_PER_CHUNK + bit), *state));
                }
            }
            assert_eq!(chunk.free, free);
        }
        assert_eq!(self.free_slots + used.len(), self.chunks_max * SLOTS_PER_CHUNK, "slots have leaked");
        used
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn raws(slots: &[SlotRef]) -> Vec<u64> {
        slots.iter().map(|slot| slot.raw()).collect()
    }

    fn take(allocator: &mut SlotAllocator, cursor: &mut Cursor, count: usize) -> Vec<SlotRef> {
        let mut slots = Vec::new();
        assert!(allocator.take(cursor, VolumeIndex::FIRST, count, &mut slots));
        slots
    }

    #[test]
    fn slots_taken_together_and_one_after_the_other_are_contiguous() {
        let mut allocator = SlotAllocator::new(4, 0);
        let (mut first, mut second) = (Cursor::default(), Cursor::default());
        assert_eq!(raws(&take(&mut allocator, &mut first, 100)), (1..=100).collect::<Vec<_>>());
        assert_eq!(raws(&take(&mut allocator, &mut second, 8)), (513..=520).collect::<Vec<_>>());
        assert_eq!(raws(&take(&mut allocator, &mut first, 100)), (101..=200).collect::<Vec<_>>());
    }

    #[test]
    fn every_slot_can_be_taken_and_then_none() {
        let mut allocator = SlotAllocator::new(3, 0);
        let (mut first, mut second) = (Cursor::default(), Cursor::default());
        take(&mut allocator, &mut second, 1);
        let slots = take(&mut allocator, &mut first, 3 * SLOTS_PER_CHUNK - 1);
        assert_eq!(slots.iter().collect::<HashSet<_>>().len(), slots.len());
        assert_eq!(allocator.free_slots(), 0);
        let mut none = Vec::new();
        assert!(!allocator.take(&mut second, VolumeIndex::FIRST, 1, &mut none));
        assert!(none.is_empty());
    }

    #[test]
    fn chunks_a_quarter_free_are_filled_before_untouched_ones() {
        let mut allocator = SlotAllocator::new(8, 0);
        let mut cursor = Cursor::default();
        let slots = take(&mut allocator, &mut cursor, 2 * SLOTS_PER_CHUNK);
        for slot in slots.iter().take(SLOTS_PER_CHUNK).step_by(3) {
            allocator.release(SlotIndex::from_raw(slot.raw()).unwrap());
        }
        take(&mut allocator, &mut cursor, SLOTS_PER_CHUNK / 3);
        assert_eq!(allocator.touched(), 2);
        for slot in slots.iter().skip(SLOTS_PER_CHUNK).step_by(8) {
            allocator.release(SlotIndex::from_raw(slot.raw()).unwrap());
        }
        take(&mut allocator, &mut cursor, 2);
        assert_eq!(allocator.touched(), 3, "an eighth free is not worth it while there are untouched ones");
    }

    #[test]
    fn only_surplus_empty_chunks_are_given_back() {
        let mut allocator = SlotAllocator::new(8, 0);
        let mut cursor = Cursor::default();
        let slots = take(&mut allocator, &mut cursor, 8 * SLOTS_PER_CHUNK);
        assert_eq!(allocator.surplus(), None);
        for slot in &slots {
            allocator.release(SlotIndex::from_raw(slot.raw()).unwrap());
        }
        allocator.close(&mut cursor);
        let mut cooled = 0;
        while let Some(chunk) = allocator.surplus() {
            allocator.cooled(chunk);
            cooled += 1;
        }
        assert_eq!(cooled, 8 - WARM_CHUNKS_KEPT);
        assert_eq!(take(&mut allocator, &mut cursor, 8 * SLOTS_PER_CHUNK).len(), slots.len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn no_slot_is_handed_out_twice_and_the_count_is_exact(
            steps in prop::collection::vec((0usize..3, 1usize..700, any::<u16>()), 1..120)
        ) {
            let chunks = 5;
            let mut allocator = SlotAllocator::new(chunks, 0);
            let mut cursors = [Cursor::default(), Cursor::default()];
            let mut held: Vec<SlotRef> = Vec::new();
            for (kind, amount, pick) in steps {
                if kind < 2 {
                    let mut slots = Vec::new();
                    let room = chunks * SLOTS_PER_CHUNK - held.len();
                    let taken = allocator.take(&mut cursors[kind], VolumeIndex::FIRST, amount, &mut slots);
                    prop_assert_eq!(taken, amount <= room);
                    prop_assert_eq!(slots.len(), if taken { amount } else { 0 });
                    held.extend(slots);
                    prop_assert_eq!(held.iter().collect::<HashSet<_>>().len(), held.len());
                } else {
                    for _ in 0..amount.min(held.len()) {
                        let slot = held.swap_remove(usize::from(pick) % held.len());
                        allocator.release(SlotIndex::from_raw(slot.raw()).unwrap());
                    }
                    while let Some(chunk) = allocator.surplus() {
                        let base = chunk * SLOTS_PER_CHUNK;
                        let inside = |slot: &SlotRef| SlotIndex::from_raw(slot.raw()).unwrap().0 / SLOTS_PER_CHUNK
                            == base / SLOTS_PER_CHUNK;
                        prop_assert!(!held.iter().any(inside));
                        allocator.cooled(chunk);
                    }
                }
                prop_assert_eq!(allocator.free_slots(), chunks * SLOTS_PER_CHUNK - held.len());
            }
        }
    }
}
