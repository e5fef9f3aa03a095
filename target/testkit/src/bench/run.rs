//! `holdfast-bench run`: opens the connections, starts the I/O threads, keeps them alive, reports.

use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::Session;

use crate::args::{RunArguments, Transport};
use crate::engine::{self, Message, Recorder, Window};
use crate::lane::Lanes;
use crate::report::{Report, TargetCpu};
use crate::workload::Plan;
use crate::{iscsi, nvme, process};

/// How often a Keep Alive is sent: a third of [`nvme::KEEP_ALIVE_MS`].
const KEEP_ALIVE_EVERY: Duration = Duration::from_millis(5_000);

/// Connections that are ready for the load.
pub(crate) struct Opened {
    pub(crate) plan: Plan,
    pub(crate) lanes: Lanes,
    /// What keeps them alive, where the transport needs that.
    pub(crate) keeper: Option<Session>,
}

/// Runs the load; `false` when a command failed or data was wrong.
pub(crate) fn run(args: &RunArguments) -> Result<bool> {
    ensure!(args.threads <= args.queues, "--threads {} is more than --queues {}", args.threads, args.queues);
    ensure!(!args.seconds.0.is_zero(), "--seconds 0 measures nothing");
    process::cpu_ns_of_all(&args.target_pid)?;
    let Opened { plan, lanes, mut keeper } = match args.transport {
        Transport::Nvme => nvme::open(args)?,
        Transport::Iscsi => iscsi::open(args)?,
    };
    let (recorder, own_cpu_ns, target) = conduct(args, &plan, lanes, keeper.as_mut())?;
    if let Some(keeper) = keeper {
        keeper.close().context("closing the association")?;
    }
    let report = Report::new(args, &plan, &recorder, own_cpu_ns, target)?;
    print!("{}", report.render(args.format)?);
    Ok(report.is_clean())
}

/// Starts the threads, opens the window for all of them, samples the target, and gathers what they recorded.
fn conduct(
    args: &RunArguments,
    plan: &Plan,
    lanes: Lanes,
    session: Option<&mut Session>,
) -> Result<(Recorder, u64, Option<TargetCpu>)> {
    let lane_count = u64::try_from(lanes.len())?;
    let (report, reports) = channel();
    thread::scope(|scope| {
        let mut windows: Vec<Sender<Window>> = Vec::new();
        for share in shares(lanes, args.threads.into()) {
            let (window, opened) = channel();
            let report = report.clone();
            windows.push(window);
            scope.spawn(move || engine::work(share, lane_count, plan, args.fill, &opened, &report));
        }
        drop(report);
        let mut conductor = Conductor {
            args,
            session,
            kept_alive: Instant::now(),
            recorders: Vec::new(),
            quiet_lanes: Vec::new(),
            filled: 0,
        };
        while conductor.filled < windows.len() {
            conductor.take(&reports, Duration::MAX)?;
        }
        let base = Instant::now();
        let (from, to) = (args.warmup.0, args.warmup.0 + args.seconds.0);
        let ns = |time: Duration| u64::try_from(time.as_nanos()).context("a time beyond 584 years");
        for window in &windows {
            window.send(Window { base, measure_from_ns: ns(from)?, measure_to_ns: ns(to)? })?;
        }
        let mut samples = Vec::new();
        for instant in [from, to] {
            while let Some(left) = instant.checked_sub(base.elapsed()).filter(|left| !left.is_zero()) {
                conductor.take(&reports, left)?;
            }
            samples.push(process::cpu_ns_of_all(&args.target_pid)?);
        }
        while conductor.recorders.len() < windows.len() {
            conductor.take(&reports, Duration::MAX)?;
        }
        let (mut sum, mut own_cpu_ns) =
            (Recorder::new(Window { base, measure_from_ns: 0, measure_to_ns: 0 }, false)?, 0);
        for recorder in &conductor.recorders {
            own_cpu_ns += recorder.own_cpu_ns();
            sum.merge(recorder)?;
        }
        let target = match samples.as_slice() {
            [from, to] if !args.target_pid.is_empty() => {
                Some(TargetCpu { used_ns: to.saturating_sub(*from) })
            }
            _ => None,
        };
        Ok((sum, own_cpu_ns, target))
    })
}

/// The main thread's part while the I/O threads work.
struct Conductor<'a> {
    args: &'a RunArguments,
    session: Option<&'a mut Session>,
    kept_alive: Instant,
    recorders: Vec<Recorder>,
    quiet_lanes: Lanes,
    filled: usize,
}

impl Conductor<'_> {
    /// Waits for one message, at most for `limit` or until the next Keep Alive is due.
    fn take(&mut self, reports: &std::sync::mpsc::Receiver<Message>, limit: Duration) -> Result<()> {
        let due = KEEP_ALIVE_EVERY.saturating_sub(self.kept_alive.elapsed());
        match reports.recv_timeout(limit.min(due)) {
            Ok(Message::Filled) => self.filled += 1,
            Ok(Message::Ended { outcome, lanes }) => {
                self.quiet_lanes.extend(lanes);
                let recorder = outcome.with_context(|| format!("load on {}", self.args.target))?;
                self.recorders.push(*recorder);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) if self.recorders.is_empty() => {
                bail!("an I/O thread is gone")
            }
            // All have reported; what is left of the window is waited out.
            Err(RecvTimeoutError::Disconnected) => thread::sleep(limit.min(due)),
        }
        if let Some(session) = self.session.as_mut().filter(|_| self.kept_alive.elapsed() >= KEEP_ALIVE_EVERY)
        {
            session.admin().keep_alive()?.ok().context("keeping the association alive")?;
            self.kept_alive = Instant::now();
        }
        Ok(())
    }
}

/// Deals the lanes out to `threads` threads.
fn shares(lanes: Lanes, threads: usize) -> Vec<Lanes> {
    let mut shares: Vec<Vec<_>> = (0..threads).map(|_| Vec::new()).collect();
    for (position, lane) in lanes.into_iter().enumerate() {
        if let Some(share) = shares.get_mut(position % threads.max(1)) {
            share.push(lane);
        }
    }
    shares
}
