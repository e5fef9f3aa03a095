//! Frames whose slots lie in a row: one operation on the device for all of them.

use super::arena::Frame;
use super::format::SLOT_LEN;
use super::io::{DiskOp, PARTS_MAX, Part};
use super::tokens::Errand;

/// Slots of one operation: 1 MiB is what devices take without splitting it.
const SLOTS_MAX: u64 = 256;

/// An operation to which frames are still added.
#[derive(Debug)]
pub(super) struct Gathered {
    first: u64,
    slots: u64,
    parts: Vec<Part>,
}

impl Gathered {
    /// With one frame; `parts` is an empty list.
    pub(super) fn new(slot: u64, frame: Frame, mut parts: Vec<Part>) -> Gathered {
        parts.push(Part { offset: frame.offset(), len: SLOT_LEN });
        Gathered { first: slot, slots: 1, parts }
    }

    /// Adds a frame. `false` if its slot is not the next one, or there are enough.
    pub(super) fn add(&mut self, slot: u64, frame: Frame) -> bool {
        if slot != self.first + self.slots || self.slots >= SLOTS_MAX {
            return false;
        }
        let has_room = self.parts.len() < PARTS_MAX;
        match self.parts.last_mut() {
            Some(last) if last.offset + last.len == frame.offset() => last.len += SLOT_LEN,
            _ if has_room => {
                self.parts.push(Part { offset: frame.offset(), len: SLOT_LEN });
            }
            _ => return false,
        }
        self.slots += 1;
        true
    }

    /// Has the frames written to the slots.
    pub(super) fn write(self, errand: Errand) -> DiskOp {
        DiskOp::Write { token: errand.token(), offset: self.first * SLOT_LEN as u64, parts: self.parts }
    }

    /// Has the slots read into the frames.
    pub(super) fn read(self, errand: Errand) -> DiskOp {
        DiskOp::Read { token: errand.token(), offset: self.first * SLOT_LEN as u64, parts: self.parts }
    }
}
