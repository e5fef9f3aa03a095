//! The system calls of a serving target, and three filters that keep it to them. seccomp(2).
//!
//! 1. Calls that only an intruder makes end the process at once. The kernel logs it, the supervisor logs it (SIGSYS), and
//!    starts a new target; the memory pools are kept by the supervisor.
//! 2. `clone3` hides its flags behind a pointer, where a filter cannot look; it "does not exist", so the C library starts
//!    its threads by `clone`, which is allowed for threads and not for processes.
//! 3. Everything that is not listed fails with `EPERM`. It does not end the process: on another version of the C library an
//!    honest call may be missing here, and it is better that this call fails, and whoever made it reports so, than
//!    that the target dies and takes all hosts' sessions along.
//!
//! Calls whose answer depends on the number alone are answered from a bitmap; those that I/O takes are such, so the filters
//! cost it next to nothing.

use holdfast_reactor::IoKind;
use seccompiler::{BpfMap, BpfProgram, TargetArch};
use serde_json::{Value, json};

/// Threads and memory, as the C library and the standard library use them.
const PROCESS: &[&str] = &[
    "brk",
    "exit",
    "exit_group",
    "futex",
    "getpid",
    "gettid",
    "madvise",
    "membarrier",
    "mremap",
    "munmap",
    "restart_syscall",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_getaffinity",
    "sched_yield",
    "set_robust_list",
    "sigaltstack",
    "tgkill",
];

/// Clocks, and random identifiers.
const TIME_AND_CHANCE: &[&str] =
    &["clock_gettime", "clock_nanosleep", "gettimeofday", "nanosleep", "getrandom"];

/// State files, the log, `/proc/meminfo`; and what the report of a panic reads.
const FILES: &[&str] = &[
    "close",
    "fcntl",
    "fdatasync",
    "fstat",
    "fsync",
    "getcwd",
    "lseek",
    "newfstatat",
    "openat",
    "pread64",
    "read",
    "readlinkat",
    "renameat",
    "renameat2",
    "statx",
    "unlinkat",
    "write",
    "writev",
];

/// Pools in files and on block devices, which may be made while the target serves: locked, given their space, and read and
/// written by the thread that opens them. (`openat`, `fstat`, `lseek` and the like are above; what is asked of a device is
/// below.) Serving them goes through the ring.
const BACKINGS: &[&str] = &["flock", "pwrite64"];

/// Memory pools: made, grown, given back in parts, put under large pages.
const POOLS: &[&str] = &["fallocate", "ftruncate", "memfd_create", "mincore"];

/// Connections that are there, or come through a listening socket.
const SOCKETS: &[&str] = &[
    "accept4",
    "getpeername",
    "getsockname",
    "getsockopt",
    "recvfrom",
    "recvmsg",
    "sendmsg",
    "sendto",
    "setsockopt",
    "shutdown",
];

/// Older names of some of the above, which this architecture has beside them.
#[cfg(target_arch = "x86_64")]
const OLDER: &[&str] = &["readlink", "rename", "unlink"];
/// This architecture has none.
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[&str] = &[];

/// A reactor on io_uring, whose ring was made before.
const URING: &[&str] = &["io_uring_enter"];

/// A reactor on epoll, whose threads read and write files.
const EPOLL: &[&str] = &["epoll_ctl", "epoll_pwait", "epoll_pwait2", "preadv", "pwritev"];

/// Calls that end the process.
const FATAL: &[&str] = &[
    "bpf",
    "capset",
    "chroot",
    "delete_module",
    "execve",
    "execveat",
    "finit_module",
    "init_module",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "mount",
    "perf_event_open",
    "pivot_root",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "reboot",
    "setgid",
    "setns",
    "setuid",
    "umount2",
    "unshare",
    "userfaultfd",
];

/// `BLKSSZGET` and `BLKPBSZGET`, ioctl(2): the lengths of a block device's logical and physical blocks.
const BLOCK_LENGTHS: [u64; 2] = [0x1268, 0x127b];

/// `PROT_EXEC`, mmap(2): memory with it would be code.
const PROT_EXEC: u64 = 4;

/// `CLONE_THREAD`, clone(2).
const CLONE_THREAD: u64 = 0x0001_0000;

/// `AF_UNIX`, socket(2): the service manager's notifications.
const AF_UNIX: u64 = 1;

/// `PR_SET_NAME`, prctl(2): threads name themselves.
const PR_SET_NAME: u64 = 15;

/// The numbers of these errors are the same on all of Linux's architectures that there is a filter for.
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// Why there is no filter.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FilterError {
    /// Not an architecture whose calls are known here, or a list is wrong.
    #[error("the filter cannot be made: {0}")]
    Compile(#[source] seccompiler::Error),
    /// The kernel does not take it.
    #[error("the kernel refuses it: {0}")]
    Install(#[source] seccompiler::Error),
}

/// Keeps all threads of this process, and those that they start, to the system calls of a target whose reactors use
/// `interfaces`. For ever.
pub(crate) fn confine_all_threads(interfaces: &[IoKind]) -> Result<(), FilterError> {
    for program in programs(interfaces)? {
        seccompiler::apply_filter_all_threads(&program).map_err(FilterError::Install)?;
    }
    Ok(())
}

/// The filters in the order in which they must be installed: the last forbids to install another one.
fn programs(interfaces: &[IoKind]) -> Result<Vec<BpfProgram>, FilterError> {
    let fatal: Vec<Value> = FATAL.iter().map(|call| any(call)).collect();
    Ok(vec![
        compile(json!({"mismatch_action": "allow", "match_action": "kill_process", "filter": fatal}))?,
        compile(json!({
            "mismatch_action": "allow", "match_action": {"errno": ENOSYS}, "filter": [any("clone3")]
        }))?,
        compile(json!({
            "mismatch_action": {"errno": EPERM}, "match_action": "allow", "filter": allowed(interfaces)
        }))?,
    ])
}

fn allowed(interfaces: &[IoKind]) -> Vec<Value> {
    let mut rules: Vec<Value> = [PROCESS, TIME_AND_CHANCE, FILES, BACKINGS, POOLS, SOCKETS, OLDER]
        .concat()
        .iter()
        .map(|call| any(call))
        .collect();
    for (kind, calls) in [(IoKind::Uring, URING), (IoKind::Epoll, EPOLL)] {
        if interfaces.contains(&kind) {
            rules.extend(calls.iter().map(|call| any(call)));
        }
    }
    // Answered by the filter before; of two refusals the later one would count.
    rules.push(any("clone3"));
    // Pages are data: what a peer sends never becomes code.
    rules.push(masked("mmap", 2, PROT_EXEC, 0));
    rules.push(masked("mprotect", 2, PROT_EXEC, 0));
    rules.push(masked("clone", 0, CLONE_THREAD, CLONE_THREAD));
    rules.push(equal("socket", 0, AF_UNIX));
    rules.push(equal("prctl", 0, PR_SET_NAME));
    rules.extend(BLOCK_LENGTHS.map(|request| equal("ioctl", 1, request)));
    rules
}

fn any(call: &str) -> Value {
    json!({"syscall": call})
}

fn equal(call: &str, argument: u8, value: u64) -> Value {
    json!({"syscall": call, "args": [{"index": argument, "type": "dword", "op": "eq", "val": value}]})
}

fn masked(call: &str, argument: u8, mask: u64, value: u64) -> Value {
    let condition = json!({"index": argument, "type": "qword", "op": {"masked_eq": mask}, "val": value});
    json!({"syscall": call, "args": [condition]})
}

fn compile(filter: Value) -> Result<BpfProgram, FilterError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)
        .map_err(|error| FilterError::Compile(seccompiler::Error::Backend(error)))?;
    let text = json!({"only": filter}).to_string();
    let mut programs: BpfMap =
        seccompiler::compile_from_json(text.as_bytes(), arch).map_err(FilterError::Compile)?;
    let missing = || seccompiler::Error::EmptyFilter;
    programs.remove("only").ok_or_else(missing).map_err(FilterError::Compile)
}

#[cfg(test)]
mod tests;
