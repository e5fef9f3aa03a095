//! The one way to `/sys` and `/proc`: below a folder, so that trees recorded on other hosts can be read.
//!
//! A file that is not there, cannot be read or is no text is `None`: the kernel does not say.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Longest file that is read, in bytes: `mountinfo` of a host with thousands of mounts.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A folder that stands for `/`.
#[derive(Debug, Clone)]
pub(crate) struct Root {
    folder: PathBuf,
}

impl Root {
    /// Reads below `folder`.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    /// Whether there is a folder or file.
    pub(crate) fn exists(&self, path: &str) -> bool {
        self.at(path).exists()
    }

    /// A file's text without blanks around it.
    pub(crate) fn text(&self, path: &str) -> Option<String> {
        let mut text = String::new();
        let file = fs::File::open(self.at(path)).ok()?;
        file.take(FILE_BYTES_MAX).read_to_string(&mut text).ok()?;
        Some(text.trim().to_owned())
    }

    /// A file's number.
    pub(crate) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// A file's `0` or `1`, `N` or `Y`.
    pub(crate) fn flag(&self, path: &str) -> Option<bool> {
        match self.text(path)?.as_str() {
            "0" | "N" => Some(false),
            "1" | "Y" => Some(true),
            _ => None,
        }
    }

    /// Names in a folder, sorted; nothing where there is no such folder.
    pub(crate) fn names(&self, path: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.at(path)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
        names.sort_unstable();
        names
    }

    /// Where a folder really is, with links followed.
    pub(crate) fn real(&self, path: &str) -> Option<PathBuf> {
        fs::canonicalize(self.at(path)).ok()
    }

    fn at(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }
}
