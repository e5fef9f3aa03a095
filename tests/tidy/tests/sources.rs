//! Source files, rooms and scripts: each rule holds here, and each check catches a mutant.

use holdfast_tidy::tree::{SourceFile, files};
use holdfast_tidy::{Complaints, rooms, scripts, sources};

type Check = fn(&[SourceFile]) -> Complaints;

fn holds(check: Check) {
    let complaints = check(&files().expect("the repository can be read"));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

/// The check complains exactly once about the bad example, and not about the good one.
fn tells_apart(check: Check, bad: SourceFile, good: SourceFile) {
    let complaints = check(std::slice::from_ref(&bad));
    assert_eq!(complaints.len(), 1, "{complaints:?} about {bad:?}");
    assert!(complaints.iter().all(|complaint| complaint.starts_with(&bad.path)), "{complaints:?}");
    assert_eq!(check(std::slice::from_ref(&good)), Complaints::new(), "about {good:?}");
}

fn rust(path: &str, text: &str) -> SourceFile {
    SourceFile::example(path, text)
}

#[test]
fn repository_has_files_to_look_at() {
    let files = files().unwrap();
    for path in ["Cargo.toml", "target/pi/src/lib.rs", "tests/tidy/tests/sources.rs"] {
        assert!(files.iter().any(|file| file.path == path && !file.text.is_empty()), "{path}");
    }
    assert!(!files.iter().any(|file| file.is_in("build")));
}

#[test]
fn source_files_are_short() {
    holds(sources::oversized);
}

#[test]
fn long_file_is_noticed() {
    let lines = |count| "x\n".repeat(count);
    for path in ["a.rs", "a.ts", "a.tsx", "a.py", "a.sh", "a.css", "a.sql", "a.js", "a.html"] {
        let (long, short) = (lines(sources::LINES_MAX + 1), lines(sources::LINES_MAX));
        tells_apart(sources::oversized, rust(path, &long), rust(path, &short));
    }
    let script = format!("#!/bin/bash\n{}", lines(sources::LINES_MAX));
    tells_apart(sources::oversized, rust("run", &script), rust("notes.txt", &script.replace("#!", "")));
}

#[test]
fn every_module_opens_with_its_purpose() {
    holds(sources::without_module_doc);
}

#[test]
fn module_without_doc_is_noticed() {
    let good = "//! Moves blocks.\nfn f() {}";
    tells_apart(sources::without_module_doc, rust("a/lib.rs", "fn f() {}"), rust("a/lib.rs", good));
    tells_apart(sources::without_module_doc, rust("a/b.rs", "// Not a doc."), rust("a/tests.rs", "use a;"));
}

#[test]
fn nothing_is_left_unfinished() {
    holds(sources::unfinished);
}

#[test]
fn unfinished_work_is_noticed() {
    let good = rust("a.rs", "//! Later.\n// mktemp x.XXXXXX\nconst A: &str = \"todo!()\";");
    let marked = format!("{}: later", ["FIX", "ME"].concat());
    for bad in [
        "fn f() { todo!() }",
        "fn f() { unimplemented!(\"later\") }",
        "#[ignore = \"slow\"]\nfn f() {}",
        "//! Placeholder.",
        &format!("// {marked}"),
    ] {
        tells_apart(sources::unfinished, rust("a.rs", bad), good.clone());
    }
    tells_apart(sources::unfinished, rust("a.md", &marked), rust("a.md", "done"));
}

#[test]
fn texts_name_no_place_outside_the_repository() {
    holds(sources::naming_elsewhere);
}

#[test]
fn place_outside_the_repository_is_noticed() {
    for place in [["../", "shared/x.md"], ["/wo", "rk/main"], ["/ho", "me/me/x"], ["/Use", "rs/me"]] {
        let bad = format!("see {}", place.concat());
        tells_apart(sources::naming_elsewhere, rust("a.md", &bad), rust("a.md", "see ../ARCHITECTURE.md"));
    }
}

#[test]
fn unsafe_code_stays_in_its_rooms() {
    holds(rooms::unsafe_outside_rooms);
}

#[test]
fn unsafe_code_outside_is_noticed() {
    let bad = "fn f() { unsafe { g() } }";
    let good = "#![forbid(unsafe_code)]\n// unsafe\nconst A: &str = \"unsafe {\";";
    tells_apart(
        rooms::unsafe_outside_rooms,
        rust("target/pi/src/a.rs", bad),
        rust("target/pi/src/a.rs", good),
    );
    tells_apart(rooms::unsafe_outside_rooms, rust("a/build.rs", bad), rust("target/reactor/src/a.rs", bad));
    tells_apart(
        rooms::unsafe_outside_rooms,
        rust("target/pi/src/a.rs", bad),
        rust("target/pi/src/simd/a.rs", bad),
    );
}

#[test]
fn every_unsafe_is_explained() {
    holds(rooms::unexplained_unsafe);
}

#[test]
fn unexplained_unsafe_is_noticed() {
    let explained = "\
// SAFETY: it is.
unsafe impl Send for A {}

fn f() {
    // SAFETY: the statement's second line is
    // meant as well.
    let a = g()
        .map(|b| unsafe { h(b) });
}

/// # Safety
/// Not twice.
#[inline]
unsafe fn i() {}
";
    for bad in [
        "fn f() {\n    unsafe { g() }\n}",
        "// SAFETY: of another statement.\nlet a = 1;\nlet b = unsafe { g() };",
        "// Quite safe.\nunsafe impl Send for A {}",
        "/// Adds.\nunsafe fn f() {}",
    ] {
        tells_apart(rooms::unexplained_unsafe, rust("a.rs", bad), rust("a.rs", explained));
    }
}

#[test]
fn io_uring_has_one_door() {
    holds(rooms::ring_outside_room);
}

#[test]
fn second_door_to_io_uring_is_noticed() {
    let bad = "use io_uring::IoUring;";
    let good = "//! Knows nothing of io_uring.";
    tells_apart(rooms::ring_outside_room, rust("target/daemon/src/a.rs", bad), rust("a.rs", good));
    tells_apart(rooms::ring_outside_room, rust("tests/a.rs", bad), rust("target/reactor/src/ring.rs", bad));
}

#[test]
fn sql_has_one_door() {
    holds(rooms::sql_outside_room);
}

#[test]
fn sql_outside_is_noticed() {
    let bad = "let row = sqlx::query(\"SELECT 1\");";
    let inside = rust("control-plane/src/db/volumes.rs", bad);
    tells_apart(rooms::sql_outside_room, rust("control-plane/src/http/volumes.rs", bad), inside);
}

#[test]
fn protocol_and_store_do_no_io() {
    holds(rooms::io_in_pure_code);
}

#[test]
fn io_in_pure_code_is_noticed() {
    let good = "use std::net::SocketAddr;\n// No Instant here.\nfn f(now_us: u64) {}";
    for bad in ["let t = Instant::now();", "std::fs::read(path)", "use std::thread;", "TcpStream::connect(a)"]
    {
        for folder in ["pi", "block", "store", "nvme", "scsi", "iscsi"] {
            let path = format!("target/{folder}/src/a.rs");
            tells_apart(rooms::io_in_pure_code, rust(&path, bad), rust(&path, good));
        }
        assert_eq!(rooms::io_in_pure_code(&[rust("target/daemon/src/a.rs", bad)]), Complaints::new());
    }
}

#[test]
fn scripts_can_be_started() {
    holds(scripts::not_startable);
}

#[test]
fn script_that_cannot_be_started_is_noticed() {
    let file = |text, executable| SourceFile { executable, ..rust("run", text) };
    tells_apart(scripts::not_startable, file("#!/bin/sh\n", false), file("#!/bin/sh\n", true));
    tells_apart(scripts::not_startable, file("echo", true), file("echo", false));
}

#[test]
fn bash_scripts_stop_at_the_first_error() {
    holds(scripts::not_strict);
}

#[test]
fn careless_bash_script_is_noticed() {
    let good = "#!/bin/bash\n# Builds.\n\nset -euo pipefail\nmake\n";
    for bad in
        ["#!/bin/bash\nmake\n", "#!/usr/bin/env bash\nset -e\n", "#!/bin/bash\nmake\nset -euo pipefail\n"]
    {
        tells_apart(scripts::not_strict, rust("run", bad), rust("run", good));
    }
    assert_eq!(scripts::not_strict(&[rust("init", "#!/bin/sh\nmount\n")]), Complaints::new());
}
