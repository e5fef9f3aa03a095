//! Backings: what is opened, what is refused, who is named, and what is known of a file or device.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

#[path = "common/places.rs"]
#[allow(dead_code, reason = "each test file uses its part")]
mod places;

use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use holdfast_reactor::{
    Backing, BackingError, BackingInfo, BackingKind, BackingMode, FileError, Holder, Space,
};
use places::{Loop, on_file_system, on_small_file_system};
use proptest::prelude::*;

const MIB: u64 = 1 << 20;

fn created(len_bytes: u64) -> BackingMode {
    BackingMode::Create { len_bytes, space: Space::Reserved }
}

fn holder(refused: Result<Backing, BackingError>) -> Holder {
    match refused {
        Err(BackingError::InUse { holder, .. }) => holder,
        other => panic!("{other:?}"),
    }
}

fn is_us(holder: &Holder) -> bool {
    matches!(holder, Holder::Process { pid, name: Some(_) } if *pid == std::process::id())
}

/// Writes and reads every block once, by addresses that are not aligned.
fn round_trip(backing: &Backing, len: usize) {
    let data: Vec<u8> = (0..len).map(|at| (at % 251).to_le_bytes()[0]).collect();
    let mut memory = vec![0; len + 1];
    backing.write_at(4096, &data).unwrap();
    backing.flush().unwrap();
    backing.read_at(4096, &mut memory[1..]).unwrap();
    assert!(memory[1..] == data);
}

#[test]
fn a_new_file_has_its_length_and_its_space() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let backing = Backing::open(&path, created(4 * MIB)).unwrap();
    let BackingInfo { kind, len_bytes, logical_block_bytes, physical_block_bytes, write_through } =
        backing.info();
    assert_eq!((kind, len_bytes, write_through), (BackingKind::File, 4 * MIB, false));
    assert!(logical_block_bytes.is_power_of_two() && (512..=4096).contains(&logical_block_bytes));
    assert!(physical_block_bytes >= logical_block_bytes);
    round_trip(&backing, 3 << 20);
    assert_eq!(backing.path(), path);
    use std::os::unix::fs::MetadataExt;
    assert!(path.metadata().unwrap().blocks() * 512 >= 4 * MIB);
    assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o600);
}

#[test]
fn what_is_there_is_not_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    std::fs::write(&path, "mine").unwrap();
    assert!(matches!(Backing::open(&path, created(MIB)), Err(BackingError::Exists { .. })));
    assert_eq!(std::fs::read(&path).unwrap(), b"mine");
}

#[test]
fn a_file_has_one_owner_by_whatever_path() {
    let folder = tempfile::tempdir().unwrap();
    let (path, link) = (folder.path().join("pool"), folder.path().join("link"));
    let owner = Backing::open(&path, created(MIB)).unwrap();
    std::fs::hard_link(&path, &link).unwrap();
    for path in [&path, &link] {
        for mode in [BackingMode::ReadWrite, BackingMode::ReadOnly] {
            let refused = Backing::open(path, mode);
            let text = refused.as_ref().unwrap_err().to_string();
            let expected = format!("{} is in use by process {} (", path.display(), std::process::id());
            assert!(text.starts_with(&expected), "{text}");
            assert!(is_us(&holder(refused)));
        }
    }
    drop(owner);
    Backing::open(&link, BackingMode::ReadWrite).unwrap();
}

#[test]
fn readers_share_a_file_and_keep_owners_out() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    drop(Backing::open(&path, created(MIB)).unwrap());
    let one = Backing::open(&path, BackingMode::ReadOnly).unwrap();
    let two = Backing::open(&path, BackingMode::ReadOnly).unwrap();
    holder(Backing::open(&path, BackingMode::ReadWrite));
    assert_eq!(one.write_at(0, &[0; 4096]), Err(FileError::Failed { errno: libc::EBADF }));
    drop((one, two));
    Backing::open(&path, BackingMode::ReadWrite).unwrap();
}

#[test]
fn what_is_no_file_and_no_device_is_refused_without_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [folder.path(), &pipe, Path::new("/dev/null")] {
        for mode in [BackingMode::ReadWrite, BackingMode::ReadOnly] {
            assert!(matches!(Backing::open(path, mode), Err(BackingError::Unsuitable { .. })), "{path:?}");
        }
    }
    let missing = Backing::open(&folder.path().join("missing"), BackingMode::ReadWrite);
    assert!(matches!(missing, Err(BackingError::Io { source, .. }) if source.kind() == ErrorKind::NotFound));
    let nowhere = Backing::open(&folder.path().join("missing/pool"), created(MIB));
    assert!(matches!(nowhere, Err(BackingError::Io { source, .. }) if source.kind() == ErrorKind::NotFound));
}

#[test]
fn what_is_not_aligned_or_not_inside_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let backing = Backing::open(&folder.path().join("pool"), created(MIB)).unwrap();
    let mut memory = vec![0; 8192];
    let invalid = Err(FileError::Failed { errno: libc::EINVAL });
    assert_eq!(backing.read_at(1, &mut memory), invalid);
    assert_eq!(backing.read_at(0, &mut memory[..100]), invalid);
    assert_eq!(backing.write_at(100, &memory), invalid);
    assert_eq!(backing.read_at(MIB - 4096, &mut memory), Err(FileError::Short));
    assert_eq!(backing.write_at(MIB, &memory), Err(FileError::Short));
    assert_eq!(backing.read_at(u64::MAX, &mut memory), Err(FileError::Short));
    backing.read_at(MIB - 8192, &mut memory).unwrap();
}

#[test]
fn a_file_that_was_cut_ends_a_read_with_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let backing = Backing::open(&path, created(MIB)).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let mut memory = vec![0; 8192];
    assert_eq!(backing.read_at(0, &mut memory), Err(FileError::Short));
    backing.read_at(0, &mut memory[..4096]).unwrap();
}

#[test]
fn a_file_without_room_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    on_small_file_system(folder.path(), "1m", || {
        let full = Backing::open(&path, created(8 * MIB));
        assert!(
            matches!(&full, Err(BackingError::Io { source, .. }) if source.kind() == ErrorKind::StorageFull),
            "{full:?}"
        );
        assert!(!path.exists(), "a refused file stays behind");
        let mode = BackingMode::Create { len_bytes: 8 * MIB, space: Space::Sparse };
        let sparse = Backing::open(&path, mode).unwrap();
        assert_eq!(sparse.write_at(0, &vec![1; 4 << 20]), Err(FileError::NoSpace));
        sparse.write_at(0, &vec![1; 4096]).unwrap();
    });
}

#[test]
fn devices_of_both_block_lengths_are_known_and_claimed() {
    let folder = tempfile::tempdir().unwrap();
    for block_bytes in [512, 4096] {
        // What is no multiple of a block is not used: a loop device cuts at its own.
        let Some(device) = Loop::new(&folder.path().join(format!("{block_bytes}")), 8 * MIB, block_bytes)
        else {
            return;
        };
        let owner = Backing::open(&device.path, BackingMode::ReadWrite).unwrap();
        let info = owner.info();
        assert_eq!((info.kind, info.len_bytes), (BackingKind::BlockDevice, 8 * MIB));
        assert_eq!(info.logical_block_bytes, block_bytes);
        assert!(info.physical_block_bytes >= block_bytes);
        assert!(!info.write_through, "what the page cache of its file holds is not on the medium");
        round_trip(&owner, 4 << 20);
        let mut sector = vec![0; 512];
        let short = owner.read_at(512, &mut sector);
        assert_eq!(short.is_ok(), block_bytes == 512, "{short:?}");
        for mode in [BackingMode::ReadWrite, BackingMode::ReadOnly] {
            assert!(is_us(&holder(Backing::open(&device.path, mode))));
        }
        drop(owner);
        Backing::open(&device.path, BackingMode::ReadWrite).unwrap();
    }
}

#[test]
fn a_mounted_device_is_refused_and_its_place_named() {
    let folder = tempfile::tempdir().unwrap();
    on_file_system(folder.path(), c"ext4", 16 * MIB, |place| {
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let line = mounts.lines().find(|line| line.contains(place.to_str().unwrap())).unwrap();
        let device = line.split_ascii_whitespace().find(|word| word.starts_with("/dev/")).unwrap();
        let expected = Holder::Mount { place: place.display().to_string() };
        assert_eq!(holder(Backing::open(Path::new(device), BackingMode::ReadWrite)), expected);
    });
}

#[test]
fn files_on_xfs_and_ext4_serve() {
    for (kind, bytes) in [(c"ext4", 64 * MIB), (c"xfs", 400 * MIB)] {
        let folder = tempfile::tempdir().unwrap();
        on_file_system(folder.path(), kind, bytes, |place| {
            let backing = Backing::open(&place.join("pool"), created(16 * MIB)).unwrap();
            assert_eq!(backing.info().len_bytes, 16 * MIB);
            assert_eq!(backing.info().kind, BackingKind::File);
            round_trip(&backing, 8 << 20);
        });
    }
}

#[test]
fn a_device_whose_medium_fails_reports_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let Some(device) = Loop::new(&folder.path().join("image"), 8 * MIB, 512) else { return };
    let backing = Backing::open(&device.path, BackingMode::ReadWrite).unwrap();
    // The medium shrinks below what the device promised.
    OpenOptions::new().write(true).open(folder.path().join("image")).unwrap().set_len(MIB).unwrap();
    let mut memory = vec![0; 4096];
    backing.read_at(0, &mut memory).unwrap();
    let failed = backing.read_at(4 * MIB, &mut memory);
    assert_eq!(failed, Err(FileError::Failed { errno: libc::EIO }));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn blocking_transfers_match_a_model(
        all in prop::collection::vec((any::<bool>(), 0_usize..600, 1_usize..600, 0_usize..3), 1..30)
    ) {
        const BLOCKS: usize = 640;
        let folder = tempfile::tempdir().unwrap();
        let len = (BLOCKS * 4096) as u64;
        let backing = Backing::open(&folder.path().join("pool"), created(len)).unwrap();
        let mut model = vec![0_u8; BLOCKS * 4096];
        for (number, (writes, at, blocks, shift)) in (1_u8..).zip(all) {
            let blocks = blocks.min(BLOCKS - at);
            let range = at * 4096..(at + blocks) * 4096;
            let mut memory = vec![number; shift + blocks * 4096];
            if writes {
                backing.write_at(range.start as u64, &memory[shift..]).unwrap();
                model[range].fill(number);
            } else {
                backing.read_at(range.start as u64, &mut memory[shift..]).unwrap();
                prop_assert!(memory[shift..] == model[range]);
            }
        }
    }
}
