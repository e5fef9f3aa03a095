//! Ranges that become holes. Whole subtrees are detached, which takes as long as a tree is high, and taken apart later, a few
//! pages at a time: so the map is right at once however much was allocated, and slots come back bit by bit.

use std::ops::Range;

use super::{Child, Node, PageId, Tree, leaf_index};
use crate::disk::format::{CHILDREN_PER_PAGE, CellMut, CellRef, PagePointer, image, image_mut};
use crate::memory::VolumeIndex;

/// A subtree that is in no map any more.
#[derive(Debug, Clone, Copy)]
pub(super) struct Detached {
    page: PageId,
    number: u64,
}

impl Tree {
    /// Turns cells into holes. Slots of single cells are given at once, those of whole subtrees by [`Self::reap`] with `number`.
    pub(in crate::disk) fn trim(
        &mut self,
        volume: VolumeIndex,
        cells: Range<u64>,
        number: u64,
        free: &mut dyn FnMut(u64),
    ) {
        let Some(map) = self.map(volume).copied() else { return };
        let Some((root, span)) = map.root.zip(map.shape.span(map.height.saturating_sub(1))) else { return };
        // Behind the volume's end there is nothing.
        let end = if cells.end >= map.cells { span } else { cells.end.min(span) };
        let cells = cells.start..end;
        if cells.is_empty() {
            return;
        }
        if cells == (0..span) {
            return self.detach(volume, number);
        }
        self.trim_page(root, &cells, number, free);
        self.prune(root);
    }

    /// Takes a whole map away.
    pub(in crate::disk) fn detach(&mut self, volume: VolumeIndex, number: u64) {
        let Some(root) = self.map(volume).and_then(|map| map.root) else { return };
        let live = self.node(root).map_or(0, |node| node.live);
        self.live -= live;
        self.emptied.cells += live;
        self.detached.push(Detached { page: root, number });
        self.drop_root(volume);
    }

    /// Whether subtrees wait to be taken apart.
    pub(in crate::disk) fn has_detached(&self) -> bool {
        !self.detached.is_empty()
    }

    /// Takes some pages of detached subtrees apart: slots of their cells, each with the number that it was detached by.
    pub(in crate::disk) fn reap(&mut self, mut pages: usize, free: &mut dyn FnMut(u64, u64)) {
        while pages > 0
            && let Some(Detached { page, number }) = self.detached.pop()
        {
            pages -= 1;
            let Some(node) = self.node(page) else { continue };
            for slot in slots_of(node) {
                free(slot, number);
            }
            let children: Vec<PageId> = node.pages_below().collect();
            self.detached.extend(children.into_iter().map(|page| Detached { page, number }));
            self.drop_page(page);
        }
    }

    /// Turns cells under a page into holes; the page stays, though it may be empty.
    fn trim_page(&mut self, page: PageId, cells: &Range<u64>, number: u64, free: &mut dyn FnMut(u64)) {
        let Some(node) = self.node(page) else { return };
        let (shape, level) = (node.shape, node.level);
        if level == 0 {
            return self.trim_leaf(page, cells, free);
        }
        let Some((span, first)) =
            shape.span(level - 1).and_then(|span| Some((span, node.index * shape.span(level)?)))
        else {
            return;
        };
        let from = cells.start.saturating_sub(first) / span;
        let to = (cells.end - first).div_ceil(span);
        for place in from..to.min(node_len(level)) {
            let under = first + place * span..(first + place * span).saturating_add(span);
            let whole = cells.start <= under.start && under.end <= cells.end;
            let Ok(place) = usize::try_from(place) else { return };
            let child = self.node(page).and_then(|node| node.children.get(place).copied());
            match child {
                Some(Child::Page(child)) if whole => {
                    let live = self.node(child).map_or(0, |node| node.live);
                    self.attach(page, place, Child::None, PagePointer::NONE);
                    self.count(page, 0, live);
                    if let Some(node) = self.node_mut(child) {
                        node.parent = None;
                    }
                    self.detached.push(Detached { page: child, number });
                }
                Some(Child::Lost) if whole => self.attach(page, place, Child::None, PagePointer::NONE),
                Some(Child::Page(_) | Child::Lost) => {
                    let part = cells.start.max(under.start)..cells.end.min(under.end);
                    let Some(child) = self.ensure_child(page, place) else { return };
                    self.trim_page(child, &part, number, free);
                    self.prune(child);
                }
                Some(Child::None) | None => {}
            }
        }
    }

    fn trim_leaf(&mut self, page: PageId, cells: &Range<u64>, free: &mut dyn FnMut(u64)) {
        let Some(node) = self.node_mut(page) else { return };
        let shape = node.shape;
        let mut gone = 0;
        for cell in cells.clone() {
            let bytes = image_mut(&mut node.bytes, shape, leaf_index(shape, cell));
            let Some(mut image) = CellMut::new(shape, bytes) else { continue };
            if image.as_ref().is_hole() {
                continue;
            }
            let slot = image.as_ref().slot();
            if slot != 0 {
                free(slot);
            }
            image.clear();
            gone += 1;
        }
        if gone > 0 {
            self.touch(page);
            self.count(page, 0, gone);
        }
    }
}

impl Node {
    pub(super) fn pages_below(&self) -> impl Iterator<Item = PageId> {
        self.children.iter().filter_map(|child| match child {
            Child::Page(page) => Some(*page),
            Child::None | Child::Lost => None,
        })
    }

    /// The images of a leaf that are no holes.
    pub(super) fn images(&self) -> impl Iterator<Item = (u64, CellRef<'_>)> {
        let (shape, level) = (self.shape, self.level);
        let count = if level == 0 { shape.cells_per_leaf() } else { 0 };
        let first = self.index * shape.cells_per_leaf();
        let images = (0..count).filter_map(move |place| {
            let bytes = image(&self.bytes, shape, usize::try_from(place).ok()?);
            Some((first + place, CellRef::new(shape, bytes)?))
        });
        images.filter(|(_, image)| !image.is_hole())
    }
}

fn slots_of(node: &Node) -> Vec<u64> {
    node.images().map(|(_, image)| image.slot()).filter(|slot| *slot != 0).collect()
}

/// Children of an inner page.
fn node_len(level: u8) -> u64 {
    if level == 0 { 0 } else { CHILDREN_PER_PAGE as u64 }
}
