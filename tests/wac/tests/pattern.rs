//! `pattern` on a file of this machine: it finds what it wrote, and whatever is otherwise.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{File, read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::Command;

/// The program's own: a block that is not what was written.
const DIFFERS: i32 = 3;

#[test]
fn what_was_written_is_found_and_nothing_else() {
    // On the disk that holds the build, not in memory: direct I/O has to be possible.
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = folder.path().join("pattern");
    holdfast_wac::build_pattern(&program).unwrap();
    let path = folder.path().join("disk");
    let disk = File::create_new(&path).unwrap();
    let run = |arguments: &[&str]| {
        let (head, tail) = arguments.split_at(2);
        Command::new(&program).args(head).arg(&path).args(tail).output().unwrap().status.code()
    };
    for (way, piece) in [("direct", "4096"), ("direct", "65536"), ("buffered", "1048576")] {
        // 37 to 136; no multiple of any piece but the first.
        assert_eq!(run(&["write", way, piece, "37", "100", piece]), Some(0), "{way} {piece}");
        for back in ["direct", "buffered"] {
            assert_eq!(run(&["check", back, piece, "37", "100", "65536"]), Some(0), "{way} {piece} {back}");
        }
        assert_eq!(run(&["check", "direct", "7", "37", "100", "4096"]), Some(DIFFERS));
        assert_eq!(run(&["check", "direct", piece, "36", "100", "4096"]), Some(DIFFERS));
    }
    assert!(each_block_is_unique(&path));
    disk.write_all_at(b"!", 136 * 4096 + 4095).unwrap();
    assert_eq!(run(&["check", "buffered", "1048576", "37", "100", "4096"]), Some(DIFFERS));
}

fn each_block_is_unique(path: &Path) -> bool {
    let bytes = read(path).unwrap();
    let mut blocks: Vec<&[u8]> = bytes.chunks(4096).skip(37).collect();
    blocks.sort_unstable();
    blocks.windows(2).all(|pair| pair.first() != pair.last())
}
