//! MODE SENSE. SPC-4 §6.13 "MODE SENSE(6) command", §6.14 "MODE SENSE(10) command".

use super::pages::{PAGES, Values, has, put};
use super::{ModeValues, code};
use crate::nexus::Seen;
use crate::sense::Sense;

/// What a MODE SENSE asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    pub(crate) long: bool,
    pub(crate) llbaa: bool,
    pub(crate) dbd: bool,
    pub(crate) control: u8,
    pub(crate) page: u8,
    pub(crate) subpage: u8,
}

/// DPOFUA of the device-specific parameter, and WP. SBC-4 §6.5.1.
const DPOFUA: u8 = 0x10;
const WP: u8 = 0x80;

/// Saved values are asked for: there are none.
const SAVING_NOT_SUPPORTED: Sense = Sense::new(crate::sense::SenseKey::IllegalRequest, 0x39, 0x00);

/// Puts the answer into `out`, not cut to the allocation length.
pub(crate) fn sense(seen: &Seen, asked: Asked, out: &mut Vec<u8>) -> Result<(), Sense> {
    let values = match asked.control {
        0 => Values::Current,
        1 => Values::Changeable,
        2 => Values::Default,
        _ => return Err(SAVING_NOT_SUPPORTED),
    };
    let start = out.len();
    out.extend(if asked.long { &[0; 8][..] } else { &[0; 4] });
    let descriptor_len = if asked.dbd { 0 } else { put_block_descriptor(seen, asked, out) };
    put_pages(&seen.mode, values, seen.visible.is_some(), asked, out)?;
    let specific = DPOFUA | if seen.mode.write_protect { WP } else { 0 };
    let len = out.len() - start;
    let Some(header) = out.get_mut(start..) else { return Ok(()) };
    // The length counts what follows it.
    match header {
        [high, low, _, device, long_lba, _, _, block, ..] if asked.long => {
            [*high, *low] = u16::try_from(len - 2).unwrap_or(u16::MAX).to_be_bytes();
            *device = specific;
            *long_lba = u8::from(descriptor_len == 16);
            *block = descriptor_len;
        }
        [all, _, device, block, ..] => {
            *all = u8::try_from(len - 1).unwrap_or(u8::MAX);
            *device = specific;
            *block = descriptor_len;
        }
        _ => {}
    }
    Ok(())
}

/// SBC-4 §6.5.2 "Mode parameter block descriptors"; gives its length.
fn put_block_descriptor(seen: &Seen, asked: Asked, out: &mut Vec<u8>) -> u8 {
    let blocks = seen.volume.block_count;
    let block_len = u32::try_from(seen.volume.block_len).unwrap_or(u32::MAX);
    if asked.long && asked.llbaa {
        out.extend(blocks.to_be_bytes());
        out.extend([0; 4]);
        out.extend(block_len.to_be_bytes());
        return 16;
    }
    out.extend(u32::try_from(blocks).unwrap_or(u32::MAX).to_be_bytes());
    // One reserved byte, then 24 bits.
    out.extend(block_len.to_be_bytes());
    8
}

/// SPC-4 §6.13.1, table of page and subpage codes: all pages, all subpages, or one.
fn put_pages(
    mode: &ModeValues,
    values: Values,
    protected: bool,
    asked: Asked,
    out: &mut Vec<u8>,
) -> Result<(), Sense> {
    let wanted = |page: &&(u8, u8)| {
        let code_fits = asked.page == code::ALL_PAGES || page.0 == asked.page;
        let subpage_fits = match asked.subpage {
            code::ALL_SUBPAGES => true,
            subpage => page.1 == subpage,
        };
        code_fits && subpage_fits && has(**page, protected)
    };
    let pages = PAGES.iter().filter(wanted);
    let mut any = false;
    for page in pages {
        any = true;
        put(*page, mode, values, protected, out).ok_or(Sense::invalid_in_cdb(2, Some(5)))?;
    }
    let subpage_is_odd = !matches!(asked.subpage, 0 | code::ALL_SUBPAGES);
    match any {
        true if !(asked.page == code::ALL_PAGES && subpage_is_odd) => Ok(()),
        false if PAGES.iter().all(|page| page.0 != asked.page) && asked.page != code::ALL_PAGES => {
            Err(Sense::invalid_in_cdb(2, Some(5)))
        }
        _ => Err(Sense::invalid_in_cdb(3, None)),
    }
}
