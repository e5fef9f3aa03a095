//! One block against a plan. NVM Command Set 1.1 §5.3.3 "Control of Protection Information Checking -
//! PRCHK".
//!
//! The standard leaves open which of several bad tags a command reports. Here it is always the first
//! of guard, application, reference, storage tag, so that counters and incidents agree everywhere.

use crate::format::PiFormat;
use crate::plan::CheckPlan;
use crate::tuple::Tuple;
use std::fmt;
use thiserror::Error;

/// A field of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The CRC of the data.
    Guard,
    /// The application tag.
    App,
    /// The reference tag.
    Ref,
    /// The storage tag.
    Storage,
}

impl Tag {
    /// The word for it in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Tag::Guard => "guard",
            Tag::App => "app",
            Tag::Ref => "ref",
            Tag::Storage => "storage",
        }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A tag that is not what it should be. Both values are whole tags, also where a mask let only some of
/// their bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
#[error("block {block_index}: {tag} tag is {actual:#x}, expected {expected:#x}")]
pub struct Fault {
    /// The block's position in the command, from 0.
    pub block_index: u32,
    /// The first tag that failed.
    pub tag: Tag,
    /// What the tag should be: for a guard, the CRC of the data.
    pub expected: u64,
    /// What the tuple holds.
    pub actual: u64,
}

/// What became of a block that has no fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Checked {
    /// At least one tag was compared, and all that were are good.
    Checked,
    /// Checks were asked for, and the tuple's own values switched them off.
    Escaped,
    /// The plan asks for no comparison.
    Unchecked,
}

/// Checks block `index` of a command: its tuple against the plan and against the guard that was
/// computed from its data. Guards are compared only if the plan says so; the caller computes one in
/// any case.
#[inline]
pub fn check_tuple(
    format: PiFormat,
    plan: &CheckPlan,
    index: u32,
    computed_guard: u64,
    tuple: &Tuple,
) -> Result<Checked, Fault> {
    if !plan.compares_anything() {
        return Ok(Checked::Unchecked);
    }
    if tuple.escapes(format) || holdfast_mutant::active("pi-escape") && tuple.app_tag == 0xffff {
        return Ok(Checked::Escaped);
    }
    let fault = |tag, expected, actual| Err(Fault { block_index: index, tag, expected, actual });
    if plan.check_guard && tuple.guard != computed_guard && !holdfast_mutant::active("pi-guard") {
        return fault(Tag::Guard, computed_guard, tuple.guard);
    }
    let app_mask = if holdfast_mutant::active("pi-app-mask") { 0xffff } else { plan.app_mask };
    if plan.check_app && (tuple.app_tag ^ plan.app_tag) & app_mask != 0 {
        return fault(Tag::App, plan.app_tag.into(), tuple.app_tag.into());
    }
    let index_of_ref = if holdfast_mutant::active("pi-ref-stays") { index.min(4) } else { index };
    let expected_ref = format.ref_tag_at(plan.initial_ref, index_of_ref);
    if plan.check_ref && tuple.ref_tag != expected_ref {
        return fault(Tag::Ref, expected_ref, tuple.ref_tag);
    }
    let check_storage = plan.check_storage && !holdfast_mutant::active("pi-storage");
    if check_storage && (tuple.storage_tag ^ plan.storage_tag) & plan.storage_mask != 0 {
        return fault(Tag::Storage, plan.storage_tag, tuple.storage_tag);
    }
    Ok(Checked::Checked)
}
