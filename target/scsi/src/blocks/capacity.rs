//! READ CAPACITY. SBC-4 §5 "READ CAPACITY (10) command" and "READ CAPACITY (16) command".

use crate::nexus::Seen;

/// LBPME and LBPRZ: blocks are provided when they are written, and those that are not read as zeroes.
const PROVISIONED: u8 = 0x80 | 0x40;

/// Answers READ CAPACITY (10): a last block beyond 32 bits is FFFFFFFFh, and the longer command is to be used.
pub(crate) fn put_short(seen: &Seen, out: &mut Vec<u8>) {
    let last = last_block(seen);
    out.extend(u32::try_from(last).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(block_len(seen).to_be_bytes());
}

/// Answers READ CAPACITY (16).
pub(crate) fn put_long(seen: &Seen, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend(last_block(seen).to_be_bytes());
    out.extend(block_len(seen).to_be_bytes());
    // P_TYPE is the type minus one; PROT_EN.
    out.push(seen.visible.map_or(0, |format| (format.pi_type().number() - 1) << 1 | 1));
    // LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT: each is written by itself. The first aligned block is the first.
    out.extend([0, PROVISIONED, 0]);
    out.resize(start + 32, 0);
}

fn last_block(seen: &Seen) -> u64 {
    seen.volume.block_count.saturating_sub(1)
}

fn block_len(seen: &Seen) -> u32 {
    u32::try_from(seen.volume.block_len).unwrap_or(u32::MAX)
}
