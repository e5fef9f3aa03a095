//! Debian's tgt as a second target: what scripts and suites find at it shows that they can tell right from wrong before the
//! appliance is looked at with them. Needs root and the package `tgt`.

use std::{
    fs::File,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{appliance::free_port, places, rest::eventually};

/// A bound for a daemon that hangs; a healthy one needs a moment.
const START_LIMIT: Duration = Duration::from_secs(30);

/// A running tgtd with one target, ended when dropped. LUN 0 is a controller, disks follow in the order given.
pub struct Tgt {
    daemon: Child,
    control: String,
    /// The portal.
    pub portal: String,
    /// The target's name.
    pub iqn: String,
    disks: TempDir,
}

impl Tgt {
    /// Starts tgtd with disks of `size_mib` MiB in files, one for each of `block_sizes`.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(name: &str, size_mib: u64, block_sizes: &[u32]) -> Result<Tgt> {
        let disks = places::pool_folder()?;
        let port = free_port()?;
        let portal = format!("127.0.0.1:{port}");
        let log = File::create(places::log_file(&format!("{name}.tgtd"))?)?;
        let daemon = Command::new("/usr/sbin/tgtd")
            .args(["-f", "-C", &port.to_string(), "--iscsi", &format!("portal={portal}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("tgtd does not start: run tests/e2e/prepare")?;
        let iqn = "iqn.2026-11.io.example:tgt".to_owned();
        let tgt = Tgt { daemon, control: port.to_string(), portal, iqn, disks };
        eventually(START_LIMIT, "tgtd", || {
            Ok(tgt.admin(&["--op", "new", "--mode", "target", "--tid", "1", "-T", &tgt.iqn]).ok())
        })?;
        for (index, block_size) in block_sizes.iter().enumerate() {
            let path = tgt.disks.path().join(format!("{index}"));
            File::create(&path)?.set_len(size_mib << 20)?;
            tgt.add_disk(index + 1, &path, *block_size)?;
        }
        tgt.admin(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"])?;
        Ok(tgt)
    }

    /// Demands CHAP from now on; with `mutual`, shows this name and secret itself.
    ///
    /// # Errors
    /// When tgt refuses.
    pub fn demand_chap(&self, own: (&str, &str), mutual: Option<(&str, &str)>) -> Result<()> {
        let bind = ["--op", "bind", "--mode", "account", "--tid", "1", "--user"];
        for ((user, secret), outgoing) in [(own, false)].into_iter().chain(mutual.map(|pair| (pair, true))) {
            self.admin(&["--op", "new", "--mode", "account", "--user", user, "--password", secret])?;
            let more: &[&str] = if outgoing { &[user, "--outgoing"] } else { &[user] };
            self.admin(&[&bind[..], more].concat())?;
        }
        Ok(())
    }

    fn add_disk(&self, lun: usize, path: &Path, block_size: u32) -> Result<()> {
        let (lun, size) = (lun.to_string(), block_size.to_string());
        let path = path.to_str().context("a path that is no text")?;
        let new = ["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", &lun];
        self.admin(&[&new[..], &["-b", path, "--blocksize", &size]].concat())
    }

    fn admin(&self, arguments: &[&str]) -> Result<()> {
        let output = Command::new("/usr/sbin/tgtadm")
            .args(["-C", &self.control, "--lld", "iscsi"])
            .args(arguments)
            .output()?;
        ensure!(output.status.success(), "tgtadm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

impl Drop for Tgt {
    fn drop(&mut self) {
        // It has nothing to keep.
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
