//! What a run is like: the device, the volumes, how hosts use them, and what goes wrong. All of it follows from the seed.

use holdfast_block::VolumeId;
use holdfast_pi::{GuardKind, PiFormat, PiType};
use holdfast_store::VolumeSpec;

use crate::disk::Pace;
use crate::rng::{Rng, mix};

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A bit of everything.
    Mixed,
    /// Small writes to few blocks: many versions, and parts of cells.
    Hot,
    /// Volumes come, grow and go.
    Volumes,
    /// The pool is filled first.
    Full,
    /// Small writes all over, so that the journal fills and checkpoints follow each other.
    Checkpoints,
    /// The same, and checkpoints take so long that the journal is full before they end.
    SlowCheckpoints,
    /// A pool with few free slots, in which reads take longer than it takes to write their blocks anew and use the slots again.
    SlowReads,
}

impl Kind {
    const ALL: [Kind; 9] = [
        Kind::Mixed,
        Kind::Mixed,
        Kind::Hot,
        Kind::Volumes,
        Kind::Full,
        Kind::Checkpoints,
        Kind::SlowCheckpoints,
        Kind::SlowCheckpoints,
        Kind::SlowReads,
    ];

    /// Whether the pool is filled first.
    pub(crate) fn is_full(self) -> bool {
        matches!(self, Kind::Full | Kind::SlowReads)
    }
}

/// What goes wrong besides power cuts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    Nothing,
    /// Writes of data and map pages fail.
    DataWriteErrors,
    /// Any write may fail.
    WriteErrors,
    /// Flushes fail.
    FlushErrors,
    /// The device goes away.
    Gone,
    /// Reads fail, some slots stay unreadable.
    ReadErrors,
    /// Reads return other slots.
    ReadsElsewhere,
    /// Writes of data and map pages are lost or end up elsewhere.
    LostDataWrites,
    /// Writes anywhere are lost or end up elsewhere.
    LostWrites,
    /// Bits change while the power is off.
    Rot,
}

impl Trouble {
    /// Data that cannot be written comes twice: what shares a journal block with it is to be met by that, too.
    pub(crate) const ALL: [Trouble; 10] = [
        Trouble::DataWriteErrors,
        Trouble::DataWriteErrors,
        Trouble::WriteErrors,
        Trouble::FlushErrors,
        Trouble::Gone,
        Trouble::ReadErrors,
        Trouble::ReadsElsewhere,
        Trouble::LostDataWrites,
        Trouble::LostWrites,
        Trouble::Rot,
    ];

    /// Whether blocks may be found damaged.
    pub(crate) fn damages(self) -> bool {
        self.damages_for_good() || matches!(self, Trouble::FlushErrors | Trouble::Gone)
    }

    /// Whether they may be so after a recovery. Where it may not be, nothing may be amiss in the whole pool.
    pub(crate) fn damages_for_good(self) -> bool {
        matches!(
            self,
            Trouble::ReadErrors
                | Trouble::ReadsElsewhere
                | Trouble::LostDataWrites
                | Trouble::LostWrites
                | Trouble::Rot
        )
    }

    /// Whether what was superseded may come back: journal blocks that are the only witnesses may be missing.
    pub(crate) fn brings_back(self) -> bool {
        matches!(self, Trouble::LostDataWrites | Trouble::LostWrites | Trouble::Rot)
    }

    /// Whether the pool may refuse to be opened.
    pub(crate) fn may_refuse(self) -> bool {
        matches!(self, Trouble::LostWrites | Trouble::LostDataWrites | Trouble::Rot | Trouble::ReadErrors)
    }

    /// Whether writes may end with an error.
    pub(crate) fn fails_writes(self) -> bool {
        self != Trouble::Nothing && self != Trouble::ReadsElsewhere
    }
}

/// A run.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    pub(crate) kind: Kind,
    pub(crate) trouble: Trouble,
    pub(crate) sector: usize,
    pub(crate) slots: u64,
    pub(crate) arena_bytes: usize,
    /// Which operations of the device are slow.
    pub(crate) pace: Pace,
    /// Whether the pool writes zeroes before it writes data.
    pub(crate) zero_ahead: bool,
    /// Operations that hosts have under way at most.
    pub(crate) depth: usize,
    /// Blocks of one operation at most.
    pub(crate) blocks_max: u64,
    /// Of a thousand writes so many are to be durable when they are acknowledged.
    pub(crate) durable: u64,
    /// Of a thousand operations so many are flushes.
    pub(crate) flushes: u64,
    /// Crashes.
    pub(crate) rounds: u64,
    /// Steps between two crashes.
    pub(crate) steps_min: u64,
    pub(crate) steps_max: u64,
}

impl Scenario {
    /// The run with this seed. With `troubled`, something goes wrong besides power cuts.
    pub(crate) fn new(seed: u64, troubled: bool) -> Scenario {
        let mut rng = Rng::new(mix(seed) ^ 0x7363_656e);
        let kind = *rng.pick(&Kind::ALL);
        let trouble = if troubled { *rng.pick(&Trouble::ALL) } else { Trouble::Nothing };
        let blocks_max = match kind {
            Kind::Hot => 24,
            Kind::Checkpoints | Kind::SlowCheckpoints => 4,
            Kind::Mixed | Kind::Volumes | Kind::Full => *rng.pick(&[8, 40, 256]),
            Kind::SlowReads => 64,
        };
        Scenario {
            seed,
            kind,
            trouble,
            sector: if rng.chance(700) { 512 } else { 4096 },
            slots: rng.between(2048, if kind.is_full() { 2300 } else { 3200 }),
            arena_bytes: *rng.pick(&[4 << 20, 8 << 20]),
            pace: Pace {
                slow_reads: if kind == Kind::SlowReads { 500 } else { *rng.pick(&[20, 200]) },
                slow_writes: *rng.pick(&[2, 20]),
                slow_flushes: *rng.pick(&[20, 300]),
                slow_pages: match kind {
                    Kind::SlowCheckpoints => 800,
                    Kind::SlowReads => 400,
                    _ => 0,
                },
            },
            zero_ahead: rng.chance(300),
            depth: match kind {
                Kind::SlowReads => 32,
                Kind::SlowCheckpoints => 8,
                _ => *rng.pick(&[1, 2, 4, 8, 32]),
            },
            blocks_max,
            durable: *rng.pick(&[0, 30, 300]),
            flushes: *rng.pick(&[5, 40, 150]),
            rounds: 10,
            steps_min: if kind == Kind::SlowCheckpoints { 1000 } else { 0 },
            steps_max: match kind {
                Kind::Checkpoints | Kind::SlowReads => 1500,
                Kind::SlowCheckpoints => 2500,
                Kind::Mixed | Kind::Hot | Kind::Volumes | Kind::Full => *rng.pick(&[100, 500, 900]),
            },
        }
    }
}

/// A volume of a random kind.
pub(crate) fn volume(rng: &mut Rng, id: u64, blocks: u64) -> VolumeSpec {
    let (block_len, format) = match rng.below(6) {
        0 => (4096, None),
        1 => (4096, Some((PiType::Type1, GuardKind::Crc16, 0))),
        2 => (4096, Some((PiType::Type2, GuardKind::Crc64, 16))),
        3 => (4096, Some((PiType::Type3, GuardKind::Crc32c, 32))),
        4 => (512, None),
        _ => (512, Some((PiType::Type1, GuardKind::Crc16, 0))),
    };
    let format = format.map(|(kind, guard, tag)| PiFormat::new(kind, guard, block_len, tag).unwrap());
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&mix(id).to_le_bytes());
    VolumeSpec {
        id: VolumeId::new(id).unwrap(),
        uuid,
        nguid: uuid,
        block_len: block_len as usize,
        block_count: if block_len == 512 { blocks * 2 } else { blocks },
        format,
    }
}
