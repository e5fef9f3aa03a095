//! The process ends after any of its stores: the next one finds each volume as before or after the change under
//! way, and each block with the contents *and* the record of one write that may be there.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::journal::{Dice, Journal, JournalMemory, Step, apply, apply_torn};
use super::model::Model;
use super::*;

/// Places in sparse volumes where the load writes: distant leaves, some under different upper pages.
const SPOTS: [u64; 6] = [0, 500, 2_000, 300_000, 1_500_000, 3_000_000];

/// What may be there after so many steps.
#[derive(Clone)]
struct Point {
    steps: usize,
    model: Rc<Model>,
}

/// Blocks that somebody still reads, and what they were when he began.
struct Pinned {
    volume: VolumeId,
    tuple_len: usize,
    slots: Vec<SlotRef>,
    found: Vec<Option<u64>>,
}

/// A pool under a random load, with its model and everything that is under way.
struct World {
    /// The memory as it was in the beginning.
    base: Vec<u8>,
    stores: Stores<JournalMemory>,
    journal: Rc<RefCell<Journal>>,
    model: Model,
    /// Models with the step up to which (and from the point before on) they hold.
    points: Vec<Point>,
    dice: Dice,
    seed: u64,
    token: u32,
    next_volume: u64,
    pinned: Vec<Pinned>,
    deallocating: HashMap<u32, (VolumeId, u64, u64, u64)>,
    deleted: Vec<VolumeId>,
}

impl World {
    fn new(seed: u64) -> World {
        let config = config();
        let base = vec![0; MemoryPool::<JournalMemory>::layout_len(&config).unwrap()];
        let (memory, journal) = JournalMemory::new(base.clone());
        let pool = MemoryPool::create(memory, &config).unwrap();
        let mut world = World {
            base,
            stores: stores_of(pool),
            journal,
            model: Model::default(),
            points: Vec::new(),
            dice: Dice::new(seed),
            seed: 1,
            token: 10,
            next_volume: 1,
            pinned: Vec::new(),
            deallocating: HashMap::new(),
            deleted: Vec::new(),
        };
        world.mark();
        world.create();
        world.create();
        world
    }

    /// The process is killed at one of its last steps, and the next one goes on with what it finds.
    fn killed(mut self) -> World {
        let history = self.history();
        let cut = history.steps.len() - self.dice.below(history.steps.len().min(400) as u64 + 1) as usize;
        let (base, mut model) = history.at(cut);
        let (memory, journal) = JournalMemory::new(base.clone());
        let mut pool = MemoryPool::open(memory).unwrap();
        model.settle(&mut pool);
        let mut next = World {
            base,
            stores: stores_of(pool),
            journal,
            model,
            points: Vec::new(),
            pinned: Vec::new(),
            deallocating: HashMap::new(),
            deleted: Vec::new(),
            ..self
        };
        next.mark();
        next
    }

    /// What happened so far.
    fn history(&self) -> History {
        let steps = self.stores.pool(pool_id()).unwrap().medium.memory.steps();
        History { base: self.base.clone(), steps, points: self.points.clone(), dice: self.dice.clone() }
    }

    /// Up to here, the present model holds.
    fn mark(&mut self) {
        let steps = self.journal.borrow().len();
        self.points.push(Point { steps, model: Rc::new(self.model.clone()) });
    }

    fn step(&mut self) {
        match self.dice.below(20) {
            0 => self.create(),
            1 => self.delete(),
            2 => self.grow(),
            3..=4 => self.deallocate(),
            5 => self.pin(),
            6 => self.unpin(),
            7..=9 => self.poll(),
            _ => self.write(),
        }
    }

    fn any_volume(&mut self) -> Option<VolumeId> {
        let ids: Vec<VolumeId> = self.model.volumes.keys().copied().collect();
        (!ids.is_empty()).then(|| ids[self.dice.below(ids.len() as u64) as usize])
    }

    fn any_lba(&mut self, id: VolumeId, blocks: u64) -> u64 {
        let block_count = self.model.spec(id).unwrap().block_count;
        let spot = SPOTS[self.dice.below(SPOTS.len() as u64) as usize] + self.dice.below(40);
        spot.min(block_count - blocks)
    }

    fn create(&mut self) {
        if self.model.volumes.len() >= 3 {
            return;
        }
        let block_len = if self.dice.below(2) == 0 { 512 } else { 4096 };
        let block_count = if self.dice.below(2) == 0 { 64 } else { 1 << 22 };
        let spec = spec(self.next_volume, block_len, block_count);
        self.next_volume += 1;
        self.model.may_become(spec.id, Some(spec));
        self.stores.create_volume(pool_id(), &spec).unwrap();
        self.mark();
        self.model.is_become(spec.id);
        self.mark();
    }

    fn grow(&mut self) {
        let Some(id) = self.any_volume() else { return };
        let old = self.model.spec(id).unwrap();
        let longer = VolumeSpec { block_count: old.block_count * 2, ..old };
        self.model.may_become(id, Some(longer));
        self.stores.grow_volume(id, longer.block_count).unwrap();
        self.mark();
        self.model.is_become(id);
        self.mark();
    }

    fn delete(&mut self) {
        let Some(id) = self.any_volume().filter(|_| self.dice.below(3) == 0) else { return };
        self.model.may_become(id, None);
        self.stores.delete_volume(id).unwrap();
        self.mark();
        self.model.is_become(id);
        self.deleted.push(id);
        self.mark();
    }

    fn write(&mut self) {
        let Some(id) = self.any_volume() else { return };
        let blocks = self.dice.below(24) + 1;
        let mark = if self.dice.below(5) == 0 { MARKED } else { 0 };
        let (lba, seed) = (self.any_lba(id, blocks), self.seed | mark);
        self.seed += 2 * blocks;
        // Another write of the same length comes in at the same time and is given up.
        let other = filled(&mut self.stores, id, blocks as u32, seed + blocks).unwrap();
        let slots = filled(&mut self.stores, id, blocks as u32, seed).unwrap();
        self.stores.unreserve(id, &other);
        self.mark();
        self.model.may_be_written(id, lba, blocks, seed);
        self.submit(|token| StoreOp::Publish { token, volume: id, lba: Lba(lba), slots, durable: true });
        let mut done = None;
        while done.is_none() {
            done = self.poll_for(self.token);
        }
        self.mark();
        match done.unwrap().result {
            Ok(()) => self.model.is_written(id, lba, blocks, seed),
            Err(error) => {
                assert_eq!(error, StoreError::NoRoom);
                self.forget_write(id, lba, blocks, seed);
            }
        }
        self.mark();
    }

    /// A refused write has left nothing behind.
    fn forget_write(&mut self, id: VolumeId, lba: u64, blocks: u64, seed: u64) {
        let volume = self.model.volumes.get_mut(&id).unwrap();
        for (_, block) in volume.blocks.range_mut(lba..lba + blocks) {
            block.allowed.retain(|found| !found.is_some_and(|found| (seed..seed + blocks).contains(&found)));
        }
    }

    fn deallocate(&mut self) {
        let Some(id) = self.any_volume() else { return };
        let block_count = self.model.spec(id).unwrap().block_count;
        let (lba, blocks) = match self.dice.below(3) {
            0 => (0, block_count),
            1 => (self.any_lba(id, 1), 1),
            _ => (self.any_lba(id, 30), 30),
        };
        let submitted = self.model.may_be_deallocated(id, lba, blocks);
        self.submit(|token| StoreOp::Deallocate {
            token,
            volume: id,
            lba: Lba(lba),
            blocks,
            slots: Vec::new(),
        });
        self.deallocating.insert(self.token, (id, lba, blocks, submitted));
        self.mark();
    }

    fn submit(&mut self, op: impl FnOnce(u32) -> StoreOp) {
        self.token += 1;
        self.stores.submit(op(self.token));
    }

    fn poll(&mut self) {
        let done = self.poll_for(0);
        assert!(done.is_none());
    }

    /// Polls once. Ends of deallocations are entered in the model, the one with `token` is returned.
    fn poll_for(&mut self, token: u32) -> Option<StoreDone> {
        let done = self.stores.poll();
        self.mark();
        let done = done?;
        if done.token == token {
            return Some(done);
        }
        let (id, lba, blocks, submitted) =
            self.deallocating.remove(&done.token).expect("an unknown completion");
        if self.deleted.contains(&id) {
            assert!(done.result == Ok(()) || done.result == Err(StoreError::NoVolume));
        } else {
            assert_eq!(done.result, Ok(()));
            self.model.is_deallocated(id, lba, blocks, submitted);
        }
        self.mark();
        None
    }

    fn pin(&mut self) {
        let Some(id) = self.any_volume() else { return };
        let lba = self.any_lba(id, 16);
        let blocks = BlockCount::new(16);
        self.submit(|token| StoreOp::Read { token, volume: id, lba: Lba(lba), blocks, slots: Vec::new() });
        let done = loop {
            if let Some(done) = self.poll_for(self.token) {
                break done;
            }
        };
        let tuple_len = tuple_len(&self.stores, id);
        if done.result.is_err() {
            let range = self.model.volumes[&id].blocks.range(lba..lba + 16);
            let marked = |found: &Option<u64>| found.is_some_and(|seed| seed & MARKED != 0);
            assert!(range.into_iter().any(|(_, block)| block.allowed.iter().any(marked)));
            assert!(
                matches!(done.result, Err(StoreError::Uncorrectable(at)) if (lba..lba + 16).contains(&at.0))
            );
            assert!(done.slots.is_empty());
            return;
        }
        let found = seeds(&self.stores, id, &done.slots, tuple_len);
        for (lba, seed) in (lba..).zip(&found) {
            let block = self.model.volumes[&id].blocks.get(&lba);
            assert!(block.map_or(seed.is_none(), |block| block.allowed.contains(seed)));
        }
        self.pinned.push(Pinned { volume: id, tuple_len, slots: done.slots, found });
    }

    fn unpin(&mut self) {
        if self.pinned.is_empty() {
            return;
        }
        let number = self.dice.below(self.pinned.len() as u64) as usize;
        let Pinned { volume, tuple_len, slots, found } = self.pinned.swap_remove(number);
        assert_eq!(seeds(&self.stores, volume, &slots, tuple_len), found, "pinned blocks have changed");
        self.stores.unpin(volume, &slots);
    }
}

/// All that a process did to the memory, and what may be there at each point.
struct History {
    base: Vec<u8>,
    steps: Vec<Step>,
    points: Vec<Point>,
    dice: Dice,
}

impl History {
    /// The memory after so many steps, and what may be in it.
    fn at(&self, cut: usize) -> (Vec<u8>, Model) {
        let mut image = self.base.clone();
        self.steps[..cut].iter().for_each(|step| apply(&mut image, step));
        let exact = self.points.iter().rfind(|point| point.steps == cut);
        let point = exact.or_else(|| self.points.iter().find(|point| point.steps > cut));
        (image, Model::clone(&point.unwrap().model))
    }

    /// Checks the image after every `stride`-th step, and with every such range cut.
    fn check_images(self, stride: u64) -> usize {
        let History { base: mut image, steps, points, mut dice } = self;
        let mut points = points.iter().peekable();
        let mut checked = 0;
        for (number, step) in steps.iter().enumerate() {
            // The last point whose steps are all done says what holds now; in between, the next one does.
            while points.peek().is_some_and(|point| point.steps < number) {
                points.next();
            }
            let done = std::iter::from_fn(|| points.next_if(|point| point.steps == number)).last();
            let between = points.peek().map(|point| &point.model);
            let sampled = stride == 1 || dice.below(stride) == 0;
            if let Some(model) = done.map(|point| &point.model).or(between).filter(|_| sampled) {
                check_image(&image, model, number);
                checked += 1;
            }
            let mut torn = if sampled { image.clone() } else { Vec::new() };
            if let Some(model) = between.filter(|_| sampled)
                && apply_torn(&mut torn, step, dice.next())
            {
                check_image(&torn, model, number);
                checked += 1;
            }
            apply(&mut image, step);
        }
        checked
    }
}

/// Opens an image and holds it against the model; then kills the opening, too, after each of its stores.
fn check_image(image: &[u8], model: &Model, number: usize) {
    let (memory, journal) = JournalMemory::new(image.to_vec());
    let opened = MemoryPool::open(memory);
    // The first steps make the pool itself.
    let Ok(mut pool) = opened else {
        let made = model.volumes.is_empty() && number < 20;
        assert!(made && opened.is_err_and(|error| error == crate::PoolError::NotAPool), "step {number}");
        return;
    };
    model.check(&mut pool);
    drop(pool);
    let steps = std::mem::take(&mut journal.borrow_mut().steps);
    let mut again = image.to_vec();
    for step in &steps {
        apply(&mut again, step);
        model.check(&mut MemoryPool::open(again.clone()).unwrap());
    }
}

#[test]
fn a_kill_after_any_store_leaves_every_block_whole_with_its_own_record() {
    let mut images = 0;
    for seed in 1..=2 {
        let mut world = World::new(seed);
        for _ in 0..45 {
            world.step();
        }
        audit_all(&world.stores);
        images += world.history().check_images(1);
    }
    assert!(images > 2_500, "{images} kills are too few");
}

#[test]
fn a_kill_during_a_longer_load_leaves_every_block_whole_with_its_own_record() {
    let mut images = 0;
    for seed in 11..=14 {
        let mut world = World::new(seed);
        for step in 0..600 {
            world.step();
            if step % 16 == 0 {
                audit_all(&world.stores);
            }
        }
        audit_all(&world.stores);
        images += world.history().check_images(100);
    }
    assert!(images > 1_000, "{images} kills are too few");
}

#[test]
fn a_pool_goes_on_through_one_kill_after_the_other() {
    for seed in 21..=24 {
        let mut world = World::new(seed);
        for life in 0..20 {
            for _ in 0..20 + life {
                world.step();
            }
            audit_all(&world.stores);
            world.history().check_images(60);
            world = world.killed();
            audit_all(&world.stores);
        }
    }
}

#[test]
fn a_kill_while_a_pool_is_made_leaves_no_pool_or_an_empty_one() {
    let config = config();
    let len = MemoryPool::<Vec<u8>>::layout_len(&config).unwrap();
    let (memory, journal) = JournalMemory::new(vec![0xa5; len]);
    drop(MemoryPool::create(memory, &config).unwrap());
    let steps = std::mem::take(&mut journal.borrow_mut().steps);
    let mut image = vec![0xa5; len];
    for (number, step) in steps.iter().enumerate() {
        assert_eq!(MemoryPool::open(image.clone()).unwrap_err(), crate::PoolError::NotAPool, "step {number}");
        apply(&mut image, step);
    }
    assert_eq!(MemoryPool::open(image).unwrap().volumes().count(), 0);
}
