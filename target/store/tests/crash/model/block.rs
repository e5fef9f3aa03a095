//! One block: its versions in the order in which they were asked for, and which of them it may have.

use crate::content::What;

/// The time of the model: rises with everything that happens.
pub(crate) type Time = u64;

/// One block.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    /// The oldest version that a power cut may leave: durable, or as the last recovery found it.
    base: Version,
    /// Later ones in order.
    later: Vec<Version>,
    /// The newest that a read has given out.
    seen: Time,
    /// Versions that are durably superseded. Reads that began before may still find them, and recoveries on a device that
    /// has lost writes.
    past: Vec<Version>,
}

/// What became of the operation that made a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not known yet, or never: the pool failed under it.
    Open,
    /// It was acknowledged at that time.
    Acknowledged(Time),
    /// It was reported as failed at that time, and undone.
    Failed(Time),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    order: Time,
    what: What,
    state: State,
}

impl Block {
    /// A block that was never written.
    pub(crate) fn new() -> Block {
        Block {
            base: Version { order: 0, what: What::Hole, state: State::Acknowledged(0) },
            later: Vec::new(),
            seen: 0,
            past: Vec::new(),
        }
    }

    /// Whether only one version is possible.
    pub(crate) fn is_settled(&self) -> bool {
        self.later.is_empty()
    }

    /// An operation has been asked for.
    pub(crate) fn push(&mut self, order: Time, what: What) {
        self.later.push(Version { order, what, state: State::Open });
    }

    /// The operation is acknowledged.
    pub(crate) fn acknowledge(&mut self, order: Time, now: Time) {
        self.set(order, State::Acknowledged(now));
    }

    /// The operation has failed and left everything as it was.
    pub(crate) fn fail(&mut self, order: Time, now: Time) {
        self.set(order, State::Failed(now));
    }

    /// The operation was refused before anything happened.
    pub(crate) fn withdraw(&mut self, order: Time) {
        self.later.retain(|version| version.order != order);
    }

    fn set(&mut self, order: Time, state: State) {
        if let Some(version) = self.later.iter_mut().find(|version| version.order == order) {
            version.state = state;
        }
    }

    /// What was acknowledged up to `then` is durable; and so is that what had failed by then is undone. Returns the time at
    /// which the version that is durable now was asked for.
    pub(crate) fn flushed(&mut self, then: Time) -> Time {
        let acknowledged = |version: &Version| matches!(version.state, State::Acknowledged(at) if at <= then);
        if let Some(at) = self.later.iter().rposition(acknowledged) {
            self.rebase(at);
        }
        self.later.retain(|version| !matches!(version.state, State::Failed(at) if at <= then));
        self.base.order
    }

    /// This operation is durable.
    pub(crate) fn durable(&mut self, order: Time) {
        if let Some(at) = self.later.iter().position(|version| version.order == order) {
            self.rebase(at);
        }
    }

    fn rebase(&mut self, at: usize) {
        self.past.push(self.base);
        self.past.extend(self.later.drain(..at));
        self.base = self.later.remove(0);
    }

    /// The oldest version that a read beginning now may find.
    pub(crate) fn read_floor(&self) -> Time {
        let acknowledged = |version: &&Version| matches!(version.state, State::Acknowledged(_));
        let newest = self.later.iter().rev().find(acknowledged).unwrap_or(&self.base);
        newest.order.max(self.seen)
    }

    /// A read that began when the floor was `floor` found what `is` says. Returns that version's order.
    pub(crate) fn read(&mut self, floor: Time, is: impl FnMut(What) -> bool) -> Option<Time> {
        let mut is = is;
        let possible =
            |version: &&Version| version.order >= floor && !matches!(version.state, State::Failed(_));
        let found =
            self.past.iter().chain(self.versions()).filter(possible).find(|version| is(version.what))?.order;
        self.seen = self.seen.max(found);
        Some(found)
    }

    /// Whether it is certain that there is something.
    pub(crate) fn is_surely_there(&self) -> bool {
        self.versions().all(|version| version.what != What::Hole)
    }

    /// Whether a durable version has something.
    pub(crate) fn is_durably_there(&self) -> bool {
        self.base.what != What::Hole
    }

    /// A recovery found what `is` says: from now on it is this version and no other. `None`: none that it may be.
    pub(crate) fn settle(&mut self, is: impl FnMut(What) -> bool, past_too: bool) -> Option<What> {
        let mut is = is;
        let past = self.past.iter().filter(|_| past_too);
        let found = self.versions().chain(past).map(|version| version.what).find(|what| is(*what))?;
        if !past_too {
            self.past.clear();
        }
        self.base = Version { order: self.base.order, what: found, state: State::Acknowledged(0) };
        self.later.clear();
        self.seen = 0;
        Some(found)
    }

    /// A recovery left something that cannot be read now: any version, whatever was said of it before.
    pub(crate) fn leave_open(&mut self) {
        self.later.iter_mut().for_each(|version| version.state = State::Open);
        self.seen = 0;
    }

    fn versions(&self) -> impl Iterator<Item = &Version> {
        std::iter::once(&self.base).chain(&self.later)
    }

    /// A few words for a report.
    pub(crate) fn summary(&self) -> String {
        let versions: Vec<String> = self
            .versions()
            .map(|Version { order, what, state }| format!("{what:?} of {order} ({state:?})"))
            .collect();
        versions.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::{Block, What};

    const A: What = What::Data(1);
    const B: What = What::Data(2);
    const C: What = What::Data(3);

    /// What a crash may leave.
    fn allowed(block: &Block) -> Vec<What> {
        let all = [What::Hole, A, B, C];
        all.into_iter().filter(|what| block.clone().settle(|found| found == *what, false).is_some()).collect()
    }

    fn with_three() -> Block {
        let mut block = Block::new();
        for (order, what) in [(1, A), (2, B), (3, C)] {
            block.push(order, what);
        }
        block
    }

    #[test]
    fn unflushed_versions_may_all_be_left() {
        let mut block = with_three();
        block.acknowledge(1, 4);
        assert_eq!(allowed(&block), [What::Hole, A, B, C]);
    }

    #[test]
    fn nothing_older_than_flushed_is_allowed() {
        let mut block = with_three();
        block.acknowledge(1, 4);
        block.acknowledge(2, 5);
        block.flushed(5);
        assert_eq!(allowed(&block), [B, C]);
    }

    #[test]
    fn flush_covers_only_what_was_acknowledged_before_it() {
        let mut block = with_three();
        block.acknowledge(1, 4);
        block.acknowledge(2, 6);
        block.flushed(5);
        assert_eq!(allowed(&block), [A, B, C]);
    }

    #[test]
    fn failed_write_is_old_or_new_until_the_next_flush() {
        let mut block = with_three();
        block.acknowledge(1, 4);
        block.fail(2, 5);
        assert_eq!(allowed(&block), [What::Hole, A, B, C]);
        block.flushed(6);
        assert_eq!(allowed(&block), [A, C]);
    }

    #[test]
    fn read_gives_the_last_acknowledged_or_a_later_one() {
        let mut block = with_three();
        block.acknowledge(2, 4);
        let floor = block.read_floor();
        assert_eq!(block.read(floor, |what| what == A), None);
        assert_eq!(block.clone().read(floor, |what| what == B), Some(2));
        assert_eq!(block.read(floor, |what| what == C), Some(3));
        let floor = block.read_floor();
        assert_eq!(block.read(floor, |what| what == B), None, "what was seen does not go away");
    }

    #[test]
    fn failed_write_is_never_read() {
        let mut block = with_three();
        block.acknowledge(1, 4);
        block.fail(2, 5);
        let floor = block.read_floor();
        assert_eq!(block.read(floor, |what| what == B), None);
        assert_eq!(block.read(floor, |what| what == A), Some(1));
    }

    #[test]
    fn what_a_recovery_found_is_all_that_the_next_may_find() {
        let mut block = with_three();
        assert_eq!(block.settle(|what| what == B, false), Some(B));
        assert_eq!(allowed(&block), [B]);
    }

    #[test]
    fn superseded_version_comes_back_only_where_the_device_may_lie() {
        let mut block = with_three();
        block.acknowledge(1, 4);
        block.acknowledge(2, 4);
        block.flushed(4);
        assert_eq!(block.clone().settle(|what| what == A, false), None);
        assert_eq!(block.settle(|what| what == A, true), Some(A));
    }
}
