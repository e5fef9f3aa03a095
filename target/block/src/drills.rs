//! Drills: a bit that is flipped on purpose, to see whether what follows is noticed, told, and laid at the right door.
//!
//! The bit goes bad in this process's memory, after the protection information of a block was checked on its way in and
//! before the store makes its own checksum of it: nothing between here and the medium can notice, and the next reader does.

use crate::attribution::FaultSink;
use crate::ticket::{Shape, Work};
use crate::{Command, Lba, Operation, Service, Store, TicketId, VolumeId};

/// Drills that may wait at one time on a core: each is looked at for every write while there are any.
pub const DRILLS_MAX: usize = 64;

/// A bit that waits for the next write of its block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drill {
    /// The asker's number for it.
    pub key: u64,
    /// The volume.
    pub volume: VolumeId,
    /// The block.
    pub lba: Lba,
    /// Below 8 × block length a bit of the data, the lowest of the first byte first; beyond, of the tuple.
    pub bit: usize,
}

/// Drills that wait, and those that were carried out.
#[derive(Debug, Default)]
pub(crate) struct Drills {
    armed: Vec<Drill>,
    sprung: Vec<u64>,
}

impl<S: Store, F: FaultSink> Service<S, F> {
    /// Lets a drill wait for its write. `false` if too many wait already.
    pub fn arm(&mut self, drill: Drill) -> bool {
        let room = self.drills.armed.len() < DRILLS_MAX;
        if room {
            self.drills.armed.push(drill);
        }
        room
    }

    /// Keys of the drills that were carried out since the last call.
    pub fn take_sprung(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.drills.sprung)
    }

    /// A write is about to go to the store, checked and whole.
    #[inline]
    pub(crate) fn drill(&mut self, id: TicketId) {
        if self.drills.armed.is_empty() {
            return;
        }
        let Some(ticket) = self.tickets.get(id) else { return };
        let Some(Work { command, shape }) = ticket.work else { return };
        if command.operation != Operation::Write {
            return;
        }
        let slots = &ticket.slots;
        let (store, sprung) = (&mut self.store, &mut self.drills.sprung);
        self.drills.armed.retain(|drill| {
            let Some(slot) = place_of(drill, &command, &shape).and_then(|index| slots.get(index)) else {
                return true;
            };
            let flipped = match drill.bit.checked_sub(shape.block_len * 8) {
                None => flip(store.data_mut(shape.volume, *slot), drill.bit),
                Some(bit) => {
                    let mut record = store.record(shape.volume, *slot);
                    let flipped = flip(Some(&mut record.tuple), bit);
                    store.set_record(shape.volume, *slot, &record);
                    flipped
                }
            };
            if flipped {
                sprung.push(drill.key);
            }
            !flipped
        });
    }
}

/// Which of a command's blocks a drill waits for.
fn place_of(drill: &Drill, command: &Command, shape: &Shape) -> Option<usize> {
    if drill.volume != shape.volume {
        return None;
    }
    let index = drill.lba.0.checked_sub(command.lba.0)?;
    usize::try_from(index).ok().filter(|index| *index < command.blocks.as_usize())
}

fn flip(bytes: Option<&mut [u8]>, bit: usize) -> bool {
    let byte = bytes.and_then(|bytes| bytes.get_mut(bit / 8));
    byte.map(|byte| *byte ^= 1 << (bit % 8)).is_some()
}
