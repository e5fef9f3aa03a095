//! What blocks hold: every version of every block has its own data, tuple, provenance and writer, all of them following
//! from the volume, the address and the number of the operation. So a model keeps one number per version, and what
//! is read tells which one it is.

use holdfast_block::{BlockRecord, HostId, Provenance};

use crate::rng::mix;

/// What an operation leaves in a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Nothing.
    Hole,
    /// Data of this operation.
    Data(u64),
    /// Zeroes with this operation's tuple.
    Zeroes(u64),
    /// The mark of this operation that the block cannot be read.
    Marked,
}

/// One block of one volume.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Address {
    pub(crate) volume: u64,
    pub(crate) lba: u64,
}

/// Different hosts that write.
const HOSTS: u64 = 40;

impl What {
    fn key(self, at: Address) -> u64 {
        let (kind, op) = match self {
            What::Hole | What::Marked => (0, 0),
            What::Data(op) => (1, op),
            What::Zeroes(op) => (2, op),
        };
        mix(mix(at.volume.wrapping_mul(3).wrapping_add(kind)) ^ mix(at.lba).wrapping_add(mix(op) << 1))
    }

    /// Writes the block's data. `scratch` is one block.
    pub(crate) fn fill(self, at: Address, block: &mut [u8]) {
        match self {
            What::Data(_) => {
                let mut word = self.key(at);
                for bytes in block.chunks_exact_mut(8) {
                    bytes.copy_from_slice(&(word ^ (word >> 29)).to_le_bytes());
                    word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                }
            }
            What::Hole | What::Zeroes(_) | What::Marked => block.fill(0),
        }
    }

    /// What is kept beside the data.
    pub(crate) fn record(self, at: Address, tuple_len: usize) -> BlockRecord {
        let key = mix(self.key(at));
        let (provenance, writer) = match self {
            What::Hole => return BlockRecord::hole(),
            What::Marked => return marked(),
            What::Zeroes(op) => (Provenance::Inserted, op),
            What::Data(op) => match key % 8 {
                0 => (Provenance::HostBadGuard, op),
                1..4 => (Provenance::Inserted, op),
                _ => (Provenance::HostGood, op),
            },
        };
        let mut tuple = [0; 16];
        tuple[..8].copy_from_slice(&mix(key ^ 1).to_le_bytes());
        tuple[8..].copy_from_slice(&mix(key ^ 2).to_le_bytes());
        tuple[tuple_len..].fill(0);
        BlockRecord { tuple, provenance, writer: HostId::new(1 + mix(writer) % HOSTS) }
    }

    /// Whether this is what was read. `scratch` has room for a block.
    pub(crate) fn is(self, at: Address, tuple_len: usize, found: &Found<'_>, scratch: &mut [u8]) -> bool {
        let Found::Block { data, record } = found else { return self == What::Marked };
        if self == What::Marked {
            return false;
        }
        let expected = self.record(at, tuple_len);
        let same_tuple = self == What::Hole || record.tuple[..tuple_len] == expected.tuple[..tuple_len];
        if !same_tuple || record.provenance != expected.provenance || record.writer != expected.writer {
            return false;
        }
        match (self, data) {
            (What::Hole, data) => data.is_none(),
            (_, None) => false,
            (_, Some(data)) => {
                let scratch = &mut scratch[..data.len()];
                self.fill(at, scratch);
                scratch == *data
            }
        }
    }
}

/// What a read found in a block.
#[derive(Debug, Clone)]
pub(crate) enum Found<'a> {
    /// `data` is missing for a hole.
    Block { data: Option<&'a [u8]>, record: BlockRecord },
    /// The mark that it cannot be read.
    Marked,
}

impl Found<'_> {
    /// A few words for a report.
    pub(crate) fn summary(&self) -> String {
        match self {
            Found::Marked => "a mark".to_owned(),
            Found::Block { data: None, record } => format!("no data, {record:?}"),
            Found::Block { data: Some(data), record } => {
                let zero = if data.iter().all(|byte| *byte == 0) { "zeroes" } else { "data" };
                format!("{zero} {:02x?}…, {record:?}", &data[..8])
            }
        }
    }
}

fn marked() -> BlockRecord {
    BlockRecord { tuple: [0; 16], provenance: Provenance::Uncorrectable, writer: HostId::new(1) }
}

#[test]
fn every_version_is_told_from_every_other() {
    let at = Address { volume: 5, lba: 9 };
    let others = [Address { volume: 5, lba: 10 }, Address { volume: 6, lba: 9 }];
    let mut scratch = [0; 512];
    let mut data = [0; 512];
    for what in [What::Hole, What::Data(1), What::Data(2), What::Zeroes(1), What::Zeroes(2)] {
        what.fill(at, &mut data);
        let record = what.record(at, 8);
        let found = Found::Block { data: Some(&data[..]).filter(|_| what != What::Hole), record };
        assert!(what.is(at, 8, &found, &mut scratch));
        for other in [What::Hole, What::Data(1), What::Data(2), What::Data(3), What::Zeroes(1), What::Marked]
        {
            assert_eq!(other.is(at, 8, &found, &mut scratch), other == what, "{what:?} as {other:?}");
        }
        for elsewhere in others.iter().filter(|_| what != What::Hole) {
            assert!(!what.is(*elsewhere, 8, &found, &mut scratch), "{what:?} of another block");
        }
    }
}

#[test]
fn version_is_not_recognised_under_another_tuple_or_writer() {
    let at = Address { volume: 5, lba: 9 };
    let what = What::Data(7);
    let (mut data, mut scratch) = ([0; 512], [0; 512]);
    what.fill(at, &mut data);
    let good = what.record(at, 8);
    let bad = [
        BlockRecord { tuple: What::Data(8).record(at, 8).tuple, ..good },
        BlockRecord { writer: HostId::new(HOSTS + 1), ..good },
        BlockRecord { provenance: Provenance::Hole, ..good },
    ];
    for record in bad {
        assert!(!what.is(at, 8, &Found::Block { data: Some(&data), record }, &mut scratch));
    }
    data[511] ^= 1;
    assert!(!what.is(at, 8, &Found::Block { data: Some(&data), record: good }, &mut scratch));
}
