//! The kernel against crc-fast and against a CRC made bit by bit. Where the machine has no kernel there is
//! nothing to compare, and the portable code is tested by the crate's other tests.

use crc_fast::{CrcAlgorithm, Digest};
use proptest::prelude::*;

use super::Crc16;

fn bitwise(register: u16, data: &[u8]) -> u16 {
    data.iter().fold(register, |register, byte| {
        (0..8).fold(register ^ u16::from(*byte) << 8, |register, _| {
            let out = register & 0x8000 != 0;
            register << 1 ^ if out { 0x8bb7 } else { 0 }
        })
    })
}

fn portable(register: u16, data: &[u8]) -> u16 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc16T10Dif, register.into());
    digest.update(data);
    u16::try_from(digest.get_state()).unwrap()
}

fn noise(len: usize) -> Vec<u8> {
    let bytes = (0..u32::try_from(len).unwrap()).map(|at| at.wrapping_add(7).wrapping_mul(0x9e37_79b1) >> 13);
    bytes.map(|word| word.to_le_bytes()[0]).collect()
}

#[test]
fn kernel_equals_bitwise_for_every_length_and_register() {
    let Some(kernel) = Crc16::detect() else { return };
    let data = noise(1700);
    let expected = |register, len: usize| bitwise(register, &data[..len]);
    for len in 0..data.len() {
        for register in [0, 1, 0x8000, 0xffff, 0x1234] {
            assert_eq!(kernel.update(register, &data[..len]), expected(register, len), "{len} {register:#x}");
        }
    }
}

#[test]
fn kernel_copies_every_byte_and_no_other() {
    let Some(kernel) = Crc16::detect() else { return };
    for len in (0..1700).chain([4095, 4096, 4097]) {
        let data = noise(len);
        let mut room = vec![0xa5; len + 128];
        assert_eq!(kernel.copy(7, &data, &mut room[64..64 + len]), bitwise(7, &data));
        assert_eq!(room[64..64 + len], data);
        assert!(room[..64].iter().chain(&room[64 + len..]).all(|byte| *byte == 0xa5), "{len}");
    }
}

#[test]
#[should_panic(expected = "a copy has the length")]
fn a_copy_of_another_length_is_refused() {
    match Crc16::detect() {
        Some(kernel) => kernel.copy(0, &[1; 100], &mut [0; 99]),
        None => panic!("a copy has the length of what it is made from"),
    };
}

proptest! {
    #[test]
    fn kernel_equals_portable_and_bitwise(
        data in prop::collection::vec(any::<u8>(), 0..8193),
        start in 0_usize..130,
        register: u16,
    ) {
        if let Some(kernel) = Crc16::detect() {
            let data = &data[start.min(data.len())..];
            let crc = kernel.update(register, data);
            prop_assert_eq!(crc, portable(register, data));
            prop_assert_eq!(crc, bitwise(register, data));
        }
    }

    #[test]
    fn kernel_and_portable_continue_each_other(
        data in prop::collection::vec(any::<u8>(), 0..8193),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        start: u16,
    ) {
        if let Some(kernel) = Crc16::detect() {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
            cuts.extend([0, data.len()]);
            cuts.sort_unstable();
            let mut copy = vec![0; data.len()];
            let mut register = start;
            for (turn, ends) in cuts.windows(2).enumerate() {
                let piece = &data[ends[0]..ends[1]];
                register = match turn % 3 {
                    0 => kernel.copy(register, piece, &mut copy[ends[0]..ends[1]]),
                    1 => portable(register, piece),
                    _ => kernel.update(register, piece),
                };
                copy[ends[0]..ends[1]].copy_from_slice(piece);
            }
            prop_assert_eq!(register, bitwise(start, &data));
            prop_assert_eq!(copy, data);
        }
    }

    #[test]
    fn four_at_once_equal_one_by_one(
        data in prop::collection::vec(any::<u8>(), 4096),
        starts in prop::array::uniform4(0_usize..=4096 - 512),
    ) {
        if let Some(kernel) = Crc16::detect() {
            let messages = starts.map(|start| data[start..].first_chunk().unwrap());
            prop_assert_eq!(kernel.four(messages), messages.map(|message| bitwise(0, message)));
        }
    }
}
