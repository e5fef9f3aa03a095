//! Asking for memory before it is needed.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for the lines that `bytes` lie in, to be near when they are read a little later. Only a hint:
/// nothing waits and nothing is read.
///
/// Whoever looks up many blocks, each of them cold, so waits once for all instead of once for each.
#[inline]
pub fn prefetch(bytes: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE) {
        // SAFETY: a prefetch reads nothing that the program sees and faults on no address; SSE, which
        // has the instruction, is part of x86-64.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (bytes, LINE);
}

/// The same for memory that will be written a little later.
#[inline]
pub fn prefetch_to_write(bytes: &mut [u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in bytes.chunks(LINE) {
        // SAFETY: as above; 64-bit processors that do not have the instruction take it for one that does
        // nothing.
        unsafe {
            let place = line.as_ptr();
            core::arch::asm!("prefetchw [{place}]", place = in(reg) place, options(readonly, nostack, preserves_flags));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = bytes;
}
