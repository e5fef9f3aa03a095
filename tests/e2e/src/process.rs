//! A plane as the kernel sees it: who it is, and what it holds. proc(5).

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::{Appliance, Plane};

/// A process of the appliance at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its PID: another one later on means that it died.
    pub pid: i32,
    /// VmRSS less RssShmem, in bytes: what it holds besides the memory pools, which are shared memory.
    pub private_bytes: u64,
    /// Open descriptors.
    pub descriptors: usize,
}

impl Appliance {
    /// A plane as it is now.
    ///
    /// # Errors
    /// When it does not run.
    pub fn process(&self, plane: Plane) -> Result<Process> {
        let pid = self.pid(plane)?.with_context(|| format!("no {plane:?} plane runs"))?;
        let pid = pid.as_raw_nonzero().get();
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let private_kib = kib(&status, "VmRSS:")?.saturating_sub(kib(&status, "RssShmem:")?);
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Process { pid, private_bytes: private_kib << 10, descriptors })
    }

    /// What proc(5) tells of each thread of a plane: the text of its `status`.
    ///
    /// # Errors
    /// When it does not run.
    pub fn threads(&self, plane: Plane) -> Result<Vec<String>> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.process(plane)?.pid))?;
        tasks.map(|task| Ok(fs::read_to_string(task?.path().join("status"))?)).collect()
    }

    /// Demands that the target has not been replaced since `before`.
    ///
    /// # Errors
    /// When it has.
    pub fn same_target(&self, before: Process) -> Result<()> {
        let now = self.process(Plane::Data)?;
        ensure!(now.pid == before.pid, "the target died: {before:?}, now {now:?}");
        Ok(())
    }
}

fn kib(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_whitespace().next()).and_then(|word| word.parse().ok());
    number.with_context(|| format!("no {name} in {status}"))
}
