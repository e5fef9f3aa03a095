//! Drills: bits that are damaged on purpose, and what became of each.

use std::collections::VecDeque;

use holdfast_block::{Drill, Lba, PoolId};
use holdfast_contract::{DrillOrder, DrillStage, ObjectFault, ObjectKind, ObservedDrill, Response};
use holdfast_reactor::Backing;
use holdfast_store::disk::format::SLOT_LEN;

use super::{LiveVolume, Target};
use crate::intent::{fault, volume_id};

/// Drills that are remembered; of more, the oldest is forgotten.
const DRILLS_KEPT: usize = 1024;

/// The drills of this run of the target.
#[derive(Debug, Default)]
pub(super) struct Drills {
    allowed: bool,
    kept: VecDeque<Kept>,
    /// Key of the newest.
    last_key: u64,
}

#[derive(Debug)]
struct Kept {
    key: u64,
    observed: ObservedDrill,
}

impl Drills {
    fn keep(&mut self, id: &str, done: bool) -> u64 {
        if self.kept.len() >= DRILLS_KEPT {
            self.kept.pop_front();
        }
        self.last_key += 1;
        let observed = ObservedDrill { id: id.to_owned(), done, failure: None };
        self.kept.push_back(Kept { key: self.last_key, observed });
        self.last_key
    }

    /// These were carried out.
    pub(super) fn sprung(&mut self, keys: &[u64]) {
        for kept in self.kept.iter_mut().filter(|kept| keys.contains(&kept.key)) {
            kept.observed.done = true;
        }
    }

    pub(super) fn observe(&self) -> Vec<ObservedDrill> {
        self.kept.iter().map(|kept| kept.observed.clone()).collect()
    }
}

impl Target {
    /// From now on, bits may be damaged on purpose.
    pub(crate) fn allow_drills(&mut self) {
        self.drills.allowed = true;
    }

    /// Damages a bit, or lets a drill wait for the write that it is to be damaged in.
    pub(crate) fn drill(&mut self, order: &DrillOrder) -> Response {
        if self.drills.kept.iter().any(|kept| kept.observed.id == order.id) {
            return Response::Drilled;
        }
        match self.start_drill(order) {
            Ok(()) => Response::Drilled,
            Err(fault) => Response::Refused(vec![fault]),
        }
    }

    fn start_drill(&mut self, order: &DrillOrder) -> Result<(), ObjectFault> {
        let refused = |detail: &str| fault(ObjectKind::Drill, &order.id, detail);
        if !self.drills.allowed {
            return Err(refused("this target was not started for drills"));
        }
        let id = volume_id(order.volume);
        let live = self.volumes.get(&id).cloned();
        let live = live.ok_or_else(|| refused("the volume is not served").at("/volume"))?;
        let bit = check_range(&live, order).map_err(|(detail, field)| refused(detail).at(field))?;
        let (pool, lba) = (live.pool, Lba(order.lba));
        match order.stage {
            DrillStage::TargetMemory => {
                let key = self.drills.keep(&order.id, false);
                let drill = Drill { key, volume: id, lba, bit };
                let armed = self.on_home(pool, move |shard| shard.service().arm(drill));
                if armed != Some(true) {
                    self.drills.kept.pop_back();
                    return Err(refused("too many drills wait already"));
                }
                Ok(())
            }
            DrillStage::Media => {
                self.damage(pool, &live, lba, bit).map_err(|detail| refused(&detail))?;
                self.drills.keep(&order.id, true);
                Ok(())
            }
        }
    }

    /// Flips a bit beneath the store's checksum.
    fn damage(&mut self, pool: PoolId, live: &LiveVolume, lba: Lba, bit: usize) -> Result<(), String> {
        let (id, data_bits) = (live.info.id, live.info.block_len * 8);
        if let Some(bit) = bit.checked_sub(data_bits) {
            let damaged = self.on_home(pool, move |shard| shard.stores().damage_tuple(id, lba, bit));
            return if damaged == Some(true) { Ok(()) } else { Err(HOLE.to_owned()) };
        }
        let place = self.on_home(pool, move |shard| shard.place_on_backing(pool, id, lba)).flatten();
        let (backing, offset) = place.ok_or_else(|| HOLE.to_owned())?;
        flip(&backing, offset, bit)
    }
}

const HOLE: &str = "the block holds no data: write it first";

/// The bit within block and tuple; or what is wrong, and with which field.
fn check_range(live: &LiveVolume, order: &DrillOrder) -> Result<usize, (&'static str, &'static str)> {
    if order.lba >= live.info.block_count {
        return Err(("the volume has fewer blocks", "/lba"));
    }
    let tuple_len = live.info.format.map_or(0, |format| format.tuple_len());
    let bit = usize::try_from(order.bit).unwrap_or(usize::MAX);
    if bit >= (live.info.block_len + tuple_len) * 8 {
        return Err(("a block and its tuple have fewer bits", "/bit"));
    }
    Ok(bit)
}

/// Flips a bit of what lies at `offset` of a backing. The slot is read and written whole: direct I/O knows nothing smaller.
fn flip(backing: &Backing, offset: u64, bit: usize) -> Result<(), String> {
    let start = offset - offset % SLOT_LEN as u64;
    let at = usize::try_from(offset - start).unwrap_or(0) + bit / 8;
    let mut slot = vec![0; SLOT_LEN];
    let mut flipped = || {
        backing.read_at(start, &mut slot)?;
        if let Some(byte) = slot.get_mut(at) {
            *byte ^= 1 << (bit % 8);
        }
        backing.write_at(start, &slot)?;
        backing.flush()
    };
    flipped().map_err(|error: holdfast_reactor::FileError| error.to_string())
}
