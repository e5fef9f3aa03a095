//! The time of a turn.

use std::time::{SystemTime, UNIX_EPOCH};

/// How often the wall clock is looked at while there is something to do.
const CLOCK_REFRESH_MS: u64 = 1000;

/// Wall-clock time without a system call per turn: the monotonic clock plus an offset that is looked up now and then.
#[derive(Debug, Default)]
pub(crate) struct WallClock {
    now_us: u64,
    /// Monotonic milliseconds of this turn.
    pub now_ms: u64,
    /// Milliseconds since 1970-01-01 UTC.
    pub unix_ms: u64,
    refreshed_ms: Option<u64>,
}

/// Milliseconds since 1970-01-01 UTC, asked for now.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl WallClock {
    /// Takes the turn's time; true if it has moved.
    pub(crate) fn update(&mut self, now_us: u64) -> bool {
        if now_us == self.now_us && self.refreshed_ms.is_some() {
            return false;
        }
        let now_ms = now_us / 1000;
        let elapsed_ms = now_ms.saturating_sub(self.now_ms);
        self.now_us = now_us;
        self.now_ms = now_ms;
        self.unix_ms = self.unix_ms.saturating_add(elapsed_ms);
        let stale = self.refreshed_ms.is_none_or(|at| now_ms.saturating_sub(at) >= CLOCK_REFRESH_MS);
        if stale {
            self.unix_ms = unix_ms();
            self.refreshed_ms = Some(now_ms);
        }
        true
    }
}
