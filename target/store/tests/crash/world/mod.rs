//! A pool on a simulated device with hosts that use it, and the model that knows what they may find.

mod act;
mod crash;
mod done;
mod verify;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use holdfast_block::{PoolId, SlotRef, Store as _};
use holdfast_store::Stores;
use holdfast_store::disk::format::Layout;
use holdfast_store::disk::{DiskConfig, DiskLimits, DiskPool};

use crate::classes::Tally;
use crate::content::What;
use crate::disk::{SLOT, SimDisk};
use crate::model::{Model, Time};
use crate::rng::{Rng, mix};
use crate::scenario::{Kind, Scenario, Trouble};

/// Steps without any progress after which the pool counts as stuck.
const STUCK_STEPS: u32 = 50;

/// Steps after which whatever was asked for has ended long ago.
const SETTLE_STEPS_MAX: u32 = 200_000;

/// Everything.
pub(crate) struct World {
    scenario: Scenario,
    rng: Rng,
    disk: SimDisk,
    stores: Stores<Vec<u8>>,
    layout: Layout,
    model: Model,
    pending: BTreeMap<u32, Pending>,
    /// Blocks that reads have lent.
    held: Vec<Held>,
    changes: Vec<Change>,
    /// Blocks that were found damaged. What becomes of them is not followed.
    damaged: BTreeSet<(u64, u64)>,
    last_token: u32,
    last_op: u64,
    last_volume: u64,
    /// Cells with something in them, as the last recovery found them.
    there: BTreeSet<(u64, u64)>,
    /// The pool has reported that it writes nothing any more.
    stopped: bool,
    /// The pool has been closed.
    closed: bool,
    /// Steps until the device goes away.
    gone_after: Option<u64>,
    /// The pool could not be opened, which the run's trouble explains.
    refused: bool,
    tally: Tally,
    digest: u64,
    scratch: Vec<u8>,
}

/// An operation of a host that is under way.
#[derive(Debug)]
struct Pending {
    volume: u64,
    range: Range<u64>,
    /// When it was asked for.
    order: Time,
    ask: Ask,
}

#[derive(Debug)]
enum Ask {
    Publish {
        what: What,
        durable: bool,
        surely_there: bool,
    },
    Trim,
    Flush,
    Read {
        floors: Vec<Time>,
    },
    /// A read of the whole volume after a recovery.
    Verify,
}

/// What a read has found, still pinned.
#[derive(Debug)]
struct Held {
    volume: u64,
    slots: Vec<SlotRef>,
    /// A sum of each block's data, as first seen.
    sums: Vec<u64>,
}

/// A change of a volume that is not known to be durable.
#[derive(Debug, Clone, Copy)]
struct Change {
    volume: u64,
    since: Time,
    ticket: u64,
    kind: ChangeKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ChangeKind {
    Create,
    Grow,
    Delete,
}

fn pool_id() -> PoolId {
    PoolId::new(0x51).unwrap()
}

fn uuid(seed: u64) -> [u8; 16] {
    let mut uuid = [7; 16];
    uuid[..8].copy_from_slice(&(seed | 1).to_le_bytes());
    uuid
}

/// Far more than the maps of such small pools take.
const LIMITS: DiskLimits = DiskLimits { map_bytes_max: 64 << 20 };

/// What a run gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) tally: Tally,
    /// Of everything that ended, and of what is on the device at the end.
    pub(crate) digest: u64,
}

/// Carries a run out.
///
/// # Errors
///
/// What should not be, in words.
pub(crate) fn run(scenario: Scenario) -> Result<Outcome, String> {
    let mut world = World::new(scenario)?;
    world.fill()?;
    for _ in 0..world.scenario.rounds {
        world.round()?;
        if world.refused {
            break;
        }
    }
    let digest = world.disk.used_slots().iter().fold(world.digest, |digest, slot| {
        let words = world.disk.slot(*slot);
        words
            .chunks_exact(8)
            .fold(digest, |sum, word| mix(sum ^ u64::from_le_bytes(word.try_into().unwrap())))
    });
    Ok(Outcome { tally: world.tally, digest })
}

impl World {
    fn new(scenario: Scenario) -> Result<World, String> {
        let mut rng = Rng::new(scenario.seed);
        let disk = SimDisk::new(scenario.slots, scenario.sector, rng.next());
        disk.set_pace(scenario.pace);
        let config = DiskConfig {
            id: pool_id(),
            uuid: uuid(scenario.seed),
            name: "crash".to_owned(),
            zero_ahead: scenario.zero_ahead,
        };
        let layout = Layout::of(scenario.slots * SLOT as u64).map_err(|error| error.to_string())?;
        let arena = vec![0; scenario.arena_bytes];
        let pool = DiskPool::create(&disk, arena, &config, LIMITS).map_err(|error| error.to_string())?;
        let mut stores = Stores::new();
        stores.add_disk_pool(0, pool).map_err(|error| error.to_string())?;
        let mut model = Model::default();
        model.past_may_return = scenario.trouble.brings_back();
        let mut world = World {
            rng,
            disk,
            stores,
            layout,
            model,
            pending: BTreeMap::new(),
            held: Vec::new(),
            changes: Vec::new(),
            damaged: BTreeSet::new(),
            last_token: 0,
            last_op: 0,
            last_volume: 0,
            there: BTreeSet::new(),
            stopped: false,
            closed: false,
            gone_after: None,
            refused: false,
            tally: Tally::default(),
            digest: 0,
            scratch: vec![0; SLOT],
            scenario,
        };
        for _ in 0..world.rng.between(1, 4) {
            world.create_volume()?;
        }
        Ok(world)
    }

    /// Fills the pool to what the scenario asks for.
    fn fill(&mut self) -> Result<(), String> {
        if !self.scenario.kind.is_full() {
            return Ok(());
        }
        let mut attempts = 0;
        while !self.is_nearly_full() && attempts < 400 {
            attempts += 1;
            self.fill_some()?;
            self.settle()?;
        }
        Ok(())
    }

    fn is_nearly_full(&self) -> bool {
        let Some(pool) = self.stores.disk_pool(pool_id()) else { return false };
        let usage = pool.usage();
        usage.allocated_bytes * 100 >= usage.capacity_bytes * 95
    }

    /// From one crash to the next.
    fn round(&mut self) -> Result<(), String> {
        self.start_trouble();
        let Scenario { steps_min, steps_max, .. } = self.scenario;
        let steps = steps_min + self.rng.skewed(steps_max - steps_min);
        let wait_for = match self.scenario.kind {
            Kind::SlowCheckpoints if self.rng.chance(500) => 3,
            _ => self.rng.below(6),
        };
        let mut left = steps;
        while left > 0 {
            self.step()?;
            left -= 1;
            self.gone_after = self.gone_after.and_then(|after| after.checked_sub(1));
            if self.gone_after == Some(0) {
                self.go_away();
            }
            // Some crashes come soon after something has begun.
            if left > 20 && self.has_begun(wait_for) {
                left = self.rng.below(20);
            }
        }
        if self.scenario.trouble == Trouble::Nothing && self.rng.chance(80) {
            self.close()?;
        }
        self.crash_and_recover()
    }

    fn has_begun(&self, what: u64) -> bool {
        let under_way = |kind| self.changes.iter().any(|change| change.kind == kind);
        match what {
            0 => self.is_in_checkpoint(),
            1 => under_way(ChangeKind::Delete),
            2 => under_way(ChangeKind::Grow),
            3 => self.is_journal_full(),
            _ => false,
        }
    }

    fn is_journal_full(&self) -> bool {
        let blocks = self.stores.disk_pool(pool_id()).map(|pool| pool.journal_blocks());
        blocks.is_some_and(|(ring, used)| used >= ring)
    }

    fn is_in_checkpoint(&self) -> bool {
        let unflushed = self.disk.unflushed();
        unflushed.iter().any(|(slot, bytes)| crate::classes::is_of_checkpoint(&self.layout, *slot, bytes))
    }

    /// Something happens: a host asks, the device answers, or somebody lets go of what it read.
    fn step(&mut self) -> Result<(), String> {
        let may_ask = self.pending.len() < self.scenario.depth;
        let busy = self.disk.in_flight() > 0;
        if may_ask && (!busy || self.rng.chance(350)) {
            self.act()?;
        } else if busy {
            self.end_one()?;
        } else if !self.held.is_empty() {
            self.let_go()?;
        }
        if self.rng.chance(100) {
            self.let_go()?;
        }
        self.pump()?;
        if self.disk.in_flight() == 0 && self.pending.len() >= self.scenario.depth {
            self.settle()?;
        }
        Ok(())
    }

    /// Goes on until nothing is under way.
    fn settle(&mut self) -> Result<(), String> {
        let mut idle = 0;
        for _ in 0..SETTLE_STEPS_MAX {
            self.pump()?;
            let before = self.pending.len();
            if self.disk.in_flight() > 0 {
                self.end_one()?;
                idle = 0;
            } else if self.pending.is_empty() && self.disk.in_flight() == 0 && !self.stores.has_work() {
                return Ok(());
            } else {
                while !self.held.is_empty() {
                    self.let_go()?;
                }
                idle = if self.pending.len() == before { idle + 1 } else { 0 };
            }
            if idle > STUCK_STEPS {
                let waiting: Vec<&Pending> = self.pending.values().take(3).collect();
                return Err(format!(
                    "nothing goes on, and {} operations wait: {waiting:?}",
                    self.pending.len()
                ));
            }
        }
        Err(format!("no end is in sight of {} operations", self.pending.len()))
    }

    /// Carries what the pool asks for to the device, and what it has ended to the hosts.
    fn pump(&mut self) -> Result<(), String> {
        loop {
            let mut quiet = true;
            while let Some((pool, op)) = self.stores.next_disk_op() {
                quiet = false;
                let memory = self.stores.disk_pool(pool).ok_or("an operation of no pool")?.arena();
                self.disk.submit(op, memory);
            }
            while let Some(done) = self.stores.poll() {
                quiet = false;
                self.done(done)?;
            }
            if let Some(violation) = self.disk.violation() {
                return Err(violation);
            }
            if quiet {
                self.note_synced();
                return Ok(());
            }
        }
    }

    /// The device ends an operation.
    fn end_one(&mut self) -> Result<(), String> {
        let pool = self.stores.disk_pool_mut(pool_id()).ok_or("no pool")?;
        if let Some(done) = self.disk.complete(pool.arena_mut()) {
            self.stores.disk_done(pool_id(), done);
        }
        match self.disk.violation() {
            Some(violation) => Err(violation),
            None => Ok(()),
        }
    }

    /// Takes note of which changes of volumes are durable.
    fn note_synced(&mut self) {
        let synced = self.stores.disk_pool(pool_id()).map_or(0, |pool| pool.volumes_synced());
        let World { changes, model, .. } = self;
        changes.retain(|change| {
            let durable = change.ticket <= synced;
            if durable {
                model.change_is_durable(change.volume, change.since);
            }
            !durable
        });
    }
}
