//! The shard with its reactor, pool and volume, and what each of its turns did.

use std::collections::{BTreeMap, HashMap};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use holdfast_block::{
    CounterBook, Exports, Grant, HostBook, HostId, HostRecord, Namespace, PoolId, Portal,
    Service as BlockService, ServiceLimits, SessionBook, Subsystem, SubsystemId, VolumeId, VolumeInfo,
};
use holdfast_nvme::{Directory, DirectoryConfig, H2cDataMax};
use holdfast_reactor::{
    CloseReason, Inboxes, Io, IoChoice, MailSender, Reactor, ReactorConfig, Received, SendBatch, Service,
    SocketId,
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
/// Both interfaces to the kernel.
pub(super) const INTERFACES: [IoChoice; 2] = [IoChoice::Uring, IoChoice::Epoll];
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

/// Shards at work: a core with a volume, and perhaps others that serve it too.
pub(super) struct Stage {
    pub address: SocketAddr,
    /// The core with the volume.
    pub core: CoreHandle,
    /// Its turns.
    pub turns: Arc<Mutex<Vec<Turn>>>,
    others: Vec<CoreHandle>,
    holders: Vec<MailSender<Mail>>,
    threads: Vec<JoinHandle<()>>,
}

/// Keeps shards from turning until it is dropped: the volume's first.
pub(super) struct Hold(Vec<mpsc::Sender<()>>);

impl Hold {
    /// Lets all but the volume's core go on.
    pub(super) fn release_others(&mut self) {
        self.0.truncate(1);
    }
}

/// What a core is made of.
struct Core {
    number: usize,
    inboxes: Inboxes<Mail>,
    peers: Vec<Option<MailSender<Mail>>>,
    listener: Option<TcpListener>,
    shared: Shared,
    half_open: HalfOpenLimits,
    config: ReactorConfig,
    log: Arc<Mutex<Vec<Turn>>>,
}

impl Stage {
    /// One core with a volume of blocks of `block_len` bytes.
    pub(super) fn new(block_len: usize, half_open: HalfOpenLimits, config: ReactorConfig) -> Stage {
        Stage::with_cores(1, block_len, half_open, config)
    }

    /// So many cores, of which the first has the volume. Connections are spread over them in turn.
    pub(super) fn with_cores(
        count: usize,
        block_len: usize,
        half_open: HalfOpenLimits,
        config: ReactorConfig,
    ) -> Stage {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = shared(address);
        let mut inboxes: Vec<Inboxes<Mail>> = (0..count).map(|_| Inboxes::new().unwrap()).collect();
        let mut handles: Vec<_> = inboxes
            .iter_mut()
            .enumerate()
            .map(|(number, inbox)| CoreHandle::new(number, inbox.add(MAIL_MAX)))
            .collect();
        let holders = inboxes.iter_mut().map(|inbox| inbox.add(1)).collect();
        let mut peers: Vec<Vec<_>> = (0..count)
            .map(|from| {
                inboxes
                    .iter_mut()
                    .enumerate()
                    .map(|(to, inbox)| (from != to).then(|| inbox.add(MAIL_MAX)))
                    .collect()
            })
            .collect();
        let turns = Arc::new(Mutex::new(Vec::new()));
        let mut listener = Some(listener);
        let threads = inboxes
            .into_iter()
            .enumerate()
            .map(|(number, inboxes)| {
                // Turns of the others are of no interest.
                let log = if number == 0 { Arc::clone(&turns) } else { Arc::default() };
                let core = Core {
                    number,
                    inboxes,
                    peers: std::mem::take(&mut peers[number]),
                    listener: listener.take(),
                    shared: shared.clone(),
                    half_open,
                    config,
                    log,
                };
                std::thread::spawn(move || core.run())
            })
            .collect();
        let core = handles.remove(0);
        let mut stage = Stage { address, core, turns, others: handles, holders, threads };
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
            })
            .unwrap();
        // The one that listens is the last to begin.
        for core in self.others.iter_mut().chain([&mut self.core]) {
            core.call(move |shard, io| {
                let home = VolumeHome { core: 0, info, allocated: Arc::default() };
                shard.set_exports(io, Arc::new(exports(info)), Arc::new(HashMap::from([(id, home)])));
            })
            .unwrap();
        }
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

    /// Keeps all shards from turning: what hosts send meanwhile comes at once.
    pub(super) fn hold(&mut self) -> Hold {
        let hold_one = |holder: &mut MailSender<Mail>| {
            let (release, released) = mpsc::channel::<()>();
            let (held, holds) = mpsc::channel();
            let call = Mail::Call(Box::new(move |_: &mut Shard, _: &mut Io| {
                held.send(()).unwrap();
                // Nothing is ever sent: it ends when the guard is dropped.
                let _released = released.recv();
            }));
            assert!(holder.send(call).is_ok());
            holds.recv().unwrap();
            release
        };
        Hold(self.holders.iter_mut().map(hold_one).collect())
    }

    /// Connections that are open, and those of them that are half open.
    pub(super) fn connections(&mut self) -> (usize, usize) {
        self.core.call(|shard, io| (io.open_sockets(), shard.half_open.count)).unwrap()
    }

    /// Asks the shard until the answer is yes.
    pub(super) fn until(&mut self, what: impl Fn(&Shard, &Io) -> bool + Send + Clone + 'static) {
        until(&mut self.core, what);
    }

    /// Asks the other shards, each until the answer is yes.
    pub(super) fn until_others(&mut self, what: impl Fn(&Shard, &Io) -> bool + Send + Clone + 'static) {
        self.others.iter_mut().for_each(|core| until(core, what.clone()));
    }
}

fn until(core: &mut CoreHandle, what: impl Fn(&Shard, &Io) -> bool + Send + Clone + 'static) {
    let begun = Instant::now();
    loop {
        let what = what.clone();
        if core.call(move |shard, io| what(shard, io)).unwrap() {
            return;
        }
        assert!(begun.elapsed() < PATIENCE, "what was waited for did not come");
        std::thread::yield_now();
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        for core in self.others.iter_mut().chain([&mut self.core]) {
            core.call(|shard, _| shard.stop()).unwrap();
        }
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok() || std::thread::panicking(), "a shard's thread panicked");
        }
    }
}

impl Core {
    fn run(self) {
        let mut reactor = Reactor::new(self.config, self.inboxes).unwrap();
        if let Some(listener) = self.listener {
            reactor.add_listener(listener).unwrap();
        }
        // Nobody listens: nothing fails here.
        let (faults, _) = fault_queue();
        let counters = Arc::clone(&self.shared.counters);
        let service =
            BlockService::new(Stores::new(), faults, Arc::clone(&counters), ServiceLimits::default());
        let router = Router::new(self.number, service);
        let shard = Shard::new(router, self.shared, self.peers, self.config.receive_buffers, self.half_open);
        reactor.run(&mut Watched { shard, counters, log: self.log }).unwrap();
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
            h2c_data_max: H2cDataMax::default(),
        })),
        nvme_portals: 1,
        iscsi: Arc::new(holdfast_iscsi::Directory::new(vec![])),
        units: Arc::default(),
        hosts: Arc::new(HostBook::new(vec![], || {
            HostId::new(STRANGERS.fetch_add(1, Ordering::Relaxed)).unwrap()
        })),
        sessions: Arc::new(SessionBook::default()),
        counters: Arc::new(CounterBook::default()),
        reservations: Arc::default(),
        // Nothing lasts here.
        keeper: crate::reservations::keeper().0,
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
        chap: None,
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

    fn offered(&mut self, io: &mut Io, listener: u32, stream: TcpStream) -> Option<TcpStream> {
        self.shard.offered(io, listener, stream)
    }
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
