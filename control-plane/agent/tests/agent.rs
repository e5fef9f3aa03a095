//! The program over trees that were recorded in Linux guests (`recorded/record`), and against an API that is played.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

/// The tree of a recording, as files.
fn tree(recording: &str) -> TempDir {
    let root = tempfile::tempdir().unwrap();
    for line in recording.lines() {
        let (path, text) = line.split_once('\t').unwrap();
        let at = root.path().join(path);
        fs::create_dir_all(at.parent().unwrap()).unwrap();
        fs::write(at, text.replace("\\n", "\n") + "\n").unwrap();
    }
    root
}

fn agent(arguments: &[&str], root: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast-agent"))
        .args(arguments)
        .arg("--root")
        .arg(root)
        .env_remove("HOLDFAST_API")
        .output()
        .unwrap()
}

fn shown(recording: &str) -> Value {
    let output = agent(&["show", "--output", "json"], tree(recording).path());
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn holes(device: &Value) -> Vec<&str> {
    device["holes"].as_array().unwrap().iter().map(|hole| hole["hole"].as_str().unwrap()).collect()
}

#[test]
fn stock_6_12_with_the_plain_view_has_no_tuples() {
    let report = shown(include_str!("recorded/6.12-plain.txt"));
    assert_eq!((&report["policy"], &report["pi_transports"]), (&json!("none"), &json!([])));
    assert!(report["kernel"].as_str().unwrap().starts_with("6.12."));
    let device = &report["devices"][0];
    assert_eq!((&device["transport"], &device["sectors"]), (&json!("nvme-tcp"), &json!(131_072)));
    assert_eq!(device["file_systems"][0]["journal"], "absent");
    assert_eq!(device["loops"][0]["file"], "/mnt/file");
    assert_eq!(device["stable_writes"], true, "data digests are on");
    assert_eq!(holes(device), ["ext4-no-journal"], "its metadata changes under the digest");
}

#[test]
fn stock_6_12_with_the_pi_view_shows_no_capacity_and_is_told_what_to_do() {
    let report = shown(include_str!("recorded/6.12-pi.txt"));
    assert_eq!((&report["policy"], &report["pi_transports"]), (&json!("none"), &json!([])));
    let device = &report["devices"][0];
    assert_eq!(device["sectors"], 0);
    assert_eq!(holes(device), ["capacity-zero"]);
}

#[test]
fn stock_6_1_makes_no_tuples_in_either_view() {
    for recording in [include_str!("recorded/6.1-plain.txt"), include_str!("recorded/6.1-pi.txt")] {
        let report = shown(recording);
        assert_eq!((&report["policy"], &report["pi_transports"]), (&json!("none"), &json!([])));
        assert_eq!(report["devices"][0]["sectors"], 131_072);
    }
}

#[test]
fn text_names_the_device_the_policy_and_the_advice() {
    let output = agent(&["show"], tree(include_str!("recorded/6.12-pi.txt")).path());
    let text = String::from_utf8(output.stdout).unwrap();
    for part in ["policy         none", "(nvme-tcp", "HOLE           capacity-zero", "view to plain"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn a_host_without_path_devices_is_unknown_and_a_folder_without_a_kernel_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let refused = agent(&["show"], root.path());
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("no sys/block"));
    fs::create_dir_all(root.path().join("sys/block")).unwrap();
    let output = agent(&["show", "--output", "json"], root.path());
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["policy"], &report["kernel"]), (&json!("unknown"), &Value::Null));
}

#[test]
fn wrong_usage_is_2_and_help_has_examples() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_holdfast-agent")).args(arguments).output().unwrap()
    };
    assert_eq!(run(&["show", "--what"]).status.code(), Some(2));
    assert_eq!(run(&["run"]).status.code(), Some(2), "--host is needed");
    assert_eq!(run(&[]).status.code(), Some(2));
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("holdfast-agent run --api"));
}

/// Answers one request with `status` and gives it back.
fn serve(listener: &TcpListener, status: &str, body: &str) -> (String, Value) {
    let (mut stream, _) = listener.accept().unwrap();
    let mut request = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let length = stream.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..length]);
        let text = String::from_utf8_lossy(&request).into_owned();
        let Some((head, sent)) = text.split_once("\r\n\r\n") else { continue };
        if let Ok(sent) = serde_json::from_str(sent) {
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(answer.as_bytes()).unwrap();
            return (head.to_owned(), sent);
        }
    }
}

#[test]
fn a_report_is_put_with_the_hosts_token_and_a_refusal_is_said() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}/", listener.local_addr().unwrap());
    let root = tree(include_str!("recorded/6.1-plain.txt"));
    let token = root.path().join("token");
    fs::write(&token, "abc\n").unwrap();
    let arguments =
        ["run", "--once", "--api", &api, "--host", "db1", "--token-file", token.to_str().unwrap(), "--root"];
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"));
        command.args(arguments).arg(root.path()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let first = start();
    let (head, body) = serve(&listener, "201 Created", "{}");
    assert!(head.starts_with("PUT /api/v1/hosts/db1/report HTTP/1.1"), "{head}");
    assert!(head.to_ascii_lowercase().contains("authorization: bearer abc"), "{head}");
    assert_eq!(body["policy"], "none");
    assert!(first.wait_with_output().unwrap().status.success());
    let second = start();
    serve(&listener, "404 Not Found", r#"{"detail":"there is no host db1"}"#);
    let output = second.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("there is no host db1"));
}

#[test]
fn a_device_that_changes_is_reported_without_waiting() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let api = format!("http://{}", listener.local_addr().unwrap());
    let root = tree(include_str!("recorded/6.12-pi.txt"));
    let mut agent = Command::new(env!("CARGO_BIN_EXE_holdfast-agent"))
        .args(["run", "--api", &api, "--host", "db1", "--look", "1", "--every", "86400", "--root"])
        .arg(root.path())
        .spawn()
        .unwrap();
    assert_eq!(serve(&listener, "201 Created", "{}").1["devices"][0]["sectors"], 0);
    let block = root.path().join("sys/block");
    let names = fs::read_dir(block).unwrap().map(|entry| entry.unwrap().path());
    for size in names.map(|device| device.join("size")).filter(|size| size.exists()) {
        fs::write(size, "64\n").unwrap();
    }
    let mut sectors = Value::Null;
    while sectors != 64 {
        sectors = serve(&listener, "200 OK", "{}").1["devices"][0]["sectors"].clone();
    }
    agent.kill().unwrap();
    agent.wait().unwrap();
}
