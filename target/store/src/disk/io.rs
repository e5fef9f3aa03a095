//! What a pool asks of a device, and how it is told what became of it. The pool does no I/O itself: a reactor, a
//! thread or a simulated disk carries these operations out.

use std::fmt;

use crate::PoolMemory;

/// Names one operation of one pool while it is under way.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct DiskToken(pub(super) u64);

impl DiskToken {
    /// Wraps a number that came from [`Self::raw`].
    pub fn from_raw(raw: u64) -> DiskToken {
        DiskToken(raw)
    }

    /// As a number, to travel through an interface that knows numbers only.
    pub fn raw(self) -> u64 {
        self.0
    }
}

impl fmt::Debug for DiskToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiskToken({:#x})", self.0)
    }
}

/// A piece of the pool's arena: bytes from its start, both multiples of 4096.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Where it begins.
    pub offset: usize,
    /// How long it is.
    pub len: usize,
}

/// Parts of one operation at most: what one vectored system call takes is 1024.
pub const PARTS_MAX: usize = 512;

/// An operation on the device. `offset` is in bytes from its start and a multiple of 4096; the parts lie on the device one
/// after the other. They belong to whoever carries the operation out until it is reported done, and come back then.
/// Operations that are under way at the same time may be done in any order.
#[derive(Debug)]
#[expect(missing_docs, reason = "the fields mean the same in every variant and are explained above")]
pub enum DiskOp {
    /// Reads into the parts.
    Read { token: DiskToken, offset: u64, parts: Vec<Part> },
    /// Writes the parts.
    Write { token: DiskToken, offset: u64, parts: Vec<Part> },
    /// Makes everything durable that was reported written before this operation was given out.
    Flush { token: DiskToken },
}

impl DiskOp {
    /// Its token.
    pub fn token(&self) -> DiskToken {
        match self {
            DiskOp::Read { token, .. } | DiskOp::Write { token, .. } | DiskOp::Flush { token } => *token,
        }
    }

    /// Carries it out at once, by one call of the device; `memory` is the arena of the pool that asks for it.
    pub fn carry_out(self, device: &impl Device, memory: &mut impl PoolMemory) -> DiskDone {
        let (token, parts, result) = match self {
            DiskOp::Read { token, offset, parts } => {
                let mut bytes = vec![0; parts.iter().map(|part| part.len).sum()];
                let result = device.read_at(offset, &mut bytes);
                let mut rest = bytes.as_slice();
                for part in &parts {
                    let (from, after) = rest.split_at_checked(part.len).unwrap_or_default();
                    let to = memory.slice_mut(part.offset, part.len);
                    debug_assert!(to.is_some(), "{part:?} is not in the arena");
                    if let Some(to) = to {
                        to.copy_from_slice(from);
                    }
                    rest = after;
                }
                (token, parts, result)
            }
            DiskOp::Write { token, offset, parts } => {
                let mut bytes = Vec::new();
                for part in &parts {
                    let from = memory.slice(part.offset, part.len);
                    debug_assert!(from.is_some(), "{part:?} is not in the arena");
                    bytes.extend_from_slice(from.unwrap_or_default());
                }
                (token, parts, device.write_at(offset, &bytes))
            }
            DiskOp::Flush { token } => (token, Vec::new(), device.flush()),
        };
        DiskDone { token, parts, result }
    }
}

/// The end of a [`DiskOp`]; each has exactly one.
#[derive(Debug)]
pub struct DiskDone {
    /// Which.
    pub token: DiskToken,
    /// As given, for reuse; empty for a Flush.
    pub parts: Vec<Part>,
    /// How it went. A transfer that fell short and could not be finished has failed.
    pub result: Result<(), DiskError>,
}

/// Why a device could not do what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// The device reported an error, or did only a part.
    #[error("the device reported an I/O error")]
    Io,
    /// A file could not get the space that it was promised.
    #[error("there is no space left beneath the pool")]
    NoSpace,
    /// The device is not there any more.
    #[error("the device is gone")]
    Gone,
}

/// A device on which one operation at a time is carried out, for threads that make, open or check a pool.
pub trait Device {
    /// Bytes that it has.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` from `offset`; both are multiples of 4096.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError>;

    /// Writes `from` at `offset`; both are multiples of 4096.
    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), DiskError>;

    /// Makes durable what was written before.
    fn flush(&self) -> Result<(), DiskError>;
}
