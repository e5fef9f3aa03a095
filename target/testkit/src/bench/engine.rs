//! The loop that drives a thread's connections, and what it records.
//!
//! Edge-triggered epoll over non-blocking sockets. Under load the loop spins; after [`SPIN_NS`] without an event
//! it sleeps in epoll. Times are taken once for each batch received, not for each command.

use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use rustix::buffer::spare_capacity;
use rustix::event::{Timespec, epoll};
use rustix::fd::OwnedFd;

use crate::lane::{Failure, Finished, Lanes};
use crate::process;
use crate::workload::{Feed, Op, Plan};

/// How long the loop looks for events before it sleeps.
const SPIN_NS: u64 = 50_000;
/// How long it sleeps at most, to see the end of its time.
const NAP: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
const NO_TIME: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
/// A target that completes nothing for so long is given up.
const STALL_NS: u64 = 30_000_000_000;
/// Events taken from epoll at once.
const EVENTS_MAX: usize = 64;
/// Different failures that are told apart.
const FAILURES_MAX: usize = 32;
/// The longest latency that is told apart: more than the stall limit.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// When the load runs and what part of it is measured, in nanoseconds after `base`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Window {
    pub(crate) base: Instant,
    pub(crate) measure_from_ns: u64,
    pub(crate) measure_to_ns: u64,
}

/// What one thread reports to the main thread.
pub(crate) enum Message {
    /// The area has been written; waiting for the window.
    Filled,
    /// All done. The connections are handed back, so that a target's thread for one of them does not end, and
    /// take its processor time with it, before the target has been sampled.
    Ended { outcome: Result<Box<Recorder>>, lanes: Lanes },
}

/// What happened, on one thread.
pub(crate) struct Recorder {
    window: Window,
    measured: bool,
    submitting: bool,
    now_ns: u64,
    progress_ns: u64,
    cpu_from_ns: Option<u64>,
    cpu_to_ns: Option<u64>,
    /// Latencies in nanoseconds, within the window, of successful commands.
    pub(crate) reads: Histogram<u64>,
    pub(crate) writes: Histogram<u64>,
    /// How commands failed, and how often, over the whole run.
    pub(crate) failures: Vec<(Failure, u64)>,
    /// Blocks that --verify found wrong, and the first of them.
    pub(crate) bad_blocks: u64,
    pub(crate) first_bad_block: Option<u64>,
}

impl Recorder {
    pub(crate) fn new(window: Window, measured: bool) -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).context("making a histogram");
        Ok(Self {
            window,
            measured,
            submitting: true,
            now_ns: 0,
            progress_ns: 0,
            cpu_from_ns: None,
            cpu_to_ns: None,
            reads: histogram()?,
            writes: histogram()?,
            failures: Vec::with_capacity(FAILURES_MAX),
            bad_blocks: 0,
            first_bad_block: None,
        })
    }

    /// Reads the clock.
    pub(crate) fn tick(&mut self) -> u64 {
        self.now_ns = u64::try_from(self.window.base.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if self.measured && self.submitting {
            if self.cpu_from_ns.is_none() && self.now_ns >= self.window.measure_from_ns {
                self.cpu_from_ns = Some(process::own_thread_cpu_ns());
            }
            if self.now_ns >= self.window.measure_to_ns {
                self.cpu_to_ns = Some(process::own_thread_cpu_ns());
                self.submitting = false;
            }
        }
        self.now_ns
    }

    /// Whether new commands are wanted.
    pub(crate) fn is_submitting(&self) -> bool {
        self.submitting
    }

    /// Counts a command that has ended.
    pub(crate) fn record(&mut self, done: &Finished, now_ns: u64) {
        self.progress_ns = now_ns;
        if let Some(lba) = done.bad_block {
            self.bad_blocks = self.bad_blocks.saturating_add(1);
            self.first_bad_block.get_or_insert(lba);
        }
        if let Some(failure) = done.failure {
            self.count_failure(failure, 1);
            return;
        }
        let window = self.window.measure_from_ns..self.window.measure_to_ns;
        if self.measured && window.contains(&now_ns) {
            let latency_ns = now_ns.saturating_sub(done.submitted_ns).max(1);
            match done.op {
                Op::Read => self.reads.saturating_record(latency_ns),
                Op::Write | Op::Flush => self.writes.saturating_record(latency_ns),
            }
        }
    }

    /// This thread's processor time within the window.
    pub(crate) fn own_cpu_ns(&self) -> u64 {
        let spent = self.cpu_to_ns.zip(self.cpu_from_ns).map(|(to, from)| to.saturating_sub(from));
        spent.unwrap_or(0)
    }

    /// Adds what another thread, or the fill, recorded.
    pub(crate) fn merge(&mut self, other: &Self) -> Result<()> {
        self.reads.add(&other.reads)?;
        self.writes.add(&other.writes)?;
        for (failure, count) in &other.failures {
            self.count_failure(*failure, *count);
        }
        self.bad_blocks = self.bad_blocks.saturating_add(other.bad_blocks);
        self.first_bad_block = self.first_bad_block.or(other.first_bad_block);
        Ok(())
    }

    /// Failures beyond [`FAILURES_MAX`] different ones are counted under the last.
    fn count_failure(&mut self, failure: Failure, count: u64) {
        let full = self.failures.len() >= FAILURES_MAX;
        let known = self.failures.iter().position(|(known, _)| *known == failure);
        match known.or(full.then_some(FAILURES_MAX - 1)).and_then(|at| self.failures.get_mut(at)) {
            Some((_, sum)) => *sum = sum.saturating_add(count),
            None => self.failures.push((failure, count)),
        }
    }
}

/// A thread's work: fills if asked, waits for the window, runs the load. `lanes` come with their number among
/// all `lane_count`.
pub(crate) fn work(
    mut lanes: Lanes,
    lane_count: u64,
    plan: &Plan,
    fill: bool,
    window: &Receiver<Window>,
    report: &Sender<Message>,
) {
    let mut whole = || {
        let mut engine = Engine::new(&lanes)?;
        let mut filled = None;
        if fill {
            for (index, lane) in &mut lanes {
                lane.set_feed(Feed::fill(plan, *index, lane_count));
            }
            let now = Window { base: Instant::now(), measure_from_ns: 0, measure_to_ns: 0 };
            let mut recorder = Recorder::new(now, false)?;
            engine.drive(&mut lanes, &mut recorder)?;
            filled = Some(recorder);
        }
        // The main thread has gone when nobody listens; then there is no window either.
        let _ = report.send(Message::Filled);
        let window = window.recv().context("the run was given up")?;
        for (index, lane) in &mut lanes {
            lane.set_feed(Feed::load(plan, *index, lane_count));
        }
        let mut recorder = Recorder::new(window, true)?;
        engine.drive(&mut lanes, &mut recorder)?;
        if let Some(filled) = filled {
            recorder.merge(&filled)?;
        }
        Ok(Box::new(recorder))
    };
    let outcome = whole();
    let _ = report.send(Message::Ended { outcome, lanes });
}

struct Engine {
    epoll: OwnedFd,
    events: Vec<epoll::Event>,
    /// Which lanes may have more to read.
    ready: Vec<bool>,
}

impl Engine {
    fn new(lanes: &Lanes) -> Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("making an epoll instance")?;
        for (position, (_, lane)) in lanes.iter().enumerate() {
            let interest = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(u64::try_from(position)?);
            epoll::add(&epoll, lane.socket(), data, interest).context("watching a socket")?;
        }
        Ok(Self { epoll, events: Vec::with_capacity(EVENTS_MAX), ready: vec![false; lanes.len()] })
    }

    /// Runs until the recorder wants no more, or the feeds have ended, and all commands have ended too.
    fn drive(&mut self, lanes: &mut Lanes, recorder: &mut Recorder) -> Result<()> {
        let mut active_ns = recorder.tick();
        for (_, lane) in lanes.iter_mut() {
            lane.submit(active_ns);
            lane.flush()?;
        }
        while recorder.is_submitting() && recorder.measured || lanes.iter().any(|(_, lane)| !lane.is_quiet())
        {
            let busy = self.ready.iter().any(|ready| *ready);
            let spinning = busy || recorder.now_ns.saturating_sub(active_ns) < SPIN_NS;
            let timeout = if spinning { NO_TIME } else { NAP };
            if self.wait(lanes, &timeout)? || busy {
                self.pump(lanes, recorder)?;
                active_ns = recorder.tick();
            } else {
                let now_ns = recorder.tick();
                if now_ns.saturating_sub(recorder.progress_ns) > STALL_NS {
                    bail!("the target has completed nothing for {} seconds", STALL_NS / 1_000_000_000);
                }
            }
        }
        Ok(())
    }

    /// Looks for events; `true` when there is something to read.
    fn wait(&mut self, lanes: &mut Lanes, timeout: &Timespec) -> Result<bool> {
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("waiting for events"),
        }
        let mut readable = false;
        for event in self.events.drain(..) {
            let position = usize::try_from(event.data.u64()).unwrap_or(usize::MAX);
            let (Some((_, lane)), Some(ready)) = (lanes.get_mut(position), self.ready.get_mut(position))
            else {
                continue;
            };
            let flags = event.flags;
            if flags.contains(epoll::EventFlags::OUT) {
                lane.flush()?;
            }
            if flags.intersects(epoll::EventFlags::IN | epoll::EventFlags::HUP | epoll::EventFlags::ERR) {
                *ready = true;
                readable = true;
            }
        }
        Ok(readable)
    }

    fn pump(&mut self, lanes: &mut Lanes, recorder: &mut Recorder) -> Result<()> {
        for ((_, lane), ready) in lanes.iter_mut().zip(&mut self.ready) {
            if *ready {
                *ready = lane.pump(recorder)?;
            }
        }
        Ok(())
    }
}
