//! Children of an earlier `up` that was killed.
//!
//! When `up` dies, its children see their lifeline close and end by themselves, which may take them a moment.
//! A new `up` that did not wait would find the ports taken and two control planes on one database. So each
//! `up` writes down its children, and the next one asks them to end, waits for them, and kills them when they
//! take too long.

use std::fmt::Write as _;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags, Signal};

use super::error::UpError;

/// The file in the state directory.
const RECORD_FILE: &str = "children";

/// How long a leftover child may take to flush and end by itself.
const END_LIMIT: Duration = Duration::from_secs(30);

/// How long the kernel may take to end a killed process.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// Changes with every boot, so that process ids of an earlier boot are never taken for ours.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The record of running children.
#[derive(Debug)]
pub(crate) struct RunRecord {
    path: PathBuf,
}

impl RunRecord {
    /// The record in a state directory.
    pub(crate) fn new(state: &Path) -> Self {
        Self { path: state.join(RECORD_FILE) }
    }

    /// Writes down the children that run now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(crate) fn write(&self, children: impl Iterator<Item = (&'static str, Pid)>) -> io::Result<()> {
        let mut text = boot_id();
        text.push('\n');
        for (name, pid) in children {
            if let Some(start) = start_time(pid) {
                // Writing to a string cannot fail.
                let _ = writeln!(text, "{} {start} {name}", pid.as_raw_nonzero());
            }
        }
        std::fs::write(&self.path, text)
    }

    /// Waits until every recorded child is gone; one that outlasts its limit is killed.
    ///
    /// # Errors
    /// The kernel does not let us watch or kill one.
    pub(crate) fn wait_for_leftovers(&self) -> Result<(), UpError> {
        let text = std::fs::read_to_string(&self.path).unwrap_or_default();
        for (name, pid, start) in parse(&text, &boot_id()) {
            if let Some(process) = open_if_same(pid, start) {
                tracing::warn!("waiting for {name} (pid {pid}) of an earlier run to end");
                end(&process, END_LIMIT).map_err(UpError::system("cannot end a child of an earlier run"))?;
            }
        }
        Ok(())
    }
}

/// Name, process id and start time of each child of this boot; lines that are no such thing are passed over.
fn parse(text: &str, boot_id: &str) -> Vec<(String, Pid, u64)> {
    let mut lines = text.lines();
    if lines.next() != Some(boot_id) {
        return Vec::new();
    }
    let parse_line = |line: &str| {
        let mut words = line.splitn(3, ' ');
        let pid = Pid::from_raw(words.next()?.parse().ok().filter(|&pid| pid > 1)?)?;
        let start = words.next()?.parse().ok()?;
        Some((words.next()?.to_owned(), pid, start))
    };
    lines.filter_map(parse_line).collect()
}

/// A handle on the process, if it is the one that was written down and not a later one with its number.
fn open_if_same(pid: Pid, start: u64) -> Option<OwnedFd> {
    let process = rustix::process::pidfd_open(pid, PidfdFlags::empty()).ok()?;
    // The handle is bound first: a match read afterwards is about the process it is bound to.
    (start_time(pid) == Some(start)).then_some(process)
}

/// Asks a process to end, waits for it, then kills it.
fn end(process: &OwnedFd, limit: Duration) -> io::Result<()> {
    send(process, Signal::TERM)?;
    if wait(process, limit)? {
        return Ok(());
    }
    send(process, Signal::KILL)?;
    if wait(process, KILL_LIMIT)? { Ok(()) } else { Err(io::ErrorKind::TimedOut.into()) }
}

/// Sends a signal; a process that is already gone is no error.
fn send(process: &OwnedFd, signal: Signal) -> io::Result<()> {
    match rustix::process::pidfd_send_signal(process, signal) {
        Err(rustix::io::Errno::SRCH) | Ok(()) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether the process ended within the limit.
fn wait(process: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let timeout = Timespec::try_from(limit).map_err(io::Error::other)?;
    loop {
        match rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn boot_id() -> String {
    std::fs::read_to_string(BOOT_ID_FILE).unwrap_or_default().trim().to_owned()
}

/// When a process started, in clock ticks since boot. proc(5): field 22 of /proc/PID/stat; the second field
/// is a name in parentheses that may hold anything, so fields are counted from the last closing one.
fn start_time(pid: Pid) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::process::ExitStatusExt;
    use std::process::{Child, Command, Stdio};

    fn sleeper() -> (Child, Pid) {
        let child = Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    /// A process that takes no notice of SIGTERM.
    fn stubborn() -> (Child, Pid) {
        let script = "trap '' TERM; echo set; exec sleep 1000";
        let mut child = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = [0; 4];
        child.stdout.take().unwrap().read_exact(&mut ready).unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    #[test]
    fn record_is_read_back_and_other_boots_are_ignored() {
        let dir = tempfile::tempdir().unwrap();
        let record = RunRecord::new(dir.path());
        let me = rustix::process::getpid();
        record.write([("holdfast-target", me)].into_iter()).unwrap();
        let text = std::fs::read_to_string(dir.path().join(RECORD_FILE)).unwrap();
        assert_eq!(parse(&text, &boot_id()), [("holdfast-target".to_owned(), me, start_time(me).unwrap())]);
        assert_eq!(parse(&text, "another-boot"), []);
        assert_eq!(parse("b\nx y z\n1 2 init\n-5 2 n\n7\n", "b"), []);
    }

    #[test]
    fn later_process_with_the_same_number_is_left_alone() {
        let me = rustix::process::getpid();
        let start = start_time(me).unwrap();
        assert!(open_if_same(me, start).is_some());
        assert!(open_if_same(me, start + 1).is_none());
    }

    #[test]
    fn leftover_is_asked_and_then_killed() {
        for ((mut child, pid), limit, signal) in [(sleeper(), END_LIMIT, 15), (stubborn(), Duration::ZERO, 9)]
        {
            let process = open_if_same(pid, start_time(pid).unwrap()).unwrap();
            end(&process, limit).unwrap();
            assert_eq!(child.wait().unwrap().signal(), Some(signal));
        }
    }

    #[test]
    fn leftover_that_ended_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let record = RunRecord::new(dir.path());
        record.wait_for_leftovers().unwrap();
        let (mut child, pid) = sleeper();
        record.write([("holdfast-target", pid)].into_iter()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        record.wait_for_leftovers().unwrap();
    }
}
