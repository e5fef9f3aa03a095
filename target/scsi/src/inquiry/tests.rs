//! Standard data and pages, byte by byte.

use super::*;
use crate::mode::ModeValues;
use crate::sense::Sense;
use holdfast_block::{Enforce, VolumeId, VolumeInfo};
use holdfast_pi::{GuardKind, PiFormat, PiType};

fn seen(kind: Option<PiType>) -> Seen {
    let format = |kind| PiFormat::new(kind, GuardKind::Crc16, 512, 0).unwrap();
    let volume = VolumeInfo {
        id: VolumeId::new(1).unwrap(),
        block_len: 512,
        block_count: 0x1000,
        format: kind.map(format),
        uuid: [0xab; 16],
        nguid: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16],
    };
    let mode = ModeValues::default();
    Seen { lun: 0, volume, enforce: Enforce::Any, visible: volume.format, mode, stopped: false }
}

fn page(seen: &Seen, page: u8) -> Result<Vec<u8>, Sense> {
    let mut out = Vec::new();
    vital(seen, "iqn.2026-11.io.holdfast:a", page, &mut out).map(|()| out)
}

#[test]
fn standard_data_shows_protection_to_those_that_see_it() {
    for (unit, protect) in [(seen(None), 0), (seen(Some(PiType::Type1)), 1)] {
        let mut out = Vec::new();
        standard(Some(&unit), &mut out);
        assert_eq!(out[..8], [0, 0, 6, 0x12, 91, 0x18 | protect, 0, 2]);
        assert_eq!(&out[8..32], b"HOLDFASTHOLDFAST VOLUME ");
        assert_eq!(out.len(), 96);
    }
    let mut out = Vec::new();
    standard(None, &mut out);
    assert_eq!(out[0], 0x7f);
}

#[test]
fn every_page_is_listed_and_has_the_length_that_it_says() {
    let unit = seen(None);
    let listed = page(&unit, 0).unwrap();
    assert_eq!(listed[4..], [0x00, 0x80, 0x83, 0x86, 0x8f, 0xb0, 0xb1, 0xb2]);
    for code in 0..=255 {
        match page(&unit, code) {
            Ok(bytes) => {
                assert!(listed[4..].contains(&code));
                assert_eq!(bytes[1], code);
                assert_eq!(usize::from(u16::from_be_bytes([bytes[2], bytes[3]])), bytes.len() - 4);
            }
            Err(sense) => {
                assert!(!listed[4..].contains(&code));
                assert_eq!(sense, Sense::invalid_in_cdb(2, None));
            }
        }
    }
}

#[test]
fn types_and_checks_are_told() {
    for (kind, spt) in [(PiType::Type1, 0), (PiType::Type2, 2), (PiType::Type3, 4)] {
        let bytes = page(&seen(Some(kind)), 0x86).unwrap();
        assert_eq!(bytes[4..8], [spt << 3 | 7, 0x07, 0x01, 0x21]);
        assert_eq!(bytes.len(), 64);
    }
    assert_eq!(page(&seen(None), 0x86).unwrap()[4..8], [0, 0x07, 0x01, 0x01]);
}

#[test]
fn limits_are_in_blocks() {
    let bytes = page(&seen(None), 0xb0).unwrap();
    assert_eq!(bytes[4..12], [1, 255, 0, 8, 0, 0, 8, 0]);
    assert_eq!(bytes[20..24], [0, 0x10, 0, 0]);
    assert_eq!(bytes.len(), 64);
}

#[test]
fn designators_are_those_of_the_volume_and_the_port() {
    let bytes = page(&seen(None), 0x83).unwrap();
    assert_eq!(bytes[4..16], [0x01, 0x03, 0, 8, 0x39, 10, 11, 12, 13, 14, 15, 16]);
    assert_eq!(bytes[16..20], [0x01, 0x02, 0, 16]);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains("HOLDFASTabababababababababababababababab"));
    assert!(text.contains("iqn.2026-11.io.holdfast:a,t,0x0001\0"));
    // Every designator ends where the next begins, and names end with a zero in a multiple of four bytes.
    let mut at = 4;
    let mut kinds = Vec::new();
    while at < bytes.len() {
        let len = usize::from(bytes[at + 3]);
        if bytes[at + 1] & 0x0f == 8 {
            assert!(len.is_multiple_of(4) && bytes[at + 3 + len] == 0);
        }
        kinds.push(bytes[at + 1]);
        at += 4 + len;
    }
    assert_eq!((at, kinds), (bytes.len(), vec![0x03, 0x02, 0x01, 0x94, 0x95, 0x98, 0xa8]));
}
