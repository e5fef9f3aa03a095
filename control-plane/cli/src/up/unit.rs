//! One supervised program over its whole life: started, listened to, started again when it dies, ended.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::ExitStatus;
use std::time::Instant;

use rustix::process::{Pid, Signal};

use super::backoff::Backoff;
use super::child::{Child, Program};
use super::error::UpError;
use super::fdname::FdName;
use super::fdstore::FdStore;
use super::notify::{Datagram, Notification, NotifySocket};

/// Most notifications taken in one go, so that a child that sends without end cannot keep `up` from its other
/// work.
const NOTIFICATIONS_PER_TURN: usize = 64;

/// A program and everything that outlives one run of it.
#[derive(Debug)]
pub(crate) struct Unit {
    program: Program,
    notify: NotifySocket,
    /// The descriptors it gets at every start: its listening sockets and the lifeline.
    fixed: Vec<(FdName, OwnedFd)>,
    /// The descriptors it handed over.
    store: FdStore,
    backoff: Backoff,
    state: State,
    restarts: u64,
    unready_exits: u32,
    ending: String,
    last_line: String,
}

#[derive(Debug)]
enum State {
    /// To be started at this time.
    Due(Instant),
    /// Running; `ready` once it said so.
    Running { child: Child, ready: bool },
}

impl Unit {
    /// A unit that is due at once.
    ///
    /// # Errors
    /// Its notification socket cannot be bound.
    pub(crate) fn new(
        program: Program,
        fixed: Vec<(FdName, OwnedFd)>,
        now: Instant,
    ) -> Result<Self, UpError> {
        let notify = NotifySocket::bind(&program.notify_socket)
            .map_err(UpError::system("cannot bind a notification socket"))?;
        Ok(Self {
            program,
            notify,
            fixed,
            store: FdStore::default(),
            backoff: Backoff::new(),
            state: State::Due(now),
            restarts: 0,
            unready_exits: 0,
            ending: String::new(),
            last_line: String::new(),
        })
    }

    /// The program's name.
    pub(crate) fn name(&self) -> &'static str {
        self.program.name
    }

    /// Whether the child runs and said that it is ready.
    pub(crate) fn is_ready(&self) -> bool {
        matches!(self.state, State::Running { ready: true, .. })
    }

    /// The running child's process id.
    pub(crate) fn pid(&self) -> Option<Pid> {
        match &self.state {
            State::Running { child, .. } => Some(child.pid()),
            State::Due(_) => None,
        }
    }

    /// How often in a row the child ended before it was ready.
    pub(crate) fn unready_exits(&self) -> u32 {
        self.unready_exits
    }

    /// How the child ended the last time.
    pub(crate) fn ending(&self) -> &str {
        &self.ending
    }

    /// The last line that the child wrote, in this run or, before it writes anything, in the one before.
    pub(crate) fn last_line(&self) -> &str {
        let line = match &self.state {
            State::Running { child, .. } if !child.last_line().is_empty() => child.last_line(),
            _ => &self.last_line,
        };
        if line.is_empty() { "none" } else { line }
    }

    /// When something is to be done even if nothing happens.
    pub(crate) fn due(&self) -> Option<Instant> {
        match self.state {
            State::Due(at) => Some(at),
            State::Running { .. } => None,
        }
    }

    /// The descriptors whose readiness asks for [`Self::turn`].
    pub(crate) fn pollable(&self) -> Vec<BorrowedFd<'_>> {
        let mut all = vec![self.notify.as_fd()];
        if let State::Running { child, .. } = &self.state {
            all.extend(child.pollable());
        }
        all
    }

    /// Starts the child if it is time to. Returns whether one was started.
    pub(crate) fn start_if_due(&mut self, now: Instant) -> bool {
        match self.state {
            State::Due(at) if at <= now => {}
            _ => return false,
        }
        let descriptors: Vec<(&FdName, BorrowedFd<'_>)> =
            self.fixed.iter().map(|(name, fd)| (name, fd.as_fd())).chain(self.store.iter()).collect();
        match Child::spawn(&self.program, &descriptors, now) {
            Ok(child) => {
                tracing::debug!("{} started (pid {})", self.program.name, child.pid());
                self.state = State::Running { child, ready: false };
                true
            }
            Err(error) => {
                self.last_line = format!("{}: {error}", self.program.path.display());
                self.schedule("could not be started".to_owned(), false, now, now);
                false
            }
        }
    }

    /// Does everything that waits: passes output on, takes notifications in, reaps the child and plans its
    /// next start.
    ///
    /// # Errors
    /// The kernel refuses an operation on our own descriptors.
    pub(crate) fn turn(&mut self, now: Instant) -> io::Result<()> {
        let ended = match &mut self.state {
            State::Running { child, .. } => {
                child.relay(&mut io::stderr());
                child.try_wait()?
            }
            State::Due(_) => None,
        };
        // What the child sent before it died still counts, and all of it: a dead child's messages are finite.
        self.take_notifications(if ended.is_some() { usize::MAX } else { NOTIFICATIONS_PER_TURN })?;
        if let Some(status) = ended {
            self.reaped(status, now);
        }
        Ok(())
    }

    /// Asks the child to flush and end.
    pub(crate) fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Ends the child at once.
    pub(crate) fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        if let State::Running { child, .. } = &self.state {
            child.signal(signal);
        }
    }

    fn reaped(&mut self, status: ExitStatus, now: Instant) {
        let State::Running { child, ready } = std::mem::replace(&mut self.state, State::Due(now)) else {
            return;
        };
        let started = child.started();
        let line = child.into_last_line(&mut io::stderr());
        if !line.is_empty() {
            self.last_line = line;
        }
        self.schedule(status.to_string(), ready, started, now);
    }

    fn schedule(&mut self, ending: String, was_ready: bool, started: Instant, now: Instant) {
        let delay = self.backoff.after_exit(now.saturating_duration_since(started));
        self.unready_exits = if was_ready { 0 } else { self.unready_exits.saturating_add(1) };
        self.restarts = self.restarts.saturating_add(1);
        self.ending = ending;
        // A time too far in the future to be represented cannot come from a capped delay.
        self.state = State::Due(now.checked_add(delay).unwrap_or(now));
    }

    /// Says that the child will be started again.
    pub(crate) fn log_restart(&self, now: Instant) {
        if let State::Due(at) = self.state {
            let (name, ending, restarts) = (self.program.name, &self.ending, self.restarts);
            let delay_ms = at.saturating_duration_since(now).as_millis();
            tracing::warn!("{name} ended ({ending}); restart {restarts} in {delay_ms} ms");
        }
    }

    fn take_notifications(&mut self, limit: usize) -> io::Result<()> {
        for _ in 0..limit {
            match self.notify.receive()? {
                Some(datagram) => self.notified(datagram),
                None => break,
            }
        }
        Ok(())
    }

    /// Acts on one message. Whatever descriptors are not kept are closed here, which is what a barrier waits
    /// for.
    fn notified(&mut self, datagram: Datagram) {
        let name = self.program.name;
        if datagram.sender.is_none() || datagram.sender != self.pid() {
            tracing::warn!("a notification for {name} from another process was passed over");
            return;
        }
        if datagram.cut {
            tracing::error!("an overlong notification of {name} was passed over");
            return;
        }
        let notification = match Notification::parse(&datagram.text) {
            Ok(notification) => notification,
            Err(error) => return tracing::error!("a notification of {name} was passed over: {error}"),
        };
        if let Some(status) = notification.status {
            tracing::debug!("{name}: {status:?}");
        }
        if notification.store || notification.remove {
            match notification.name.map(FdName::parse) {
                Some(Ok(fd_name)) if notification.store => self.keep(fd_name, datagram.descriptors),
                Some(Ok(fd_name)) => {
                    self.store.remove(&fd_name);
                }
                Some(Err(error)) => tracing::error!("{name} named a descriptor wrongly: {error}"),
                None => tracing::error!("{name} stored or removed a descriptor without a name"),
            }
        }
        if notification.ready {
            self.became_ready();
        }
    }

    /// Keeps the one descriptor that came with a message.
    fn keep(&mut self, fd_name: FdName, mut descriptors: Vec<OwnedFd>) {
        let name = self.program.name;
        let (Some(fd), true) = (descriptors.pop(), descriptors.is_empty()) else {
            return tracing::error!("{name} must store exactly one descriptor as {fd_name}");
        };
        if self.fixed.iter().any(|(fixed, _)| *fixed == fd_name) {
            return tracing::error!("{name} cannot store a descriptor as {fd_name}: the name is taken");
        }
        match self.store.insert(fd_name.clone(), fd) {
            Ok(replaced) => tracing::debug!("{name} stored descriptor {fd_name} (replaced: {replaced})"),
            Err(error) => tracing::error!("{name} cannot store descriptor {fd_name}: {error}"),
        }
    }

    fn became_ready(&mut self) {
        if let State::Running { child, ready } = &mut self.state
            && !*ready
        {
            *ready = true;
            self.unready_exits = 0;
            tracing::info!(
                "{} is ready (pid {}, restarts {})",
                self.program.name,
                child.pid(),
                self.restarts
            );
        }
    }
}
