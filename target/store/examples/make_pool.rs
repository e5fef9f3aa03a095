//! Makes a pool in a sparse file, so that its opening can be timed: `make_pool PATH --mapped GIB` or
//! `make_pool PATH --journal`.
//!
//! With `--mapped` so much of one volume is written with zeroes, and the pool is closed; pages of zeroes leave holes in the file,
//! so that a small disk is enough. With `--journal` the pool ends as in a power cut, after random
//! writes, at the moment when its journal is full and the checkpoint that would empty it is not there yet.
//! Prints what a recovery will find.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a tool for measurements, ended by any error"
)]

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use holdfast_block::{
    BlockCount, BlockRecord, HostId, Lba, PoolId, Provenance, SlotRef, Store, StoreOp, VolumeId,
};
use holdfast_pi::{GuardKind, PiFormat, PiType};
use holdfast_store::disk::format::{SLOT_LEN, Superblock};
use holdfast_store::disk::io::{Device, DiskError, DiskOp};
use holdfast_store::{DiskConfig, DiskLimits, DiskPool, Stores, VolumeSpec};

const GIB: u64 = 1 << 30;
const ARENA: usize = 64 << 20;
/// The pool whose journal is filled: large enough for the longest journal.
const JOURNAL_POOL: u64 = 64 * GIB;
/// Of it, what is written at random.
const JOURNAL_SPAN: u64 = 4 * GIB;
/// Operations of the device under way at one time in a full pool's last moments.
const HELD_MAX: usize = 100_000;

struct Sparse {
    file: File,
    len: u64,
    /// Pages that are not holes.
    written: RefCell<HashSet<u64>>,
}

impl Device for Sparse {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.file.read_exact_at(into, offset).map_err(|_| DiskError::Io)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), DiskError> {
        for (page, offset) in from.chunks(SLOT_LEN).zip((offset..).step_by(SLOT_LEN)) {
            let is_hole = page.iter().all(|byte| *byte == 0);
            if is_hole && !self.written.borrow().contains(&offset) {
                continue;
            }
            self.written.borrow_mut().insert(offset);
            self.file.write_all_at(page, offset).map_err(|_| DiskError::Io)?;
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), DiskError> {
        Ok(())
    }
}

struct Pool {
    id: PoolId,
    volume: VolumeId,
    stores: Stores<Vec<u8>>,
    disk: Sparse,
    /// Superblocks that are not reported written: no checkpoint is ever complete.
    held: Option<Vec<DiskOp>>,
    under_way: usize,
}

fn main() {
    let usage = || -> ! {
        eprintln!("usage: make_pool PATH --mapped GIB | make_pool PATH --journal");
        std::process::exit(2);
    };
    let words: Vec<String> = std::env::args().skip(1).collect();
    match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [path, "--mapped", gib] => match gib.parse() {
            Ok(gib) => mapped(&PathBuf::from(path), gib),
            Err(_) => usage(),
        },
        [path, "--journal"] => journal(&PathBuf::from(path)),
        _ => usage(),
    }
}

fn mapped(path: &PathBuf, gib: u64) {
    let mut pool = Pool::create(path, (gib + gib / 10 + 1) * GIB, gib * GIB);
    let blocks = gib * GIB / SLOT_LEN as u64;
    for lba in (0..blocks).step_by(256) {
        pool.write(lba, 256);
        pool.turn(32);
    }
    pool.turn(1);
    pool.stores.disk_pool_mut(pool.id).unwrap().close();
    pool.turn(0);
    let closed = pool.stores.disk_pool(pool.id).unwrap();
    assert!(closed.is_closed());
    println!("mapped {blocks} blocks in {} pages", closed.map_bytes() / SLOT_LEN as u64);
}

fn journal(path: &PathBuf) {
    let mut pool = Pool::create(path, JOURNAL_POOL, JOURNAL_SPAN);
    pool.held = Some(Vec::new());
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    loop {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        pool.write(state % (JOURNAL_SPAN / SLOT_LEN as u64), 1);
        pool.turn(64);
        let (all, used) = pool.stores.disk_pool(pool.id).unwrap().journal_blocks();
        if pool.under_way > 1024 || used >= all {
            println!("journal {used} blocks of {all}");
            return;
        }
    }
}

impl Pool {
    fn create(path: &PathBuf, len: u64, volume_len: u64) -> Pool {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
        file.set_len(len).unwrap();
        let disk = Sparse { file, len, written: RefCell::default() };
        let (id, volume) = (PoolId::new(1).unwrap(), VolumeId::new(1).unwrap());
        let config = DiskConfig { id, uuid: [7; 16], name: "measured".to_owned(), zero_ahead: false };
        let limits = DiskLimits { map_bytes_max: 16 * GIB };
        let pool = DiskPool::create(&disk, vec![0; ARENA], &config, limits).unwrap();
        let mut stores = Stores::new();
        stores.add_disk_pool(0, pool).unwrap();
        let mut pool = Pool { id, volume, stores, disk, held: None, under_way: 0 };
        pool.turn(0);
        let spec = VolumeSpec {
            id: volume,
            uuid: [1; 16],
            nguid: [2; 16],
            block_len: SLOT_LEN,
            block_count: volume_len / SLOT_LEN as u64,
            format: Some(PiFormat::new(PiType::Type1, GuardKind::Crc16, 4096, 0).unwrap()),
        };
        pool.stores.create_named_volume(id, &spec, "measured").unwrap();
        pool.turn(0);
        pool
    }

    fn write(&mut self, lba: u64, blocks: u32) {
        let mut slots: Vec<SlotRef> = Vec::new();
        self.stores.reserve(self.volume, Lba(lba), BlockCount::new(blocks), &mut slots).unwrap();
        let record = BlockRecord { tuple: [0; 16], provenance: Provenance::Inserted, writer: HostId::new(1) };
        for slot in &slots {
            if self.held.is_some() {
                self.stores.data_mut(self.volume, *slot).unwrap().fill(1);
            }
            self.stores.set_record(self.volume, *slot, &record);
        }
        self.under_way += 1;
        self.stores.submit(StoreOp::Publish {
            token: 1,
            volume: self.volume,
            lba: Lba(lba),
            slots,
            durable: false,
        });
    }

    /// Lets pool and device work until fewer than `below` writes are under way, or nothing more can happen.
    fn turn(&mut self, below: usize) {
        loop {
            while let Some(done) = self.stores.poll() {
                done.result.unwrap();
                self.under_way -= 1;
            }
            if self.under_way < below {
                return;
            }
            let Some((id, op)) = self.stores.next_disk_op() else {
                if self.held.is_none() && self.stores.has_work() {
                    continue;
                }
                return;
            };
            match &mut self.held {
                Some(held) if is_superblock(&op) => {
                    held.push(op);
                    assert!(held.len() < HELD_MAX);
                }
                _ => {
                    let arena = self.stores.disk_pool_mut(id).unwrap().arena_mut();
                    let done = op.carry_out(&self.disk, arena);
                    done.result.unwrap();
                    self.stores.disk_done(id, done);
                }
            }
        }
    }
}

fn is_superblock(op: &DiskOp) -> bool {
    matches!(op, DiskOp::Write { offset, .. } if Superblock::SLOTS.iter().any(|slot| slot * SLOT_LEN as u64 == *offset))
}
