//! Asking for memory before it is needed.

/// Bytes of a cache line.
const LINE: usize = 64;

/// Asks for the lines that `values` lie in, to be near when they are read a little later. Only a hint:
/// nothing waits and nothing is read.
///
/// Whoever looks up many blocks, each of them cold, so waits once for all instead of once for each.
#[inline]
pub fn prefetch<T>(values: &[T]) {
    for line in lines(values) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a prefetch reads nothing that the program sees and faults on no address; SSE, which has
        // the instruction, is part of x86-64.
        unsafe {
            use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line.cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// The same for memory that will be written a little later.
#[inline]
pub fn prefetch_to_write<T>(values: &[T]) {
    for line in lines(values) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: as above; nothing is written either. Processors that lack the instruction take it for one
        // that does nothing.
        unsafe {
            core::arch::asm!("prefetchw [{line}]", line = in(reg) line, options(readonly, nostack, preserves_flags));
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// An address in each line that some values lie in.
#[inline]
fn lines<T>(values: &[T]) -> impl Iterator<Item = *const u8> {
    let len = size_of_val(values);
    let start = values.as_ptr().cast::<u8>();
    let before = start.addr() % LINE;
    let count = if len == 0 { 0 } else { (before + len).div_ceil(LINE) };
    (0..count).map(move |line| start.wrapping_add(line * LINE).wrapping_sub(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_some_values_is_asked_for_once() {
        let room = vec![0_u64; 1000];
        for start in 0..17 {
            for len in 0..40 {
                let values = &room[start..start + len];
                let asked: Vec<usize> = lines(values).map(|line| line.addr() / LINE).collect();
                let mut there: Vec<usize> =
                    values.iter().map(|value| std::ptr::from_ref(value).addr() / LINE).collect();
                there.dedup();
                assert_eq!(asked, there);
            }
        }
        prefetch(&room);
        prefetch_to_write(&room);
        assert!(room.iter().all(|value| *value == 0));
    }
}
