//! What a block holds: blocks that say which write they come from, and their tuples.

use holdfast_testkit::pi::{PiFormat, Tags};

/// Bytes of a tuple with a 16-bit guard.
pub(crate) const TUPLE_BYTES: usize = 8;
/// At the beginning of every block that was written; it does not occur in zeroes.
const MAGIC: u32 = 0x5057_4355;
/// Words of the header: magic and volume, block, version.
const HEADER_WORDS: usize = 3;

/// A pseudo-random sequence. SplitMix64.
#[derive(Debug, Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    /// True once in so many times.
    pub(crate) fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

/// Where a block lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) volume: u32,
    pub(crate) lba: u64,
}

/// Data and tuple of a block, told in short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Content {
    data: Data,
    tuple: [u8; TUPLE_BYTES],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    Zeroes,
    /// What the host's write of this number wrote.
    Version(u32),
}

impl Content {
    /// A block that was never written, or deallocated.
    pub(crate) const NOTHING: Content = Content { data: Data::Zeroes, tuple: [0xff; TUPLE_BYTES] };

    /// A block of zeroes with a tuple made for it, as version `version`.
    pub(crate) fn zeroes(place: Place, version: u32) -> Content {
        // The CRC of zeroes is zero.
        Content { data: Data::Zeroes, tuple: tuple(0, place, version) }
    }

    /// Fills `wire` with the block and tuple that version `version` consists of.
    pub(crate) fn write(place: Place, version: u32, wire: &mut [u8]) -> Content {
        let (data, behind) = wire.split_at_mut(wire.len() - TUPLE_BYTES);
        fill(place, version, data);
        let tuple = tuple(PiFormat::CRC16.guard_of(data), place, version);
        behind.copy_from_slice(&tuple);
        Content { data: Data::Version(version), tuple }
    }

    /// Whether `wire` is this, to the last bit.
    pub(crate) fn is(&self, place: Place, wire: &[u8]) -> bool {
        let (data, behind) = wire.split_at(wire.len() - TUPLE_BYTES);
        behind == self.tuple
            && match self.data {
                Data::Zeroes => data.iter().all(|byte| *byte == 0),
                Data::Version(version) => {
                    // Most blocks that are something else differ here already.
                    data.get(..HEADER_WORDS * 8) == Some(header(place, version).as_slice()) && {
                        let mut whole = vec![0; data.len()];
                        fill(place, version, &mut whole);
                        data == whole
                    }
                }
            }
    }

    /// The block and its tuple as they travel.
    pub(crate) fn render(&self, place: Place, wire: &mut [u8]) {
        let (data, behind) = wire.split_at_mut(wire.len() - TUPLE_BYTES);
        match self.data {
            Data::Zeroes => data.fill(0),
            Data::Version(version) => fill(place, version, data),
        }
        behind.copy_from_slice(&self.tuple);
    }
}

/// The application tag by which version `version` is told from its neighbours. FFFFh would escape all checks.
pub(crate) fn app_tag(version: u32) -> u16 {
    u16::try_from(version % 0xffff).unwrap_or_default()
}

/// What a block that should not be there is, in words.
pub(crate) fn describe(place: Place, wire: &[u8]) -> String {
    let (data, behind) = wire.split_at(wire.len() - TUPLE_BYTES);
    let words: Vec<u64> = data
        .chunks_exact(8)
        .take(HEADER_WORDS)
        .map(|word| word.try_into().map_or(0, u64::from_le_bytes))
        .collect();
    let &[first, lba, version] = words.as_slice() else { return "too short".to_owned() };
    let data = match (first as u32 == MAGIC, u32::try_from(version)) {
        (true, Ok(version)) => {
            let there = Place { volume: (first >> 32) as u32, lba };
            let mut whole = vec![0; data.len()];
            fill(there, version, &mut whole);
            let state = if whole == data { "whole" } else { "TORN" };
            let of = if there == place { String::new() } else { format!(" of {there:?}") };
            format!("version {version}{of}, {state}")
        }
        _ if data.iter().all(|byte| *byte == 0) => "zeroes".to_owned(),
        _ => format!("neither zeroes nor a version, beginning {:02x?}", data.get(..16).unwrap_or_default()),
    };
    format!("{data}, tuple {behind:02x?}")
}

fn tuple(guard: u64, place: Place, version: u32) -> [u8; TUPLE_BYTES] {
    let tags = Tags::counting(place.lba).app(app_tag(version));
    let made =
        holdfast_testkit::pi::Tuple { guard, app_tag: tags.app_tag, storage_tag: 0, ref_tag: tags.ref_tag };
    PiFormat::CRC16.encode(&made).try_into().unwrap_or_default()
}

fn header(place: Place, version: u32) -> Vec<u8> {
    let first = u64::from(MAGIC) | u64::from(place.volume) << 32;
    [first, place.lba, version.into()].into_iter().flat_map(u64::to_le_bytes).collect()
}

fn fill(place: Place, version: u32, data: &mut [u8]) {
    let header = header(place, version);
    let (front, rest) = data.split_at_mut(header.len());
    front.copy_from_slice(&header);
    let mut random = Random(u64::from(place.volume) << 56 ^ place.lba << 32 ^ u64::from(version));
    for word in rest.chunks_mut(8) {
        word.copy_from_slice(&random.next().to_le_bytes()[..word.len()]);
    }
}
