//! Which slots of a pool are free, and which to hand out next.
//!
//! Slots come in chunks of 512 (2 MiB). One chunk is filled after the other, in the order of its slots, so that what
//! is written one after the other lies one after the other, whatever its place in the volumes is.
//!
//! **Which chunk next**, in this order: one in which nothing is used, the one that has waited longest first; one that
//! was never touched, the lowest first; the emptiest one. A chunk that is left alone while others are filled
//! goes on losing its oldest contents, so the emptiest one has longer free runs than the pool is empty on average:
//! with random overwrites of a pool filled to `u`, a chunk is picked when it is still filled to `x`, where `u` is
//! about `(1 - x) / -ln x`, and the free runs in it are `1 / x` slots long on average: 5 at 50 %, 1.6 at 80 %, 1.1 at 95 %.
//! Small chunks make the difference between them, and with it the runs, a bit larger.
//!
//! **Slots that were never written** may be more expensive to write than others (a file system has to note each of
//! them). So there is a watermark: chunks that reach above it are handed out only when nothing below is free. Whoever writes
//! zeroes ahead moves it on.
//!
//! Every step takes the same time, whatever the size of the pool. Chunks keep their state from when they are first
//! touched on.

#[cfg(test)]
mod tests;

/// Slots of a chunk: the longest run, and more than one write carries.
const SLOTS_PER_CHUNK: u64 = 512;

/// The same, as a count that fits the state of a chunk.
const CHUNK_SLOTS: u16 = 512;

/// Words of a chunk's bitmap.
const WORDS: usize = 8;

/// Lists of partly used chunks: each covers eight slots more or less.
const PARTIAL_LISTS: u16 = 64;

/// No chunk.
const NONE: u32 = u32::MAX;

/// Slots in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Run {
    /// The first slot.
    pub(super) first: u64,
    /// How many.
    pub(super) len: u64,
}

/// The list that a chunk is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum List {
    /// None: nothing in it is free, or it is being filled.
    Out,
    /// Used in part and below the watermark; a higher number has more free slots.
    Partial(u16),
    /// Not used at all, and below the watermark.
    Empty,
    /// Free slots above the watermark.
    Beyond,
}

#[derive(Debug)]
struct Chunk {
    /// A set bit is a free slot.
    map: [u64; WORDS],
    free: u16,
    /// Slots that there are: less than 512 only in the last chunk.
    slots: u16,
    list: List,
    prev: u32,
    next: u32,
}

impl Chunk {
    fn new(slots: u16) -> Chunk {
        let words = std::array::from_fn(|word| {
            let bits = usize::from(slots).saturating_sub(word * 64).min(64);
            if bits == 64 { u64::MAX } else { (1 << bits) - 1 }
        });
        Chunk { map: words, free: slots, slots, list: List::Out, prev: NONE, next: NONE }
    }

    /// The first run of free slots at or after `from`, of at most `wanted`: where it begins, and how long it is.
    fn next_run(&self, from: usize, wanted: usize) -> Option<(usize, usize)> {
        let start = self.scan(from, |word| word)?;
        let end = self.scan(start, |word| !word).unwrap_or(WORDS * 64);
        Some((start, (end - start).min(wanted)))
    }

    /// The first bit at or after `from` that is set in what `of` makes of the map.
    fn scan(&self, from: usize, of: impl Fn(u64) -> u64) -> Option<usize> {
        let mut mask = u64::MAX << (from % 64);
        for (at, word) in self.map.iter().enumerate().skip(from / 64) {
            let bits = of(*word) & mask;
            if bits != 0 {
                return Some(at * 64 + usize::try_from(bits.trailing_zeros()).ok()?);
            }
            mask = u64::MAX;
        }
        None
    }

    fn is_free(&self, bit: usize) -> bool {
        self.map.get(bit / 64).is_some_and(|word| word >> (bit % 64) & 1 == 1)
    }

    fn set_used(&mut self, bit: usize) {
        if let Some(word) = self.map.get_mut(bit / 64) {
            *word &= !(1 << (bit % 64));
            self.free -= 1;
        }
    }

    fn set_free(&mut self, bit: usize) {
        if let Some(word) = self.map.get_mut(bit / 64) {
            *word |= 1 << (bit % 64);
            self.free += 1;
        }
    }
}

/// Both ends of a list.
#[derive(Debug, Clone, Copy)]
struct Ends {
    head: u32,
    tail: u32,
}

const VACANT: Ends = Ends { head: NONE, tail: NONE };

/// The slots of a pool that hold data and pages. See the module.
#[derive(Debug)]
pub(super) struct Space {
    first: u64,
    end: u64,
    /// Those touched so far; the others, behind them, are all free.
    chunks: Vec<Chunk>,
    /// Chunks in all.
    chunks_max: u32,
    /// The first chunk that reaches above the watermark.
    beyond: u32,
    free: u64,
    partial: [Ends; PARTIAL_LISTS as usize],
    /// Which of them have chunks: a bit for each.
    partial_mask: u64,
    empty: Ends,
    /// Chunks in that list.
    empty_chunks: u32,
    untried: Ends,
    /// The chunk that is being filled, and the next slot in it.
    open: u32,
    cursor: usize,
}

impl Space {
    /// The slots from `first` up to `end`, all of them free and none above the watermark. At most 2^40 slots.
    pub(super) fn new(first: u64, end: u64) -> Space {
        let slots = end.saturating_sub(first);
        let chunks_max = u32::try_from(slots.div_ceil(SLOTS_PER_CHUNK)).unwrap_or(NONE - 1);
        Space {
            first,
            end: end.max(first),
            chunks: Vec::new(),
            chunks_max,
            beyond: chunks_max,
            free: slots,
            partial: [VACANT; PARTIAL_LISTS as usize],
            partial_mask: 0,
            empty: VACANT,
            empty_chunks: 0,
            untried: VACANT,
            open: NONE,
            cursor: 0,
        }
    }

    /// The same, with the watermark at slot `written_through`.
    pub(super) fn with_watermark(first: u64, end: u64, written_through: u64) -> Space {
        let mut space = Space::new(first, end);
        space.beyond = space.chunks_below(written_through);
        space
    }

    /// Moves the watermark up to slot `to`; it never moves down. Counts in whole chunks.
    pub(super) fn advance(&mut self, to: u64) {
        let to = self.chunks_below(to);
        let touched = u32::try_from(self.chunks.len()).unwrap_or(NONE);
        let passed = self.beyond..to.min(touched);
        self.beyond = self.beyond.max(to);
        passed.for_each(|number| self.list_again(number));
    }

    /// Slots that can be handed out.
    pub(super) fn free(&self) -> u64 {
        self.free
    }

    /// Slots below the watermark that lie in chunks in which nothing is used.
    pub(super) fn empty_below(&self) -> u64 {
        let untouched = u64::from(self.beyond).saturating_sub(self.chunks.len() as u64);
        (untouched + u64::from(self.empty_chunks)) * SLOTS_PER_CHUNK
    }

    /// Marks a slot as used. `false` if it is used already, or is none of these slots.
    #[must_use]
    pub(super) fn occupy(&mut self, slot: u64) -> bool {
        let Some((number, bit)) = self.place(slot) else { return false };
        while self.touch_next_up_to(number) {}
        let Some(chunk) = self.chunk_mut(number).filter(|chunk| chunk.is_free(bit)) else { return false };
        chunk.set_used(bit);
        self.free -= 1;
        self.list_again(number);
        true
    }

    /// Hands out slots in a row: as many as lie together where the next ones are taken, at most `wanted`. `None` if no
    /// slot is free, or none is wanted.
    pub(super) fn take_run(&mut self, wanted: u64) -> Option<Run> {
        let wanted = usize::try_from(wanted.min(SLOTS_PER_CHUNK)).ok().filter(|wanted| *wanted > 0)?;
        loop {
            let cursor = self.cursor;
            if let Some((bit, len)) = self.chunk(self.open).and_then(|chunk| chunk.next_run(cursor, wanted)) {
                return Some(self.take(bit, len));
            }
            self.open_next()?;
        }
    }

    /// A slot is free again. One that is free already, or is none of these slots, is left alone: that is a defect of the
    /// caller.
    pub(super) fn give_back(&mut self, slot: u64) {
        let place = self.place(slot);
        let used = place.and_then(|(number, bit)| {
            let chunk = self.chunk_mut(number)?;
            (!chunk.is_free(bit)).then(|| chunk.set_free(bit))?;
            Some(number)
        });
        debug_assert!(used.is_some(), "slot {slot} was given back but not handed out");
        if let Some(number) = used {
            self.free += 1;
            self.list_again(number);
        }
    }

    fn take(&mut self, bit: usize, len: usize) -> Run {
        let open = self.open;
        if let Some(chunk) = self.chunk_mut(open) {
            (bit..bit + len).for_each(|bit| chunk.set_used(bit));
        }
        self.cursor = bit + len;
        self.free -= len as u64;
        Run { first: self.first + u64::from(open) * SLOTS_PER_CHUNK + bit as u64, len: len as u64 }
    }

    /// Leaves the chunk that is full and goes on with the one that is best.
    fn open_next(&mut self) -> Option<()> {
        let left = std::mem::replace(&mut self.open, NONE);
        self.list_again(left);
        let best = self.best()?;
        self.open = best;
        self.cursor = 0;
        self.list_again(best);
        Some(())
    }

    fn best(&mut self) -> Option<u32> {
        let touched = u32::try_from(self.chunks.len()).ok()?;
        if self.empty.head != NONE {
            return Some(self.empty.head);
        }
        if touched < self.beyond {
            return self.touch_next_up_to(touched).then_some(touched);
        }
        if let Some(emptiest) = self.partial_mask.checked_ilog2() {
            return self.partial.get(usize::try_from(emptiest).ok()?).map(|ends| ends.head);
        }
        if self.untried.head != NONE {
            return Some(self.untried.head);
        }
        self.touch_next_up_to(touched).then_some(touched)
    }

    /// Touches the next chunk if its number is at most `number`.
    fn touch_next_up_to(&mut self, number: u32) -> bool {
        let Ok(next) = u32::try_from(self.chunks.len()) else { return false };
        if next > number || next >= self.chunks_max {
            return false;
        }
        let begin = self.first + u64::from(next) * SLOTS_PER_CHUNK;
        let slots =
            u16::try_from(self.end.saturating_sub(begin)).map_or(CHUNK_SLOTS, |left| left.min(CHUNK_SLOTS));
        self.chunks.push(Chunk::new(slots));
        self.list_again(next);
        true
    }

    /// The chunk of a slot, and its place there.
    fn place(&self, slot: u64) -> Option<(u32, usize)> {
        let offset = slot.checked_sub(self.first).filter(|_| slot < self.end)?;
        let number = u32::try_from(offset / SLOTS_PER_CHUNK).ok()?;
        Some((number, usize::try_from(offset % SLOTS_PER_CHUNK).ok()?))
    }

    /// Chunks that lie wholly below a slot.
    fn chunks_below(&self, slot: u64) -> u32 {
        if slot >= self.end {
            return self.chunks_max;
        }
        u32::try_from(slot.saturating_sub(self.first) / SLOTS_PER_CHUNK).unwrap_or(self.chunks_max)
    }

    fn chunk(&self, number: u32) -> Option<&Chunk> {
        // `NONE` is beyond every chunk, so the ends of lists need no case of their own.
        self.chunks.get(usize::try_from(number).ok()?)
    }

    fn chunk_mut(&mut self, number: u32) -> Option<&mut Chunk> {
        self.chunks.get_mut(usize::try_from(number).ok()?)
    }

    /// Puts a chunk into the list where it belongs.
    fn list_again(&mut self, number: u32) {
        let Some(chunk) = self.chunk(number) else { return };
        let list = match chunk.free {
            0 => List::Out,
            _ if number == self.open => List::Out,
            _ if number >= self.beyond => List::Beyond,
            free if free == chunk.slots => List::Empty,
            free => List::Partial((free - 1) * PARTIAL_LISTS / CHUNK_SLOTS),
        };
        let Chunk { list: from, prev, next, .. } = *chunk;
        if from == list {
            return;
        }
        self.unlink(from, prev, next);
        self.empty_chunks += u32::from(list == List::Empty);
        self.empty_chunks -= u32::from(from == List::Empty);
        let last = self.ends_mut(list).map_or(NONE, |ends| {
            let last = std::mem::replace(&mut ends.tail, number);
            if last == NONE {
                ends.head = number;
            }
            last
        });
        if let Some(last) = self.chunk_mut(last) {
            last.next = number;
        }
        if let Some(chunk) = self.chunk_mut(number) {
            (chunk.list, chunk.prev, chunk.next) = (list, last, NONE);
        }
        self.note_vacancy(from);
        self.note_vacancy(list);
    }

    fn unlink(&mut self, from: List, prev: u32, next: u32) {
        match self.chunk_mut(prev) {
            Some(prev) => prev.next = next,
            None => {
                if let Some(ends) = self.ends_mut(from) {
                    ends.head = next;
                }
            }
        }
        match self.chunk_mut(next) {
            Some(next) => next.prev = prev,
            None => {
                if let Some(ends) = self.ends_mut(from) {
                    ends.tail = prev;
                }
            }
        }
    }

    fn note_vacancy(&mut self, list: List) {
        if let List::Partial(class) = list
            && let Some(ends) = self.partial.get(usize::from(class))
        {
            let bit = 1 << class;
            self.partial_mask =
                if ends.head == NONE { self.partial_mask & !bit } else { self.partial_mask | bit };
        }
    }

    fn ends_mut(&mut self, list: List) -> Option<&mut Ends> {
        match list {
            List::Out => None,
            List::Partial(class) => self.partial.get_mut(usize::from(class)),
            List::Empty => Some(&mut self.empty),
            List::Beyond => Some(&mut self.untried),
        }
    }
}

#[cfg(test)]
impl Space {
    /// The used slots. Asserts that counts and lists are right.
    fn audit(&self) -> Vec<u64> {
        let mut used = Vec::new();
        let mut free = (u64::from(self.chunks_max) - self.chunks.len() as u64) * SLOTS_PER_CHUNK;
        if (self.chunks.len() as u64) < u64::from(self.chunks_max) {
            free -= u64::from(self.chunks_max) * SLOTS_PER_CHUNK - (self.end - self.first);
        }
        for (number, chunk) in (0_u32..).zip(&self.chunks) {
            let bits = (0..usize::from(chunk.slots)).filter(|bit| !chunk.is_free(*bit));
            let first = self.first + u64::from(number) * SLOTS_PER_CHUNK;
            let before = used.len();
            used.extend(bits.map(|bit| first + bit as u64));
            assert_eq!(usize::from(chunk.free), usize::from(chunk.slots) - (used.len() - before));
            assert!((usize::from(chunk.slots)..512).all(|bit| !chunk.is_free(bit)));
            free += u64::from(chunk.free);
            let in_a_list = chunk.list != List::Out;
            assert_eq!(in_a_list, chunk.free > 0 && number != self.open, "chunk {number}");
            assert_eq!(chunk.list == List::Beyond, in_a_list && number >= self.beyond, "chunk {number}");
        }
        assert_eq!(free, self.free);
        let empty = self.chunks.iter().filter(|chunk| chunk.list == List::Empty).count();
        assert_eq!(usize::try_from(self.empty_chunks).unwrap(), empty);
        used
    }
}
