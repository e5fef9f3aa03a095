//! The keep-alive timer. Base 2.1 §3.9 "Keep Alive".

use crate::limits::{IDLE_MS, KEEP_ALIVE_GRANULARITY_MS};

/// When a controller without a sign of life ends.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    /// As the host set it; 0: none.
    kato_ms: u64,
    deadline_ms: Option<u64>,
    discovery: bool,
    /// §3.9.2 "Keep Alive Timer Activation": the controller is enabled, and no shutdown has begun.
    active: bool,
}

impl KeepAlive {
    /// Not active yet.
    pub(crate) fn new(discovery: bool, kato_ms: u32, now_ms: u64) -> KeepAlive {
        let mut timer = KeepAlive { kato_ms: 0, deadline_ms: None, discovery, active: false };
        timer.set(kato_ms, now_ms);
        timer
    }

    /// KATO, in milliseconds; rounded up to the granularity.
    pub(crate) fn set(&mut self, kato_ms: u32, now_ms: u64) {
        let granularity =
            if holdfast_mutant::active("keep-alive-rounding") { 1 } else { KEEP_ALIVE_GRANULARITY_MS };
        self.kato_ms = u64::from(kato_ms).next_multiple_of(granularity);
        self.restart(now_ms);
    }

    /// The controller was enabled, or it was not, or is no more.
    pub(crate) fn activate(&mut self, active: bool, now_ms: u64) {
        if active != self.active {
            self.active = active;
            self.restart(now_ms);
        }
    }

    /// A Keep Alive came.
    pub(crate) fn restart(&mut self, now_ms: u64) {
        let active = self.active || holdfast_mutant::active("keep-alive-always");
        let time_out_ms = match (active, self.kato_ms, self.discovery) {
            (true, 0, false) => None,
            (false, ..) | (true, 0, true) => Some(IDLE_MS),
            (true, ..) if holdfast_mutant::active("keep-alive-endless") => None,
            (true, kato_ms, _) => Some(kato_ms),
        };
        self.deadline_ms = time_out_ms.map(|time_out_ms| now_ms.saturating_add(time_out_ms));
    }

    /// A command came that is no Keep Alive: where no timer of the host's runs it is a sign of life all the same.
    pub(crate) fn command_came(&mut self, now_ms: u64) {
        if self.kato_ms == 0 || !self.active {
            self.restart(now_ms);
        }
    }

    pub(crate) fn kato_ms(&self) -> u32 {
        u32::try_from(self.kato_ms).unwrap_or(u32::MAX)
    }

    pub(crate) fn deadline_ms(&self) -> Option<u64> {
        self.deadline_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_timeout_is_rounded_up_and_restarts() {
        let mut timer = KeepAlive::new(false, 1_500, 0);
        timer.activate(true, 100);
        assert_eq!(timer.kato_ms(), 2_000);
        assert_eq!(timer.deadline_ms(), Some(2_100));
        timer.activate(true, 400);
        timer.command_came(500);
        assert_eq!(timer.deadline_ms(), Some(2_100), "only Keep Alive counts");
        timer.restart(500);
        assert_eq!(timer.deadline_ms(), Some(2_500));
        timer.set(0, 600);
        assert_eq!(timer.deadline_ms(), None);
    }

    #[test]
    fn a_controller_that_is_not_enabled_ends_when_idle() {
        let mut timer = KeepAlive::new(false, 1_000, 0);
        assert_eq!(timer.deadline_ms(), Some(IDLE_MS));
        timer.command_came(10);
        assert_eq!(timer.deadline_ms(), Some(IDLE_MS + 10));
        timer.activate(true, 20);
        assert_eq!(timer.deadline_ms(), Some(1_020));
        timer.activate(false, 30);
        assert_eq!(timer.deadline_ms(), Some(IDLE_MS + 30));
    }

    #[test]
    fn a_discovery_controller_without_a_timer_ends_when_idle() {
        let mut timer = KeepAlive::new(true, 0, 0);
        timer.activate(true, 5);
        assert_eq!(timer.deadline_ms(), Some(IDLE_MS + 5));
        timer.command_came(10);
        assert_eq!(timer.deadline_ms(), Some(IDLE_MS + 10));
    }
}
