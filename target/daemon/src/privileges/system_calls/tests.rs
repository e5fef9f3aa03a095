//! What a confined process can and cannot do. A filter is for ever, so each test confines a process of its own: this
//! program again, running the one test in the part of the child.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::Command;

use holdfast_reactor::{
    Backing, BackingError, BackingMode, CloseReason, FileError, FileId, Inboxes, Io, IoChoice, Mapping,
    Reactor, ReactorConfig, ReactorError, Received, SendBatch, Service, SocketId, Space,
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

/// Makes and opens a pool's file when confined already, then writes, syncs and reads it through the reactor.
struct PoolAtRunTime {
    path: PathBuf,
    arena: Mapping,
    steps: u64,
    closed: bool,
}

impl PoolAtRunTime {
    fn begin(&mut self, io: &mut Io) {
        let mode = BackingMode::Create { len_bytes: 1 << 20, space: Space::Reserved };
        let made = Backing::open(&self.path, mode).unwrap();
        made.write_at(0, &[1; 8192]).unwrap();
        made.flush().unwrap();
        let in_use = Backing::open(&self.path, BackingMode::ReadWrite).unwrap_err();
        let me = format!("process {}", std::process::id());
        assert!(matches!(in_use, BackingError::InUse { .. }) && in_use.to_string().contains(&me), "{in_use}");
        drop(made);
        let opened = Backing::open(&self.path, BackingMode::ReadWrite).unwrap();
        let mut found = [0; 8192];
        opened.read_at(0, &mut found).unwrap();
        assert_eq!(found, [1; 8192]);
        let file = io.add_file(opened.into()).unwrap();
        self.next(io, file);
    }

    fn next(&mut self, io: &mut Io, file: FileId) {
        self.steps += 1;
        match self.steps {
            1 => {
                self.arena.slice_mut(0, 4096).unwrap().fill(2);
                let region = io.register_region(self.arena.region());
                io.file_write(file, 1, 4096, region, [(0, 4096)]).unwrap();
            }
            2 => io.file_sync(file, 2).unwrap(),
            3 => {
                let region = io.register_region(self.arena.region());
                io.file_read(file, 3, 0, region, [(8192, 4096), (0, 4096)]).unwrap();
            }
            _ => io.close_file(file),
        }
    }
}

impl Service for PoolAtRunTime {
    type Message = ();

    fn accepted(&mut self, _: &mut Io, _: u32, _: SocketId, _: SocketAddr, _: SocketAddr) {}
    fn received(&mut self, _: &mut Io, _: SocketId, _: Received) {}
    fn sent(&mut self, _: &mut Io, _: SocketId, _: SendBatch) {}
    fn closed(&mut self, _: &mut Io, _: SocketId, _: CloseReason, _: Option<SendBatch>) {}
    fn message(&mut self, _: &mut Io, (): ()) {}
    fn turn(&mut self, _: &mut Io) {}
    fn file_done(&mut self, io: &mut Io, file: FileId, user: u64, result: Result<(), FileError>) {
        assert_eq!((user, result), (self.steps, Ok(())));
        self.next(io, file);
    }
    fn file_closed(&mut self, _: &mut Io, _: FileId) {
        self.closed = true;
    }
    fn deadline_ms(&self) -> Option<u64> {
        (self.steps == 0).then_some(0)
    }
    fn tick(&mut self, io: &mut Io) {
        self.begin(io);
    }
    fn keep_running(&self) -> bool {
        !self.closed
    }
}

fn serve_a_new_pool_confined(io: IoChoice, interface: IoKind) {
    let folder = tempfile::tempdir().unwrap();
    let config = ReactorConfig { io, ..ReactorConfig::default() };
    let reactor = Reactor::new(config, Inboxes::new().unwrap()).unwrap();
    let mut service = PoolAtRunTime {
        path: folder.path().join("pool"),
        arena: Mapping::create("arena", 1 << 20).unwrap(),
        steps: 0,
        closed: false,
    };
    confine_all_threads(&[interface]).unwrap();
    reactor.run(&mut service).unwrap();
    assert_eq!(service.arena.slice(0, 4096).unwrap(), [2; 4096]);
    assert_eq!(service.arena.slice(8192, 4096).unwrap(), [1; 4096]);
    std::fs::remove_file(service.path).unwrap();
}

#[test]
fn a_pool_made_at_run_time_is_served_through_a_ring() {
    if let Some(signal) = in_a_child("a_pool_made_at_run_time_is_served_through_a_ring") {
        return assert_eq!(signal, None);
    }
    serve_a_new_pool_confined(IoChoice::Uring, IoKind::Uring);
}

#[test]
fn a_pool_made_at_run_time_is_served_without_a_ring() {
    if let Some(signal) = in_a_child("a_pool_made_at_run_time_is_served_without_a_ring") {
        return assert_eq!(signal, None);
    }
    serve_a_new_pool_confined(IoChoice::Epoll, IoKind::Epoll);
}

#[test]
fn a_device_is_asked_for_its_block_lengths_and_for_nothing_else() {
    if let Some(signal) = in_a_child("a_device_is_asked_for_its_block_lengths_and_for_nothing_else") {
        return assert_eq!(signal, None);
    }
    let file = tempfile::tempfile().unwrap();
    confine_all_threads(&[IoKind::Uring]).unwrap();
    // This is no device: the file system says so, not the filter.
    assert_eq!(rustix::fs::ioctl_blksszget(&file), Err(Errno::NOTTY));
    assert_eq!(rustix::fs::ioctl_blkpbszget(&file), Err(Errno::NOTTY));
    assert_eq!(rustix::io::ioctl_fionread(&file), Err(Errno::PERM));
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
