//! An initiator on a logical unit: a pool, the block layer, the device server, and CDBs made by hand.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use holdfast_block::attribution::{FaultReport, FaultSink};
use holdfast_block::reservations::{InitiatorPort, Nexus as PortPair, TargetPort};
use holdfast_block::{
    AttachRequest, BlockCount, BlockPort, Command, Completion, CounterBook, Enforce, Exports, Grant, HostId,
    IoRow, Layout, Lba, Namespace, Operation, Origin, PoolId, Service, ServiceLimits, Session, Subsystem,
    SubsystemId, Transport, View, VolumeId, VolumeInfo,
};
use holdfast_pi::{CheckPlan, GuardKind, InsertTags, PiFormat, PiType, guard_of, make_tuple};
use holdfast_scsi::{
    Buffers, Context, Managed, Nexus, Progress, Request, Status, Task, TaskFunction, UnitBook,
};
use holdfast_store::{MemoryPool, PoolConfig, Stores, VolumeSpec};

/// Blocks of the volume.
pub(crate) const BLOCKS: u64 = 4096;

/// Bytes of data that the pool holds: less than a volume of long blocks.
const POOL_LEN: u64 = 8 << 20;

#[derive(Clone, Default)]
pub(crate) struct Faults(pub(crate) Rc<RefCell<Vec<FaultReport>>>);

impl FaultSink for Faults {
    fn report(&mut self, report: FaultReport) {
        self.0.borrow_mut().push(report);
    }
}

/// A volume, and how it is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown {
    pub(crate) block_len: usize,
    pub(crate) pi: Option<PiType>,
    pub(crate) view: View,
    pub(crate) enforce: Enforce,
}

impl Shown {
    pub(crate) fn pi(kind: PiType, block_len: usize) -> Shown {
        Shown { block_len, pi: Some(kind), view: View::Pi, enforce: Enforce::Any }
    }

    pub(crate) fn plain(kind: Option<PiType>, block_len: usize) -> Shown {
        Shown { block_len, pi: kind, view: View::Plain, enforce: Enforce::Any }
    }
}

/// The block layer of these tests, and what is around a call.
type Blocks = Service<Stores<Vec<u8>>, Faults>;
type Cx<'a> = Context<'a, Blocks>;

pub(crate) struct World {
    pub(crate) service: Blocks,
    pub(crate) faults: Faults,
    book: Arc<CounterBook>,
    exports: Exports,
    units: UnitBook,
    nexuses: Vec<Nexus>,
    shown: Shown,
    pub(crate) format: Option<PiFormat>,
    task: Task,
    /// Which unit commands go to.
    pub(crate) lun: u8,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: Status,
    pub(crate) sense: Vec<u8>,
    pub(crate) data: Vec<u8>,
    /// What it would have taken and given.
    pub(crate) wanted: (usize, usize),
}

impl Answer {
    /// Sense key, additional sense code and qualifier of fixed format sense data.
    pub(crate) fn code(&self) -> Option<(u8, u8, u8)> {
        assert_eq!(self.sense.is_empty(), self.status != Status::CheckCondition);
        (self.status == Status::CheckCondition).then(|| (self.sense[2], self.sense[12], self.sense[13]))
    }

    /// INFORMATION, where VALID is one.
    pub(crate) fn information(&self) -> Option<u32> {
        let valid = self.sense.first().is_some_and(|byte| byte & 0x80 != 0);
        valid.then(|| u32::from_be_bytes(self.sense[3..7].try_into().unwrap()))
    }

    /// The byte of the CDB that is pointed at.
    pub(crate) fn field(&self) -> Option<u16> {
        let is_valid = self.sense.get(15).is_some_and(|byte| byte & 0xc0 == 0xc0);
        is_valid.then(|| u16::from_be_bytes(self.sense[16..18].try_into().unwrap()))
    }

    #[track_caller]
    pub(crate) fn good(self) -> Vec<u8> {
        assert_eq!((self.status, self.code()), (Status::Good, None));
        self.data
    }
}

fn id<T>(id: Option<T>) -> T {
    id.unwrap()
}

impl World {
    /// One nexus for each of these, on the same volume. All but the first may be shown it otherwise.
    pub(crate) fn new(shown: Shown, others: &[View]) -> World {
        World::with_limits(shown, others, ServiceLimits::default())
    }

    pub(crate) fn with_limits(shown: Shown, others: &[View], limits: ServiceLimits) -> World {
        let format =
            shown.pi.map(|kind| PiFormat::new(kind, GuardKind::Crc16, shown.block_len as u32, 0).unwrap());
        let (pool, volume) = (id(PoolId::new(1)), id(VolumeId::new(1)));
        let config = PoolConfig::new(pool, POOL_LEN);
        let memory = vec![0_u8; MemoryPool::<Vec<u8>>::layout_len(&config).unwrap()];
        let mut stores = Stores::new();
        stores.add_pool(0, MemoryPool::create(memory, &config).unwrap()).unwrap();
        let spec = VolumeSpec {
            id: volume,
            uuid: [1; 16],
            nguid: [2; 16],
            block_len: shown.block_len,
            block_count: BLOCKS,
            format,
        };
        stores.create_volume(pool, &spec).unwrap();
        let (faults, book) = (Faults::default(), Arc::new(CounterBook::default()));
        let service = Service::new(stores, faults.clone(), Arc::clone(&book), limits);
        let info = VolumeInfo {
            id: volume,
            block_len: shown.block_len,
            block_count: BLOCKS,
            format,
            uuid: [1; 16],
            nguid: [2; 16],
        };
        let grants = (1..).zip(std::iter::once(shown.view).chain(others.iter().copied()));
        let grants: HashMap<HostId, Grant> = grants
            .map(|(host, view)| {
                (id(HostId::new(host)), Grant { nvme_view: view, iscsi_view: view, enforce: shown.enforce })
            })
            .collect();
        let subsystem = Subsystem {
            id: id(SubsystemId::new(1)),
            name: "s".to_owned(),
            nqn: "nqn.2026-11.io.holdfast:s".to_owned(),
            iqn: "iqn.2026-11.io.holdfast:s".to_owned(),
            allow_any_host: false,
            namespaces: BTreeMap::from([(1, Namespace { nsid: 1, volume: info })]),
            grants,
        };
        let mut world = World {
            service,
            faults,
            book,
            exports: Exports::new(1, vec![subsystem], Vec::new()),
            units: UnitBook::default(),
            nexuses: Vec::new(),
            shown,
            format,
            task: Task::default(),
            lun: 0,
        };
        world.join(1, shown.view);
        (2..).zip(others).for_each(|(host, view)| world.join(host, *view));
        world
    }

    /// Adds a second volume, as LUN 1, and takes what initiators are told of it.
    pub(crate) fn add_volume(&mut self, pi: Option<PiType>, block_len: usize) {
        self.show_volume(pi, block_len);
        for who in 0..self.nexuses.len() {
            for lun in [0, 1, 1] {
                self.lun = lun;
                self.run_by(who, &[0; 6], &[], 0);
            }
        }
        self.lun = 0;
    }

    /// Adds a second volume, as LUN 1.
    pub(crate) fn show_volume(&mut self, pi: Option<PiType>, block_len: usize) {
        let format = pi.map(|kind| PiFormat::new(kind, GuardKind::Crc16, block_len as u32, 0).unwrap());
        let (volume, names) = (id(VolumeId::new(2)), ([3; 16], [4; 16]));
        let spec =
            VolumeSpec { id: volume, uuid: names.0, nguid: names.1, block_len, block_count: BLOCKS, format };
        self.service.store_mut().create_volume(id(PoolId::new(1)), &spec).unwrap();
        let info =
            VolumeInfo { id: volume, block_len, block_count: BLOCKS, format, uuid: names.0, nguid: names.1 };
        let mut subsystem = self.exports.subsystems()[0].clone();
        subsystem.namespaces.insert(2, Namespace { nsid: 2, volume: info });
        self.exports = Exports::new(2, vec![subsystem], Vec::new());
        for who in 0..self.nexuses.len() {
            self.with(who, |cx, nexus| nexus.follow_exports(cx)).unwrap();
        }
    }

    fn join(&mut self, host: u64, view: View) {
        let subsystem = id(SubsystemId::new(1));
        let initiator = InitiatorPort::new(&format!("iqn.2026-11.test:{host}"), [1; 6]).unwrap();
        let session = Arc::new(Session {
            id: host,
            host: id(HostId::new(host)),
            transport: Transport::Iscsi,
            peer: SocketAddr::from(([127, 0, 0, 1], 1000)),
            subsystem,
            view,
            authenticated: false,
            label: "isid".to_owned(),
            header_digest: false,
            data_digest: false,
            since: 0,
            nexus: PortPair::Scsi { initiator, target: TargetPort { subsystem, relative: 1 } },
        });
        let World { service, exports, units, .. } = self;
        let mut cx = Context { unix_seconds: 0, exports, units, port: service };
        let mut nexus = Nexus::open(&mut cx, session).unwrap();
        // The power on is taken note of.
        let mut task = Task::default();
        let request = Request {
            lun: [0; 8],
            cdb: &[0; 16],
            buffers: Buffers::default(),
            origin: Origin { connection: 1, command: 1 },
        };
        nexus.start(&mut cx, &mut task, &request);
        self.nexuses.push(nexus);
    }

    /// Runs a command of the first nexus, with a Data-Out Buffer, or room for Data-In.
    pub(crate) fn run(&mut self, cdb: &[u8], out: &[u8], data_in: usize) -> Answer {
        self.run_by(0, cdb, out, data_in)
    }

    /// The same for another one.
    pub(crate) fn run_by(&mut self, who: usize, cdb: &[u8], out: &[u8], data_in: usize) -> Answer {
        let mut task = std::mem::take(&mut self.task);
        let mut progress = self.start_by(who, &mut task, cdb, out.len(), data_in);
        if let Progress::Receive { out_len } = progress {
            assert!(out_len > 0 && out_len <= out.len());
            for (index, piece) in out[..out_len].chunks(700).enumerate() {
                task.fill(&mut self.service, index * 700, piece);
            }
            progress = self.with(who, |cx, nexus| task.received(cx, nexus));
        }
        let answer = self.settle_by(who, &mut task, progress);
        assert_eq!((task.tickets(), self.service.tickets_in_use()), (0, 0));
        self.task = task;
        answer
    }

    /// Starts a command of the first nexus.
    pub(crate) fn start(&mut self, task: &mut Task, cdb: &[u8], data_out: usize, data_in: usize) -> Progress {
        self.start_by(0, task, cdb, data_out, data_in)
    }

    /// The same, as one of several tasks.
    pub(crate) fn start_as(
        &mut self,
        number: u32,
        task: &mut Task,
        cdb: &[u8],
        data_out: usize,
        data_in: usize,
    ) -> Progress {
        let request = Request {
            lun: [0; 8],
            cdb,
            buffers: Buffers { data_out, data_in },
            origin: Origin { connection: 1, command: number },
        };
        self.with(0, |cx, nexus| nexus.start(cx, task, &request))
    }

    /// The next completion of the block layer, which is told that reservations are kept.
    pub(crate) fn next_completion(&mut self) -> Option<Completion> {
        self.service.poll();
        while let Some(order) = self.service.next_keep_order() {
            self.service.reservation_kept(order.volume, order.number, true);
        }
        self.service.next_completion()
    }

    /// A task has a completion.
    pub(crate) fn complete(&mut self, task: &mut Task, completion: Completion) -> Progress {
        self.with(0, |cx, nexus| task.complete(cx, nexus, completion))
    }

    fn start_by(
        &mut self,
        who: usize,
        task: &mut Task,
        cdb: &[u8],
        data_out: usize,
        data_in: usize,
    ) -> Progress {
        let mut padded = cdb.to_vec();
        padded.resize(padded.len().max(16), 0);
        let request = Request {
            lun: [0, self.lun, 0, 0, 0, 0, 0, 0],
            cdb: &padded,
            buffers: Buffers { data_out, data_in },
            origin: Origin { connection: 1, command: 1 },
        };
        self.with(who, |cx, nexus| {
            for order in nexus.follow_units(cx) {
                nexus.aborted(cx, order.wait);
            }
            nexus.start(cx, task, &request)
        })
    }

    /// All of a payload has come.
    pub(crate) fn received(&mut self, task: &mut Task) -> Progress {
        self.with(0, |cx, nexus| task.received(cx, nexus))
    }

    /// Tries again what waits.
    pub(crate) fn retry(&mut self, task: &mut Task) -> Progress {
        self.with(0, |cx, nexus| task.retry(cx, nexus))
    }

    /// Lets a task whose payload has come go to its end.
    pub(crate) fn finish(&mut self, task: &mut Task) -> Answer {
        let progress = self.received(task);
        self.settle(task, progress)
    }

    /// Lets a task go to its end.
    pub(crate) fn settle(&mut self, task: &mut Task, progress: Progress) -> Answer {
        self.settle_by(0, task, progress)
    }

    fn settle_by(&mut self, who: usize, task: &mut Task, mut progress: Progress) -> Answer {
        let ended = loop {
            progress = match progress {
                Progress::Ended(ended) => break ended,
                Progress::Running => {
                    self.service.poll();
                    while let Some(order) = self.service.next_keep_order() {
                        self.service.reservation_kept(order.volume, order.number, true);
                    }
                    let completion = self.service.next_completion().expect("something runs");
                    assert_eq!(completion.origin, Origin { connection: 1, command: 1 });
                    self.with(who, |cx, nexus| task.complete(cx, nexus, completion))
                }
                Progress::Receive { .. } | Progress::Wait => {
                    panic!("its payload has come, and there is room")
                }
            };
        };
        let mut data = Vec::new();
        task.visit(&self.service, 0, task.in_len(), &mut |bytes| data.extend_from_slice(bytes));
        assert_eq!(data.len(), task.in_len());
        let wanted = (task.wanted_out(), task.wanted_in());
        let answer = Answer { status: ended.status, sense: ended.sense.as_slice().to_vec(), data, wanted };
        task.release(&mut self.service);
        answer
    }

    /// Carries out a task management function of a nexus.
    pub(crate) fn manage(&mut self, who: usize, function: TaskFunction) -> Managed {
        self.with(who, |cx, nexus| nexus.manage(cx, function, [0; 8]))
    }

    /// Makes the volume longer, and has all nexuses see that.
    pub(crate) fn grow(&mut self, block_count: u64) {
        self.service.store_mut().grow_volume(id(VolumeId::new(1)), block_count).unwrap();
        let mut subsystem = self.exports.subsystems()[0].clone();
        subsystem.namespaces.values_mut().for_each(|namespace| namespace.volume.block_count = block_count);
        self.exports = Exports::new(self.exports.revision() + 1, vec![subsystem], Vec::new());
        for who in 0..self.nexuses.len() {
            self.with(who, |cx, nexus| nexus.follow_exports(cx)).unwrap();
        }
    }

    fn with<R>(&mut self, who: usize, act: impl FnOnce(&mut Cx<'_>, &mut Nexus) -> R) -> R {
        let World { service, exports, units, nexuses, .. } = self;
        act(&mut Context { unix_seconds: 0, exports, units, port: service }, &mut nexuses[who])
    }

    /// Marks a block as one that cannot be read, as a host could over NVMe.
    pub(crate) fn mark_uncorrectable(&mut self, lba: u64) {
        let session = Arc::clone(self.nexuses[0].session());
        let volume = id(VolumeId::new(1));
        let request = AttachRequest { session, volume, view: View::Plain, enforce: Enforce::Any };
        let attachment = self.service.attach(request).unwrap();
        let mark = Command {
            origin: Origin { connection: 2, command: 2 },
            attachment,
            operation: Operation::WriteUncorrectable,
            lba: Lba(lba),
            blocks: BlockCount::new(1),
            layout: Layout::DataOnly,
            plan: CheckPlan::none(),
            insert: None,
            held: None,
            force_unit_access: false,
        };
        let ticket = self.service.begin(&mark).unwrap();
        self.service.submit(ticket);
        self.service.poll();
        assert_eq!(self.service.next_completion().unwrap().result, Ok(()));
        self.service.release(ticket);
        self.service.detach(attachment);
    }

    /// Data of so many blocks.
    pub(crate) fn data(&self, blocks: u32, seed: u8) -> Vec<u8> {
        let len = blocks as usize * self.shown.block_len;
        (0..len).map(|at| (at as u8).wrapping_mul(31) ^ (at >> 8) as u8 ^ seed).collect()
    }

    /// The same with good tuples: an application tag of 1234h, the reference tags of the LBA.
    pub(crate) fn wire(&self, lba: u64, blocks: u32, seed: u8) -> Vec<u8> {
        let format = self.format.unwrap();
        let tags =
            InsertTags { app_tag: 0x1234, initial_ref: lba & 0xffff_ffff, storage_tag: 0, ref_stays: false };
        let mut wire = Vec::new();
        for (index, block) in (0..).zip(self.data(blocks, seed).chunks(self.shown.block_len)) {
            wire.extend_from_slice(block);
            let tuple = make_tuple(format, &tags, index, guard_of(GuardKind::Crc16, block));
            let mut bytes = [0; 8];
            assert!(tuple.encode(format, &mut bytes));
            wire.extend(bytes);
        }
        wire
    }

    pub(crate) fn row(&self, host: u64) -> IoRow {
        self.book.io(id(HostId::new(host)), id(VolumeId::new(1))).row()
    }
}

/// A CDB of 16 bytes with flags in byte 1.
pub(crate) fn cdb16(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[..2].copy_from_slice(&[opcode, flags]);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// A CDB of 10 bytes with flags in byte 1.
pub(crate) fn cdb10(opcode: u8, flags: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[..2].copy_from_slice(&[opcode, flags]);
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

/// A CDB of 32 bytes.
pub(crate) fn cdb32(action: u8, flags: u8, lba: u64, blocks: u32, tags: (u32, u16, u16)) -> [u8; 32] {
    let mut cdb = [0; 32];
    (cdb[0], cdb[7], cdb[9], cdb[10]) = (0x7f, 0x18, action, flags);
    cdb[12..20].copy_from_slice(&lba.to_be_bytes());
    cdb[20..24].copy_from_slice(&tags.0.to_be_bytes());
    cdb[24..26].copy_from_slice(&tags.1.to_be_bytes());
    cdb[26..28].copy_from_slice(&tags.2.to_be_bytes());
    cdb[28..].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

pub(crate) const READ: u8 = 0x88;
pub(crate) const WRITE: u8 = 0x8a;
pub(crate) const VERIFY: u8 = 0x8f;
pub(crate) const WRITE_AND_VERIFY: u8 = 0x8e;
pub(crate) const COMPARE_AND_WRITE: u8 = 0x89;
