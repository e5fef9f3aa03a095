//! What a reservation keeps from whom. SPC-4 5.13.1 tables 65 and 66; SBC-4 4.17 "Reservations"; NVMe Base 2.1 8.1.22.1
//! "Reservation Types".

use std::num::NonZeroU64;

use crate::{BlockError, Operation};

/// A reservation key. Zero, on the wire, is the absence of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(NonZeroU64);

impl Key {
    /// A key; `None` for zero.
    pub fn new(raw: u64) -> Option<Self> {
        NonZeroU64::new(raw).map(Key)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }
}

/// Type of a persistent reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReservationType {
    /// One nexus writes, all read.
    WriteExclusive,
    /// One nexus reads and writes.
    ExclusiveAccess,
    /// The registered write, all read; one nexus holds it.
    WriteExclusiveRegistrantsOnly,
    /// The registered read and write; one nexus holds it.
    ExclusiveAccessRegistrantsOnly,
    /// The registered write, all read; all registered hold it.
    WriteExclusiveAllRegistrants,
    /// The registered read and write; all registered hold it.
    ExclusiveAccessAllRegistrants,
}

impl ReservationType {
    /// All types.
    pub const ALL: [ReservationType; 6] = [
        ReservationType::WriteExclusive,
        ReservationType::ExclusiveAccess,
        ReservationType::WriteExclusiveRegistrantsOnly,
        ReservationType::ExclusiveAccessRegistrantsOnly,
        ReservationType::WriteExclusiveAllRegistrants,
        ReservationType::ExclusiveAccessAllRegistrants,
    ];

    /// Whether every registered nexus is a holder.
    pub fn is_all_registrants(self) -> bool {
        use ReservationType::{ExclusiveAccessAllRegistrants, WriteExclusiveAllRegistrants};
        matches!(self, WriteExclusiveAllRegistrants | ExclusiveAccessAllRegistrants)
    }

    /// Whether every registered nexus may do what the holder may: Registrants Only and All Registrants.
    pub fn admits_registrants(self) -> bool {
        use ReservationType::{ExclusiveAccess, WriteExclusive};
        !matches!(self, WriteExclusive | ExclusiveAccess)
    }

    /// Whether the others may not even read.
    pub fn is_exclusive_access(self) -> bool {
        use ReservationType::{
            ExclusiveAccess, ExclusiveAccessAllRegistrants, ExclusiveAccessRegistrantsOnly,
        };
        matches!(self, ExclusiveAccess | ExclusiveAccessRegistrantsOnly | ExclusiveAccessAllRegistrants)
    }
}

/// What a command does, as far as reservations care. The front ends name it for commands that do not come to this layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Allowed whoever holds what: INQUIRY, REPORT LUNS, REQUEST SENSE and their like.
    Always,
    /// Allowed beside any persistent reservation, refused by a RESERVE (6) of another: TEST UNIT READY, READ CAPACITY.
    Status,
    /// Refused by an exclusive access of others.
    Read,
    /// Refused by any reservation of others.
    Write,
}

impl Access {
    /// What a command of this layer does. NVMe counts Flush among the writes, as SBC-4 does SYNCHRONIZE CACHE.
    pub fn of(operation: Operation) -> Access {
        match operation {
            Operation::Read | Operation::Compare | Operation::Verify | Operation::CopySource => Access::Read,
            Operation::Write
            | Operation::WriteZeroes
            | Operation::Deallocate
            | Operation::Flush
            | Operation::WriteUncorrectable
            | Operation::CopyTarget => Access::Write,
        }
    }

    fn bits(self) -> u8 {
        match self {
            Access::Always => 0,
            Access::Status => STATUS,
            Access::Read => READ,
            Access::Write => WRITE,
        }
    }
}

const WRITE: u8 = 1;
const READ: u8 = 2;
const STATUS: u8 = 4;
const LOST: u8 = 8;

/// What is refused to one nexus: made when reservations change, looked at by each command.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing(u8);

impl Standing {
    /// Nothing is refused.
    pub const FREE: Standing = Standing(0);
    /// What the others may not write.
    pub(super) const NO_WRITES: Standing = Standing(WRITE);
    /// What the others may neither read nor write.
    pub(super) const NO_ACCESS: Standing = Standing(WRITE | READ);
    /// What another's RESERVE (6) leaves.
    pub(super) const LEGACY: Standing = Standing(WRITE | READ | STATUS);
    /// What is left while nobody knows who held what.
    pub(super) const UNKNOWN: Standing = Standing(WRITE | READ | STATUS | LOST);

    /// Whether such a command may be carried out.
    #[inline]
    pub fn allows(self, access: Access) -> bool {
        self.0 & access.bits() == 0
    }

    /// Whether anything is refused.
    #[inline]
    pub(crate) fn is_free(self) -> bool {
        self.0 == 0
    }

    /// How a command ends that is not allowed.
    pub fn check(self, access: Access) -> Result<(), BlockError> {
        if self.allows(access) {
            Ok(())
        } else if self.0 & LOST == 0 {
            Err(BlockError::ReservationConflict)
        } else {
            Err(BlockError::ReservationsLost)
        }
    }
}
