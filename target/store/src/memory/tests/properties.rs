//! Random loads against a model: contents, capacity, pins; and the same again after reopening.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Action {
    Write { volume: usize, lba: u64, blocks: u32 },
    GiveUp { volume: usize, blocks: u32 },
    Deallocate { volume: usize, lba: u64, blocks: u64 },
    Pin { volume: usize, lba: u64, blocks: u32 },
    Unpin { pick: usize },
    Reopen,
}

/// Three volumes: 512 bytes with 8-byte tuples, 4096 with 16, 4096 without; each of two leaves.
const SHAPES: [(u32, usize); 3] = [(512, 8), (4096, 16), (4096, 0)];
const BLOCKS: u64 = 700;

fn action() -> impl Strategy<Value = Action> {
    let place = (0..SHAPES.len(), 0..BLOCKS - 100, 1u32..100);
    prop_oneof![
        8 => place.clone().prop_map(|(volume, lba, blocks)| Action::Write { volume, lba, blocks }),
        1 => place.clone().prop_map(|(volume, _, blocks)| Action::GiveUp { volume, blocks }),
        3 => (0..SHAPES.len(), 0..BLOCKS, 1..BLOCKS).prop_map(|(volume, lba, blocks)| {
            Action::Deallocate { volume, lba, blocks: blocks.min(BLOCKS - lba) }
        }),
        2 => place.prop_map(|(volume, lba, blocks)| Action::Pin { volume, lba, blocks }),
        2 => any::<usize>().prop_map(|pick| Action::Unpin { pick }),
        1 => Just(Action::Reopen),
    ]
}

struct Pinned {
    volume: usize,
    slots: Vec<SlotRef>,
    found: Vec<Option<u64>>,
}

struct Run {
    stores: Stores<Vec<u8>>,
    contents: [Vec<Option<u64>>; 3],
    pinned: Vec<Pinned>,
    seed: u64,
}

impl Run {
    fn new() -> Run {
        let mut stores = stores_of(pool_in(&config()));
        for (id, (block_len, tuple_len)) in (1..).zip(SHAPES) {
            let format = format(block_len, tuple_len);
            stores.create_volume(pool_id(), &VolumeSpec { format, ..spec(id, block_len, BLOCKS) }).unwrap();
        }
        let contents = [(); 3].map(|()| vec![None; BLOCKS as usize]);
        Run { stores, contents, pinned: Vec::new(), seed: 1 }
    }

    fn allocated(&self) -> u64 {
        let used = |(volume, (block_len, _)): (&Vec<Option<u64>>, (u32, usize))| {
            volume.iter().flatten().count() as u64 * u64::from(block_len)
        };
        self.contents.iter().zip(SHAPES).map(used).sum()
    }

    fn act(&mut self, action: Action) {
        match action {
            Action::Write { volume, lba, blocks } => self.write(volume, lba, blocks),
            Action::GiveUp { volume, blocks } => {
                if let Ok(slots) = filled(&mut self.stores, id(volume), blocks, self.seed) {
                    self.stores.unreserve(id(volume), &slots);
                }
            }
            Action::Deallocate { volume, lba, blocks } => {
                deallocate(&mut self.stores, id(volume), lba, blocks);
                self.contents[volume][lba as usize..(lba + blocks) as usize].fill(None);
            }
            Action::Pin { volume, lba, blocks } => {
                let slots = pin(&mut self.stores, id(volume), lba, blocks);
                let found = seeds(&self.stores, id(volume), &slots, SHAPES[volume].1);
                assert_eq!(found, self.contents[volume][lba as usize..][..blocks as usize]);
                self.pinned.push(Pinned { volume, slots, found });
            }
            Action::Unpin { pick } if !self.pinned.is_empty() => {
                let number = pick % self.pinned.len();
                let Pinned { volume, slots, found } = self.pinned.swap_remove(number);
                assert_eq!(seeds(&self.stores, id(volume), &slots, SHAPES[volume].1), found);
                self.stores.unpin(id(volume), &slots);
            }
            Action::Unpin { .. } => {}
            Action::Reopen => self.reopen(),
        }
    }

    fn write(&mut self, volume: usize, lba: u64, blocks: u32) {
        let place = lba as usize..lba as usize + blocks as usize;
        let holes = self.contents[volume][place.clone()].iter().filter(|block| block.is_none()).count();
        let fits = self.allocated() + holes as u64 * u64::from(SHAPES[volume].0) <= config().size_bytes;
        let Ok(slots) = filled(&mut self.stores, id(volume), blocks, self.seed) else {
            assert!(!self.pinned.is_empty(), "without pins there is always a slot to write to");
            return;
        };
        let result = publish(&mut self.stores, id(volume), lba, slots);
        assert_eq!(result, if fits { Ok(()) } else { Err(StoreError::NoRoom) });
        if fits {
            for (block, seed) in self.contents[volume][place].iter_mut().zip(self.seed..) {
                *block = Some(seed);
            }
        }
        self.seed += u64::from(blocks);
    }

    /// As after a kill: pins are gone, contents are not.
    fn reopen(&mut self) {
        let memory = std::mem::take(&mut self.stores).into_pool().medium.memory;
        self.stores = stores_of(MemoryPool::open(memory).unwrap());
        self.pinned.clear();
    }

    fn check(&mut self) {
        audit_all(&self.stores);
        assert_eq!(self.stores.pool(pool_id()).unwrap().usage().allocated_bytes, self.allocated());
        for volume in 0..SHAPES.len() {
            let found = read(&mut self.stores, id(volume), 0, BLOCKS as u32);
            assert_eq!(found, self.contents[volume]);
        }
    }
}

fn id(volume: usize) -> VolumeId {
    volume_id(volume as u64 + 1)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_pool_holds_what_was_written_and_again_after_reopening(
        actions in prop::collection::vec(action(), 1..80)
    ) {
        let mut run = Run::new();
        for action in actions {
            run.act(action);
            audit_all(&run.stores);
        }
        run.check();
        run.reopen();
        run.check();
    }
}
