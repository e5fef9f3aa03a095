//! The files that the rules are about: those that Git tracks and those that it would track, so that build output,
//! caches and a running appliance's state never count.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// A file of the repository.
#[derive(Debug, Clone)]
pub struct SourceFile {
    /// Its path from the root, with `/` between parts.
    pub path: String,
    /// Its content; empty for a file that is not UTF-8 text.
    pub text: String,
    /// Whether its owner may execute it.
    pub executable: bool,
}

impl SourceFile {
    /// A file that only exists in a test: not executable.
    pub fn example(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned(), executable: false }
    }

    /// The ending behind the last dot of the file's name; none for `justfile` and `.gitignore`.
    pub fn extension(&self) -> Option<&str> {
        Path::new(&self.path).extension()?.to_str()
    }

    /// Whether it is Rust.
    pub fn is_rust(&self) -> bool {
        self.extension() == Some("rs")
    }

    /// Whether it lies in `folder`, a path from the root.
    pub fn is_in(&self, folder: &str) -> bool {
        Path::new(&self.path).starts_with(folder)
    }
}

/// The repository's root.
pub fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// Every file of the repository, sorted by path.
///
/// # Errors
/// Git is missing, this is no Git working tree, or a file cannot be read.
pub fn files() -> Result<Vec<SourceFile>> {
    let mut command = Command::new("git");
    command.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let listing = command.output().context("cannot run git")?;
    ensure!(listing.status.success(), "git ls-files: {}", String::from_utf8_lossy(&listing.stderr));
    let names = String::from_utf8(listing.stdout).context("a path that is not UTF-8")?;
    let mut paths: Vec<&str> = names.split('\0').filter(|name| !name.is_empty()).collect();
    paths.sort_unstable();
    // While a merge waits to be resolved, a path is listed once for each side.
    paths.dedup();
    paths.into_iter().filter_map(|path| read(path).transpose()).collect()
}

/// One file; none if it was deleted but is still tracked, or is a link.
fn read(path: &str) -> Result<Option<SourceFile>> {
    let place: PathBuf = root().join(path);
    let Ok(about) = fs::symlink_metadata(&place) else { return Ok(None) };
    if !about.is_file() {
        return Ok(None);
    }
    let bytes = fs::read(&place).with_context(|| path.to_owned())?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    Ok(Some(SourceFile { path: path.to_owned(), text, executable: about.permissions().mode() & 0o100 != 0 }))
}
