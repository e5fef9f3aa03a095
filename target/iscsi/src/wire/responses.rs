//! What we send. StatSN, ExpCmdSN and MaxCmdSN are in the same place in all of it.

use zerocopy::big_endian::{U16, U32};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::BHS_LEN;

/// The numbers that every PDU to the initiator carries.
#[derive(Debug, Clone, Copy, Default, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Numbers {
    pub(crate) stat_sn: U32,
    pub(crate) exp_cmd_sn: U32,
    pub(crate) max_cmd_sn: U32,
}

macro_rules! pdu {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        pub(crate) struct $name {
            pub(crate) opcode: u8,
            $(pub(crate) $field: $type,)*
        }

        const _: () = assert!(size_of::<$name>() == BHS_LEN);

        impl $name {
            pub(crate) fn new(opcode: u8) -> $name {
                $name { opcode, ..$name::new_zeroed() }
            }
        }
    };
}

pdu! {
    /// §11.4 "SCSI Response".
    ScsiResponse {
        flags: u8, response: u8, status: u8, ahs: u8, data_len: [u8; 3], reserved: [u8; 8], itt: U32,
        snack: U32, numbers: Numbers, exp_data_sn: U32, bidirectional_residual: U32, residual: U32,
    }
}

pdu! {
    /// §11.6 "Task Management Function Response".
    TaskResponse {
        flags: u8, response: u8, reserved: u8, lengths: [u8; 4], reserved_a: [u8; 8], itt: U32,
        reserved_b: [u8; 4], numbers: Numbers, reserved_end: [u8; 12],
    }
}

pdu! {
    /// §11.7 "SCSI Data-Out and SCSI Data-In".
    DataIn {
        flags: u8, reserved: u8, status: u8, ahs: u8, data_len: [u8; 3], lun: [u8; 8], itt: U32, ttt: U32,
        numbers: Numbers, data_sn: U32, offset: U32, residual: U32,
    }
}

pdu! {
    /// §11.8 "Ready To Transfer (R2T)".
    R2t {
        flags: u8, reserved: [u8; 2], lengths: [u8; 4], lun: [u8; 8], itt: U32, ttt: U32, numbers: Numbers,
        r2t_sn: U32, offset: U32, desired_len: U32,
    }
}

pdu! {
    /// §11.9 "Asynchronous Message".
    AsyncMessage {
        flags: u8, reserved: [u8; 2], lengths: [u8; 4], lun: [u8; 8], itt: U32, reserved_a: [u8; 4],
        numbers: Numbers, event: u8, vendor: u8, parameter1: U16, parameter2: U16, parameter3: U16,
        reserved_end: [u8; 4],
    }
}

pdu! {
    /// §11.11 "Text Response".
    TextResponse {
        flags: u8, reserved: [u8; 2], ahs: u8, data_len: [u8; 3], lun: [u8; 8], itt: U32, ttt: U32,
        numbers: Numbers, reserved_end: [u8; 12],
    }
}

pdu! {
    /// §11.13 "Login Response".
    LoginResponse {
        flags: u8, version_max: u8, version_active: u8, ahs: u8, data_len: [u8; 3], isid: [u8; 6], tsih: U16,
        itt: U32, reserved: [u8; 4], numbers: Numbers, status: [u8; 2], reserved_end: [u8; 10],
    }
}

pdu! {
    /// §11.15 "Logout Response".
    LogoutResponse {
        flags: u8, response: u8, reserved: u8, lengths: [u8; 4], reserved_a: [u8; 8], itt: U32,
        reserved_b: [u8; 4], numbers: Numbers, reserved_c: [u8; 4], time2wait: U16, time2retain: U16,
        reserved_end: [u8; 4],
    }
}

pdu! {
    /// §11.17 "Reject".
    Reject {
        flags: u8, reason: u8, reserved: u8, ahs: u8, data_len: [u8; 3], reserved_a: [u8; 8], itt: U32,
        reserved_b: [u8; 4], numbers: Numbers, data_sn: U32, reserved_end: [u8; 8],
    }
}

pdu! {
    /// §11.19 "NOP-In".
    NopIn {
        flags: u8, reserved: [u8; 2], ahs: u8, data_len: [u8; 3], lun: [u8; 8], itt: U32, ttt: U32,
        numbers: Numbers, reserved_end: [u8; 12],
    }
}
