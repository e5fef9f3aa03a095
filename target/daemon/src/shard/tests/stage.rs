//! The shard with its reactor, pool and volume, and what each of its turns did.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holdfast_block::{
    CounterBook, Exports, Grant, HostBook, HostId, HostRecord, Namespace, PoolId, Service as BlockService,
    ServiceLimits, SessionBook, Subsystem, SubsystemId, VolumeId, VolumeInfo,
};
use holdfast_nvme::{Directory, DirectoryConfig, Portal};
use holdfast_reactor::{
    CloseReason, Inboxes, Io, MailSender, Reactor, ReactorConfig, Received, SendBatch, Service, SocketId,
};
use holdfast_store::{Stores, VolumeSpec};
use holdfast_testkit::{Options, Session};

use crate::core::{CoreHandle, MAIL_MAX, Mail};
use crate::faults::fault_queue;
use crate::intent::WantedPool;
use crate::pools::KeptMemory;
use crate::router::{Router, VolumeHome};
use crate::shard::{HalfOpenLimits, Shard, Shared};

/// The hosts on record, by number from 0.
pub(super) const HOSTS: [&str; 2] = ["nqn.2026-11.io.holdfast:greedy", "nqn.2026-11.io.holdfast:modest"];
const SUBNQN: &str = "nqn.2026-11.io.holdfast:stage";
/// The one namespace.
pub(super) const NSID: u32 = 1;
/// Bounds a hang; nothing is judged by it.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);
const POOL_BYTES: u64 = 32 << 20;
const BLOCKS: u64 = 2048;

/// What had happened when a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Reads and writes done, by host.
    pub done: [u64; 2],
    /// Receive buffers kept, by host.
    pub kept: [usize; 2],
}

/// A shard at work.
pub(super) struct Stage {
    pub address: SocketAddr,
    pub core: CoreHandle,
    pub turns: Arc<Mutex<Vec<Turn>>>,
    holder: MailSender<Mail>,
    thread: Option<JoinHandle<()>>,
}

/// Keeps a shard from turning until it is dropped.
pub(super) struct Hold(#[expect(dead_code, reason = "its end is what counts")] mpsc::Sender<()>);

impl Stage {
    /// One with volume and listener, on blocks of `block_len` bytes.
    pub(super) fn new(block_len: usize, half_open: HalfOpenLimits, config: ReactorConfig) -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut inboxes = Inboxes::new().unwrap();
        let core = CoreHandle::new(0, inboxes.add(MAIL_MAX));
        let holder = inboxes.add(1);
        let turns = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&turns);
        let thread = std::thread::spawn(move || {
            let shared = shared(address);
            let mut reactor = Reactor::new(config, inboxes).unwrap();
            reactor.add_listener(listener).unwrap();
            // Nobody listens: nothing fails here.
            let (faults, _) = fault_queue();
            let counters = Arc::clone(&shared.counters);
            let service =
                BlockService::new(Stores::new(), faults, Arc::clone(&counters), ServiceLimits::default());
            let router = Router::new(0, service);
            let shard = Shard::new(router, shared, vec![None], config.receive_buffers, half_open);
            reactor.run(&mut Watched { shard, counters, log }).unwrap();
        });
        let mut stage = Stage { address, core, turns, holder, thread: Some(thread) };
        stage.furnish(block_len);
        stage
    }

    fn furnish(&mut self, block_len: usize) {
        let pool = PoolId::new(1).unwrap();
        let wanted = WantedPool { id: pool, name: "ram".into(), size_bytes: POOL_BYTES };
        let open = KeptMemory::default().open(&wanted).unwrap();
        let id = VolumeId::new(1).unwrap();
        let (uuid, nguid) = ([1; 16], [2; 16]);
        let spec = VolumeSpec { id, uuid, nguid, block_len, block_count: BLOCKS, format: None };
        let info = VolumeInfo { id, block_len, block_count: BLOCKS, format: None, uuid, nguid };
        self.core
            .call(move |shard, io| {
                shard.add_pool(io, pool, open).unwrap();
                shard.stores().create_volume(pool, &spec).unwrap();
                let home = VolumeHome { core: 0, info, allocated: Arc::default() };
                shard.set_exports(io, Arc::new(exports(info)), Arc::new(HashMap::from([(id, home)])));
            })
            .unwrap();
    }

    /// A host's session with so many I/O queues.
    pub(super) fn session(&self, host: usize, queues: u16) -> Session {
        let options = Options::default().io_queues(queues).queue_size(256);
        Session::open(self.address, HOSTS[host], SUBNQN, options).unwrap()
    }

    /// A peer that has said nothing yet.
    pub(super) fn silent(&self) -> TcpStream {
        TcpStream::connect(self.address).unwrap()
    }

    /// Keeps the shard from turning: what hosts send meanwhile comes at once.
    pub(super) fn hold(&mut self) -> Hold {
        let (release, released) = mpsc::channel::<()>();
        let (held, holds) = mpsc::channel();
        let call = Mail::Call(Box::new(move |_: &mut Shard, _: &mut Io| {
            held.send(()).unwrap();
            // Nothing is ever sent: it ends when the guard is dropped.
            let _released = released.recv();
        }));
        assert!(self.holder.send(call).is_ok());
        holds.recv().unwrap();
        Hold(release)
    }

    /// Connections that are open, and those of them that are half open.
    pub(super) fn connections(&mut self) -> (usize, usize) {
        self.core.call(|shard, io| (io.open_sockets(), shard.half_open.count)).unwrap()
    }

    /// Asks the shard until the answer is yes.
    pub(super) fn until(&mut self, what: impl Fn(&Shard, &Io) -> bool + Send + Clone + 'static) {
        let begun = Instant::now();
        loop {
            let what = what.clone();
            if self.core.call(move |shard, io| what(shard, io)).unwrap() {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "what was waited for did not come");
            std::thread::yield_now();
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.core.call(|shard, _| shard.stop()).unwrap();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the shard's thread panicked");
        }
    }
}

fn shared(address: SocketAddr) -> Shared {
    static STRANGERS: AtomicU64 = AtomicU64::new(100);
    Shared {
        directory: Arc::new(Directory::new(DirectoryConfig {
            serial_prefix: "HF".into(),
            model: "Holdfast".into(),
            firmware: "0".into(),
            portals: vec![Portal { advertised: None, listening: address }],
            started_unix_seconds: 0,
        })),
        hosts: Arc::new(HostBook::new(vec![], || {
            HostId::new(STRANGERS.fetch_add(1, Ordering::Relaxed)).unwrap()
        })),
        sessions: Arc::new(SessionBook::default()),
        counters: Arc::new(CounterBook::default()),
    }
}

fn host_id(host: usize) -> HostId {
    HostId::new(u64::try_from(host).unwrap() + 1).unwrap()
}

fn exports(volume: VolumeInfo) -> Exports {
    let subsystem = Subsystem {
        id: SubsystemId::new(1).unwrap(),
        name: "stage".into(),
        nqn: SUBNQN.into(),
        iqn: "iqn.2026-11.io.holdfast:stage".into(),
        allow_any_host: false,
        namespaces: BTreeMap::from([(NSID, Namespace { nsid: NSID, volume })]),
        grants: (0..HOSTS.len()).map(|host| (host_id(host), Grant::ANY_HOST)).collect(),
    };
    let record = |host: usize| HostRecord {
        id: host_id(host),
        name: format!("host-{host}"),
        nqn: Some(HOSTS[host].into()),
        iqn: None,
        aliases: vec![],
    };
    Exports::new(1, vec![subsystem], (0..HOSTS.len()).map(record).collect())
}

/// The shard, and a record of its turns.
struct Watched {
    shard: Shard,
    counters: Arc<CounterBook>,
    log: Arc<Mutex<Vec<Turn>>>,
}

impl Watched {
    fn record(&self) {
        let mut turn = Turn { done: [0; 2], kept: [0; 2] };
        for host in 0..HOSTS.len() {
            let rows = self.counters.rows();
            let own = rows.iter().filter(|(id, _, _)| *id == host_id(host));
            turn.done[host] = own.map(|(_, _, row)| row.read_ops + row.write_ops).sum();
            let links = self.shard.links.iter().flatten();
            let own = links.filter(|link| link.connection.host() == Some(host_id(host)));
            turn.kept[host] = own.map(|link| link.input.buffers()).sum();
        }
        self.log.lock().unwrap().push(turn);
    }
}

impl Service for Watched {
    type Message = Mail;

    fn accepted(
        &mut self,
        io: &mut Io,
        listener: u32,
        socket: SocketId,
        peer: SocketAddr,
        local: SocketAddr,
    ) {
        self.shard.accepted(io, listener, socket, peer, local);
    }
    fn received(&mut self, io: &mut Io, socket: SocketId, bytes: Received) {
        self.shard.received(io, socket, bytes);
    }
    fn sent(&mut self, io: &mut Io, socket: SocketId, batch: SendBatch) {
        self.shard.sent(io, socket, batch);
    }
    fn closed(&mut self, io: &mut Io, socket: SocketId, reason: CloseReason, batch: Option<SendBatch>) {
        self.shard.closed(io, socket, reason, batch);
    }
    fn message(&mut self, io: &mut Io, message: Mail) {
        self.shard.message(io, message);
    }
    fn turn(&mut self, io: &mut Io) {
        self.shard.turn(io);
        self.record();
    }
    fn deadline_ms(&self) -> Option<u64> {
        self.shard.deadline_ms()
    }
    fn tick(&mut self, io: &mut Io) {
        self.shard.tick(io);
    }
    fn keep_running(&self) -> bool {
        self.shard.keep_running()
    }
}
