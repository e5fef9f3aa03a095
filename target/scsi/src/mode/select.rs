//! MODE SELECT. SPC-4 §6.11 "MODE SELECT(6) command", §6.12 "MODE SELECT(10) command".
//!
//! Everything is judged before anything is changed.

use holdfast_block::Lba;

use super::pages::{Values, has, put};
use super::{APP_TAG_RANGES, ModeValues, NO_RANGE, code};
use crate::nexus::Seen;
use crate::protect::AppTagRange;
use crate::sense::Sense;

/// The values after a parameter list, which has come whole; `values` are those before it.
pub(crate) fn select(
    seen: &Seen,
    mut values: ModeValues,
    long: bool,
    list: &[u8],
) -> Result<ModeValues, Sense> {
    if list.is_empty() {
        return Ok(values);
    }
    let header_len = if long { 8 } else { 4 };
    let header = list.get(..header_len).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    let (descriptor_len, long_lba) = match header {
        [_, _, medium, _, flags, _, high, low] => {
            check(*medium == 0, 2)?;
            (usize::from(u16::from_be_bytes([*high, *low])), flags & 1 != 0)
        }
        [_, medium, _, len] => {
            check(*medium == 0, 1)?;
            (usize::from(*len), false)
        }
        _ => return Err(Sense::PARAMETER_LIST_LENGTH),
    };
    let pages_at = header_len + descriptor_len;
    let descriptor = list.get(header_len..pages_at).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    check_block_descriptor(seen, descriptor, long_lba, header_len)?;
    let mut at = pages_at;
    while let Some(rest) = list.get(at..).filter(|rest| !rest.is_empty()) {
        at += take_page(seen, &mut values, rest, at)?;
    }
    Ok(values)
}

/// SBC-4 §6.5.2: a unit's capacity and block length are not changed this way, so a descriptor has to say what is, or nothing.
fn check_block_descriptor(seen: &Seen, bytes: &[u8], long_lba: bool, at: usize) -> Result<(), Sense> {
    let (blocks, block_len, len_at) = match (bytes, long_lba) {
        ([], _) => return Ok(()),
        ([a, b, c, d, _, e, f, g], false) => {
            let blocks = u64::from(u32::from_be_bytes([*a, *b, *c, *d]));
            (blocks, u32::from_be_bytes([0, *e, *f, *g]), 5)
        }
        ([a, b, c, d, e, f, g, h, _, _, _, _, i, j, k, l], true) => {
            let blocks = u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]);
            (blocks, u32::from_be_bytes([*i, *j, *k, *l]), 12)
        }
        _ => return Err(Sense::invalid_in_parameters(if at == 8 { 6 } else { 3 }, None)),
    };
    let most = if long_lba { u64::MAX } else { u64::from(u32::MAX) };
    check(blocks == 0 || blocks == seen.volume.block_count.min(most) || blocks == most, at)?;
    let is_len = usize::try_from(block_len).is_ok_and(|len| len == seen.volume.block_len);
    check(block_len == 0 || is_len, at + len_at)
}

/// Takes the page at the front of `rest`, which is at `at` of the list; gives its length.
fn take_page(seen: &Seen, values: &mut ModeValues, rest: &[u8], at: usize) -> Result<usize, Sense> {
    let has_subpage = rest.first().is_some_and(|first| first & 0x40 != 0);
    let (page, header_len, len) = match rest {
        [first, subpage, high, low, ..] if has_subpage => {
            ((first & 0x3f, *subpage), 4, usize::from(u16::from_be_bytes([*high, *low])))
        }
        [first, len, ..] if !has_subpage => ((first & 0x3f, 0), 2, usize::from(*len)),
        _ => return Err(Sense::PARAMETER_LIST_LENGTH),
    };
    let protected = seen.visible.is_some();
    let (mut current, mut changeable) = (Vec::new(), Vec::new());
    let known = has(page, protected)
        && put(page, values, Values::Current, protected, &mut current).is_some()
        && put(page, values, Values::Changeable, protected, &mut changeable).is_some();
    check(known, at)?;
    let whole = header_len + len;
    check(whole == current.len(), at + header_len - if has_subpage { 2 } else { 1 })?;
    let page_bytes = rest.get(..whole).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    // PS is reserved here; what cannot be changed has to be as it is.
    let body = page_bytes.iter().zip(&current).zip(&changeable).enumerate().skip(header_len);
    for (offset, ((wanted, current), changeable)) in body {
        let wrong = (wanted ^ current) & !changeable;
        let is_last_mark = page == code::APPLICATION_TAG && wrong & !0x80 == 0;
        if wrong != 0 && !is_last_mark {
            let bit = u8::try_from(7 - wrong.leading_zeros()).ok();
            return Err(Sense::invalid_in_parameters(pointer(at + offset), bit));
        }
    }
    take_values(page, page_bytes, protected, values, at)?;
    Ok(whole)
}

/// The values of a page that is in order.
fn take_values(
    page: (u8, u8),
    bytes: &[u8],
    protected: bool,
    values: &mut ModeValues,
    at: usize,
) -> Result<(), Sense> {
    let bit = |at: usize, number: u8| bytes.get(at).is_some_and(|byte| byte & (1 << number) != 0);
    match page {
        code::CACHING => values.write_cache = bit(2, 2),
        code::CONTROL => {
            values.descriptor_sense = bit(2, 2);
            values.write_protect = bit(4, 3);
            values.task_aborted_status = bit(5, 6);
            // A unit that shows no protection information has neither.
            if protected {
                values.app_tag_owner = bit(5, 7);
                values.app_tag_page = bit(5, 5);
            }
        }
        code::APPLICATION_TAG => take_app_tags(bytes, values, at)?,
        _ => {}
    }
    Ok(())
}

/// SBC-4 §6.5.3: ranges do not overlap and do not wrap around.
fn take_app_tags(bytes: &[u8], values: &mut ModeValues, at: usize) -> Result<(), Sense> {
    let mut ranges = [NO_RANGE; APP_TAG_RANGES];
    let descriptors = bytes.get(16..).unwrap_or_default().chunks_exact(24);
    for (index, (range, bytes)) in ranges.iter_mut().zip(descriptors).enumerate() {
        let place = at + 16 + index * 24;
        let field = |at: usize| bytes.get(at..at + 8).and_then(|field| <[u8; 8]>::try_from(field).ok());
        let tag = bytes.get(6..8).and_then(|field| <[u8; 2]>::try_from(field).ok());
        range.app_tag = tag.map(u16::from_be_bytes).unwrap_or_default();
        range.lba = Lba(field(8).map(u64::from_be_bytes).unwrap_or_default());
        range.blocks = field(16).map(u64::from_be_bytes).unwrap_or_default();
        check(range.lba.checked_add(range.blocks).is_some(), place + 16)?;
        // LAST: what follows does not count.
        if bytes.first().is_some_and(|first| first & 0x80 != 0) {
            break;
        }
    }
    for (index, range) in ranges.iter().enumerate() {
        let overlaps = |other: &AppTagRange| {
            other.blocks > 0
                && range.blocks > 0
                && other.lba.0 < range.lba.0 + range.blocks
                && range.lba.0 < other.lba.0 + other.blocks
        };
        check(!ranges.iter().take(index).any(overlaps), at + 16 + index * 24 + 8)?;
    }
    values.app_tags = ranges;
    Ok(())
}

fn check(fits: bool, at: usize) -> Result<(), Sense> {
    if fits { Ok(()) } else { Err(Sense::invalid_in_parameters(pointer(at), None)) }
}

fn pointer(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}
