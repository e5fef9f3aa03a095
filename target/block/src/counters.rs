//! Counters: host × volume × direction × kind. A cell is written by one core only (the volume's home),
//! so counting is a load and a store; anybody may read. The directory of cells is locked when
//! somebody attaches or reads all of it, never per I/O.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use holdfast_pi::{Counts, Tag};

use crate::{HostId, Operation, VolumeId};

/// Direction of a check: what the host sent, or what it asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Write.
    Write,
    /// Read, Compare, Verify.
    Read,
}

/// Protection information totals of one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PiRow {
    /// Blocks of which at least one tag was compared.
    pub checked: u64,
    /// Blocks whose tuple switched the checks off.
    pub escaped: u64,
    /// Blocks with a tuple of which nothing was compared.
    pub unchecked: u64,
    /// Blocks whose tuple was made here.
    pub inserted: u64,
    /// Blocks whose tuple was taken off here.
    pub stripped: u64,
    /// Failed commands by the tag that failed.
    pub guard_errors: u64,
    /// As above.
    pub app_tag_errors: u64,
    /// As above.
    pub ref_tag_errors: u64,
    /// As above.
    pub storage_tag_errors: u64,
    /// Failed commands because the medium lost a block.
    pub media_errors: u64,
}

/// Everything of one host on one volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct IoRow {
    /// Write.
    pub write: PiRow,
    /// Read, Compare, Verify.
    pub read: PiRow,
    /// Read commands completed with success.
    pub read_ops: u64,
    /// Their data bytes.
    pub read_bytes: u64,
    /// Write commands completed with success.
    pub write_ops: u64,
    /// Their data bytes.
    pub write_bytes: u64,
}

/// A counter with one writer.
#[derive(Debug, Default)]
struct Cell(AtomicU64);

impl Cell {
    fn add(&self, count: u64) {
        // One writer: no other store can come between, so no locked instruction is needed.
        self.0.store(self.0.load(Relaxed).wrapping_add(count), Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

#[derive(Debug, Default)]
struct PiCells {
    checked: Cell,
    escaped: Cell,
    unchecked: Cell,
    inserted: Cell,
    stripped: Cell,
    guard: Cell,
    app: Cell,
    reference: Cell,
    storage: Cell,
    media: Cell,
}

impl PiCells {
    fn row(&self) -> PiRow {
        PiRow {
            checked: self.checked.get(),
            escaped: self.escaped.get(),
            unchecked: self.unchecked.get(),
            inserted: self.inserted.get(),
            stripped: self.stripped.get(),
            guard_errors: self.guard.get(),
            app_tag_errors: self.app.get(),
            ref_tag_errors: self.reference.get(),
            storage_tag_errors: self.storage.get(),
            media_errors: self.media.get(),
        }
    }

    fn add(&self, row: &PiRow) {
        self.checked.add(row.checked);
        self.escaped.add(row.escaped);
        self.unchecked.add(row.unchecked);
        self.inserted.add(row.inserted);
        self.stripped.add(row.stripped);
        self.guard.add(row.guard_errors);
        self.app.add(row.app_tag_errors);
        self.reference.add(row.ref_tag_errors);
        self.storage.add(row.storage_tag_errors);
        self.media.add(row.media_errors);
    }
}

/// The cells of one host on one volume.
#[derive(Debug, Default)]
pub struct IoCounters {
    write: PiCells,
    read: PiCells,
    read_ops: Cell,
    read_bytes: Cell,
    write_ops: Cell,
    write_bytes: Cell,
}

impl IoCounters {
    /// Blocks by what became of their checks.
    pub(crate) fn blocks(&self, direction: Direction, counts: &Counts) {
        let cells = self.side(direction);
        cells.checked.add(u64::from(counts.checked));
        cells.escaped.add(u64::from(counts.escaped));
        cells.unchecked.add(u64::from(counts.unchecked));
    }

    /// Blocks whose tuples were made here.
    pub(crate) fn inserted(&self, blocks: u64) {
        self.write.inserted.add(blocks);
    }

    /// Blocks whose tuples were taken off here.
    pub(crate) fn stripped(&self, blocks: u64) {
        self.read.stripped.add(blocks);
    }

    /// One failed command.
    pub(crate) fn tag_error(&self, direction: Direction, tag: Tag) {
        let cells = self.side(direction);
        match tag {
            Tag::Guard => cells.guard.add(1),
            Tag::App => cells.app.add(1),
            Tag::Ref => cells.reference.add(1),
            Tag::Storage => cells.storage.add(1),
        }
    }

    /// One command that failed because the medium lost a block.
    pub(crate) fn media_error(&self, direction: Direction) {
        self.side(direction).media.add(1);
    }

    /// One command completed with success.
    pub(crate) fn done(&self, operation: Operation, bytes: u64) {
        match operation {
            Operation::Read => {
                self.read_ops.add(1);
                self.read_bytes.add(bytes);
            }
            Operation::Write => {
                self.write_ops.add(1);
                self.write_bytes.add(bytes);
            }
            Operation::Compare
            | Operation::Verify
            | Operation::WriteZeroes
            | Operation::WriteUncorrectable
            | Operation::Deallocate
            | Operation::Flush
            | Operation::CopySource
            | Operation::CopyTarget => {}
        }
    }

    /// The values now.
    pub fn row(&self) -> IoRow {
        IoRow {
            write: self.write.row(),
            read: self.read.row(),
            read_ops: self.read_ops.get(),
            read_bytes: self.read_bytes.get(),
            write_ops: self.write_ops.get(),
            write_bytes: self.write_bytes.get(),
        }
    }

    fn add(&self, row: &IoRow) {
        self.write.add(&row.write);
        self.read.add(&row.read);
        self.read_ops.add(row.read_ops);
        self.read_bytes.add(row.read_bytes);
        self.write_ops.add(row.write_ops);
        self.write_bytes.add(row.write_bytes);
    }

    fn side(&self, direction: Direction) -> &PiCells {
        match direction {
            Direction::Write => &self.write,
            Direction::Read => &self.read,
        }
    }
}

/// Digest errors of one host. Rare, and its connections may live on several cores: added atomically.
#[derive(Debug, Default)]
pub struct DigestCounters {
    header: AtomicU64,
    data: AtomicU64,
}

impl DigestCounters {
    /// A header digest did not match.
    pub fn add_header(&self) {
        self.header.fetch_add(1, Relaxed);
    }

    /// A data digest did not match.
    pub fn add_data(&self) {
        self.data.fetch_add(1, Relaxed);
    }

    /// Header and data errors now.
    pub fn row(&self) -> (u64, u64) {
        (self.header.load(Relaxed), self.data.load(Relaxed))
    }
}

/// Upper bounds of the duration buckets in microseconds; one more bucket takes what is longer.
pub const DURATION_BOUNDS_US: [u64; 16] = [
    10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 500_000, 1_000_000,
    10_000_000,
];

/// How long commands of one kind took on one core, from admission to completion. One writer.
#[derive(Debug, Default)]
pub struct DurationTotals {
    buckets: [Cell; DURATION_BOUNDS_US.len() + 1],
    sum_us: Cell,
}

impl DurationTotals {
    /// Takes one duration in.
    pub(crate) fn record(&self, duration_us: u64) {
        let bucket = DURATION_BOUNDS_US.partition_point(|bound| *bound < duration_us);
        if let Some(cell) = self.buckets.get(bucket) {
            cell.add(1);
        }
        self.sum_us.add(duration_us);
    }

    /// Counts per bucket, and the sum of all durations in microseconds.
    pub fn row(&self) -> (Vec<u64>, u64) {
        (self.buckets.iter().map(Cell::get).collect(), self.sum_us.get())
    }
}

/// The directory of all cells.
#[derive(Debug, Default)]
pub struct CounterBook {
    io: Mutex<HashMap<(HostId, VolumeId), Arc<IoCounters>>>,
    digests: Mutex<HashMap<HostId, Arc<DigestCounters>>>,
    durations: Mutex<Vec<(&'static str, Arc<DurationTotals>)>>,
}

impl CounterBook {
    /// The cells of a host on a volume.
    pub fn io(&self, host: HostId, volume: VolumeId) -> Arc<IoCounters> {
        Arc::clone(lock(&self.io).entry((host, volume)).or_default())
    }

    /// The digest errors of a host.
    pub fn digest(&self, host: HostId) -> Arc<DigestCounters> {
        Arc::clone(lock(&self.digests).entry(host).or_default())
    }

    /// New duration totals for the writer of one core.
    pub fn durations(&self, operation: &'static str) -> Arc<DurationTotals> {
        let totals = Arc::new(DurationTotals::default());
        lock(&self.durations).push((operation, Arc::clone(&totals)));
        totals
    }

    /// Takes up what an earlier run of the target had counted. To be called before anybody attaches.
    pub fn restore(&self, host: HostId, volume: VolumeId, row: &IoRow) {
        self.io(host, volume).add(row);
    }

    /// As `restore`, for digest errors.
    pub fn restore_digest(&self, host: HostId, header: u64, data: u64) {
        let cells = self.digest(host);
        cells.header.fetch_add(header, Relaxed);
        cells.data.fetch_add(data, Relaxed);
    }

    /// Forgets volumes that are gone.
    pub fn retain_volumes(&self, keep: impl Fn(VolumeId) -> bool) {
        lock(&self.io).retain(|(_, volume), _| keep(*volume));
    }

    /// All cells with their values, in a stable order.
    pub fn rows(&self) -> Vec<(HostId, VolumeId, IoRow)> {
        let mut rows: Vec<_> =
            lock(&self.io).iter().map(|((host, volume), cells)| (*host, *volume, cells.row())).collect();
        rows.sort_unstable_by_key(|(host, volume, _)| (*host, *volume));
        rows
    }

    /// All digest errors, in a stable order.
    pub fn digest_rows(&self) -> Vec<(HostId, u64, u64)> {
        let mut rows: Vec<_> = lock(&self.digests)
            .iter()
            .map(|(host, cells)| {
                let (header, data) = cells.row();
                (*host, header, data)
            })
            .collect();
        rows.sort_unstable_by_key(|(host, ..)| *host);
        rows
    }

    /// Durations by operation, summed over the cores.
    pub fn duration_rows(&self) -> Vec<(&'static str, Vec<u64>, u64)> {
        let mut rows: Vec<(&'static str, Vec<u64>, u64)> = Vec::new();
        for (operation, totals) in lock(&self.durations).iter() {
            let (buckets, sum_us) = totals.row();
            match rows.iter_mut().find(|(name, ..)| name == operation) {
                Some((_, all, sum)) => {
                    all.iter_mut().zip(&buckets).for_each(|(all, one)| *all += one);
                    *sum += sum_us;
                }
                None => rows.push((operation, buckets, sum_us)),
            }
        }
        rows
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
