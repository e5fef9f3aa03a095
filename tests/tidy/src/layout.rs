//! Rules for the repository's outline. `target` is a source folder here, and the name of Cargo's default output folder:
//! were the two ever the same, `cargo clean` would delete the sources.

use std::path::Path;

use crate::Complaints;
use crate::tree::SourceFile;

/// Everything that may lie at the top.
const TOP_LEVEL: [&str; 20] = [
    // The product.
    "Cargo.toml",
    "Cargo.lock",
    "target",
    "control-plane",
    "web-ui",
    "kernel-patches",
    "deploy",
    "tests",
    // The house.
    "README.md",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "LICENSE",
    "justfile",
    "rustfmt.toml",
    "clippy.toml",
    "deny.toml",
    ".ci",
    ".cargo",
    ".config",
    ".gitignore",
];

/// Scripts that build, and so must say where to.
const BUILDERS: [(&str, &str); 3] = [
    (".ci/run", "export CARGO_TARGET_DIR="),
    ("tests/run", "export CARGO_TARGET_DIR="),
    ("justfile", "export CARGO_TARGET_DIR :="),
];

/// The top level holds what it is said to hold, and nothing else.
pub fn strange_entries(files: &[SourceFile]) -> Complaints {
    let mut entries: Vec<&str> = files.iter().filter_map(|file| file.path.split('/').next()).collect();
    entries.dedup();
    let strange = entries.into_iter().filter(|entry| !TOP_LEVEL.contains(entry));
    strange.map(|entry| format!("{entry}: does not belong to the top level")).collect()
}

/// Cargo builds into a folder that is neither the sources' nor around them.
pub fn build_folder_at_risk(root: &Path, target_directory: &Path) -> Complaints {
    if root.join("target").starts_with(target_directory) || target_directory.starts_with(root.join("target"))
    {
        vec![format!("Cargo would build into {}, where sources are", target_directory.display())]
    } else {
        Complaints::new()
    }
}

/// Git ignores the build folder, and never the source folder that has the name of one.
pub fn wrongly_ignored(gitignore: &str) -> Complaints {
    let names = || gitignore.lines().map(|line| line.trim().trim_start_matches("**").trim_matches('/'));
    let mut complaints = Complaints::new();
    if !gitignore.lines().any(|line| line.trim() == "/build") {
        complaints.push(".gitignore: lacks /build".to_owned());
    }
    if names().any(|name| name == "target") {
        complaints.push(".gitignore: ignores target, which is a source folder".to_owned());
    }
    complaints
}

/// Whoever builds by a script sets the build folder there, whatever directory Cargo is then called in.
pub fn builders_without_folder(files: &[SourceFile]) -> Complaints {
    let sets = |path: &str, line: &str| {
        files.iter().any(|file| file.path == path && file.text.lines().any(|text| text.starts_with(line)))
    };
    BUILDERS
        .iter()
        .filter(|(path, line)| !sets(path, line))
        .map(|(path, line)| format!("{path}: no line begins with `{line}`"))
        .collect()
}
