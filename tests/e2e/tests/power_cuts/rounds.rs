//! A run: an appliance whose pool forgets, hosts that work on it, and the power going again and again.
//!
//! The cuts of a run are of several kinds. Most are a kill of the target, which `holdfast up` starts again; every fourth takes
//! the whole appliance, because `up` starts a target that keeps dying ever more slowly. Some hit a target that is
//! recovering from the one before, and some come when nothing was written since: what was found must be there again.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, ensure};
use holdfast_e2e::{Appliance, Backing, Plane, Setup, Share, host_nqn};
use holdfast_testkit::Session;
use serde_json::json;

use crate::content::Random;
use crate::host;
use crate::model::{Found, Model};
use crate::tally::Tally;
use crate::visitor::Visitor;

/// The environment variable by which a debug build's pools forget, and how.
pub(crate) const LOSSY: &str = "HOLDFAST_LOSSY_BACKING";
/// Small, so that the journal goes round, checkpoints are many and slots are soon used again.
const POOL: &str = "64MiB";
/// Who looks after each loss of power. It writes nothing.
pub(crate) const READER: &str = "reader";
/// Kills of targets that one `up` sees, before it is its turn.
const KILLS_OF_ONE_UP: u32 = 3;
/// One in so many cuts comes when nothing was written since the one before.
const IDLE_EVERY: u64 = 6;
/// One in so many is followed by another one while the target recovers.
const RECOVERING_EVERY: u64 = 4;
/// Commands that complete before the power goes, at most.
const COMMANDS_MAX: u64 = 1500;
/// A bound for what hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// Between two looks whether the volumes are ready.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(5);

/// The hosts: name, volume, and the part of it that is theirs, in 4096ths. On the volume of 512-byte blocks their border cuts
/// the 4096 bytes that the store keeps together.
const HOSTS: [(&str, usize, std::ops::Range<u64>); 4] =
    [("anna", 0, 0..900), ("bert", 0, 900..2048), ("cleo", 1, 0..2045), ("dora", 1, 2045..4096)];
/// The volumes: name, MiB, block size.
const VOLUMES: [(&str, u64, u64); 2] = [("large", 8, 4096), ("small", 2, 512)];

/// What a run does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Of everything that is random in it.
    pub(crate) seed: u64,
    /// How often the power goes.
    pub(crate) cuts: u64,
    /// What is wrong with the appliance.
    pub(crate) wrong: Wrong<'a>,
}

/// A mistake that a run is to notice.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wrong<'a> {
    Nothing,
    /// Flushes of the device say that they were done and do nothing.
    Flushes,
    /// The target makes the mistake of this name; only these programs can.
    Target {
        programs: &'a Path,
        mutant: &'a str,
    },
}

/// Carries out a run.
///
/// # Errors
/// With seed and round, when the power took something that it must not take.
pub(crate) fn run(plan: Plan) -> Result<Tally> {
    let started = Instant::now();
    let mut run = Run::start(plan).with_context(|| format!("seed {}", plan.seed))?;
    for round in 0..plan.cuts {
        run = run.round().with_context(|| format!("seed {}, round {round}", plan.seed))?;
    }
    let milliseconds = started.elapsed().as_millis() as u64;
    let tally = Tally { milliseconds, orders: run.visitor.orders(), ..run.tally };
    run.appliance.stop()?;
    Ok(tally)
}

struct Run {
    name: String,
    appliance: Appliance,
    random: Random,
    shares: Vec<Share>,
    models: Vec<(usize, Model)>,
    visitor: Visitor,
    /// Since the current `up` was started.
    kills: u32,
    tally: Tally,
}

impl Run {
    fn start(plan: Plan) -> Result<Run> {
        let name = match plan.wrong {
            Wrong::Nothing => format!("power_{}", plan.seed),
            Wrong::Flushes => "power_without_flushes".to_owned(),
            Wrong::Target { mutant, .. } => format!("power_{mutant}"),
        };
        let some = format!("some:{}", plan.seed);
        let loss = if plan.seed.is_multiple_of(2) { "all" } else { &some };
        let (programs, mutant) = match plan.wrong {
            Wrong::Target { programs, mutant } => (Some(programs), mutant),
            Wrong::Nothing | Wrong::Flushes => (None, ""),
        };
        let setup = Setup {
            programs,
            arguments: &["--ram-pool", POOL],
            environment: &[(LOSSY, loss), ("HOLDFAST_MUTANT", mutant)],
            backing: Some(Backing::File),
            ..Setup::default()
        };
        let mut appliance = Appliance::start_as(&name, setup)?;
        let mut shares = Vec::new();
        for (name, size_mib, block_size) in VOLUMES {
            shares.push(appliance.share(name, size_mib, block_size)?);
        }
        for host in [READER].into_iter().chain(HOSTS.map(|(name, ..)| name)) {
            appliance.rest().post("/hosts", &json!({"name": host, "nqn": host_nqn(host)}))?;
            for share in &shares {
                let path = format!("/subsystems/{}/hosts/{host}", share.name);
                appliance.rest().put(&path, &json!({"view": "pi"}))?;
            }
        }
        let models = HOSTS.map(|(name, volume, blocks)| {
            let block_bytes = VOLUMES[volume].2 as usize;
            (volume, Model::new(name, volume as u32, blocks, block_bytes))
        });
        let visitor = Visitor::admit(&appliance)?;
        if let Wrong::Flushes = plan.wrong {
            // The pool itself is well: a pool that was never written at all would be too easy to find.
            appliance = appliance.restart_in(&name, &[(LOSSY, "pretend")])?;
        }
        let random = Random(plan.seed);
        let models = models.into_iter().collect();
        Ok(Run { name, appliance, random, shares, models, visitor, kills: 0, tally: Tally::default() })
    }

    /// Work, the loss of power, and what is left.
    fn round(mut self) -> Result<Run> {
        let idle = self.tally.cuts % IDLE_EVERY == IDLE_EVERY - 1;
        let recovering = self.tally.cuts % RECOVERING_EVERY == 1;
        self.tally.cuts += 1;
        self.tally.idle += u64::from(idle);
        let whole = self.kills >= KILLS_OF_ONE_UP;
        if idle {
            self.cut(whole)?;
        } else {
            self.work(whole)?;
        }
        if whole {
            self.tally.whole += 1;
            self.kills = 0;
            self.appliance = self.appliance.power_up(&self.name)?;
        } else {
            self.kills += 1;
        }
        if recovering {
            thread::sleep(Duration::from_millis(self.random.below(60)));
            self.appliance.kill(Plane::Data)?;
            self.kills += 1;
            self.tally.recovering += 1;
        }
        self.look()?;
        Ok(self)
    }

    fn cut(&self, whole: bool) -> Result<()> {
        if whole { self.appliance.cut_power() } else { self.appliance.kill(Plane::Data) }
    }

    /// All hosts work, and then the power goes.
    fn work(&mut self, whole: bool) -> Result<()> {
        let commands = 1 + self.random.below(COMMANDS_MAX);
        let seeds: Vec<u64> = self.models.iter().map(|_| self.random.next()).collect();
        let visitors_seed = self.random.next();
        let gone = AtomicBool::new(false);
        let Run { appliance, shares, models, visitor, tally, .. } = self;
        let appliance: &Appliance = appliance;
        // Before anybody works: one that came late would work on what the next target serves.
        let connect =
            |(volume, model): &(usize, Model)| appliance.connect(&host_nqn(model.host), &shares[*volume]);
        let sessions = models.iter().map(connect).collect::<Result<Vec<_>>>()?;
        let (sender, receiver) = channel();
        thread::scope(|scope| {
            let mut workers = Vec::new();
            for (((_, model), mut session), seed) in models.iter_mut().zip(sessions).zip(seeds) {
                let (gone, sender) = (&gone, sender.clone());
                let work =
                    move || host::work(model, &mut session, &mut Random(seed), gone, &sender, u64::MAX);
                workers.push(scope.spawn(work));
            }
            let visit = scope.spawn(|| visitor.visit(appliance, &mut Random(visitors_seed), &gone));
            drop(sender);
            let done = count(&receiver, commands);
            gone.store(true, Ordering::SeqCst);
            let cut = if whole { appliance.cut_power() } else { appliance.kill(Plane::Data) };
            tally.commands += done + receiver.try_iter().count() as u64;
            for worker in workers.into_iter().chain([visit]) {
                worker.join().map_err(|_| anyhow!("a host panicked"))??;
            }
            ensure!(done == commands, "the hosts ended before the power did");
            cut
        })
    }

    /// The reader compares what is there with what may be there.
    fn look(&mut self) -> Result<()> {
        let deadline = Instant::now() + LIMIT;
        for (volume, share) in self.shares.iter().enumerate() {
            let mut session = self.appliance.connect(&host_nqn(READER), share)?;
            for (_, model) in self.models.iter_mut().filter(|(on, _)| *on == volume) {
                self.tally += look(&self.appliance, model, &mut session, deadline)?;
            }
        }
        self.tally += self.visitor.look(&self.appliance, deadline)?;
        Ok(())
    }
}

/// What is left of a host's blocks, as soon as they are served.
pub(crate) fn look(
    appliance: &Appliance,
    model: &mut Model,
    session: &mut Session,
    deadline: Instant,
) -> Result<Found> {
    loop {
        if let Some(found) = host::look(model, session)? {
            return Ok(found);
        }
        let pool = appliance.rest().get("/pools/ram")?;
        ensure!(pool.get("health") != Some(&json!("failed")) || Instant::now() < deadline, "{pool}");
        ensure!(Instant::now() < deadline, "volume {} is not ready: {pool}", model.volume);
        thread::sleep(LOOK_AGAIN_AFTER);
    }
}

/// Waits until so many commands have completed, or no host works any more: how many have.
fn count(done: &Receiver<()>, commands: u64) -> u64 {
    (0..commands).take_while(|_| done.recv_timeout(LIMIT).is_ok()).count() as u64
}
