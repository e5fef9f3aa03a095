//! `holdfast pool check` on pools in files that are made by hand: what it prints, and its exit status.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail loudly")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use holdfast_block::PoolId;
use holdfast_store::disk::format::{
    Features, JournalBuilder, JournalStamp, Layout, Name, Page, PageHeader, PageKind, PagePointer, SLOT_LEN,
    Superblock, page_checksum,
};

const POOL_BYTES: u64 = 8 << 20;

/// A closed pool without volumes, with its directory where the data begins.
fn pool(clean: bool) -> (Vec<u8>, Superblock) {
    let mut bytes = vec![0; usize::try_from(POOL_BYTES).unwrap()];
    let layout = Layout::of(POOL_BYTES).unwrap();
    let mut superblock = Superblock { clean, ..first_superblock(layout) };
    let mut directory: Page = [0; SLOT_LEN];
    PageHeader::of_table(PageKind::Directory, 0, 1).encode(&mut directory);
    for (slot, pointer) in (layout.data_first()..).zip(&mut superblock.directory) {
        pointer.slot = slot;
        pointer.checksum = page_checksum(&directory);
        *page(&mut bytes, slot) = directory;
    }
    for (copy, slot) in (0..).zip(Superblock::SLOTS) {
        superblock.encode(copy, page(&mut bytes, slot));
    }
    (bytes, superblock)
}

fn first_superblock(layout: Layout) -> Superblock {
    Superblock {
        features: Features::default(),
        uuid: [5; 16],
        id: PoolId::new(7).unwrap(),
        name: Name::new("tank").unwrap(),
        layout,
        generation: 1,
        journal_start: 1,
        durable_through: 0,
        next_number: 1,
        clean: true,
        directory: [PagePointer::NONE; 2],
        allocation: PagePointer::NONE,
        zeroed_through: 0,
    }
}

fn page(bytes: &mut [u8], slot: u64) -> &mut Page {
    let start = usize::try_from(slot).unwrap() * SLOT_LEN;
    (&mut bytes[start..start + SLOT_LEN]).try_into().unwrap()
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        Folder(tempfile::tempdir().unwrap())
    }

    fn file(&self, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join("a.pool");
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn check(path: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.args(["pool", "check"]).arg(path).args(flags).env_remove("HOLDFAST_API").output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn right_pool_is_0_and_the_file_is_as_before() {
    let folder = Folder::new();
    let (bytes, _) = pool(true);
    let path = folder.file(&bytes);
    let output = check(&path, &["--data"]);
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
    let lines: Vec<_> = text(&output.stdout).lines().collect();
    assert!(lines[0].ends_with(
        "a.pool: pool `tank`, identifier 0000000000000007, UUID 05050505-0505-0505-0505-050505050505"
    ));
    assert_eq!(lines[1], "8 MiB; 2 of 1728 slots of 4 KiB in use; checkpoint 1");
    assert_eq!(lines[2], "The pool was closed well; its journal holds nothing to be replayed");
    assert_eq!(lines.last(), Some(&"Nothing is wrong"));
    assert_eq!(std::fs::read(path).unwrap(), bytes);
}

#[test]
fn damage_is_1_and_named() {
    let folder = Folder::new();
    let (mut bytes, _) = pool(true);
    page(&mut bytes, 128)[99] ^= 1;
    let path = folder.file(&bytes);
    let output = check(&path, &[]);
    assert_eq!(output.status.code(), Some(1));
    let report = text(&output.stdout);
    assert!(
        report.contains("WARNING: superblock, slot 128: copy 1: the superblock does not have its checksum\n")
    );
    assert!(report.contains("The right copy serves"), "{report}");
    assert!(!report.contains("Nothing is wrong"));
    assert!(text(&output.stderr).ends_with("damage was found (1 findings); nothing was changed\n"));

    let output = check(&path, &["--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["damaged"], true);
    assert_eq!(json["worst"], "warning");
    assert_eq!(json["findings"][0]["structure"], "superblock");
    assert_eq!(json["findings"][0]["problem"], "copy_damaged");
    assert_eq!(json["findings"][0]["slot"], 128);
    assert_eq!(json["pool"]["name"], "tank");
    assert_eq!(json["data_checked"], false);
}

#[test]
fn pool_that_was_not_closed_is_0_and_says_so() {
    let folder = Folder::new();
    let (mut bytes, superblock) = pool(false);
    let mut block = [0; SLOT_LEN];
    let pool_tag = superblock.journal_tag();
    let stamp = JournalStamp { pool_tag, number: 1, durable_through: 0, generation: 1 };
    JournalBuilder::new().finish(&mut block, &stamp);
    *page(&mut bytes, superblock.layout.journal_slot(1)) = block;
    let output = check(&folder.file(&bytes), &[]);
    assert_eq!(output.status.code(), Some(0));
    let report = text(&output.stdout);
    assert!(
        report.contains("NOT closed: opening it replays 1 journal blocks, 1 to 1, with 0 cells\n"),
        "{report}"
    );
    assert!(report.contains("Nothing is wrong; the data was not looked at (--data)\n"));
}

#[test]
fn what_is_no_pool_is_refused_with_2() {
    let folder = Folder::new();
    let refused = |path: &Path, why: &str| {
        let output = check(path, &[]);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), ""));
        assert!(text(&output.stderr).contains(why), "{}", text(&output.stderr));
    };
    refused(&folder.file(b"no pool at all"), "there is no Holdfast pool here");
    refused(&folder.file(&vec![0; 1 << 20]), "there is no Holdfast pool here");
    refused(folder.0.path(), "is neither a file nor a block device");
    refused(&folder.0.path().join("missing"), "cannot read");
    let usage = Command::new(env!("CARGO_BIN_EXE_holdfast")).args(["pool", "check"]).output().unwrap();
    assert_eq!(usage.status.code(), Some(2));
}

#[test]
fn pool_in_use_is_refused_with_2() {
    let folder = Folder::new();
    let path = folder.file(&pool(true).0);
    let file = std::fs::File::open(&path).unwrap();
    file.lock().unwrap();
    let output = check(&path, &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("is in use"));
    drop(file);
    assert_eq!(check(&path, &[]).status.code(), Some(0));
}
