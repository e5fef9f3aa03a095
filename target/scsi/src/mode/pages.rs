//! The pages, as they stand and as far as they can be changed.

use super::{ModeValues, code};

/// Which values of a page are asked for: PC. SPC-4 §6.13.1, table of the PC field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Values {
    Current,
    /// Ones where MODE SELECT can change something.
    Changeable,
    Default,
}

/// All pages in ascending order, with the page that holds a unit's protection where it shows any.
pub(super) const PAGES: [(u8, u8); 7] = [
    code::ERROR_RECOVERY,
    code::CACHING,
    code::CONTROL,
    code::CONTROL_EXTENSION,
    code::APPLICATION_TAG,
    code::POWER,
    code::EXCEPTIONS,
];

/// SPF.
const SUBPAGE_FORMAT: u8 = 0x40;

/// Whether a unit has a page: application tags are of those alone that show protection information.
pub(super) fn has(page: (u8, u8), protected: bool) -> bool {
    page != code::APPLICATION_TAG || protected
}

/// Puts a page behind what `out` holds. `None`: there is none of this code.
pub(super) fn put(
    page: (u8, u8),
    current: &ModeValues,
    values: Values,
    protected: bool,
    out: &mut Vec<u8>,
) -> Option<()> {
    let start = out.len();
    let defaults = ModeValues::default();
    let shown = if values == Values::Default { &defaults } else { current };
    match page {
        code::ERROR_RECOVERY => {
            // SBC-4 §6.5.8: as it comes, nothing is retried and nothing reallocated by hand.
            out.extend([page.0, 10]);
            out.extend([0; 10]);
        }
        code::CACHING => {
            out.extend([page.0, 18]);
            out.extend([0; 18]);
            set(out, start + 2, bit(values, shown.write_cache, 2));
        }
        code::CONTROL => put_control(shown, values, protected, out),
        code::CONTROL_EXTENSION => {
            out.extend([SUBPAGE_FORMAT | page.0, page.1, 0, 28]);
            out.extend([0; 28]);
        }
        code::APPLICATION_TAG if protected => put_app_tags(shown, values, out),
        code::POWER => {
            out.extend([page.0, 38]);
            out.extend([0; 38]);
        }
        code::EXCEPTIONS => {
            out.extend([page.0, 10]);
            out.extend([0; 10]);
            if values != Values::Changeable {
                // DEXCPT: there are no exceptions to report.
                set(out, start + 2, 0x08);
            }
        }
        _ => return None,
    }
    Some(())
}

/// SPC-4 §7.5.8 "Control mode page".
fn put_control(shown: &ModeValues, values: Values, protected: bool, out: &mut Vec<u8>) {
    out.extend([code::CONTROL.0, 10]);
    let start = out.len();
    out.extend([0; 10]);
    set(out, start, bit(values, shown.descriptor_sense, 2));
    if values != Values::Changeable {
        // QUEUE ALGORITHM MODIFIER 1h: the order of commands is ours to choose. BUSY TIMEOUT PERIOD: unlimited.
        set(out, start + 1, 0x10);
        set(out, start + 6, 0xff);
        set(out, start + 7, 0xff);
    }
    set(out, start + 2, bit(values, shown.write_protect, 3));
    let mut flags = bit(values, shown.task_aborted_status, 6);
    if protected {
        flags |= bit(values, shown.app_tag_owner, 7) | bit(values, shown.app_tag_page, 5);
    }
    set(out, start + 3, flags);
}

/// SBC-4 §6.5.3 "Application Tag mode page": descriptors of 24 bytes behind 16 bytes of header.
fn put_app_tags(shown: &ModeValues, values: Values, out: &mut Vec<u8>) {
    let ranges = &shown.app_tags;
    let len = 12 + 24 * ranges.len();
    out.extend([SUBPAGE_FORMAT | code::APPLICATION_TAG.0, code::APPLICATION_TAG.1]);
    out.extend(u16::try_from(len).unwrap_or(u16::MAX).to_be_bytes());
    out.extend([0; 12]);
    for (index, range) in ranges.iter().enumerate() {
        if values == Values::Changeable {
            out.extend([0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            out.extend([0xff; 16]);
            continue;
        }
        let last = if index + 1 == ranges.len() { 0x80 } else { 0 };
        out.extend([last, 0, 0, 0, 0, 0]);
        out.extend(range.app_tag.to_be_bytes());
        out.extend(range.lba.0.to_be_bytes());
        out.extend(range.blocks.to_be_bytes());
    }
}

fn bit(values: Values, is_set: bool, number: u8) -> u8 {
    if is_set || values == Values::Changeable { 1 << number } else { 0 }
}

fn set(out: &mut [u8], at: usize, bits: u8) {
    if let Some(byte) = out.get_mut(at) {
        *byte |= bits;
    }
}
