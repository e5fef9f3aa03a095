//! The bare loop, both sides as programs.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_holdfast-bare-loop");

/// A running server, ended when dropped.
struct Server {
    child: Child,
    address: String,
}

impl Server {
    fn start() -> Self {
        let mut child = Command::new(PROGRAM)
            .args(["serve", "--store", "4"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let output = child.stdout.take().expect("its output is piped");
        BufReader::new(output).read_line(&mut line).expect("it says that it is ready");
        let address = line.trim().strip_prefix("ready ").expect("the line names the address").to_owned();
        Self { child, address }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn all_mixes_answer_and_report_both_sides_processor_time() {
    let server = Server::start();
    let pid = server.child.id().to_string();
    for mix in ["read", "write", "70/30"] {
        for (depth, connections, size) in [("1", "1", "4KiB"), ("128", "3", "4KiB"), ("2", "2", "1MiB")] {
            let measured = |seconds: &str| {
                let output = Command::new(PROGRAM)
                    .args(["load", "--target", &server.address, "--mix", mix, "--depth", depth])
                    .args(["--connections", connections, "--size", size])
                    .args(["--seconds", seconds, "--warmup", "0", "--server-pid", &pid, "--format", "json"])
                    .output()
                    .expect("the client starts");
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                serde_json::from_slice::<serde_json::Value>(&output.stdout).expect("JSON")
            };
            // A machine that is busy with other things may get nowhere in a short time.
            let mut reports = ["0.3", "3", "30"].into_iter().map(measured);
            let report = reports.find(|report| report["operations"].as_u64() > Some(0));
            let report = report.expect("some I/O in half a minute");
            assert!(report["server_cpu_us_per_io"].as_f64() > Some(0.0), "{report}");
        }
    }
}

#[test]
fn a_client_without_a_server_fails_with_a_clear_line() {
    let output = Command::new(PROGRAM).args(["load", "--target", "127.0.0.1:1"]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("connecting to 127.0.0.1:1"));
}
