//! The maps of a pool in memory: for each volume a radix tree of pages, each the very bytes that go to the device.
//!
//! | module | what it decides |
//! |---|---|
//! | this one | pages, finding and setting a cell, what is added and taken away on the way |
//! | [`trim`] | ranges that become holes: subtrees are detached at once and taken apart bit by bit |
//! | [`checkpoint`] | which pages a checkpoint writes, from the leaves up, while changes go on |
//! | [`load`] | pages that come from the device, and pages that are lost |

mod checkpoint;
mod load;
#[cfg(test)]
mod tests;
mod trim;

use std::ops::Range;
use std::sync::LazyLock;

pub(in crate::disk) use load::Wanted;

use super::format::{
    BlockState, CELL_IMAGE_LEN_MAX, CHILDREN_PER_PAGE, CellMut, CellRef, CellShape, HEIGHT_MAX, Page,
    PagePointer, SLOT_LEN, image, image_mut, set_pointer,
};
use super::room::Growth;
use crate::VOLUMES_PER_POOL_MAX;
use crate::memory::VolumeIndex;

/// Number of a page in memory.
type PageId = usize;

/// The maps of all volumes.
#[derive(Debug)]
pub(in crate::disk) struct Tree {
    nodes: Vec<Option<Node>>,
    free: Vec<PageId>,
    /// Rises with each page that is made, so that an old mention of a page does not find the next one in its place.
    births: u64,
    pages_max: u64,
    maps: Vec<Map>,
    /// Cells that are no holes.
    live: u64,
    /// Blocks were lost.
    losses: bool,
    detached: Vec<trim::Detached>,
    dirty: Vec<Mention>,
    queue: checkpoint::Queue,
    /// Slots of pages that are no more, for the next checkpoint to set free.
    freed: Vec<u64>,
    /// Cells that have become holes, and pages that are no more, since somebody asked.
    emptied: Growth,
}

/// A page that may be gone by the time when it is looked at.
#[derive(Debug, Clone, Copy)]
struct Mention {
    page: PageId,
    birth: u64,
}

/// One volume's map.
#[derive(Debug, Clone, Copy)]
struct Map {
    shape: CellShape,
    /// Those of the volume: beyond them there is nothing, and nothing lost.
    cells: u64,
    root: Option<PageId>,
    /// Levels; a leaf alone is 1.
    height: u8,
    /// Height and root as they were last written.
    written: (u8, PagePointer),
}

#[derive(Debug)]
struct Node {
    bytes: Box<Page>,
    birth: u64,
    volume: VolumeIndex,
    shape: CellShape,
    level: u8,
    /// The first cell under it, divided by the cells that a page of its level covers.
    index: u64,
    parent: Option<(PageId, usize)>,
    /// Of inner pages.
    children: Vec<Child>,
    /// Cells under it that are no holes. Of lost ones only those that were materialized.
    live: u64,
    /// Pointers that are not empty, of inner pages.
    used: usize,
    /// Where it was written last; 0: nowhere.
    slot: u64,
    dirty: bool,
    /// It is to be written by the checkpoint under way.
    queued: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Child {
    None,
    Page(PageId),
    Lost,
}

/// What there is over a cell.
enum Over<'t> {
    Nothing,
    Lost,
    Page(&'t Node),
}

impl Map {
    fn empty(shape: CellShape, cells: u64) -> Map {
        Map { shape, cells, root: None, height: 0, written: (0, PagePointer::NONE) }
    }
}

impl Tree {
    /// No map yet. At most about `pages_max` pages are admitted.
    pub(in crate::disk) fn new(pages_max: u64) -> Tree {
        let map = Map::empty(CellShape::Large, 0);
        Tree {
            nodes: Vec::new(),
            free: Vec::new(),
            births: 0,
            pages_max,
            maps: vec![map; VOLUMES_PER_POOL_MAX],
            live: 0,
            losses: false,
            detached: Vec::new(),
            dirty: Vec::new(),
            queue: checkpoint::Queue::default(),
            freed: Vec::new(),
            emptied: Growth::default(),
        }
    }

    /// At most about so many pages are admitted from now on; what is there stays.
    pub(in crate::disk) fn set_pages_max(&mut self, pages_max: u64) {
        self.pages_max = pages_max;
    }

    /// Begins an empty map for a volume of so many cells.
    pub(in crate::disk) fn add(&mut self, volume: VolumeIndex, shape: CellShape, cells: u64) {
        if let Some(map) = self.map_mut(volume) {
            *map = Map::empty(shape, cells);
        }
    }

    /// Pages in memory.
    pub(in crate::disk) fn pages(&self) -> u64 {
        (self.nodes.len() - self.free.len()) as u64
    }

    /// What has become of no use since this was asked for last.
    pub(in crate::disk) fn take_emptied(&mut self) -> Growth {
        std::mem::take(&mut self.emptied)
    }

    /// Cells of all volumes that are no holes.
    pub(in crate::disk) fn cells_live(&self) -> u64 {
        self.live
    }

    /// Cells of a volume that are no holes.
    pub(in crate::disk) fn live(&self, volume: VolumeIndex) -> u64 {
        let root = self.map(volume).and_then(|map| map.root);
        root.and_then(|root| self.node(root)).map_or(0, |node| node.live)
    }

    /// Height and root of a map as the checkpoint under way, or the last one, has written them.
    pub(in crate::disk) fn written(&self, volume: VolumeIndex) -> (u8, PagePointer) {
        self.map(volume).map_or((0, PagePointer::NONE), |map| map.written)
    }

    /// Whether blocks were found to be lost.
    pub(in crate::disk) fn has_losses(&self) -> bool {
        self.losses
    }

    /// The image of a cell; `None` for a hole.
    pub(in crate::disk) fn get(&self, volume: VolumeIndex, cell: u64) -> Option<&[u8]> {
        let map = self.map(volume)?;
        match self.over(map, cell, 0) {
            Over::Nothing => None,
            Over::Lost => Some(lost_image(map.shape)),
            Over::Page(node) => {
                let bytes = image(&node.bytes, map.shape, leaf_index(map.shape, cell));
                CellRef::new(map.shape, bytes).filter(|image| !image.is_hole()).map(CellRef::bytes)
            }
        }
    }

    /// Whether a page over a cell is lost.
    pub(in crate::disk) fn is_under_lost_page(&self, volume: VolumeIndex, cell: u64) -> bool {
        self.losses && self.map(volume).is_some_and(|map| matches!(self.over(map, cell, 0), Over::Lost))
    }

    /// How many cells of a range are no holes. Those under lost pages do not count: written, they take pages, too.
    pub(in crate::disk) fn live_in(&self, volume: VolumeIndex, cells: Range<u64>) -> u64 {
        let is_there =
            |cell: &u64| self.get(volume, *cell).is_some() && !self.is_under_lost_page(volume, *cell);
        cells.filter(is_there).count() as u64
    }

    /// How many pages are missing over a range of cells, at most. `None` if there is no room for so many beside those that are
    /// promised to others.
    pub(in crate::disk) fn missing(
        &self,
        volume: VolumeIndex,
        cells: Range<u64>,
        promised: u64,
    ) -> Option<u64> {
        let map = self.map(volume)?;
        let last = cells.end.saturating_sub(1);
        let needed = map.shape.height_for(cells.end)?.max(map.height);
        let mut missing = u64::from(needed - map.height);
        for level in 0..needed {
            let span = map.shape.span(level)?;
            for index in cells.start / span..=last / span {
                let is_there = matches!(self.over(map, index * span, level), Over::Page(_));
                missing += u64::from(!is_there);
            }
        }
        (self.pages() + promised + missing <= self.pages_max).then_some(missing)
    }

    /// What there is over a cell at a level.
    fn over(&self, map: &Map, cell: u64, level: u8) -> Over<'_> {
        let Some(mut node) = map.root.and_then(|root| self.node(root)) else { return Over::Nothing };
        if map.shape.span(node.level).is_none_or(|span| cell >= span) {
            return Over::Nothing;
        }
        while node.level > level {
            let child = node.children.get(child_index(map.shape, node.level, cell));
            node = match child.copied().unwrap_or(Child::None) {
                Child::None => return Over::Nothing,
                Child::Lost => return Over::Lost,
                Child::Page(page) => match self.node(page) {
                    Some(below) => below,
                    None => return Over::Nothing,
                },
            };
        }
        Over::Page(node)
    }

    /// Sets the image of a cell, and gives the slot that the one before had. Pages are added or taken away as needed.
    pub(in crate::disk) fn set(&mut self, volume: VolumeIndex, cell: u64, bytes: &[u8]) -> Option<u64> {
        let shape = self.map(volume)?.shape;
        let hole = CellRef::new(shape, bytes)?.is_hole();
        if hole && self.get(volume, cell).is_none() {
            return None;
        }
        let leaf = self.ensure_leaf(volume, cell)?;
        let place = leaf_index(shape, cell);
        let node = self.node_mut(leaf)?;
        let old = image_mut(&mut node.bytes, shape, place);
        let before = CellRef::new(shape, old)?;
        let (slot, was_hole) = (Some(before.slot()).filter(|slot| *slot != 0), before.is_hole());
        old.copy_from_slice(bytes);
        self.touch(leaf);
        match (was_hole, hole) {
            (true, false) => self.count(leaf, 1, 0),
            (false, true) => {
                self.count(leaf, 0, 1);
                self.prune(leaf);
            }
            _ => {}
        }
        slot
    }

    /// The leaf over a cell, with what is missing above it added.
    fn ensure_leaf(&mut self, volume: VolumeIndex, cell: u64) -> Option<PageId> {
        let shape = self.map(volume)?.shape;
        loop {
            let map = self.map(volume)?;
            match map.root {
                Some(_) if shape.span(map.height - 1).is_some_and(|span| cell < span) => break,
                _ => self.raise(volume, cell)?,
            }
        }
        let mut page = self.map(volume)?.root?;
        loop {
            let node = self.node(page)?;
            if node.level == 0 {
                return Some(page);
            }
            page = self.ensure_child(page, child_index(shape, node.level, cell))?;
        }
    }

    /// The page at a place of an inner page, added if it is missing. One in place of what is lost says of each cell, or page, that
    /// it is lost.
    fn ensure_child(&mut self, page: PageId, place: usize) -> Option<PageId> {
        let node = self.node(page)?;
        let child = *node.children.get(place)?;
        if let Child::Page(there) = child {
            return Some(there);
        }
        let index = node.index * CHILDREN_PER_PAGE as u64 + place as u64;
        let added = self.make(node.volume, node.shape, node.level - 1, index, Some((page, place)));
        self.attach(page, place, Child::Page(added), PagePointer::NONE);
        if child == Child::Lost {
            self.lose_contents(added);
        }
        Some(added)
    }

    /// Puts one page on top, or a first one high enough for a cell.
    fn raise(&mut self, volume: VolumeIndex, cell: u64) -> Option<()> {
        let map = *self.map(volume)?;
        let Some(root) = map.root else {
            let height = map.shape.height_for(cell.checked_add(1)?)?;
            let page = self.make(volume, map.shape, height - 1, 0, None);
            let map = self.map_mut(volume)?;
            (map.root, map.height) = (Some(page), height);
            return Some(());
        };
        let height = map.height.checked_add(1).filter(|height| *height <= HEIGHT_MAX)?;
        let page = self.make(volume, map.shape, height - 1, 0, None);
        let old = self.node_mut(root)?;
        old.parent = Some((page, 0));
        let (live, slot) = (old.live, old.slot);
        let pointer = if slot == 0 { PagePointer::NONE } else { map.written.1 };
        self.attach(page, 0, Child::Page(root), pointer);
        self.node_mut(page)?.live = live;
        let map = self.map_mut(volume)?;
        (map.root, map.height) = (Some(page), height);
        self.queue_new_root(page, root);
        Some(())
    }

    fn make(
        &mut self,
        volume: VolumeIndex,
        shape: CellShape,
        level: u8,
        index: u64,
        parent: Option<(PageId, usize)>,
    ) -> PageId {
        self.births += 1;
        let children = if level == 0 { Vec::new() } else { vec![Child::None; CHILDREN_PER_PAGE] };
        let node = Node {
            bytes: Box::new([0; SLOT_LEN]),
            birth: self.births,
            volume,
            shape,
            level,
            index,
            parent,
            children,
            live: 0,
            used: 0,
            slot: 0,
            dirty: false,
            queued: false,
        };
        let page = self.free.pop().unwrap_or(self.nodes.len());
        match self.nodes.get_mut(page) {
            Some(place) => *place = Some(node),
            None => self.nodes.push(Some(node)),
        }
        self.touch(page);
        page
    }

    /// Sets a child of an inner page, in memory and in its bytes.
    fn attach(&mut self, page: PageId, place: usize, child: Child, at: PagePointer) {
        let Some(node) = self.node_mut(page) else { return };
        let Some(old) = node.children.get_mut(place) else { return };
        match (*old == Child::None, child == Child::None) {
            (true, false) => node.used += 1,
            (false, true) => node.used -= 1,
            _ => {}
        }
        *old = child;
        set_pointer(&mut node.bytes, place, at);
        self.touch(page);
    }

    /// A page is not any more what is on the device.
    fn touch(&mut self, page: PageId) {
        let Some(node) = self.nodes.get_mut(page).and_then(Option::as_mut) else { return };
        if !node.dirty {
            node.dirty = true;
            self.dirty.push(Mention { page, birth: node.birth });
        }
    }

    /// Counts cells that have come and gone under a page, in it and everywhere above.
    fn count(&mut self, page: PageId, more: u64, less: u64) {
        self.live = self.live + more - less;
        self.emptied.cells += less;
        let mut at = Some(page);
        while let Some(node) = at.and_then(|page| self.node_mut(page)) {
            node.live = node.live + more - less;
            at = node.parent.map(|(parent, _)| parent);
        }
    }

    /// Takes pages away that have become empty, from one up.
    fn prune(&mut self, mut page: PageId) {
        while let Some(node) = self.node(page) {
            let empty = node.live == 0 && node.used == 0;
            let (parent, volume) = (node.parent, node.volume);
            if !empty {
                return;
            }
            self.drop_page(page);
            match parent {
                Some((above, place)) => {
                    self.attach(above, place, Child::None, PagePointer::NONE);
                    page = above;
                }
                None => return self.drop_root(volume),
            }
        }
    }

    fn drop_root(&mut self, volume: VolumeIndex) {
        if let Some(map) = self.map_mut(volume) {
            (map.root, map.height, map.written) = (None, 0, (0, PagePointer::NONE));
        }
    }

    /// Ends a page. Its slot is still what the last checkpoint, or the one under way, may need.
    fn drop_page(&mut self, page: PageId) {
        if let Some(node) = self.nodes.get_mut(page).and_then(Option::take) {
            if node.slot != 0 {
                self.freed.push(node.slot);
            }
            self.free.push(page);
            self.emptied.pages += 1;
        }
    }

    fn map(&self, volume: VolumeIndex) -> Option<&Map> {
        self.maps.get(volume.as_usize())
    }

    fn map_mut(&mut self, volume: VolumeIndex) -> Option<&mut Map> {
        self.maps.get_mut(volume.as_usize())
    }

    fn node(&self, page: PageId) -> Option<&Node> {
        self.nodes.get(page)?.as_ref()
    }

    fn node_mut(&mut self, page: PageId) -> Option<&mut Node> {
        self.nodes.get_mut(page)?.as_mut()
    }

    fn mentioned(&self, mention: Mention) -> Option<&Node> {
        self.node(mention.page).filter(|node| node.birth == mention.birth)
    }
}

fn child_index(shape: CellShape, level: u8, cell: u64) -> usize {
    let span = shape.span(level.saturating_sub(1)).unwrap_or(u64::MAX);
    usize::try_from(cell / span % CHILDREN_PER_PAGE as u64).unwrap_or(0)
}

fn leaf_index(shape: CellShape, cell: u64) -> usize {
    usize::try_from(cell % shape.cells_per_leaf()).unwrap_or(0)
}

/// The image of a cell that is lost.
fn lost_image(shape: CellShape) -> &'static [u8] {
    static LOST_IMAGES: LazyLock<[[u8; CELL_IMAGE_LEN_MAX]; 2]> = LazyLock::new(|| {
        [CellShape::Large, CellShape::Small].map(|shape| {
            let mut bytes = [0; CELL_IMAGE_LEN_MAX];
            lose_image(shape, bytes.get_mut(..shape.image_len()).unwrap_or_default());
            bytes
        })
    });
    let [large, small] = &*LOST_IMAGES;
    let bytes = if shape == CellShape::Large { large } else { small };
    bytes.get(..shape.image_len()).unwrap_or_default()
}

/// Makes an image lost where it lies.
fn lose_image(shape: CellShape, bytes: &mut [u8]) {
    if let Some(mut image) = CellMut::new(shape, bytes) {
        image.clear();
        let sectors = image.as_ref().sectors();
        (0..sectors).for_each(|sector| image.set_block(sector, BlockState::Lost, 0, &[]));
    }
}
