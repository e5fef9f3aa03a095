//! How much a pool can hold, and what is kept back so that a full one can still be changed.
//!
//! A cell takes a slot. A page of the map takes two: the next checkpoint writes it anew before the old one is free.
//! Beyond these some slots are kept for changes under way, which take fresh slots before the old ones come back.
//!
//! What a deallocation has emptied counts until that is durable: a power cut may bring it back, and leave what was written since.

use std::collections::VecDeque;

/// Slots kept for changes under way, at most: several of the longest writes.
const RESERVE_MAX: u64 = 1024;

/// The same, at least: the longest write, which may begin in the middle of a cell.
const RESERVE_MIN: u64 = 288;

/// The share of the pool that is kept in between.
const RESERVE_SHARE: u64 = 16;

/// Cells of a leaf of the shape that packs them best: what capacity is told for.
const CELLS_PER_LEAF: u64 = 127;

/// What a write adds to a pool, at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Growth {
    /// Cells that were holes.
    pub(super) cells: u64,
    /// Pages that were not there.
    pub(super) pages: u64,
}

/// The accounts of a pool.
#[derive(Debug)]
pub(super) struct Room {
    /// Slots for data and pages.
    slots: u64,
    /// Slots for changes under way and tables.
    reserve: u64,
    /// Of those, slots for both copies of the tables' pages.
    tables: u64,
    /// What writes add that are not applied yet. Those that share a page have each promised it.
    promised: Growth,
    /// What was emptied by journal blocks that are not durable yet, by their numbers.
    emptied: VecDeque<(u64, Growth)>,
    /// All of that.
    emptied_in_all: Growth,
    /// Writes that wait until it is known what those leave.
    undecided: usize,
}

impl Room {
    /// The accounts of a pool with so many slots behind its journal, and tables of at most so many pages.
    pub(super) fn new(slots: u64, table_pages: u64) -> Room {
        // Both copies, before and after a checkpoint.
        let tables = 4 * table_pages;
        Room {
            slots,
            reserve: (slots / RESERVE_SHARE).clamp(RESERVE_MIN, RESERVE_MAX) + tables,
            tables,
            promised: Growth::default(),
            emptied: VecDeque::new(),
            emptied_in_all: Growth::default(),
            undecided: 0,
        }
    }

    /// Cells that the pool can hold if they lie side by side in their volumes. Scattered ones need more pages.
    pub(super) fn capacity(&self) -> u64 {
        let slots = self.slots.saturating_sub(self.reserve);
        let leaves = slots / CELLS_PER_LEAF + 1;
        // Above 254 leaves there is another page, and so on.
        let pages = leaves + leaves / 200 + 2;
        slots.saturating_sub(2 * pages)
    }

    /// Whether a write fits that adds so much, to so many cells and pages.
    pub(super) fn admits(&self, live: u64, pages: u64, more: Growth) -> bool {
        if more.cells == 0 {
            return true;
        }
        let sum = |parts: &[u64]| parts.iter().fold(0_u64, |sum, part| sum.saturating_add(*part));
        let emptied = self.emptied_in_all;
        let pages = sum(&[pages, self.promised.pages, emptied.pages, more.pages]).saturating_mul(2);
        sum(&[live, self.promised.cells, emptied.cells, more.cells, pages, self.reserve]) <= self.slots
    }

    /// Free slots that data leaves alone, for the next checkpoint.
    pub(super) fn kept_for_checkpoint(&self, pages: u64) -> u64 {
        pages + self.tables
    }

    /// A write that adds so much is on its way.
    pub(super) fn promise(&mut self, more: Growth) {
        self.promised.cells += more.cells;
        self.promised.pages += more.pages;
    }

    /// It is applied, or given up.
    pub(super) fn keep_promise(&mut self, more: Growth) {
        self.promised.cells = self.promised.cells.saturating_sub(more.cells);
        self.promised.pages = self.promised.pages.saturating_sub(more.pages);
    }

    /// What writes on their way add.
    pub(super) fn promised(&self) -> Growth {
        self.promised
    }

    /// Journal block `number` has emptied so much. Numbers never go back.
    pub(super) fn emptied(&mut self, number: u64, less: Growth) {
        if less == Growth::default() {
            return;
        }
        self.emptied_in_all.cells += less.cells;
        self.emptied_in_all.pages += less.pages;
        match self.emptied.back_mut().filter(|(last, _)| *last == number) {
            Some((_, same)) => {
                same.cells += less.cells;
                same.pages += less.pages;
            }
            None => self.emptied.push_back((number, less)),
        }
    }

    /// All journal blocks up to a number are durable.
    pub(super) fn durable_through(&mut self, number: u64) {
        while let Some((_, less)) = self.emptied.pop_front_if(|(emptier, _)| *emptier <= number) {
            self.emptied_in_all.cells -= less.cells;
            self.emptied_in_all.pages -= less.pages;
        }
    }

    /// Whether a flush gives room.
    pub(super) fn has_emptied(&self) -> bool {
        !self.emptied.is_empty()
    }

    /// Whether writes wait for room. Those behind them wait as well, or they would take it.
    pub(super) fn has_undecided(&self) -> bool {
        self.undecided > 0
    }

    /// A write waits until those before it are applied.
    pub(super) fn decide_later(&mut self) {
        self.undecided += 1;
    }

    /// It waits no more.
    pub(super) fn decided(&mut self) {
        self.undecided -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(cells: u64) -> Growth {
        Growth { cells, pages: 0 }
    }

    #[test]
    fn what_is_told_as_capacity_fits_and_not_much_more() {
        for slots in [4000, 100_000, 1 << 28] {
            let room = Room::new(slots, 5);
            let capacity = room.capacity();
            let pages = |cells: u64| cells.div_ceil(127) + cells.div_ceil(127 * 254) + 2;
            assert!(room.admits(capacity - 1, pages(capacity), cells(1)), "{slots}");
            assert!(!room.admits(slots, 0, cells(1)));
            assert!(capacity > slots * 7 / 10, "{capacity} of {slots}");
        }
    }

    #[test]
    fn overwriting_is_always_admitted_and_promises_count() {
        let mut room = Room::new(10_000, 5);
        assert!(room.admits(1 << 40, 0, cells(0)));
        for promise in [cells(room.slots), Growth { cells: 1, pages: room.slots / 2 }] {
            room.promise(promise);
            assert!(!room.admits(0, 0, cells(1)));
            room.keep_promise(promise);
            assert!(room.admits(0, 0, cells(1)));
        }
    }

    #[test]
    fn what_was_emptied_counts_until_that_is_durable() {
        let mut room = Room::new(10_000, 5);
        room.emptied(4, cells(room.slots / 2));
        room.emptied(4, cells(room.slots / 2));
        room.emptied(5, Growth { cells: 0, pages: room.slots / 2 });
        for durable in [3, 4] {
            room.durable_through(durable);
            assert!(!room.admits(0, 0, cells(1)), "{durable}");
            assert!(room.has_emptied());
        }
        room.durable_through(5);
        assert!(room.admits(0, 0, cells(1)));
        assert!(!room.has_emptied());
    }
}
