//! From blocks to slots: a radix tree of 4 KiB pages for each volume, as high as its highest written block
//! needs. A page has 512 words: a leaf's are [`SlotIndex::raw`] of the slots of 512 blocks in a row, those of
//! the pages above are page numbers + 1; zero is nothing. Every page reachable from a root has at least one
//! word set, except for moments inside one call and after a kill in such a moment.
//!
//! [`SlotIndex::raw`]: super::alloc::SlotIndex::raw

use super::layout::WORD_LEN;
use super::medium::{Medium, PoolMemory};
use super::volume::VOLUME_BLOCKS_MAX;

/// Blocks under one leaf, and children of one page.
pub(super) const FANOUT: u64 = 1 << FANOUT_BITS;

const FANOUT_BITS: u32 = 9;

/// Levels of the highest tree.
pub(super) const HEIGHT_MAX: u8 = 5;

const _: () = assert!(VOLUME_BLOCKS_MAX <= FANOUT.pow(HEIGHT_MAX as u32));

/// The root of a volume's map, and the word that points to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Root {
    word_offset: usize,
    pub(super) page: Option<u32>,
    /// Levels; a leaf alone is 1.
    pub(super) height: u8,
}

impl Root {
    pub(super) fn empty(word_offset: usize) -> Root {
        Root { word_offset, page: None, height: 0 }
    }

    /// `None` if the word cannot be.
    pub(super) fn decode(word_offset: usize, word: u64) -> Option<Root> {
        if word == 0 {
            return Some(Root::empty(word_offset));
        }
        let height = u8::try_from(word & 0xff).ok().filter(|height| *height > 0)?;
        let page = u32::try_from((word >> 8).checked_sub(1)?).ok()?;
        Some(Root { word_offset, page: Some(page), height })
    }

    fn encode(&self) -> u64 {
        self.page.map_or(0, |page| child(page) << 8 | u64::from(self.height))
    }

    fn publish<M: PoolMemory>(&self, medium: &mut Medium<M>) {
        medium.publish(self.word_offset, self.encode());
    }
}

/// A leaf and the blocks under it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NextLeaf {
    /// The next one.
    Found { page: u32, first_lba: u64 },
    /// There is none before the end.
    None,
    /// The budget is used up; go on from here.
    Later(u64),
}

#[derive(Debug, Clone, Copy, Default)]
struct PageState {
    /// Words set.
    live: u16,
    /// Reachable, as far as recovery found out.
    used: bool,
    /// In a leaf: every deallocation up to this number has been applied to it. See `jobs`.
    applied: u64,
}

/// The map pages of a pool, for all its volumes.
#[derive(Debug)]
pub(super) struct PageMap {
    /// Those used since the pool was opened; the rest of the area is free, too.
    states: Vec<PageState>,
    free: Vec<u32>,
    pages_max: usize,
}

impl PageMap {
    pub(super) fn new(pages_max: usize) -> Self {
        PageMap { states: Vec::new(), free: Vec::new(), pages_max }
    }

    /// The leaf over a block; `None` if nothing around it was written.
    pub(super) fn leaf<M: PoolMemory>(&self, medium: &Medium<M>, root: &Root, lba: u64) -> Option<u32> {
        if beyond(root.height, lba) {
            return None;
        }
        let mut page = root.page?;
        for level in (1..root.height).rev() {
            page = parse_child(entry(medium, page, index(level, lba)))?;
        }
        Some(page)
    }

    /// The same, with what is missing added. `None` if there are no pages left: then call [`Self::prune`].
    /// To a new leaf, every deallocation up to number `applied` has nothing to do.
    pub(super) fn ensure_leaf<M: PoolMemory>(
        &mut self,
        medium: &mut Medium<M>,
        root: &mut Root,
        lba: u64,
        applied: u64,
    ) -> Option<u32> {
        while root.page.is_none() || beyond(root.height, lba) {
            self.raise(medium, root, lba, applied)?;
        }
        let mut page = root.page?;
        for level in (1..root.height).rev() {
            let at = index(level, lba);
            page = match parse_child(entry(medium, page, at)) {
                Some(child) => child,
                None => {
                    let added = self.allocate(medium, applied)?;
                    self.set(medium, page, at, child(added));
                    added
                }
            };
        }
        Some(page)
    }

    /// Puts one page on top, or a first one high enough for the block.
    fn raise<M: PoolMemory>(
        &mut self,
        medium: &mut Medium<M>,
        root: &mut Root,
        lba: u64,
        applied: u64,
    ) -> Option<()> {
        let added = self.allocate(medium, applied)?;
        match root.page {
            Some(old) => {
                self.set(medium, added, 0, child(old));
                root.height += 1;
            }
            None => root.height = (1..HEIGHT_MAX).find(|height| !beyond(*height, lba)).unwrap_or(HEIGHT_MAX),
        }
        root.page = Some(added);
        root.publish(medium);
        Some(())
    }

    /// Unlinks the pages over a block that have become empty, from the leaf up.
    pub(super) fn prune<M: PoolMemory>(&mut self, medium: &mut Medium<M>, root: &mut Root, lba: u64) {
        if beyond(root.height, lba) {
            return;
        }
        let mut path = [None; HEIGHT_MAX as usize];
        let mut next = root.page;
        for (level, place) in (0..root.height).rev().zip(path.iter_mut()) {
            *place = next.map(|page| (level, page));
            next = next
                .and_then(|page| parse_child(entry(medium, page, index(level, lba))))
                .filter(|_| level > 0);
        }
        let mut pages = path.iter().rev().flatten().copied().peekable();
        while let Some((_, page)) = pages.next() {
            if self.live(page) > 0 {
                return;
            }
            match pages.peek() {
                Some((level, parent)) => {
                    self.set(medium, *parent, index(*level, lba), 0);
                }
                None => self.drop_root(medium, root),
            }
            self.give_back(page);
        }
    }

    /// The first leaf over `from..end`. Takes one from the budget for each page or gap that it looks at.
    pub(super) fn next_leaf<M: PoolMemory>(
        &self,
        medium: &Medium<M>,
        root: &Root,
        mut from: u64,
        end: u64,
        budget: &mut usize,
    ) -> NextLeaf {
        let Some(top) = root.page else { return NextLeaf::None };
        while from < end && !beyond(root.height, from) {
            let (mut page, mut level) = (Some(top), root.height - 1);
            while let Some(parent) = page.filter(|_| level > 0) {
                if *budget == 0 {
                    return NextLeaf::Later(from);
                }
                *budget -= 1;
                page = parse_child(entry(medium, parent, index(level, from)));
                if page.is_some() {
                    level -= 1;
                }
            }
            match page {
                Some(page) => return NextLeaf::Found { page, first_lba: from & !(FANOUT - 1) },
                // The child of `level` is missing: on to the first block under the next one.
                None => from = (from | (span(level) - 1)) + 1,
            }
        }
        NextLeaf::None
    }

    /// A word of a leaf.
    pub(super) fn slot<M: PoolMemory>(medium: &Medium<M>, leaf: u32, lba: u64) -> u64 {
        entry(medium, leaf, index(0, lba))
    }

    /// Where the words of some blocks under one leaf lie; nothing if nowhere.
    pub(super) fn words<M: PoolMemory>(medium: &Medium<M>, leaf: u32, first: u64, end: u64) -> &[u8] {
        let words = usize::try_from(end.saturating_sub(first)).unwrap_or(0);
        let offset = medium.layout.page_offset(leaf) + index(0, first) * WORD_LEN;
        medium.memory.slice(offset, words.saturating_mul(WORD_LEN)).unwrap_or_default()
    }

    /// Publishes a word of a leaf and returns what it was.
    pub(super) fn set_slot<M: PoolMemory>(
        &mut self,
        medium: &mut Medium<M>,
        leaf: u32,
        lba: u64,
        raw: u64,
    ) -> u64 {
        self.set(medium, leaf, index(0, lba), raw)
    }

    /// Words set in a page.
    pub(super) fn live(&self, page: u32) -> u16 {
        self.state(page).live
    }

    /// Up to which number deallocations have been applied to a leaf.
    pub(super) fn applied(&self, leaf: u32) -> u64 {
        self.state(leaf).applied
    }

    pub(super) fn set_applied(&mut self, leaf: u32, applied: u64) {
        if let Some(state) = at_mut(&mut self.states, leaf) {
            state.applied = applied;
        }
    }

    /// Recovery: takes a page into use that something points to. `false` if it cannot be.
    pub(super) fn adopt(&mut self, page: u32) -> bool {
        let needed = usize::try_from(page).unwrap_or(usize::MAX).saturating_add(1);
        if needed > self.pages_max {
            return false;
        }
        if self.states.len() < needed {
            self.states.resize(needed, PageState::default());
        }
        match at_mut(&mut self.states, page) {
            Some(state) if !state.used => {
                state.used = true;
                true
            }
            _ => false,
        }
    }

    /// Recovery: a page's words were counted; one without any is not used after all.
    pub(super) fn settle(&mut self, page: u32, live: u16) {
        if let Some(state) = at_mut(&mut self.states, page) {
            state.live = live;
            state.used = live > 0;
        }
    }

    /// Publishes that a volume has no map.
    pub(super) fn drop_root<M: PoolMemory>(&self, medium: &mut Medium<M>, root: &mut Root) {
        *root = Root::empty(root.word_offset);
        root.publish(medium);
    }

    /// Recovery: clears a word of a page whose words are not counted yet.
    pub(super) fn unlink<M: PoolMemory>(&self, medium: &mut Medium<M>, page: u32, at: usize) {
        medium.publish(medium.layout.page_offset(page) + at * WORD_LEN, 0);
    }

    /// Recovery: what is not used is free.
    pub(super) fn finish_adopting(&mut self) {
        let unused = (0u32..).zip(&self.states).filter(|(_, state)| !state.used).map(|(page, _)| page);
        self.free = unused.collect();
    }

    fn allocate<M: PoolMemory>(&mut self, medium: &mut Medium<M>, applied: u64) -> Option<u32> {
        let page = match self.free.pop() {
            Some(page) => page,
            None if self.states.len() < self.pages_max => {
                let page = u32::try_from(self.states.len()).ok()?;
                self.states.push(PageState::default());
                page
            }
            None => return None,
        };
        if let Some(state) = at_mut(&mut self.states, page) {
            *state = PageState { live: 0, used: true, applied };
        }
        // Also after a kill, when nobody knows what a free page holds.
        medium.zero_page(page);
        Some(page)
    }

    fn give_back(&mut self, page: u32) {
        if let Some(state) = at_mut(&mut self.states, page) {
            debug_assert!(state.used && state.live == 0, "map page {page} freed in use");
            *state = PageState::default();
            self.free.push(page);
        }
    }

    fn set<M: PoolMemory>(&mut self, medium: &mut Medium<M>, page: u32, at: usize, value: u64) -> u64 {
        let offset = medium.layout.page_offset(page) + at * WORD_LEN;
        let old = medium.word(offset);
        medium.publish(offset, value);
        if let Some(state) = at_mut(&mut self.states, page) {
            match (old, value) {
                (0, 0) => {}
                (0, _) => state.live += 1,
                (_, 0) => state.live -= 1,
                _ => {}
            }
        }
        old
    }

    fn state(&self, page: u32) -> PageState {
        usize::try_from(page).ok().and_then(|page| self.states.get(page)).copied().unwrap_or_default()
    }
}

/// The page that a word of an inner page points to.
pub(super) fn parse_child(word: u64) -> Option<u32> {
    u32::try_from(word.checked_sub(1)?).ok()
}

/// A word of a page.
pub(super) fn entry<M: PoolMemory>(medium: &Medium<M>, page: u32, at: usize) -> u64 {
    medium.word(medium.layout.page_offset(page) + at * WORD_LEN)
}

/// Blocks under one word of a page at `level`; a leaf's level is 0.
pub(super) fn span(level: u8) -> u64 {
    1 << (FANOUT_BITS * u32::from(level))
}

fn child(page: u32) -> u64 {
    u64::from(page) + 1
}

/// Which word of a page at `level` leads to a block.
fn index(level: u8, lba: u64) -> usize {
    usize::try_from((lba / span(level)) % FANOUT).unwrap_or(0)
}

/// Whether a tree of this height does not reach a block.
fn beyond(height: u8, lba: u64) -> bool {
    lba >= span(height)
}

fn at_mut(states: &mut [PageState], page: u32) -> Option<&mut PageState> {
    states.get_mut(usize::try_from(page).ok()?)
}

#[cfg(test)]
impl PageMap {
    /// Asserts that the books of the pages under `root` are right; calls `visit` with each block and its slot.
    /// `seen` collects the pages.
    pub(super) fn audit<M: PoolMemory>(
        &self,
        medium: &Medium<M>,
        root: &Root,
        seen: &mut std::collections::HashSet<u32>,
        visit: &mut dyn FnMut(u64, u64),
    ) {
        assert_eq!(medium.word(root.word_offset), root.encode(), "the root is published");
        if let Some(page) = root.page {
            self.audit_page(medium, (page, root.height - 1, 0), seen, visit);
        }
    }

    fn audit_page<M: PoolMemory>(
        &self,
        medium: &Medium<M>,
        (page, level, first_lba): (u32, u8, u64),
        seen: &mut std::collections::HashSet<u32>,
        visit: &mut dyn FnMut(u64, u64),
    ) {
        assert!(seen.insert(page), "page {page} is linked twice");
        let mut live = 0;
        for at in 0..512 {
            let word = entry(medium, page, at);
            let lba = first_lba + at as u64 * span(level);
            match (word, level) {
                (0, _) => continue,
                (_, 0) => visit(lba, word),
                _ => self.audit_page(medium, (parse_child(word).unwrap(), level - 1, lba), seen, visit),
            }
            live += 1;
        }
        assert!(live > 0, "empty page {page} is linked");
        assert_eq!(self.state(page).live, live, "words set in page {page}");
        assert!(self.state(page).used);
    }

    /// Asserts that pages are either in `seen` or free, once.
    pub(super) fn audit_free(&self, seen: &std::collections::HashSet<u32>) {
        let free: std::collections::HashSet<u32> = self.free.iter().copied().collect();
        assert_eq!(free.len(), self.free.len(), "a page is free twice");
        assert!(free.is_disjoint(seen), "a page is free and linked");
        assert_eq!(free.len() + seen.len(), self.states.len(), "a page has leaked");
        assert!(self.states.len() <= self.pages_max);
    }
}
