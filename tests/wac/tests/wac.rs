//! `wac` on a file system of this machine: every way of working works, is counted, and leaves what it should.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use serde_json::Value;
use tempfile::TempDir;

/// On the disk that holds the build, not in memory: direct I/O has to be possible.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn program() -> &'static Path {
    static BUILT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = BUILT.get_or_init(|| {
        let folder = folder();
        let path = folder.path().join("wac");
        holdfast_wac::build(&path).unwrap();
        (folder, path)
    });
    path
}

fn wac(arguments: &[&str], path: &Path) -> Output {
    Command::new(program()).args(arguments).arg(path).output().unwrap()
}

fn summary(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[test]
fn each_combination_does_its_operations_without_error() {
    // Not D: a direct write cannot always throw out a page that is mapped and dirty, which the kernel calls EIO.
    for (name, operations) in [
        ("A", ["write", "sync_file_range"].as_slice()),
        ("B", &["store", "msync"]),
        ("C", &["write", "store", "sync_file_range", "msync"]),
        ("E", &["write", "sync_file_range"]),
        ("F", &["store", "msync"]),
    ] {
        let folder = folder();
        let file = folder.path().join("file");
        let output = wac(&["-C", name, "-t", "0.3"], &file);
        assert_eq!(output.status.code(), Some(0), "{name}: {output:?}");
        let summary = summary(&output);
        for operation in operations {
            assert!(summary["operations"][operation].as_u64() > Some(0), "{name}, {operation}: {summary}");
        }
        assert_eq!(summary["errors"], serde_json::json!({}));
        assert_eq!(fs::metadata(file).unwrap().len(), 65_536);
    }
}

#[test]
fn combination_d_does_all_operations_and_errors_are_its_status() {
    let folder = folder();
    let output = wac(&["-C", "D", "-t", "0.3"], &folder.path().join("file"));
    let summary = summary(&output);
    for operation in ["write", "store"] {
        assert!(summary["operations"][operation].as_u64() > Some(0), "{summary}");
    }
    let failed = !summary["errors"].as_object().unwrap().is_empty();
    assert_eq!(output.status.code(), Some(if failed { 3 } else { 0 }), "{summary}");
}

#[test]
fn sizes_pieces_syncs_and_changed_buffers_are_as_asked() {
    let folder = folder();
    let file = folder.path().join("file");
    let arguments = ["-w", "2", "-s", "1M", "-p", "8K", "-d", "-S", "-f", "-b", "-t", "0.2"];
    let output = wac(&arguments, &file);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let summary = summary(&output);
    let count = |name: &str| summary["operations"][name].as_u64().unwrap();
    assert_eq!(summary["bytes"], count("write") * 8192);
    // One for each write, and the last one of all.
    assert_eq!(count("fsync"), count("write") + 1);
    assert_eq!(fs::metadata(file).unwrap().len(), 1 << 20);
}

#[test]
fn churn_leaves_nothing_behind() {
    let folder = folder();
    let output = wac(&["-c", "3", "-t", "0.2"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let summary = summary(&output);
    for operation in ["create", "rename", "unlink", "sync"] {
        assert!(summary["operations"][operation].as_u64() > Some(0), "{operation}: {summary}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn an_error_ends_a_run_until_error_and_is_counted_by_its_name() {
    let folder = folder();
    let missing = folder.path().join("churned");
    fs::create_dir(&missing).unwrap();
    let mut child = Command::new(program())
        .args(["-c", "1", "-t", "600", "-u"])
        .arg(&missing)
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while fs::read_dir(&missing).unwrap().next().is_none() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    // Gone under the program's feet, so that creating fails from here on.
    while fs::remove_dir(&missing).is_err() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(3));
    assert!(summary(&output)["errors"]["ENOENT"].as_u64() > Some(0), "{output:?}");
}

#[test]
fn wrong_usage_is_2_and_what_cannot_begin_is_1() {
    let folder = folder();
    let file = folder.path().join("file");
    for arguments in [
        ["-x"].as_slice(),
        &["-w", "-1"],
        &["-w", "99999"],
        &["-C", "G"],
        &["-t", "0", "-w", "1"],
        &["-s", "9Q", "-w", "1"],
        &["-p", "128K", "-w", "1"],
        &["-b", "-w", "1"],
        &["-c", "1", "-w", "1"],
        &[],
    ] {
        assert_eq!(wac(arguments, &file).status.code(), Some(2), "{arguments:?}");
    }
    assert!(!file.exists());
    assert_eq!(wac(&["-w", "1"], folder.path()).status.code(), Some(1), "a folder is no file");
    assert_eq!(wac(&["-w", "1", "--device"], &file).status.code(), Some(1));
    assert_eq!(wac(&["-c", "1"], &file).status.code(), Some(1));
    let help = wac(&["--help"], &file);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8(help.stdout).unwrap().contains("Examples:"));
}
