//! Commands through the block layer, as many at once as asked for, with the reactor carrying out what the store asks of its
//! file.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use holdfast_block::attribution::{FaultReport, FaultSink};
use holdfast_block::reservations::Nexus;
use holdfast_block::{
    AttachRequest, AttachmentId, BlockCount, BlockPort, Command, CounterBook, Enforce, HostId, Layout, Lba,
    Operation, Origin, PoolId, Service, ServiceLimits, SessionBook, SessionRequest, Store, SubsystemId,
    Transport, View,
};
use holdfast_daemon::device::{PoolMap, Request, Requests, disk_error};
use holdfast_pi::{CheckPlan, InsertTags, PiFormat};
use holdfast_reactor::{
    Backing, CloseReason, FileError, FileId, Io, Received, Region, RegionId, SendBatch, SocketId,
};
use holdfast_store::Stores;
use holdfast_store::disk::io::{DiskDone, DiskOp};

use crate::place::{BLOCK_LEN, Open, Volume};

/// Which blocks, in which order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pattern {
    /// Any, again and again.
    Random,
    /// One after the other, from the beginning again at the end.
    Sequential,
}

/// What is to be done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub write: bool,
    pub pattern: Pattern,
    pub command_bytes: u64,
    pub depth: u32,
    pub span_bytes: u64,
    /// A Flush after each write.
    pub flush: bool,
    /// The span is gone through once, and nothing is measured.
    pub once: bool,
    pub warmup_us: u64,
    pub measured_us: u64,
}

impl Work {
    /// Writes a span once.
    pub(crate) fn filling(span_bytes: u64) -> Work {
        Work {
            write: true,
            pattern: Pattern::Sequential,
            command_bytes: 128 << 10,
            depth: 8,
            span_bytes,
            flush: false,
            once: true,
            warmup_us: 0,
            measured_us: 0,
        }
    }
}

/// What was done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    commands: u32,
}

impl Done {
    pub(crate) fn commands_per_second(self, seconds: f64) -> f64 {
        f64::from(self.commands) / seconds
    }
}

/// Nothing is to be reported: whatever fails ends the run.
struct NoFaults;

impl FaultSink for NoFaults {
    fn report(&mut self, _report: FaultReport) {}
}

/// A file as the reactor knows it.
#[derive(Clone, Copy)]
struct OpenFile {
    file: FileId,
    region: RegionId,
}

/// The load, and the pool that it is on.
pub(crate) struct Load {
    service: Service<Stores<PoolMap>, NoFaults>,
    backing: Option<(Arc<Backing>, Region)>,
    open: Option<OpenFile>,
    requests: Requests,
    attachment: AttachmentId,
    format: PiFormat,
    work: Work,
    payload: Vec<u8>,
    random: fastrand::Rng,
    /// The next command in a row.
    next: u64,
    /// Commands that may still be begun.
    left: u64,
    running: u32,
    began_us: Option<u64>,
    counted: u32,
    failure: Option<String>,
    over: bool,
}

impl Load {
    pub(crate) fn new(open: Open, volume: Volume, work: Work) -> Result<Load> {
        let Open { stores, region, backing } = open;
        let id = volume.id()?;
        let format = stores.geometry(id).and_then(|geometry| geometry.format).context("no such volume")?;
        let book = Arc::new(CounterBook::default());
        let mut service = Service::new(stores, NoFaults, book, ServiceLimits::default());
        let local = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let request = SessionRequest {
            host: HostId::new(1).context("the host has a number")?,
            transport: Transport::NvmeTcp,
            peer: local,
            subsystem: SubsystemId::new(1).context("the subsystem has a number")?,
            view: View::Plain,
            authenticated: false,
            label: "load".to_owned(),
            header_digest: false,
            data_digest: false,
            since: 0,
            nexus: Nexus::Nvme { host: [1; 16] },
        };
        let session = SessionBook::default().open(request).context("no room for a session")?;
        let attachment = service.attach(AttachRequest {
            session,
            volume: id,
            view: View::Plain,
            enforce: Enforce::Any,
        })?;
        let commands = work.span_bytes / work.command_bytes;
        if commands == 0 || !work.command_bytes.is_multiple_of(BLOCK_LEN) {
            bail!("--block-size is a multiple of {BLOCK_LEN} and no longer than --span");
        }
        let mut random = fastrand::Rng::new();
        let mut payload = vec![0; usize::try_from(work.command_bytes)?];
        random.fill(&mut payload);
        Ok(Load {
            service,
            backing: Some((backing, region)),
            open: None,
            requests: Requests::default(),
            attachment,
            format,
            work,
            payload,
            random,
            next: 0,
            left: if work.once { commands } else { u64::MAX },
            running: 0,
            began_us: None,
            counted: 0,
            failure: None,
            over: false,
        })
    }

    /// What was done, unless something failed.
    pub(crate) fn end(self) -> Result<Done> {
        match self.failure {
            Some(failure) => bail!("{failure}"),
            None => Ok(Done { commands: self.counted }),
        }
    }

    fn fail(&mut self, what: impl Into<String>) {
        self.failure.get_or_insert(what.into());
        self.over = true;
    }

    fn begin_commands(&mut self) {
        while self.running < self.work.depth && self.left > 0 && !self.over {
            let commands = self.work.span_bytes / self.work.command_bytes;
            let at = match self.work.pattern {
                Pattern::Random => self.random.u64(0..commands),
                Pattern::Sequential => self.next % commands,
            };
            self.next += 1;
            self.left -= 1;
            let operation = if self.work.write { Operation::Write } else { Operation::Read };
            self.begin(operation, at * (self.work.command_bytes / BLOCK_LEN));
        }
    }

    fn begin(&mut self, operation: Operation, lba: u64) {
        let blocks = match operation {
            Operation::Flush => 0,
            _ => u32::try_from(self.work.command_bytes / BLOCK_LEN).unwrap_or(u32::MAX),
        };
        let command = Command {
            origin: Origin { connection: 0, command: u32::from(operation == Operation::Flush) },
            attachment: self.attachment,
            operation,
            lba: Lba(lba),
            blocks: BlockCount::new(blocks),
            layout: Layout::DataOnly,
            plan: CheckPlan::for_plain_view(self.format, lba),
            insert: (operation == Operation::Write).then(|| InsertTags::plain(self.format, lba)),
            held: None,
            force_unit_access: false,
        };
        match self.service.begin(&command) {
            Ok(ticket) => {
                if operation == Operation::Write {
                    self.service.fill(ticket, 0, &self.payload);
                }
                self.running += 1;
                self.service.submit(ticket);
            }
            Err(error) => self.fail(format!("{operation:?} at {lba}: {error}")),
        }
    }

    fn take_completions(&mut self, now_us: u64) {
        self.service.poll();
        while let Some(completion) = self.service.next_completion() {
            self.service.release(completion.ticket);
            self.running -= 1;
            if let Err(error) = completion.result {
                return self.fail(error.to_string());
            }
            if self.work.flush && completion.origin.command == 0 {
                self.begin(Operation::Flush, 0);
                continue;
            }
            self.count(now_us);
        }
    }

    fn count(&mut self, now_us: u64) {
        let since = now_us.saturating_sub(self.began_us.unwrap_or(now_us));
        let measured = self.work.warmup_us..self.work.warmup_us.saturating_add(self.work.measured_us);
        self.counted += u32::from(measured.contains(&since));
        if !self.work.once && since >= measured.end {
            self.left = 0;
        }
    }

    fn go_on(&mut self, io: &mut Io) {
        let now_us = io.now_us();
        self.service.set_time(now_us, 0);
        self.take_completions(now_us);
        self.begin_commands();
        // What came to its end at once, and what the new ones ask for.
        self.service.poll();
        while let Some((pool, op)) = self.service.store_mut().next_disk_op() {
            self.drive(io, pool, op);
        }
        if self.running == 0 && self.left == 0 {
            self.close();
        }
    }

    /// The pool is closed well, and with it the run is over.
    fn close(&mut self) {
        let pools = self.service.store_mut();
        let Some(id) = pools.disk_pools().next().map(holdfast_store::DiskPool::id) else { return };
        let Some(pool) = pools.disk_pool_mut(id) else { return };
        pool.close();
        self.over |= pool.is_closed();
    }

    fn drive(&mut self, io: &mut Io, pool: PoolId, op: DiskOp) {
        let Some(OpenFile { file, region }) = self.open else { return };
        if let Err((_, refusal)) = self.requests.begin(io, file, region, pool, op) {
            self.fail(refusal.to_string());
        }
    }
}

impl holdfast_reactor::Service for Load {
    type Message = ();

    fn accepted(&mut self, _: &mut Io, _: u32, _: SocketId, _: SocketAddr, _: SocketAddr) {}

    fn offered(&mut self, _: &mut Io, _: u32, _: TcpStream) -> Option<TcpStream> {
        None
    }

    fn received(&mut self, _: &mut Io, _: SocketId, _: Received) {}

    fn sent(&mut self, _: &mut Io, _: SocketId, _: SendBatch) {}

    fn closed(&mut self, _: &mut Io, _: SocketId, _: CloseReason, _: Option<SendBatch>) {}

    fn message(&mut self, _: &mut Io, (): ()) {}

    fn file_done(&mut self, _: &mut Io, _: FileId, user: u64, result: Result<(), FileError>) {
        let Some(Request { pool, token, parts }) = self.requests.end(user) else { return };
        let result = result.map_err(disk_error);
        self.service.store_mut().disk_done(pool, DiskDone { token, parts, result });
    }

    fn turn(&mut self, io: &mut Io) {
        if self.began_us.is_some() {
            self.go_on(io);
        }
    }

    fn deadline_ms(&self) -> Option<u64> {
        (self.began_us.is_none() || self.service.store().has_work()).then_some(0)
    }

    fn tick(&mut self, io: &mut Io) {
        if let Some((backing, region)) = self.backing.take() {
            self.began_us = Some(io.now_us());
            match io.add_file(backing) {
                Ok(file) => self.open = Some(OpenFile { file, region: io.register_region(region) }),
                Err(error) => self.fail(error.to_string()),
            }
        }
        self.go_on(io);
    }

    fn keep_running(&self) -> bool {
        !self.over
    }
}
