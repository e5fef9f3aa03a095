//! Memory that writes down every store, so that the bytes can be brought back as they were after any of them:
//! that is what a kill at that point leaves. A filled range may be cut anywhere, and in any order: a copy does
//! not promise to run from front to back.

use std::cell::RefCell;
use std::rc::Rc;

use super::super::PoolMemory;

/// One store, or one range that was being filled.
#[derive(Debug, Clone)]
pub(super) enum Step {
    Word(usize, u64),
    Range(usize, Vec<u8>),
    Punch(usize, usize),
}

#[derive(Debug, Default)]
pub(super) struct Journal {
    pub(super) steps: Vec<Step>,
    /// A range that was given out and may still be being filled.
    open: Option<(usize, usize)>,
}

impl Journal {
    /// Steps so far, the open range counted as filled.
    pub(super) fn len(&self) -> usize {
        self.steps.len() + usize::from(self.open.is_some())
    }
}

#[derive(Debug)]
pub(super) struct JournalMemory {
    bytes: Vec<u8>,
    journal: Rc<RefCell<Journal>>,
}

impl JournalMemory {
    pub(super) fn new(bytes: Vec<u8>) -> (Self, Rc<RefCell<Journal>>) {
        let journal = Rc::new(RefCell::new(Journal::default()));
        (JournalMemory { bytes, journal: Rc::clone(&journal) }, journal)
    }

    /// All steps so far.
    pub(super) fn steps(&self) -> Vec<Step> {
        self.close();
        self.journal.borrow().steps.clone()
    }

    fn close(&self) {
        let mut journal = self.journal.borrow_mut();
        if let Some((offset, len)) = journal.open.take() {
            journal.steps.push(Step::Range(offset, self.bytes[offset..offset + len].to_vec()));
        }
    }
}

impl Drop for JournalMemory {
    fn drop(&mut self) {
        self.close();
    }
}

impl PoolMemory for JournalMemory {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        self.bytes.slice(offset, len)
    }

    fn slice_mut(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        self.close();
        self.journal.borrow_mut().open = Some((offset, len));
        self.bytes.slice_mut(offset, len)
    }

    fn load_u64(&self, offset: usize) -> Option<u64> {
        self.bytes.load_u64(offset)
    }

    fn publish_u64(&mut self, offset: usize, value: u64) -> Option<()> {
        self.close();
        self.journal.borrow_mut().steps.push(Step::Word(offset, value));
        self.bytes.publish_u64(offset, value)
    }

    fn punch(&mut self, offset: usize, len: usize) {
        assert!(
            offset.is_multiple_of(4096) && len.is_multiple_of(4096),
            "only whole pages can be given back"
        );
        self.close();
        self.journal.borrow_mut().steps.push(Step::Punch(offset, len));
        self.bytes.punch(offset, len);
    }
}

/// Does a step to an image.
pub(super) fn apply(image: &mut Vec<u8>, step: &Step) {
    match step {
        Step::Word(offset, value) => image.publish_u64(*offset, *value).unwrap(),
        Step::Range(offset, bytes) => image[*offset..*offset + bytes.len()].copy_from_slice(bytes),
        Step::Punch(offset, len) => image.punch(*offset, *len),
    }
}

/// Does some words of a range to an image: those whose bit is set in `pattern`, over and over.
pub(super) fn apply_torn(image: &mut [u8], step: &Step, pattern: u64) -> bool {
    let Step::Range(offset, bytes) = step else { return false };
    for (number, (old, new)) in image[*offset..].chunks_mut(8).zip(bytes.chunks(8)).enumerate() {
        if pattern >> (number % 64) & 1 == 1 {
            old[..new.len()].copy_from_slice(new);
        }
    }
    true
}

/// A small generator of numbers; every test names its seed.
#[derive(Debug, Clone)]
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }
}
