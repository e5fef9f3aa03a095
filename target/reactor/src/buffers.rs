//! Receive buffers: a provided-buffer ring from which the kernel takes one when data is there, so that an idle
//! connection holds no memory. A filled buffer becomes the service's, as a [`Received`], for as long as it keeps that.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
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

/// Bytes of one socket's stream, in the buffer that the kernel put them into. The service may keep it over turns and work
/// through it in portions; dropping it gives the buffer back. A reactor has few of them ([`crate::ReactorConfig`]): while
/// all are kept, no socket receives.
pub struct Received {
    pool: Rc<BufferPool>,
    id: u16,
    len: usize,
}

impl Deref for Received {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the range is inside the mapping (checked by `lend`), which lives as long as the pool; it is initialised
        // (the pages began as zeros), and the kernel does not write to it before this value gives it back.
        unsafe { slice::from_raw_parts(self.pool.start(self.id).cast_const(), self.len) }
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.pool.give_back(self.id);
    }
}

impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({} bytes)", self.len)
    }
}

/// The ring of provided buffers and their memory. Kept alive by every buffer that is lent, and by the reactor until the
/// kernel has let go of it.
pub(crate) struct BufferPool {
    entries: Pages,
    data: Pages,
    count: u16,
    tail: Cell<u16>,
    /// Buffers that the service has.
    lent: Cell<u16>,
}

impl BufferPool {
    /// Maps `count` buffers (a power of two, at most [`RECEIVE_BUFFERS_MAX`]) and registers them with `ring`.
    ///
    /// The value must outlive every receive of the ring: the owner drains the ring before dropping it.
    pub(crate) fn register(ring: &Ring, count: u16) -> io::Result<Rc<BufferPool>> {
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
        let pool = BufferPool { entries, data, count, tail: Cell::new(0), lent: Cell::new(count) };
        for id in 0..count {
            pool.give_back(id);
        }
        Ok(Rc::new(pool))
    }

    /// Takes buffer `id` over from the kernel, which has filled `len` bytes of it and named it in a completion.
    /// `None` if there is no such buffer or length.
    ///
    /// # Safety
    ///
    /// Called once for each completion that names the buffer.
    pub(crate) unsafe fn lend(self: &Rc<Self>, id: u16, len: usize) -> Option<Received> {
        if id >= self.count || len > RECEIVE_BUFFER_BYTES {
            return None;
        }
        self.lent.set(self.lent.get().saturating_add(1));
        Some(Received { pool: Rc::clone(self), id, len })
    }

    /// Buffers that the kernel can fill, if `unread` completions may name one each.
    pub(crate) fn available(&self, unread: usize) -> usize {
        usize::from(self.count.saturating_sub(self.lent.get())).saturating_sub(unread)
    }

    /// Lets the kernel fill buffer `id` again, which nobody refers to.
    fn give_back(&self, id: u16) {
        self.lent.set(self.lent.get().saturating_sub(1));
        let tail = self.tail.get();
        let slot = usize::from(tail & (self.count - 1));
        let base = self.entries.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `slot` is below the number of mapped entries, and the slot behind the tail is ours until the tail moves
        // past it. The setters write address, length and number only, not the tail that shares entry 0.
        unsafe {
            let entry = &mut *base.add(slot);
            entry.set_addr(self.start(id).expose_provenance() as u64);
            entry.set_len(RECEIVE_BUFFER_LEN);
            entry.set_bid(id);
        }
        self.tail.set(tail.wrapping_add(1));
        // SAFETY: the tail lies in the first entry, which is mapped, aligned, and written by this thread alone.
        unsafe {
            let place = BufRingEntry::tail(base.cast_const()).cast_mut();
            AtomicU16::from_ptr(place).store(self.tail.get(), Ordering::Release);
        }
    }

    /// Where buffer `id`, which exists, begins.
    fn start(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.count, "a buffer that does not exist");
        // SAFETY: every `id` here was checked by `lend` or counted by `register`, so the offset is inside the mapping.
        unsafe { self.data.base.as_ptr().add(usize::from(id) * RECEIVE_BUFFER_BYTES) }
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
