//! Receive buffers: a provided-buffer ring from which the kernel takes one when data is there, so that an idle
//! connection holds no memory. A buffer is delivered to the service and given back in the same turn.

use std::io;
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

use crate::ring::Ring;

/// Size of one receive buffer: measured as good as larger ones, and 128 of them stay near the second-level cache.
const RECEIVE_BUFFER_LEN: u32 = 32 * 1024;

/// The same, for addresses.
const RECEIVE_BUFFER_BYTES: usize = RECEIVE_BUFFER_LEN as usize;

/// Receive buffers of one reactor unless configured otherwise: 4 MiB.
pub(crate) const RECEIVE_BUFFERS_DEFAULT: u16 = 128;

/// Most buffers that the kernel's ring can hold.
pub(crate) const RECEIVE_BUFFERS_MAX: u16 = 1 << 15;

/// The buffer group that every receive of a reactor draws from.
pub(crate) const BUFFER_GROUP: u16 = 0;

/// The ring of provided buffers and their memory.
pub(crate) struct Buffers {
    entries: Pages,
    data: Pages,
    count: u16,
    tail: u16,
}

impl Buffers {
    /// Maps `count` buffers (a power of two, at most [`RECEIVE_BUFFERS_MAX`]) and registers them with `ring`.
    ///
    /// The value must outlive every receive of the ring: the owner drains the ring before dropping it.
    pub(crate) fn register(ring: &Ring, count: u16) -> io::Result<Buffers> {
        if !count.is_power_of_two() || count > RECEIVE_BUFFERS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "receive buffers: not a power of two"));
        }
        let entries = Pages::map(usize::from(count) * size_of::<BufRingEntry>())?;
        let data = Pages::map(usize::from(count) * RECEIVE_BUFFER_BYTES)?;
        // SAFETY: the entries are mapped, page-aligned and of the announced length, and stay so until the ring has no
        // receive left (see above).
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                entries.base.as_ptr().expose_provenance() as u64,
                count,
                BUFFER_GROUP,
                0,
            )?;
        }
        let mut buffers = Buffers { entries, data, count, tail: 0 };
        for id in 0..count {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// The first `len` bytes of buffer `id`, which the kernel has filled and handed over.
    /// `None` if the kernel named a buffer or length that does not exist.
    pub(crate) fn filled(&self, id: u16, len: usize) -> Option<&[u8]> {
        if id >= self.count || len > RECEIVE_BUFFER_BYTES {
            return None;
        }
        // SAFETY: the range is inside the mapping, initialised (the pages began as zeros), and the kernel does not write
        // to it until it is given back, for which the caller needs this value mutably.
        unsafe {
            let start = self.data.base.as_ptr().add(usize::from(id) * RECEIVE_BUFFER_BYTES);
            Some(slice::from_raw_parts(start, len))
        }
    }

    /// Lets the kernel fill buffer `id` again.
    pub(crate) fn give_back(&mut self, id: u16) {
        if id >= self.count {
            debug_assert!(false, "a buffer that does not exist was given back");
            return;
        }
        let slot = usize::from(self.tail & (self.count - 1));
        let base = self.entries.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `slot` is below the number of mapped entries, and the slot behind the tail is ours until the tail moves
        // past it. The setters write address, length and number only, not the tail that shares entry 0.
        unsafe {
            let entry = &mut *base.add(slot);
            let start = self.data.base.as_ptr().add(usize::from(id) * RECEIVE_BUFFER_BYTES);
            entry.set_addr(start.expose_provenance() as u64);
            entry.set_len(RECEIVE_BUFFER_LEN);
            entry.set_bid(id);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry, which is mapped, aligned, and written by this thread alone.
        unsafe {
            let tail = BufRingEntry::tail(base.cast_const()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }
}

/// Anonymous, zero-filled pages.
struct Pages {
    base: NonNull<u8>,
    len: usize,
}

impl Pages {
    fn map(len: usize) -> io::Result<Pages> {
        // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
        let base = unsafe {
            mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::READ | ProtFlags::WRITE, MapFlags::PRIVATE)?
        };
        let base =
            NonNull::new(base.cast::<u8>()).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        Ok(Pages { base, len })
    }
}

impl Drop for Pages {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nobody holds a reference into it: they borrow from its owner.
        let unmapped = unsafe { munmap(self.base.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "own pages could not be unmapped");
    }
}
