//! What a send carries. Responses of a connection are gathered into one batch and leave by one system call: a send costs
//! about as much as eight 4 KiB responses, so batches of 8 to 16 responses are best.

use libc::iovec;

use crate::regions::{RegionId, RegionTable};

/// Most vectors that the kernel takes in one call (`IOV_MAX`). Longer batches leave in several sends.
pub(crate) const VECTORS_MAX: usize = 1024;

/// The zeros that every zero segment is gathered from, as often as needed.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// An ordered gathering of bytes: copied ones, ranges of registered regions, zeros and owned buffers. Its memory is
/// reused: pushing into a cleared batch that was as long before allocates nothing (owned buffers aside).
#[derive(Debug, Default)]
pub struct SendBatch {
    inline: Vec<u8>,
    owned: Vec<Vec<u8>>,
    segments: Vec<Segment>,
    len_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Segment {
    /// A range of the batch's own arena.
    Inline {
        start: usize,
        len: usize,
    },
    Region {
        id: RegionId,
        offset: usize,
        len: usize,
    },
    Zeros {
        len: usize,
    },
    Owned {
        index: usize,
        len: usize,
    },
}

impl SendBatch {
    /// An empty batch.
    pub fn new() -> SendBatch {
        SendBatch::default()
    }

    /// Appends a copy of `bytes`. Neighbouring copies become one segment.
    pub fn push_inline(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let start = self.inline.len();
        self.inline.extend_from_slice(bytes);
        self.len_bytes = self.len_bytes.saturating_add(bytes.len());
        if let Some(Segment::Inline { len, .. }) = self.segments.last_mut() {
            *len += bytes.len();
        } else {
            self.segments.push(Segment::Inline { start, len: bytes.len() });
        }
    }

    /// Appends `len` bytes at `offset` of a region, read when they are sent. Neighbours become one segment.
    /// A range that is not inside its region is refused when the batch is sent.
    pub fn push_region(&mut self, id: RegionId, offset: usize, len: usize) {
        if len == 0 {
            return;
        }
        self.len_bytes = self.len_bytes.saturating_add(len);
        if let Some(Segment::Region { id: last, offset: from, len: so_far }) = self.segments.last_mut()
            && *last == id
            && from.checked_add(*so_far) == Some(offset)
            && let Some(together) = so_far.checked_add(len)
        {
            *so_far = together;
        } else {
            self.segments.push(Segment::Region { id, offset, len });
        }
    }

    /// Appends `len` zero bytes; they occupy no memory.
    pub fn push_zeros(&mut self, len: usize) {
        if len == 0 {
            return;
        }
        self.len_bytes = self.len_bytes.saturating_add(len);
        match self.segments.last_mut() {
            Some(Segment::Zeros { len: so_far }) => *so_far = so_far.saturating_add(len),
            _ => self.segments.push(Segment::Zeros { len }),
        }
    }

    /// Appends a buffer that the batch takes over; it is freed when the batch is cleared.
    pub fn push_owned(&mut self, bytes: impl Into<Vec<u8>>) {
        let bytes: Vec<u8> = bytes.into();
        if bytes.is_empty() {
            return;
        }
        self.len_bytes = self.len_bytes.saturating_add(bytes.len());
        self.segments.push(Segment::Owned { index: self.owned.len(), len: bytes.len() });
        self.owned.push(bytes);
    }

    /// Bytes on the wire.
    pub fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Segments, after merging.
    pub fn segment_count(&self) -> usize {
        self.segments.len()
    }

    /// Whether there is nothing to send.
    pub fn is_empty(&self) -> bool {
        self.len_bytes == 0
    }

    /// Empties the batch and keeps its memory for the next filling.
    pub fn clear(&mut self) {
        self.inline.clear();
        self.owned.clear();
        self.segments.clear();
        self.len_bytes = 0;
    }

    /// Counts every region segment as in use. `false`, and nothing counted, if one of them cannot be read.
    pub(crate) fn acquire_regions(&self, regions: &mut RegionTable) -> bool {
        for (position, segment) in self.segments.iter().enumerate() {
            if let Segment::Region { id, offset, len } = *segment
                && !regions.acquire(id, offset, len)
            {
                release(self.segments.iter().take(position), regions);
                return false;
            }
        }
        true
    }

    /// Takes back [`SendBatch::acquire_regions`].
    pub(crate) fn release_regions(&self, regions: &mut RegionTable) {
        release(self.segments.iter(), regions);
    }

    /// Fills `vectors` with what lies behind `cursor`, up to [`VECTORS_MAX`]. The batch's regions are acquired.
    pub(crate) fn gather(&self, regions: &RegionTable, cursor: Cursor, vectors: &mut Vec<iovec>) {
        vectors.clear();
        let mut done = cursor.consumed;
        for segment in self.segments.iter().skip(cursor.segment) {
            let len = segment.len();
            while done < len {
                if vectors.len() == VECTORS_MAX {
                    return;
                }
                let Some(piece) = self.piece(regions, segment, done) else {
                    debug_assert!(false, "a segment was checked when sent and is gone");
                    return;
                };
                done += piece.iov_len;
                vectors.push(piece);
            }
            done = 0;
        }
    }

    /// One vector of `segment` behind its first `done` bytes.
    fn piece(&self, regions: &RegionTable, segment: &Segment, done: usize) -> Option<iovec> {
        let rest = segment.len().checked_sub(done)?;
        let (base, len) = match *segment {
            Segment::Inline { start, .. } => (self.inline.get(start + done..)?.as_ptr(), rest),
            Segment::Region { id, offset, .. } => {
                (regions.pointer(id, offset.checked_add(done)?, rest)?, rest)
            }
            Segment::Zeros { .. } => (ZEROS.as_ptr(), rest.min(ZEROS.len())),
            Segment::Owned { index, .. } => (self.owned.get(index)?.get(done..)?.as_ptr(), rest),
        };
        Some(iovec { iov_base: base.cast_mut().cast(), iov_len: len })
    }
}

impl Segment {
    fn len(&self) -> usize {
        match *self {
            Segment::Inline { len, .. }
            | Segment::Region { len, .. }
            | Segment::Zeros { len }
            | Segment::Owned { len, .. } => len,
        }
    }
}

fn release<'a>(segments: impl Iterator<Item = &'a Segment>, regions: &mut RegionTable) {
    for segment in segments {
        if let Segment::Region { id, .. } = *segment {
            regions.release(id);
        }
    }
}

/// How far a batch has been sent: whole segments, and bytes of the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    segment: usize,
    consumed: usize,
}

impl Cursor {
    /// Moves on by `sent` bytes of `batch`. Whether the batch is out.
    pub(crate) fn advance(&mut self, batch: &SendBatch, sent: usize) -> bool {
        self.consumed = self.consumed.saturating_add(sent);
        while let Some(segment) = batch.segments.get(self.segment) {
            if self.consumed < segment.len() {
                return false;
            }
            self.consumed -= segment.len();
            self.segment += 1;
        }
        debug_assert_eq!(self.consumed, 0, "more was sent than there was");
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mapping;

    #[test]
    fn neighbours_merge_and_others_do_not() {
        let mut table = RegionTable::default();
        let mapping = Mapping::create("merge", 65536).unwrap();
        let id = table.register(mapping.region());
        let mut batch = SendBatch::new();
        batch.push_inline(b"ab");
        batch.push_inline(b"");
        batch.push_inline(b"cd");
        assert_eq!(batch.segment_count(), 1);
        batch.push_region(id, 0, 4096);
        batch.push_region(id, 4096, 8);
        batch.push_region(id, 5000, 8);
        assert_eq!(batch.segment_count(), 3);
        batch.push_zeros(10);
        batch.push_zeros(10);
        batch.push_owned(vec![1, 2, 3]);
        batch.push_owned(Vec::new());
        assert_eq!(batch.segment_count(), 5);
        assert_eq!(batch.len_bytes(), 4 + 4096 + 8 + 8 + 20 + 3);
        batch.clear();
        assert!(batch.is_empty());
        assert_eq!(batch.segment_count(), 0);
    }

    #[test]
    fn cursor_resumes_at_any_byte() {
        let table = RegionTable::default();
        let mut batch = SendBatch::new();
        batch.push_inline(b"head");
        batch.push_zeros(ZEROS.len() + 5);
        batch.push_owned(*b"tail");
        let total = batch.len_bytes();
        let mut vectors = Vec::new();
        for step in [1, 3, 4, 7, 65_536, total] {
            let mut cursor = Cursor::default();
            let mut left = total;
            loop {
                batch.gather(&table, cursor, &mut vectors);
                assert_eq!(vectors.iter().map(|v| v.iov_len).sum::<usize>(), left);
                let sent = step.min(left);
                left -= sent;
                if cursor.advance(&batch, sent) {
                    break;
                }
            }
            assert_eq!(left, 0);
        }
    }

    #[test]
    fn a_bad_range_acquires_nothing() {
        let mut table = RegionTable::default();
        let mapping = Mapping::create("acquire", 4096).unwrap();
        let id = table.register(mapping.region());
        let mut batch = SendBatch::new();
        batch.push_region(id, 0, 4096);
        batch.push_inline(b"x");
        batch.push_region(id, 4000, 97);
        assert!(!batch.acquire_regions(&mut table));
        assert!(table.unregister(id));
        assert!(table.pointer(id, 0, 1).is_none(), "freed at once: nothing was left acquired");
    }
}
