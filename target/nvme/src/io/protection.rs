//! What a command's protection information fields mean. NVM Command Set 1.1 §5.3.2 "PRACT Bit", §5.3.3 "Control of Protection
//! Information Checking - PRCHK", and §3.3 for each command.

use holdfast_block::{Enforce, Layout, Operation};
use holdfast_pi::{CheckPlan, InsertTags, NvmePi, PiFormat, validate_nvme};

use crate::namespaces::Mapped;
use crate::status::Status;
use crate::wire::nvm::RangeFields;

/// Layout on the wire, checks, and tags to insert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Protection {
    pub(crate) layout: Layout,
    pub(crate) plan: CheckPlan,
    pub(crate) insert: Option<InsertTags>,
}

/// Decides for one command.
pub(crate) fn of(operation: Operation, mapped: &Mapped, fields: &RangeFields) -> Result<Protection, Status> {
    match mapped.visible {
        Some(format) => visible(operation, mapped.enforce, format, fields),
        None => Ok(hidden(operation, mapped.volume.format, fields)),
    }
}

/// The host sees a format without metadata, so its PRINFO means nothing. Zeroes need no tuples: a deallocated block reads
/// as zeroes for everybody.
fn hidden(operation: Operation, format: Option<PiFormat>, fields: &RangeFields) -> Protection {
    let Some(format) = format else { return BARE };
    match operation {
        Operation::Write | Operation::CopyTarget => {
            Protection { insert: Some(InsertTags::plain(format, fields.lba.0)), ..BARE }
        }
        _ if holdfast_mutant::active("pi-plain-unchecked") => BARE,
        Operation::Read | Operation::Compare | Operation::Verify | Operation::CopySource => {
            Protection { plan: CheckPlan::for_plain_view(format, fields.lba.0), ..BARE }
        }
        Operation::WriteZeroes | Operation::WriteUncorrectable | Operation::Deallocate | Operation::Flush => {
            BARE
        }
    }
}

/// The host sees tuples. Metadata is nothing but the tuple, so PRACT set means that none are on the wire.
fn visible(
    operation: Operation,
    enforce: Enforce,
    format: PiFormat,
    fields: &RangeFields,
) -> Result<Protection, Status> {
    let must_carry = enforce == Enforce::RequirePi;
    match operation {
        Operation::Write if fields.pract && !must_carry => Ok(inserted(format, fields)),
        Operation::Read | Operation::Write if !(fields.pract && must_carry) => checked(format, fields),
        // §3.3.5 asks for this status, unlike §3.3.1 for Compare.
        Operation::Verify if fields.pract && !must_carry => Err(Status::INVALID_FIELD),
        Operation::Compare | Operation::Verify if !fields.pract => checked(format, fields),
        Operation::Read | Operation::Write | Operation::Compare | Operation::Verify => {
            Err(Status::INVALID_PROTECTION)
        }
        // §3.3.8: there is nothing to check.
        Operation::WriteZeroes if fields.prchk != 0 || fields.storage_tag_check => {
            Err(Status::INVALID_PROTECTION)
        }
        Operation::WriteZeroes if fields.pract => Ok(inserted(format, fields)),
        Operation::WriteZeroes | Operation::WriteUncorrectable | Operation::Deallocate | Operation::Flush => {
            Ok(BARE)
        }
        Operation::CopySource | Operation::CopyTarget => Err(Status::INTERNAL_ERROR),
    }
}

/// How a Copy deals with tuples. §3.3.2.4.2 "Handling of Protection Information".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tuples {
    /// Neither side shows any.
    None,
    /// They go along as they are.
    Passed,
    /// They are checked and taken off, and others made.
    Replaced,
    /// They are made.
    Inserted,
    /// They are checked and taken off.
    Stripped,
}

/// Decides for one source of a Copy, and for its destination.
pub(crate) fn of_copy(
    source: &Mapped,
    read: &RangeFields,
    target: &Mapped,
    write: &RangeFields,
) -> Result<(Protection, Protection), Status> {
    if source.volume.block_len != target.volume.block_len {
        return Err(Status::INCOMPATIBLE_FORMAT);
    }
    let tuples = match (source.visible, target.visible) {
        (None, None) => Tuples::None,
        (Some(_), Some(_)) if read.pract != write.pract => return Err(Status::INVALID_FIELD),
        (Some(from), Some(to)) if from == to && read.pract => Tuples::Replaced,
        (Some(from), Some(to)) if from == to => Tuples::Passed,
        (None, Some(_)) if write.pract => Tuples::Inserted,
        (Some(_), None) if read.pract => Tuples::Stripped,
        _ => return Err(Status::INCOMPATIBLE_FORMAT),
    };
    let from = match (tuples, source.visible) {
        (Tuples::Passed, Some(format)) => checked(format, read)?,
        (Tuples::Replaced | Tuples::Stripped, Some(format)) => {
            let mut from = checked(format, read)?;
            // §5.3.2.5: a guard must not be made anew for data that its old one does not fit.
            from.plan.check_guard = true;
            from
        }
        _ => hidden(Operation::CopySource, source.volume.format, read),
    };
    let to = match (tuples, target.visible) {
        (Tuples::Passed, Some(format)) => checked(format, write)?,
        (Tuples::Replaced | Tuples::Inserted, Some(format)) => inserted(format, write),
        _ => hidden(Operation::CopyTarget, target.volume.format, write),
    };
    Ok((from, to))
}

/// Data alone, nothing checked, nothing made.
const BARE: Protection = Protection { layout: Layout::DataOnly, plan: CheckPlan::none(), insert: None };

/// Tuples are made. PRCHK, STC and the rule about the initial reference tag do not apply.
fn inserted(format: PiFormat, fields: &RangeFields) -> Protection {
    Protection { insert: Some(InsertTags::from_nvme(format, pi(format, fields))), ..BARE }
}

/// Tuples are checked, and with PRACT set taken off.
fn checked(format: PiFormat, fields: &RangeFields) -> Result<Protection, Status> {
    let pi = pi(format, fields);
    if validate_nvme(format, &pi, fields.lba.0).is_err() && !holdfast_mutant::active("pi-reference-rule") {
        return Err(Status::INVALID_PROTECTION);
    }
    let layout = if fields.pract { Layout::DataOnly } else { Layout::Interleaved };
    Ok(Protection { layout, plan: CheckPlan::from_nvme(format, pi), insert: None })
}

fn pi(format: PiFormat, fields: &RangeFields) -> NvmePi {
    let (storage_tag, initial_ref) = format.split_space(fields.tag_space);
    NvmePi {
        pract: fields.pract,
        prchk: fields.prchk,
        stc: fields.storage_tag_check,
        initial_ref,
        app_tag: fields.app_tag,
        app_mask: fields.app_mask,
        storage_tag,
        storage_mask: format.storage_tag_mask(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_block::{BlockCount, Lba};
    use holdfast_pi::{GuardKind, PiType};

    fn format(kind: PiType) -> PiFormat {
        PiFormat::new(kind, GuardKind::Crc16, 4096, 0).unwrap()
    }

    fn fields(pract: bool, prchk: u8, reference: u32) -> RangeFields {
        RangeFields {
            lba: Lba(0x1_0000_0007),
            blocks: BlockCount::new(1),
            force_unit_access: false,
            pract,
            prchk,
            storage_tag_check: false,
            tag_space: reference.into(),
            app_tag: 0x1234,
            app_mask: 0xffff,
        }
    }

    fn decide(operation: Operation, pi_type: PiType, fields: RangeFields) -> Result<Protection, Status> {
        visible(operation, Enforce::Any, format(pi_type), &fields)
    }

    #[test]
    fn a_write_with_pract_inserts_the_commands_tags() {
        let decided = decide(Operation::Write, PiType::Type1, fields(true, 0b111, 99)).unwrap();
        assert_eq!(decided.layout, Layout::DataOnly);
        assert_eq!(
            decided.insert,
            Some(InsertTags { app_tag: 0x1234, initial_ref: 99, storage_tag: 0, ref_stays: false })
        );
    }

    #[test]
    fn a_read_with_pract_is_checked_and_stripped() {
        let decided = decide(Operation::Read, PiType::Type1, fields(true, 0b101, 7)).unwrap();
        assert_eq!(decided.layout, Layout::DataOnly);
        assert!(decided.plan.check_guard && decided.plan.check_ref && !decided.plan.check_app);
        assert_eq!(decided.insert, None);
    }

    #[test]
    fn type_1_wants_the_reference_tag_of_its_lba() {
        let decided = decide(Operation::Write, PiType::Type1, fields(false, 0b001, 8));
        assert_eq!(decided, Err(Status::INVALID_PROTECTION));
        assert!(decide(Operation::Write, PiType::Type1, fields(false, 0b100, 8)).is_ok());
        assert!(decide(Operation::Write, PiType::Type2, fields(false, 0b001, 8)).is_ok());
    }

    #[test]
    fn type_3_has_no_reference_tag_check() {
        let decided = decide(Operation::Read, PiType::Type3, fields(false, 0b001, 7));
        assert_eq!(decided, Err(Status::INVALID_PROTECTION));
    }

    #[test]
    fn write_zeroes_with_pract_makes_tuples_and_checks_nothing() {
        let zeroes = Operation::WriteZeroes;
        assert!(decide(zeroes, PiType::Type1, fields(true, 0, 7)).unwrap().insert.is_some());
        assert!(decide(zeroes, PiType::Type1, fields(false, 0, 7)).unwrap().insert.is_none());
        assert_eq!(decide(zeroes, PiType::Type1, fields(false, 0b100, 7)), Err(Status::INVALID_PROTECTION));
    }

    #[test]
    fn compare_and_verify_take_nothing_off() {
        let pract = fields(true, 0b100, 7);
        assert_eq!(decide(Operation::Compare, PiType::Type1, pract), Err(Status::INVALID_PROTECTION));
        assert_eq!(decide(Operation::Verify, PiType::Type1, pract), Err(Status::INVALID_FIELD));
    }

    #[test]
    fn require_pi_refuses_pract() {
        for operation in [Operation::Read, Operation::Write, Operation::Compare, Operation::Verify] {
            let format = format(PiType::Type1);
            let decided = visible(operation, Enforce::RequirePi, format, &fields(true, 0b100, 7));
            assert_eq!(decided, Err(Status::INVALID_PROTECTION));
        }
    }

    #[test]
    fn a_plain_view_ignores_prinfo() {
        let decided = hidden(Operation::Write, Some(format(PiType::Type3)), &fields(false, 0b111, 1));
        let all_ones = InsertTags { app_tag: 0, initial_ref: 0xffff_ffff, storage_tag: 0, ref_stays: false };
        assert_eq!(decided.insert, Some(all_ones));
        let decided = hidden(Operation::Read, Some(format(PiType::Type1)), &fields(false, 0, 1));
        assert!(decided.plan.check_guard && decided.plan.check_ref);
        assert_eq!(decided.plan.initial_ref, 7);
    }
}
