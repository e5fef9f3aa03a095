//! One running child process: how it is started with its descriptors, and what `up` holds of it.
//!
//! Descriptors are passed as sd_listen_fds(3) describes: from 3 upward, their names in LISTEN_FDNAMES.
//! LISTEN_PID is left out: the child's process id is known only between fork and exec, where nothing safe can
//! write an environment.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child as Process, Command, ExitStatus};
use std::time::Instant;

use command_fds::{CommandFdExt, FdMapping};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::fdname::FdName;
use super::relay::Relay;

/// The first passed descriptor. sd_listen_fds(3): SD_LISTEN_FDS_START.
const LISTEN_FDS_START: i32 = 3;

/// What is started.
#[derive(Debug)]
pub(crate) struct Program {
    /// The name that people know it by.
    pub(crate) name: &'static str,
    /// The executable.
    pub(crate) path: PathBuf,
    /// Its arguments.
    pub(crate) args: Vec<OsString>,
    /// Where it notifies us.
    pub(crate) notify_socket: PathBuf,
}

/// A child that was started and not yet reaped.
#[derive(Debug)]
pub(crate) struct Child {
    process: Process,
    pid: Pid,
    exited: OwnedFd,
    relay: Relay,
    started: Instant,
}

impl Child {
    /// Starts a program in a process group of its own (a Ctrl-C at the terminal must reach `up` alone), with
    /// `descriptors` from 3 upward, both outputs relayed, and nothing useful on its input (see
    /// [`Relay::reading_end`]).
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn spawn(
        program: &Program,
        descriptors: &[(&FdName, BorrowedFd<'_>)],
        now: Instant,
    ) -> io::Result<Self> {
        let (relay, writer) = Relay::new()?;
        let names: Vec<&str> = descriptors.iter().map(|(name, _)| name.as_str()).collect();
        let mut command = Command::new(&program.path);
        command
            .args(&program.args)
            .env("NOTIFY_SOCKET", &program.notify_socket)
            .env("LISTEN_FDS", names.len().to_string())
            .env("LISTEN_FDNAMES", names.join(":"))
            .env_remove("LISTEN_PID")
            .env_remove("WATCHDOG_USEC")
            .env_remove("WATCHDOG_PID")
            .stdin(relay.reading_end()?)
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0);
        // The copies are made last. They fill every gap among the low numbers, so no descriptor that `spawn`
        // opens for its own use can lie where the child's are put.
        let mappings = (LISTEN_FDS_START..)
            .zip(descriptors)
            .map(|(child_fd, (_, fd))| Ok(FdMapping { parent_fd: fd.try_clone_to_owned()?, child_fd }))
            .collect::<io::Result<Vec<_>>>()?;
        command.fd_mappings(mappings).map_err(io::Error::other)?;
        let mut process = command.spawn()?;
        let pid = Pid::from_child(&process);
        match rustix::process::pidfd_open(pid, PidfdFlags::empty()) {
            Ok(exited) => Ok(Self { process, pid, exited, relay, started: now }),
            Err(error) => {
                // It cannot be watched, so it must not run.
                process.kill()?;
                process.wait()?;
                Err(error.into())
            }
        }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    /// When it was started.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// The descriptors that become readable when it ends or writes something.
    pub(crate) fn pollable(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        std::iter::once(self.exited.as_fd()).chain(self.relay.pollable())
    }

    /// Passes on what it wrote.
    pub(crate) fn relay(&mut self, out: &mut impl Write) {
        self.relay.pump(out);
    }

    /// How it ended, once it did; it is reaped then.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.process.try_wait()
    }

    /// Passes on the rest of what it wrote and gives back its last line.
    pub(crate) fn into_last_line(mut self, out: &mut impl Write) -> String {
        self.relay.finish(out);
        self.relay.last_line().to_owned()
    }

    /// The last line it wrote so far.
    pub(crate) fn last_line(&self) -> &str {
        self.relay.last_line()
    }

    /// Sends a signal. A child that is already gone is no error: it is about to be reaped.
    pub(crate) fn signal(&self, signal: Signal) {
        if let Err(error) = rustix::process::pidfd_send_signal(&self.exited, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::error!("cannot signal pid {}: {error}", self.pid);
        }
    }
}
