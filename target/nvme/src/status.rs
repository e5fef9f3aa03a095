//! Completion status. Base 2.1 §4.2.3 "Status Field Definition"; NVM Command Set 1.1 §3.1.2 "Completion Queue Entry".

use holdfast_block::{BlockError, Operation};
use holdfast_pi::Tag;

/// Status Code Type, Status Code and Do Not Retry; and, for the error log, which part of the command is wrong. Two that differ
/// in that alone are equal.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Status {
    code_type: u8,
    code: u8,
    do_not_retry: bool,
    location: u16,
}

impl PartialEq for Status {
    fn eq(&self, other: &Status) -> bool {
        self.to_wire() == other.to_wire()
    }
}

impl Eq for Status {}

/// Parameter Error Location of an error that is in no part of the command.
const NOWHERE: u16 = 0xffff;

const GENERIC: u8 = 0;
const COMMAND_SPECIFIC: u8 = 1;
const MEDIA: u8 = 2;

const fn fatal(code_type: u8, code: u8) -> Status {
    Status { code_type, code, do_not_retry: true, location: NOWHERE }
}

const fn again(code_type: u8, code: u8) -> Status {
    Status { code_type, code, do_not_retry: false, location: NOWHERE }
}

impl Status {
    pub(crate) const SUCCESS: Status = again(GENERIC, 0x00);
    pub(crate) const INVALID_OPCODE: Status = fatal(GENERIC, 0x01).at(0);
    pub(crate) const INVALID_FIELD: Status = fatal(GENERIC, 0x02);
    pub(crate) const COMMAND_ID_CONFLICT: Status = fatal(GENERIC, 0x03).at(2);
    pub(crate) const INTERNAL_ERROR: Status = again(GENERIC, 0x06);
    pub(crate) const ABORT_REQUESTED: Status = again(GENERIC, 0x07);
    pub(crate) const ABORTED_BY_QUEUE_DELETION: Status = again(GENERIC, 0x08);
    /// Command Aborted due to Failed Fused Command.
    pub(crate) const FUSED_FAILED: Status = again(GENERIC, 0x09);
    /// Command Aborted due to Missing Fused Command.
    pub(crate) const FUSED_MISSING: Status = fatal(GENERIC, 0x0a).at(1);
    pub(crate) const INVALID_NAMESPACE: Status = fatal(GENERIC, 0x0b).at(4);
    /// Invalid Field in Command, for an NSID that could be and is not in use.
    pub(crate) const INACTIVE_NAMESPACE: Status = Status::INVALID_FIELD.at(4);
    pub(crate) const COMMAND_SEQUENCE: Status = fatal(GENERIC, 0x0c);
    pub(crate) const DATA_SGL_LENGTH: Status = fatal(GENERIC, 0x0f).at(32);
    pub(crate) const SGL_DESCRIPTOR_TYPE: Status = fatal(GENERIC, 0x11).at(39);
    pub(crate) const SGL_OFFSET: Status = fatal(GENERIC, 0x16).at(24);
    pub(crate) const KEEP_ALIVE_TIMEOUT_INVALID: Status = fatal(GENERIC, 0x1a);
    /// Command Aborted due to Preempt and Abort.
    pub(crate) const ABORTED_BY_PREEMPTION: Status = again(GENERIC, 0x1b);
    pub(crate) const COMMAND_INTERRUPTED: Status = again(GENERIC, 0x21);
    pub(crate) const TRANSIENT_TRANSPORT: Status = again(GENERIC, 0x22);
    pub(crate) const LBA_OUT_OF_RANGE: Status = fatal(GENERIC, 0x80).at(40);
    pub(crate) const CAPACITY_EXCEEDED: Status = fatal(GENERIC, 0x81);
    pub(crate) const NAMESPACE_NOT_READY: Status = again(GENERIC, 0x82);

    /// Not to be retried: it would be in conflict again for as long as others hold the namespace.
    pub(crate) const RESERVATION_CONFLICT: Status = fatal(GENERIC, 0x83);

    pub(crate) const ABORT_LIMIT: Status = fatal(COMMAND_SPECIFIC, 0x03);
    pub(crate) const ASYNC_EVENT_LIMIT: Status = fatal(COMMAND_SPECIFIC, 0x05);
    pub(crate) const INVALID_LOG_PAGE: Status = fatal(COMMAND_SPECIFIC, 0x09).at(40);
    pub(crate) const FEATURE_NOT_SAVEABLE: Status = fatal(COMMAND_SPECIFIC, 0x0d).at(43);
    pub(crate) const FEATURE_NOT_PER_NAMESPACE: Status = fatal(COMMAND_SPECIFIC, 0x0f).at(4);
    pub(crate) const CONNECT_INCOMPATIBLE_FORMAT: Status = fatal(COMMAND_SPECIFIC, 0x80);
    pub(crate) const CONNECT_CONTROLLER_BUSY: Status = again(COMMAND_SPECIFIC, 0x81);
    pub(crate) const CONNECT_INVALID_PARAMETERS: Status = fatal(COMMAND_SPECIFIC, 0x82);
    pub(crate) const CONNECT_INVALID_HOST: Status = fatal(COMMAND_SPECIFIC, 0x84);
    pub(crate) const INVALID_QUEUE_TYPE: Status = fatal(COMMAND_SPECIFIC, 0x85);
    pub(crate) const INVALID_PROTECTION: Status = fatal(COMMAND_SPECIFIC, 0x81);
    pub(crate) const COMMAND_SIZE_LIMIT: Status = fatal(COMMAND_SPECIFIC, 0x83);
    /// Incompatible Namespace or Format.
    pub(crate) const INCOMPATIBLE_FORMAT: Status = fatal(COMMAND_SPECIFIC, 0x85);
    /// Overlapping I/O Range.
    pub(crate) const OVERLAPPING_RANGE: Status = fatal(COMMAND_SPECIFIC, 0x87);

    const WRITE_FAULT: Status = fatal(MEDIA, 0x80);
    const UNRECOVERED_READ: Status = fatal(MEDIA, 0x81);
    const MISCOMPARE: Status = fatal(MEDIA, 0x85);

    /// How a failure of the block layer shows. Failed checks of what is written are not to be retried: it would be the same
    /// tuples again.
    pub(crate) fn from_block(error: BlockError, operation: Operation) -> Status {
        match error {
            BlockError::OutOfRange => Status::LBA_OUT_OF_RANGE,
            BlockError::Protection(fault) => {
                let code = match fault.tag {
                    Tag::Guard => 0x82,
                    Tag::App => 0x83,
                    Tag::Ref => 0x84,
                    Tag::Storage => 0x88,
                };
                let writes = matches!(operation, Operation::Write | Operation::CopyTarget);
                if writes && !holdfast_mutant::active("pi-retry") {
                    fatal(MEDIA, code)
                } else {
                    again(MEDIA, code)
                }
            }
            BlockError::InvalidProtection => Status::INVALID_PROTECTION,
            BlockError::Miscompare(_) => Status::MISCOMPARE,
            BlockError::NoRoom => Status::CAPACITY_EXCEEDED,
            BlockError::Busy => Status::COMMAND_INTERRUPTED,
            BlockError::Media(_) | BlockError::Uncorrectable(_) => Status::UNRECOVERED_READ,
            BlockError::WriteFault => Status::WRITE_FAULT,
            BlockError::FusedFailed => Status::FUSED_FAILED,
            BlockError::Gone | BlockError::ReservationsLost => Status::NAMESPACE_NOT_READY,
            BlockError::ReservationConflict => Status::RESERVATION_CONFLICT,
            BlockError::Preempted => Status::ABORTED_BY_PREEMPTION,
            BlockError::Digest => Status::TRANSIENT_TRANSPORT,
            BlockError::Internal => Status::INTERNAL_ERROR,
        }
    }

    /// The same without Do Not Retry: for what another attempt may find different.
    pub(crate) const fn retryable(self) -> Status {
        Status { do_not_retry: false, ..self }
    }

    /// The same, known to be about the parameter that begins at this byte of the command.
    pub(crate) const fn at(self, byte: u8) -> Status {
        // Lossless: `From` cannot be used in a constant.
        Status { location: byte as u16, ..self }
    }

    /// As [`Status::at`], for a parameter that begins within a byte.
    pub(crate) const fn at_bit(self, byte: u8, bit: u8) -> Status {
        Status { location: (byte as u16) | ((bit as u16 & 0b111) << 8), ..self }
    }

    /// Parameter Error Location. Base 2.1 §5.1.12.1.2 "Error Information (Log Page Identifier 01h)".
    pub(crate) fn location(self) -> u16 {
        self.location
    }

    /// Whether it belongs into the error log: not so what the host brought about itself, or what passes by itself.
    pub(crate) fn is_logged(self) -> bool {
        let passing = [
            Status::SUCCESS,
            Status::ABORT_REQUESTED,
            Status::ABORTED_BY_QUEUE_DELETION,
            Status::ABORTED_BY_PREEMPTION,
            Status::COMMAND_INTERRUPTED,
        ];
        !passing.contains(&self)
    }

    /// Whether data was found damaged, by a check or by the medium.
    pub(crate) fn is_damage(self) -> bool {
        self.code_type == MEDIA && self != Status::MISCOMPARE
    }

    pub(crate) fn is_success(self) -> bool {
        self == Status::SUCCESS
    }

    /// The upper half of Dword 3 of the completion: phase tag 0 (Fabrics has none), SC, SCT, no retry delay, DNR.
    pub(crate) fn to_wire(self) -> u16 {
        (u16::from(self.code) << 1) | (u16::from(self.code_type) << 9) | (u16::from(self.do_not_retry) << 15)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pi::Fault;

    fn protection(tag: Tag) -> BlockError {
        BlockError::Protection(Fault { block_index: 0, tag, expected: 1, actual: 2 })
    }

    #[test]
    fn success_is_all_zero() {
        assert_eq!(Status::SUCCESS.to_wire(), 0);
    }

    #[test]
    fn failed_checks_of_writes_are_not_to_be_retried() {
        for (tag, code) in [(Tag::Guard, 0x82), (Tag::App, 0x83), (Tag::Ref, 0x84), (Tag::Storage, 0x88)] {
            let wire = Status::from_block(protection(tag), Operation::Write).to_wire();
            assert_eq!(wire, 0x8000 | (2 << 9) | (code << 1));
        }
    }

    #[test]
    fn failed_checks_of_reads_may_be_retried() {
        let wire = Status::from_block(protection(Tag::Guard), Operation::Read).to_wire();
        assert_eq!(wire, (2 << 9) | (0x82 << 1));
    }

    #[test]
    fn a_reservation_conflict_is_not_to_be_retried_and_a_preempted_command_may_be() {
        let status = |error| Status::from_block(error, Operation::Write).to_wire();
        assert_eq!(status(BlockError::ReservationConflict), 0x8000 | (0x83 << 1));
        assert_eq!(status(BlockError::Preempted), 0x1b << 1);
    }

    #[test]
    fn a_damaged_payload_is_a_transient_transport_error() {
        let wire = Status::from_block(BlockError::Digest, Operation::Write).to_wire();
        assert_eq!(wire, 0x22 << 1);
    }
}
