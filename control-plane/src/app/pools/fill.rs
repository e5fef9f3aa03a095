//! How full pools are: thresholds that are told once each.

/// Percentages of the capacity in use that are worth an alarm.
const THRESHOLDS: [u8; 3] = [80, 90, 95];

/// Percentage points that use has to fall below a threshold before it counts as left: a pool that is overwritten and trimmed near
/// one does not tell it over and over.
const HYSTERESIS: u64 = 2;

/// A threshold that was crossed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Crossing {
    /// The highest threshold that is passed now, or 0.
    pub(crate) threshold: u8,
    /// Use has risen.
    pub(crate) rising: bool,
    /// Use in whole percent, rounded down.
    pub(crate) percent: u64,
}

/// What there is to tell of a pool in which the threshold `told` (0 for none) was told last.
pub(crate) fn crossing(told: u8, capacity_bytes: u64, allocated_bytes: u64) -> Option<Crossing> {
    let hundredfold = u128::from(allocated_bytes) * 100;
    let percent = u64::try_from(hundredfold.checked_div(u128::from(capacity_bytes))?).ok()?;
    let passed = |slack: u64| {
        let passed = THRESHOLDS.iter().rev().find(|threshold| percent + slack >= u64::from(**threshold));
        passed.copied().unwrap_or(0)
    };
    let (risen, kept) = (passed(0), passed(HYSTERESIS));
    match (risen > told, kept < told) {
        (true, _) => Some(Crossing { threshold: risen, rising: true, percent }),
        (_, true) => Some(Crossing { threshold: kept, rising: false, percent }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_threshold_is_told_once_on_the_way_up() {
        let mut told = 0;
        let mut heard = Vec::new();
        for allocated in (0..=100).chain([100, 99, 100]) {
            if let Some(found) = crossing(told, 100, allocated) {
                told = found.threshold;
                heard.push((found.threshold, found.rising, allocated));
            }
        }
        assert_eq!(heard, [(80, true, 80), (90, true, 90), (95, true, 95)]);
    }

    #[test]
    fn a_threshold_is_left_two_points_below_it() {
        assert_eq!(crossing(80, 1000, 781), None);
        let left = Crossing { threshold: 0, rising: false, percent: 77 };
        assert_eq!(crossing(80, 1000, 779), Some(left));
        assert_eq!(crossing(95, 1000, 0).map(|found| found.threshold), Some(0));
        assert_eq!(crossing(95, 1000, 925).map(|found| found.threshold), Some(90));
    }

    #[test]
    fn a_jump_tells_the_highest_alone_and_nothing_of_a_pool_without_room() {
        assert_eq!(crossing(0, 100, 100).map(|found| found.threshold), Some(95));
        assert_eq!(crossing(0, 0, 0), None);
        assert_eq!(crossing(0, u64::MAX, u64::MAX).map(|found| found.percent), Some(100));
    }
}
