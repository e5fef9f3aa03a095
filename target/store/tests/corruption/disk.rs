//! A device in memory: an image that many share, and what was changed of it here.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::Arc;

use holdfast_store::disk::format::{Page, SLOT_LEN};
use holdfast_store::disk::io::{Device, DiskError};

/// Reads and writes that one opening, or one check, may take: who needs more does not end.
const OPERATIONS_MAX: u64 = 50_000;

pub(crate) struct Disk {
    base: Arc<Vec<u8>>,
    changed: RefCell<HashMap<u64, Page>>,
    /// What slots held before they were written, since this was last asked for.
    before: RefCell<Vec<(u64, Page)>>,
    operations: Cell<u64>,
}

impl Disk {
    pub(crate) fn new(base: Arc<Vec<u8>>) -> Disk {
        Disk { base, changed: RefCell::default(), before: RefCell::default(), operations: Cell::new(0) }
    }

    pub(crate) fn slot(&self, slot: u64) -> Page {
        if let Some(page) = self.changed.borrow().get(&slot) {
            return *page;
        }
        page_of(&self.base, slot)
    }

    pub(crate) fn put(&self, slot: u64, page: &Page) {
        self.changed.borrow_mut().insert(slot, *page);
    }

    pub(crate) fn take_before(&self) -> Vec<(u64, Page)> {
        self.before.take()
    }

    pub(crate) fn image(&self) -> Arc<Vec<u8>> {
        let mut image = (*self.base).clone();
        for (slot, page) in self.changed.borrow().iter() {
            let at = *slot as usize * SLOT_LEN;
            image[at..at + SLOT_LEN].copy_from_slice(page);
        }
        Arc::new(image)
    }

    fn count(&self) {
        self.operations.set(self.operations.get() + 1);
        assert!(self.operations.get() < OPERATIONS_MAX, "this does not end");
    }
}

pub(crate) fn page_of(image: &[u8], slot: u64) -> Page {
    let at = slot as usize * SLOT_LEN;
    image[at..at + SLOT_LEN].try_into().unwrap()
}

impl Device for Disk {
    fn len(&self) -> u64 {
        self.base.len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.count();
        if offset + into.len() as u64 > self.len() {
            return Err(DiskError::Io);
        }
        for (page, slot) in into.chunks_exact_mut(SLOT_LEN).zip(offset / SLOT_LEN as u64..) {
            page.copy_from_slice(&self.slot(slot));
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), DiskError> {
        self.count();
        assert!(offset + from.len() as u64 <= self.len(), "a write beyond the end");
        for (page, slot) in from.chunks_exact(SLOT_LEN).zip(offset / SLOT_LEN as u64..) {
            self.before.borrow_mut().push((slot, self.slot(slot)));
            self.put(slot, page.try_into().unwrap());
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}
