//! What an operation on the device was for, as its token says.

use super::io::DiskToken;

/// Errands of disk operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Errand {
    /// Data of the batch with this number.
    Data(u64),
    /// The journal block with this number.
    Journal(u64),
    /// Blocks of the read with this place in the table of reads.
    Read(u64),
    /// Old contents of a cell, by the number of their fetch.
    Base(u64),
    /// Pages of the checkpoint under way.
    Page,
    /// Zeroes ahead of where slots are handed out.
    Zeroes,
    /// A copy of the superblock.
    Superblock,
    /// The flush under way that commands wait for.
    Flush,
    /// A flush of the checkpoint under way.
    CheckpointFlush,
}

const KIND_BITS: u32 = 4;

impl Errand {
    pub(super) fn token(self) -> DiskToken {
        let (kind, number) = match self {
            Errand::Data(number) => (0, number),
            Errand::Journal(number) => (1, number),
            Errand::Read(number) => (2, number),
            Errand::Base(number) => (7, number),
            Errand::Zeroes => (8, 0),
            Errand::Page => (3, 0),
            Errand::Superblock => (4, 0),
            Errand::Flush => (5, 0),
            Errand::CheckpointFlush => (6, 0),
        };
        DiskToken(number << KIND_BITS | kind)
    }

    pub(super) fn of(token: DiskToken) -> Errand {
        let number = token.0 >> KIND_BITS;
        match token.0 & ((1 << KIND_BITS) - 1) {
            0 => Errand::Data(number),
            1 => Errand::Journal(number),
            2 => Errand::Read(number),
            3 => Errand::Page,
            4 => Errand::Superblock,
            5 => Errand::Flush,
            6 => Errand::CheckpointFlush,
            7 => Errand::Base(number),
            _ => Errand::Zeroes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errands_come_back_from_their_tokens() {
        let numbered = [Errand::Data(7), Errand::Journal(1 << 59), Errand::Read(0), Errand::Base(3)];
        let single =
            [Errand::Page, Errand::Zeroes, Errand::Superblock, Errand::Flush, Errand::CheckpointFlush];
        for errand in numbered.into_iter().chain(single) {
            assert_eq!(Errand::of(errand.token()), errand);
        }
    }
}
