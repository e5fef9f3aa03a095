//! Which pages a checkpoint writes: all that were dirty when it began, and those above them, from the leaves up, so that each
//! holds where those below it went.
//!
//! Changes go on meanwhile. A page is written as it is when its turn comes. One that is changed after that is
//! dirty again, for the next checkpoint; what is added or taken away below a page that has been written is told by the
//! journal, which begins before.

use super::{Child, Mention, PageId, Tree};
use crate::disk::format::{HEIGHT_MAX, Page, PageHeader, PagePointer};

/// Pages to be written, by level.
#[derive(Debug, Default)]
pub(super) struct Queue {
    levels: [Vec<Mention>; HEIGHT_MAX as usize],
    under_way: bool,
    /// Slots that the next commit sets free.
    freed: Vec<u64>,
}

impl Tree {
    /// Whether there is anything to write.
    pub(in crate::disk) fn has_dirty(&self) -> bool {
        !self.dirty.is_empty() || !self.freed.is_empty()
    }

    /// Gathers what is to be written.
    pub(in crate::disk) fn begin_checkpoint(&mut self) {
        self.queue.under_way = true;
        self.queue.freed.append(&mut self.freed);
        for mention in std::mem::take(&mut self.dirty) {
            if self.mentioned(mention).is_some_and(|node| node.dirty) {
                self.enqueue(mention.page);
            }
        }
    }

    /// Has a page written, and those above it.
    fn enqueue(&mut self, page: PageId) {
        let mut at = Some(page);
        while let Some(page) = at {
            let Some(node) = self.node_mut(page) else { return };
            if node.queued {
                return;
            }
            node.queued = true;
            let (level, birth) = (usize::from(node.level), node.birth);
            at = node.parent.map(|(parent, _)| parent);
            if let Some(list) = self.queue.levels.get_mut(level) {
                list.push(Mention { page, birth });
            }
        }
    }

    /// A page has come on top of a root. If that is to be written, or was written by the checkpoint under way, its pointer must
    /// get to the device with it.
    pub(super) fn queue_new_root(&mut self, page: PageId, old: PageId) {
        let queued = self.node(old).is_some_and(|node| node.queued);
        if self.queue.under_way && queued {
            self.enqueue(page);
        }
    }

    /// The next page to write; `None` when all have been.
    pub(in crate::disk) fn next_to_write(&mut self) -> Option<PageId> {
        for level in 0..self.queue.levels.len() {
            while let Some(mention) = self.queue.levels.get_mut(level)?.pop() {
                if self.mentioned(mention).is_some_and(|node| node.queued) {
                    return Some(mention.page);
                }
            }
        }
        None
    }

    /// A page's bytes as they go to the device.
    pub(in crate::disk) fn image_for_write(&mut self, page: PageId, generation: u64) -> Option<&Page> {
        let node = self.node_mut(page)?;
        let volume = node.volume.as_u32();
        PageHeader::of_map(volume, node.level, node.index, generation).encode(&mut node.bytes);
        node.dirty = false;
        Some(&node.bytes)
    }

    /// Where a page goes, and where it was: that slot is free once the checkpoint is committed.
    pub(in crate::disk) fn written_to(&mut self, page: PageId, pointer: PagePointer) -> Option<u64> {
        let node = self.node_mut(page)?;
        let old = std::mem::replace(&mut node.slot, pointer.slot);
        node.queued = false;
        let (parent, volume, level) = (node.parent, node.volume, node.level);
        match parent {
            Some((above, place)) => {
                self.attach(above, place, Child::Page(page), pointer);
            }
            None => {
                if let Some(map) = self.map_mut(volume).filter(|map| map.root == Some(page)) {
                    map.written = (level + 1, pointer);
                }
            }
        }
        Some(old).filter(|slot| *slot != 0)
    }

    /// The checkpoint is committed: slots of pages that were no more when it began are free.
    pub(in crate::disk) fn committed(&mut self, free: &mut dyn FnMut(u64)) {
        self.queue.under_way = false;
        self.queue.freed.drain(..).for_each(free);
    }
}
