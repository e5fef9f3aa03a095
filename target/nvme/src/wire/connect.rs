//! Connect, Property Get and Property Set. Base 2.1 §6.3 "Connect Command and Response", §6.5 "Property Get", §6.6 "Property Set".

use zerocopy::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::sqe::Sqe;

/// Fabrics command types.
pub(crate) mod fctype {
    pub(crate) const PROPERTY_SET: u8 = 0x00;
    pub(crate) const CONNECT: u8 = 0x01;
    pub(crate) const PROPERTY_GET: u8 = 0x04;
    pub(crate) const AUTHENTICATION_SEND: u8 = 0x05;
    pub(crate) const AUTHENTICATION_RECEIVE: u8 = 0x06;
    pub(crate) const DISCONNECT: u8 = 0x08;
}

/// Where errors of Connect are: offsets for IPO.
pub(crate) mod offset {
    pub(crate) const QID: u16 = 42;
    pub(crate) const SQSIZE: u16 = 44;
    pub(crate) const HOSTID: u16 = 0;
    pub(crate) const CNTLID: u16 = 16;
    pub(crate) const SUBNQN: u16 = 256;
    pub(crate) const HOSTNQN: u16 = 512;
}

/// The parameters in a Connect's submission queue entry.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConnectFields {
    pub(crate) record_format: u16,
    pub(crate) qid: u16,
    /// Zeroes based.
    pub(crate) sq_size: u16,
    /// CATTR bit 2.
    pub(crate) disable_flow_control: bool,
    pub(crate) kato_ms: u32,
}

impl ConnectFields {
    pub(crate) fn of(sqe: &Sqe) -> ConnectFields {
        let [a, b, c, d] = sqe.cdw10.to_bytes();
        let [e, f, attributes, _] = sqe.cdw11.to_bytes();
        ConnectFields {
            record_format: u16::from_le_bytes([a, b]),
            qid: u16::from_le_bytes([c, d]),
            sq_size: u16::from_le_bytes([e, f]),
            disable_flow_control: attributes & 0b100 != 0,
            kato_ms: sqe.cdw12.get(),
        }
    }
}

/// Connect's data.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ConnectData {
    pub(crate) host_id: [u8; 16],
    pub(crate) cntlid: U16,
    reserved: [u8; 238],
    pub(crate) subnqn: [u8; 256],
    pub(crate) hostnqn: [u8; 256],
    reserved_end: [u8; 256],
}
const _: () = assert!(size_of::<ConnectData>() == CONNECT_DATA_LEN);

/// Bytes of [`ConnectData`].
pub(crate) const CONNECT_DATA_LEN: usize = 1024;

/// CNTLID of a Connect that wants a controller allocated (the dynamic controller model).
pub(crate) const CNTLID_DYNAMIC: u16 = 0xffff;

/// Property offsets. Base 2.1 §3.1.4 "Controller Properties".
pub(crate) mod property {
    pub(crate) const CAP: u32 = 0x00;
    pub(crate) const VS: u32 = 0x08;
    pub(crate) const CC: u32 = 0x14;
    pub(crate) const CSTS: u32 = 0x1c;
    pub(crate) const CRTO: u32 = 0x68;
}

/// A Property Get or Set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PropertyFields {
    /// ATTRIB bits 2:0: 0 for 4 bytes, 1 for 8.
    pub(crate) size_code: u8,
    pub(crate) offset: u32,
    /// Property Set only.
    pub(crate) value: u64,
}

impl PropertyFields {
    pub(crate) fn of(sqe: &Sqe) -> PropertyFields {
        let [attributes, ..] = sqe.cdw10.to_bytes();
        PropertyFields {
            size_code: attributes & 0b111,
            offset: sqe.cdw11.get(),
            value: u64::from(sqe.cdw12.get()) | (u64::from(sqe.cdw13.get()) << 32),
        }
    }
}
