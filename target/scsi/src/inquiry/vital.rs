//! Vital product data pages.

use holdfast_pi::PiType;

use super::Designated;
use super::designators::serial_number;
use crate::copy;
use crate::limits::{
    COMPARE_AND_WRITE_MAX, TRANSFER_BYTES_MAX, UNMAP_BLOCKS_MAX, UNMAP_DESCRIPTORS_MAX,
    WRITE_SAME_BLOCKS_MAX, blocks_in,
};
use crate::nexus::Seen;
use crate::sense::{DESCRIPTOR_LEN_MAX, Sense};

const SUPPORTED: u8 = 0x00;
const SERIAL_NUMBER: u8 = 0x80;
const IDENTIFICATION: u8 = 0x83;
const EXTENDED: u8 = 0x86;
const THIRD_PARTY_COPY: u8 = 0x8f;
const BLOCK_LIMITS: u8 = 0xb0;
const CHARACTERISTICS: u8 = 0xb1;
const PROVISIONING: u8 = 0xb2;

/// In ascending order.
const PAGES: [u8; 8] = [
    SUPPORTED,
    SERIAL_NUMBER,
    IDENTIFICATION,
    EXTENDED,
    THIRD_PARTY_COPY,
    BLOCK_LIMITS,
    CHARACTERISTICS,
    PROVISIONING,
];

/// Puts a page behind what `out` holds, not cut to the allocation length.
pub(crate) fn vital(seen: &Seen, target: &str, page: u8, out: &mut Vec<u8>) -> Result<(), Sense> {
    let start = out.len();
    out.extend([0, page, 0, 0]);
    match page {
        SUPPORTED => {
            out.extend(PAGES);
        }
        SERIAL_NUMBER => out.extend(serial_number(&seen.volume).bytes()),
        IDENTIFICATION => Designated { volume: &seen.volume, target }.put(out),
        EXTENDED => put_extended(seen, out),
        THIRD_PARTY_COPY => copy::put_vital(seen.volume.block_len, out),
        BLOCK_LIMITS => put_limits(seen.volume.block_len, out),
        CHARACTERISTICS => {
            // SBC-4 §6.6.2: it does not rotate. FUAB: SYNCHRONIZE CACHE and FUA reach the medium; VBULS: what is unmapped is
            // compared as zeroes. WABEREQ: what was sanitized reads as what was unmapped.
            out.extend([0, 1, 0, 0x40, 0x03]);
            out.resize(start + 64, 0);
        }
        PROVISIONING => {
            // SBC-4 §6.6.6: LBPU, LBPWS, LBPWS10, LBPRZ; thin.
            out.extend([0, 0x80 | 0x40 | 0x20 | 0x04, 0x02, 0]);
        }
        _ => return Err(Sense::invalid_in_cdb(2, None)),
    }
    let len = u16::try_from(out.len() - start - 4).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(start + 2..start + 4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
    Ok(())
}

/// SPC-4 §7.8.7 "Extended INQUIRY Data VPD page".
fn put_extended(seen: &Seen, out: &mut Vec<u8>) {
    let start = out.len();
    // SPT names the one type that the unit is formatted with; guard, application and reference tags are checked.
    let protection = seen.visible.map_or(0, |format| {
        let types = match format.pi_type() {
            PiType::Type1 => 0b000,
            PiType::Type2 => 0b010,
            PiType::Type3 => 0b100,
        };
        types << 3 | 0b111
    });
    // HEADSUP, ORDSUP and SIMPSUP; V_SUP: the cache is volatile. NO_PI_CHK: an application tag of all ones ends all checks.
    out.extend([protection, 0x07, 0x01]);
    let no_check = if seen.visible.is_some() { 0x20 } else { 0 };
    // LUICLR: changed LUNs are told through one logical unit for all.
    out.extend([no_check | 0x01]);
    out.resize(start + 60, 0);
    if let Some(len) = out.get_mut(start + 9) {
        *len = u8::try_from(DESCRIPTOR_LEN_MAX).unwrap_or(0);
    }
}

/// SBC-4 §6.6.4 "Block Limits VPD page".
fn put_limits(block_len: usize, out: &mut Vec<u8>) {
    let start = out.len();
    let transfer = blocks_in(TRANSFER_BYTES_MAX, block_len);
    // WSNZ: WRITE SAME has to say of how many blocks. Then the longest COMPARE AND WRITE.
    out.extend([0x01, u8::try_from(COMPARE_AND_WRITE_MAX.min(transfer)).unwrap_or(u8::MAX)]);
    // OPTIMAL TRANSFER LENGTH GRANULARITY: 4 KiB.
    out.extend(u16::try_from(blocks_in(4096, block_len)).unwrap_or(1).to_be_bytes());
    // Longest, best and longest fetched ahead.
    out.extend(transfer.to_be_bytes());
    out.extend(blocks_in(TRANSFER_BYTES_MAX / 4, block_len).to_be_bytes());
    out.extend(0_u32.to_be_bytes());
    // UNMAP: blocks, descriptors, granularity; no alignment.
    out.extend(UNMAP_BLOCKS_MAX.to_be_bytes());
    out.extend(UNMAP_DESCRIPTORS_MAX.to_be_bytes());
    out.extend(1_u32.to_be_bytes());
    out.extend(0_u32.to_be_bytes());
    out.extend(u64::from(WRITE_SAME_BLOCKS_MAX).to_be_bytes());
    out.resize(start + 60, 0);
}
