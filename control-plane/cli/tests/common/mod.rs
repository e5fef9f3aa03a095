//! A running `holdfast up` whose output a test can wait for.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// How long a test waits for what must come. Only a broken program makes it wait that long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with `holdfast` and both stand-ins beside it, and room for state.
pub(crate) struct Installation {
    folder: tempfile::TempDir,
}

impl Installation {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let binary = Path::new(env!("CARGO_BIN_EXE_holdfast"));
        let fake = binary.parent().unwrap().join("examples/fake-child");
        assert!(fake.exists(), "{} is missing: run the tests of the whole package", fake.display());
        for (name, from) in
            [("holdfast", binary), ("holdfast-target", &fake), ("holdfast-control-plane", &fake)]
        {
            std::fs::copy(from, folder.path().join(name)).unwrap();
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// `holdfast up` on free ports, with more flags.
    pub(crate) fn up(&self, flags: &[&str]) -> Command {
        let mut command =
            self.bare_up(&["--nvme", "127.0.0.1:0", "--iscsi", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
        command.args(flags);
        command
    }

    /// `holdfast up` with these flags.
    pub(crate) fn bare_up(&self, flags: &[&str]) -> Command {
        let mut command = Command::new(self.path("holdfast"));
        command.args(["up", "--state"]).arg(self.path("state")).args(flags).env_remove("HOLDFAST_LOG");
        command
    }
}

/// A process whose standard error is read line by line.
pub(crate) struct Running {
    pub(crate) child: Child,
    pub(crate) stdout: BufReader<ChildStdout>,
    stderr: Receiver<String>,
    /// Lines that no test has asked for yet.
    pending: Vec<String>,
}

impl Running {
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let (sender, stderr) = channel();
        std::thread::spawn(move || {
            lines.map_while(Result::ok).for_each(|line| {
                let _ = sender.send(line);
            });
        });
        Self { child, stdout, stderr, pending: Vec::new() }
    }

    /// The next line of standard error that contains `text`. Lines of different processes come in any order,
    /// so others are kept for later.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        loop {
            if let Some(found) = self.pending.iter().position(|line| line.contains(text)) {
                return self.pending.remove(found);
            }
            match self.stderr.recv_timeout(PATIENCE) {
                Ok(line) => self.pending.push(line),
                Err(error) => panic!("no line with `{text}` ({error}) among:\n{}", self.pending.join("\n")),
            }
        }
    }

    /// The `ready` line.
    pub(crate) fn ready(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The process id that a stand-in reports in its next start.
    pub(crate) fn pid_of(&mut self, name: &str) -> Pid {
        let line = self.wait_for(&format!("{name}: pid "));
        pid_in(&line)
    }

    pub(crate) fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for the end; gives back the status and the lines of standard error that nobody asked for.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        self.pending.extend(self.stderr.iter());
        (status, std::mem::take(&mut self.pending))
    }
}

/// A test that fails leaves no process behind: the stand-ins end when `up` does.
impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The number behind `pid ` in a line.
pub(crate) fn pid_in(line: &str) -> Pid {
    let number = line.split("pid ").nth(1).unwrap().split(|c: char| !c.is_ascii_digit()).next().unwrap();
    Pid::from_raw(number.parse().unwrap()).unwrap()
}
