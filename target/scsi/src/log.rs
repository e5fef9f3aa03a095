//! LOG SENSE: SPC-4 §6.8 "LOG SENSE command", §7.3 "Log parameters"; SBC-4 §6.4 "Log parameters for direct access block devices".

use crate::sense::Sense;

/// Supported log pages; with subpage FFh, pages and subpages.
const SUPPORTED: u8 = 0x00;
/// Logical block provisioning.
const PROVISIONING: u8 = 0x0c;
/// Informational exceptions.
const EXCEPTIONS: u8 = 0x2f;
const PAGES: [u8; 3] = [SUPPORTED, PROVISIONING, EXCEPTIONS];
const ALL_SUBPAGES: u8 = 0xff;
const SUBPAGE_FORMAT: u8 = 0x40;

/// What a LOG SENSE asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) save: bool,
    pub(crate) control: u8,
    pub(crate) page: u8,
    pub(crate) subpage: u8,
    pub(crate) parameter: u16,
}

/// Puts the answer behind what `out` holds, not cut to the allocation length. `used`: blocks that hold data.
pub(crate) fn sense(asked: Asked, used: Option<u64>, out: &mut Vec<u8>) -> Result<(), Sense> {
    if asked.save {
        return Err(Sense::invalid_in_cdb(1, Some(0)));
    }
    // Cumulative values, or what they are by default, which none of ours ever differs from.
    if !matches!(asked.control, 1 | 3) {
        return Err(Sense::invalid_in_cdb(2, Some(7)));
    }
    let start = out.len();
    let subpages = asked.subpage == ALL_SUBPAGES && asked.page == SUPPORTED;
    if asked.subpage != 0 && !subpages {
        return Err(Sense::invalid_in_cdb(3, None));
    }
    let highest = match asked.page {
        SUPPORTED => 0,
        PROVISIONING => 2,
        EXCEPTIONS => 0,
        _ => return Err(Sense::invalid_in_cdb(2, Some(5))),
    };
    if asked.parameter > highest {
        return Err(Sense::invalid_in_cdb(5, None));
    }
    let format = if subpages { SUBPAGE_FORMAT } else { 0 };
    out.extend([format | asked.page, asked.subpage, 0, 0]);
    match asked.page {
        SUPPORTED if subpages => {
            out.extend([0, 0, 0, ALL_SUBPAGES]);
            PAGES.iter().skip(1).for_each(|page| out.extend([*page, 0]));
        }
        SUPPORTED => out.extend(PAGES),
        PROVISIONING if asked.parameter <= 2 => {
            // §6.4.4: used LBA mapping resources, in units of the threshold set size, which is one block.
            let used = u32::try_from(used.unwrap_or(0)).unwrap_or(u32::MAX);
            out.extend([0, 2, 0x03, 8]);
            out.extend(used.to_be_bytes());
            // SCOPE: of this logical unit.
            out.extend([0x01, 0, 0, 0]);
        }
        // §7.3.9: nothing to report; no temperature.
        _ => out.extend([0, 0, 0x03, 4, 0, 0, 0xff, 0]),
    }
    let len = u16::try_from(out.len() - start - 4).unwrap_or(u16::MAX);
    if let Some(field) = out.get_mut(start + 2..start + 4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(page: u8, subpage: u8) -> Result<Vec<u8>, Sense> {
        let mut out = Vec::new();
        let asked = Asked { save: false, control: 1, page, subpage, parameter: 0 };
        sense(asked, Some(0x0102), &mut out).map(|()| out)
    }

    #[test]
    fn pages_are_those_that_are_listed() {
        assert_eq!(page(0, 0).unwrap(), [0, 0, 0, 3, 0, 0x0c, 0x2f]);
        assert_eq!(page(0, 0xff).unwrap(), [0x40, 0xff, 0, 8, 0, 0, 0, 0xff, 0x0c, 0, 0x2f, 0]);
        for code in 0..0x40 {
            assert_eq!(page(code, 0).is_ok(), PAGES.contains(&code), "{code:#x}");
        }
    }

    #[test]
    fn blocks_in_use_are_told() {
        assert_eq!(page(0x0c, 0).unwrap(), [0x0c, 0, 0, 12, 0, 2, 3, 8, 0, 0, 1, 2, 1, 0, 0, 0]);
        assert_eq!(page(0x2f, 0).unwrap(), [0x2f, 0, 0, 8, 0, 0, 3, 4, 0, 0, 0xff, 0]);
    }

    #[test]
    fn what_cannot_be_is_refused_where_it_stands() {
        let asked = Asked { save: false, control: 1, page: 0, subpage: 0, parameter: 0 };
        let refused = |asked: Asked| sense(asked, None, &mut Vec::new()).unwrap_err();
        assert_eq!(refused(Asked { save: true, ..asked }), Sense::invalid_in_cdb(1, Some(0)));
        assert_eq!(refused(Asked { control: 0, ..asked }), Sense::invalid_in_cdb(2, Some(7)));
        assert_eq!(refused(Asked { subpage: 1, ..asked }), Sense::invalid_in_cdb(3, None));
        assert_eq!(refused(Asked { parameter: 9, ..asked }), Sense::invalid_in_cdb(5, None));
    }
}
