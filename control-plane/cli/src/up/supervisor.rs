//! The loop that keeps both planes running until a signal says stop.
//!
//! One thread and one `poll`: signals, the children's ends, their output and their notifications all arrive
//! as readable descriptors, and the only timers are the planned restarts. While nothing happens, it sleeps
//! without end.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use signal_hook::consts::{SIGINT, SIGTERM};

use super::error::UpError;
use super::fdname::FdName;
use super::leftover::RunRecord;
use super::unit::Unit;

/// A child that ends this often in a row without having become ready will not become so: the start has
/// failed.
const UNREADY_EXITS_MAX: u32 = 3;

/// How long both planes may take to become ready for the first time. A pool is made thin, so even a busy
/// machine needs seconds; the limit is there so that automation gets an answer.
const START_LIMIT: Duration = Duration::from_secs(120);

/// How long the control plane may take to end: it finishes the requests at hand.
const CONTROL_END_LIMIT: Duration = Duration::from_secs(10);

/// How long the target may take to end: it finishes and flushes the I/O at hand.
const TARGET_END_LIMIT: Duration = Duration::from_secs(60);

/// The pipe whose end tells the children that `up` is gone, however it went. Nothing is ever written to it.
#[derive(Debug)]
pub(crate) struct Lifeline {
    children_end: io::PipeReader,
    _our_end: io::PipeWriter,
}

impl Lifeline {
    /// A new lifeline.
    ///
    /// # Errors
    /// No pipe can be had.
    pub(crate) fn new() -> Result<Self, UpError> {
        let (children_end, our_end) = io::pipe().map_err(UpError::system("cannot make a pipe"))?;
        Ok(Self { children_end, _our_end: our_end })
    }

    /// A named copy of the children's end.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub(crate) fn for_child(&self) -> Result<(FdName, OwnedFd), UpError> {
        let copy = self.children_end.try_clone().map_err(UpError::system("cannot copy a descriptor"))?;
        Ok((FdName::parse("lifeline")?, copy.into()))
    }
}

/// Becomes readable when SIGTERM or SIGINT arrives.
///
/// # Errors
/// The handlers cannot be installed.
pub(crate) fn stop_signals() -> Result<UnixStream, UpError> {
    let install = || {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        signal_hook::low_level::pipe::register(SIGTERM, writer.try_clone()?)?;
        signal_hook::low_level::pipe::register(SIGINT, writer)?;
        Ok(reader)
    };
    install().map_err(UpError::system::<io::Error>("cannot handle signals"))
}

/// Both planes and what is watched.
#[derive(Debug)]
pub(crate) struct Supervisor {
    /// The data plane.
    pub(crate) target: Unit,
    /// The management plane.
    pub(crate) control: Unit,
    /// See [`stop_signals`].
    pub(crate) signals: UnixStream,
    /// Which children run, for the next `up`.
    pub(crate) record: RunRecord,
    /// Printed once, when both planes are ready for the first time.
    pub(crate) ready_line: String,
}

impl Supervisor {
    /// Runs until a signal says stop or the start has failed; then ends both children, the control plane
    /// first so that it does not see the target vanish.
    ///
    /// # Errors
    /// Why the start failed, or which child had to be killed.
    pub(crate) fn run(mut self) -> Result<(), UpError> {
        let served = self.serve();
        let control_ended = self.end(|both| &mut both.control, CONTROL_END_LIMIT);
        let target_ended = self.end(|both| &mut both.target, TARGET_END_LIMIT);
        served.and(control_ended).and(target_ended)
    }

    fn serve(&mut self) -> Result<(), UpError> {
        let give_up_at = Instant::now() + START_LIMIT;
        let mut announced = false;
        loop {
            let now = Instant::now();
            let started = [self.target.start_if_due(now), self.control.start_if_due(now)];
            if started.contains(&true) {
                self.write_record();
            }
            if !announced {
                announced = self.announce_if_ready();
            }
            if !announced {
                self.check_start(now, give_up_at)?;
            }
            let start_limit = (!announced).then_some(give_up_at);
            let until = [self.target.due(), self.control.due(), start_limit].into_iter().flatten().min();
            self.wait(until)?;
            if self.stop_requested() {
                tracing::info!("stopping");
                return Ok(());
            }
            self.turn(announced)?;
        }
    }

    /// Prints the `ready` line once both planes are ready.
    fn announce_if_ready(&self) -> bool {
        let ready = self.target.is_ready() && self.control.is_ready();
        if ready {
            let mut out = io::stdout().lock();
            if let Err(error) = writeln!(out, "{}", self.ready_line).and_then(|()| out.flush()) {
                tracing::warn!("cannot write the ready line to standard output: {error}");
            }
        }
        ready
    }

    /// Whether the start has failed.
    fn check_start(&self, now: Instant, give_up_at: Instant) -> Result<(), UpError> {
        for unit in [&self.target, &self.control] {
            let (name, last_line) = (unit.name(), unit.last_line().to_owned());
            if unit.unready_exits() >= UNREADY_EXITS_MAX {
                let (attempts, ending) = (unit.unready_exits(), unit.ending().to_owned());
                return Err(UpError::ChildKeepsDying { name, attempts, ending, last_line });
            }
            if now >= give_up_at && !unit.is_ready() {
                return Err(UpError::ChildNotReady { name, seconds: START_LIMIT.as_secs(), last_line });
            }
        }
        Ok(())
    }

    /// Ends one child: asks, waits, kills. What it and the other write and hand over meanwhile is still
    /// taken.
    fn end(&mut self, which: fn(&mut Self) -> &mut Unit, limit: Duration) -> Result<(), UpError> {
        let give_up_at = Instant::now() + limit;
        which(self).terminate();
        let mut killed = false;
        while which(self).pid().is_some() {
            self.wait((!killed).then_some(give_up_at))?;
            self.stop_requested();
            self.take_turns()?;
            if !killed && Instant::now() >= give_up_at && which(self).pid().is_some() {
                which(self).kill();
                killed = true;
            }
        }
        if killed {
            return Err(UpError::ChildKilled { name: which(self).name(), seconds: limit.as_secs() });
        }
        Ok(())
    }

    /// Lets both units work, and says so when a child ended that will be started again.
    fn turn(&mut self, announced: bool) -> Result<(), UpError> {
        let before = [self.target.pid(), self.control.pid()];
        let now = self.take_turns()?;
        for (unit, pid) in [&self.target, &self.control].into_iter().zip(before) {
            let given_up = !announced && unit.unready_exits() >= UNREADY_EXITS_MAX;
            if pid.is_some() && unit.pid().is_none() && !given_up {
                unit.log_restart(now);
            }
        }
        Ok(())
    }

    fn take_turns(&mut self) -> Result<Instant, UpError> {
        let now = Instant::now();
        let turned = self.target.turn(now).and_then(|()| self.control.turn(now));
        turned.map_err(UpError::system("cannot follow the children"))?;
        Ok(now)
    }

    /// Sleeps until something is readable or the time has come.
    fn wait(&self, until: Option<Instant>) -> Result<(), UpError> {
        let watched = self.target.pollable().into_iter().chain(self.control.pollable());
        let mut fds: Vec<PollFd<'_>> = std::iter::once(self.signals.as_fd())
            .chain(watched)
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN))
            .collect();
        let timeout = until
            .map(|at| Timespec::try_from(at.saturating_duration_since(Instant::now())))
            .transpose()
            .map_err(|error| UpError::system("cannot wait")(io::Error::other(error)))?;
        match rustix::event::poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(UpError::system("cannot wait")(error)),
        }
    }

    /// Whether a stop signal came since the last call.
    fn stop_requested(&mut self) -> bool {
        let mut bytes = [0; 16];
        let mut any = false;
        while matches!(self.signals.read(&mut bytes), Ok(len) if len > 0) {
            any = true;
        }
        any
    }

    /// A record that cannot be written costs only the next `up` its patience, so it is no reason to stop.
    fn write_record(&self) {
        let children =
            [&self.target, &self.control].into_iter().filter_map(|unit| Some((unit.name(), unit.pid()?)));
        if let Err(error) = self.record.write(children) {
            tracing::warn!("cannot write down which children run: {error}");
        }
    }
}
