//! Files through the reactor, on both interfaces: what is written is read, requests are bounded and reported once, failures
//! say what they are, and nothing under a request goes away before it.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "helpers of tests")]

mod common;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender};

use common::places::{Loop, on_file_system, on_small_file_system};
use common::{Behaviour, Running, pattern, start};
use holdfast_reactor::{
    Backing, BackingMode, FileError, FileId, FileRefusal, Io, IoChoice, Loss, Mapping, ReactorConfig,
    RegionId, Space,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

on_each_interface!(
    what_is_written_is_read_back,
    random_vectored_transfers_match_a_model,
    more_requests_than_fit_are_all_done,
    what_cannot_be_asked_is_refused_at_once,
    a_file_that_was_cut_ends_a_read_with_an_error,
    a_full_file_system_is_no_room,
    a_failing_medium_is_an_error_of_its_requests_alone,
    devices_and_file_systems_serve_through_the_reactor,
    a_crash_leaves_the_file_to_the_next_owner,
    closing_waits_for_requests,
    the_end_of_the_reactor_waits_for_requests,
    a_region_in_flight_stays_mapped,
    unflushed_writes_of_a_lossy_file_stay_in_memory,
    a_pretended_flush_writes_nothing,
    an_idle_reactor_is_woken_by_its_files,
);

const BLOCK: usize = 4096;

/// Blocks of memory that requests move bytes from and to.
const ARENA_BLOCKS: usize = 512;

struct Files {
    arena: Mapping,
    region: Option<RegionId>,
    done: BTreeMap<u64, Result<(), FileError>>,
    closed: Vec<FileId>,
    /// Fails once nobody listens any more, which does not matter.
    tell: Sender<()>,
}

impl Files {
    fn new(tell: Sender<()>) -> Files {
        let arena = Mapping::create("files", ARENA_BLOCKS * BLOCK).unwrap();
        Files { arena, region: None, done: BTreeMap::new(), closed: Vec::new(), tell }
    }

    fn region(&mut self, io: &mut Io) -> RegionId {
        *self.region.get_or_insert_with(|| io.register_region(self.arena.region()))
    }

    fn fill(&mut self, block: usize, bytes: &[u8]) {
        self.arena.slice_mut(block * BLOCK, bytes.len()).unwrap().copy_from_slice(bytes);
    }

    fn bytes(&self, block: usize, blocks: usize) -> Vec<u8> {
        self.arena.slice(block * BLOCK, blocks * BLOCK).unwrap().to_vec()
    }
}

impl Behaviour for Files {
    fn file_done(&mut self, _io: &mut Io, file: FileId, user: u64, result: Result<(), FileError>) {
        assert!(!self.closed.contains(&file), "a request was reported after the end of its file");
        assert_eq!(self.done.insert(user, result), None, "request {user} was reported twice");
        let _ = self.tell.send(());
    }

    fn file_closed(&mut self, _io: &mut Io, file: FileId) {
        assert!(!self.closed.contains(&file));
        self.closed.push(file);
        let _ = self.tell.send(());
    }
}

/// A reactor and what it tells: once for each request and file that is over.
struct Driven {
    running: Running<Files>,
    told: Receiver<()>,
}

impl Driven {
    fn call<R: Send + 'static>(&mut self, call: impl FnOnce(&mut Files, &mut Io) -> R + Send + 'static) -> R {
        self.running.call(call)
    }

    /// Looks again after each event until `probe` gives a value.
    fn wait_until<R: Send + 'static>(
        &mut self,
        probe: impl Fn(&mut Files, &mut Io) -> Option<R> + Clone + Send + 'static,
    ) -> R {
        loop {
            if let Some(found) = self.call(probe.clone()) {
                return found;
            }
            self.told.recv().unwrap();
        }
    }

    fn stop(self) -> Files {
        self.running.stop()
    }
}

fn reactor(io: IoChoice) -> Driven {
    let (tell, told) = mpsc::channel();
    Driven { running: start(ReactorConfig { io, ..ReactorConfig::default() }, Files::new(tell)), told }
}

fn create(path: &Path, blocks: usize) -> Backing {
    let len_bytes = (blocks * BLOCK) as u64;
    Backing::open(path, BackingMode::Create { len_bytes, space: Space::Reserved }).unwrap()
}

fn add(running: &mut Driven, backing: Backing) -> FileId {
    running.call(move |_, io| io.add_file(Arc::new(backing)).unwrap())
}

/// Offsets and lengths in bytes.
type Parts = Vec<(usize, usize)>;

/// Waits for a request, and forgets it.
fn result(running: &mut Driven, user: u64) -> Result<(), FileError> {
    running.wait_until(move |files, _| files.done.remove(&user))
}

/// Parts of whole blocks: (first block of the arena, blocks).
fn parts(of: &[(usize, usize)]) -> Parts {
    of.iter().map(|(block, blocks)| (block * BLOCK, blocks * BLOCK)).collect()
}

fn write(running: &mut Driven, file: FileId, at: usize, of: &[(usize, usize)]) -> Result<(), FileError> {
    let of = parts(of);
    running.call(move |files, io| {
        let region = files.region(io);
        io.file_write(file, 1, (at * BLOCK) as u64, region, of).unwrap();
        assert!(files.done.is_empty(), "nothing is reported from within a call");
    });
    result(running, 1)
}

fn read(running: &mut Driven, file: FileId, at: usize, of: &[(usize, usize)]) -> Result<(), FileError> {
    let of = parts(of);
    running.call(move |files, io| {
        let region = files.region(io);
        io.file_read(file, 2, (at * BLOCK) as u64, region, of).unwrap();
    });
    result(running, 2)
}

fn sync(running: &mut Driven, file: FileId) -> Result<(), FileError> {
    running.call(move |_, io| io.file_sync(file, 3).unwrap());
    result(running, 3)
}

fn what_is_written_is_read_back(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut running = reactor(io);
    let file = add(&mut running, create(&path, 64));
    let data = pattern(8 * BLOCK, 1);
    let sent = data.clone();
    running.call(move |files, _| files.fill(0, &sent));
    // Out of order, and with two neighbours.
    write(&mut running, file, 10, &[(6, 2), (0, 1), (1, 5)]).unwrap();
    sync(&mut running, file).unwrap();
    read(&mut running, file, 10, &[(100, 3), (200, 5)]).unwrap();
    let (first, second) = running.call(|files, _| (files.bytes(100, 3), files.bytes(200, 5)));
    let expected = [&data[6 * BLOCK..], &data[..6 * BLOCK]].concat();
    assert!([first, second].concat() == expected);
    let stored = std::fs::read(&path).unwrap();
    assert!(stored[10 * BLOCK..18 * BLOCK] == expected);
    running.stop();
}

/// One transfer of the model test: whether it writes, where in the file, and how many blocks of which parts.
#[derive(Clone, Debug)]
struct Transfer {
    writes: bool,
    at: usize,
    lens: Vec<usize>,
}

fn transfers(file_blocks: usize) -> impl Strategy<Value = Vec<Transfer>> {
    let one = (any::<bool>(), 0..file_blocks, prop::collection::vec(1_usize..5, 1..6));
    prop::collection::vec(one, 1..40).prop_map(move |all| {
        let all = all.into_iter().map(|(writes, at, lens)| Transfer { writes, at, lens });
        all.filter(|transfer| transfer.at + transfer.lens.iter().sum::<usize>() <= file_blocks).collect()
    })
}

fn random_vectored_transfers_match_a_model(io: IoChoice) {
    const FILE_BLOCKS: usize = 96;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut running = reactor(io);
    let file = add(&mut running, create(&path, FILE_BLOCKS));
    let state = RefCell::new((&mut running, vec![0_u8; FILE_BLOCKS * BLOCK], 0));
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    runner
        .run(&transfers(FILE_BLOCKS), |all| {
            // Those that touch nothing in common go together; each has its own stretch of the arena, parts in reverse.
            let (running, model, seed) = &mut *state.borrow_mut();
            for group in independent(all) {
                *seed += 1;
                carry_out(running, file, &group, model, *seed);
            }
            Ok(())
        })
        .unwrap();
    let (_, model, _) = state.into_inner();
    sync(&mut running, file).unwrap();
    assert!(std::fs::read(&path).unwrap() == model);
    running.stop();
}

fn independent(all: Vec<Transfer>) -> Vec<Vec<Transfer>> {
    let mut groups: Vec<Vec<Transfer>> = vec![Vec::new()];
    let end = |transfer: &Transfer| transfer.at + transfer.lens.iter().sum::<usize>();
    for transfer in all {
        let group = groups.last_mut().unwrap();
        let apart = |other: &Transfer| end(other) <= transfer.at || end(&transfer) <= other.at;
        if group.len() < 16 && group.iter().all(apart) {
            group.push(transfer);
        } else {
            groups.push(vec![transfer]);
        }
    }
    groups
}

fn carry_out(running: &mut Driven, file: FileId, group: &[Transfer], model: &mut [u8], seed: usize) {
    // Parts of transfer `n` lie from block 32 n on, the last part first.
    let layout: Vec<Vec<(usize, usize)>> =
        (0..).zip(group).map(|(n, transfer)| place(32 * n, transfer)).collect();
    let mut fills = Vec::new();
    for (transfer, parts) in group.iter().zip(&layout).filter(|(transfer, _)| transfer.writes) {
        let mut at = transfer.at;
        for &(block, blocks) in parts {
            let data = pattern(blocks * BLOCK, seed * 7 + block);
            model[at * BLOCK..][..data.len()].copy_from_slice(&data);
            fills.push((block, data));
            at += blocks;
        }
    }
    let asked: Vec<(bool, u64, Parts)> = group
        .iter()
        .zip(&layout)
        .map(|(transfer, of)| (transfer.writes, (transfer.at * BLOCK) as u64, parts(of)))
        .collect();
    let count = asked.len();
    running.call(move |files, io| {
        for (block, data) in fills {
            files.fill(block, &data);
        }
        let region = files.region(io);
        for (user, (writes, offset, parts)) in (100..).zip(asked) {
            if writes {
                io.file_write(file, user, offset, region, parts).unwrap();
            } else {
                io.file_read(file, user, offset, region, parts).unwrap();
            }
        }
    });
    running.wait_until(move |files, _| (files.done.len() == count).then_some(()));
    let (results, arena) =
        running.call(|files, _| (std::mem::take(&mut files.done), files.bytes(0, ARENA_BLOCKS)));
    assert!(results.values().all(Result::is_ok), "{results:?}");
    for (transfer, parts) in group.iter().zip(&layout) {
        let mut at = transfer.at;
        for &(block, blocks) in parts {
            let found = &arena[block * BLOCK..][..blocks * BLOCK];
            assert!(found == &model[at * BLOCK..][..found.len()], "{transfer:?}");
            at += blocks;
        }
    }
}

fn place(from: usize, transfer: &Transfer) -> Vec<(usize, usize)> {
    let mut end = from + transfer.lens.iter().sum::<usize>();
    let parts = transfer.lens.iter().map(|blocks| {
        end -= blocks;
        (end, *blocks)
    });
    parts.collect()
}

fn more_requests_than_fit_are_all_done(io: IoChoice) {
    const REQUESTS: usize = 3_000;
    let folder = tempfile::tempdir().unwrap();
    let mut running = reactor(io);
    let file = add(&mut running, create(&folder.path().join("pool"), ARENA_BLOCKS));
    running.call(move |files, io| {
        let region = files.region(io);
        for n in 0..REQUESTS {
            let block = n % ARENA_BLOCKS;
            let offset = (block * BLOCK) as u64;
            io.file_write(file, n as u64, offset, region, [(block * BLOCK, BLOCK)]).unwrap();
        }
    });
    running.wait_until(|files, _| (files.done.len() == REQUESTS).then_some(()));
    assert!(running.stop().done.values().all(Result::is_ok));
}

fn what_cannot_be_asked_is_refused_at_once(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let mut running = reactor(io);
    let file = add(&mut running, create(&folder.path().join("pool"), 16));
    running.call(move |files, io| {
        let region = files.region(io);
        let mut read = |offset: u64, parts: &[(usize, usize)]| {
            io.file_read(file, 9, offset, region, parts.iter().copied()).unwrap_err()
        };
        assert_eq!(read(0, &[]), FileRefusal::Empty);
        assert_eq!(read(0, &[(0, 0)]), FileRefusal::Empty);
        assert_eq!(read(16 * BLOCK as u64, &[(0, BLOCK)]), FileRefusal::Outside);
        assert_eq!(read(u64::MAX - 4095, &[(0, BLOCK)]), FileRefusal::Outside);
        assert_eq!(read(100, &[(0, BLOCK)]), FileRefusal::Misaligned);
        assert_eq!(read(0, &[(8, BLOCK)]), FileRefusal::Misaligned);
        assert_eq!(read(0, &[(0, BLOCK + 8)]), FileRefusal::Misaligned);
        assert_eq!(read(0, &[(ARENA_BLOCKS * BLOCK, BLOCK)]), FileRefusal::BadRegion);
        assert_eq!(read(0, &[(0, BLOCK), (usize::MAX, BLOCK)]), FileRefusal::BadRegion);
        // None of them has left the region in use: it goes at once.
        assert!(io.unregister_region(region));
        assert_eq!(io.file_read(file, 9, 0, region, [(0, BLOCK)]), Err(FileRefusal::BadRegion));
        io.close_file(file);
        assert_eq!(io.file_sync(file, 9), Err(FileRefusal::Gone));
        assert_eq!(io.file_read(file, 9, 0, region, [(0, BLOCK)]), Err(FileRefusal::Gone));
    });
    let files = running.stop();
    assert_eq!((files.done.len(), files.closed), (0, vec![file]));
    let weak = files.arena.region().downgrade();
    drop(files.arena);
    assert!(weak.upgrade().is_none(), "a refused request holds a region");
}

fn a_file_that_was_cut_ends_a_read_with_an_error(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut running = reactor(io);
    let file = add(&mut running, create(&path, 64));
    OpenOptions::new().write(true).open(&path).unwrap().set_len(10 * BLOCK as u64).unwrap();
    read(&mut running, file, 0, &[(0, 10)]).unwrap();
    assert_eq!(read(&mut running, file, 8, &[(0, 1), (5, 8)]), Err(FileError::Short));
    assert_eq!(read(&mut running, file, 20, &[(0, 1)]), Err(FileError::Short));
    read(&mut running, file, 9, &[(3, 1)]).unwrap();
    running.stop();
}

fn a_full_file_system_is_no_room(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mode = BackingMode::Create { len_bytes: 64 << 20, space: Space::Sparse };
    let opened = on_small_file_system(folder.path(), "1m", || Backing::open(&path, mode).unwrap());
    let Some(backing) = opened else { return };
    let mut running = reactor(io);
    let file = add(&mut running, backing);
    assert_eq!(write(&mut running, file, 1_000, &[(0, 512)]), Err(FileError::NoSpace));
    read(&mut running, file, 5_000, &[(0, 1)]).unwrap();
    running.stop();
}

fn a_failing_medium_is_an_error_of_its_requests_alone(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image");
    let Some(device) = Loop::new(&image, 8 << 20, 512) else { return };
    let mut running = reactor(io);
    let failing = add(&mut running, Backing::open(&device.path, BackingMode::ReadWrite).unwrap());
    let sound = add(&mut running, create(&folder.path().join("pool"), 64));
    // The medium shrinks below what the device promised.
    OpenOptions::new().write(true).open(&image).unwrap().set_len(1 << 20).unwrap();
    read(&mut running, failing, 0, &[(0, 8)]).unwrap();
    let failed = read(&mut running, failing, 1_024, &[(0, 1), (2, 3)]);
    assert_eq!(failed, Err(FileError::Failed { errno: libc::EIO }));
    write(&mut running, sound, 0, &[(0, 64)]).unwrap();
    read(&mut running, failing, 0, &[(0, 8)]).unwrap();
    running.stop();
}

/// Writes all of the first MiB and reads it back, in parts that lie apart.
fn serves(io: IoChoice, backing: Backing) {
    let mut running = reactor(io);
    let file = add(&mut running, backing);
    let data = pattern(256 * BLOCK, 9);
    let sent = data.clone();
    running.call(move |files, _| files.fill(0, &sent));
    write(&mut running, file, 0, &[(128, 128), (0, 128)]).unwrap();
    sync(&mut running, file).unwrap();
    read(&mut running, file, 128, &[(256, 100), (400, 28)]).unwrap();
    let (first, second) = running.call(|files, _| (files.bytes(256, 100), files.bytes(400, 28)));
    assert!([first, second].concat() == data[..128 * BLOCK]);
    running.stop();
}

fn devices_and_file_systems_serve_through_the_reactor(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    for block_bytes in [512, 4096] {
        let image = folder.path().join(format!("{block_bytes}"));
        let Some(device) = Loop::new(&image, 8 << 20, block_bytes) else { return };
        serves(io, Backing::open(&device.path, BackingMode::ReadWrite).unwrap());
    }
    for (kind, bytes) in [(c"ext4", 64 << 20), (c"xfs", 400 << 20)] {
        let folder = tempfile::tempdir().unwrap();
        on_file_system(folder.path(), kind, bytes, |place| serves(io, create(&place.join("pool"), 2_048)));
    }
}

fn a_crash_leaves_the_file_to_the_next_owner(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut running = reactor(io);
    let file = add(&mut running, create(&path, ARENA_BLOCKS));
    running.running.crash(move |files, io| {
        let region = files.region(io);
        for n in 0..ARENA_BLOCKS {
            io.file_write(file, n as u64, (n * BLOCK) as u64, region, [(n * BLOCK, BLOCK)]).unwrap();
        }
        panic!("on purpose");
    });
    // Threads that are in the middle of a request finish it first.
    while Backing::open(&path, BackingMode::ReadWrite).is_err() {
        std::thread::yield_now();
    }
}

fn closing_waits_for_requests(io: IoChoice) {
    const REQUESTS: usize = 600;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut running = reactor(io);
    let file = add(&mut running, create(&path, ARENA_BLOCKS));
    running.call(move |files, io| {
        let region = files.region(io);
        for n in 0..REQUESTS {
            io.file_write(file, n as u64, 0, region, [(0, BLOCK)]).unwrap();
        }
        io.close_file(file);
        io.close_file(file);
    });
    let done = running.wait_until(move |files, _| files.closed.contains(&file).then_some(files.done.len()));
    assert_eq!(done, REQUESTS);
    // The lock is gone with it.
    let backing = Backing::open(&path, BackingMode::ReadWrite).unwrap();
    let next = add(&mut running, backing);
    assert_ne!(next, file);
    assert_eq!(next.index(), file.index());
    running.stop();
}

fn the_end_of_the_reactor_waits_for_requests(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut running = reactor(io);
    let file = add(&mut running, create(&path, ARENA_BLOCKS));
    let data = pattern(ARENA_BLOCKS * BLOCK, 5);
    let written = data.clone();
    running.call(move |files, io| {
        files.fill(0, &written);
        let region = files.region(io);
        for n in 0..ARENA_BLOCKS {
            io.file_write(file, n as u64, (n * BLOCK) as u64, region, [(n * BLOCK, BLOCK)]).unwrap();
        }
    });
    let files = running.stop();
    assert_eq!((files.done.len(), files.closed), (ARENA_BLOCKS, vec![file]));
    assert!(files.done.values().all(Result::is_ok));
    assert!(std::fs::read(&path).unwrap() == data);
}

fn a_region_in_flight_stays_mapped(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut running = reactor(io);
    let file = add(&mut running, create(&path, ARENA_BLOCKS));
    let weak = running.call(move |files, io| {
        let mut other = Mapping::create("in-flight", ARENA_BLOCKS * BLOCK).unwrap();
        other.slice_mut(0, ARENA_BLOCKS * BLOCK).unwrap().fill(0x77);
        let region = io.register_region(other.region());
        for n in 0..ARENA_BLOCKS {
            io.file_write(file, n as u64, (n * BLOCK) as u64, region, [(n * BLOCK, BLOCK)]).unwrap();
        }
        let weak = other.region().downgrade();
        drop(other);
        assert!(io.unregister_region(region));
        assert!(weak.upgrade().is_some() && files.done.is_empty());
        weak
    });
    running.wait_until(|files, _| (files.done.len() == ARENA_BLOCKS).then_some(()));
    running.stop();
    assert!(weak.upgrade().is_none());
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0x77));
}

fn lossy(path: &Path, loss: Loss) -> Backing {
    let mode = BackingMode::Create { len_bytes: 64 * BLOCK as u64, space: Space::Reserved };
    Backing::open_lossy(path, mode, loss).unwrap()
}

fn unflushed_writes_of_a_lossy_file_stay_in_memory(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut running = reactor(io);
    let file = add(&mut running, lossy(&path, Loss::All));
    running.call(|files, _| files.fill(0, &[0x11; 2 * BLOCK]));
    write(&mut running, file, 3, &[(0, 1), (1, 1)]).unwrap();
    read(&mut running, file, 2, &[(10, 3)]).unwrap();
    assert!(
        running.call(|files, _| files.bytes(10, 3)) == [[0; BLOCK], [0x11; BLOCK], [0x11; BLOCK]].concat()
    );
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0), "nothing has reached the file");
    sync(&mut running, file).unwrap();
    assert!(std::fs::read(&path).unwrap()[3 * BLOCK..5 * BLOCK].iter().all(|byte| *byte == 0x11));
    // What is not flushed goes with the owner.
    write(&mut running, file, 7, &[(0, 1)]).unwrap();
    running.stop();
    assert!(std::fs::read(&path).unwrap()[7 * BLOCK..].iter().all(|byte| *byte == 0));
}

fn a_pretended_flush_writes_nothing(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pool");
    let mut running = reactor(io);
    let file = add(&mut running, lossy(&path, Loss::PretendFlush));
    running.call(|files, _| files.fill(0, &[0x22; BLOCK]));
    write(&mut running, file, 3, &[(0, 1)]).unwrap();
    sync(&mut running, file).unwrap();
    read(&mut running, file, 3, &[(10, 1)]).unwrap();
    assert!(running.call(|files, _| files.bytes(10, 1)) == [0x22; BLOCK]);
    running.stop();
    assert!(std::fs::read(&path).unwrap().iter().all(|byte| *byte == 0));
}

/// Reads again and again, each when the one before is done, without anything else that would wake the reactor.
struct Chain {
    files: Files,
    left: u64,
}

impl Behaviour for Chain {
    fn file_done(&mut self, io: &mut Io, file: FileId, _user: u64, result: Result<(), FileError>) {
        result.unwrap();
        self.left -= 1;
        if self.left == 0 {
            return self.files.tell.send(()).unwrap();
        }
        let region = self.files.region(io);
        io.file_read(file, self.left, 0, region, [(0, BLOCK)]).unwrap();
    }
}

fn an_idle_reactor_is_woken_by_its_files(io: IoChoice) {
    let folder = tempfile::tempdir().unwrap();
    let (tell, told) = mpsc::channel();
    // It never spins: each completion has to wake it.
    let config = ReactorConfig { io, spin_us: 0, ..ReactorConfig::default() };
    let mut running = start(config, Chain { files: Files::new(tell), left: 500 });
    let backing = create(&folder.path().join("pool"), 16);
    running.call(move |chain, io| {
        let file = io.add_file(Arc::new(backing)).unwrap();
        let region = chain.files.region(io);
        io.file_read(file, 0, 0, region, [(0, BLOCK)]).unwrap();
    });
    told.recv().unwrap();
    running.stop();
}
