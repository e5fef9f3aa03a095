//! A stand-in for both planes in the tests of `holdfast up`: it takes descriptors, notifies, and says on
//! standard error what it sees, one line at a time, so that a test can wait for it.
//!
//! It goes by the name it is called by. `FAKE_<NAME>` in the environment (`FAKE_TARGET`,
//! `FAKE_CONTROL_PLANE`) sets what it does: nothing special, `fail` (says why and ends with status 1), or
//! `mute` (never ready). In the folder `FAKE_ENDED` it leaves a file with its name after an orderly end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail loudly")]

use std::collections::HashMap;
use std::fs::File;
use std::io::{IoSlice, Read, Seek, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::process::ExitCode;

use rustix::event::{PollFd, PollFlags};
use rustix::fs::MemfdFlags;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};

/// The name that the memory is stored under.
const POOL: &str = "pool-0123456789abcdef";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().collect();
    let name = args[0].rsplit('/').next().unwrap_or_default().trim_start_matches("holdfast-").to_owned();
    let mode = std::env::var(format!("FAKE_{}", name.to_uppercase().replace('-', "_"))).unwrap_or_default();
    let say = |text: &str| eprintln!("{name}: {text}");
    say(&format!("args {}", args[1..].join(" ")));
    if mode == "fail" {
        say("there is no room");
        return ExitCode::FAILURE;
    }

    let names = std::env::var("LISTEN_FDNAMES").unwrap();
    assert_eq!(std::env::var("LISTEN_FDS").unwrap(), names.split(':').count().to_string());
    let numbers: HashMap<&str, usize> = names.split(':').zip(3..).collect();
    say(&format!("pid {} descriptors {names}", std::process::id()));
    for (fd_name, number) in &numbers {
        let kind = std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
        let expected = match *fd_name {
            "lifeline" => "pipe:",
            POOL => "/memfd:",
            _ => "socket:",
        };
        assert!(kind.to_string_lossy().starts_with(expected), "{fd_name} is {}", kind.display());
    }

    let (stop, signal) = UnixStream::pair().unwrap();
    signal_hook::low_level::pipe::register(signal_hook::consts::SIGTERM, signal).unwrap();
    let manager = UnixDatagram::unbound().unwrap();
    manager.connect(std::env::var("NOTIFY_SOCKET").unwrap()).unwrap();
    if name == "target" {
        say(&format!("memory {}", memory(&manager, numbers.get(POOL).copied())));
    }
    if mode != "mute" {
        notify(&manager, "READY=1\nSTATUS=serving", &[]);
    }

    // Opened anew through /proc, since taking over a descriptor by its number is not safe Rust.
    let lifeline = File::open(format!("/proc/self/fd/{}", numbers["lifeline"])).unwrap();
    let mut fds = [PollFd::new(&stop, PollFlags::IN), PollFd::new(&lifeline, PollFlags::IN)];
    while rustix::event::poll(&mut fds, None).is_err() {}
    say(if fds[0].revents().is_empty() { "lifeline closed" } else { "flushed" });
    if let Ok(folder) = std::env::var("FAKE_ENDED") {
        // Only reached if the line above could be written.
        std::fs::write(format!("{folder}/{name}"), "").unwrap();
    }
    ExitCode::SUCCESS
}

/// The content of the stored memory; makes and stores it if there is none.
fn memory(manager: &UnixDatagram, number: Option<usize>) -> String {
    let mut text = String::new();
    if let Some(number) = number {
        let mut file = File::open(format!("/proc/self/fd/{number}")).unwrap();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        return text;
    }
    text = format!("made-by-{}", std::process::id());
    let mut file = File::from(rustix::fs::memfd_create("pool", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(text.as_bytes()).unwrap();
    notify(manager, &format!("FDSTORE=1\nFDNAME={POOL}"), &[file.as_fd()]);
    // Stored under a name that is taken, and without a name: both are passed over.
    notify(manager, "FDSTORE=1\nFDNAME=lifeline", &[file.as_fd()]);
    notify(manager, "FDSTORE=1", &[file.as_fd()]);
    notify(manager, "FDSTORE=1\nFDNAME=pool-to-forget", &[file.as_fd()]);
    notify(manager, "FDSTOREREMOVE=1\nFDNAME=pool-to-forget", &[]);
    // The manager has taken in everything once it has closed its end.
    let (mine, theirs) = std::io::pipe().unwrap();
    notify(manager, "BARRIER=1", &[theirs.as_fd()]);
    drop(theirs);
    let mut barrier = mine;
    barrier.read_to_end(&mut Vec::new()).unwrap();
    text
}

fn notify(manager: &UnixDatagram, text: &str, descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    rustix::net::sendmsg(manager, &[IoSlice::new(text.as_bytes())], &mut control, SendFlags::empty())
        .unwrap();
}
