//! Crates and outline: each rule holds here, and each check catches a mutant.

use std::path::Path;

use holdfast_tidy::manifests::{self, Import, metadata};
use holdfast_tidy::tree::{SourceFile, files};
use holdfast_tidy::{Complaints, layout};

fn nothing_said(complaints: &Complaints) {
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn text_of(path: &str) -> String {
    let files = files().expect("the repository can be read");
    files.into_iter().find(|file| file.path == path).expect("the file is there").text
}

#[test]
fn imports_point_one_way() {
    let metadata = metadata().unwrap();
    let (crates, imports) = (manifests::crates(&metadata), manifests::imports(&metadata));
    assert!(crates.iter().any(|name| name == "holdfast-tidy"));
    assert!(imports.contains(&Import::new("holdfast-block", "holdfast-pi")));
    nothing_said(&manifests::unknown_crates(&crates));
    nothing_said(&manifests::wrong_way(&imports));
}

#[test]
fn import_against_the_direction_is_noticed() {
    for (from, to) in [
        ("holdfast-pi", "holdfast-block"),
        ("holdfast-block", "holdfast-store"),
        ("holdfast-store", "holdfast-nvme"),
        ("holdfast-nvme", "holdfast-reactor"),
        ("holdfast-reactor", "holdfast-pi"),
        ("holdfast-control-plane", "holdfast-block"),
        ("holdfast-cli", "holdfast-contract"),
        ("holdfast-testkit", "holdfast-nvme"),
        ("holdfast-daemon", "holdfast-testkit"),
    ] {
        assert_eq!(manifests::wrong_way(&[Import::new(from, to)]), [format!("{from} may not import {to}")]);
    }
    nothing_said(&manifests::wrong_way(&[Import::new("holdfast-pi", "thiserror")]));
}

#[test]
fn tests_may_import_what_the_crate_may_not() {
    let import = Import::new("holdfast-daemon", "holdfast-testkit");
    nothing_said(&manifests::wrong_way(&[Import { by_tests: true, ..import }]));
    let import = Import { by_tests: true, ..Import::new("holdfast-pi", "holdfast-daemon") };
    assert_eq!(manifests::wrong_way(&[import]).len(), 1);
}

#[test]
fn crate_without_a_place_is_noticed() {
    assert_eq!(manifests::unknown_crates(&["holdfast-utils".to_owned()]).len(), 1);
}

#[test]
fn doors_to_the_outside_have_one_owner() {
    nothing_said(&manifests::strange_doors(&manifests::imports(&metadata().unwrap())));
}

#[test]
fn second_owner_of_a_door_is_noticed() {
    for (from, to) in
        [("holdfast-nvme", "io-uring"), ("holdfast-daemon", "libc"), ("holdfast-daemon", "sqlx")]
    {
        assert_eq!(manifests::strange_doors(&[Import::new(from, to)]).len(), 1);
    }
    nothing_said(&manifests::strange_doors(&[Import::new("holdfast-reactor", "io-uring")]));
}

#[test]
fn root_manifest_is_virtual() {
    nothing_said(&manifests::root_with_package(&text_of("Cargo.toml")));
}

#[test]
fn package_at_the_root_is_noticed() {
    assert_eq!(manifests::root_with_package("[workspace]\n\n[package]\nname = \"a\"").len(), 1);
    nothing_said(&manifests::root_with_package("[workspace.package]\nedition = \"2024\""));
}

#[test]
fn every_crate_keeps_the_workspace_lints() {
    nothing_said(&manifests::loose_lints(&files().unwrap()));
}

#[test]
fn loose_lints_are_noticed() {
    const ROOT: &str = "[workspace.lints.rust]\nunsafe_code = \"forbid\"\nmissing_docs = \"warn\"\n\n\
                        [workspace.lints.clippy]\npanic = \"deny\"\n";
    const TAKEN: &str = "[package]\nname = \"a\"\n\n[lints]\nworkspace = true\n";
    const ROOM: &str = "[lints.rust]\nunsafe_op_in_unsafe_fn = \"deny\"\nmissing_docs = \"warn\"\n\n\
                        [lints.clippy]\nundocumented_unsafe_blocks = \"deny\"\npanic = \"deny\"\n";
    let about = |root: &str, path: &str, text: &str| {
        manifests::loose_lints(&[SourceFile::example("Cargo.toml", root), SourceFile::example(path, text)])
    };
    let around_room = ROOM.replace("[lints.rust]\n", "[lints.rust]\nunsafe_code = \"deny\"\n");
    nothing_said(&about(ROOT, "target/block/Cargo.toml", TAKEN));
    nothing_said(&about(ROOT, "target/reactor/Cargo.toml", ROOM));
    nothing_said(&about(ROOT, "target/pi/Cargo.toml", &around_room));

    assert_eq!(about(&ROOT.replace("forbid", "warn"), "target/block/Cargo.toml", TAKEN).len(), 1);
    assert_eq!(about(ROOT, "target/block/Cargo.toml", "[package]\n").len(), 1);
    assert_eq!(about(ROOT, "target/block/Cargo.toml", "[lints.rust]\nunsafe_code = \"allow\"\n").len(), 1);
    assert_eq!(about(ROOT, "target/block/Cargo.toml", ROOM).len(), 1);
    assert_eq!(about(ROOT, "target/pi/Cargo.toml", ROOM).len(), 1);
    for lint in ["undocumented_unsafe_blocks", "unsafe_op_in_unsafe_fn", "panic", "missing_docs"] {
        assert_eq!(about(ROOT, "target/reactor/Cargo.toml", &ROOM.replace(lint, "other")).len(), 1, "{lint}");
        let loose = around_room.replace(lint, "other");
        assert_eq!(about(ROOT, "target/pi/Cargo.toml", &loose).len(), 1, "{lint}");
    }
}

#[test]
fn cargo_builds_beside_the_sources() {
    let metadata = metadata().unwrap();
    let root = metadata.workspace_root.as_std_path();
    assert!(root.join("target/pi/Cargo.toml").is_file(), "{}", root.display());
    nothing_said(&layout::build_folder_at_risk(root, metadata.target_directory.as_std_path()));
}

#[test]
fn build_folder_over_the_sources_is_noticed() {
    let at_risk = |folder| layout::build_folder_at_risk(Path::new("/r"), Path::new(folder));
    for folder in ["/r/target", "/r/target/out", "/r", "/"] {
        assert_eq!(at_risk(folder).len(), 1, "{folder}");
    }
    nothing_said(&at_risk("/r/build"));
    nothing_said(&at_risk("/elsewhere/target"));
}

#[test]
fn git_ignores_build_and_keeps_target() {
    nothing_said(&layout::wrongly_ignored(&text_of(".gitignore")));
}

#[test]
fn ignored_source_folder_is_noticed() {
    for ignored in
        ["/build\n/target\n", "/build\ntarget\n", "/build\ntarget/\n", "/build\n**/target\n", "/out\n"]
    {
        assert_eq!(layout::wrongly_ignored(ignored).len(), 1, "{ignored}");
    }
}

#[test]
fn whoever_builds_says_where_to() {
    nothing_said(&layout::builders_without_folder(&files().unwrap()));
}

#[test]
fn builder_without_folder_is_noticed() {
    let script = |path, text| SourceFile::example(path, text);
    let mut scripts = vec![
        script(".ci/run", "export CARGO_TARGET_DIR=$PWD/build\n"),
        script("tests/run", "export CARGO_TARGET_DIR=$PWD/build\n"),
        script("justfile", "export CARGO_TARGET_DIR := \"build\"\n"),
    ];
    nothing_said(&layout::builders_without_folder(&scripts));
    scripts[0].text.insert_str(0, "# ");
    assert_eq!(layout::builders_without_folder(&scripts).len(), 1);
}

#[test]
fn top_level_holds_what_it_should() {
    nothing_said(&layout::strange_entries(&files().unwrap()));
}

#[test]
fn strange_entry_is_noticed() {
    let files =
        ["utils/a.rs", "utils/b.rs", "tests/run", "notes.txt"].map(|path| SourceFile::example(path, ""));
    assert_eq!(layout::strange_entries(&files).len(), 2);
}
