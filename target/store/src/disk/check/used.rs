//! Which slots are spoken for: a bit each, in pieces that are there only where something is.

use super::super::format::Layout;

/// Slots of a piece: 8 KiB of bits.
const SLOTS_PER_PIECE: u64 = 65_536;

const WORD_BITS: u64 = 64;

/// A set of slots for data and pages.
#[derive(Debug)]
pub(super) struct UsedSlots {
    layout: Layout,
    pieces: Vec<Option<Box<[u64]>>>,
    count: u64,
}

impl UsedSlots {
    pub(super) fn new(layout: Layout) -> UsedSlots {
        UsedSlots { layout, pieces: Vec::new(), count: 0 }
    }

    /// Takes a slot; `false` if it was taken before, or is none for data and pages.
    pub(super) fn claim(&mut self, slot: u64) -> bool {
        if !self.layout.is_data(slot) {
            return false;
        }
        let Some((word, bit)) = self.word(slot) else { return false };
        let free = *word & bit == 0;
        *word |= bit;
        self.count += u64::from(free);
        free
    }

    /// Slots taken.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    fn word(&mut self, slot: u64) -> Option<(&mut u64, u64)> {
        let piece = usize::try_from(slot / SLOTS_PER_PIECE).ok()?;
        if self.pieces.len() <= piece {
            self.pieces.resize_with(piece + 1, || None);
        }
        let words = usize::try_from(SLOTS_PER_PIECE / WORD_BITS).ok()?;
        let piece = self.pieces.get_mut(piece)?.get_or_insert_with(|| vec![0; words].into_boxed_slice());
        let word = usize::try_from(slot % SLOTS_PER_PIECE / WORD_BITS).ok()?;
        Some((piece.get_mut(word)?, 1 << (slot % WORD_BITS)))
    }
}
