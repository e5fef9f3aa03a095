//! What a copy manager can do. SPC-4 §6.23 "RECEIVE COPY OPERATING PARAMETERS command", §7.8.17 "Third-party Copy VPD page".

use super::list::{BLOCK_TO_BLOCK, CSCDS_MAX, DESCRIPTORS_LEN_MAX, IDENTIFICATION, SEGMENTS_MAX};

/// MAXIMUM SEGMENT LENGTH in bytes: that of the most blocks that a segment can name, of the longest there are.
const SEGMENT_BYTES_MAX: u32 = 0x1000_0000;
/// Copies of one nexus at once, and of all: as many as tasks.
const AT_ONCE_MAX: u8 = 64;
const TOTAL_AT_ONCE_MAX: u16 = 4096;
/// The ID of the logical unit that takes the command.
pub(super) const THIS_UNIT: u16 = 0xffff;

/// Puts the operating parameters behind what `out` holds, of a unit with blocks of so many bytes.
pub(super) fn put_operating_parameters(block_len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend([0; 4]);
    // SNLID: a list identifier is not needed.
    out.extend([0x01, 0, 0, 0]);
    out.extend(CSCDS_MAX.to_be_bytes());
    out.extend(SEGMENTS_MAX.to_be_bytes());
    out.extend(DESCRIPTORS_LEN_MAX.to_be_bytes());
    out.extend(SEGMENT_BYTES_MAX.to_be_bytes());
    // Neither inline data nor held data nor streams.
    out.extend([0; 12]);
    out.extend([0; 2]);
    out.extend(TOTAL_AT_ONCE_MAX.to_be_bytes());
    out.extend([AT_ONCE_MAX, granularity(block_len), 0, 0]);
    out.extend([0; 3]);
    out.extend([2, BLOCK_TO_BLOCK, IDENTIFICATION]);
    let len = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(start..start + 4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}

/// Puts the descriptors of the VPD page behind what `out` holds.
pub(crate) fn put_vital(block_len: usize, out: &mut Vec<u8>) {
    // Supported Commands: EXTENDED COPY (LID1), and RECEIVE COPY RESULTS of it.
    put(out, 0x0001, |out| out.extend([9, 0x83, 1, 0, 0x84, 4, 0, 1, 3, 4]));
    // Parameter Data.
    put(out, 0x0004, |out| {
        out.extend([0; 4]);
        out.extend(CSCDS_MAX.to_be_bytes());
        out.extend(SEGMENTS_MAX.to_be_bytes());
        out.extend(DESCRIPTORS_LEN_MAX.to_be_bytes());
        out.extend([0; 16]);
    });
    // Supported Descriptors.
    put(out, 0x0008, |out| out.extend([2, BLOCK_TO_BLOCK, IDENTIFICATION]));
    // Supported CSCD Descriptor IDs, beside those of the list.
    put(out, 0x000c, |out| {
        out.extend([0, 2]);
        out.extend(THIS_UNIT.to_be_bytes());
    });
    // General Copy Operations.
    put(out, 0x8001, |out| {
        out.extend(u32::from(TOTAL_AT_ONCE_MAX).to_be_bytes());
        out.extend(u32::from(AT_ONCE_MAX).to_be_bytes());
        out.extend(SEGMENT_BYTES_MAX.to_be_bytes());
        out.extend([granularity(block_len), 0]);
        out.extend([0; 18]);
    });
}

/// A descriptor: type, length, and contents in a multiple of four bytes.
fn put(out: &mut Vec<u8>, kind: u16, contents: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend(kind.to_be_bytes());
    out.extend([0; 2]);
    contents(out);
    let len = (out.len() - start - 4).next_multiple_of(4);
    out.resize(start + 4 + len, 0);
    if let Some(field) = out.get_mut(start + 2..start + 4) {
        field.copy_from_slice(&u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
    }
}

/// A block, as a power of two.
fn granularity(block_len: usize) -> u8 {
    u8::try_from(block_len.checked_ilog2().unwrap_or(0)).unwrap_or(0)
}
