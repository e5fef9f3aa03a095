//! What was under way when the power was cut: found out from what the device was doing and what became of it.

use std::collections::{BTreeMap, HashMap};

use holdfast_store::disk::format::{JournalBlock, Layout, Record};

use crate::disk::{Bytes, Fate};

/// The kinds of crashes that are counted. One crash can be of several kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Class {
    /// Of a journal block a part of the sectors arrived.
    TornJournal,
    /// A journal block arrived whole, and some data that it speaks of did not.
    DroppedData,
    /// Pages of the map or a superblock were written and not flushed.
    MidCheckpoint,
    /// The pool was being opened.
    MidRecovery,
    /// The end of a volume was asked for and not reported durable.
    MidDelete,
    /// The growth of a volume was asked for and not reported durable.
    MidGrow,
    /// The journal had come round at least once.
    AfterWrap,
    /// The journal was full: a checkpoint had not ended in time.
    JournalFull,
    /// At least 95 of a hundred parts of the capacity were in use.
    NearlyFull,
    /// The pool had been closed well.
    Closed,
}

impl Class {
    pub(crate) const ALL: [Class; 10] = [
        Class::TornJournal,
        Class::DroppedData,
        Class::MidCheckpoint,
        Class::MidRecovery,
        Class::MidDelete,
        Class::MidGrow,
        Class::AfterWrap,
        Class::JournalFull,
        Class::NearlyFull,
        Class::Closed,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Class::TornJournal => "torn journal block",
            Class::DroppedData => "dropped data run",
            Class::MidCheckpoint => "mid-checkpoint",
            Class::MidRecovery => "mid-recovery",
            Class::MidDelete => "mid-delete",
            Class::MidGrow => "mid-grow",
            Class::AfterWrap => "after wrap of the journal",
            Class::JournalFull => "journal full",
            Class::NearlyFull => "pool at 95 % or more",
            Class::Closed => "after a clean end",
        }
    }
}

/// Crashes in all and by class.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) crashes: u64,
    pub(crate) by_class: BTreeMap<&'static str, u64>,
}

impl Tally {
    pub(crate) fn count(&mut self, classes: &[Class]) {
        self.crashes += 1;
        for class in classes {
            *self.by_class.entry(class.name()).or_default() += 1;
        }
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        self.crashes += other.crashes;
        for (name, count) in &other.by_class {
            *self.by_class.entry(name).or_default() += count;
        }
    }

    pub(crate) fn of(&self, class: Class) -> u64 {
        self.by_class.get(class.name()).copied().unwrap_or(0)
    }

    /// A line for each class.
    pub(crate) fn table(&self) -> String {
        let line = |name: &str, count: u64| format!("{name:<28} {count:>9}\n");
        let lines = Class::ALL.iter().map(|class| line(class.name(), self.of(*class)));
        line("crashes", self.crashes) + &lines.collect::<String>()
    }
}

/// Whether a slot with this in it belongs to a checkpoint.
pub(crate) fn is_of_checkpoint(layout: &Layout, slot: u64, bytes: &Bytes) -> bool {
    slot < layout.journal_first() || (layout.is_data(slot) && bytes.starts_with(b"HFPG"))
}

/// The classes that show in what became of unflushed writes.
pub(crate) fn of_fates(layout: &Layout, pool_tag: u64, fates: &[Fate]) -> Vec<Class> {
    let journal = |fate: &&Fate| fate.slot >= layout.journal_first() && fate.slot < layout.data_first();
    let lost: HashMap<u64, &Fate> =
        fates.iter().filter(|fate| !fate.kept()).map(|fate| (fate.slot, fate)).collect();
    let speaks_of_lost = |fate: &&Fate| {
        let Ok(block) = JournalBlock::decode(&fate.now, pool_tag) else { return false };
        block.records().any(|record| match record {
            Record::Cells { .. } => record.cells().any(|(_, image)| lost.contains_key(&image.slot())),
            Record::Trim { .. }
            | Record::PutVolume { .. }
            | Record::DeleteVolume { .. }
            | Record::Writer { .. } => false,
        })
    };
    let mut classes = Vec::new();
    if fates.iter().filter(journal).any(|fate| fate.torn) {
        classes.push(Class::TornJournal);
    }
    if fates.iter().filter(journal).filter(|fate| fate.kept()).any(|fate| speaks_of_lost(&fate)) {
        classes.push(Class::DroppedData);
    }
    classes
}
