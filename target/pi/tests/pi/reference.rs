//! The second implementation: table-driven CRCs, tuples as strings of bits, streams as whole buffers.

use holdfast_pi::{GuardKind, PiFormat, PiType, Tuple};

/// A CRC in the terms of the Rocksoft model.
struct Model {
    width: u32,
    poly: u64,
    reflected: bool,
    /// Start value and final inversion, the same in all three.
    invert: u64,
}

fn model(kind: GuardKind) -> Model {
    match kind {
        GuardKind::Crc16 => Model { width: 16, poly: 0x8bb7, reflected: false, invert: 0 },
        GuardKind::Crc32c => Model { width: 32, poly: 0x1edc_6f41, reflected: true, invert: 0xffff_ffff },
        GuardKind::Crc64 => {
            Model { width: 64, poly: 0xad93_d235_94c9_3659, reflected: true, invert: u64::MAX }
        }
    }
}

/// The CRC of `data`, a byte at a time.
pub(crate) fn crc(kind: GuardKind, data: &[u8]) -> u64 {
    let model = model(kind);
    let table = table(&model);
    let mut register = model.invert;
    for &byte in data {
        let byte = u64::from(byte);
        register = if model.reflected {
            table[((register ^ byte) & 0xff) as usize] ^ (register >> 8)
        } else {
            let top = (register >> (model.width - 8)) ^ byte;
            (table[(top & 0xff) as usize] ^ (register << 8)) & mask(model.width)
        };
    }
    register ^ model.invert
}

/// The remainder of each byte, by long division a bit at a time.
fn table(model: &Model) -> [u64; 256] {
    let mut table = [0; 256];
    for (byte, entry) in (0_u64..).zip(&mut table) {
        *entry = if model.reflected {
            let poly = model.poly.reverse_bits() >> (64 - model.width);
            (0..8).fold(byte, |r, _| if r & 1 == 1 { (r >> 1) ^ poly } else { r >> 1 })
        } else {
            let top = 1 << (model.width - 1);
            let start = byte << (model.width - 8);
            (0..8).fold(start, |r, _| if r & top == 0 { r << 1 } else { (r << 1) ^ model.poly })
                & mask(model.width)
        };
    }
    table
}

fn mask(bits: u32) -> u64 {
    if bits == 64 { u64::MAX } else { (1 << bits) - 1 }
}

/// Widths in bits of guard, application tag, storage tag, reference tag, in wire order.
pub(crate) fn widths(format: PiFormat) -> [u32; 4] {
    let (guard, total) = match format.guard() {
        GuardKind::Crc16 => (16, 64),
        GuardKind::Crc32c => (32, 128),
        GuardKind::Crc64 => (64, 128),
    };
    let storage = u32::from(format.storage_tag_bits());
    [guard, 16, storage, total - guard - 16 - storage]
}

/// The wire bytes of a tuple, written bit by bit. Bits beyond a field's width do not get written.
pub(crate) fn encode(format: PiFormat, tuple: &Tuple) -> Vec<u8> {
    let fields = [tuple.guard, tuple.app_tag.into(), tuple.storage_tag, tuple.ref_tag];
    let bits = fields
        .into_iter()
        .zip(widths(format))
        .flat_map(|(field, width)| (0..width).rev().map(move |bit| field >> bit & 1))
        .collect::<Vec<u64>>();
    bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | *bit as u8)).collect()
}

/// A tuple from its wire bytes, read bit by bit.
pub(crate) fn decode(format: PiFormat, bytes: &[u8]) -> Tuple {
    let mut bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| u64::from(byte >> bit & 1)));
    let [guard, app_tag, storage_tag, ref_tag] =
        widths(format).map(|width| bits.by_ref().take(width as usize).fold(0, |all, bit| all << 1 | bit));
    Tuple { guard, app_tag: app_tag as u16, storage_tag, ref_tag }
}

/// The reference tag of block `index`, counted up one by one.
pub(crate) fn ref_tag(format: PiFormat, initial: u64, index: u32) -> u64 {
    let last = mask_or_zero(widths(format)[3]);
    let step = |tag: u64| if tag == last { 0 } else { tag + 1 };
    match format.pi_type() {
        PiType::Type1 | PiType::Type2 => (0..index).fold(initial & last, |tag, _| step(tag)),
        PiType::Type3 => initial & last,
    }
}

fn mask_or_zero(bits: u32) -> u64 {
    if bits == 0 { 0 } else { mask(bits) }
}

/// The stream of `data` with tuples behind its blocks.
pub(crate) fn interleave(format: PiFormat, app_tag: u16, initial: u64, storage: u64, data: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    for (index, block) in (0..).zip(data.chunks(format.block_len())) {
        let guard = crc(format.guard(), block);
        let ref_tag = ref_tag(format, initial, index);
        wire.extend_from_slice(block);
        wire.extend(encode(format, &Tuple { guard, app_tag, storage_tag: storage, ref_tag }));
    }
    wire
}
