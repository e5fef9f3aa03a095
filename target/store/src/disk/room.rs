//! How much a pool can hold, and what is kept back so that a full one can still be changed.
//!
//! A cell takes a slot. A page of the map takes two: the next checkpoint writes it anew before the old one is free.
//! Beyond these some slots are kept for changes under way, which take fresh slots before the old ones come back.

/// Slots kept for changes under way, at most: several of the longest writes.
const RESERVE_MAX: u64 = 1024;

/// The same, at least: the longest write, which may begin in the middle of a cell.
const RESERVE_MIN: u64 = 288;

/// The share of the pool that is kept in between.
const RESERVE_SHARE: u64 = 16;

/// Cells of a leaf of the shape that packs them best: what capacity is told for.
const CELLS_PER_LEAF: u64 = 127;

/// The accounts of a pool.
#[derive(Debug)]
pub(super) struct Room {
    /// Slots for data and pages.
    slots: u64,
    /// Slots for changes under way and tables.
    reserve: u64,
    /// Of those, slots for both copies of the tables' pages.
    tables: u64,
    /// New cells of writes that are not applied yet.
    promised: u64,
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
            promised: 0,
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

    /// Whether so many new cells fit, with the pages of the map as they will be.
    pub(super) fn admits(&self, live: u64, pages: u64, new_cells: u64) -> bool {
        if new_cells == 0 {
            return true;
        }
        let pages = pages.saturating_mul(2);
        let wanted = [live, self.promised, new_cells, pages, self.reserve];
        wanted.iter().fold(0_u64, |sum, part| sum.saturating_add(*part)) <= self.slots
    }

    /// Free slots that data leaves alone, for the next checkpoint.
    pub(super) fn kept_for_checkpoint(&self, pages: u64) -> u64 {
        pages + self.tables
    }

    /// A write of new cells is on its way.
    pub(super) fn promise(&mut self, new_cells: u64) {
        self.promised += new_cells;
    }

    /// It is applied, or given up.
    pub(super) fn keep_promise(&mut self, new_cells: u64) {
        self.promised = self.promised.saturating_sub(new_cells);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_as_capacity_fits_and_not_much_more() {
        for slots in [4000, 100_000, 1 << 28] {
            let room = Room::new(slots, 5);
            let capacity = room.capacity();
            let pages = |cells: u64| cells.div_ceil(127) + cells.div_ceil(127 * 254) + 2;
            assert!(room.admits(capacity - 1, pages(capacity), 1), "{slots}");
            assert!(!room.admits(slots, 0, 1));
            assert!(capacity > slots * 7 / 10, "{capacity} of {slots}");
        }
    }

    #[test]
    fn overwriting_is_always_admitted_and_promises_count() {
        let mut room = Room::new(10_000, 5);
        assert!(room.admits(1 << 40, 0, 0));
        room.promise(room.slots);
        assert!(!room.admits(0, 0, 1));
        room.keep_promise(room.slots);
        assert!(room.admits(0, 0, 1));
    }
}
