//! The reactor's clock: monotonic, read once per loop turn and handed out as a number, so that no I/O pays for it.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds in a millisecond.
pub(crate) const NS_PER_MS: u64 = 1_000_000;

/// Nanoseconds of `CLOCK_MONOTONIC`; 0 only at boot.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Both fields of a monotonic reading are non-negative, and seconds since boot times 10^9 fit for 584 years.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
}
