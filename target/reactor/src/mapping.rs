//! Mappings: memory behind a descriptor (memfd), shared with nobody who writes, and kept by whoever holds the descriptor.
//! A target that is killed leaves its pool's bytes in the page cache exactly as its last store left them; the next target
//! gets the descriptor (see [`crate::handover`]) and maps the same bytes again.
//!
//! What is seen after a kill: each store that the processor had retired, in program order as far as a release store
//! orders it. So a writer fills in data with [`Mapping::slice_mut`], then calls [`Mapping::publish_u64`]: a reader that
//! finds the published value finds the data that was written before it. There is no other ordering.
//!
//! Soundness: a descriptor is mapped at most once in a process (a table of mapped files refuses a second time), the file
//! cannot shrink (sealed), and the appliance gives a pool's descriptor to one running target only: the holder keeps it
//! without mapping it, and nobody writes through the descriptor. Under these the usual borrow rules of [`Mapping`] hold
//! for its bytes.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::NonNull;
use std::slice;
use std::sync::atomic::{AtomicU64, Ordering, compiler_fence};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::mm::{Advice, MapFlags, ProtFlags};

/// Bytes of a large page, and of a stretch of memory that can become one.
pub const LARGE_PAGE_LEN: usize = 2 << 20;

/// Bytes of an ordinary page.
const PAGE_LEN: usize = 4096;

/// Width of a value that is published by one store.
const WORD_BYTES: usize = size_of::<u64>();

/// Files (device, inode) that this process has mapped, so that no two mappings alias.
static MAPPED: Mutex<BTreeSet<(u64, u64)>> = Mutex::new(BTreeSet::new());

/// A shared, writable mapping of a sealed memfd. Offsets and lengths are bytes.
#[derive(Debug)]
pub struct Mapping {
    span: Arc<Span>,
    fd: OwnedFd,
}

/// A handle that keeps a mapping alive and lets sends read from it; it gives no access to the bytes.
#[derive(Clone, Debug)]
pub struct Region {
    span: Arc<Span>,
}

impl Mapping {
    /// Makes a sparse memfd of `len` zero bytes, which cannot shrink, and maps it. `name` shows in `/proc` only.
    pub fn create(name: &str, len: usize) -> io::Result<Mapping> {
        let fd = rustix::fs::memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let file_len = u64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        rustix::fs::ftruncate(&fd, file_len)?;
        rustix::fs::fcntl_add_seals(&fd, SealFlags::SHRINK)?;
        Mapping::from_fd(fd)
    }

    /// Maps all of a memfd that [`Mapping::create`] made, perhaps in another process. Its length is the file's.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the file is empty or may shrink (a shrinking file would kill its reader),
    /// `ResourceBusy` if this process has it mapped already, otherwise the kernel's.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Mapping> {
        if !rustix::fs::fcntl_get_seals(&fd)?.contains(SealFlags::SHRINK) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "mapping: the file is not sealed against shrinking",
            ));
        }
        let stat = rustix::fs::fstat(&fd)?;
        let len = usize::try_from(stat.st_size).map_err(|_| io::ErrorKind::InvalidInput)?;
        let claim = Claim::take((stat.st_dev, stat.st_ino))?;
        let reserved = map_aligned(&fd, len)?;
        let base = reserved.base();
        let span = Span { base, len, _reserved: reserved, _claim: claim };
        // Hosts' data stays out of a crashed target's dump.
        // SAFETY: the advice concerns our own mapping, and changes no byte of it.
        unsafe { rustix::mm::madvise(base.as_ptr().cast(), len, Advice::LinuxDontDump)? };
        Ok(Mapping { span: Arc::new(span), fd })
    }

    /// The descriptor, to be stored with a holder or inherited by a successor.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Length in bytes; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a mapping is never empty")]
    pub fn len(&self) -> usize {
        self.span.len
    }

    /// `len` bytes at `offset`; `None` if they are not all inside. Reading a page that was never written, or was punched,
    /// gives zeros but makes the page occupy memory from then on (so does sending it): a thin store does not look there.
    pub fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        let start = self.span.pointer(offset, len)?;
        // SAFETY: the range is mapped for as long as `self.span` lives, its bytes are initialised (file pages), and by the
        // rules in the module's text nobody writes to it while `self` is borrowed shared.
        Some(unsafe { slice::from_raw_parts(start.as_ptr(), len) })
    }

    /// `len` bytes at `offset`, to be written; `None` if they are not all inside.
    ///
    /// A send in flight that reads the same bytes sends a mixture of old and new: the caller does not rewrite what it
    /// has handed to a send before the send is done.
    pub fn slice_mut(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        let start = self.span.pointer(offset, len)?;
        // SAFETY: as in `slice`; and `self` is borrowed exclusively, regions give no access, so the range is referred to
        // by nobody else. The kernel may read it for a send, which is no access of this program's.
        Some(unsafe { slice::from_raw_parts_mut(start.as_ptr(), len) })
    }

    /// The value at `offset` in the machine's byte order; `None` if outside or not aligned to 8.
    /// What was written before the value was published is seen after it.
    pub fn load_u64(&self, offset: usize) -> Option<u64> {
        Some(self.word(offset)?.load(Ordering::Acquire))
    }

    /// Stores `value` at `offset` in one indivisible store, after everything that was written before: a process that maps
    /// the bytes after this one was killed at any instruction sees either the old value, or the new one with all that
    /// preceded it. `None`, and nothing stored, if outside or not aligned to 8.
    pub fn publish_u64(&mut self, offset: usize, value: u64) -> Option<()> {
        let word = self.word(offset)?;
        // The release store keeps earlier writes before it in the processor. The fences keep the compiler from moving or
        // merging plain writes across it, although no other thread of this program reads them.
        compiler_fence(Ordering::SeqCst);
        word.store(value, Ordering::Release);
        compiler_fence(Ordering::SeqCst);
        Some(())
    }

    /// Gives the memory of `len` bytes at `offset` back; they read as zeros. Whole pages are freed, partial ones zeroed.
    ///
    /// # Errors
    ///
    /// `InvalidInput` if the range is not inside, otherwise the kernel's.
    pub fn punch(&mut self, offset: usize, len: usize) -> io::Result<()> {
        if self.span.pointer(offset, len).is_none() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        if len == 0 {
            return Ok(());
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        let offset = u64::try_from(offset).map_err(|_| io::ErrorKind::InvalidInput)?;
        let len = u64::try_from(len).map_err(|_| io::ErrorKind::InvalidInput)?;
        Ok(rustix::fs::fallocate(&self.fd, flags, offset, len)?)
    }

    /// Bytes of memory that the file really occupies.
    pub fn resident_bytes(&self) -> io::Result<u64> {
        let blocks = rustix::fs::fstat(&self.fd)?.st_blocks;
        // The unit of st_blocks is 512 bytes on every file system.
        Ok(u64::try_from(blocks).unwrap_or(0).saturating_mul(512))
    }

    /// A handle for sends.
    pub fn region(&self) -> Region {
        Region { span: Arc::clone(&self.span) }
    }

    fn word(&self, offset: usize) -> Option<&AtomicU64> {
        if !offset.is_multiple_of(WORD_BYTES) {
            return None;
        }
        let start = self.span.pointer(offset, WORD_BYTES)?;
        // SAFETY: the word is mapped while `self.span` lives, and aligned: the base is a page's, the offset a multiple.
        // Plain accesses to it happen through `slice_mut` only, which excludes this borrow.
        Some(unsafe { AtomicU64::from_ptr(start.as_ptr().cast()) })
    }
}

impl Region {
    /// Length in bytes; never zero.
    #[expect(clippy::len_without_is_empty, reason = "a region is never empty")]
    pub fn len(&self) -> usize {
        self.span.len
    }

    /// A handle that does not keep the mapping.
    pub fn downgrade(&self) -> WeakRegion {
        WeakRegion { span: Arc::downgrade(&self.span) }
    }

    /// Puts stretch `index` of [`LARGE_PAGE_LEN`] bytes under one large page, if all of its memory is in use: random
    /// access then costs a shorter walk through the page tables. The bytes stay what they are, also for who reads and writes
    /// them meanwhile, who waits some milliseconds at worst. Since Linux 6.1 this depends on no setting of the machine.
    ///
    /// # Errors
    ///
    /// `Unsupported` where the kernel has no large pages for such memory; others (no large page to be had) may pass.
    pub fn make_large(&self, index: usize) -> io::Result<LargePage> {
        let start = index.checked_mul(LARGE_PAGE_LEN);
        let Some(start) = start.and_then(|offset| self.span.pointer(offset, LARGE_PAGE_LEN)) else {
            return Ok(LargePage::Sparse);
        };
        if !is_resident(start, PAGE_LEN)? || !is_resident(start, LARGE_PAGE_LEN)? {
            return Ok(LargePage::Sparse);
        }
        // SAFETY: the range lies within our own mapping, and this advice changes no byte of it.
        let result = unsafe { libc::madvise(start.as_ptr().cast(), LARGE_PAGE_LEN, libc::MADV_COLLAPSE) };
        if result == 0 {
            return Ok(LargePage::Made);
        }
        let error = io::Error::last_os_error();
        match error.raw_os_error() {
            Some(libc::EINVAL | libc::ENOSYS) => Err(io::ErrorKind::Unsupported.into()),
            _ => Err(error),
        }
    }

    /// Where `len` bytes at `offset` begin, for the kernel to read; `None` if they are not all inside.
    pub(crate) fn pointer(&self, offset: usize, len: usize) -> Option<*const u8> {
        self.span.pointer(offset, len).map(|start| start.as_ptr().cast_const())
    }
}

/// A region that may be gone.
#[derive(Clone, Debug)]
pub struct WeakRegion {
    span: Weak<Span>,
}

impl WeakRegion {
    /// The region, if it is still mapped.
    pub fn upgrade(&self) -> Option<Region> {
        self.span.upgrade().map(|span| Region { span })
    }
}

/// What [`Region::make_large`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LargePage {
    /// The stretch lies in one large page now.
    Made,
    /// A part of it was never written, or lies beyond the end.
    Sparse,
}

/// Whether all pages of a range are in memory. mincore(2).
fn is_resident(start: NonNull<u8>, len: usize) -> io::Result<bool> {
    let mut pages = [0_u8; LARGE_PAGE_LEN / PAGE_LEN];
    let pages = pages.get_mut(..len / PAGE_LEN).unwrap_or_default();
    // SAFETY: the range lies within a mapping of ours, and there is a byte for each of its pages.
    let result = unsafe { libc::mincore(start.as_ptr().cast(), pages.len() * PAGE_LEN, pages.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(pages.iter().all(|page| page & 1 != 0))
}

/// Maps all of a file at an address that large pages can have, within a reservation that is larger by one.
fn map_aligned(fd: &OwnedFd, len: usize) -> io::Result<Reservation> {
    let room = len.checked_add(LARGE_PAGE_LEN).ok_or(io::ErrorKind::OutOfMemory)?;
    // SAFETY: a new mapping at an address of the kernel's choice touches nothing that exists.
    let start = unsafe {
        rustix::mm::mmap_anonymous(std::ptr::null_mut(), room, ProtFlags::empty(), MapFlags::PRIVATE)?
    };
    let reserved =
        Reservation { start: NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?, len: room };
    let flags = MapFlags::SHARED | MapFlags::NORESERVE | MapFlags::FIXED;
    // SAFETY: it takes the place of a part of what was just reserved, to which nothing refers.
    unsafe {
        rustix::mm::mmap(
            reserved.base().as_ptr().cast(),
            len,
            ProtFlags::READ | ProtFlags::WRITE,
            flags,
            fd,
            0,
        )?
    };
    Ok(reserved)
}

/// A stretch of addresses that is ours.
#[derive(Debug)]
struct Reservation {
    start: NonNull<u8>,
    len: usize,
}

impl Reservation {
    /// The first address in it that is a multiple of a large page's length.
    fn base(&self) -> NonNull<u8> {
        let before = self.start.align_offset(LARGE_PAGE_LEN).min(LARGE_PAGE_LEN);
        // SAFETY: the reservation is longer than that.
        unsafe { self.start.add(before) }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: its owner goes, so no slice and no send refers to it any more.
        let unmapped = unsafe { rustix::mm::munmap(self.start.as_ptr().cast(), self.len) };
        debug_assert!(unmapped.is_ok(), "own pages could not be unmapped");
    }
}

/// The mapped range. No reference to the whole of it ever exists.
#[derive(Debug)]
struct Span {
    base: NonNull<u8>,
    len: usize,
    _reserved: Reservation,
    /// After the reservation: a file can be mapped again once it is unmapped.
    _claim: Claim,
}

// SAFETY: the range is plain memory, not tied to a thread; access is governed by the borrows of `Mapping`.
unsafe impl Send for Span {}
// SAFETY: as above; a shared span gives out pointers only, and the references made from them follow `Mapping`'s borrows.
unsafe impl Sync for Span {}

impl Span {
    fn pointer(&self, offset: usize, len: usize) -> Option<NonNull<u8>> {
        if offset.checked_add(len)? > self.len {
            return None;
        }
        // SAFETY: `offset` is at most the length of the mapping, which is one allocated object.
        Some(unsafe { self.base.add(offset) })
    }
}

/// This process's claim on mapping a file, given back when dropped.
#[derive(Debug)]
struct Claim((u64, u64));

impl Claim {
    fn take(file: (u64, u64)) -> io::Result<Claim> {
        if MAPPED.lock().unwrap_or_else(PoisonError::into_inner).insert(file) {
            Ok(Claim(file))
        } else {
            Err(io::Error::new(
                io::ErrorKind::ResourceBusy,
                "mapping: this process has the file mapped already",
            ))
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        MAPPED.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_survive_the_mapping_by_their_descriptor() {
        let mut mapping = Mapping::create("survives", 1 << 20).unwrap();
        mapping.slice_mut(4096, 5).unwrap().copy_from_slice(b"hello");
        mapping.publish_u64(8, 0x0123_4567_89ab_cdef).unwrap();
        let kept = mapping.fd().try_clone_to_owned().unwrap();
        drop(mapping);
        let again = Mapping::from_fd(kept).unwrap();
        assert_eq!(again.len(), 1 << 20);
        assert_eq!(again.slice(4096, 5).unwrap(), b"hello");
        assert_eq!(again.load_u64(8), Some(0x0123_4567_89ab_cdef));
        assert_eq!(again.slice(8192, 4096).unwrap(), [0; 4096]);
    }

    #[test]
    fn a_file_is_mapped_once_in_a_process() {
        let mapping = Mapping::create("once", 4096).unwrap();
        let second = mapping.fd().try_clone_to_owned().unwrap();
        let third = second.try_clone().unwrap();
        let error = Mapping::from_fd(second).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ResourceBusy);
        let region = mapping.region();
        drop(mapping);
        assert!(Mapping::from_fd(third.try_clone().unwrap()).is_err(), "a region keeps the mapping");
        drop(region);
        Mapping::from_fd(third).unwrap();
    }

    #[test]
    fn ranges_outside_and_odd_words_are_refused() {
        let mut mapping = Mapping::create("ranges", 8192).unwrap();
        assert!(mapping.slice(8192, 0).is_some());
        assert!(mapping.slice(8192, 1).is_none());
        assert!(mapping.slice(usize::MAX, 2).is_none());
        assert!(mapping.slice_mut(1, 8192).is_none());
        assert_eq!(mapping.load_u64(4), None);
        assert_eq!(mapping.load_u64(8192), None);
        assert_eq!(mapping.publish_u64(8188, 1), None);
        assert_eq!(mapping.publish_u64(8184, 1), Some(()));
        assert!(mapping.punch(4096, 4097).is_err());
    }

    #[test]
    fn punched_ranges_read_as_zeros_and_free_their_memory() {
        let mut mapping = Mapping::create("punch", 1 << 20).unwrap();
        assert_eq!(mapping.resident_bytes().unwrap(), 0, "sparse");
        mapping.slice_mut(0, 1 << 20).unwrap().fill(0xaa);
        assert_eq!(mapping.resident_bytes().unwrap(), 1 << 20);
        mapping.punch(4096, 3 * 4096 + 100).unwrap();
        assert_eq!(mapping.resident_bytes().unwrap(), (1 << 20) - 3 * 4096);
        assert_eq!(mapping.slice(4095, 2).unwrap(), [0xaa, 0]);
        assert_eq!(mapping.slice(4 * 4096 + 99, 2).unwrap(), [0, 0xaa]);
    }

    #[test]
    fn stretches_in_use_become_large_and_keep_their_bytes() {
        let mut mapping = Mapping::create("large", 2 * LARGE_PAGE_LEN + 4096).unwrap();
        let region = mapping.region();
        mapping.slice_mut(0, LARGE_PAGE_LEN).unwrap().fill(0x5a);
        mapping.slice_mut(LARGE_PAGE_LEN, 4096).unwrap().fill(0xa5);
        match region.make_large(0) {
            Ok(made) => assert_eq!(made, LargePage::Made),
            // No large page could be had, or the kernel has none; either is said, and nothing else happens.
            Err(error) => println!("no large page: {error}"),
        }
        assert_eq!(region.make_large(1).unwrap(), LargePage::Sparse, "a part of it is in use");
        assert_eq!(region.make_large(2).unwrap(), LargePage::Sparse, "a part of it is beyond the end");
        assert_eq!(region.make_large(usize::MAX).unwrap(), LargePage::Sparse);
        assert!(mapping.slice(0, LARGE_PAGE_LEN).unwrap().iter().all(|byte| *byte == 0x5a));
        assert_eq!(mapping.resident_bytes().unwrap(), (LARGE_PAGE_LEN + 4096) as u64);
        let weak = region.downgrade();
        drop((region, mapping));
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn files_that_may_shrink_or_are_empty_are_refused() {
        let fd = rustix::fs::memfd_create("loose", MemfdFlags::ALLOW_SEALING).unwrap();
        rustix::fs::ftruncate(&fd, 4096).unwrap();
        assert!(Mapping::from_fd(fd).is_err());
        assert!(Mapping::create("empty", 0).is_err());
    }
}
