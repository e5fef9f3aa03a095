//! Submission and completion queue entries. Base 2.1 §4.1 "Submission Queue Entry" and §4.2 "Completion Queue Entry".

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Opcode of Fabrics commands. Base 2.1 §6 "Fabrics Commands".
pub(crate) const OPCODE_FABRICS: u8 = 0x7f;

/// A submission queue entry.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Sqe {
    pub(crate) opcode: u8,
    /// FUSE in bits 1:0, PSDT in bits 7:6.
    pub(crate) flags: u8,
    pub(crate) cid: U16,
    /// In Fabrics commands byte 4 is FCTYPE.
    pub(crate) nsid: U32,
    pub(crate) cdw2: U32,
    pub(crate) cdw3: U32,
    pub(crate) mptr: U64,
    pub(crate) sgl: SglDescriptor,
    pub(crate) cdw10: U32,
    pub(crate) cdw11: U32,
    pub(crate) cdw12: U32,
    pub(crate) cdw13: U32,
    pub(crate) cdw14: U32,
    pub(crate) cdw15: U32,
}
const _: () = assert!(size_of::<Sqe>() == 64);

/// FUSE 11b is reserved.
const FUSE_RESERVED: u8 = 0b11;
/// PSDT 01b: SGLs. Base 2.1 §4.1.1 "Admin Command and I/O Command Common SQE Format" has all commands over Fabrics say so, also
/// those without data.
const PSDT_SGL: u8 = 0b01;

impl Sqe {
    /// FUSE.
    pub(crate) fn fuse(&self) -> u8 {
        self.flags & 0b11
    }

    /// Whether FUSE has a value that is reserved on every queue.
    pub(crate) fn has_reserved_fuse(&self) -> bool {
        self.fuse() == FUSE_RESERVED
    }

    /// Whether the command says that its data is described by an SGL.
    pub(crate) fn uses_sgl(&self) -> bool {
        self.flags >> 6 == PSDT_SGL
    }

    /// FCTYPE of a Fabrics command.
    pub(crate) fn fctype(&self) -> u8 {
        let [fctype, ..] = self.nsid.to_bytes();
        fctype
    }
}

/// An SGL descriptor. Base 2.1 §4.3.2 "Scatter Gather List (SGL)".
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct SglDescriptor {
    pub(crate) address: U64,
    pub(crate) length: U32,
    reserved: [u8; 3],
    /// Type in bits 7:4, subtype in bits 3:0.
    pub(crate) identifier: u8,
}
const _: () = assert!(size_of::<SglDescriptor>() == 16);

/// SGL Data Block with an offset into the capsule. NVMe/TCP 1.1 §3.5 "Data Transfer Model".
pub(crate) const SGL_IN_CAPSULE: u8 = 0x01;
/// Transport SGL Data Block, transport specific: the data moves in data PDUs.
pub(crate) const SGL_TRANSPORT: u8 = 0x5a;

/// A completion queue entry.
#[derive(Debug, Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Cqe {
    /// Dwords 0 and 1.
    pub(crate) result: U64,
    pub(crate) sqhd: U16,
    pub(crate) sqid: U16,
    pub(crate) cid: U16,
    pub(crate) status: U16,
}
const _: () = assert!(size_of::<Cqe>() == 16);
