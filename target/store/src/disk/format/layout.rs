//! Which slots of a device hold what.

use thiserror::Error;

use super::SLOT_LEN;

/// The slot of the superblock's second copy; the first has slot 0.
pub const SECOND_SUPERBLOCK: u64 = 128;

/// The first slot of the journal.
pub const JOURNAL_FIRST: u64 = 256;

/// Slots of the shortest journal.
pub const JOURNAL_SLOTS_MIN: u64 = 64;

/// Slots of the longest journal: 256 MiB, so that replaying it takes seconds.
pub const JOURNAL_SLOTS_MAX: u64 = 65_536;

/// Slots of the smallest pool: 8 MiB.
pub const SLOTS_MIN: u64 = 2048;

/// Slots of the largest pool: slot numbers in cell images have 40 bits, 0 is none, and the last is kept free.
pub const SLOTS_MAX: u64 = (1 << 40) - 2;

/// Journal blocks in flight at most: block `n + WINDOW` is not issued before block `n` is complete, so that many
/// places without a block in a row are the end of the journal.
pub const WINDOW: u64 = 32;

/// Numbers of journal blocks and generations of checkpoints stay below: they last for a hundred thousand years at a million a
/// second, and sums of them cannot overflow.
pub const NUMBERS_MAX: u64 = 1 << 62;

/// Why there is no such layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum LayoutError {
    /// Too small or too large.
    #[error("a pool of {0} slots of 4 KiB cannot be: {SLOTS_MIN} to {SLOTS_MAX}")]
    Slots(u64),
    /// The journal is not where it can be.
    #[error("a journal of {slots} slots from slot {first} on cannot be")]
    Journal {
        /// First slot.
        first: u64,
        /// Number of slots.
        slots: u64,
    },
}

/// What lies where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    slots: u64,
    journal_slots: u64,
}

impl Layout {
    /// The layout of a new pool on a device of `device_bytes`.
    ///
    /// # Errors
    /// [`LayoutError::Slots`].
    pub fn of(device_bytes: u64) -> Result<Layout, LayoutError> {
        let slots = device_bytes / SLOT_LEN as u64;
        let journal_slots = (slots / 256).clamp(JOURNAL_SLOTS_MIN, JOURNAL_SLOTS_MAX);
        Layout::from_superblock(slots, JOURNAL_FIRST, journal_slots)
    }

    /// The layout that a superblock tells: a pool that has grown keeps the journal that it was made with.
    ///
    /// # Errors
    /// See [`LayoutError`].
    pub fn from_superblock(
        slots: u64,
        journal_first: u64,
        journal_slots: u64,
    ) -> Result<Layout, LayoutError> {
        if !(SLOTS_MIN..=SLOTS_MAX).contains(&slots) {
            return Err(LayoutError::Slots(slots));
        }
        let length_can_be = (JOURNAL_SLOTS_MIN..=JOURNAL_SLOTS_MAX).contains(&journal_slots);
        if journal_first != JOURNAL_FIRST || !length_can_be || JOURNAL_FIRST + journal_slots >= slots {
            return Err(LayoutError::Journal { first: journal_first, slots: journal_slots });
        }
        Ok(Layout { slots, journal_slots })
    }

    /// All slots.
    pub fn slots(&self) -> u64 {
        self.slots
    }

    /// The journal's first slot.
    pub fn journal_first(&self) -> u64 {
        JOURNAL_FIRST
    }

    /// The journal's length in slots.
    pub fn journal_slots(&self) -> u64 {
        self.journal_slots
    }

    /// The slot of journal block `number`.
    pub fn journal_slot(&self, number: u64) -> u64 {
        JOURNAL_FIRST + number % self.journal_slots
    }

    /// The first slot for data and pages of the map.
    pub fn data_first(&self) -> u64 {
        JOURNAL_FIRST + self.journal_slots
    }

    /// Slots for data and pages of the map.
    pub fn data_slots(&self) -> u64 {
        self.slots - self.data_first()
    }

    /// Whether `slot` is one for data and pages.
    pub fn is_data(&self, slot: u64) -> bool {
        (self.data_first()..self.slots).contains(&slot)
    }
}
