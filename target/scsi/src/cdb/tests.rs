//! Whole CDBs against what they mean, and the table's maps against what the decoder does.

use super::*;
use proptest::prelude::*;

fn plain(count_at: u16, lba: u64, count: u32, protect: u8) -> Protected {
    Protected { blocks: Blocks { lba: Lba(lba), count, count_at }, protect, tags: None }
}

/// A CDB of a row that is decoded without error, its other fields zero.
fn base(row: &Row) -> Vec<u8> {
    let mut cdb = vec![0; row.usage.len()];
    cdb[0] = row.opcode;
    match (row.opcode, row.service_action) {
        (0x7f, Some(action)) => {
            cdb[7] = 0x18;
            cdb[8..10].copy_from_slice(&action.to_be_bytes());
        }
        (_, Some(action)) => cdb[1] = u8::try_from(action).unwrap(),
        _ => (),
    }
    cdb
}

/// The bits that name the command: others name another one.
fn names_it(row: &Row, at: usize, bit: u8) -> bool {
    match (row.service_action.is_some(), row.opcode, at) {
        (_, _, 0) => true,
        (true, 0x7f, 8 | 9) => true,
        (true, 0x7f, _) => false,
        (true, _, 1) => bit < 5,
        _ => false,
    }
}

#[test]
fn the_maps_name_exactly_the_bits_that_are_looked_at() {
    for row in ROWS {
        let base = base(row);
        let decoded = Cdb::decode(&base);
        assert!(decoded.is_ok(), "{row:?}: {decoded:?}");
        for (at, usage) in row.usage.iter().enumerate() {
            for bit in (0..8).filter(|bit| !names_it(row, at, *bit)) {
                let mut flipped = base.clone();
                flipped[at] ^= 1 << bit;
                let seen = Cdb::decode(&flipped) != decoded;
                assert_eq!(seen, usage & (1 << bit) != 0, "{row:?}: byte {at} bit {bit}");
            }
        }
    }
}

#[test]
fn no_command_is_there_twice_and_none_both_with_and_without_service_actions() {
    for (index, row) in ROWS.iter().enumerate() {
        for other in ROWS.iter().skip(index + 1).filter(|other| other.opcode == row.opcode) {
            assert!(row.service_action.is_some() && other.service_action.is_some(), "{row:?}");
            assert_ne!(row.service_action, other.service_action);
        }
    }
}

#[test]
fn reads_of_every_length_name_their_blocks() {
    let six = [0x08, 0xff, 2, 3, 0, 0];
    let expected = Cdb::Read { range: plain(4, 0x1f_0203, 256, 0), dpo: false, fua: false };
    assert_eq!(Cdb::decode(&six), Ok(expected));
    let ten = [0x28, 0xb8, 1, 2, 3, 4, 0xff, 5, 6, 0];
    let expected = Cdb::Read { range: plain(7, 0x0102_0304, 0x0506, 5), dpo: true, fua: true };
    assert_eq!(Cdb::decode(&ten), Ok(expected));
    let twelve = [0xa8, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0];
    let expected = Cdb::Read { range: plain(6, 0x0102_0304, 0x0506_0708, 0), dpo: false, fua: false };
    assert_eq!(Cdb::decode(&twelve), Ok(expected));
    let sixteen = [0x88, 0x08, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 0];
    let expected =
        Cdb::Read { range: plain(10, 0x0102_0304_0506_0708, 0x090a_0b0c, 0), dpo: false, fua: true };
    assert_eq!(Cdb::decode(&sixteen), Ok(expected));
}

#[test]
fn a_cdb_of_32_bytes_brings_tags() {
    let mut cdb = [0; 32];
    cdb[0] = 0x7f;
    cdb[7] = 0x18;
    cdb[9] = 0x0b;
    cdb[10] = 0x28;
    cdb[19] = 7;
    cdb[20..28].copy_from_slice(&[1, 2, 3, 4, 5, 6, 7, 8]);
    cdb[31] = 9;
    let tags = ExpectedTags { initial_ref: 0x0102_0304, app_tag: 0x0506, app_mask: 0x0708 };
    let range = Protected { tags: Some(tags), ..plain(28, 7, 9, 1) };
    assert_eq!(Cdb::decode(&cdb), Ok(Cdb::Write { range, dpo: false, fua: true }));
    assert_eq!(Cdb::decode(&cdb[..16]), Err(Sense::invalid_in_cdb(7, None)));
    cdb[7] = 0x17;
    assert_eq!(Cdb::decode(&cdb), Err(Sense::invalid_in_cdb(7, None)));
}

#[test]
fn what_cannot_be_is_refused_where_it_stands() {
    let refused = |cdb: &[u8], sense: Sense| assert_eq!(Cdb::decode(cdb), Err(sense), "{cdb:02x?}");
    refused(&[], Sense::INVALID_OPCODE);
    refused(&[0xff; 16], Sense::INVALID_OPCODE);
    refused(&[0x9e, 0x11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], Sense::invalid_in_cdb(1, Some(4)));
    refused(&[0x12, 0, 0x80, 0, 255, 0], Sense::invalid_in_cdb(2, None));
    refused(&[0, 0, 0, 0, 0, 4], Sense::invalid_in_cdb(5, Some(2)));
    refused(&[0x2f, 0x04, 0, 0, 0, 0, 0, 0, 1, 0], Sense::invalid_in_cdb(1, Some(2)));
    refused(&[0x41, 0x10, 0, 0, 0, 0, 0, 0, 1, 0], Sense::invalid_in_cdb(1, Some(4)));
    refused(&[0x16, 0x01, 0, 0, 0, 0], Sense::invalid_in_cdb(1, Some(0)));
    refused(&[0xa3, 0x0c, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0], Sense::invalid_in_cdb(2, Some(2)));
    refused(&[0xa3, 0x4a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], Sense::invalid_in_cdb(1, Some(7)));
}

#[test]
fn commands_without_blocks_carry_their_fields() {
    let sense = Cdb::decode(&[0x5a, 0x18, 0x8a, 0x02, 0, 0, 0, 1, 2, 0]);
    let expected = Cdb::ModeSense {
        long: true,
        llbaa: true,
        dbd: true,
        control: 2,
        page: 0x0a,
        subpage: 2,
        allocation_len: 0x102,
    };
    assert_eq!(sense, Ok(expected));
    let out = Cdb::decode(&[0x5f, 0x04, 0x15, 0, 0, 0, 0, 0, 24, 0]);
    assert_eq!(out, Ok(Cdb::PersistentReserveOut { action: 4, scope: 1, kind: 5, list_len: 24 }));
    let same = Cdb::decode(&[0x93, 0x19, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0]);
    let expected = Cdb::WriteSame { range: plain(10, 1, 2, 0), unmap: true, anchor: true, no_data: true };
    assert_eq!(same, Ok(expected));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = Cdb::decode(&bytes);
    }

    #[test]
    fn nothing_behind_a_known_operation_code_panics(
        row in 0..ROWS.len(),
        rest in proptest::collection::vec(any::<u8>(), 0..40),
    ) {
        let mut bytes = rest;
        bytes.insert(0, ROWS[row].opcode);
        let _ = Cdb::decode(&bytes);
    }
}
