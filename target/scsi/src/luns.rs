//! Logical unit numbers. SAM-5 §4.7 "Logical unit numbers"; SPC-4 §6.33 "REPORT LUNS command".

use crate::sense::Sense;

/// Highest logical unit number: NSIDs go from 1 to 1024.
pub(crate) const LUN_MAX: u16 = 1023;

/// The number that an address of one level means: peripheral device addressing on bus 0, or flat space addressing. `None`: it
/// means none of ours.
pub fn decode(address: [u8; 8]) -> Option<u16> {
    let [first, second, rest @ ..] = address;
    let is_single = rest == [0; 6];
    match first >> 6 {
        0b00 if is_single && first == 0 => Some(u16::from(second)),
        0b01 if is_single => Some(u16::from_be_bytes([first & 0x3f, second])),
        _ => None,
    }
}

/// The address of a number: §4.7.4, peripheral device addressing up to 255, flat space addressing above.
pub(crate) fn encode(lun: u16) -> [u8; 8] {
    let [high, low] = lun.to_be_bytes();
    let first = if lun < 256 { 0 } else { 0x40 | high };
    [first, low, 0, 0, 0, 0, 0, 0]
}

/// Puts the answer to REPORT LUNS behind what `out` holds, not cut to the allocation length. There are no well known logical
/// units and none of administrative or subsidiary kind.
pub(crate) fn report(luns: impl Iterator<Item = u16>, select: u8, out: &mut Vec<u8>) -> Result<(), Sense> {
    let lists = match select {
        0x00 | 0x02 => true,
        0x01 | 0x10 | 0x11 | 0x12 => false,
        _ => return Err(Sense::invalid_in_cdb(2, None)),
    };
    let start = out.len();
    out.extend([0; 8]);
    for lun in luns.filter(|_| lists) {
        out.extend(encode(lun));
    }
    let len = u32::try_from(out.len() - start - 8).unwrap_or(u32::MAX);
    if let Some(header) = out.get_mut(start..start + 4) {
        header.copy_from_slice(&len.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back_from_its_address() {
        for lun in 0..=LUN_MAX {
            assert_eq!(decode(encode(lun)), Some(lun));
        }
        assert_eq!(encode(255), [0, 255, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode(256), [0x41, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(decode([0x40, 5, 0, 0, 0, 0, 0, 0]), Some(5));
    }

    #[test]
    fn other_addresses_mean_nothing() {
        for address in
            [[1, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0, 0], [0xc1, 1, 0, 0, 0, 0, 0, 0], [0x80; 8]]
        {
            assert_eq!(decode(address), None, "{address:02x?}");
        }
    }

    #[test]
    fn a_report_lists_what_is_asked_for() {
        let mut out = Vec::new();
        report([0, 256].into_iter(), 0, &mut out).unwrap();
        assert_eq!(out[..8], [0, 0, 0, 16, 0, 0, 0, 0]);
        assert_eq!(out[8..], [0, 0, 0, 0, 0, 0, 0, 0, 0x41, 0, 0, 0, 0, 0, 0, 0]);
        out.clear();
        report([0].into_iter(), 1, &mut out).unwrap();
        assert_eq!(out, [0; 8]);
        assert_eq!(report([0].into_iter(), 3, &mut out), Err(Sense::invalid_in_cdb(2, None)));
    }
}
