//! What a confined process can and cannot do. A filter is for ever, so each test confines a process of its own: this
//! program again, running the one test in the part of the child.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::Command;

use holdfast_reactor::{
    CloseReason, Inboxes, Io, IoChoice, Mapping, Reactor, ReactorConfig, ReactorError, Received, SendBatch,
    Service, SocketId,
};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType};

use super::*;

/// Set in the child: it confines itself and tries something.
const PART: &str = "HOLDFAST_TEST_PART";

/// The signal that a fatal call ends the process with.
const SIGSYS: i32 = 31;

/// The signal of an abort.
const SIGABRT: i32 = 6;

/// In the parent, runs `test` again in a process of its own and says which signal ended it, if any; `None` in the child.
/// A child that fails fails the parent.
fn in_a_child(test: &str) -> Option<Option<i32>> {
    if std::env::var_os(PART).is_some() {
        return None;
    }
    let name = format!("privileges::system_calls::tests::{test}");
    let mut child = Command::new(std::env::current_exe().unwrap());
    let output = child.args(["--exact", &name]).env(PART, "child").output().unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    let passed = output.status.success() && said.contains("1 passed");
    assert!(passed || output.status.signal().is_some(), "{}: {said}", output.status);
    Some(output.status.signal())
}

fn refused<T>(outcome: Result<T, std::io::Error>) -> bool {
    outcome.is_err_and(|error| error.kind() == ErrorKind::PermissionDenied)
}

#[test]
fn what_serving_takes_goes_on() {
    if let Some(signal) = in_a_child("what_serving_takes_goes_on") {
        return assert_eq!(signal, None);
    }
    let folder = tempfile::tempdir().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    confine_all_threads(&[IoKind::Uring]).unwrap();
    // State files, pools, threads, the service manager's socket, time, chance, the log.
    let (fresh, kept) = (folder.path().join("fresh"), folder.path().join("kept"));
    let mut file = std::fs::File::create(&fresh).unwrap();
    file.write_all(b"state").unwrap();
    file.sync_all().unwrap();
    std::fs::rename(&fresh, &kept).unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), b"state");
    std::fs::remove_file(&kept).unwrap();
    assert!(std::fs::read_to_string("/proc/meminfo").unwrap().contains("MemTotal"));
    let mut pool = Mapping::create("confined", 1 << 20).unwrap();
    pool.slice_mut(0, 1 << 20).unwrap().fill(1);
    pool.punch(0, 1 << 19).unwrap();
    drop(Mapping::from_fd(pool.fd().try_clone_to_owned().unwrap()).unwrap_err());
    std::thread::Builder::new().name("another".to_owned()).spawn(|| ()).unwrap().join().unwrap();
    UnixDatagram::unbound().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1));
    assert_ne!(getrandom::u64().unwrap(), getrandom::u64().unwrap());
    assert!(listener.local_addr().unwrap().port() > 0);
    std::io::stderr().write_all(b"log\n").unwrap();
}

#[test]
fn what_is_not_listed_fails_and_the_process_goes_on() {
    if let Some(signal) = in_a_child("what_is_not_listed_fails_and_the_process_goes_on") {
        return assert_eq!(signal, None);
    }
    confine_all_threads(&[IoKind::Uring]).unwrap();
    // In this thread and in another that was there before.
    std::thread::spawn(|| {
        assert!(refused(TcpListener::bind("127.0.0.1:0")));
        let packet = rustix::net::socket(AddressFamily::PACKET, SocketType::RAW, None);
        assert_eq!(packet.unwrap_err(), Errno::PERM);
        assert!(refused(Command::new("/bin/true").spawn()), "no new process");
        assert!(refused(std::os::unix::fs::symlink("a", "b")));
        assert!(refused(std::fs::create_dir("/tmp/never-made")));
        assert!(refused(
            rustix::thread::sched_setaffinity(None, &rustix::thread::CpuSet::new()).map_err(Into::into)
        ));
    })
    .join()
    .unwrap();
}

#[test]
fn memory_never_becomes_code() {
    if let Some(signal) = in_a_child("memory_never_becomes_code") {
        return assert_eq!(signal, None);
    }
    let page = || memmap2::MmapMut::map_anon(4096).unwrap();
    page().make_exec().unwrap();
    confine_all_threads(&[IoKind::Uring]).unwrap();
    assert!(refused(page().make_exec()));
    page().make_read_only().unwrap();
}

#[test]
fn executing_a_program_ends_the_process() {
    if let Some(signal) = in_a_child("executing_a_program_ends_the_process") {
        return assert_eq!(signal, Some(SIGSYS));
    }
    confine_all_threads(&[IoKind::Uring]).unwrap();
    let error = Command::new("/bin/true").exec();
    unreachable!("{error}");
}

#[test]
fn a_bug_still_ends_the_process_with_a_report() {
    if let Some(signal) = in_a_child("a_bug_still_ends_the_process_with_a_report") {
        return assert_eq!(signal, Some(SIGABRT));
    }
    confine_all_threads(&[IoKind::Uring]).unwrap();
    assert!(std::backtrace::Backtrace::force_capture().to_string().contains("a_bug_still_ends"));
    std::process::abort();
}

#[test]
fn making_a_ring_ends_the_process() {
    if let Some(signal) = in_a_child("making_a_ring_ends_the_process") {
        return assert_eq!(signal, Some(SIGSYS));
    }
    let inboxes = Inboxes::<()>::new().unwrap();
    confine_all_threads(&[IoKind::Uring]).unwrap();
    let another = Reactor::new(ReactorConfig::default(), inboxes);
    unreachable!("{}", another.is_ok());
}

/// Ends with its second turn.
#[derive(Default)]
struct Turns(u32);

impl Service for Turns {
    type Message = ();

    fn accepted(&mut self, _: &mut Io, _: u32, _: SocketId, _: SocketAddr, _: SocketAddr) {}
    fn received(&mut self, _: &mut Io, _: SocketId, _: Received) {}
    fn sent(&mut self, _: &mut Io, _: SocketId, _: SendBatch) {}
    fn closed(&mut self, _: &mut Io, _: SocketId, _: CloseReason, _: Option<SendBatch>) {}
    fn message(&mut self, _: &mut Io, (): ()) {}
    fn turn(&mut self, _: &mut Io) {}
    fn deadline_ms(&self) -> Option<u64> {
        Some(0)
    }
    fn tick(&mut self, _: &mut Io) {
        self.0 += 1;
    }
    fn keep_running(&self) -> bool {
        self.0 < 2
    }
}

/// What becomes of a reactor that uses `io` under the filter for `interfaces`.
fn run_confined(io: IoChoice, interfaces: &[IoKind]) -> Result<(), ReactorError> {
    let config = ReactorConfig { io, ..ReactorConfig::default() };
    let reactor = Reactor::new(config, Inboxes::new().unwrap()).unwrap();
    confine_all_threads(interfaces).unwrap();
    reactor.run(&mut Turns::default())
}

#[test]
fn a_ring_works_under_its_filter() {
    if let Some(signal) = in_a_child("a_ring_works_under_its_filter") {
        return assert_eq!(signal, None);
    }
    run_confined(IoChoice::Uring, &[IoKind::Uring]).unwrap();
}

#[test]
fn epoll_works_under_its_filter() {
    if let Some(signal) = in_a_child("epoll_works_under_its_filter") {
        return assert_eq!(signal, None);
    }
    run_confined(IoChoice::Epoll, &[IoKind::Epoll]).unwrap();
}

#[test]
fn a_target_on_epoll_has_no_io_uring_at_all() {
    if let Some(signal) = in_a_child("a_target_on_epoll_has_no_io_uring_at_all") {
        return assert_eq!(signal, None);
    }
    let outcome = run_confined(IoChoice::Uring, &[IoKind::Epoll]);
    assert!(matches!(outcome, Err(ReactorError::IoFailed(error)) if error.raw_os_error() == Some(1)));
}
