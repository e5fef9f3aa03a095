//! Small files that must survive a crash: written beside, flushed, renamed over. Each begins with a line that carries
//! magic, version, length and checksum; what does not match is an error, never half believed.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use holdfast_pi::{GuardKind, guard_of};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    /// The system refused.
    #[error("{path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The contents are not what was written.
    #[error("{path}: {detail}; move the file away to start without it")]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        detail: &'static str,
    },
}

impl FileError {
    /// Whether the disk is full.
    pub(crate) fn is_no_room(&self) -> bool {
        matches!(self, FileError::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
    }
}

/// Replaces the contents of a file by these parts: written beside, flushed, renamed over. Durable when it returns.
pub(crate) fn replace(path: &Path, parts: &[&[u8]]) -> std::io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    for part in parts {
        file.write_all(part)?;
    }
    file.sync_all()?;
    fs::rename(&fresh, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

/// One kind of state file.
#[derive(Debug, Clone)]
pub(crate) struct StateFile {
    path: PathBuf,
    magic: &'static str,
    version: u32,
}

impl StateFile {
    /// The file `name` in `folder`, whose contents are of this kind and version.
    pub(crate) fn new(folder: &Path, name: &str, magic: &'static str, version: u32) -> Self {
        StateFile { path: folder.join(name), magic, version }
    }

    /// Replaces the contents; durable when it returns.
    pub(crate) fn write<T: Serialize>(&self, value: &T) -> Result<(), FileError> {
        let body = serde_json::to_vec(value)
            .map_err(|error| self.io(std::io::Error::new(ErrorKind::InvalidData, error)))?;
        let head = self.head(&body);
        replace(&self.path, &[head.as_bytes(), &body]).map_err(|error| self.io(error))
    }

    /// The contents; `None` if there is no such file yet.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<Option<T>, FileError> {
        let bytes = match fs::read(&self.path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.io(error)),
        };
        let end = bytes.iter().position(|byte| *byte == b'\n').ok_or(self.damaged("no header"))?;
        let (head, body) = bytes.split_at_checked(end + 1).ok_or(self.damaged("no header"))?;
        if head != self.head(body).as_bytes() {
            return Err(self.damaged("the header does not match the contents"));
        }
        serde_json::from_slice(body).map(Some).map_err(|_| self.damaged("the contents cannot be read"))
    }

    fn head(&self, body: &[u8]) -> String {
        let checksum = guard_of(GuardKind::Crc64, body);
        format!("{} {} {} {checksum:016x}\n", self.magic, self.version, body.len())
    }

    fn io(&self, source: std::io::Error) -> FileError {
        FileError::Io { path: self.path.clone(), source }
    }

    fn damaged(&self, detail: &'static str) -> FileError {
        FileError::Damaged { path: self.path.clone(), detail }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_back_and_any_changed_byte_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::new(folder.path(), "x.json", "holdfast-test", 1);
        assert_eq!(file.read::<Vec<u32>>().unwrap(), None);
        file.write(&vec![1_u32, 2, 3]).unwrap();
        assert_eq!(file.read::<Vec<u32>>().unwrap(), Some(vec![1, 2, 3]));
        let path = folder.path().join("x.json");
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(file.read::<Vec<u32>>().is_err(), "byte {at}");
        }
    }
}
