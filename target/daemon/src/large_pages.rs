//! Puts the memory of pools under large pages, in the background, as it fills: a random block then costs one short walk
//! through the page tables instead of a long one that misses the cache, twice over in a virtual machine.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use holdfast_reactor::{LARGE_PAGE_LEN, LargePage, Region, WeakRegion};

/// Time between sweeps while they find something to do.
const PAUSE_MIN: Duration = Duration::from_secs(1);

/// Time between sweeps of a target whose memory stays as it is: each costs some microseconds per large page.
const PAUSE_MAX: Duration = Duration::from_secs(64);

/// Large pages made in one sweep. One costs a millisecond or three: so this takes at most a fifth of a processor.
const MADE_PER_SWEEP_MAX: usize = 64;

/// Where new pools are told. Dropping it ends the thread.
pub(crate) struct LargePages(Sender<WeakRegion>);

impl LargePages {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system's, when there is no thread to be had.
    pub(crate) fn start() -> std::io::Result<LargePages> {
        let (sender, receiver) = channel();
        std::thread::Builder::new().name("pages".to_owned()).spawn(move || run(&receiver))?;
        Ok(LargePages(sender))
    }

    /// Looks after a pool's memory from now on, until the pool is gone.
    pub(crate) fn watch(&self, region: &Region) {
        // Without the thread, pages stay small.
        let _ = self.0.send(region.downgrade());
    }
}

/// A pool's memory, and which of its stretches have been found or made large.
struct Watched {
    region: WeakRegion,
    large: Vec<bool>,
    /// Where the next sweep goes on.
    next: usize,
}

fn run(pools: &Receiver<WeakRegion>) {
    let mut watched: Vec<Watched> = Vec::new();
    let mut pause = PAUSE_MIN;
    loop {
        match pools.recv_timeout(pause) {
            Ok(region) => {
                let stretches = region.upgrade().map_or(0, |region| region.len() / LARGE_PAGE_LEN);
                watched.push(Watched { region, large: vec![false; stretches], next: 0 });
                pause = PAUSE_MIN;
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {}
        }
        // Memory that was given back and written anew is found by the sweeps that are rare.
        let thorough = pause == PAUSE_MAX;
        let mut budget = MADE_PER_SWEEP_MAX;
        watched.retain_mut(|pool| pool.sweep(thorough, &mut budget));
        pause = if budget < MADE_PER_SWEEP_MAX { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
    }
}

impl Watched {
    /// Looks at all stretches, but at those known to be large only if `thorough`, until the budget is used up. `false`: there
    /// is nothing more to look after.
    fn sweep(&mut self, thorough: bool, budget: &mut usize) -> bool {
        let Some(region) = self.region.upgrade() else { return false };
        for _ in 0..self.large.len() {
            if *budget == 0 {
                return true;
            }
            let index = self.next;
            self.next = (index + 1) % self.large.len();
            let Some(large) = self.large.get_mut(index).filter(|large| thorough || !**large) else {
                continue;
            };
            match region.make_large(index) {
                Ok(LargePage::Made) => {
                    *budget -= usize::from(!*large);
                    *large = true;
                }
                Ok(LargePage::Sparse) => *large = false,
                Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {
                    tracing::info!("this kernel has no large pages for pools in memory (Linux 6.1 has)");
                    return false;
                }
                // None to be had now: the machine's memory is in pieces, or short.
                Err(error) => {
                    tracing::debug!(%error, "no large page");
                    return true;
                }
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_reactor::Mapping;

    #[test]
    fn what_is_in_use_is_made_large_within_the_budget_and_a_pool_that_is_gone_is_forgotten() {
        let mut mapping = Mapping::create("sweep", 3 * LARGE_PAGE_LEN).unwrap();
        mapping.slice_mut(0, 2 * LARGE_PAGE_LEN).unwrap().fill(1);
        let region = mapping.region();
        if region.make_large(0).is_err() {
            println!("no large pages here");
            return;
        }
        let mut watched = Watched { region: region.downgrade(), large: vec![false; 3], next: 0 };
        let mut budget = 1;
        assert!(watched.sweep(false, &mut budget));
        assert_eq!((budget, watched.large.as_slice()), (0, [true, false, false].as_slice()));
        budget = 5;
        assert!(watched.sweep(false, &mut budget));
        assert_eq!((budget, watched.large.as_slice()), (4, [true, true, false].as_slice()));
        // What was given back is noticed by a thorough sweep only.
        mapping.punch(0, 4096).unwrap();
        assert!(watched.sweep(false, &mut budget) && watched.large.first() == Some(&true));
        assert!(watched.sweep(true, &mut budget) && watched.large.first() == Some(&false));
        drop((region, mapping));
        assert!(!watched.sweep(false, &mut budget));
    }
}
