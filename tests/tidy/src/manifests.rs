//! Rules for the crates' manifests: which lints hold, and who may import whom.

use anyhow::{Context, Result};
use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

use crate::Complaints;
use crate::rooms::UNSAFE_ROOMS;
use crate::tree::{self, SourceFile};

/// For each crate, the workspace's crates that it may be built with. A crate that is not here is one too many.
///
/// ```text
/// mutant ◀ pi ◀ block ◀ { scsi ◀ iscsi; store, nvme } ◀ daemon ▶ { reactor, contract }        contract ◀ control-plane
/// ```
const MAY_IMPORT: [(&str, &[&str]); 20] = [
    ("holdfast-mutant", &[]),
    ("holdfast-pi", &["holdfast-mutant"]),
    ("holdfast-block", &["holdfast-mutant", "holdfast-pi"]),
    ("holdfast-store", &["holdfast-mutant", "holdfast-pi", "holdfast-block"]),
    ("holdfast-nvme", &["holdfast-mutant", "holdfast-pi", "holdfast-block"]),
    ("holdfast-scsi", &["holdfast-mutant", "holdfast-pi", "holdfast-block"]),
    ("holdfast-iscsi", &["holdfast-mutant", "holdfast-pi", "holdfast-block", "holdfast-scsi"]),
    ("holdfast-reactor", &[]),
    ("holdfast-contract", &[]),
    (
        "holdfast-daemon",
        &[
            "holdfast-mutant",
            "holdfast-pi",
            "holdfast-block",
            "holdfast-store",
            "holdfast-nvme",
            "holdfast-scsi",
            "holdfast-iscsi",
            "holdfast-reactor",
            "holdfast-contract",
        ],
    ),
    ("holdfast-control-plane", &["holdfast-contract"]),
    // For the offline check of pools alone.
    ("holdfast-cli", &["holdfast-store"]),
    // Runs on other machines.
    ("holdfast-agent", &[]),
    // Speaks the protocol in its own words, so that a mistake of the target's is not mirrored in its tests.
    ("holdfast-testkit", &[]),
    ("holdfast-bare-loop", &["holdfast-testkit"]),
    // What a pool does without a network before it.
    (
        "holdfast-pool-load",
        &["holdfast-pi", "holdfast-block", "holdfast-store", "holdfast-reactor", "holdfast-daemon"],
    ),
    ("holdfast-e2e", &["holdfast-testkit", "holdfast-wac"]),
    ("holdfast-conformance", &["holdfast-testkit", "holdfast-e2e"]),
    ("holdfast-wac", &[]),
    ("holdfast-tidy", &[]),
];

/// What a crate's tests may import besides: the real store under a layer that only knows its interface, and a host.
const TESTS_MAY_IMPORT: [(&str, &[&str]); 6] = [
    ("holdfast-block", &["holdfast-store"]),
    ("holdfast-nvme", &["holdfast-store"]),
    ("holdfast-scsi", &["holdfast-store"]),
    ("holdfast-iscsi", &["holdfast-store"]),
    ("holdfast-daemon", &["holdfast-testkit"]),
    // To make pools by hand.
    ("holdfast-cli", &["holdfast-block"]),
];

/// Libraries that are somebody's own door to the outside.
const DOORS: [(&str, &[&str]); 3] = [
    ("io-uring", &["holdfast-reactor"]),
    ("libc", &["holdfast-reactor"]),
    ("sqlx", &["holdfast-control-plane"]),
];

/// That a crate is built with another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The crate.
    pub from: String,
    /// What it imports, of the workspace or not.
    pub to: String,
    /// Whether only its tests, examples and benchmarks do.
    pub by_tests: bool,
}

impl Import {
    /// An import by a crate itself.
    pub fn new(from: &str, to: &str) -> Import {
        Import { from: from.to_owned(), to: to.to_owned(), by_tests: false }
    }
}

/// What Cargo says about the workspace, without its dependencies' dependencies, asked as a person would who stands in the
/// repository and has no variables set.
///
/// # Errors
/// Cargo cannot read the manifests.
pub fn metadata() -> Result<Metadata> {
    MetadataCommand::new()
        .current_dir(tree::root())
        .env_remove("CARGO_TARGET_DIR")
        .env_remove("CARGO_BUILD_TARGET_DIR")
        .no_deps()
        .exec()
        .context("cargo metadata")
}

/// The workspace's crates.
pub fn crates(metadata: &Metadata) -> Vec<String> {
    metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect()
}

/// Every import of the workspace's crates.
pub fn imports(metadata: &Metadata) -> Vec<Import> {
    let of_package = |package: &cargo_metadata::Package| -> Vec<Import> {
        let import = |dependency: &cargo_metadata::Dependency| Import {
            from: package.name.to_string(),
            to: dependency.name.clone(),
            by_tests: dependency.kind == DependencyKind::Development,
        };
        package.dependencies.iter().map(import).collect()
    };
    metadata.workspace_packages().into_iter().flat_map(of_package).collect()
}

/// Every crate is one that the architecture knows.
pub fn unknown_crates(crates: &[String]) -> Complaints {
    let known = |name: &String| MAY_IMPORT.iter().any(|(known, _)| known == name);
    crates.iter().filter(|name| !known(name)).map(|name| format!("{name}: a crate without a place")).collect()
}

/// Imports point one way.
pub fn wrong_way(imports: &[Import]) -> Complaints {
    let in_workspace = |import: &&Import| MAY_IMPORT.iter().any(|(name, _)| *name == import.to);
    let allowed = |import: &Import| {
        listed(&MAY_IMPORT, &import.from, &import.to)
            || (import.by_tests && listed(&TESTS_MAY_IMPORT, &import.from, &import.to))
    };
    imports
        .iter()
        .filter(in_workspace)
        .filter(|import| !allowed(import))
        .map(|import| format!("{} may not import {}", import.from, import.to))
        .collect()
}

/// Doors to the outside have one owner each.
pub fn strange_doors(imports: &[Import]) -> Complaints {
    let is_door = |import: &&Import| DOORS.iter().any(|(door, _)| *door == import.to);
    imports
        .iter()
        .filter(is_door)
        .filter(|import| !listed(&DOORS, &import.to, &import.from))
        .map(|import| format!("{} may not import {}", import.from, import.to))
        .collect()
}

fn listed(table: &[(&str, &[&str])], key: &str, value: &str) -> bool {
    table.iter().any(|(name, values)| *name == key && values.contains(&value))
}

/// The root manifest is virtual: with a package of its own, its sources and `target` would lie in one folder.
pub fn root_with_package(root_manifest: &str) -> Complaints {
    match section(root_manifest, "package") {
        Some(_) => vec!["Cargo.toml: the root has a package".to_owned()],
        None => Complaints::new(),
    }
}

/// The workspace forbids `unsafe_code`, and every crate takes the workspace's lints. A room where `unsafe` is allowed has
/// the same lints written out, all but that one, and must explain each block. A crate with such a room inside has them
/// written out, too, and denies what the workspace forbids: the room is its one exception.
pub fn loose_lints(files: &[SourceFile]) -> Complaints {
    let Some(root) = files.iter().find(|file| file.path == "Cargo.toml") else {
        return vec!["Cargo.toml: missing".to_owned()];
    };
    let rust = section(&root.text, "workspace.lints.rust").unwrap_or_default();
    let clippy = section(&root.text, "workspace.lints.clippy").unwrap_or_default();
    let mut complaints = Complaints::new();
    if !rust.contains(&UNSAFE_FORBIDDEN) {
        complaints.push(format!("Cargo.toml: the workspace's lints lack `{UNSAFE_FORBIDDEN}`"));
    }
    let manifests: Vec<&str> = files
        .iter()
        .filter(|file| file.path.ends_with("/Cargo.toml"))
        .map(|file| file.path.trim_end_matches("Cargo.toml"))
        .collect();
    for file in files.iter().filter(|file| file.path.ends_with("/Cargo.toml")) {
        let room = UNSAFE_ROOMS.iter().any(|room| file.is_in(room));
        let folder = file.path.trim_end_matches("Cargo.toml");
        // A crate within a crate's folder has its rooms for itself.
        let nearest = |room: &&&str| {
            let around = manifests.iter().filter(|other| room.starts_with(**other));
            around.max_by_key(|other| other.len()) == Some(&folder)
        };
        let around_room = UNSAFE_ROOMS.iter().any(|room| nearest(&room));
        if !room && !around_room {
            if section(&file.text, "lints") != Some(vec!["workspace = true"]) {
                complaints.push(format!("{}: does not take the workspace's lints", file.path));
            }
            continue;
        }
        let denied = around_room.then_some(&UNSAFE_DENIED);
        let wanted =
            rust.iter().filter(|lint| **lint != UNSAFE_FORBIDDEN).chain([&UNSAFE_IN_FN]).chain(denied);
        complaints.extend(missing_lints(file, "lints.rust", wanted));
        complaints.extend(missing_lints(file, "lints.clippy", clippy.iter().chain([&UNSAFE_EXPLAINED])));
    }
    complaints
}

const UNSAFE_FORBIDDEN: &str = "unsafe_code = \"forbid\"";
const UNSAFE_DENIED: &str = "unsafe_code = \"deny\"";
const UNSAFE_IN_FN: &str = "unsafe_op_in_unsafe_fn = \"deny\"";
const UNSAFE_EXPLAINED: &str = "undocumented_unsafe_blocks = \"deny\"";

fn missing_lints<'a>(file: &SourceFile, name: &str, wanted: impl Iterator<Item = &'a &'a str>) -> Complaints {
    let there = section(&file.text, name).unwrap_or_default();
    let missing = wanted.filter(|lint| !there.contains(lint));
    missing.map(|lint| format!("{}: [{name}] lacks `{lint}`", file.path)).collect()
}

/// The lines of a manifest's section, without comments and empty lines.
fn section<'a>(manifest: &'a str, name: &str) -> Option<Vec<&'a str>> {
    let header = format!("[{name}]");
    let mut lines = manifest.lines().map(str::trim).skip_while(|line| *line != header);
    lines.next()?;
    let inside = lines.take_while(|line| !line.starts_with('['));
    Some(inside.filter(|line| !line.is_empty() && !line.starts_with('#')).collect())
}
