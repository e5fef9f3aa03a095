//! What lies between a pool and the reactor: memory that both know, a backing for whoever waits, and the requests under way.

use holdfast_block::PoolId;
use holdfast_reactor::{Backing, FileError, FileId, FileRefusal, Io, Mapping, Region, RegionId};
use holdfast_store::disk::io::{Device, DiskError, DiskOp, DiskToken, Part};
use holdfast_store::{IN_FLIGHT_BYTES_DEFAULT, PoolMemory};

/// Memory of a pool for payloads on their way in and out: as a memory pool has for blocks in flight. It is taken as it is used.
const ARENA_BYTES: u64 = IN_FLIGHT_BYTES_DEFAULT;

/// A pool's memory.
#[derive(Debug)]
pub struct PoolMap(Mapping);

impl PoolMap {
    /// Memory that nobody else keeps.
    pub fn new(mapping: Mapping) -> Self {
        PoolMap(mapping)
    }

    /// Memory for the payloads of a pool in a file or on a device.
    ///
    /// # Errors
    ///
    /// The system refuses it.
    pub fn arena() -> std::io::Result<(PoolMap, Region)> {
        let mapping = Mapping::create("arena", usize::try_from(ARENA_BYTES).unwrap_or(usize::MAX))?;
        let region = mapping.region();
        Ok((PoolMap::new(mapping), region))
    }
}

impl PoolMemory for PoolMap {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        self.0.slice(offset, len)
    }

    fn slice_mut(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        self.0.slice_mut(offset, len)
    }

    fn load_u64(&self, offset: usize) -> Option<u64> {
        self.0.load_u64(offset)
    }

    fn publish_u64(&mut self, offset: usize, value: u64) -> Option<()> {
        self.0.publish_u64(offset, value)
    }

    fn punch(&mut self, offset: usize, len: usize) {
        if let Err(error) = self.0.punch(offset, len) {
            // The memory stays in use until its slots are; nothing else is affected.
            tracing::warn!(offset, len, %error, "cannot give pool memory back");
        }
    }
}

/// A backing, for a thread that waits.
pub struct Blocking<'a>(pub &'a Backing);

impl Device for Blocking<'_> {
    fn len(&self) -> u64 {
        self.0.info().len_bytes
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), DiskError> {
        self.0.read_at(offset, into).map_err(disk_error)
    }

    fn write_at(&self, offset: u64, from: &[u8]) -> Result<(), DiskError> {
        self.0.write_at(offset, from).map_err(disk_error)
    }

    fn flush(&self) -> Result<(), DiskError> {
        self.0.flush().map_err(disk_error)
    }
}

/// The same failure in the store's words.
pub fn disk_error(error: FileError) -> DiskError {
    match error {
        FileError::Failed { .. } | FileError::Short => DiskError::Io,
        FileError::NoSpace => DiskError::NoSpace,
        FileError::Gone => DiskError::Gone,
    }
}

/// What pools have asked of their files, and is not done.
#[derive(Default)]
pub struct Requests {
    /// By the number that goes with the request.
    under_way: Vec<Option<Request>>,
    free: Vec<usize>,
}

/// One of them.
pub struct Request {
    /// Who asked.
    pub pool: PoolId,
    /// As the store named it.
    pub token: DiskToken,
    /// The store's list, to be given back.
    pub parts: Vec<Part>,
}

impl Requests {
    /// Hands to the reactor what a pool asks of its file; parts lie in `region`.
    ///
    /// # Errors
    ///
    /// The request, which is not under way, and why.
    pub fn begin(
        &mut self,
        io: &mut Io,
        file: FileId,
        region: RegionId,
        pool: PoolId,
        op: DiskOp,
    ) -> Result<(), (Request, FileRefusal)> {
        let (write, offset, request) = Request::of(pool, op);
        let place = self.free.pop().unwrap_or(self.under_way.len());
        let user = u64::try_from(place).unwrap_or(u64::MAX);
        let ranges = request.parts.iter().map(|part| (part.offset, part.len));
        let begun = match write {
            Some(false) => io.file_read(file, user, offset, region, ranges),
            Some(true) => io.file_write(file, user, offset, region, ranges),
            None => io.file_sync(file, user),
        };
        if place == self.under_way.len() {
            self.under_way.push(None);
        }
        if let Err(refusal) = begun {
            self.free.push(place);
            return Err((request, refusal));
        }
        if let Some(entry) = self.under_way.get_mut(place) {
            *entry = Some(request);
        }
        Ok(())
    }

    /// A request is over, by the number that came with it.
    pub fn end(&mut self, user: u64) -> Option<Request> {
        let place = usize::try_from(user).ok()?;
        let request = self.under_way.get_mut(place)?.take()?;
        self.free.push(place);
        Some(request)
    }
}

impl Request {
    /// What an operation asks for: to read, to write, or neither; where.
    fn of(pool: PoolId, op: DiskOp) -> (Option<bool>, u64, Request) {
        let token = op.token();
        let (write, offset, parts) = match op {
            DiskOp::Read { offset, parts, .. } => (Some(false), offset, parts),
            DiskOp::Write { offset, parts, .. } => (Some(true), offset, parts),
            DiskOp::Flush { .. } => (None, 0, Vec::new()),
        };
        (write, offset, Request { pool, token, parts })
    }

    /// Of an operation that cannot be begun.
    pub fn refused(pool: PoolId, op: DiskOp) -> Request {
        Request::of(pool, op).2
    }
}
