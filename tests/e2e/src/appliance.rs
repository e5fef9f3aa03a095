//! The appliance under test: `holdfast up` as a user starts it, with a state folder of its own.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    ops::Range,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tempfile::TempDir;

use crate::{
    guest::Guest,
    places::{self, pool_folder},
    pool::Backing,
    rest::{Rest, eventually},
};

/// Bounds for an appliance that hangs; a healthy one needs a second or two.
const START_LIMIT: Duration = Duration::from_secs(60);
const STOP_LIMIT: Duration = Duration::from_secs(30);
const RESTART_LIMIT: Duration = Duration::from_secs(60);

/// One of the two processes that `holdfast up` runs and restarts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plane {
    /// `holdfast-target`.
    Data,
    /// `holdfast-control-plane`.
    Control,
}

impl Plane {
    /// Its name as the kernel shows it in `/proc/PID/stat`: the first 15 characters.
    fn comm(self) -> &'static str {
        match self {
            Plane::Data => "holdfast-target",
            Plane::Control => "holdfast-contro",
        }
    }
}

/// How an appliance is started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Setup<'a> {
    /// The folder that has its programs; those built beside this one when there is none.
    pub programs: Option<&'a Path>,
    /// More arguments for `holdfast up`.
    pub arguments: &'a [&'a str],
    /// Variables of its environment.
    pub environment: &'a [(&'a str, &'a str)],
    /// What its first pool lies in; the one that [`Backing::asked`] names when nothing is said.
    pub backing: Option<Backing>,
    /// iSCSI portals beyond the one that every appliance has.
    pub more_iscsi_portals: usize,
}

/// A running appliance. Dropping it stops it; [`Appliance::stop`] also demands that it stops well.
pub struct Appliance {
    up: Child,
    log: PathBuf,
    rest: Rest,
    nvme_port: u16,
    iscsi_ports: Vec<u16>,
    home: Arc<Home>,
}

/// What outlives `holdfast up`.
struct Home {
    programs: Option<PathBuf>,
    state: TempDir,
    backing: Backing,
    /// Where pools in files lie.
    pools: TempDir,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    iscsi_portals: usize,
}

impl Appliance {
    /// Starts an appliance whose discovery log names the address under which guests reach it; `name` names its log.
    ///
    /// # Errors
    /// When a program is not built, or no `ready` line comes.
    pub fn start(name: &str) -> Result<Appliance> {
        Appliance::start_as(name, Setup::default())
    }

    /// As [`Appliance::start`], with more arguments for `holdfast up`.
    ///
    /// # Errors
    /// As there.
    pub fn start_with(name: &str, arguments: &[&str]) -> Result<Appliance> {
        Appliance::start_as(name, Setup { arguments, ..Setup::default() })
    }

    /// As [`Appliance::start`], set up otherwise.
    ///
    /// # Errors
    /// As there.
    pub fn start_as(name: &str, setup: Setup) -> Result<Appliance> {
        let home = Home {
            programs: setup.programs.map(Path::to_owned),
            state: tempfile::tempdir()?,
            backing: setup.backing.map_or_else(Backing::asked, Ok)?,
            pools: pool_folder()?,
            arguments: setup.arguments.iter().map(|&argument| argument.to_owned()).collect(),
            environment: owned(setup.environment),
            iscsi_portals: setup.more_iscsi_portals + 1,
        };
        let appliance = Appliance::spawn(Arc::new(home), name)?;
        appliance.settle_pool()?;
        Ok(appliance)
    }

    /// Stops the appliance and starts another one with the same arguments and environment on the same state folder. Pools in
    /// files survive that, memory pools do not.
    ///
    /// # Errors
    /// When it does not stop well, or no `ready` line comes.
    pub fn restart(self, name: &str) -> Result<Appliance> {
        let home = Arc::clone(&self.home);
        self.stop()?;
        Appliance::spawn(home, name)
    }

    /// As [`Appliance::restart`], with another environment.
    ///
    /// # Errors
    /// As there.
    pub fn restart_in(mut self, name: &str, environment: &[(&str, &str)]) -> Result<Appliance> {
        let home = Arc::get_mut(&mut self.home).context("the appliance is used elsewhere")?;
        home.environment = owned(environment);
        self.restart(name)
    }

    /// Kills `up` and both planes with SIGKILL, the target first; nobody gets to write anything any more.
    ///
    /// # Errors
    /// When one of them did not run.
    pub fn cut_power(&self) -> Result<()> {
        let target = self.pid(Plane::Data)?.context("no target to kill")?;
        let control_plane = self.pid(Plane::Control)?.context("no control plane to kill")?;
        // `up` before it could start another target.
        for pid in [target, Pid::from_child(&self.up), control_plane] {
            kill_process(pid, Signal::KILL)?;
        }
        Ok(())
    }

    /// Starts again, on the same state folder, what [`Appliance::cut_power`] has killed.
    ///
    /// # Errors
    /// When something of it still runs, or no `ready` line comes.
    pub fn power_up(mut self, name: &str) -> Result<Appliance> {
        let up = &mut self.up;
        eventually(STOP_LIMIT, "the end of `holdfast up`", || Ok(up.try_wait()?))?;
        let home = Arc::clone(&self.home);
        Appliance::spawn(home, name)
    }

    /// Ends as much as its pools outlive, and starts that again: the target under a memory pool, and after it, where pools last,
    /// the whole appliance.
    ///
    /// # Errors
    /// As [`Appliance::kill`] and [`Appliance::restart`].
    pub fn interrupt(self, name: &str) -> Result<Appliance> {
        self.kill(Plane::Data)?;
        if self.backing().lasts() { self.restart(name) } else { Ok(self) }
    }

    fn spawn(home: Arc<Home>, name: &str) -> Result<Appliance> {
        let log = places::log_file(&format!("{name}.appliance"))?;
        let nvme_port = free_port()?;
        let iscsi_ports = (0..home.iscsi_portals).map(|_| free_port()).collect::<Result<Vec<u16>>>()?;
        let iscsi = |flag: &'static str, host: &'static str| {
            iscsi_ports.iter().flat_map(move |port| [flag.to_owned(), format!("{host}:{port}")])
        };
        let mut up = Command::new(places::program(home.programs.as_deref(), "holdfast")?)
            .envs(home.environment.iter().map(|(name, value)| (name, value)))
            .arg("up")
            .arg("--state")
            .arg(home.state.path().join("state"))
            .args(["--nvme", &format!("127.0.0.1:{nvme_port}")])
            .args(["--nvme-advertise", &format!("{}:{nvme_port}", Guest::GATEWAY)])
            .args(iscsi("--iscsi", "127.0.0.1"))
            .args(iscsi("--iscsi-advertise", Guest::GATEWAY))
            .args(["--api", "127.0.0.1:0"])
            .args(&home.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(OpenOptions::new().append(true).open(&log)?)
            .spawn()?;
        let output = up.stdout.take().context("a piped stdout")?;
        let lines = lines_of(output, log.clone());
        // From here on the appliance is stopped whatever happens.
        let mut appliance = Appliance { up, log, rest: Rest::new(""), nvme_port, iscsi_ports, home };
        let api = appliance.wait_ready(&lines)?;
        appliance.rest = Rest::new(&api);
        Ok(appliance)
    }

    /// The API.
    pub fn rest(&self) -> &Rest {
        &self.rest
    }

    /// The NVMe/TCP port, on this machine and as guests see it.
    pub fn nvme_port(&self) -> u16 {
        self.nvme_port
    }

    /// The first iSCSI port, on this machine and as guests see it.
    pub fn iscsi_port(&self) -> u16 {
        self.iscsi_ports.first().copied().expect("every appliance has a portal")
    }

    /// The iSCSI ports, in the order in which the portals are told.
    pub fn iscsi_ports(&self) -> &[u16] {
        &self.iscsi_ports
    }

    /// The `--state` folder.
    pub fn state_folder(&self) -> PathBuf {
        self.home.state.path().join("state")
    }

    /// What its pools lie in, as far as a test leaves that open.
    pub fn backing(&self) -> Backing {
        self.home.backing
    }

    /// Where its pools in files lie.
    pub(crate) fn pools(&self) -> &Path {
        self.home.pools.path()
    }

    /// What the appliance has logged so far.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// What `holdfast` answers on these arguments, as an administrator calls it.
    ///
    /// # Errors
    /// When it does not exit with 0.
    pub fn cli(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(places::program(None, "holdfast")?)
            .args(arguments)
            .env("HOLDFAST_API", self.rest.base())
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "holdfast {}: {said}", arguments.join(" "));
        Ok(String::from_utf8(output.stdout)?)
    }

    /// Kills a plane with SIGKILL and waits until `up` has started another one.
    ///
    /// # Errors
    /// When there was none, or no new one comes.
    pub fn kill(&self, plane: Plane) -> Result<()> {
        let old = self.pid(plane)?.with_context(|| format!("no {plane:?} plane to kill"))?;
        kill_process(old, Signal::KILL)?;
        let what = format!("another {plane:?} plane");
        eventually(RESTART_LIMIT, &what, || Ok(self.pid(plane)?.filter(|&pid| pid != old)))?;
        Ok(())
    }

    /// Kills `up` itself with SIGKILL and waits until both planes have ended, too.
    ///
    /// # Errors
    /// When one of them lives on.
    pub fn kill_all_by_killing_up(mut self) -> Result<()> {
        let planes = [self.pid(Plane::Data)?, self.pid(Plane::Control)?];
        self.up.kill()?;
        self.up.wait()?;
        for plane in planes {
            let pid = plane.context("a plane was not running")?;
            let gone = || Ok(test_kill_process(pid).is_err().then_some(()));
            eventually(STOP_LIMIT, "the end of a plane whose supervisor is gone", gone)?;
        }
        Ok(())
    }

    /// Stops the appliance as an administrator does, with SIGTERM, and has the pools in files checked that it leaves.
    ///
    /// # Errors
    /// When it does not exit with 0 in time, or a pool is not whole.
    pub fn stop(mut self) -> Result<()> {
        let status = self.terminate().with_context(|| self.log_hint())?;
        ensure!(status.success(), "SIGTERM: {status}; {}", self.log_hint());
        for file in fs::read_dir(self.pools())? {
            self.cli(&["pool", "check", "--data", &file?.path().to_string_lossy()])?;
        }
        Ok(())
    }

    fn wait_ready(&mut self, lines: &Receiver<String>) -> Result<String> {
        let line = lines.recv_timeout(START_LIMIT);
        let line = line.with_context(|| format!("no ready line from `holdfast up`; {}", self.log_hint()))?;
        let words = line.strip_prefix("ready ");
        let words = words.with_context(|| format!("`holdfast up` said `{line}`, not that it is ready"))?;
        let mut pairs = words.split(' ').filter_map(|word| word.split_once('='));
        for (front_end, ports) in [("nvme", &[self.nvme_port][..]), ("iscsi", &self.iscsi_ports)] {
            let said = pairs.clone().find(|(key, _)| *key == front_end).map(|(_, value)| value);
            let expected: Vec<String> = ports.iter().map(|port| format!("127.0.0.1:{port}")).collect();
            let expected = expected.join(",");
            ensure!(said == Some(expected.as_str()), "asked for {front_end}={expected}, got `{line}`");
        }
        let api = pairs.find(|(key, _)| *key == "api").map(|(_, value)| value.to_owned());
        api.with_context(|| format!("no api= in `{line}`"))
    }

    /// A plane among the children of `up`.
    pub(crate) fn pid(&self, plane: Plane) -> Result<Option<Pid>> {
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
            // A process may end between the listing and this look.
            let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
            if is_child_named(&stat, self.up.id(), plane.comm()) {
                return Ok(Pid::from_raw(pid));
            }
        }
        Ok(None)
    }

    fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.up.try_wait()? {
            return Ok(status);
        }
        kill_process(Pid::from_child(&self.up), Signal::TERM)?;
        let deadline = Instant::now() + STOP_LIMIT;
        let up = &mut self.up;
        eventually(deadline - Instant::now(), "the end of `holdfast up`", || Ok(up.try_wait()?))
    }

    fn log_hint(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(20)..).unwrap_or_default();
        format!("{}:\n{}", self.log.display(), tail.join("\n"))
    }
}

impl Drop for Appliance {
    fn drop(&mut self) {
        if self.terminate().is_err() {
            let _ = self.up.kill();
            let _ = self.up.wait();
        }
    }
}

fn owned(environment: &[(&str, &str)]) -> Vec<(String, String)> {
    environment.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Whether a line of `/proc/PID/stat` (proc(5): pid (comm) state ppid …) is of a living child `comm` of `parent`.
fn is_child_named(stat: &str, parent: u32, comm: &str) -> bool {
    let Some((before, after)) = stat.rsplit_once(')') else { return false };
    let Some((_, name)) = before.split_once('(') else { return false };
    let mut fields = after.split_whitespace();
    let alive = fields.next().is_some_and(|state| state != "Z" && state != "X");
    let parent_matches = fields.next().and_then(|ppid| ppid.parse::<u32>().ok()) == Some(parent);
    alive && parent_matches && name == comm
}

/// Ports to choose from: below those that Linux gives away by itself, so that no connection in between takes one.
const PORTS: Range<u16> = 20_000..32_000;
/// Ports that one process tries before those where the next begins.
const PORTS_EACH: u32 = 64;

/// A port that nobody listens on just now. The appliance must be told the port it advertises, so `0` will not do.
pub(crate) fn free_port() -> Result<u16> {
    static TRIED: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(PORTS.end - PORTS.start);
    for _ in 0..count {
        let place = process::id().wrapping_mul(PORTS_EACH).wrapping_add(TRIED.fetch_add(1, Relaxed)) % count;
        let port = PORTS.start + u16::try_from(place)?;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no free port among {PORTS:?}")
}

/// The lines of standard output: sent to the receiver, and kept in the log.
fn lines_of(output: impl Read + Send + 'static, log: PathBuf) -> Receiver<String> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut log = OpenOptions::new().append(true).open(log).ok();
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if let Some(log) = &mut log {
                let _ = writeln!(log, "{line}");
            }
            // Nobody listens any more once the appliance is ready.
            let _ = sender.send(line);
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: &str = "holdfast-target";

    #[test]
    fn a_child_is_found_by_name_and_parent() {
        assert!(is_child_named("71 (holdfast-target) S 70 70 1 0", 70, TARGET));
        assert!(!is_child_named("71 (holdfast-target) Z 70 70 1 0", 70, TARGET));
        assert!(!is_child_named("71 (holdfast-target) S 7 70 1 0", 70, TARGET));
        assert!(!is_child_named("71 (holdfast) S 70 70 1 0", 70, TARGET));
        assert!(is_child_named("9 (a) (b) S 1 1", 1, "a) (b"));
    }
}
