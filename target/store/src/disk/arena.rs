//! Memory for payloads under way: frames of 4 KiB in one piece of memory that the reactor sends from and does disk I/O on.
//!
//! A frame holds one block of 4096 bytes, or eight of 512 that lie as in their cell. Frames are lent to commands by block
//! ([`SlotRef`]s) and to the pool itself for journal blocks, map pages and old contents.
//!
//! They are handed out large page by large page, in rising order within one, so that what is written or read together mostly
//! lies together, for the device as well. The emptiest page is next, and of several the lowest: so the pages that are in use
//! anyway are used again, while the processor has them at hand, and memory that was never needed is never touched.

use holdfast_block::{BlockRecord, SlotRef};

use super::format::{SECTORS_MAX, SLOT_LEN};
use crate::PoolMemory;

/// Number of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub(super) struct Frame(u32);

impl Frame {
    /// Where it begins in the memory.
    pub(super) fn offset(self) -> usize {
        self.index() * SLOT_LEN
    }

    /// The frame at an offset that came from [`Self::offset`].
    pub(super) fn at(offset: usize) -> Frame {
        Frame(u32::try_from(offset / SLOT_LEN).unwrap_or(u32::MAX))
    }

    /// The reference to a block in it; `sector` is 0 for blocks of 4096 bytes.
    pub(super) fn block(self, sector: usize) -> SlotRef {
        SlotRef::from_raw(u64::from(self.0) * SECTORS_MAX as u64 + sector as u64 + 1)
    }

    fn index(self) -> usize {
        // Lossless: this crate needs pointers of at least 32 bits.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

/// The frame and sector behind a reference.
pub(super) fn place_of(slot: SlotRef) -> Option<(Frame, usize)> {
    let number = slot.raw().checked_sub(1)?;
    let frame = u32::try_from(number / SECTORS_MAX as u64).ok()?;
    Some((Frame(frame), usize::try_from(number % SECTORS_MAX as u64).ok()?))
}

/// Blocks of a frame behind the first.
const SMALL_RECORDS: usize = SECTORS_MAX - 1;

/// Words of the map of free frames that stand for a large page of 2 MiB.
const PAGE_WORDS: usize = 8;

/// The frames of a pool.
#[derive(Debug)]
pub(super) struct Arena<A> {
    memory: A,
    /// A set bit is a free frame.
    free_map: Vec<u64>,
    free: usize,
    /// Free frames of each large page.
    page_free: Vec<u16>,
    /// The large page that frames are taken from.
    page: usize,
    /// The word of `free_map` where the search in it goes on.
    next: usize,
    /// How many blocks of each frame are lent.
    lent: Vec<u8>,
    /// What is kept beside the first block of each frame.
    records: Vec<BlockRecord>,
    /// The same for the others, seven to a frame, once there are volumes with small blocks.
    small_records: Vec<BlockRecord>,
}

impl<A: PoolMemory> Arena<A> {
    /// All frames that fit into the memory; all free.
    pub(super) fn new(memory: A) -> Arena<A> {
        let frames = memory.len() / SLOT_LEN;
        let mut free_map = vec![u64::MAX; frames.div_ceil(64)];
        if let Some(last) = free_map.last_mut().filter(|_| !frames.is_multiple_of(64)) {
            *last = (1 << (frames % 64)) - 1;
        }
        let bits = |words: &[u64]| words.iter().map(|word| word.count_ones()).sum::<u32>();
        let in_page = |words: &[u64]| u16::try_from(bits(words)).unwrap_or(0);
        Arena {
            memory,
            page_free: free_map.chunks(PAGE_WORDS).map(in_page).collect(),
            free_map,
            free: frames,
            page: 0,
            next: 0,
            lent: vec![0; frames],
            records: vec![BlockRecord::hole(); frames],
            small_records: Vec::new(),
        }
    }

    pub(super) fn memory_mut(&mut self) -> &mut A {
        &mut self.memory
    }

    pub(super) fn memory(&self) -> &A {
        &self.memory
    }

    /// Frames that can be taken.
    pub(super) fn free(&self) -> usize {
        self.free
    }

    /// A frame that nobody uses.
    pub(super) fn take(&mut self) -> Option<Frame> {
        if let Some(frame) = self.take_from_page() {
            return Some(frame);
        }
        let emptiest = self.page_free.iter().enumerate().rev().max_by_key(|(_, free)| **free);
        self.page = emptiest.filter(|(_, free)| **free > 0)?.0;
        self.next = self.page * PAGE_WORDS;
        self.take_from_page()
    }

    /// The next frame of the page that frames are taken from.
    fn take_from_page(&mut self) -> Option<Frame> {
        let end = self.free_map.len().min((self.page + 1) * PAGE_WORDS);
        let words = self.free_map.get_mut(self.next..end)?;
        let (at, word) = (self.next..).zip(words).find(|(_, word)| **word != 0)?;
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        self.next = at;
        self.free -= 1;
        if let Some(free) = self.page_free.get_mut(self.page) {
            *free -= 1;
        }
        Some(Frame(u32::try_from(at * 64).unwrap_or(u32::MAX) + bit))
    }

    /// Takes a frame back.
    pub(super) fn give_back(&mut self, frame: Frame) {
        let (at, bit) = (frame.index() / 64, frame.0 % 64);
        let Some(word) = self.free_map.get_mut(at) else { return };
        debug_assert!(*word & (1 << bit) == 0, "{frame:?} is given back twice");
        if *word & (1 << bit) == 0 {
            *word |= 1 << bit;
            self.free += 1;
            if let Some(free) = self.page_free.get_mut(at / PAGE_WORDS) {
                *free += 1;
            }
        }
    }

    /// Lends one more block of a frame.
    pub(super) fn lend(&mut self, frame: Frame, sector: usize) -> SlotRef {
        if let Some(lent) = self.lent.get_mut(frame.index()) {
            *lent += 1;
        }
        frame.block(sector)
    }

    /// Takes a lent block back, and the frame with its last one.
    pub(super) fn take_back(&mut self, slot: SlotRef) {
        let Some((frame, _)) = place_of(slot) else { return };
        let Some(lent) = self.lent.get_mut(frame.index()).filter(|lent| **lent > 0) else {
            debug_assert!(false, "{slot:?} is not lent");
            return;
        };
        *lent -= 1;
        if *lent == 0 {
            self.give_back(frame);
        }
    }

    /// The contents of a frame.
    pub(super) fn frame(&self, frame: Frame) -> &[u8; SLOT_LEN] {
        const NOTHING: [u8; SLOT_LEN] = [0; SLOT_LEN];
        let bytes = self.memory.slice(frame.offset(), SLOT_LEN).and_then(|bytes| bytes.first_chunk());
        debug_assert!(bytes.is_some(), "{frame:?} is not in the arena");
        bytes.unwrap_or(&NOTHING)
    }

    /// The same, to be written.
    pub(super) fn frame_mut(&mut self, frame: Frame) -> Option<&mut [u8; SLOT_LEN]> {
        self.memory.slice_mut(frame.offset(), SLOT_LEN)?.first_chunk_mut()
    }

    /// Copies bytes from one frame to the same place in another.
    pub(super) fn copy(&mut self, from: Frame, to: Frame, start: usize, len: usize) {
        let mut room = [0; SLOT_LEN];
        let bytes = self.memory.slice(from.offset() + start, len);
        if let Some((bytes, room)) = bytes.zip(room.get_mut(..len)) {
            room.copy_from_slice(bytes);
        }
        let to = self.memory.slice_mut(to.offset() + start, len);
        if let Some((to, bytes)) = to.zip(room.get(..len)) {
            to.copy_from_slice(bytes);
        }
    }

    /// Zeroes bytes of a frame.
    pub(super) fn zero(&mut self, frame: Frame, start: usize, len: usize) {
        if let Some(bytes) = self.memory.slice_mut(frame.offset() + start, len) {
            bytes.fill(0);
        }
    }

    /// Frames in all.
    pub(super) fn len(&self) -> usize {
        self.lent.len()
    }

    /// The bytes of one block.
    pub(super) fn block(&self, slot: SlotRef, block_len: usize) -> Option<&[u8]> {
        let (frame, sector) = place_of(slot)?;
        self.memory.slice(frame.offset() + sector * block_len, block_len)
    }

    /// The same, to be written.
    pub(super) fn block_mut(&mut self, slot: SlotRef, block_len: usize) -> Option<&mut [u8]> {
        let (frame, sector) = place_of(slot)?;
        self.memory.slice_mut(frame.offset() + sector * block_len, block_len)
    }

    /// Where a block's bytes begin in the memory.
    pub(super) fn block_offset(&self, slot: SlotRef, block_len: usize) -> Option<usize> {
        let (frame, sector) = place_of(slot)?;
        Some(frame.offset() + sector * block_len)
    }

    /// What is kept beside a block.
    pub(super) fn record(&self, slot: SlotRef) -> BlockRecord {
        let record = place_of(slot).and_then(|(frame, sector)| match sector.checked_sub(1) {
            None => self.records.get(frame.index()),
            Some(after) => self.small_records.get(frame.index() * SMALL_RECORDS + after),
        });
        record.copied().unwrap_or_else(BlockRecord::hole)
    }

    /// There is a volume with small blocks.
    pub(super) fn keep_small_records(&mut self) {
        self.small_records.resize(self.len() * SMALL_RECORDS, BlockRecord::hole());
    }

    pub(super) fn set_record(&mut self, slot: SlotRef, record: BlockRecord) {
        let place = place_of(slot).and_then(|(frame, sector)| match sector.checked_sub(1) {
            None => self.records.get_mut(frame.index()),
            Some(after) => self.small_records.get_mut(frame.index() * SMALL_RECORDS + after),
        });
        debug_assert!(place.is_some(), "{slot:?} has no record");
        if let Some(place) = place {
            *place = record;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_in_rising_order_and_come_back() {
        let mut arena = Arena::new(vec![0_u8; 70 * SLOT_LEN + 100]);
        let all: Vec<Frame> = std::iter::from_fn(|| arena.take()).collect();
        assert_eq!(all, (0..70).map(Frame).collect::<Vec<_>>());
        assert_eq!((arena.take(), arena.free()), (None, 0));
        arena.give_back(Frame(5));
        arena.give_back(Frame(69));
        assert_eq!((arena.take(), arena.take(), arena.take()), (Some(Frame(69)), Some(Frame(5)), None));
    }

    #[test]
    fn memory_that_was_in_use_is_used_again_before_any_other() {
        let mut arena = Arena::new(vec![0_u8; 8 * 512 * SLOT_LEN]);
        let mut held = std::collections::VecDeque::new();
        let mut breaks = 0;
        for _ in 0..10_000 {
            let frame = arena.take().unwrap();
            assert!(frame.0 < 3 * 512, "300 in use lie in one page and the ends of two, not in {frame:?}");
            breaks += u32::from(held.back().is_some_and(|last: &Frame| last.0 + 1 != frame.0));
            held.push_back(frame);
            if held.len() > 300 {
                arena.give_back(held.pop_front().unwrap());
            }
        }
        assert!(breaks <= 10_000 / 256, "they lie together: {breaks} breaks");
    }

    #[test]
    fn a_frame_comes_back_with_the_last_of_its_blocks() {
        let mut arena = Arena::new(vec![0_u8; SLOT_LEN]);
        let frame = arena.take().unwrap();
        let blocks = [3, 4].map(|sector| arena.lend(frame, sector));
        arena.block_mut(blocks[1], 512).unwrap().fill(7);
        assert_eq!(arena.frame(frame)[4 * 512 - 1..4 * 512 + 1], [0, 7]);
        arena.take_back(blocks[0]);
        assert_eq!(arena.free(), 0);
        arena.take_back(blocks[1]);
        assert_eq!(arena.free(), 1);
        assert_eq!(place_of(blocks[1]), Some((frame, 4)));
    }
}
