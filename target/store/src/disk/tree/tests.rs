//! The maps against a simple model: random changes, checkpoints at any speed, power cuts at any time. Slots of pages are used
//! again as soon as they can be.

mod lost;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use proptest::prelude::*;

use super::*;
use crate::disk::format::{Page, PageHeader, page_checksum, verify_page};

/// Slots of the device: the first ones are for pages, the others for data.
const PAGES: u64 = 1000;
const DATA: u64 = 1 << 30;

/// An image with data in `slot`, or none for a hole.
fn image_with(shape: CellShape, slot: u64, seed: u8) -> Vec<u8> {
    let mut bytes = vec![0; shape.image_len()];
    let mut image = CellMut::new(shape, &mut bytes).unwrap();
    for sector in 0..image.as_ref().sectors() {
        if sector == 0 || seed >> sector & 1 == 1 {
            image.set_block(sector, BlockState::HostGood, 7, &[seed; 16]);
        }
    }
    image.set_slot(slot);
    image.set_checksum(u64::from(seed) + 1);
    bytes
}

fn marked(shape: CellShape) -> Vec<u8> {
    let mut bytes = vec![0; shape.image_len()];
    CellMut::new(shape, &mut bytes).unwrap().set_block(0, BlockState::Uncorrectable, 3, &[]);
    bytes
}

/// What is on a device, and which slots of pages are in use.
#[derive(Debug, Clone, Default)]
struct Medium {
    pages: HashMap<u64, Page>,
    used: BTreeSet<u64>,
}

impl Medium {
    /// The lowest free slot: slots are used again as soon as they can be.
    fn write(&mut self, page: &Page) -> PagePointer {
        let slot = (PAGES..).find(|slot| !self.used.contains(slot)).unwrap();
        self.used.insert(slot);
        self.pages.insert(slot, *page);
        PagePointer { slot, checksum: page_checksum(page) }
    }

    fn give_back(&mut self, slot: u64) {
        assert!(self.used.remove(&slot), "slot {slot} was given back but is free");
    }
}

/// What a volume's entry says.
#[derive(Debug, Clone, Copy)]
struct Entry {
    shape: CellShape,
    cells: u64,
    height: u8,
    root: PagePointer,
}

fn volume(place: usize) -> VolumeIndex {
    VolumeIndex::new(place).unwrap()
}

/// The maps that entries lead to, and the slots of their pages.
fn open(medium: &Medium, entries: &[Entry]) -> (Tree, BTreeSet<u64>) {
    let mut tree = Tree::new(u64::MAX);
    let mut slots = BTreeSet::new();
    for (place, entry) in entries.iter().enumerate() {
        tree.add(volume(place), entry.shape, entry.cells);
        let root = tree.want_root(volume(place), entry.height, entry.root);
        let mut wanted: Vec<Wanted> = root.into_iter().collect();
        while let Some(next) = wanted.pop() {
            let page = &medium.pages[&next.at.slot];
            let header = PageHeader::of_map(next.volume.as_u32(), next.level, next.index, 0);
            verify_page(page, next.at.checksum, &header).expect("a page that is needed was used again");
            tree.load(&next, page, &mut wanted).unwrap();
            assert!(slots.insert(next.at.slot));
        }
    }
    (tree, slots)
}

/// All cells of a map that are no holes.
fn contents(tree: &Tree, volume: VolumeIndex) -> BTreeMap<u64, Vec<u8>> {
    let mut found = BTreeMap::new();
    tree.for_each_image(&mut |of, cell, image| {
        if of == volume {
            found.insert(cell, image.bytes().to_vec());
        }
    });
    found
}

const SHAPES: [CellShape; 2] = [CellShape::Large, CellShape::Small];
const CELLS: u64 = 1 << 33;

#[derive(Debug, Clone)]
enum Change {
    Set { volume: usize, cell: u64, image: Vec<u8> },
    Trim { volume: usize, cells: Range<u64> },
    Delete { volume: usize },
}

#[derive(Debug, Clone)]
enum Step {
    Write {
        volume: usize,
        cell: u64,
        seed: u8,
    },
    Clear {
        volume: usize,
        cell: u64,
    },
    Trim {
        volume: usize,
        from: u64,
        len: u64,
    },
    Delete {
        volume: usize,
    },
    Reap(usize),
    /// So many pages are written; a checkpoint begins or is committed when it is time to.
    Checkpoint(usize),
    PowerCut,
}

/// Cells that meet in few pages of several levels.
fn cell() -> impl Strategy<Value = u64> {
    let base = prop::sample::select(vec![
        0_u64,
        36,
        120,
        9_900,
        32_250,
        64_500,
        2_516_100,
        8_193_500,
        4_000_000_000,
    ]);
    (base, 0_u64..20).prop_map(|(base, more)| base + more)
}

fn step() -> impl Strategy<Value = Step> {
    let volume = 0_usize..2;
    prop_oneof![
        8 => (volume.clone(), cell(), any::<u8>()).prop_map(|(volume, cell, seed)| Step::Write { volume, cell, seed }),
        2 => (volume.clone(), cell()).prop_map(|(volume, cell)| Step::Clear { volume, cell }),
        2 => (volume.clone(), cell(), prop::sample::select(vec![1_u64, 30, 200, 40_000, 1 << 24, 1 << 33]))
            .prop_map(|(volume, from, len)| Step::Trim { volume, from, len }),
        1 => volume.clone().prop_map(|volume| Step::Delete { volume }),
        1 => (1_usize..600).prop_map(Step::Reap),
        6 => (0_usize..6).prop_map(Step::Checkpoint),
        1 => Just(Step::PowerCut),
    ]
}

/// A tree at work, and what it must be.
struct Pool {
    tree: Tree,
    model: Vec<BTreeMap<u64, Vec<u8>>>,
    medium: Medium,
    /// Of the last checkpoint that was committed, and what was changed since it began.
    committed: Vec<Entry>,
    log: Vec<Change>,
    /// Of the checkpoint under way: where in the log it began, and slots that it sets free.
    begun: Option<(usize, Vec<u64>)>,
    /// Slots of data that cells have, or had and have not come back.
    data: BTreeSet<u64>,
    next_slot: u64,
    number: u64,
    steps: usize,
}

impl Pool {
    fn new() -> Pool {
        let empty = |shape| Entry { shape, cells: CELLS, height: 0, root: PagePointer::NONE };
        let mut tree = Tree::new(u64::MAX);
        (0..2).for_each(|place| tree.add(volume(place), SHAPES[place], CELLS));
        Pool {
            tree,
            model: vec![BTreeMap::new(); 2],
            medium: Medium::default(),
            committed: SHAPES.map(empty).to_vec(),
            log: Vec::new(),
            begun: None,
            data: BTreeSet::new(),
            next_slot: DATA,
            number: 0,
            steps: 0,
        }
    }

    fn step(&mut self, step: Step) {
        self.take(step);
        self.steps += 1;
        if self.steps.is_multiple_of(8) {
            self.check();
        }
    }

    fn take(&mut self, step: Step) {
        match step {
            Step::Write { volume, cell, seed } => {
                self.next_slot += 1;
                let image = match seed {
                    0..16 => marked(SHAPES[volume]),
                    _ => image_with(SHAPES[volume], self.next_slot, seed),
                };
                self.change(Change::Set { volume, cell, image });
            }
            Step::Clear { volume, cell } => {
                self.change(Change::Set { volume, cell, image: vec![0; SHAPES[volume].image_len()] });
            }
            Step::Trim { volume, from, len } => self.change(Change::Trim { volume, cells: from..from + len }),
            Step::Delete { volume } => self.change(Change::Delete { volume }),
            Step::Reap(budget) => {
                let Pool { tree, data, .. } = self;
                tree.reap(budget, &mut |slot, _| assert!(data.remove(&slot), "slot {slot} twice"));
            }
            Step::Checkpoint(pages) => self.go_on_with_checkpoint(pages),
            Step::PowerCut => self.cut_power(),
        }
    }

    /// Counts and links agree, with each other and with the model.
    fn check(&self) {
        for place in 0..SHAPES.len() {
            assert_eq!(self.tree.live(volume(place)), self.model[place].len() as u64);
        }
    }

    fn change(&mut self, change: Change) {
        self.number += 1;
        match &change {
            Change::Set { volume, cell, image } => {
                let shape = SHAPES[*volume];
                if slot_of(shape, image) != 0 {
                    self.data.insert(slot_of(shape, image));
                }
                let hole = image.iter().all(|byte| *byte == 0);
                let old = match hole {
                    true => self.model[*volume].remove(cell),
                    false => self.model[*volume].insert(*cell, image.clone()),
                };
                let old = old.map(|old| slot_of(shape, &old)).filter(|slot| *slot != 0);
                assert_eq!(self.tree.set(self::volume(*volume), *cell, image), old);
                old.into_iter().for_each(|slot| assert!(self.data.remove(&slot)));
            }
            Change::Trim { volume, cells } => {
                self.model[*volume].retain(|cell, _| !cells.contains(cell));
                let Pool { tree, data, number, .. } = self;
                tree.trim(self::volume(*volume), cells.clone(), *number, &mut |slot| {
                    assert!(data.remove(&slot), "slot {slot} twice");
                });
            }
            Change::Delete { volume } => {
                self.model[*volume].clear();
                self.tree.detach(self::volume(*volume), self.number);
            }
        }
        self.log.push(change);
    }

    fn go_on_with_checkpoint(&mut self, pages: usize) {
        let Some((start, mut freed)) = self.begun.take() else {
            self.tree.begin_checkpoint();
            self.begun = Some((self.log.len(), Vec::new()));
            return;
        };
        for _ in 0..pages {
            let Some(page) = self.tree.next_to_write() else {
                self.committed = self.entries();
                self.log.drain(..start);
                self.tree.committed(&mut |slot| freed.push(slot));
                freed.into_iter().for_each(|slot| self.medium.give_back(slot));
                return;
            };
            let image = *self.tree.image_for_write(page, 9).unwrap();
            let pointer = self.medium.write(&image);
            freed.extend(self.tree.written_to(page, pointer));
        }
        self.begun = Some((start, freed));
    }

    fn entries(&self) -> Vec<Entry> {
        let entry = |(place, shape)| {
            let (height, root) = self.tree.written(volume(place));
            Entry { shape, cells: CELLS, height, root }
        };
        SHAPES.into_iter().enumerate().map(entry).collect()
    }

    /// What the last checkpoint and the log lead to is what was there, and no page that it needs was used again.
    fn cut_power(&mut self) {
        let (tree, slots) = open(&self.medium, &self.committed);
        (self.tree, self.medium.used, self.begun) = (tree, slots, None);
        for change in &self.log {
            match change {
                Change::Set { volume, cell, image } => {
                    self.tree.set(self::volume(*volume), *cell, image);
                }
                Change::Trim { volume, cells } => {
                    self.tree.trim(self::volume(*volume), cells.clone(), 0, &mut |_| {});
                }
                Change::Delete { volume } => self.tree.detach(self::volume(*volume), 0),
            }
        }
        self.tree.reap(usize::MAX, &mut |_, _| {});
        self.compare();
        self.data = self.slots_of_model();
    }

    fn slots_of_model(&self) -> BTreeSet<u64> {
        let images = SHAPES
            .into_iter()
            .zip(&self.model)
            .flat_map(|(shape, cells)| cells.values().map(move |image| slot_of(shape, image)));
        images.filter(|slot| *slot != 0).collect()
    }

    fn compare(&self) {
        self.check();
        for place in 0..SHAPES.len() {
            let (map, model) = (volume(place), &self.model[place]);
            assert_eq!(contents(&self.tree, map), *model);
            for (cell, image) in model {
                assert_eq!(self.tree.get(map, *cell), Some(&**image));
            }
            for end in [30_u64, 300, 10_100] {
                assert_eq!(self.tree.live_in(map, 25..end), model.range(25..end).count() as u64);
            }
        }
    }

    /// When everything is gone, everything has come back.
    fn wind_up(mut self) {
        self.compare();
        for volume in 0..2 {
            self.step(Step::Delete { volume });
        }
        self.step(Step::Reap(usize::MAX));
        assert_eq!(self.data, BTreeSet::new(), "slots have leaked");
        assert!(!self.tree.has_detached());
        while self.begun.is_some() || self.tree.has_dirty() {
            self.step(Step::Checkpoint(100));
        }
        assert_eq!(self.tree.pages(), 0);
        assert_eq!(self.medium.used, BTreeSet::new(), "slots of pages have leaked");
    }
}

fn slot_of(shape: CellShape, image: &[u8]) -> u64 {
    CellRef::new(shape, image).unwrap().slot()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_tree_is_the_model_after_any_changes_checkpoints_and_power_cuts(
        steps in prop::collection::vec(step(), 1..150)
    ) {
        let mut pool = Pool::new();
        for step in steps {
            pool.step(step);
        }
        pool.step(Step::PowerCut);
        pool.wind_up();
    }
}
