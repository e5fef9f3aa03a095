//! Numbers that look random and are the same for the same seed (the generator known as SplitMix64).

/// A stream of numbers.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Rng {
        Rng(mix(seed))
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// From 0 to `end` − 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// From `first` to `last`.
    pub(crate) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True so many times in a thousand.
    pub(crate) fn chance(&mut self, permille: u64) -> bool {
        self.below(1000) < permille
    }

    /// From 1 to about `limit`, small ones as often as large ones.
    pub(crate) fn skewed(&mut self, limit: u64) -> u64 {
        let bits = self.below(u64::from(limit.max(1).ilog2()) + 1);
        ((1 << bits) + self.below(1 << bits)).min(limit.max(1))
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }
}

/// Spreads a number over all bits, one to one.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[test]
fn same_seed_gives_the_same_numbers() {
    let (mut one, mut other) = (Rng::new(7), Rng::new(7));
    assert!((0..100).all(|_| one.next() == other.next()));
    assert_ne!(Rng::new(7).next(), Rng::new(8).next());
}

#[test]
fn skewed_numbers_stay_within_their_limit() {
    let mut rng = Rng::new(1);
    let drawn: Vec<u64> = (0..1000).map(|_| rng.skewed(100)).collect();
    assert!(drawn.iter().all(|number| (1..=100).contains(number)));
    assert!(drawn.contains(&1) && drawn.iter().any(|number| *number > 64));
}
