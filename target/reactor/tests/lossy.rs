//! Lossy backings: a kill takes what was not flushed, and nothing else; and a build that cannot lose says so.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]
#![cfg(any(debug_assertions, feature = "lossy"))]

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use holdfast_reactor::{Backing, BackingError, BackingMode, LOSSY_VARIABLE, Loss, Space};

/// Set in the child: the file that it is to write to.
const FILE: &str = "HOLDFAST_TEST_FILE";

/// What is written as one.
const BLOCK: usize = 4096;
const BLOCKS: usize = 256;

/// What a loss may tear that into.
const SECTOR: usize = 512;

/// Blocks before this one are flushed, the others are not.
const FLUSHED: usize = 100;

/// In the child, writes and flushes and waits for its end. In the parent, kills it then and says which sectors of the file
/// hold what was written.
fn survivors(test: &str, loss: &str) -> Option<Vec<bool>> {
    if let Some(path) = std::env::var_os(FILE) {
        write_and_wait(Path::new(&path));
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "--nocapture", test])
        .envs([(FILE, path.as_os_str()), (LOSSY_VARIABLE, loss.as_ref())])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.ends_with("written")), "the child failed");
    child.kill().unwrap();
    child.wait().unwrap();
    let bytes = std::fs::read(&path).unwrap();
    let all_of = |block: &[u8], value| block.iter().all(|byte| *byte == value);
    let survived = bytes.chunks(SECTOR).map(|sector| {
        assert!(all_of(sector, 0) || all_of(sector, 1), "a sector is torn");
        all_of(sector, 1)
    });
    Some(survived.collect())
}

fn write_and_wait(path: &Path) {
    let mode = BackingMode::Create { len_bytes: (BLOCKS * BLOCK) as u64, space: Space::Reserved };
    let backing = Backing::open(path, mode).unwrap();
    for block in 0..BLOCKS {
        if block == FLUSHED {
            backing.flush().unwrap();
        }
        backing.write_at((block * BLOCK) as u64, &[1; BLOCK]).unwrap();
    }
    let mut all = vec![0; BLOCKS * BLOCK];
    backing.read_at(0, &mut all).unwrap();
    assert!(all.iter().all(|byte| *byte == 1), "it reads what it wrote");
    println!("\nwritten");
    loop {
        std::thread::park();
    }
}

#[test]
fn a_kill_takes_all_that_was_not_flushed() {
    let Some(survived) = survivors("a_kill_takes_all_that_was_not_flushed", "all") else { return };
    let (flushed, others) = survived.split_at(FLUSHED * BLOCK / SECTOR);
    assert!(flushed.iter().all(|survived| *survived));
    assert!(others.iter().all(|survived| !survived));
}

#[test]
fn a_kill_takes_some_of_what_was_not_flushed() {
    let Some(survived) = survivors("a_kill_takes_some_of_what_was_not_flushed", "some:7") else { return };
    let (flushed, others) = survived.split_at(FLUSHED * BLOCK / SECTOR);
    assert!(flushed.iter().all(|survived| *survived));
    assert!(others.contains(&true) && others.contains(&false));
}

#[test]
fn a_kill_takes_everything_where_flushes_are_pretended() {
    let Some(survived) = survivors("a_kill_takes_everything_where_flushes_are_pretended", "pretend") else {
        return;
    };
    assert!(survived.iter().all(|survived| !survived));
}

#[test]
fn a_loss_that_is_not_known_opens_nothing() {
    const TEST: &str = "a_loss_that_is_not_known_opens_nothing";
    if let Some(path) = std::env::var_os(FILE) {
        let refused = Backing::open(Path::new(&path), BackingMode::ReadWrite);
        assert!(matches!(refused, Err(BackingError::Lossy { value }) if value == "everything"));
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST])
        .envs([(FILE, "/dev/zero"), (LOSSY_VARIABLE, "everything")])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn losses_are_read_as_they_are_written() {
    assert_eq!(Loss::parse("all"), Some(Loss::All));
    assert_eq!(Loss::parse("pretend"), Some(Loss::PretendFlush));
    assert_eq!(Loss::parse("some:12"), Some(Loss::Some { seed: 12 }));
    for other in ["", "some", "some:", "some:x", "ALL", "everything"] {
        assert_eq!(Loss::parse(other), None);
    }
}
