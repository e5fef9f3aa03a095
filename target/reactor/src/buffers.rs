//! Receive buffers, shared by all sockets: one is taken when data is there, so that an idle connection holds no memory. With
//! io_uring the kernel takes them out of a ring of provided buffers, with epoll the reactor does so itself.
//! A filled buffer becomes the service's, as a [`Received`], for as long as it keeps that.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::ptr::NonNull;
use std::rc::Rc;
use std::slice;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

/// Size of one receive buffer: measured as good as larger ones, and 128 of them stay near the second-level cache.
const RECEIVE_BUFFER_LEN: u32 = 32 * 1024;

/// The same, for addresses.
const RECEIVE_BUFFER_BYTES: usize = RECEIVE_BUFFER_LEN as usize;

/// Receive buffers of one reactor unless configured otherwise: 4 MiB.
pub(crate) const RECEIVE_BUFFERS_DEFAULT: u16 = 128;

/// Most buffers that the kernel's ring can hold.
pub(crate) const RECEIVE_BUFFERS_MAX: u16 = 1 << 15;

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

/// The buffers' memory, and which are free. Kept alive by every buffer that is lent, and by the reactor until the kernel
/// has let go of it.
pub(crate) struct BufferPool {
    data: Pages,
    count: u16,
    /// Buffers that are neither lent nor named in a completion that was not taken yet; the kernel may have filled some
    /// of them already.
    free: Cell<u16>,
    supply: Supply,
}

/// Who takes the free buffers.
enum Supply {
    /// The kernel: a ring of provided buffers, by the io_uring interface `IORING_REGISTER_PBUF_RING`.
    Ring { entries: Pages, tail: Cell<u16> },
    /// The reactor: the one that was used last is still in the cache, so it goes first.
    Stack(RefCell<Vec<u16>>),
}

impl BufferPool {
    /// `count` buffers (a power of two, at most [`RECEIVE_BUFFERS_MAX`]) for an io_uring to fill.
    pub(crate) fn for_ring(count: u16) -> io::Result<Rc<BufferPool>> {
        let entries = Pages::map(usize::from(count) * size_of::<BufRingEntry>())?;
        BufferPool::new(count, Supply::Ring { entries, tail: Cell::new(0) })
    }

    /// `count` buffers (a power of two, at most [`RECEIVE_BUFFERS_MAX`]) for [`BufferPool::fill`].
    pub(crate) fn for_poller(count: u16) -> io::Result<Rc<BufferPool>> {
        BufferPool::new(count, Supply::Stack(RefCell::new(Vec::with_capacity(usize::from(count)))))
    }

    fn new(count: u16, supply: Supply) -> io::Result<Rc<BufferPool>> {
        if !count.is_power_of_two() || count > RECEIVE_BUFFERS_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "receive buffers: not a power of two"));
        }
        let data = Pages::map(usize::from(count) * RECEIVE_BUFFER_BYTES)?;
        let pool = BufferPool { data, count, free: Cell::new(0), supply };
        for id in 0..count {
            pool.give_back(id);
        }
        Ok(Rc::new(pool))
    }

    /// Address and number of the entries of the ring of provided buffers. They live as long as the pool.
    pub(crate) fn ring_entries(&self) -> (u64, u16) {
        match &self.supply {
            Supply::Ring { entries, .. } => (entries.base.as_ptr().expose_provenance() as u64, self.count),
            Supply::Stack(_) => (0, 0),
        }
    }

    /// Buffers that are not lent; see [`BufferPool::lend`].
    pub(crate) fn free_count(&self) -> usize {
        usize::from(self.free.get())
    }

    /// Fills a free buffer by `fill`, which says how many bytes it has put there, and takes it out of the free ones if
    /// they are any. `None` if there is no free buffer.
    pub(crate) fn fill(
        &self,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Option<Result<(u16, usize), Errno>> {
        let Supply::Stack(stack) = &self.supply else { return None };
        let id = *stack.borrow().last()?;
        // SAFETY: the range is inside the mapping and initialised; and nobody refers to a free buffer.
        let bytes = unsafe { slice::from_raw_parts_mut(self.start(id), RECEIVE_BUFFER_BYTES) };
        let filled = fill(bytes);
        if filled.is_ok_and(|len| len > 0) {
            stack.borrow_mut().pop();
            self.free.set(self.free.get().saturating_sub(1));
        }
        Some(filled.map(|len| (id, len)))
    }

    /// Makes a lent buffer of `id`, into which `len` bytes were filled. `None` if there is no such buffer or length.
    ///
    /// # Safety
    ///
    /// Called once for each time that the buffer was filled.
    pub(crate) unsafe fn lend(self: &Rc<Self>, id: u16, len: usize) -> Option<Received> {
        if id >= self.count || len > RECEIVE_BUFFER_BYTES {
            return None;
        }
        if let Supply::Ring { .. } = &self.supply {
            self.free.set(self.free.get().saturating_sub(1));
        }
        Some(Received { pool: Rc::clone(self), id, len })
    }

    /// Lets buffer `id`, to which nobody refers, be filled again.
    fn give_back(&self, id: u16) {
        self.free.set(self.free.get().saturating_add(1));
        match &self.supply {
            Supply::Ring { entries, tail } => self.provide(entries, tail, id),
            Supply::Stack(stack) => stack.borrow_mut().push(id),
        }
    }

    /// Puts buffer `id` behind the tail of the ring of provided buffers.
    fn provide(&self, entries: &Pages, tail: &Cell<u16>, id: u16) {
        let slot = usize::from(tail.get() & (self.count - 1));
        let base = entries.base.as_ptr().cast::<BufRingEntry>();
        // SAFETY: `slot` is below the number of mapped entries, and the slot behind the tail is ours until the tail moves
        // past it. The setters write address, length and number only, not the tail that shares entry 0.
        unsafe {
            let entry = &mut *base.add(slot);
            entry.set_addr(self.start(id).expose_provenance() as u64);
            entry.set_len(RECEIVE_BUFFER_LEN);
            entry.set_bid(id);
        }
        tail.set(tail.get().wrapping_add(1));
        // SAFETY: the tail lies in the first entry, which is mapped, aligned, and written by this thread alone.
        unsafe {
            let place = BufRingEntry::tail(base.cast_const()).cast_mut();
            AtomicU16::from_ptr(place).store(tail.get(), Ordering::Release);
        }
    }

    /// Where buffer `id`, which exists, begins.
    fn start(&self, id: u16) -> *mut u8 {
        debug_assert!(id < self.count, "a buffer that does not exist");
        // SAFETY: every `id` here was checked by `lend` or counted by `new`, so the offset is inside the mapping.
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
