//! What a controller knows of its own health: what its queues have moved, and what has failed. Base 2.1 §5.1.12.1.2 "Error
//! Information (Log Page Identifier 01h)" and §5.1.12.1.3 "SMART / Health Information (Log Page Identifier 02h)".
//!
//! Every queue counts for itself, without a lock; whoever asks adds the queues up. Failures of all queues meet in one list under a
//! lock, which only failures take.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_block::Operation;
use zerocopy::IntoBytes;

use crate::limits::ERROR_LOG_ENTRIES;
use crate::wire::log::ErrorEntry;

/// Bytes of a data unit, whatever the block size is. NVM Command Set 1.1 §4.1.4.2 "SMART / Health Information".
const DATA_UNIT_LEN: u64 = 512;

/// A counter that one queue alone adds to.
#[derive(Debug, Default)]
struct Counter(AtomicU64);

impl Counter {
    fn add(&self, count: u64) {
        // One writer: no other store can come between, so no locked instruction is needed.
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// What one queue has moved.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    read_commands: Counter,
    write_commands: Counter,
    units_read: Counter,
    units_written: Counter,
}

impl Traffic {
    /// Counts a command that has succeeded. NVM Command Set 1.1 §1.4.2: data is read by Compare, Read and Verify and written by
    /// Copy and Write; Compare, Copy and Read are host reads, Copy and Write host writes.
    pub(crate) fn done(&self, operation: Operation, data_len_bytes: u64) {
        let units = if holdfast_mutant::active("smart-units") { 0 } else { data_len_bytes / DATA_UNIT_LEN };
        match operation {
            Operation::Read | Operation::Compare => {
                self.read_commands.add(1);
                self.units_read.add(units);
            }
            Operation::Verify => self.units_read.add(units),
            Operation::Write => {
                self.write_commands.add(1);
                self.units_written.add(units);
            }
            Operation::CopyTarget => {
                self.read_commands.add(1);
                self.write_commands.add(1);
                self.units_written.add(units);
            }
            Operation::CopySource
            | Operation::WriteZeroes
            | Operation::WriteUncorrectable
            | Operation::Deallocate
            | Operation::Flush => {}
        }
    }

    fn totals(&self) -> TrafficTotals {
        TrafficTotals {
            read_commands: self.read_commands.get(),
            write_commands: self.write_commands.get(),
            units_read: self.units_read.get(),
            units_written: self.units_written.get(),
        }
    }
}

/// What the queues of a controller have moved so far, those that have ended included. Units are of 512 bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TrafficTotals {
    pub(crate) read_commands: u64,
    pub(crate) write_commands: u64,
    pub(crate) units_read: u64,
    pub(crate) units_written: u64,
}

impl TrafficTotals {
    fn add(&mut self, other: TrafficTotals) {
        self.read_commands += other.read_commands;
        self.write_commands += other.write_commands;
        self.units_read += other.units_read;
        self.units_written += other.units_written;
    }
}

/// The health of one controller.
#[derive(Debug, Default)]
pub(crate) struct Health {
    traffic: Mutex<TrafficBook>,
    errors: Mutex<ErrorLog>,
}

#[derive(Debug, Default)]
struct TrafficBook {
    open: Vec<Arc<Traffic>>,
    ended: TrafficTotals,
}

#[derive(Debug, Default)]
struct ErrorLog {
    /// Errors ever, which is also the number of the newest.
    count: u64,
    /// Commands that failed because data was found damaged.
    damages: u64,
    /// Oldest first.
    entries: VecDeque<ErrorEntry>,
}

impl Health {
    /// The counters of a queue that begins.
    pub(crate) fn open_queue(&self) -> Arc<Traffic> {
        let traffic = Arc::new(Traffic::default());
        lock(&self.traffic).open.push(Arc::clone(&traffic));
        traffic
    }

    /// A queue has ended; what it counted stays.
    pub(crate) fn close_queue(&self, traffic: &Arc<Traffic>) {
        let mut book = lock(&self.traffic);
        let before = book.open.len();
        book.open.retain(|open| !Arc::ptr_eq(open, traffic));
        if book.open.len() != before {
            book.ended.add(traffic.totals());
        }
    }

    /// What has been moved so far.
    pub(crate) fn traffic(&self) -> TrafficTotals {
        let book = lock(&self.traffic);
        let mut totals = book.ended;
        book.open.iter().for_each(|traffic| totals.add(traffic.totals()));
        totals
    }

    /// Takes an error up under the next number; the oldest makes room for it.
    pub(crate) fn record(&self, mut entry: ErrorEntry, is_damage: bool) {
        let mut log = lock(&self.errors);
        log.count += 1;
        log.damages += u64::from(is_damage);
        entry.count.set(log.count);
        if log.entries.len() >= usize::from(ERROR_LOG_ENTRIES) {
            log.entries.pop_front();
        }
        log.entries.push_back(entry);
    }

    /// Errors ever, and how many of them were damaged data.
    pub(crate) fn errors(&self) -> (u64, u64) {
        let log = lock(&self.errors);
        (log.count, log.damages)
    }

    /// The error log, newest first; entries that are not there are zero.
    pub(crate) fn error_page(&self) -> Vec<u8> {
        let log = lock(&self.errors);
        let mut page: Vec<u8> =
            log.entries.iter().rev().flat_map(|entry| entry.as_bytes().iter().copied()).collect();
        page.resize(usize::from(ERROR_LOG_ENTRIES) * size_of::<ErrorEntry>(), 0);
        page
    }

    /// A Controller Level Reset empties the log; the numbers go on.
    pub(crate) fn reset(&self) {
        lock(&self.errors).entries.clear();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn what_a_queue_has_moved_stays_when_it_ends() {
        let health = Health::default();
        let (first, second) = (health.open_queue(), health.open_queue());
        first.done(Operation::Read, 4096);
        second.done(Operation::Write, 512);
        second.done(Operation::Verify, 1024);
        second.done(Operation::Compare, 512);
        let expected =
            TrafficTotals { read_commands: 2, write_commands: 1, units_read: 11, units_written: 1 };
        assert_eq!(health.traffic(), expected);
        health.close_queue(&first);
        health.close_queue(&first);
        assert_eq!(health.traffic(), expected);
    }

    #[test]
    fn the_newest_error_comes_first_and_the_oldest_goes() {
        let health = Health::default();
        for _ in 0..=ERROR_LOG_ENTRIES {
            health.record(ErrorEntry::new_zeroed(), false);
        }
        let page = health.error_page();
        let number = |index: usize| u64::from_le_bytes(page[index * 64..index * 64 + 8].try_into().unwrap());
        let count = u64::from(ERROR_LOG_ENTRIES);
        assert_eq!((number(0), number(1)), (count + 1, count));
        assert_eq!(number(usize::from(ERROR_LOG_ENTRIES) - 1), 2);
    }

    #[test]
    fn a_reset_empties_the_log_and_the_numbers_go_on() {
        let health = Health::default();
        health.record(ErrorEntry::new_zeroed(), true);
        health.reset();
        assert!(health.error_page().iter().all(|byte| *byte == 0));
        health.record(ErrorEntry::new_zeroed(), false);
        assert_eq!(health.error_page()[0], 2);
        assert_eq!(health.errors(), (2, 1));
    }
}
