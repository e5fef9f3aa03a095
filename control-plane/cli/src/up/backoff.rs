//! When a child that died is started again.
//!
//! The first restart is quick, because hosts are waiting with their I/O outstanding. A child that keeps dying
//! is started ever more slowly up to a cap, so that it cannot eat the machine; one that then held out for a
//! while is trusted again.

use std::time::Duration;

/// Delay before the first restart. Long enough that the kernel has torn the old process down.
const DELAY_FIRST: Duration = Duration::from_millis(100);

/// Longest delay. Hosts retry for minutes (Linux gives a controller up after 600 s), so this many seconds
/// lose nobody.
const DELAY_MAX: Duration = Duration::from_secs(10);

/// A child that ran for this long before it died is treated as one that never died.
const STABLE_AFTER: Duration = Duration::from_secs(30);

/// The delays of one child.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// For a child that has not died yet.
    pub(crate) fn new() -> Self {
        Self { next: DELAY_FIRST }
    }

    /// The delay before the next start, given how long the child that just died had run.
    pub(crate) fn after_exit(&mut self, ran_for: Duration) -> Duration {
        if ran_for >= STABLE_AFTER {
            self.next = DELAY_FIRST;
        }
        let delay = self.next;
        self.next = self.next.saturating_mul(2).min(DELAY_MAX);
        delay
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap() {
        let mut backoff = Backoff::new();
        let delays: Vec<u128> = (0..9).map(|_| backoff.after_exit(Duration::ZERO).as_millis()).collect();
        assert_eq!(delays, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    }

    #[test]
    fn a_stable_run_resets_the_delay() {
        let mut backoff = Backoff::new();
        for _ in 0..9 {
            backoff.after_exit(Duration::from_secs(29));
        }
        assert_eq!(backoff.after_exit(STABLE_AFTER), DELAY_FIRST);
        assert_eq!(backoff.after_exit(Duration::ZERO), DELAY_FIRST * 2);
    }
}
