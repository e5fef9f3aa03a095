//! The descriptor store: what a child entrusts to `up` and gets back after a crash.
//! sd_pid_notify_with_fds(3): FDSTORE=1, FDSTOREREMOVE=1.
//!
//! A memory pool is a memfd. Its pages live as long as any process holds the descriptor, so holding a copy
//! here is all it takes to carry the pool over the target's death.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::fdname::FdName;

/// Most descriptors kept for one child: one per memory pool, far above any sensible number of pools, and with
/// the copies made for starting a child still far below the usual limit of 1024 open files.
const STORED_MAX: usize = 256;

/// Descriptors by name.
#[derive(Debug, Default)]
pub(crate) struct FdStore {
    entries: BTreeMap<FdName, OwnedFd>,
}

/// The store has no room for one more name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store already holds {STORED_MAX} descriptors")]
pub(crate) struct StoreFull;

impl FdStore {
    /// Keeps a descriptor. One that was kept under the same name is closed; returns whether there was one.
    ///
    /// # Errors
    /// The name is new and the store is full.
    pub(crate) fn insert(&mut self, name: FdName, fd: OwnedFd) -> Result<bool, StoreFull> {
        if self.entries.len() >= STORED_MAX && !self.entries.contains_key(&name) {
            return Err(StoreFull);
        }
        Ok(self.entries.insert(name, fd).is_some())
    }

    /// Closes a kept descriptor; returns whether there was one.
    pub(crate) fn remove(&mut self, name: &FdName) -> bool {
        self.entries.remove(name).is_some()
    }

    /// All kept descriptors in the order of their names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&FdName, BorrowedFd<'_>)> {
        self.entries.iter().map(|(name, fd)| (name, fd.as_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> FdName {
        FdName::parse(text).unwrap()
    }

    fn fd() -> OwnedFd {
        std::io::pipe().unwrap().0.into()
    }

    #[test]
    fn same_name_replaces_and_removal_frees() {
        let mut store = FdStore::default();
        assert_eq!(store.insert(name("b"), fd()), Ok(false));
        assert_eq!(store.insert(name("a"), fd()), Ok(false));
        assert_eq!(store.insert(name("b"), fd()), Ok(true));
        let names: Vec<&str> = store.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b"]);
        assert!(store.remove(&name("b")));
        assert!(!store.remove(&name("b")));
    }

    #[test]
    fn full_store_refuses_new_names_and_still_replaces() {
        let mut store = FdStore::default();
        for n in 0..STORED_MAX {
            assert_eq!(store.insert(name(&format!("pool-{n}")), fd()), Ok(false));
        }
        assert_eq!(store.insert(name("one-more"), fd()), Err(StoreFull));
        assert_eq!(store.insert(name("pool-7"), fd()), Ok(true));
        assert!(store.remove(&name("pool-7")));
        assert_eq!(store.insert(name("one-more"), fd()), Ok(false));
    }
}
