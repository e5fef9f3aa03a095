//! How long a reactor spins before it sleeps. A wake-up costs several times a small request's service time, so it spins for some
//! microseconds after its last activity; longer while a disk is at work, unless that keeps the disk's answer from coming.
//!
//! Some answers come by way of a kernel thread: syncs always, writes on the common file systems. That thread runs on the core
//! that the interrupt comes to, and if that is the reactor's own, spinning holds up just what is waited for. Nobody says
//! beforehand which core that will be, but it shows: the answer is there as soon as the reactor sleeps.

use crate::file::UnderWay;

/// How much longer than usual a reactor spins while requests of files are under way: a fast disk answers within that time.
/// A slow one costs a few per cent of a core by it.
const FILES_FACTOR: u64 = 4;

/// An answer that comes so soon after the reactor went to sleep has been held up. In nanoseconds; above the time that a
/// kernel thread takes, and well below that of a disk.
const AT_ONCE_NS: u64 = 20_000;

/// So often in a row means that it is no chance.
const CHANCES: u32 = 4;

/// After so many sleeps without spinning it is tried once again: interrupts can be moved.
const SLEEPS_BEFORE_TRIAL: u32 = 4096;

/// The pace of one reactor.
#[derive(Debug)]
pub(crate) struct Pace {
    spin_ns: u64,
    /// Writes in a row that spinning has held up.
    held_up: u32,
    /// Sleeps beside writes without having spun.
    sleeps: u32,
    /// When a sleep began before which it had spun in vain, with writes under way.
    asleep_since_ns: Option<u64>,
}

impl Pace {
    /// A reactor that usually spins for so long; 0 means never.
    pub(crate) fn new(spin_ns: u64) -> Pace {
        Pace { spin_ns, held_up: 0, sleeps: 0, asleep_since_ns: None }
    }

    /// How long to spin after the last activity.
    pub(crate) fn spin_ns(&self, files: UnderWay) -> u64 {
        match files {
            UnderWay::Nothing => self.spin_ns,
            UnderWay::Syncs => 0,
            UnderWay::Writes if self.held_up >= CHANCES => 0,
            UnderWay::Writes | UnderWay::Reads => self.spin_ns.saturating_mul(FILES_FACTOR),
        }
    }

    /// The reactor goes to sleep at this time: it has spun for nothing, or was told not to spin.
    pub(crate) fn sleep(&mut self, files: UnderWay, now_ns: u64) {
        if files != UnderWay::Writes {
            return;
        }
        if self.spin_ns(files) > 0 {
            self.asleep_since_ns = Some(now_ns);
            return;
        }
        self.sleeps += 1;
        if self.sleeps >= SLEEPS_BEFORE_TRIAL {
            (self.sleeps, self.held_up) = (0, CHANCES - 1);
        }
    }

    /// A turn begins at this time, perhaps after a sleep.
    pub(crate) fn turn(&mut self, now_ns: u64) {
        if let Some(since_ns) = self.asleep_since_ns.take() {
            let at_once = now_ns.saturating_sub(since_ns) < AT_ONCE_NS;
            self.held_up = if at_once { self.held_up + 1 } else { 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPIN: u64 = 50_000;

    fn sleep(pace: &mut Pace, begin_ns: u64, len_ns: u64) {
        pace.sleep(UnderWay::Writes, begin_ns);
        pace.turn(begin_ns + len_ns);
    }

    #[test]
    fn disks_are_waited_for_longer_and_syncs_never() {
        let pace = Pace::new(SPIN);
        assert_eq!(pace.spin_ns(UnderWay::Nothing), SPIN);
        assert_eq!(pace.spin_ns(UnderWay::Reads), 4 * SPIN);
        assert_eq!(pace.spin_ns(UnderWay::Writes), 4 * SPIN);
        assert_eq!(pace.spin_ns(UnderWay::Syncs), 0);
        assert_eq!(Pace::new(0).spin_ns(UnderWay::Reads), 0, "who never spins never does");
    }

    #[test]
    fn writes_that_spinning_holds_up_are_slept_for_and_tried_again_later() {
        let mut pace = Pace::new(SPIN);
        (0..3).for_each(|at| sleep(&mut pace, at * 1_000_000, 5_000));
        sleep(&mut pace, 5_000_000, 90_000);
        (6..9).for_each(|at| sleep(&mut pace, at * 1_000_000, 5_000));
        assert_eq!(pace.spin_ns(UnderWay::Writes), 4 * SPIN, "not four in a row");
        sleep(&mut pace, 9_000_000, 5_000);
        assert_eq!(pace.spin_ns(UnderWay::Writes), 0);
        assert_eq!(pace.spin_ns(UnderWay::Reads), 4 * SPIN);
        (0..u64::from(SLEEPS_BEFORE_TRIAL)).for_each(|at| sleep(&mut pace, (20 + at) * 1_000_000, 60_000));
        assert_eq!(pace.spin_ns(UnderWay::Writes), 4 * SPIN, "one trial");
        sleep(&mut pace, u64::MAX - 1_000_000, 5_000);
        assert_eq!(pace.spin_ns(UnderWay::Writes), 0);
    }

    #[test]
    fn other_sleeps_say_nothing_about_writes() {
        let mut pace = Pace::new(SPIN);
        for at in 0..10 {
            pace.sleep(UnderWay::Reads, at * 1_000_000);
            pace.turn(at * 1_000_000 + 1);
        }
        assert_eq!(pace.spin_ns(UnderWay::Writes), 4 * SPIN);
    }
}
