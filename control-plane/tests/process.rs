//! The program as its supervisor meets it: an inherited socket, readiness, signals, exit codes.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt, FdMapping};
use holdfast_contract::{
    Applied, Hello, ObservedState, PROTOCOL_VERSION, Request, Response, decode_line, encode_line,
};
use rustix::process::{Pid, Signal, kill_process};

const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast-control-plane");
/// Upper bound of every wait: a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// A scripted target that applies everything.
fn target(socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut observed = ObservedState { boot_id: "boot".to_owned(), ..ObservedState::default() };
                let mut lines = BufReader::new(stream.try_clone().unwrap()).split(b'\n');
                while let Some(Ok(line)) = lines.next() {
                    let response = match decode_line(&line).unwrap() {
                        Request::Hello(_) => Response::Hello(Hello {
                            version: PROTOCOL_VERSION,
                            program: "scripted".to_owned(),
                        }),
                        Request::Apply(state) => {
                            observed.revision = state.revision;
                            Response::Applied(Applied { revision: state.revision })
                        }
                        Request::Observe => Response::Observed(Box::new(observed.clone())),
                        Request::Incidents { .. } => Response::Incidents(Vec::new()),
                        Request::AckIncidents { .. } => Response::Acked,
                        Request::Prepare(_) | Request::Abandon { .. } | Request::Drill(_) => {
                            Response::Error { detail: "not in this script".to_owned() }
                        }
                    };
                    if stream.write_all(&encode_line(&response).unwrap()).is_err() {
                        return;
                    }
                }
            });
        }
    });
}

/// Starts the program as a supervisor does; answers it, its address and its readiness socket.
fn start(folder: &Path) -> (Child, SocketAddr, UnixDatagram) {
    let notify = UnixDatagram::bind(folder.join("notify.sock")).unwrap();
    notify.set_read_timeout(Some(PATIENCE)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let child = Command::new(PROGRAM)
        .arg("--state")
        .arg(folder.join("state"))
        .arg("--target-socket")
        .arg(folder.join("target.sock"))
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", "api")
        .env("NOTIFY_SOCKET", folder.join("notify.sock"))
        .fd_mappings(vec![FdMapping { parent_fd: listener.into(), child_fd: 3 }])
        .unwrap()
        .spawn()
        .unwrap();
    (child, address, notify)
}

fn notified(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 256];
    let length = socket.recv(&mut buffer).unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

fn request(address: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    stream
}

fn get(address: SocketAddr, path: &str) -> String {
    let mut answer = String::new();
    request(address, path).read_to_string(&mut answer).unwrap();
    answer
}

fn end(mut child: Child, signal: Signal) -> Option<i32> {
    kill_process(Pid::from_child(&child), signal).unwrap();
    child.wait().unwrap().code()
}

#[test]
fn it_reports_readiness_and_ends_cleanly_with_an_open_stream() {
    for signal in [Signal::TERM, Signal::INT] {
        let folder = tempfile::tempdir().unwrap();
        target(&folder.path().join("target.sock"));
        let (child, address, notify) = start(folder.path());
        assert_eq!(notified(&notify).trim(), "READY=1");
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
        let mut stream = BufReader::new(request(address, "/api/v1/events")).lines();
        assert!(stream.any(|line| line.unwrap().contains("event: target")));
        assert_eq!(end(child, signal), Some(0));
        assert!(stream.all(|line| line.is_ok()), "the stream ended in good order");
        for (path, mode) in [("state", 0o700), ("state/control-plane.sqlite", 0o600)] {
            let found = std::fs::metadata(folder.path().join(path)).unwrap().permissions().mode();
            assert_eq!(found & 0o777, mode, "{path}");
        }
    }
}

#[test]
fn it_serves_before_the_target_is_there_and_is_ready_after() {
    let folder = tempfile::tempdir().unwrap();
    let (child, address, notify) = start(folder.path());
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 503"));
    assert!(get(address, "/api/v1/pools/ram").starts_with("HTTP/1.1 200"));
    target(&folder.path().join("target.sock"));
    assert_eq!(notified(&notify).trim(), "READY=1");
    assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
    assert_eq!(end(child, Signal::TERM), Some(0));
}

#[test]
fn other_addresses_than_loopback_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    for (listen, code) in [(Some("0.0.0.0:0"), 1), (Some("[::]:0"), 1), (None, 1), (Some("nowhere"), 2)] {
        let mut command = Command::new(PROGRAM);
        command.arg("--state").arg(folder.path()).arg("--target-socket").arg("/nowhere");
        if let Some(listen) = listen {
            command.args(["--listen", listen]);
        }
        let output = command.stderr(Stdio::piped()).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{listen:?}");
        if code == 1 {
            assert_eq!(String::from_utf8(output.stderr).unwrap().lines().count(), 1);
        }
    }
}
