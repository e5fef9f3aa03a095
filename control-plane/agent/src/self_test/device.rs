//! What a self-test asks of a device, whatever it is attached by.

use std::fs::File;
use std::io;

use super::{SelfTestError, nvme, scsi};

/// Bytes of a tuple with a 16-bit guard.
pub(super) const TUPLE_BYTES: usize = 8;

/// How a device's blocks look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) blocks: u64,
    pub(super) block_bytes: usize,
    pub(super) pi_type: u8,
}

/// The tag that a check found wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Guard,
    Reference,
}

/// What a device says to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    Done,
    /// A check failed; with the status as the specification names it.
    Caught(Tag, String),
    /// Any other refusal.
    Refused(String),
}

/// Whether the target looks at what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Checks {
    None,
    All,
}

/// An open device with tuples behind its blocks.
#[derive(Debug)]
pub(super) enum Device {
    Nvme(nvme::Namespace),
    Scsi(scsi::Disk),
}

impl Device {
    /// Finds out what `file` is; `name` is for what goes wrong.
    pub(super) fn identify(file: File, name: &str) -> Result<(Self, Layout), SelfTestError> {
        let unfit = |reason| SelfTestError::Unfit { device: name.to_owned(), reason };
        match nvme::Namespace::find(&file) {
            Ok(nsid) => {
                let (namespace, layout) = nvme::Namespace::identify(file, nsid, name)?;
                Ok((Self::Nvme(namespace), layout))
            }
            Err(_) if scsi::Disk::find(&file) => {
                let (disk, layout) = scsi::Disk::identify(file, name)?;
                Ok((Self::Scsi(disk), layout))
            }
            Err(error) => Err(unfit(format!("neither an NVMe namespace nor a SCSI disk ({error})"))),
        }
    }

    /// Reads the block and its tuple, whatever they are.
    pub(super) fn read(&self, lba: u64, block: &mut [u8]) -> io::Result<Answer> {
        match self {
            Self::Nvme(namespace) => namespace.read(lba, block),
            Self::Scsi(disk) => disk.read(lba, block),
        }
    }

    /// Writes the block and its tuple.
    pub(super) fn write(&self, lba: u64, checks: Checks, block: &mut [u8]) -> io::Result<Answer> {
        match self {
            Self::Nvme(namespace) => namespace.write(lba, checks, block),
            Self::Scsi(disk) => disk.write(lba, checks, block),
        }
    }
}
