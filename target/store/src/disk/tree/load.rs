//! Pages that come from the device, from the root down, and what becomes of those that are damaged.

use super::{Child, Map, PageId, Tree, child_index, lose_image, lost_image};
use crate::disk::format::{CHILDREN_PER_PAGE, CellRef, Page, PagePointer, image_mut, pointer, set_pointer};
use crate::memory::VolumeIndex;

/// A page that is to be read.
#[derive(Debug, Clone, Copy)]
pub(in crate::disk) struct Wanted {
    /// Whose map.
    pub(in crate::disk) volume: VolumeIndex,
    /// Above leaves, which have 0.
    pub(in crate::disk) level: u8,
    /// Its first cell, divided by the cells that a page of its level covers.
    pub(in crate::disk) index: u64,
    /// Where it is.
    pub(in crate::disk) at: PagePointer,
    parent: Option<(PageId, usize)>,
}

impl Tree {
    /// The root of a map, to be read.
    pub(in crate::disk) fn want_root(
        &self,
        volume: VolumeIndex,
        height: u8,
        at: PagePointer,
    ) -> Option<Wanted> {
        let level = height.checked_sub(1)?;
        Some(Wanted { volume, level, index: 0, at, parent: None })
    }

    /// Takes a page in that is what it should be, and tells which ones to read next. What it says beyond the volume's end is
    /// dropped. `None` if there is no room for it.
    pub(in crate::disk) fn load(
        &mut self,
        wanted: &Wanted,
        bytes: &Page,
        next: &mut Vec<Wanted>,
    ) -> Option<()> {
        let Wanted { volume, level, index, at, .. } = *wanted;
        let page = self.place_loaded(wanted)?;
        let shape = self.node(page)?.shape;
        let node = self.node_mut(page)?;
        *node.bytes = *bytes;
        node.slot = at.slot;
        node.dirty = false;
        let within = self.places_within(page);
        let node = self.node_mut(page)?;
        if level == 0 {
            for place in within..usize::try_from(shape.cells_per_leaf()).unwrap_or(0) {
                image_mut(&mut node.bytes, shape, place).fill(0);
            }
            let live = node.images().count() as u64;
            self.count(page, live, 0);
            return Some(());
        }
        (within..CHILDREN_PER_PAGE).for_each(|place| set_pointer(&mut node.bytes, place, PagePointer::NONE));
        for place in 0..within {
            let below = pointer(bytes, place);
            let index = index * CHILDREN_PER_PAGE as u64 + place as u64;
            if below.is_lost() {
                self.lose_child(page, place);
            } else if !below.is_none() {
                let parent = Some((page, place));
                next.push(Wanted { volume, level: level - 1, index, at: below, parent });
            }
        }
        Some(())
    }

    /// How many places of a page stand for something within the volume.
    fn places_within(&self, page: PageId) -> usize {
        let Some(node) = self.node(page) else { return 0 };
        let Some(map) = self.map(node.volume) else { return 0 };
        let below = if node.level == 0 { Some(1) } else { node.shape.span(node.level - 1) };
        let first = node.shape.span(node.level).map(|span| span.saturating_mul(node.index));
        let Some((below, first)) = below.zip(first) else { return 0 };
        let places = if node.level == 0 { node.shape.cells_per_leaf() } else { CHILDREN_PER_PAGE as u64 };
        usize::try_from(map.cells.saturating_sub(first).div_ceil(below).min(places)).unwrap_or(0)
    }

    /// The volume has become longer. What is lost ends where it ended before.
    pub(in crate::disk) fn grow(&mut self, volume: VolumeIndex, cells: u64) {
        let Some(Map { shape, cells: end, root, height, .. }) = self.map(volume).copied() else { return };
        let covered = height.checked_sub(1).and_then(|level| shape.span(level));
        let mut at = root.filter(|_| covered.is_some_and(|covered| end < covered));
        while let Some(page) = at {
            let child = self.node(page).filter(|node| node.level > 0).and_then(|node| {
                let place = child_index(shape, node.level, end);
                node.children.get(place).filter(|child| **child != Child::None).map(|_| place)
            });
            at = child.and_then(|place| self.ensure_child(page, place));
        }
        if let Some(map) = self.map_mut(volume) {
            map.cells = cells;
        }
    }

    /// A page could not be read, or is not what it should be: what was under it is lost.
    pub(in crate::disk) fn lose(&mut self, wanted: &Wanted) -> Option<()> {
        self.losses = true;
        if let Some((parent, place)) = wanted.parent {
            // Where it was stays on record: perhaps it can be read another time.
            self.attach(parent, place, Child::Lost, wanted.at);
            return Some(());
        }
        // Without a root there is nothing to hold the mark: one is made.
        let page = self.place_loaded(wanted)?;
        self.lose_contents(page);
        Some(())
    }

    /// Every image of every map.
    pub(in crate::disk) fn for_each_image(&self, see: &mut dyn FnMut(VolumeIndex, u64, CellRef<'_>)) {
        for node in self.nodes.iter().flatten() {
            node.images().for_each(|(cell, image)| see(node.volume, cell, image));
        }
    }

    /// What a cell holds cannot be told.
    pub(in crate::disk) fn lose_cell(&mut self, volume: VolumeIndex, cell: u64) {
        if let Some(map) = self.map(volume) {
            let lost = lost_image(map.shape);
            self.set(volume, cell, lost);
            self.losses = true;
        }
    }

    fn place_loaded(&mut self, wanted: &Wanted) -> Option<PageId> {
        if self.pages() >= self.pages_max {
            return None;
        }
        let Wanted { volume, level, index, at, parent } = *wanted;
        let shape = self.map(volume)?.shape;
        let page = self.make(volume, shape, level, index, parent);
        match parent {
            Some((above, place)) => {
                let dirty = self.node(above)?.dirty;
                self.attach(above, place, Child::Page(page), at);
                self.node_mut(above)?.dirty = dirty;
            }
            None => {
                let map = self.map_mut(volume)?;
                (map.root, map.height, map.written) = (Some(page), level + 1, (level + 1, at));
            }
        }
        Some(page)
    }

    fn lose_child(&mut self, page: PageId, place: usize) {
        self.losses = true;
        self.attach(page, place, Child::Lost, PagePointer::LOST);
    }

    /// Makes everything under a fresh page lost, as far as the volume goes.
    pub(super) fn lose_contents(&mut self, page: PageId) {
        let within = self.places_within(page);
        let Some(node) = self.node_mut(page) else { return };
        let shape = node.shape;
        if node.level > 0 {
            return (0..within).for_each(|place| self.lose_child(page, place));
        }
        (0..within).for_each(|place| lose_image(shape, image_mut(&mut node.bytes, shape, place)));
        self.count(page, within as u64, 0);
    }
}
