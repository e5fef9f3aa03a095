//! `holdfast up` with stand-ins for both planes: what it prints, what it passes on, what survives, how it
//! ends.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail loudly")]

mod common;

use std::net::{SocketAddr, TcpListener, TcpStream};

use common::{Installation, PATIENCE, Running, pid_in};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{PidfdFlags, Signal, kill_process};

/// The address behind `NAME=` in a ready line.
fn address(ready: &str, name: &str) -> SocketAddr {
    let value = ready.split_whitespace().find_map(|word| word.strip_prefix(name)).unwrap();
    value.trim_start_matches("http://").parse().unwrap()
}

fn start(installation: &Installation, flags: &[&str]) -> (Running, String) {
    let mut up = Running::start(&mut installation.up(flags));
    let ready = up.ready();
    assert!(ready.starts_with("ready api=http://127.0.0.1:"), "{ready}");
    (up, ready)
}

fn stop(up: Running, signal: Signal) -> Vec<String> {
    up.signal(signal);
    let (status, lines) = up.end();
    assert_eq!(status.code(), Some(0), "{lines:?}");
    lines
}

fn position(lines: &[String], text: &str) -> usize {
    lines.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no `{text}` in {lines:#?}"))
}

#[test]
fn ready_line_names_real_ports_and_stop_ends_control_plane_first() {
    for signal in [Signal::TERM, Signal::INT] {
        let installation = Installation::new();
        let (up, ready) = start(&installation, &["--nvme", "[::1]:0"]);
        let (api, portals) = ready.strip_prefix("ready api=http://").unwrap().split_once(" nvme=").unwrap();
        let (portals, iscsi) = portals.split_once(" iscsi=").unwrap();
        let portals: Vec<&str> = portals.split(',').collect();
        assert_eq!(portals.len(), 2);
        TcpStream::connect(iscsi.parse::<SocketAddr>().unwrap()).unwrap();
        assert!(portals[0].starts_with("127.0.0.1:") && portals[1].starts_with("[::1]:"));
        for address in portals.iter().chain([&api]) {
            TcpStream::connect(address.parse::<SocketAddr>().unwrap()).unwrap();
        }
        let lines = stop(up, signal);
        assert!(
            position(&lines, "control-plane: flushed") < position(&lines, "target: flushed"),
            "{lines:#?}"
        );
    }
}

#[test]
fn children_get_their_arguments_and_named_descriptors() {
    let installation = Installation::new();
    let flags = [
        "--nvme",
        "127.0.0.1:0",
        "--nvme-advertise",
        "10.0.2.2:4420",
        "--iscsi-advertise",
        "10.0.2.2:3260",
        "--cores",
        "0",
        "--io",
        "epoll",
        "--ram-pool",
        "64MiB",
        "--map-memory",
        "256MiB",
        "--enable-drills",
    ];
    let (up, _) = start(&installation, &flags);
    let lines = stop(up, Signal::TERM);
    let state = installation.path("state").canonicalize().unwrap();
    let state = state.display();
    let target = format!(
        "target: args --state {state}/target --socket {state}/target.sock --cores 0 --io epoll \
         --map-memory 268435456 --enable-drills --nvme-advertise 10.0.2.2:4420 \
         --iscsi-advertise 10.0.2.2:3260"
    );
    let control = format!(
        "control-plane: args --state {state} --target-socket {state}/target.sock --ram-pool 67108864 --enable-drills"
    );
    assert!(lines.contains(&target) && lines.contains(&control), "{lines:#?}");
    position(&lines, "descriptors nvme-0:nvme-1:iscsi-0:lifeline");
    position(&lines, "descriptors api:lifeline");
}

#[test]
fn memory_and_ports_survive_a_killed_target() {
    let installation = Installation::new();
    let mut up = Running::start(&mut installation.up(&[]));
    let ready = up.ready();
    let memory = up.wait_for("target: memory made-by-");
    for restart in 1..=2 {
        let pid = pid_in(&up.wait_for("holdfast-target is ready"));
        kill_process(pid, Signal::KILL).unwrap();
        up.wait_for(&format!("holdfast-target ended (signal: 9 (SIGKILL)); restart {restart} in "));
        // The listening socket is there all the time: this waits in its queue.
        TcpStream::connect(address(&ready, "nvme=")).unwrap();
        up.wait_for("descriptors nvme-0:iscsi-0:lifeline:pool-0123456789abcdef");
        let again = up.wait_for("target: memory ");
        assert_eq!(again, memory);
    }
    stop(up, Signal::TERM);
}

#[test]
fn control_plane_that_ends_is_restarted_while_the_target_stays() {
    let installation = Installation::new();
    let mut up = Running::start(&mut installation.up(&[]));
    up.ready();
    let pid = pid_in(&up.wait_for("holdfast-control-plane is ready"));
    kill_process(pid, Signal::TERM).unwrap();
    up.wait_for("holdfast-control-plane ended (exit status: 0); restart 1 in 100 ms");
    up.wait_for("holdfast-control-plane is ready");
    let lines = stop(up, Signal::TERM);
    assert_eq!(lines.iter().filter(|line| line.contains("target: args")).count(), 1, "{lines:#?}");
}

#[test]
fn children_end_in_order_when_up_is_killed() {
    let installation = Installation::new();
    let ended = tempfile::tempdir().unwrap();
    let mut up = Running::start(installation.up(&[]).env("FAKE_ENDED", ended.path()));
    let children = [up.pid_of("target"), up.pid_of("control-plane")];
    up.ready();
    let processes = children.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty()).unwrap());
    up.signal(Signal::KILL);
    assert_eq!(up.end().0.code(), None);
    for process in &processes {
        let limit = Timespec::try_from(PATIENCE).unwrap();
        assert_eq!(rustix::event::poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&limit)).unwrap(), 1);
    }
    assert!(ended.path().join("target").exists() && ended.path().join("control-plane").exists());
}

#[test]
fn next_up_gets_the_ports_of_a_killed_one() {
    let installation = Installation::new();
    let (up, ready) = start(&installation, &[]);
    up.signal(Signal::KILL);
    assert_eq!(up.end().0.code(), None);
    let [nvme, iscsi, api] = ["nvme=", "iscsi=", "api="].map(|name| address(&ready, name).to_string());
    let flags = ["--nvme", &nvme, "--iscsi", &iscsi, "--api", &api];
    let mut next = Running::start(&mut installation.bare_up(&flags));
    assert_eq!(next.ready(), ready);
    stop(next, Signal::TERM);
}

#[test]
fn child_that_never_starts_is_reported_with_its_last_message() {
    for (variable, name) in [("FAKE_TARGET", "target"), ("FAKE_CONTROL_PLANE", "control-plane")] {
        let installation = Installation::new();
        let up = Running::start(installation.up(&[]).env(variable, "fail"));
        let (status, lines) = up.end();
        assert_eq!(status.code(), Some(1));
        let expected = format!(
            "holdfast up: holdfast-{name} ended 3 times before it was ready (exit status: 1); \
             its last message: {name}: there is no room"
        );
        assert_eq!(lines.last(), Some(&expected), "{lines:#?}");
    }
}

#[test]
fn stop_before_ready_is_an_orderly_end() {
    let installation = Installation::new();
    let mut up = Running::start(installation.up(&[]).env("FAKE_CONTROL_PLANE", "mute"));
    up.wait_for("holdfast-target is ready");
    up.wait_for("control-plane: pid");
    up.signal(Signal::TERM);
    assert_eq!(up.ready(), "");
    let (status, lines) = up.end();
    assert_eq!(status.code(), Some(0), "{lines:#?}");
}

#[test]
fn second_up_on_one_state_directory_is_refused() {
    let installation = Installation::new();
    let (up, _) = start(&installation, &[]);
    let (status, lines) = Running::start(&mut installation.up(&[])).end();
    assert_eq!(status.code(), Some(1));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(
        lines[0].ends_with(&format!("is in use by another `holdfast up` (pid {})", up.child.id())),
        "{lines:?}"
    );
    stop(up, Signal::TERM);
}

#[test]
fn taken_port_is_one_line_with_flag_and_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let flags = ["--nvme", "--iscsi", "--api"];
    for flag in flags {
        let installation = Installation::new();
        let others =
            flags.into_iter().filter(|other| *other != flag).flat_map(|other| [other, "127.0.0.1:0"]);
        let arguments: Vec<&str> = [flag, &address].into_iter().chain(others).collect();
        let mut command = installation.bare_up(&arguments);
        let (status, lines) = Running::start(&mut command).end();
        assert_eq!((status.code(), lines.len()), (Some(1), 1), "{lines:?}");
        assert!(
            lines[0].starts_with(&format!("holdfast up: {flag} {address}: the address is in use")),
            "{lines:?}"
        );
    }
}

#[test]
fn front_ends_that_are_off_are_left_out_of_ready() {
    let installation = Installation::new();
    let flags = ["--nvme", "none", "--iscsi", "none", "--api", "127.0.0.1:0"];
    let mut up = Running::start(&mut installation.bare_up(&flags));
    let ready = up.ready();
    assert!(ready.starts_with("ready api=http://127.0.0.1:"), "{ready}");
    assert!(!ready.contains("nvme") && !ready.contains("iscsi"), "{ready}");
    let lines = stop(up, Signal::TERM);
    position(&lines, "target: pid");
    position(&lines, "descriptors lifeline");
}

#[test]
fn missing_program_is_named() {
    let installation = Installation::new();
    std::fs::remove_file(installation.path("holdfast-target")).unwrap();
    let (status, lines) = Running::start(installation.up(&[]).env("PATH", "/nonexistent")).end();
    assert_eq!(status.code(), Some(1));
    assert_eq!(lines.len(), 1);
    assert!(lines[0].starts_with("holdfast up: cannot find the program holdfast-target"), "{lines:?}");
}

#[test]
fn long_state_path_still_gets_its_sockets() {
    let installation = Installation::new();
    let deep = installation.path(&"d".repeat(150));
    let mut command = std::process::Command::new(installation.path("holdfast"));
    command.args(["up", "--nvme", "127.0.0.1:0", "--iscsi", "127.0.0.1:0", "--api", "127.0.0.1:0"]);
    command.arg("--state").arg(&deep);
    let mut up = Running::start(&mut command);
    assert!(up.ready().starts_with("ready "));
    assert!(deep.join("notify-target.sock").exists());
    stop(up, Signal::TERM);
}

#[test]
fn foreign_notification_is_passed_over() {
    let installation = Installation::new();
    let mut up = Running::start(installation.up(&[]).env("FAKE_CONTROL_PLANE", "mute"));
    up.wait_for("holdfast-target is ready");
    up.wait_for("control-plane: pid");
    let socket = std::os::unix::net::UnixDatagram::unbound().unwrap();
    socket.send_to(b"READY=1", installation.path("state/notify-control.sock")).unwrap();
    up.wait_for("a notification for holdfast-control-plane from another process was passed over");
    up.signal(Signal::TERM);
    assert_eq!(up.ready(), "");
    assert_eq!(up.end().0.code(), Some(0));
}

#[test]
fn wrong_usage_and_later_flags_end_with_status_2() {
    let installation = Installation::new();
    let cases: &[(&[&str], &str)] = &[
        (&["--secure"], "--secure: not in this version"),
        (&["--iscsi", "nowhere"], "invalid value 'nowhere' for '--iscsi"),
        (&["--nvme", "none"], "cannot stand beside another"),
        (&["--cores", "3-1"], "runs backwards"),
        (&["--ram-pool", "1GB"], "unknown unit `GB`"),
        (&["--frobnicate"], "unexpected argument '--frobnicate'"),
    ];
    for (flags, text) in cases {
        let (status, lines) = Running::start(&mut installation.up(flags)).end();
        assert_eq!(status.code(), Some(2), "{lines:?}");
        assert!(lines.join("\n").contains(text), "{lines:?}");
    }
    let (status, lines) = Running::start(&mut installation.bare_up(&["--api", "0.0.0.0:0"])).end();
    assert_eq!((status.code(), lines.len()), (Some(2), 1), "{lines:?}");
}

#[test]
fn core_that_is_not_there_is_named() {
    let installation = Installation::new();
    let (status, lines) = Running::start(&mut installation.up(&["--cores", "1023"])).end();
    assert_eq!((status.code(), lines.len()), (Some(1), 1), "{lines:?}");
    assert!(lines[0].contains("core 1023 is not available"), "{lines:?}");
}
