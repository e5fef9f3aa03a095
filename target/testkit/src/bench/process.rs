//! Processor time and memory of processes, from /proc.

use std::fs;

use anyhow::{Context as _, Result};

/// Processor time that a process has used so far, in nanoseconds: the sum over its present threads (schedstat is
/// exact where stat counts ticks).
pub(crate) fn cpu_ns(pid: u32) -> Result<u64> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).with_context(|| format!("process {pid}"))?;
    let mut sum: u64 = 0;
    for task in tasks {
        // A thread may end between the listing and the reading.
        let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
        let running = text.split_ascii_whitespace().next().and_then(|word| word.parse::<u64>().ok());
        sum = sum.saturating_add(running.with_context(|| format!("schedstat of process {pid}"))?);
    }
    Ok(sum)
}

/// The sum over several processes.
pub(crate) fn cpu_ns_of_all(pids: &[u32]) -> Result<u64> {
    pids.iter().try_fold(0_u64, |sum, pid| Ok(sum.saturating_add(cpu_ns(*pid)?)))
}

/// Resident memory of a process in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Resident {
    /// Memory of its own.
    pub(crate) anonymous_kib: u64,
    /// Mapped files, its program among them.
    pub(crate) file_kib: u64,
    /// Shared memory: memory pools are here.
    pub(crate) shared_kib: u64,
}

/// Resident memory of a process.
pub(crate) fn resident(pid: u32) -> Result<Resident> {
    let status =
        fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid}"))?;
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let number = line.and_then(|line| line.split_ascii_whitespace().next());
        number.and_then(|number| number.parse().ok()).with_context(|| format!("{name} of process {pid}"))
    };
    Ok(Resident {
        anonymous_kib: field("RssAnon:")?,
        file_kib: field("RssFile:")?,
        shared_kib: field("RssShmem:")?,
    })
}

/// The process's name.
pub(crate) fn name(pid: u32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).map_or_else(|_| "?".into(), |name| name.trim().to_owned())
}

/// Processor time of the calling thread in nanoseconds.
pub(crate) fn own_thread_cpu_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    #[test]
    fn this_process_has_memory_and_a_name() {
        let pid = std::process::id();
        assert!(super::resident(pid).unwrap().anonymous_kib > 0);
        assert!(super::cpu_ns(pid).is_ok() && super::name(pid) != "?");
    }

    #[test]
    fn a_process_that_is_not_there_is_an_error() {
        assert!(super::cpu_ns(u32::MAX).is_err());
    }
}
