//! Lists of chunks by how much of them is free, linked through one array: every step is O(1) and nothing is
//! allocated while chunks move between lists.

/// The end of a list.
const NONE: u32 = u32::MAX;

/// Classes of partly filled chunks: each covers an eighth of a chunk's slots.
pub(super) const PARTIAL_LISTS: u8 = 8;

/// Lists in all: the partial ones, warm, cold, open.
const LISTS: usize = PARTIAL_LISTS as usize + 3;

/// Which list a chunk is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// Partly filled, nobody's cursor in it; a higher number has more free slots.
    Partial(u8),
    /// Empty, its memory still there.
    Warm,
    /// Empty, its memory given back.
    Cold,
    /// Has free slots, and some volume's cursor in it.
    Open,
}

impl List {
    fn index(self) -> usize {
        match self {
            List::Partial(eighth) => usize::from(eighth.min(PARTIAL_LISTS - 1)),
            List::Warm => usize::from(PARTIAL_LISTS),
            List::Cold => usize::from(PARTIAL_LISTS) + 1,
            List::Open => usize::from(PARTIAL_LISTS) + 2,
        }
    }
}

#[derive(Debug, Clone, Copy)]
struct Links {
    list: Option<List>,
    prev: u32,
    next: u32,
}

#[derive(Debug, Clone, Copy)]
struct Head {
    first: u32,
    len: usize,
}

/// The lists of one allocator's chunks.
#[derive(Debug)]
pub(super) struct ChunkLists {
    heads: [Head; LISTS],
    links: Vec<Links>,
}

impl ChunkLists {
    pub(super) fn new() -> Self {
        ChunkLists { heads: [Head { first: NONE, len: 0 }; LISTS], links: Vec::new() }
    }

    /// Makes room for one more chunk, in no list yet.
    pub(super) fn extend(&mut self) {
        self.links.push(Links { list: None, prev: NONE, next: NONE });
    }

    /// The chunk that was put in last.
    pub(super) fn first(&self, list: List) -> Option<u32> {
        self.heads.get(list.index()).map(|head| head.first).filter(|first| *first != NONE)
    }

    /// Number of chunks in a list.
    pub(super) fn len(&self, list: List) -> usize {
        self.heads.get(list.index()).map_or(0, |head| head.len)
    }

    /// Moves a chunk to a list, or out of all of them.
    pub(super) fn place(&mut self, chunk: u32, list: Option<List>) {
        let Some(links) = self.link(chunk).copied() else {
            debug_assert!(false, "chunk {chunk} has no links");
            return;
        };
        if links.list == list {
            return;
        }
        if let Some(from) = links.list {
            self.remove(chunk, links, from);
        }
        match list {
            Some(to) => self.insert(chunk, to),
            None => self.set(chunk, Links { list: None, prev: NONE, next: NONE }),
        }
    }

    fn remove(&mut self, chunk: u32, links: Links, from: List) {
        if let Some(head) = self.heads.get_mut(from.index()) {
            head.len -= 1;
            if head.first == chunk {
                head.first = links.next;
            }
        }
        if let Some(prev) = self.link(links.prev) {
            prev.next = links.next;
        }
        if let Some(next) = self.link(links.next) {
            next.prev = links.prev;
        }
    }

    fn insert(&mut self, chunk: u32, to: List) {
        let mut first = NONE;
        if let Some(head) = self.heads.get_mut(to.index()) {
            first = head.first;
            head.first = chunk;
            head.len += 1;
        }
        if let Some(second) = self.link(first) {
            second.prev = chunk;
        }
        self.set(chunk, Links { list: Some(to), prev: NONE, next: first });
    }

    fn link(&mut self, chunk: u32) -> Option<&mut Links> {
        // `NONE` is beyond every array, so the ends of lists need no case of their own.
        self.links.get_mut(usize::try_from(chunk).unwrap_or(usize::MAX))
    }

    fn set(&mut self, chunk: u32, links: Links) {
        if let Some(place) = self.link(chunk) {
            *place = links;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(lists: &ChunkLists, list: List) -> Vec<u32> {
        let mut found = Vec::new();
        let mut at = lists.first(list);
        while let Some(chunk) = at {
            found.push(chunk);
            let next = lists.links[chunk as usize].next;
            at = (next != NONE).then_some(next);
        }
        assert_eq!(found.len(), lists.len(list));
        found
    }

    #[test]
    fn chunks_leave_from_the_head_the_middle_and_the_end() {
        let mut lists = ChunkLists::new();
        for chunk in 0..4 {
            lists.extend();
            lists.place(chunk, Some(List::Warm));
        }
        assert_eq!(listed(&lists, List::Warm), [3, 2, 1, 0]);
        lists.place(2, Some(List::Open));
        lists.place(3, None);
        lists.place(0, Some(List::Partial(7)));
        assert_eq!(listed(&lists, List::Warm), [1]);
        assert_eq!(listed(&lists, List::Open), [2]);
        lists.place(1, Some(List::Partial(7)));
        lists.place(1, Some(List::Partial(7)));
        assert_eq!(listed(&lists, List::Partial(7)), [1, 0]);
        assert_eq!(listed(&lists, List::Warm), []);
    }
}
