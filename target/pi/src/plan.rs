//! What one command asks for: a [`CheckPlan`] of tags to compare, or [`InsertTags`] to fill in.
//! NVM Command Set 1.1 §5.3.2 "PRACT Bit" and §5.3.3 "Control of Protection Information Checking -
//! PRCHK".
//!
//! Where the expected tags come from differs between hosts and command sets (an NVMe command carries
//! them, a plain host's are the LBA's); from here on nobody needs to know.

use crate::format::{PiFormat, PiType};
use crate::tuple::Tuple;
use thiserror::Error;

/// PRCHK bit 2: compare the guard.
const PRCHK_GUARD: u8 = 0b100;
/// PRCHK bit 1: compare the application tag.
const PRCHK_APP: u8 = 0b010;
/// PRCHK bit 0: compare the reference tag.
const PRCHK_REF: u8 = 0b001;

/// The PI fields of an NVMe I/O command, in the host's order. Tags may have bits beyond the format's
/// widths; they are ignored, as §5.3.1.4.1 asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct NvmePi {
    /// PRINFO.PRACT: the controller inserts on writes and strips on reads.
    pub pract: bool,
    /// PRINFO.PRCHK: bit 2 guard, bit 1 application tag, bit 0 reference tag.
    pub prchk: u8,
    /// Storage Tag Check.
    pub stc: bool,
    /// ILBRT or EILBRT: the reference tag of the first block.
    pub initial_ref: u64,
    /// LBAT or ELBAT.
    pub app_tag: u16,
    /// LBATM or ELBATM: the application tag's bits to compare.
    pub app_mask: u16,
    /// LBST or ELBST.
    pub storage_tag: u64,
    /// LBSTM of the namespace: the storage tag's bits to compare.
    pub storage_mask: u64,
}

/// The tags of each block to compare, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckPlan {
    /// Compare the guard with the CRC of the data.
    pub check_guard: bool,
    /// Compare the bits of `app_mask` in the application tag.
    pub check_app: bool,
    /// Compare the reference tag.
    pub check_ref: bool,
    /// Compare the bits of `storage_mask` in the storage tag.
    pub check_storage: bool,
    /// The application tag expected in every block.
    pub app_tag: u16,
    /// The bits of the application tag that count.
    pub app_mask: u16,
    /// The reference tag expected in the first block.
    pub initial_ref: u64,
    /// The storage tag expected in every block.
    pub storage_tag: u64,
    /// The bits of the storage tag that count.
    pub storage_mask: u64,
}

impl CheckPlan {
    /// Nothing is compared.
    pub const fn none() -> CheckPlan {
        CheckPlan {
            check_guard: false,
            check_app: false,
            check_ref: false,
            check_storage: false,
            app_tag: 0,
            app_mask: 0,
            initial_ref: 0,
            storage_tag: 0,
            storage_mask: 0,
        }
    }

    /// A read by a host that sees no PI, from `lba` on: the guard, and for type 1 the reference tag.
    /// Types 2 and 3 may hold reference tags that only their writer knows.
    pub const fn for_plain_view(format: PiFormat, lba: u64) -> CheckPlan {
        CheckPlan {
            check_guard: true,
            check_ref: matches!(format.pi_type(), PiType::Type1) && format.ref_tag_bits() > 0,
            initial_ref: lba & format.ref_tag_mask(),
            ..CheckPlan::none()
        }
    }

    /// What an NVMe command asks to be checked. Type 3 has no check of the reference tag, and a tag
    /// that the format does not define is not checked. PRACT does not matter here: a read that strips
    /// is checked as any other, and a write that inserts has nothing to check and needs no plan.
    pub const fn from_nvme(format: PiFormat, pi: NvmePi) -> CheckPlan {
        let has_ref_check = !matches!(format.pi_type(), PiType::Type3) && format.ref_tag_bits() > 0;
        CheckPlan {
            check_guard: pi.prchk & PRCHK_GUARD != 0,
            check_app: pi.prchk & PRCHK_APP != 0,
            check_ref: pi.prchk & PRCHK_REF != 0 && has_ref_check,
            check_storage: pi.stc && format.storage_tag_bits() > 0,
            app_tag: pi.app_tag,
            app_mask: pi.app_mask,
            initial_ref: pi.initial_ref & format.ref_tag_mask(),
            storage_tag: pi.storage_tag & format.storage_tag_mask(),
            storage_mask: pi.storage_mask & format.storage_tag_mask(),
        }
    }

    /// Whether at least one bit of a tuple is compared under this plan.
    pub const fn compares_anything(&self) -> bool {
        self.check_guard
            || self.check_ref
            || (self.check_app && self.app_mask != 0)
            || (self.check_storage && self.storage_mask != 0)
    }
}

/// Why a command's PI fields are refused, with status Invalid Protection Information (1h/81h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum InvalidPi {
    /// The reference tag cannot be checked on a type 3 namespace.
    #[error("PRCHK asks for the reference tag of a type 3 namespace")]
    Type3RefCheck,
    /// Type 1: the initial reference tag has to be the low bits of the SLBA.
    #[error("initial reference tag {actual:#x} is not the starting LBA's {expected:#x}")]
    Type1InitialRef {
        /// The low bits of the SLBA.
        expected: u64,
        /// ILBRT or EILBRT of the command.
        actual: u64,
    },
}

/// Whether the PI fields of a command that starts at `lba` fit the format. §5.3.3: with the reference
/// tag check on, type 1 requires ILBRT to match the SLBA; type 3 may be let through unchecked or be
/// refused with this very status. It is refused, because a host that asks believes its reference tags
/// to be checked.
///
/// Both rules hang on PRCHK, and §5.3.2.1 "Protection Information and Write Commands" has PRCHK ignored
/// when a write inserts: do not ask about a Write with PRACT set.
pub const fn validate_nvme(format: PiFormat, pi: &NvmePi, lba: u64) -> Result<(), InvalidPi> {
    if pi.prchk & PRCHK_REF == 0 || format.ref_tag_bits() == 0 {
        return Ok(());
    }
    match format.pi_type() {
        PiType::Type1 => {
            let expected = lba & format.ref_tag_mask();
            let actual = pi.initial_ref & format.ref_tag_mask();
            if expected == actual { Ok(()) } else { Err(InvalidPi::Type1InitialRef { expected, actual }) }
        }
        PiType::Type2 => Ok(()),
        PiType::Type3 => Err(InvalidPi::Type3RefCheck),
    }
}

/// The tags of tuples that this side makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InsertTags {
    /// The application tag of every block.
    pub app_tag: u16,
    /// The reference tag of the first block.
    pub initial_ref: u64,
    /// The storage tag of every block.
    pub storage_tag: u64,
    /// Every block gets the reference tag of the first: the value that says nothing, also for type 2.
    pub ref_stays: bool,
}

impl InsertTags {
    /// For a write from `lba` on by a host that sees no PI: application and storage tag 0, the
    /// reference tag the low bits of the LBA, or all ones for type 3.
    pub const fn plain(format: PiFormat, lba: u64) -> InsertTags {
        let initial_ref = match format.pi_type() {
            PiType::Type1 | PiType::Type2 => lba & format.ref_tag_mask(),
            PiType::Type3 => format.ref_tag_mask(),
        };
        InsertTags { app_tag: 0, initial_ref, storage_tag: 0, ref_stays: false }
    }

    /// For an NVMe write with PRACT set: the command's LBAT, ILBRT and LBST.
    pub const fn from_nvme(format: PiFormat, pi: NvmePi) -> InsertTags {
        InsertTags {
            app_tag: pi.app_tag,
            initial_ref: pi.initial_ref & format.ref_tag_mask(),
            storage_tag: pi.storage_tag & format.storage_tag_mask(),
            ref_stays: false,
        }
    }
}

/// The tuple of block `index` of a command, for data whose guard is `guard`.
#[inline]
pub const fn make_tuple(format: PiFormat, tags: &InsertTags, index: u32, guard: u64) -> Tuple {
    Tuple {
        guard: guard & format.guard_mask(),
        app_tag: tags.app_tag,
        storage_tag: tags.storage_tag & format.storage_tag_mask(),
        ref_tag: format.ref_tag_at(tags.initial_ref, if tags.ref_stays { 0 } else { index }),
    }
}
