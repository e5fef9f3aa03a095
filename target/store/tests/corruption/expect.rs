//! What a damaged pool must still be, worked out from what was written, by the rules of FORMAT.md.

use std::collections::BTreeMap;

use holdfast_store::disk::format::{CellRef, Superblock, cell_checksum, checksum_of};

use crate::disk::{Disk, page_of};
use crate::pool::{CellState, EMPTY, What, shape};
use crate::state::{At, CellThen, Kind, State};

/// What must be found.
pub(crate) enum Expected {
    /// The pool opens with these cells.
    Opens(BTreeMap<At, CellState>),
    /// It is not opened.
    Refused,
}

/// What is expected, and up to which block the journal is known to be durable.
pub(crate) fn expect(state: &State, disk: &Disk, damaged: &[u64]) -> (Expected, u64) {
    let there = |number: u64| state.has_block(disk, number);
    let marks = state.blocks.iter().filter_map(|block| there(block.number));
    let known = marks.max().unwrap_or(0).max(state.superblock.durable_through);
    let gone = state.blocks.iter().any(|block| block.number <= known && there(block.number).is_none());
    if gone || !superblocks_serve(disk) || !tables_serve(state, damaged) {
        return (Expected::Refused, known);
    }
    let cell = |at: At| {
        let mut pages = state.structures.iter().filter(|structure| damaged.contains(&structure.slot));
        let is_under_damage = pages.any(|structure| match structure.kind {
            Kind::Map { volume, first, cells } => volume == at.0 && (first..first + cells).contains(&at.1),
            _ => false,
        });
        for block in state.blocks.iter().rev().filter(|block| there(block.number).is_some()) {
            let Some(then) = block.cells.get(&at) else { continue };
            match (is_right(disk, at, then), block.number <= known) {
                (true, _) => return then.state,
                (false, true) => return lost(&then.state),
                (false, false) => {}
            }
        }
        match state.base.get(&at) {
            _ if is_under_damage => [What::Lost; 8],
            None => EMPTY,
            Some(then) if is_right(disk, at, then) => then.state,
            Some(then) => lost(&then.state),
        }
    };
    (Expected::Opens(state.cells.iter().map(|at| (*at, cell(*at))).collect()), known)
}

fn lost(state: &CellState) -> CellState {
    state.map(|what| if matches!(what, What::Data(_)) { What::Lost } else { what })
}

fn superblocks_serve(disk: &Disk) -> bool {
    let copies =
        [0, 1].map(|copy: u32| Superblock::decode(copy, &disk.slot(Superblock::SLOTS[copy as usize])).ok());
    match copies {
        [Some(first), Some(second)] => first.uuid == second.uuid,
        [first, second] => first.or(second).is_some(),
    }
}

fn tables_serve(state: &State, damaged: &[u64]) -> bool {
    let tables = state.structures.iter().filter(|structure| matches!(structure.kind, Kind::Table { .. }));
    tables.clone().all(|structure| {
        tables.clone().any(|copy| copy.kind == structure.kind && !damaged.contains(&copy.slot))
    })
}

/// Whether the data of a cell is on the device.
fn is_right(disk: &Disk, (volume, cell): At, then: &CellThen) -> bool {
    match CellRef::new(shape(volume), &then.image).filter(|image| image.slot() != 0) {
        None => true,
        Some(image) => {
            cell_checksum(checksum_of(&disk.slot(image.slot())), volume, cell, image) == image.checksum()
        }
    }
}

/// Slots of data that counts.
pub(crate) fn data_slots(state: &State) -> Vec<u64> {
    let disk = Disk::new(state.image.clone());
    let slot_of = |at: &At| {
        let blocks = state.blocks.iter().rev().filter(|block| state.has_block(&disk, block.number).is_some());
        let mut said = blocks.filter_map(|block| block.cells.get(at)).chain(state.base.get(at));
        let then = said.find(|then| is_right(&disk, *at, then))?;
        Some(CellRef::new(shape(at.0), &then.image)?.slot()).filter(|slot| *slot != 0)
    };
    state.cells.iter().filter_map(slot_of).collect()
}

/// Those slots whose bytes are not what they were.
pub(crate) fn damaged_of(state: &State, disk: &Disk, slots: &[u64]) -> Vec<u64> {
    slots.iter().copied().filter(|slot| disk.slot(*slot) != page_of(&state.image, *slot)).collect()
}

/// Whether a slot's data belongs to a block that is not known to be durable: if it is wrong, the block's cell does not count.
pub(crate) fn is_unsure(state: &State, slot: u64, known: u64) -> bool {
    let later = state.blocks.iter().filter(|block| block.number > known);
    later.flat_map(|block| &block.cells).any(|((volume, _), then)| {
        CellRef::new(shape(*volume), &then.image).is_some_and(|image| image.slot() == slot)
    })
}
