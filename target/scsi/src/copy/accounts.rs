//! How copies go and went, by list identifier. SPC-4 §5.17.4.5 "RECEIVE COPY RESULTS command held data", §6.20 and following.

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::sense::SenseBytes;

/// Copies of one nexus that are remembered. With one more the oldest that has ended is forgotten.
const KNOWN_MAX: usize = 64;

/// How far a copy is. Shared by its task and its nexus.
#[derive(Debug, Default)]
pub(crate) struct Account {
    state: AtomicU8,
    segments: AtomicU16,
    bytes: AtomicU64,
    sense: OnceLock<SenseBytes>,
}

/// COPY MANAGER STATUS.
const UNDER_WAY: u8 = 0;
const DONE: u8 = 1;
const FAILED: u8 = 2;

impl Account {
    /// So many bytes more are copied.
    pub(crate) fn copied(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// One segment more is copied.
    pub(crate) fn segment_done(&self) {
        self.segments.fetch_add(1, Ordering::Relaxed);
    }

    /// It has ended without error.
    pub(crate) fn done(&self) {
        self.state.store(DONE, Ordering::Relaxed);
    }

    /// It has ended with these sense data, or was given up.
    pub(crate) fn failed(&self, sense: Option<SenseBytes>) {
        if let Some(sense) = sense {
            // It ends once.
            let _ended_before = self.sense.set(sense);
        }
        self.state.store(FAILED, Ordering::Relaxed);
    }

    fn is_under_way(&self) -> bool {
        self.state.load(Ordering::Relaxed) == UNDER_WAY
    }

    /// Puts what COPY STATUS shows behind what `out` holds.
    pub(super) fn put_status(&self, out: &mut Vec<u8>) {
        let bytes = self.bytes.load(Ordering::Relaxed);
        // TRANSFER COUNT UNITS: bytes, or multiples of 1024 to the power of the code.
        let unit =
            (0..7_u8).find(|unit| bytes >> (10 * u32::from(*unit)) <= u64::from(u32::MAX)).unwrap_or(0);
        let count = u32::try_from(bytes >> (10 * u32::from(unit))).unwrap_or(u32::MAX);
        out.extend(8_u32.to_be_bytes());
        out.push(self.state.load(Ordering::Relaxed));
        out.extend(self.segments.load(Ordering::Relaxed).to_be_bytes());
        out.push(unit);
        out.extend(count.to_be_bytes());
    }

    /// The same of FAILED SEGMENT DETAILS: nothing, if no segment has failed.
    pub(super) fn put_failure(&self, out: &mut Vec<u8>) {
        let Some(sense) = self.sense.get().map(SenseBytes::as_slice) else {
            return out.extend(0_u32.to_be_bytes());
        };
        let len = u16::try_from(sense.len()).unwrap_or(u16::MAX);
        out.extend((56 + u32::from(len)).to_be_bytes());
        out.extend([0; 52]);
        // EXTENDED COPY COMMAND STATUS, reserved, SENSE DATA LENGTH.
        out.extend([crate::status::Status::CheckCondition.code(), 0]);
        out.extend(len.to_be_bytes());
        out.extend(sense);
    }
}

/// The copies of one nexus.
#[derive(Debug, Default)]
pub(crate) struct Copies(Vec<(Name, Arc<Account>)>);

/// LUN of the copy manager, and LIST IDENTIFIER.
type Name = (u16, u8);

impl Copies {
    /// Opens an account; `None` while a copy of this name is under way, or too many are.
    pub(super) fn open(&mut self, name: Name) -> Option<Arc<Account>> {
        if self.get(name).is_some_and(|account| account.is_under_way()) {
            return None;
        }
        self.0.retain(|(other, _)| *other != name);
        if self.0.len() >= KNOWN_MAX {
            let ended = self.0.iter().position(|(_, account)| !account.is_under_way())?;
            self.0.remove(ended);
        }
        let account = Arc::new(Account::default());
        self.0.push((name, Arc::clone(&account)));
        Some(account)
    }

    pub(super) fn get(&self, name: Name) -> Option<&Account> {
        self.0.iter().find(|(other, _)| *other == name).map(|(_, account)| &**account)
    }
}
