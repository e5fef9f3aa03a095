//! Parameter lists and answers, byte by byte.

use super::*;
use crate::nexus::Seen;
use crate::sense::Sense;
use holdfast_block::{Enforce, VolumeId, VolumeInfo};
use holdfast_pi::{GuardKind, PiFormat, PiType};

fn seen(protected: bool) -> Seen {
    let format = PiFormat::new(PiType::Type1, GuardKind::Crc16, 4096, 0).unwrap();
    let volume = VolumeInfo {
        id: VolumeId::new(1).unwrap(),
        block_len: 4096,
        block_count: 0x1000,
        format: Some(format),
        uuid: [1; 16],
        nguid: [2; 16],
    };
    let visible = protected.then_some(format);
    Seen { lun: 0, volume, enforce: Enforce::Any, visible, mode: ModeValues::default(), stopped: false }
}

fn ask(seen: &Seen, control: u8, page: u8, subpage: u8) -> Result<Vec<u8>, Sense> {
    let mut out = Vec::new();
    let asked = Asked { long: false, llbaa: false, dbd: true, control, page, subpage };
    sense(seen, asked, &mut out).map(|()| out)
}

#[test]
fn the_write_cache_is_on_and_can_be_switched_off() {
    let unit = seen(false);
    let current = ask(&unit, 0, 0x08, 0).unwrap();
    assert_eq!(current[..7], [23, 0, 0x10, 0, 0x08, 18, 0x04]);
    assert_eq!(current.len(), 24);
    let mut list = current.clone();
    list[0] = 0;
    list[2] = 0;
    list[6] = 0;
    assert!(!select(&unit, unit.mode, false, &list).unwrap().write_cache);
    assert_eq!(ask(&unit, 1, 0x08, 0).unwrap()[6], 0x04);
}

#[test]
fn nothing_else_of_a_page_can_be_changed() {
    let unit = seen(false);
    let mut list = ask(&unit, 0, 0x08, 0).unwrap();
    list[0] = 0;
    list[6] |= 0x01;
    assert_eq!(select(&unit, unit.mode, false, &list), Err(Sense::invalid_in_parameters(6, Some(0))));
    list[6] &= !0x01;
    list[5] = 17;
    assert_eq!(select(&unit, unit.mode, false, &list), Err(Sense::invalid_in_parameters(5, None)));
    assert_eq!(select(&unit, unit.mode, false, &[0, 0, 0]), Err(Sense::PARAMETER_LIST_LENGTH));
    assert_eq!(select(&unit, unit.mode, false, &[]), Ok(unit.mode));
}

#[test]
fn application_tags_are_for_those_that_see_them() {
    let plain = ask(&seen(false), 0, 0x0a, 0).unwrap();
    let protected = ask(&seen(true), 0, 0x0a, 0).unwrap();
    assert_eq!((plain[9], protected[9]), (0x00, 0x80));
    assert_eq!(ask(&seen(false), 0, 0x0a, 0x02), Err(Sense::invalid_in_cdb(3, None)));
    let page = ask(&seen(true), 0, 0x0a, 0x02).unwrap();
    assert_eq!(page[4..8], [0x4a, 0x02, 0, 12 + 24 * 4]);
    let mut list = page;
    list[0] = 0;
    list[2] = 0;
    list[4 + 16 + 6..4 + 16 + 8].copy_from_slice(&[0x12, 0x34]);
    list[4 + 16 + 23] = 8;
    let values = select(&seen(true), ModeValues::default(), false, &list).unwrap();
    assert_eq!(values.app_tags[0], AppTagRange { app_tag: 0x1234, lba: Lba(0), blocks: 8 });
    list[4 + 40 + 6 + 17] = 8;
    assert_eq!(
        select(&seen(true), ModeValues::default(), false, &list),
        Err(Sense::invalid_in_parameters(4 + 16 + 24 + 8, None))
    );
}

#[test]
fn all_pages_come_in_ascending_order_with_or_without_subpages() {
    let codes = |bytes: &[u8]| {
        let mut at = 4;
        let mut codes = Vec::new();
        while at < bytes.len() {
            let is_sub = bytes[at] & 0x40 != 0;
            codes.push((bytes[at] & 0x3f, if is_sub { bytes[at + 1] } else { 0 }));
            let len = if is_sub { 4 + usize::from(bytes[at + 3]) } else { 2 + usize::from(bytes[at + 1]) };
            at += len;
        }
        codes
    };
    let plain = ask(&seen(true), 0, 0x3f, 0).unwrap();
    assert_eq!(codes(&plain), [(1, 0), (8, 0), (0x0a, 0), (0x1a, 0), (0x1c, 0)]);
    let every = ask(&seen(true), 0, 0x3f, 0xff).unwrap();
    assert_eq!(codes(&every), [(1, 0), (8, 0), (0x0a, 0), (0x0a, 1), (0x0a, 2), (0x1a, 0), (0x1c, 0)]);
    assert_eq!(ask(&seen(true), 0, 0x3f, 1), Err(Sense::invalid_in_cdb(3, None)));
    assert_eq!(ask(&seen(true), 0, 0x02, 0), Err(Sense::invalid_in_cdb(2, Some(5))));
    assert_eq!(ask(&seen(true), 3, 0x3f, 0).unwrap_err().code, (0x39, 0x00));
}

#[test]
fn block_descriptors_tell_the_capacity_and_have_to_fit_it() {
    let unit = seen(false);
    let mut out = Vec::new();
    let asked = Asked { long: true, llbaa: true, dbd: false, control: 0, page: 0x1c, subpage: 0 };
    sense(&unit, asked, &mut out).unwrap();
    assert_eq!(out[..8], [0, 34, 0, 0x10, 1, 0, 0, 16]);
    assert_eq!(out[8..24], [0, 0, 0, 0, 0, 0, 0x10, 0, 0, 0, 0, 0, 0, 0, 0x10, 0]);
    let list = [0, 0, 0, 8, 0, 0, 0x10, 0, 0, 0, 0x10, 0];
    assert_eq!(select(&unit, unit.mode, false, &list), Ok(unit.mode));
    let other = [0, 0, 0, 8, 0, 0, 0x10, 1, 0, 0, 0x10, 0];
    assert_eq!(select(&unit, unit.mode, false, &other), Err(Sense::invalid_in_parameters(4, None)));
    let other = [0, 0, 0, 8, 0, 0, 0x10, 0, 0, 0, 2, 0];
    assert_eq!(select(&unit, unit.mode, false, &other), Err(Sense::invalid_in_parameters(9, None)));
}
