//! The protection information crate against a second implementation of the same standards.
//!
//! [`reference`] computes CRCs from byte tables and tuples bit by bit, and shares no code with the
//! crate. Published values pin both to the standards; properties pin them to each other.

#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "the reference implementation is written to be plain, and runs on its own input only"
)]

mod checks;
mod guards;
mod reference;
mod streams;
mod tuples;

use holdfast_pi::{GuardKind, PiFormat, PiType};
use proptest::prelude::*;

const PI_TYPES: [PiType; 3] = [PiType::Type1, PiType::Type2, PiType::Type3];
const GUARDS: [GuardKind; 3] = [GuardKind::Crc16, GuardKind::Crc32c, GuardKind::Crc64];

fn pi_format(pi_type: PiType, guard: GuardKind, block_len: u32, storage_tag_bits: u8) -> PiFormat {
    PiFormat::new(pi_type, guard, block_len, storage_tag_bits).expect("a valid format")
}

/// Every protection type with 16-bit guards on 512-byte blocks: small, for exhaustive tests.
fn small_formats() -> [PiFormat; 3] {
    PI_TYPES.map(|pi_type| pi_format(pi_type, GuardKind::Crc16, 512, 0))
}

/// Any format that exists, storage tags of any width included.
fn any_format() -> impl Strategy<Value = PiFormat> {
    let shapes = prop_oneof![
        Just((GuardKind::Crc16, 512, 0)),
        Just((GuardKind::Crc16, 4096, 0)),
        (16_u8..=64).prop_map(|bits| (GuardKind::Crc32c, 4096, bits)),
        (0_u8..=48).prop_map(|bits| (GuardKind::Crc64, 4096, bits)),
    ];
    (prop::sample::select(PI_TYPES.to_vec()), shapes)
        .prop_map(|(pi_type, (guard, block_len, bits))| pi_format(pi_type, guard, block_len, bits))
}
