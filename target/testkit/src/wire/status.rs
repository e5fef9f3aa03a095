//! Status fields and their names. NVM Express Base 2.1 §4.2.3 "Status Field Definition".

use std::fmt;

/// The Status field of a completion, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Status {
    /// Status Code Type.
    pub sct: u8,
    /// Status Code.
    pub sc: u8,
    /// Command Retry Delay (an index into CRDT1 to CRDT3, 0 for none).
    pub crd: u8,
    /// More: the Error Information log has more.
    pub more: bool,
    /// Do Not Retry.
    pub dnr: bool,
}

impl Status {
    /// Successful Completion.
    pub const SUCCESS: Self = Self { sct: 0, sc: 0, crd: 0, more: false, dnr: false };

    /// From the 16 bits of the completion's last two bytes; bit 0 is the Phase Tag and is ignored.
    #[must_use]
    pub fn from_bits(bits: u16) -> Self {
        let [low, high] = (bits >> 1).to_le_bytes();
        Self {
            sct: high & 0x07,
            sc: low,
            crd: (high >> 3) & 0x03,
            more: high & 0x20 != 0,
            dnr: high & 0x40 != 0,
        }
    }

    /// Back to 16 bits, with a Phase Tag of 0 as fabrics ask.
    #[must_use]
    pub fn to_bits(self) -> u16 {
        let high =
            (self.sct & 0x07) | (self.crd & 0x03) << 3 | u8::from(self.more) << 5 | u8::from(self.dnr) << 6;
        u16::from_le_bytes([self.sc, high]) << 1
    }

    /// Whether type and code are these (DNR, More and CRD are not looked at).
    #[must_use]
    pub fn is(self, sct: u8, sc: u8) -> bool {
        self.sct == sct && self.sc == sc
    }

    /// Whether the command succeeded.
    #[must_use]
    pub fn is_success(self) -> bool {
        self.is(0, 0)
    }

    /// Type and code as one pair, to compare with the constants in [`code`].
    #[must_use]
    pub fn pair(self) -> (u8, u8) {
        (self.sct, self.sc)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}h/{:02x}h", self.sct, self.sc)?;
        if let Some(name) = code::name(self.pair()) {
            write!(f, " {name}")?;
        }
        if self.dnr {
            f.write_str(" (do not retry)")?;
        }
        Ok(())
    }
}

/// Pairs of Status Code Type and Status Code that tests ask for by name.
pub mod code {
    macro_rules! codes {
        ($($(#[$doc:meta])* $constant:ident = ($sct:literal, $sc:literal), $name:literal;)*) => {
            $($(#[$doc])* #[doc = $name] pub const $constant: (u8, u8) = ($sct, $sc);)*

            /// The specification's name of a pair, where it is listed here.
            #[must_use]
            pub fn name(pair: (u8, u8)) -> Option<&'static str> {
                match pair {
                    $(($sct, $sc) => Some($name),)*
                    _ => None,
                }
            }
        };
    }

    codes! {
        SUCCESS = (0x0, 0x00), "Successful Completion";
        INVALID_OPCODE = (0x0, 0x01), "Invalid Command Opcode";
        INVALID_FIELD = (0x0, 0x02), "Invalid Field in Command";
        ID_CONFLICT = (0x0, 0x03), "Command ID Conflict";
        DATA_TRANSFER_ERROR = (0x0, 0x04), "Data Transfer Error";
        INTERNAL_ERROR = (0x0, 0x06), "Internal Error";
        ABORT_REQUESTED = (0x0, 0x07), "Command Abort Requested";
        INVALID_NAMESPACE = (0x0, 0x0b), "Invalid Namespace or Format";
        SEQUENCE_ERROR = (0x0, 0x0c), "Command Sequence Error";
        INVALID_SGL_COUNT = (0x0, 0x0e), "Invalid Number of SGL Descriptors";
        DATA_SGL_LENGTH_INVALID = (0x0, 0x0f), "Data SGL Length Invalid";
        SGL_TYPE_INVALID = (0x0, 0x11), "SGL Descriptor Type Invalid";
        SGL_OFFSET_INVALID = (0x0, 0x16), "SGL Offset Invalid";
        HOST_ID_INCONSISTENT = (0x0, 0x18), "Host Identifier Inconsistent Format";
        KEEP_ALIVE_EXPIRED = (0x0, 0x19), "Keep Alive Timer Expired";
        KEEP_ALIVE_INVALID = (0x0, 0x1a), "Keep Alive Timeout Invalid";
        TRANSIENT_TRANSPORT_ERROR = (0x0, 0x22), "Transient Transport Error";
        FUSED_ABORTED = (0x0, 0x09), "Command Aborted due to Failed Fused Command";
        FUSED_MISSING = (0x0, 0x0a), "Command Aborted due to Missing Fused Command";
        LBA_OUT_OF_RANGE = (0x0, 0x80), "LBA Out of Range";
        CAPACITY_EXCEEDED = (0x0, 0x81), "Capacity Exceeded";
        NAMESPACE_NOT_READY = (0x0, 0x82), "Namespace Not Ready";
        INVALID_LOG_PAGE = (0x1, 0x09), "Invalid Log Page";
        ABORT_LIMIT_EXCEEDED = (0x1, 0x03), "Abort Command Limit Exceeded";
        AER_LIMIT_EXCEEDED = (0x1, 0x05), "Asynchronous Event Request Limit Exceeded";
        NOT_SAVEABLE = (0x1, 0x0d), "Feature Identifier Not Saveable";
        NOT_CHANGEABLE = (0x1, 0x0e), "Feature Not Changeable";
        NOT_PER_NAMESPACE = (0x1, 0x0f), "Feature Not Namespace Specific";
        CONNECT_INCOMPATIBLE_FORMAT = (0x1, 0x80), "Connect Incompatible Format";
        /// With command specific codes of the NVM command set this is also "Invalid Protection Information".
        CONTROLLER_BUSY = (0x1, 0x81), "Invalid Protection Information or Controller Busy";
        CONNECT_INVALID_PARAMETERS = (0x1, 0x82), "Connect Invalid Parameters";
        CONNECT_INVALID_HOST = (0x1, 0x84), "Connect Invalid Host";
        COMMAND_SIZE_LIMIT = (0x1, 0x83), "Connect Restart Discovery or Command Size Limit Exceeded";
        INVALID_QUEUE_TYPE = (0x1, 0x85), "Invalid Queue Type or Incompatible Namespace or Format";
        FAST_COPY_NOT_POSSIBLE = (0x1, 0x86), "Fast Copy Not Possible";
        OVERLAPPING_RANGE = (0x1, 0x87), "Overlapping I/O Range";
        WRITE_FAULT = (0x2, 0x80), "Write Fault";
        UNRECOVERED_READ = (0x2, 0x81), "Unrecovered Read Error";
        GUARD_CHECK = (0x2, 0x82), "End-to-end Guard Check Error";
        APP_TAG_CHECK = (0x2, 0x83), "End-to-end Application Tag Check Error";
        REF_TAG_CHECK = (0x2, 0x84), "End-to-end Reference Tag Check Error";
        COMPARE_FAILURE = (0x2, 0x85), "Compare Failure";
        ACCESS_DENIED = (0x2, 0x86), "Access Denied";
        STORAGE_TAG_CHECK = (0x2, 0x88), "End-to-End Storage Tag Check Error";
    }

    /// The NVM command set's reading of 1h/81h.
    pub const INVALID_PROTECTION_INFORMATION: (u8, u8) = (0x1, 0x81);
    /// The NVM command set's reading of 1h/85h.
    pub const INCOMPATIBLE_NAMESPACE: (u8, u8) = (0x1, 0x85);
    /// Connect's reading of 1h/83h.
    pub const CONNECT_RESTART_DISCOVERY: (u8, u8) = (0x1, 0x83);
}

#[cfg(test)]
mod tests {
    use super::{Status, code};
    use proptest::prelude::*;

    #[test]
    fn guard_check_error_with_dnr_is_read_from_its_bits() {
        let status = Status::from_bits(0x8000 | 0x2 << 9 | 0x82 << 1 | 1);
        assert!(status.is(2, 0x82) && status.dnr && !status.more);
        assert_eq!(status.pair(), code::GUARD_CHECK);
        assert_eq!(status.to_string(), "2h/82h End-to-end Guard Check Error (do not retry)");
    }

    proptest! {
        #[test]
        fn status_bits_survive_the_round_trip(bits: u16) {
            prop_assert_eq!(Status::from_bits(bits).to_bits(), bits & !1);
        }
    }
}
