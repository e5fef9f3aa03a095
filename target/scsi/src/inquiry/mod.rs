//! INQUIRY. SPC-4 §6.6 "INQUIRY command", §7.8 "Vital product data parameters"; SBC-4 §6.6.

mod designators;
mod vital;

pub(crate) use designators::{Designated, is_named};
pub(crate) use vital::vital;

use crate::nexus::Seen;

/// T10 VENDOR IDENTIFICATION.
pub(crate) const VENDOR: [u8; 8] = *b"HOLDFAST";
const PRODUCT: [u8; 16] = *b"HOLDFAST VOLUME ";

/// PRODUCT REVISION LEVEL: the release, as far as it fits.
fn revision() -> [u8; 4] {
    let mut field = [b' '; 4];
    field.iter_mut().zip(env!("CARGO_PKG_VERSION").bytes()).for_each(|(place, byte)| *place = byte);
    field
}

/// PERIPHERAL QUALIFIER 011b and type 1Fh: there can be no logical unit here.
const NO_UNIT: u8 = 0x7f;

/// SAM-5, SPC-4, SBC-4, SBC-3, iSCSI, each without a claim to a revision. SPC-4 §6.6.2, table of version descriptor values.
const VERSIONS: [u16; 5] = [0x00a0, 0x0460, 0x0600, 0x04c0, 0x0960];

/// Length of the standard data.
const STANDARD_LEN: usize = 96;

/// Puts the standard data behind what `out` holds, not cut to the allocation length. `seen`: the unit, if there is one.
pub(crate) fn standard(seen: Option<&Seen>, out: &mut Vec<u8>) {
    let start = out.len();
    let device = if seen.is_some() { 0x00 } else { NO_UNIT };
    // Version SPC-4; HISUP and the response data format; ADDITIONAL LENGTH.
    out.extend([device, 0, 0x06, 0x12, 0]);
    // TPGS: implicit; 3PC; PROTECT. Then CMDQUE.
    let protect = u8::from(seen.is_some_and(|seen| seen.visible.is_some()));
    out.extend([0x10 | 0x08 | protect, 0, 0x02]);
    out.extend(VENDOR);
    out.extend(PRODUCT);
    out.extend(revision());
    out.resize(start + 58, 0);
    VERSIONS.iter().for_each(|version| out.extend(version.to_be_bytes()));
    out.resize(start + STANDARD_LEN, 0);
    if let Some(len) = out.get_mut(start + 4) {
        *len = u8::try_from(STANDARD_LEN - 5).unwrap_or(u8::MAX);
    }
}

#[cfg(test)]
mod tests;
