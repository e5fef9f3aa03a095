//! Rules for the text of every source file: small, introduced, finished, and about this product alone.

use crate::Complaints;
use crate::rust_text::{code_only, has_word};
use crate::tree::SourceFile;

/// Most lines of a source file. What is longer has more than one subject.
pub const LINES_MAX: usize = 600;

/// Endings of the files whose size is limited; scripts without an ending count too.
const SIZED: [&str; 9] = ["rs", "ts", "tsx", "js", "html", "css", "py", "sh", "sql"];

/// Files that a program writes. None is exempt today; an entry needs its generator named beside it.
const GENERATED: [&str; 1] = ["Cargo.lock"];

/// Words that mark unfinished work, put together here so that this list does not find itself.
const UNFINISHED_WORDS: [&str; 3] = [concat!("FIX", "ME"), concat!("TO", "DO"), concat!("XX", "X")];

/// Code that is not there yet, or that is there and not run.
const UNFINISHED_CODE: [&str; 3] = ["todo!", "unimplemented!", "#[ignore"];

/// A module that says no more than this is not written yet.
const UNWRITTEN: &str = concat!("//! Place", "holder");

/// Places outside of this repository: a file that names one cannot be used by somebody who has only the repository.
const ELSEWHERE: [&str; 4] =
    [concat!("../", "shared"), concat!("/wo", "rk/"), concat!("/ho", "me/"), concat!("/Use", "rs/")];

/// Source files are short enough to be read in one go.
pub fn oversized(files: &[SourceFile]) -> Complaints {
    let sized = |file: &&SourceFile| {
        file.extension().is_some_and(|ending| SIZED.contains(&ending)) || file.text.starts_with("#!")
    };
    let lines = |file: &SourceFile| file.text.lines().count();
    written(files)
        .filter(sized)
        .filter(|file| lines(file) > LINES_MAX)
        .map(|file| format!("{}: {} lines, more than {LINES_MAX}", file.path, lines(file)))
        .collect()
}

/// Every Rust file opens with what it is and why. `tests.rs` belongs to the module beside it, which says it.
pub fn without_module_doc(files: &[SourceFile]) -> Complaints {
    let rust = files.iter().filter(|file| file.is_rust() && !file.path.ends_with("/tests.rs"));
    rust.filter(|file| !file.text.starts_with("//! "))
        .map(|file| format!("{}: does not open with a module doc", file.path))
        .collect()
}

/// Nothing is left for later.
pub fn unfinished(files: &[SourceFile]) -> Complaints {
    let mut complaints = Complaints::new();
    for file in written(files) {
        for (number, line) in (1..).zip(file.text.lines()) {
            for word in UNFINISHED_WORDS.iter().filter(|word| has_word(line, word)) {
                complaints.push(format!("{}:{number}: says {word}", file.path));
            }
            if line.starts_with(UNWRITTEN) {
                complaints.push(format!("{}:{number}: not written yet", file.path));
            }
        }
        if !file.is_rust() {
            continue;
        }
        for (number, line) in (1..).zip(code_only(&file.text).lines()) {
            for code in UNFINISHED_CODE.iter().filter(|code| line.contains(*code)) {
                complaints.push(format!("{}:{number}: has {code}", file.path));
            }
        }
    }
    complaints
}

/// No text names a place that exists on one machine only.
pub fn naming_elsewhere(files: &[SourceFile]) -> Complaints {
    let mut complaints = Complaints::new();
    for file in written(files) {
        for (number, line) in (1..).zip(file.text.lines()) {
            for place in ELSEWHERE.iter().filter(|place| line.contains(*place)) {
                complaints.push(format!("{}:{number}: names {place}", file.path));
            }
        }
    }
    complaints
}

/// Files that people write.
fn written(files: &[SourceFile]) -> impl Iterator<Item = &SourceFile> {
    files.iter().filter(|file| !GENERATED.contains(&file.path.as_str()))
}
