//! The receive buffer of one connection. What comes is taken apart in place.

use std::io::{ErrorKind, Read};

use anyhow::{Result, bail};

/// About sixty responses of 4 KiB in one read.
const BUFFER_LEN: usize = 256 << 10;
/// Room that a read ought to find; with less, what is left is moved to the buffer's start.
const ROOM_MIN: usize = 64 << 10;

/// What a read found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Nothing is there.
    Nothing,
    /// Something, and the socket is empty now.
    All,
    /// Something, and probably more.
    Some,
}

/// Bytes that have come and have not been taken.
pub(crate) struct Inbox {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Default for Inbox {
    fn default() -> Self {
        Self { buffer: vec![0; BUFFER_LEN], start: 0, end: 0 }
    }
}

impl Inbox {
    /// Reads once from the socket.
    pub(crate) fn fill(&mut self, mut socket: impl Read) -> Result<Filled> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if BUFFER_LEN.saturating_sub(self.end) < ROOM_MIN {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end.saturating_sub(self.start));
        }
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let room_len = room.len();
        match socket.read(room) {
            Ok(0) => bail!("the target closed the connection"),
            Ok(len) => {
                self.end = self.end.saturating_add(len);
                Ok(if len < room_len { Filled::All } else { Filled::Some })
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                Ok(Filled::Nothing)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What has come.
    pub(crate) fn unread(&self) -> &[u8] {
        self.buffer.get(self.start..self.end).unwrap_or_default()
    }

    /// Takes the next bytes, at most `len` of them.
    pub(crate) fn take(&mut self, len: usize) -> &[u8] {
        let at = self.start;
        self.start = at.saturating_add(len).min(self.end);
        self.buffer.get(at..self.start).unwrap_or_default()
    }
}
