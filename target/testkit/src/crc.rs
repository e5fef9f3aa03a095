//! The three CRCs of protection information and digests, one byte and one table look-up at a time.
//!
//! Slow and plain on purpose: this is the second opinion that the target's fast code is held against.
//! Parameters: NVM Command Set 1.1 §5.3.1.1 "16b Guard Protection Information" (CRC-16/T10-DIF),
//! §5.3.1.2 "32b Guard" (CRC-32C), §5.3.1.3 "64b Guard" (CRC-64/NVME); NVMe/TCP 1.1 digests are CRC-32C.
#![expect(clippy::indexing_slicing, reason = "every index is a byte, every table has 256 entries")]

const T10_DIF_POLYNOMIAL: u16 = 0x8bb7;
/// Bit-reversed 1EDC6F41h.
const CRC32C_POLYNOMIAL: u32 = 0x82f6_3b78;
/// Bit-reversed AD93D23594C93659h.
const CRC64_NVME_POLYNOMIAL: u64 = 0x9a6c_9329_ac4b_c9b5;

static T10_DIF: [u16; 256] = t10_dif_table();
static CRC32C: [u32; 256] = crc32c_table();
static CRC64_NVME: [u64; 256] = crc64_nvme_table();

/// CRC-16/T10-DIF, most significant bit first, seed 0.
pub(crate) fn t10_dif(data: &[u8]) -> u16 {
    data.iter().fold(0, |crc, byte| {
        let [high, _] = crc.to_be_bytes();
        (crc << 8) ^ T10_DIF[usize::from(high ^ byte)]
    })
}

/// CRC-32C (Castagnoli), reflected, seed and final inversion all ones.
pub(crate) fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(!0, |crc: u32, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ CRC32C[usize::from(low ^ byte)]
    })
}

/// CRC-64/NVME, reflected, seed and final inversion all ones.
pub(crate) fn crc64_nvme(data: &[u8]) -> u64 {
    !data.iter().fold(!0, |crc: u64, byte| {
        let [low, ..] = crc.to_le_bytes();
        (crc >> 8) ^ CRC64_NVME[usize::from(low ^ byte)]
    })
}

const fn t10_dif_table() -> [u16; 256] {
    let mut table = [0; 256];
    let mut index: u16 = 0;
    while index < 256 {
        let mut crc = index << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ T10_DIF_POLYNOMIAL };
            bit += 1;
        }
        table[index as usize] = crc;
        index += 1;
    }
    table
}

const fn crc32c_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index: u32 = 0;
    while index < 256 {
        let mut crc = index;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ CRC32C_POLYNOMIAL };
            bit += 1;
        }
        table[index as usize] = crc;
        index += 1;
    }
    table
}

const fn crc64_nvme_table() -> [u64; 256] {
    let mut table = [0; 256];
    let mut index: u16 = 0;
    while index < 256 {
        let mut crc = index as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ CRC64_NVME_POLYNOMIAL };
            bit += 1;
        }
        table[index as usize] = crc;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::{crc32c, crc64_nvme, t10_dif};
    use proptest::prelude::*;

    const CHECK_INPUT: &[u8] = b"123456789";

    #[test]
    fn published_check_values_are_met() {
        assert_eq!(t10_dif(CHECK_INPUT), 0xd0db);
        assert_eq!(crc32c(CHECK_INPUT), 0xe306_9283);
        assert_eq!(crc64_nvme(CHECK_INPUT), 0xae8b_1486_0a79_9888);
    }

    #[test]
    fn guards_of_a_block_of_zeros_are_those_of_the_specification() {
        let zeros = [0; 4096];
        assert_eq!(t10_dif(&zeros), 0);
        assert_eq!(crc32c(&zeros), 0x98f9_4189);
        assert_eq!(crc64_nvme(&zeros), 0x6482_d367_eb22_b64e);
    }

    #[test]
    fn guards_of_a_block_of_ones_are_those_of_the_specification() {
        let ones = [0xff; 4096];
        assert_eq!(crc32c(&ones), 0x25c1_fe13);
        assert_eq!(crc64_nvme(&ones), 0xc0dd_ba73_02ec_a3ac);
    }

    proptest! {
        #[test]
        fn the_library_that_the_load_generator_uses_agrees(data in prop::collection::vec(any::<u8>(), 0..600)) {
            use crc_fast::{CrcAlgorithm, checksum};
            prop_assert_eq!(u64::from(t10_dif(&data)), checksum(CrcAlgorithm::Crc16T10Dif, &data));
            prop_assert_eq!(u64::from(crc32c(&data)), checksum(CrcAlgorithm::Crc32Iscsi, &data));
            prop_assert_eq!(crc64_nvme(&data), checksum(CrcAlgorithm::Crc64Nvme, &data));
        }
    }
}
