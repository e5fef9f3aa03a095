//! What is around a service: a pool, hosts, counters, and reports in a list.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use holdfast_block::attribution::{FaultReport, FaultSink};
use holdfast_block::reservations::Nexus;
use holdfast_block::{
    AttachRequest, AttachmentId, BlockCount, BlockError, BlockPort, Command, CounterBook, Enforce, HostId,
    IoRow, Layout, Lba, Operation, Origin, PoolId, Service, ServiceLimits, Session, SubsystemId, TicketId,
    TransmitSink, Transport, View, VolumeId,
};
use holdfast_pi::{CheckPlan, GuardKind, InsertTags, NvmePi, PiFormat, PiType, guard_of, make_tuple};
use holdfast_store::disk::{DiskConfig, DiskLimits, DiskPool};
use holdfast_store::{MemoryPool, PoolConfig, Stores, VolumeSpec};

use crate::slow::{Disk, Slow};

/// Runs each of these tests on a pool of each kind.
macro_rules! on_each_pool {
    ($($test:ident),+ $(,)?) => {
        mod in_memory {
            $(#[test] fn $test() { super::$test(crate::world::Kind::Memory) })+
        }
        mod on_a_disk {
            $(#[test] fn $test() { super::$test(crate::world::Kind::Disk) })+
        }
    };
}

/// What a pool lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Disk,
}

#[derive(Clone, Default)]
pub(crate) struct Faults(pub(crate) Rc<RefCell<Vec<FaultReport>>>);

impl FaultSink for Faults {
    fn report(&mut self, report: FaultReport) {
        self.0.borrow_mut().push(report);
    }
}

pub(crate) struct World {
    pub(crate) service: Service<Slow, Faults>,
    pub(crate) faults: Faults,
    pub(crate) book: Arc<CounterBook>,
    pub(crate) format: PiFormat,
    pub(crate) volume: VolumeId,
}

pub(crate) const BLOCKS: u64 = 256;

pub(crate) fn host(number: u64) -> HostId {
    HostId::new(number).unwrap()
}

/// A host's nexus.
pub(crate) fn nexus(number: u64) -> Nexus {
    Nexus::Nvme { host: [number as u8; 16] }
}

impl World {
    pub(crate) fn new(kind: Kind, pi_type: PiType, block_len: u32) -> World {
        World::with_limits(kind, pi_type, block_len, ServiceLimits::default())
    }

    pub(crate) fn with_limits(kind: Kind, pi_type: PiType, block_len: u32, limits: ServiceLimits) -> World {
        let format = PiFormat::new(pi_type, GuardKind::Crc16, block_len, 0).unwrap();
        let pool = PoolId::new(1).unwrap();
        let volume = VolumeId::new(1).unwrap();
        let disk = Disk::new(16 << 20);
        let mut stores = Stores::new();
        match kind {
            Kind::Memory => {
                let config = PoolConfig::new(pool, 4 << 20);
                let memory = vec![0_u8; MemoryPool::<Vec<u8>>::layout_len(&config).unwrap()];
                stores.add_pool(0, MemoryPool::create(memory, &config).unwrap()).unwrap();
            }
            Kind::Disk => {
                let config = DiskConfig { id: pool, uuid: [3; 16], name: "p".to_owned(), zero_ahead: true };
                let limits = DiskLimits { map_bytes_max: 1 << 20 };
                let made = DiskPool::create(&disk, vec![0; 16 << 20], &config, limits);
                stores.add_disk_pool(0, made.unwrap()).unwrap();
            }
        }
        let spec = VolumeSpec {
            id: volume,
            uuid: [1; 16],
            nguid: [2; 16],
            block_len: block_len as usize,
            block_count: BLOCKS,
            format: Some(format),
        };
        stores.create_volume(pool, &spec).unwrap();
        let faults = Faults::default();
        let book = Arc::new(CounterBook::default());
        let service = Service::new(Slow::new(stores, disk), faults.clone(), Arc::clone(&book), limits);
        World { service, faults, book, format, volume }
    }

    pub(crate) fn attach(&mut self, number: u64, enforce: Enforce) -> AttachmentId {
        self.try_attach(number, enforce).unwrap()
    }

    pub(crate) fn try_attach(&mut self, number: u64, enforce: Enforce) -> Result<AttachmentId, BlockError> {
        let session = Arc::new(Session {
            id: number,
            host: host(number),
            transport: Transport::NvmeTcp,
            peer: SocketAddr::from(([127, 0, 0, 1], 1000)),
            subsystem: SubsystemId::new(1).unwrap(),
            view: View::Pi,
            authenticated: false,
            label: "cntlid 1".to_owned(),
            header_digest: false,
            data_digest: false,
            since: 0,
            nexus: nexus(number),
        });
        self.service.attach(AttachRequest { session, volume: self.volume, view: View::Pi, enforce })
    }

    pub(crate) fn command(
        &self,
        attachment: AttachmentId,
        operation: Operation,
        lba: u64,
        blocks: u32,
    ) -> Command {
        Command {
            origin: Origin { connection: 7, command: 9 },
            attachment,
            operation,
            lba: Lba(lba),
            blocks: BlockCount::new(blocks),
            layout: Layout::Interleaved,
            plan: self.checks(lba),
            insert: None,
            held: None,
            force_unit_access: false,
        }
    }

    /// Everything is checked: guard, an application tag of 1234h, the reference tag.
    pub(crate) fn checks(&self, lba: u64) -> CheckPlan {
        CheckPlan::from_nvme(
            self.format,
            NvmePi {
                prchk: 0b111,
                initial_ref: lba & 0xffff_ffff,
                app_tag: 0x1234,
                app_mask: 0xffff,
                ..NvmePi::default()
            },
        )
    }

    /// Blocks with good tuples, as on the wire.
    pub(crate) fn good(&self, lba: u64, blocks: u32, seed: u8) -> Vec<u8> {
        let tags = InsertTags { app_tag: 0x1234, initial_ref: lba, storage_tag: 0, ref_stays: false };
        let mut wire = Vec::new();
        for index in 0..blocks {
            let data: Vec<u8> =
                (0..self.format.block_len()).map(|at| (at as u8) ^ seed ^ index as u8).collect();
            let tuple = make_tuple(self.format, &tags, index, guard_of(GuardKind::Crc16, &data));
            let mut bytes = vec![0; self.format.tuple_len()];
            assert!(tuple.encode(self.format, &mut bytes));
            wire.extend_from_slice(&data);
            wire.extend_from_slice(&bytes);
        }
        wire
    }

    pub(crate) fn run(&mut self, command: &Command, payload: &[u8]) -> (TicketId, Result<(), BlockError>) {
        let ticket = self.service.begin(command).unwrap();
        assert_eq!(
            self.service.transfer_len(ticket),
            if command.operation == Operation::Read { self.wire_len(command) } else { payload.len() }
        );
        let mut at = 0;
        for piece in payload.chunks(1000) {
            self.service.fill(ticket, at, piece);
            at += piece.len();
        }
        self.service.submit(ticket);
        self.service.poll();
        let completion = self.service.next_completion().expect("both pools complete at once");
        assert_eq!(completion.origin, command.origin);
        assert_eq!(completion.ticket, ticket);
        assert!(self.service.next_completion().is_none(), "a ticket completes exactly once");
        (ticket, completion.result)
    }

    pub(crate) fn wire_len(&self, command: &Command) -> usize {
        let tuple = if command.layout == Layout::Interleaved { self.format.tuple_len() } else { 0 };
        command.blocks.as_usize() * (self.format.block_len() + tuple)
    }

    pub(crate) fn write(
        &mut self,
        attachment: AttachmentId,
        lba: u64,
        wire: &[u8],
    ) -> Result<(), BlockError> {
        let blocks = (wire.len() / self.format.wire_block_len()) as u32;
        let command = self.command(attachment, Operation::Write, lba, blocks);
        let (ticket, result) = self.run(&command, wire);
        self.service.release(ticket);
        result
    }

    pub(crate) fn read_with(&mut self, command: &Command) -> Result<Vec<u8>, BlockError> {
        let (ticket, result) = self.run(command, &[]);
        let mut bytes = Vec::new();
        if result.is_ok() {
            let len = self.wire_len(command);
            self.service.visit(ticket, 0, len, &mut |piece| bytes.extend_from_slice(piece));
            let mut sink = Gather { service: &self.service, bytes: Vec::new() };
            self.service.transmit(ticket, 0, len, &mut sink);
            assert_eq!(sink.bytes, bytes, "what is sent is what is digested");
        }
        self.service.release(ticket);
        result.map(|()| bytes)
    }

    pub(crate) fn read(
        &mut self,
        attachment: AttachmentId,
        lba: u64,
        blocks: u32,
    ) -> Result<Vec<u8>, BlockError> {
        self.read_with(&self.command(attachment, Operation::Read, lba, blocks))
    }

    pub(crate) fn row(&self, number: u64) -> IoRow {
        self.book.io(host(number), self.volume).row()
    }
}

pub(crate) struct Gather<'a> {
    service: &'a Service<Slow, Faults>,
    bytes: Vec<u8>,
}

impl TransmitSink for Gather<'_> {
    fn inline(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    fn region(&mut self, region: u16, offset: usize, len: usize) {
        assert_eq!(region, 0);
        let (stores, id) = (&self.service.store().inner, PoolId::new(1).unwrap());
        let memory = stores.pool(id).map(MemoryPool::memory).or(stores.disk_pool(id).map(DiskPool::arena));
        self.bytes.extend_from_slice(&memory.unwrap()[offset..offset + len]);
    }

    fn zeroes(&mut self, len: usize) {
        self.bytes.resize(self.bytes.len() + len, 0);
    }
}
