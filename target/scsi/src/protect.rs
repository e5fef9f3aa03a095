//! What RDPROTECT, WRPROTECT and VRPROTECT mean. SBC-4 §4.21 "Protection information model", and the tables of these fields at
//! READ (10), WRITE (10) and VERIFY (10) in §5.
//!
//! | field | tuples on the wire | guard | application tag | reference tag |
//! |---|---|---|---|---|
//! | 000b | no: stripped, made | of what is read | of what is read | of what is read |
//! | 001b, 101b | yes | yes | yes | yes |
//! | 010b | yes | | yes | yes |
//! | 011b | yes | | | |
//! | 100b | yes | yes | | |
//!
//! A tag is compared only where the target knows it: the reference tag of type 1 is the LBA's, that of type 2 comes in a CDB of
//! 32 bytes, that of type 3 is the host's own. The application tag is known while it belongs to the host (ATO one), from a CDB
//! of 32 bytes or from the application tag mode page.

use holdfast_block::{Enforce, Layout, Lba};
use holdfast_pi::{CheckPlan, InsertTags, PiFormat, PiType};

use crate::cdb::Protected;
use crate::sense::Sense;

/// Blocks with one application tag. SBC-4 §6.5.3 "Application Tag mode page".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppTagRange {
    /// LOGICAL BLOCK APPLICATION TAG.
    pub app_tag: u16,
    /// LOGICAL BLOCK ADDRESS: the first.
    pub lba: Lba,
    /// LOGICAL BLOCK COUNT.
    pub blocks: u64,
}

/// How a nexus sees a logical unit's protection information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scheme<'a> {
    /// What the host sees: `None` where PROT_EN is zero.
    pub visible: Option<PiFormat>,
    /// What is kept with each block.
    pub stored: Option<PiFormat>,
    /// What is demanded of the host.
    pub enforce: Enforce,
    /// ATO: application tags belong to the host.
    pub ato: bool,
    /// The application tag mode page, while ATMPE is one.
    pub app_tags: Option<&'a [AppTagRange]>,
}

/// What a command does with tuples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// Blocks go to the host: RDPROTECT.
    Read,
    /// Blocks are looked at: VRPROTECT with BYTCHK 00b.
    Verify,
    /// Blocks come from the host and are held against those on the medium: VRPROTECT with BYTCHK 01b and 11b, and the first
    /// half of COMPARE AND WRITE.
    Compare,
    /// Blocks come from the host and are stored: WRPROTECT.
    Write,
}

/// Layout on the wire, checks, and tags to insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protection {
    /// Whether tuples are on the wire.
    pub layout: Layout,
    /// What is compared.
    pub plan: CheckPlan,
    /// What is made where the host sends no tuples.
    pub insert: Option<InsertTags>,
}

/// Nothing on the wire, compared or made.
const BARE: Protection = Protection { layout: Layout::DataOnly, plan: CheckPlan::none(), insert: None };

impl Scheme<'_> {
    /// Decides for one command.
    ///
    /// # Errors
    /// INVALID COMMAND OPERATION CODE for a CDB that the protection type does not know; INVALID FIELD IN CDB for a value that
    /// is reserved, means nothing here, or is less than what is demanded of the host.
    pub fn decide(&self, act: Act, range: &Protected) -> Result<Protection, Sense> {
        self.admit(range)?;
        match (self.visible, self.stored) {
            (None, None) => Ok(BARE),
            (None, Some(format)) => Ok(hidden(act, format, range.blocks.lba)),
            (Some(_), _) if range.protect == 0 && self.enforce == Enforce::RequirePi => Err(invalid(range)),
            (Some(format), _) => Ok(self.seen(act, format, range)),
        }
    }

    /// Whether such a CDB may come at all. §4.21.2 "Protection types".
    ///
    /// # Errors
    /// As of [`Scheme::decide`], but for what is demanded of the host.
    pub fn admit(&self, range: &Protected) -> Result<(), Sense> {
        let is_type_2 = self.visible.is_some_and(|format| format.pi_type() == PiType::Type2);
        let is_long = range.tags.is_some();
        if is_long && !is_type_2 || is_type_2 && !is_long && range.protect != 0 {
            return Err(Sense::INVALID_OPCODE);
        }
        if range.protect > 5 || self.visible.is_none() && range.protect != 0 {
            return Err(invalid(range));
        }
        Ok(())
    }

    /// The host sees tuples.
    fn seen(&self, act: Act, format: PiFormat, range: &Protected) -> Protection {
        let layout = if range.protect == 0 { Layout::DataOnly } else { Layout::Interleaved };
        match (act, range.protect) {
            (Act::Write, 0) => {
                Protection { insert: Some(self.tags_to_insert(format, range.blocks.lba)), ..BARE }
            }
            _ => Protection { layout, plan: self.plan(format, range), insert: None },
        }
    }

    /// The checks that a field asks for, of the tags that are known.
    fn plan(&self, format: PiFormat, range: &Protected) -> CheckPlan {
        let (guard, tags) = match range.protect {
            2 => (false, true),
            3 => (false, false),
            4 => (true, false),
            _ => (true, true),
        };
        let app = if tags { self.known_app_tag(range) } else { None };
        let reference = if tags { known_ref_tag(format, range) } else { None };
        let (app_tag, app_mask) = app.unwrap_or_default();
        CheckPlan {
            check_guard: guard,
            check_app: app.is_some(),
            app_tag,
            app_mask,
            check_ref: reference.is_some(),
            initial_ref: reference.unwrap_or(0),
            ..CheckPlan::none()
        }
    }

    /// The application tag of all blocks of a command, and its mask. Of blocks with several tags of the mode page, it is not
    /// one that is known.
    fn known_app_tag(&self, range: &Protected) -> Option<(u16, u16)> {
        if !self.ato {
            return None;
        }
        if let Some(tags) = range.tags {
            return Some((tags.app_tag, tags.app_mask));
        }
        let first = range.blocks.lba.0;
        let end = first.checked_add(u64::from(range.blocks.count))?;
        let holds = |tags: &&AppTagRange| {
            tags.lba.0 <= first && tags.lba.0.checked_add(tags.blocks).is_none_or(|last| end <= last)
        };
        self.app_tags?.iter().find(holds).map(|tags| (tags.app_tag, u16::MAX))
    }

    /// WRPROTECT 000b: a guard is made; the reference tag is the LBA's for type 1 and all ones for the others; the application
    /// tag belongs to the host while ATO is one, so that it gets the value that says nothing.
    fn tags_to_insert(&self, format: PiFormat, lba: Lba) -> InsertTags {
        let app_tag = if self.ato { u16::MAX } else { 0 };
        let (initial_ref, ref_stays) = match format.pi_type() {
            PiType::Type1 => (lba.0 & format.ref_tag_mask(), false),
            PiType::Type2 | PiType::Type3 => (format.ref_tag_mask(), true),
        };
        InsertTags { app_tag, initial_ref, storage_tag: 0, ref_stays }
    }
}

/// The host sees no tuples, and the volume has some.
fn hidden(act: Act, format: PiFormat, lba: Lba) -> Protection {
    match act {
        Act::Write => Protection { insert: Some(InsertTags::plain(format, lba.0)), ..BARE },
        Act::Read | Act::Verify | Act::Compare => {
            Protection { plan: CheckPlan::for_plain_view(format, lba.0), ..BARE }
        }
    }
}

/// The reference tag of a command's first block.
fn known_ref_tag(format: PiFormat, range: &Protected) -> Option<u64> {
    match format.pi_type() {
        PiType::Type1 => Some(range.blocks.lba.0 & format.ref_tag_mask()),
        PiType::Type2 => range.tags.map(|tags| u64::from(tags.initial_ref)),
        PiType::Type3 => None,
    }
}

/// INVALID FIELD IN CDB, with a pointer to the field.
fn invalid(range: &Protected) -> Sense {
    Sense::invalid_in_cdb(if range.tags.is_some() { 10 } else { 1 }, Some(7))
}

#[cfg(test)]
mod tests;
