//! Addresses, lengths and identifiers, so that none is taken for another.

use std::fmt;
use std::num::NonZeroU64;

/// A logical block address on a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lba(pub u64);

impl Lba {
    /// The address `blocks` further on; `None` past 2^64 − 1.
    pub fn checked_add(self, blocks: u64) -> Option<Lba> {
        self.0.checked_add(blocks).map(Lba)
    }
}

/// A number of logical blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockCount(u32);

impl BlockCount {
    /// No block: for commands without a range, such as Flush.
    pub const ZERO: BlockCount = BlockCount(0);

    /// A count as it is.
    pub fn new(count: u32) -> Self {
        BlockCount(count)
    }

    /// NVMe's *Number of Logical Blocks*, which is zeroes based (NVM Command Set 1.1, 3.3). The only place that adds 1.
    pub fn from_zeroes_based(nlb: u16) -> Self {
        BlockCount(u32::from(nlb) + 1)
    }

    /// The count.
    pub fn get(self) -> u32 {
        self.0
    }

    /// The count as a length of lists.
    pub fn as_usize(self) -> usize {
        // Lossless: this crate needs pointers of at least 32 bits.
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// Wraps a number that is known not to be zero.
            pub fn from_nonzero(raw: NonZeroU64) -> Self {
                Self(raw)
            }

            /// The number as it is wrapped.
            pub fn nonzero(self) -> NonZeroU64 {
                self.0
            }

            /// Wraps a raw number; `None` for zero.
            pub fn new(raw: u64) -> Option<Self> {
                NonZeroU64::new(raw).map(Self)
            }

            /// The raw number.
            pub fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:016x})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }
    };
}

id! {
    /// A host, over every change of its name and identities.
    HostId
}
id! {
    /// A volume, over every change of its name and size.
    VolumeId
}
id! {
    /// A pool.
    PoolId
}
id! {
    /// A subsystem.
    SubsystemId
}
