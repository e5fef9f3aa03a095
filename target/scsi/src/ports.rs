//! REPORT TARGET PORT GROUPS: SPC-4 §6.37. One group, with the one port that a target has; always active/optimized.

/// The one target port group, which is iSCSI's target portal group.
pub(crate) const GROUP: u16 = 1;
/// RELATIVE TARGET PORT IDENTIFIER.
pub(crate) const RELATIVE_PORT: u16 = 1;

/// AO_SUP: active/optimized is all that there is.
const ACTIVE_OPTIMIZED_SUPPORTED: u8 = 0x01;

/// Puts the answer behind what `out` holds, not cut to the allocation length.
pub(crate) fn report(extended: bool, out: &mut Vec<u8>) {
    let [group_high, group_low] = GROUP.to_be_bytes();
    let [port_high, port_low] = RELATIVE_PORT.to_be_bytes();
    let descriptor =
        [0x00, ACTIVE_OPTIMIZED_SUPPORTED, group_high, group_low, 0, 0, 0, 1, 0, 0, port_high, port_low];
    // RETURN DATA LENGTH counts what follows it.
    if extended {
        out.extend([0, 0, 0, 16, 0x10, 0, 0, 0]);
    } else {
        out.extend([0, 0, 0, 12]);
    }
    out.extend(descriptor);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_active_and_has_one_port() {
        let mut out = Vec::new();
        report(false, &mut out);
        assert_eq!(out, [0, 0, 0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1]);
        out.clear();
        report(true, &mut out);
        assert_eq!(out[..8], [0, 0, 0, 16, 0x10, 0, 0, 0]);
        assert_eq!(out.len(), 20);
    }
}
