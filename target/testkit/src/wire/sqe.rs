//! Submission queue entries, built field by field over their 64 raw bytes.
//!
//! NVM Express Base 2.1 §4.1 "Submission Queue Entry" (common format, SGLs of §4.3.2 "Scatter Gather List
//! (SGL)") and §6 "Fabrics Command Set". Every setter takes and returns the entry, so that a test states only
//! what it cares about; [`Sqe::byte`] reaches what has no setter.

/// A command: 64 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Sqe([u8; Sqe::LEN]);

impl std::fmt::Debug for Sqe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Sqe(opcode {:02x}h, cid {:04x}h, nsid {}, {:02x?})",
            self.opcode(),
            self.cid(),
            self.nsid(),
            self.0
        )
    }
}

impl Sqe {
    /// Bytes of an entry.
    pub const LEN: usize = 64;

    /// A command with this opcode, PSDT 01b (SGLs, which fabrics ask for), and zeros elsewhere.
    #[must_use]
    pub fn new(opcode: u8) -> Self {
        let mut bytes = [0; Self::LEN];
        bytes[0] = opcode;
        bytes[1] = 0x40;
        Self(bytes)
    }

    /// A Fabrics command with this FCTYPE.
    #[must_use]
    pub fn fabrics(fctype: u8) -> Self {
        Self::new(opcode::FABRICS).byte(4, fctype)
    }

    /// From raw bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Sets one raw byte. Offsets beyond the entry are ignored.
    #[must_use]
    pub fn byte(mut self, at: usize, value: u8) -> Self {
        if let Some(byte) = self.0.get_mut(at) {
            *byte = value;
        }
        self
    }

    /// The flags byte: FUSE in bits 1:0, PSDT in bits 7:6.
    #[must_use]
    pub fn flags(self, flags: u8) -> Self {
        self.byte(1, flags)
    }

    /// Command Identifier (the queue sets it on submission).
    #[must_use]
    pub fn with_cid(self, cid: u16) -> Self {
        self.put(2, &cid.to_le_bytes())
    }

    /// Namespace Identifier.
    #[must_use]
    pub fn with_nsid(self, nsid: u32) -> Self {
        self.put(4, &nsid.to_le_bytes())
    }

    /// Command dword `index`, 0 to 15.
    #[must_use]
    pub fn cdw(self, index: usize, value: u32) -> Self {
        self.put(index.saturating_mul(4), &value.to_le_bytes())
    }

    /// Command dwords `index` (low) and `index + 1` (high) as one value.
    #[must_use]
    pub fn cdw_pair(self, index: usize, value: u64) -> Self {
        self.put(index.saturating_mul(4), &value.to_le_bytes())
    }

    /// SGL1 as 16 raw bytes: address, length, three reserved bytes, identifier.
    #[must_use]
    pub fn sgl(self, address: u64, length: u32, identifier: u8) -> Self {
        self.put(24, &address.to_le_bytes())
            .put(32, &length.to_le_bytes())
            .put(36, &[0, 0, 0])
            .byte(39, identifier)
    }

    /// SGL1 for data in the capsule at `offset`: Data Block descriptor, Offset sub type (01h).
    #[must_use]
    pub fn sgl_in_capsule(self, offset: u64, length: u32) -> Self {
        self.sgl(offset, length, SGL_DATA_BLOCK_OFFSET)
    }

    /// SGL1 for data that the transport moves by its own PDUs: Transport Data Block descriptor (5Ah).
    #[must_use]
    pub fn sgl_transport(self, length: u32) -> Self {
        self.sgl(0, length, SGL_TRANSPORT_DATA_BLOCK)
    }

    /// The opcode.
    #[must_use]
    pub fn opcode(&self) -> u8 {
        self.0[0]
    }

    /// The Command Identifier.
    #[must_use]
    pub fn cid(&self) -> u16 {
        u16::from_le_bytes([self.0[2], self.0[3]])
    }

    /// The Namespace Identifier.
    #[must_use]
    pub fn nsid(&self) -> u32 {
        u32::from_le_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// FCTYPE of a Fabrics command.
    #[must_use]
    pub fn fctype(&self) -> u8 {
        self.0[4]
    }

    /// Command dword `index`; zero beyond the entry.
    #[must_use]
    pub fn dword(&self, index: usize) -> u32 {
        super::le32(&self.0, index.saturating_mul(4)).unwrap_or(0)
    }

    /// The length in SGL1.
    #[must_use]
    pub fn sgl_length(&self) -> u32 {
        self.dword(8)
    }

    /// The identifier byte of SGL1.
    #[must_use]
    pub fn sgl_identifier(&self) -> u8 {
        self.0[39]
    }

    fn put(mut self, at: usize, value: &[u8]) -> Self {
        if let Some(field) = self.0.get_mut(at..at.saturating_add(value.len())) {
            field.copy_from_slice(value);
        }
        self
    }
}

/// SGL descriptor type 0h (Data Block), sub type 1h (Offset).
const SGL_DATA_BLOCK_OFFSET: u8 = 0x01;
/// SGL descriptor type 5h (Transport Data Block), sub type Ah (transport specific).
const SGL_TRANSPORT_DATA_BLOCK: u8 = 0x5a;

/// Opcodes and Fabrics command types.
pub mod opcode {
    /// Fabrics.
    pub const FABRICS: u8 = 0x7f;
    /// FCTYPE of Property Set.
    pub const PROPERTY_SET: u8 = 0x00;
    /// FCTYPE of Connect.
    pub const CONNECT: u8 = 0x01;
    /// FCTYPE of Property Get.
    pub const PROPERTY_GET: u8 = 0x04;
    /// FCTYPE of Disconnect.
    pub const DISCONNECT: u8 = 0x08;

    /// Get Log Page.
    pub const GET_LOG_PAGE: u8 = 0x02;
    /// Identify.
    pub const IDENTIFY: u8 = 0x06;
    /// Abort.
    pub const ABORT: u8 = 0x08;
    /// Set Features.
    pub const SET_FEATURES: u8 = 0x09;
    /// Get Features.
    pub const GET_FEATURES: u8 = 0x0a;
    /// Asynchronous Event Request.
    pub const ASYNC_EVENT: u8 = 0x0c;
    /// Keep Alive.
    pub const KEEP_ALIVE: u8 = 0x18;

    /// Flush.
    pub const FLUSH: u8 = 0x00;
    /// Write.
    pub const WRITE: u8 = 0x01;
    /// Read.
    pub const READ: u8 = 0x02;
    /// Write Uncorrectable.
    pub const WRITE_UNCORRECTABLE: u8 = 0x04;
    /// Compare.
    pub const COMPARE: u8 = 0x05;
    /// Write Zeroes.
    pub const WRITE_ZEROES: u8 = 0x08;
    /// Dataset Management.
    pub const DATASET_MANAGEMENT: u8 = 0x09;
    /// Verify.
    pub const VERIFY: u8 = 0x0c;
    /// Copy.
    pub const COPY: u8 = 0x19;
}

#[cfg(test)]
mod tests {
    use super::{Sqe, opcode};

    #[test]
    fn fields_land_at_the_offsets_of_the_specification() {
        let sqe = Sqe::new(opcode::READ)
            .with_cid(0x1234)
            .with_nsid(7)
            .cdw_pair(10, 0x0102_0304_0506_0708)
            .cdw(12, 31)
            .sgl_transport(0x2_0000);
        let bytes = sqe.as_bytes();
        assert_eq!(bytes[0..8], [0x02, 0x40, 0x34, 0x12, 7, 0, 0, 0]);
        assert_eq!(bytes[24..40], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0x5a]);
        assert_eq!(bytes[40..52], [8, 7, 6, 5, 4, 3, 2, 1, 31, 0, 0, 0]);
        assert_eq!(
            (sqe.cid(), sqe.nsid(), sqe.sgl_length(), sqe.sgl_identifier()),
            (0x1234, 7, 0x2_0000, 0x5a)
        );
    }

    #[test]
    fn fabrics_commands_carry_their_type_in_byte_four() {
        let sqe = Sqe::fabrics(opcode::PROPERTY_GET);
        assert_eq!((sqe.opcode(), sqe.fctype()), (0x7f, 0x04));
    }
}
