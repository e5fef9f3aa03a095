//! Identify Namespace in its parts. NVM Command Set 1.1 §4.1.5.1 "Identify Namespace data structure (CNS 00h)", §4.1.5.3 "I/O
//! Command Set specific Identify Namespace data structure (CNS 05h, CSI 00h)"; Base 2.1 §5.1.13.2.8 "I/O Command Set Independent
//! Identify Namespace data structure (CNS 08h)".

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::identify::IDENTIFY_LEN;

/// One LBA format.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct LbaFormat {
    pub(crate) metadata_size: U16,
    /// Block length as a power of two.
    pub(crate) data_size_shift: u8,
    relative_performance: u8,
}

/// The namespace. It has a single LBA format: the one of its volume in the host's view.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct IdentifyNamespace {
    pub(crate) size: U64,
    pub(crate) capacity: U64,
    pub(crate) utilization: U64,
    pub(crate) features: u8,
    number_of_formats: u8,
    pub(crate) formatted_size: u8,
    pub(crate) metadata_capabilities: u8,
    pub(crate) protection_capabilities: u8,
    pub(crate) protection_type: u8,
    pub(crate) sharing: u8,
    zero_31: [u8; 2],
    pub(crate) deallocate_features: u8,
    /// NAWUN, zeroes based.
    pub(crate) atomic_write: U16,
    /// NAWUPF, zeroes based.
    pub(crate) atomic_write_power_fail: U16,
    /// NACWU, zeroes based.
    pub(crate) atomic_compare_write: U16,
    zero_40: [u8; 34],
    /// MSSRL.
    pub(crate) copy_range_length: U16,
    /// MCL.
    pub(crate) copy_length: U32,
    /// MSRC, zeroes based.
    pub(crate) copy_ranges: u8,
    zero_81: [u8; 23],
    pub(crate) nguid: [u8; 16],
    zero_120: [u8; 8],
    pub(crate) format: LbaFormat,
    zero_132: [u8; 3964],
}
const _: () = assert!(size_of::<IdentifyNamespace>() == IDENTIFY_LEN);
const _: () = assert!(std::mem::offset_of!(IdentifyNamespace, copy_range_length) == 74);
const _: () = assert!(std::mem::offset_of!(IdentifyNamespace, nguid) == 104);
const _: () = assert!(std::mem::offset_of!(IdentifyNamespace, format) == 128);

/// NSFEAT: thin provisioning.
pub(crate) const NSFEAT_THIN: u8 = 1;
/// NSFEAT: the namespace has its own atomicity parameters.
pub(crate) const NSFEAT_ATOMICITY: u8 = 1 << 1;
/// FLBAS: metadata is transferred as part of an extended logical block.
pub(crate) const FLBAS_EXTENDED: u8 = 1 << 4;
/// MC: metadata as part of an extended logical block.
pub(crate) const MC_EXTENDED: u8 = 1;
/// DPC: protection information as the last bytes of metadata.
pub(crate) const DPC_LAST_BYTES: u8 = 1 << 4;
/// NMIC: may be attached to several controllers.
pub(crate) const NMIC_SHARED: u8 = 1;
/// DLFEAT: deallocated blocks read as zeroes, their tuples as all ones, and Write Zeroes deallocates on request.
pub(crate) const DLFEAT: u8 = 0b0_1001;

/// What the NVM command set adds: storage tags and guards.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct IdentifyNamespaceNvm {
    /// LBSTM.
    pub(crate) storage_tag_mask: U64,
    /// PIC.
    pub(crate) protection_formats: u8,
    zero_9: [u8; 3],
    /// ELBAF0: storage tag size in bits 6:0, guard in bits 8:7.
    pub(crate) extended_format: U32,
    zero_16: [u8; 4080],
}
const _: () = assert!(size_of::<IdentifyNamespaceNvm>() == IDENTIFY_LEN);

/// PIC of a namespace with 32- or 64-bit guards, which shall say so: storage tags with 16-bit guards as well (PISTS16B), and STCR
/// of Copy (STCRS).
pub(crate) const PIC_EXTENDED: u8 = (1 << 0) | (1 << 2);

/// What all command sets share.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct IdentifyNamespaceIndependent {
    zero_0: u8,
    pub(crate) sharing: u8,
    zero_2: [u8; 12],
    /// NSTAT: bit 0 means ready.
    pub(crate) status: u8,
    zero_15: [u8; 4081],
}
const _: () = assert!(size_of::<IdentifyNamespaceIndependent>() == IDENTIFY_LEN);

/// NSTAT: the namespace is ready.
pub(crate) const NSTAT_READY: u8 = 1;

/// Types of Namespace Identification Descriptors (CNS 03h). Base 2.1 §5.1.13.2.3.
pub(crate) mod descriptor {
    pub(crate) const NGUID: u8 = 0x02;
    pub(crate) const UUID: u8 = 0x03;
    pub(crate) const CSI: u8 = 0x04;
}
