//! Rules about what only certain folders may do. The compiler keeps `unsafe` out of the other crates; these checks keep
//! the list of rooms short, and see the doors that the compiler does not.

use crate::Complaints;
use crate::rust_text::{code_only, has_word};
use crate::tree::SourceFile;

/// Folders whose code may be `unsafe`.
pub const UNSAFE_ROOMS: [&str; 3] = ["control-plane/agent/src/ioctl", "target/pi/src/simd", "target/reactor"];

/// The folder that alone talks to io_uring.
const RING_ROOM: &str = "target/reactor";

/// The folder that alone talks to the database.
const SQL_ROOM: &str = "control-plane/src/db";

/// Pure state machines: everything from outside comes in as an argument.
const SANS_IO: [&str; 6] = [
    "target/pi/src",
    "target/block/src",
    "target/store/src",
    "target/nvme/src",
    "target/scsi/src",
    "target/iscsi/src",
];

/// Clocks, sockets, files and threads. (Addresses, as values, are no I/O.)
const IO_WORDS: [&str; 9] = [
    "Instant",
    "SystemTime",
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "UnixStream",
    "fs",
    "thread",
    "process",
];

/// How many lines of a statement may stand between its comment and the `unsafe` in it.
const STATEMENT_LINES_MAX: usize = 12;

/// `unsafe` stands in its rooms only.
pub fn unsafe_outside_rooms(files: &[SourceFile]) -> Complaints {
    let outside = files.iter().filter(|file| !UNSAFE_ROOMS.iter().any(|room| file.is_in(room)));
    lines_with(outside, "unsafe", "unsafe code outside of its rooms")
}

/// io_uring has one door.
pub fn ring_outside_room(files: &[SourceFile]) -> Complaints {
    let outside = files.iter().filter(|file| !file.is_in(RING_ROOM));
    lines_with(outside, "io_uring", "io_uring outside of its room")
}

/// SQL has one door: outside of it, no code names the database library.
pub fn sql_outside_room(files: &[SourceFile]) -> Complaints {
    let outside = files.iter().filter(|file| !file.is_in(SQL_ROOM));
    lines_with(outside, "sqlx", "sqlx outside of its room")
}

/// Protocol, block layer and store read no clock, open no file or socket, start no thread.
pub fn io_in_pure_code(files: &[SourceFile]) -> Complaints {
    let pure = files.iter().filter(|file| SANS_IO.iter().any(|folder| file.is_in(folder)));
    IO_WORDS
        .iter()
        .flat_map(|word| lines_with(pure.clone(), word, &format!("`{word}` in sans-I/O code")))
        .collect()
}

/// Each `unsafe` block and implementation has a comment in front of its statement that says why it is sound, and each
/// `unsafe fn` a section on what its caller must keep.
pub fn unexplained_unsafe(files: &[SourceFile]) -> Complaints {
    let mut complaints = Complaints::new();
    for file in files.iter().filter(|file| file.is_rust()) {
        let code = code_only(&file.text);
        let lines: Vec<(&str, &str)> = code.lines().zip(file.text.lines()).collect();
        for (index, (code, _)) in lines.iter().enumerate().filter(|(_, (code, _))| has_word(code, "unsafe")) {
            let wanted = if code.contains("unsafe fn") { "# Safety" } else { "SAFETY:" };
            let before = lines.get(..index).unwrap_or_default();
            if !comment_in_front(before).is_some_and(|comment| comment.contains(wanted)) {
                complaints.push(format!("{}:{}: unsafe without `{wanted}`", file.path, index + 1));
            }
        }
    }
    complaints
}

/// The comment in front of the statement that goes on behind `before`: pairs of a line's code and the whole line.
fn comment_in_front(before: &[(&str, &str)]) -> Option<String> {
    let mut statement_lines = 0;
    let mut comment = Vec::new();
    for (code, line) in before.iter().rev() {
        if line.trim_start().starts_with("//") {
            comment.push(*line);
            continue;
        }
        let code = code.trim_end();
        let other = code.is_empty() || code.ends_with([';', '{', '}', ',']);
        statement_lines += 1;
        if !comment.is_empty() || other || statement_lines > STATEMENT_LINES_MAX {
            break;
        }
    }
    (!comment.is_empty()).then(|| comment.join("\n"))
}

fn lines_with<'a>(files: impl Iterator<Item = &'a SourceFile>, word: &str, what: &str) -> Complaints {
    let mut complaints = Complaints::new();
    for file in files.filter(|file| file.is_rust()) {
        for (number, line) in (1..).zip(code_only(&file.text).lines()) {
            if has_word(line, word) {
                complaints.push(format!("{}:{number}: {what}", file.path));
            }
        }
    }
    complaints
}
