//! Hand-over between real processes: a child finds what its parent passes on, and gives its parent something to keep.
//!
//! The child is this test program again; its part is chosen by an environment variable.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

use std::io::{IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::{Command, Stdio};

use command_fds::{CommandFdExt, FdMapping};
use holdfast_reactor::{Mapping, handover};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

const PART: &str = "HOLDFAST_TEST_PART";

/// This program again, running only `test` in the part of the child.
fn child(test: &str, notify: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(PART, "child").env("NOTIFY_SOCKET", notify);
    command.stdout(Stdio::null());
    command
}

fn is_child() -> bool {
    std::env::var_os(PART).is_some()
}

/// The next datagram and the descriptor that came with it.
fn receive(socket: &UnixDatagram) -> (String, Option<OwnedFd>) {
    let mut bytes = [0; 512];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC).unwrap();
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    (String::from_utf8(bytes[..received.bytes].to_vec()).unwrap(), fd)
}

#[test]
fn a_child_inherits_by_name_and_stores_with_its_parent() {
    const NAME: &str = "a_child_inherits_by_name_and_stores_with_its_parent";
    if is_child() {
        return inherit_and_store();
    }
    let path = std::env::temp_dir().join(format!("holdfast-handover-{}", std::process::id()));
    let holder = UnixDatagram::bind(&path).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut pool = Mapping::create("pool-ram", 1 << 16).unwrap();
    pool.slice_mut(100, 4).unwrap().copy_from_slice(b"PING");

    let mut command = child(NAME, path.to_str().unwrap());
    command.env("LISTEN_FDS", "2").env("LISTEN_FDNAMES", "nvme:pool-ram").env_remove("LISTEN_PID");
    command
        .fd_mappings(vec![
            FdMapping { parent_fd: listener.into(), child_fd: 3 },
            FdMapping { parent_fd: pool.fd().try_clone_to_owned().unwrap(), child_fd: 4 },
        ])
        .unwrap();
    let mut running = command.spawn().unwrap();
    drop(command);

    let mut word = String::new();
    TcpStream::connect(address).unwrap().read_to_string(&mut word).unwrap();
    assert_eq!(word, "PING", "the child accepts on the parent's listener and reads the parent's pool");
    let (text, fd) = receive(&holder);
    assert_eq!(text, "FDSTORE=1\nFDNAME=pool-new");
    let kept = Mapping::from_fd(fd.unwrap()).unwrap();
    assert_eq!(receive(&holder).0, "FDSTOREREMOVE=1\nFDNAME=pool-old");
    assert_eq!(receive(&holder).0, "READY=1");
    assert!(running.wait().unwrap().success());
    assert_eq!(kept.slice(0, 4).unwrap(), b"PONG", "what the child made outlives it");
    assert_eq!(pool.load_u64(8), Some(42), "what the child published outlives it");
    std::fs::remove_file(path).unwrap();
}

fn inherit_and_store() {
    let mut inherited = handover::inherited().unwrap();
    assert!(handover::inherited().is_err(), "once");
    let names: Vec<_> = inherited.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["nvme", "pool-ram"]);
    for (_, fd) in &inherited {
        assert!(rustix::io::fcntl_getfd(fd).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
    }
    let mut pool = Mapping::from_fd(inherited.pop().unwrap().1).unwrap();
    let listener = TcpListener::from(inherited.pop().unwrap().1);
    let (mut stream, _) = listener.accept().unwrap();
    stream.write_all(pool.slice(100, 4).unwrap()).unwrap();
    drop(stream);
    pool.publish_u64(8, 42).unwrap();
    let mut made = Mapping::create("pool-new", 4096).unwrap();
    made.slice_mut(0, 4).unwrap().copy_from_slice(b"PONG");
    assert!(handover::store_fd("pool-new", made.fd()).unwrap());
    assert!(handover::remove_fd("pool-old").unwrap());
    assert!(handover::notify("READY=1").unwrap());
}

/// Bytes of a version of the killed writer's data: enough that a kill often hits the middle.
const VERSION_BYTES: usize = 256 * 1024;

/// Where the number of the newest whole version is published.
const NEWEST: usize = 0;

/// Versions alternate between two places behind the first page.
fn place(version: u64) -> usize {
    4096 + if version.is_multiple_of(2) { 0 } else { VERSION_BYTES }
}

#[test]
fn a_killed_writer_leaves_the_published_version_whole() {
    const NAME: &str = "a_killed_writer_leaves_the_published_version_whole";
    if is_child() {
        return write_versions();
    }
    let pool = Mapping::create("killed", 4096 + 2 * VERSION_BYTES).unwrap();
    let mut least = 0;
    for round in 0..25 {
        let mut command = child(NAME, "");
        command.env_remove("NOTIFY_SOCKET").env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "pool");
        let parent_fd = pool.fd().try_clone_to_owned().unwrap();
        command.fd_mappings(vec![FdMapping { parent_fd, child_fd: 3 }]).unwrap();
        let mut running = command.spawn().unwrap();
        // It is at work; each round kills it a little later.
        while pool.load_u64(NEWEST).unwrap() < least + 2 + round {
            std::hint::spin_loop();
        }
        running.kill().unwrap();
        running.wait().unwrap();
        let newest = pool.load_u64(NEWEST).unwrap();
        assert!(newest >= least + 2 + round, "a successor goes on from what it finds");
        for word in pool.slice(place(newest), VERSION_BYTES).unwrap().chunks(8) {
            assert_eq!(u64::from_ne_bytes(word.try_into().unwrap()), newest, "round {round}");
        }
        least = newest;
    }
}

/// Writes one version after the other until killed.
fn write_versions() {
    let (_, fd) = handover::inherited().unwrap().pop().unwrap();
    let mut pool = Mapping::from_fd(fd).unwrap();
    loop {
        let version = pool.load_u64(NEWEST).unwrap() + 1;
        for word in pool.slice_mut(place(version), VERSION_BYTES).unwrap().chunks_mut(8) {
            word.copy_from_slice(&version.to_ne_bytes());
        }
        pool.publish_u64(NEWEST, version).unwrap();
    }
}

#[test]
fn an_abstract_address_is_notified_too() {
    const NAME: &str = "an_abstract_address_is_notified_too";
    if is_child() {
        assert_eq!(handover::inherited().unwrap().len(), 0);
        assert!(handover::notify("STATUS=up").unwrap());
        assert!(handover::store_fd("bad:name", std::io::stdin().as_fd()).is_err());
        return;
    }
    let name = format!("holdfast-handover-{}", std::process::id());
    let holder = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
    let mut command = child(NAME, &format!("@{name}"));
    // Announced to another process: not taken.
    command.env("LISTEN_FDS", "1").env("LISTEN_FDNAMES", "x").env("LISTEN_PID", "1");
    assert!(command.status().unwrap().success());
    let (text, fd) = receive(&holder);
    assert_eq!(text, "STATUS=up");
    assert!(fd.is_none());
}

#[test]
fn without_a_holder_nothing_happens() {
    const NAME: &str = "without_a_holder_nothing_happens";
    if is_child() {
        assert!(!handover::notify("READY=1").unwrap());
        assert!(!handover::store_fd("pool", std::io::stdin().as_fd()).unwrap());
        return;
    }
    let mut command = child(NAME, "");
    command.env_remove("NOTIFY_SOCKET");
    assert!(command.status().unwrap().success());
}
