//! Slots that nothing points to any more, and when they may be used again: not before what superseded them is durable
//! (a power cut would bring the old contents back), and not while a read that began earlier may still fetch them.

use std::collections::VecDeque;

/// Slots on their way to be free, in the order in which they were superseded.
#[derive(Debug, Default)]
pub(super) struct DeadSlots {
    queue: VecDeque<Dead>,
}

#[derive(Debug)]
struct Dead {
    slot: u64,
    /// The journal block whose durability sets it free.
    number: u64,
    /// The last read that had begun.
    read: u64,
}

impl DeadSlots {
    /// A slot was superseded by journal block `number`, when read `read` was the last to have begun.
    pub(super) fn push(&mut self, slot: u64, number: u64, read: u64) {
        // Those of a detached part of a map come late: they wait no shorter than what came before them.
        let number = self.last_number().unwrap_or(0).max(number);
        self.queue.push_back(Dead { slot, number, read });
    }

    /// A slot that is free now: block `durable` and those before it are durable, and read `oldest` is the first that has
    /// not ended.
    pub(super) fn pop(&mut self, durable: u64, oldest: u64) -> Option<u64> {
        let first = self.queue.front()?;
        let free = (first.number <= durable || holdfast_mutant::active("store-slot-reused-early"))
            && (first.read < oldest || holdfast_mutant::active("store-slot-reused-under-a-read"));
        if !free {
            return None;
        }
        self.queue.pop_front().map(|dead| dead.slot)
    }

    /// The newest number that one of them waits for.
    pub(super) fn last_number(&self) -> Option<u64> {
        self.queue.back().map(|dead| dead.number)
    }
}

/// The reads under way, by number.
#[derive(Debug)]
pub(super) struct ReadNumbers {
    /// From 1. The first that has not ended; the next one to begin if all have.
    first: u64,
    /// From `first` on, whether each has ended.
    ended: VecDeque<bool>,
}

impl Default for ReadNumbers {
    fn default() -> Self {
        ReadNumbers { first: 1, ended: VecDeque::new() }
    }
}

impl ReadNumbers {
    /// A read begins.
    pub(super) fn begin(&mut self) -> u64 {
        self.ended.push_back(false);
        self.last()
    }

    /// A read has ended.
    pub(super) fn end(&mut self, number: u64) {
        let at = number.checked_sub(self.first).and_then(|at| usize::try_from(at).ok());
        if let Some(ended) = at.and_then(|at| self.ended.get_mut(at)) {
            *ended = true;
        }
        while self.ended.front() == Some(&true) {
            self.ended.pop_front();
            self.first += 1;
        }
    }

    /// The first that has not ended.
    pub(super) fn oldest(&self) -> u64 {
        self.first
    }

    /// The last that has begun: slots that are superseded now wait for it and those before it.
    pub(super) fn last(&self) -> u64 {
        self.first + self.ended.len() as u64 - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_waits_for_durability_and_for_reads_that_began_before() {
        let (mut dead, mut reads) = (DeadSlots::default(), ReadNumbers::default());
        let early = [reads.begin(), reads.begin()];
        dead.push(77, 5, reads.last());
        let late = reads.begin();
        assert_eq!(dead.pop(5, reads.oldest()), None, "reads");
        reads.end(early[1]);
        assert_eq!(dead.pop(5, reads.oldest()), None, "the older read");
        reads.end(early[0]);
        assert_eq!(dead.pop(4, reads.oldest()), None, "not durable");
        assert_eq!(dead.pop(5, reads.oldest()), Some(77), "the later read does not matter");
        assert_eq!((reads.oldest(), dead.last_number()), (late, None));
    }
}
