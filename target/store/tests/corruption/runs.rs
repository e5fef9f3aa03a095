//! All changes of one pool, on two threads, and what came of them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use holdfast_store::disk::format::{Page, SLOT_LEN};

use crate::case::{Outcome, look};
use crate::disk::{Disk, page_of};
use crate::expect::data_slots;
use crate::mix;
use crate::state::{Kind, State, Structure};

/// Data is sampled: so many times more sparsely than what says where data is.
const DATA_STRIDES: usize = 8;

const THREADS: usize = 2;

pub(crate) struct Run<'r> {
    pub(crate) state: &'r State,
    pub(crate) stride: usize,
    pub(crate) log: Option<&'r Path>,
}

/// Numbers of changes by structure and outcome.
#[derive(Default)]
pub(crate) struct Tally {
    state: &'static str,
    counts: BTreeMap<&'static str, [u64; 4]>,
}

impl Run<'_> {
    /// Makes all changes.
    pub(crate) fn all(&self) -> Result<Tally, String> {
        let mut structures = self.state.structures.clone();
        structures
            .extend(data_slots(self.state).into_iter().map(|slot| Structure { slot, kind: Kind::Data }));
        let passed = self.passed();
        let next = AtomicUsize::new(0);
        let tally = Mutex::new(Tally { state: self.state.name, counts: BTreeMap::new() });
        let work = || -> Result<(), String> {
            while let Some(structure) = structures.get(next.fetch_add(1, Ordering::Relaxed)) {
                if passed.contains(&self.note(structure)) {
                    continue;
                }
                for outcome in self.structure(structure)? {
                    let mut tally = tally.lock().unwrap();
                    tally.counts.entry(structure.kind.name()).or_default()[outcome as usize] += 1;
                }
                self.remember(structure);
            }
            Ok(())
        };
        thread::scope(|scope| {
            let threads = [(); THREADS].map(|()| scope.spawn(work));
            threads.into_iter().try_for_each(|thread| thread.join().unwrap())
        })?;
        Ok(tally.into_inner().unwrap())
    }

    fn note(&self, structure: &Structure) -> String {
        format!("{} {} {:?} {}", self.stride, self.state.name, structure.kind, structure.slot)
    }

    fn passed(&self) -> HashSet<String> {
        let text = self.log.and_then(|log| fs::read_to_string(log).ok()).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn remember(&self, structure: &Structure) {
        if let Some(log) = self.log {
            let mut file = OpenOptions::new().append(true).create(true).open(log).unwrap();
            file.write_all(format!("{}\n", self.note(structure)).as_bytes()).unwrap();
        }
    }

    /// All changes of one structure.
    fn structure(&self, structure: &Structure) -> Result<Vec<Outcome>, String> {
        let page = page_of(&self.state.image, structure.slot);
        let stride = if structure.kind == Kind::Data { self.stride * DATA_STRIDES } else { self.stride };
        let mut outcomes = Vec::new();
        let first = mix(structure.slot) as usize % stride;
        for at in (first..SLOT_LEN).step_by(stride) {
            let mut changed = page;
            changed[at] ^= (mix(structure.slot << 16 | at as u64) % 255 + 1) as u8;
            let what = format!("byte {at}");
            outcomes.push(self.one(&what, &[(*structure, changed)])?);
        }
        let slot = structure.slot;
        outcomes.push(self.one("zeroed", &[(*structure, [0; SLOT_LEN])])?);
        outcomes.push(self.one("of before", &[(*structure, page_of(&self.state.older, slot))])?);
        outcomes.push(self.one("of another pool", &[(*structure, page_of(&self.state.other, slot))])?);
        let structures = &self.state.structures;
        let here = structures.iter().position(|other| other.slot == slot).unwrap_or(0);
        for distance in [1, structures.len() / 2] {
            let other = structures[(here + distance) % structures.len()];
            let pages = [(*structure, page_of(&self.state.image, other.slot)), (other, page)];
            outcomes.push(self.one("exchanged", &pages)?);
        }
        Ok(outcomes)
    }

    fn one(&self, what: &str, changes: &[(Structure, Page)]) -> Result<Outcome, String> {
        let disk = Disk::new(self.state.image.clone());
        changes.iter().for_each(|(structure, page)| disk.put(structure.slot, page));
        let changed: Vec<Structure> = changes.iter().map(|(structure, _)| *structure).collect();
        let looked = catch_unwind(AssertUnwindSafe(|| look(self.state, &disk, &changed)));
        let outcome = looked.unwrap_or_else(|_| Err("it panicked".to_owned()));
        outcome.map_err(|error| format!("{}, {what} of {changed:?}: {error}", self.state.name))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:20} {:>9} {:>11} {:>9} {:>9}", self.state, "whole", "parts lost", "older", "refused")?;
        for (kind, [whole, lost, older, refused]) in &self.counts {
            writeln!(f, "  {kind:18} {whole:>9} {lost:>11} {older:>9} {refused:>9}")?;
        }
        Ok(())
    }
}
