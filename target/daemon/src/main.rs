//! `holdfast-target`: the data plane. Boots with the state applied last, serves it, and listens to the control plane.

mod admin;
mod args;
mod clock;
mod core;
mod events;
mod fair;
mod faults;
mod files;
mod guests;
mod intent;
mod keeper;
mod large_pages;
mod lasting;
mod pools;
mod privileges;
mod record;
mod reservations;
mod router;
mod shard;
mod spool;
mod target;

use std::io::{IsTerminal, Read};
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::Parser;
use holdfast_block::{CounterBook, HostBook, HostId, Portal, Service, ServiceLimits, SessionBook};
use holdfast_contract::Response;
use holdfast_nvme::{Directory, DirectoryConfig};
use holdfast_reactor::{
    Inboxes, IoChoice, IoKind, MailSender, Reactor, ReactorConfig, handover, pin_to_core,
};
use holdfast_store::Stores;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::admin::SharedTarget;
use crate::args::{Args, h2c_data_max};
use crate::core::{CoreHandle, MAIL_MAX, Mail};
use crate::faults::{FaultSender, fault_queue};
use crate::keeper::Keeper;
use crate::large_pages::LargePages;
use crate::lasting::Lasting;
use crate::lasting::disk::DiskOpener;
use crate::pools::{KeptMemory, map_memory_default};
use crate::record::Records;
use crate::reservations::Kept;
use crate::router::Router;
use crate::shard::{HalfOpenLimits, Shard, Shared};
use crate::spool::Spool;
use crate::target::{Portals, Target};

/// What to do where io_uring is refused.
const REMEDY: &str = "for io_uring, run Linux 6.1 or later with the sysctl kernel.io_uring_disabled at 0, and have the \
    sandbox (a container's seccomp profile, say) allow io_uring_setup, io_uring_register and io_uring_enter";

/// Descriptor whose end of file means that the supervisor is gone.
const LIFELINE: &str = "lifeline";

/// Pause between two looks at pools while one is being closed, and otherwise.
const POOLS_BUSY: Duration = Duration::from_millis(5);
const POOLS_IDLE: Duration = Duration::from_secs(1);

fn main() -> std::process::ExitCode {
    let args = Args::parse();
    let filter =
        tracing_subscriber::EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| "info".into());
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(ansi)
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
    // A panic is a bug; a half-dead target would be worse than a restarted one.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        report(info);
        std::process::abort();
    }));
    match run(&args) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast-target: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> anyhow::Result<()> {
    let (stop, stopping) = mpsc::channel();
    // From here on a signal waits for the thread that takes it.
    let signals = Signals::new([SIGTERM, SIGINT])?;
    std::fs::create_dir_all(&args.state).with_context(|| format!("state folder {}", args.state.display()))?;
    let inherited = handover::inherited().context("inherited descriptors")?;
    let Inherited { nvme, iscsi, lifeline, memory } = sort_inherited(inherited)?;
    let nvme = bind_more(nvme, "--nvme", &args.nvme)?;
    let iscsi = bind_more(iscsi, "--iscsi", &args.iscsi)?;
    let portals = portals("--nvme-advertise", &nvme, &args.nvme_advertise)?;
    let iscsi_portals = self::portals("--iscsi-advertise", &iscsi, &args.iscsi_advertise)?;

    let records = Records::new(&args.state);
    let counters = Arc::new(CounterBook::default());
    let counted = records.restore_counters(&counters)?;
    let config = DirectoryConfig {
        serial_prefix: "HF".to_owned(),
        model: "Holdfast".to_owned(),
        firmware: env!("CARGO_PKG_VERSION").to_owned(),
        portals,
        started_unix_seconds: clock::unix_ms() / 1000,
        h2c_data_max: h2c_data_max()?,
    };
    let kept_reservations = Kept::open(&args.state).context("what is kept of reservations")?;
    let (reservation_keeper, keeper_orders) = reservations::keeper();
    let shared = Shared {
        directory: Arc::new(Directory::restore(config, records.events()?.into_kept())),
        nvme_portals: u16::try_from(nvme.len()).context("--nvme: too many portals")?,
        iscsi: Arc::new(holdfast_iscsi::Directory::new(iscsi_portals)),
        units: Arc::default(),
        hosts: Arc::new(HostBook::new(records.hosts()?, random_host_id)),
        sessions: Arc::new(SessionBook::default()),
        counters,
        reservations: Arc::default(),
        keeper: reservation_keeper,
    };
    let spool = Arc::new(Mutex::new(Spool::restore(records.incidents()?)));
    let (fault_sender, fault_receiver) = fault_queue();
    let names = Portals { nvme: addresses(&nvme)?, iscsi: addresses(&iscsi)? };
    let listeners = nvme.into_iter().chain(iscsi).collect();
    let StartedCores { cores, threads: reactors, interfaces, keepers } =
        start_cores(args, &shared, listeners, &fault_sender)?;
    drop(fault_sender);
    // Whatever needed privileges is done, and every other thread is started by this one.
    drop_privileges(args)?;
    watch_signals(signals, stop.clone())?;
    if let Some(lifeline) = lifeline {
        watch_lifeline(lifeline, stop)?;
    }
    let keeper = Keeper::new(records.clone(), shared.clone(), Arc::clone(&spool), counted);
    let keeper =
        std::thread::Builder::new().name("keeper".to_owned()).spawn(move || keeper.run(&fault_receiver))?;

    std::thread::Builder::new()
        .name("reservations".to_owned())
        .spawn(move || keeper_orders.serve(kept_reservations, keepers))?;

    let applied = records.applied()?;
    let pages = LargePages::start().context("starting the thread for large pages")?;
    let map_bytes_max = args.map_memory.unwrap_or_else(map_memory_default);
    let (wake, woken) = mpsc::channel();
    let lasting = Lasting::new(DiskOpener::new(map_bytes_max), wake);
    let mut target = Target::new(records, shared, cores, memory, lasting, pages, names);
    if args.enable_drills {
        target.allow_drills();
    }
    if let Some(applied) = applied {
        match target.restore(applied) {
            Response::Refused(faults) => faults.iter().for_each(|fault| {
                tracing::error!(object = ?fault.object, name = %fault.name, detail = %fault.detail, "not restored");
            }),
            Response::Error { detail } => tracing::error!(detail, "not restored"),
            _ => {}
        }
    }
    let target = Arc::new(Mutex::new(Some(target)));
    let settled = Arc::clone(&target);
    std::thread::Builder::new().name("pools".to_owned()).spawn(move || settle_pools(&settled, &woken))?;
    let listener = admin::bind(&args.socket).with_context(|| format!("socket {}", args.socket.display()))?;
    let (served, spooled) = (Arc::clone(&target), Arc::clone(&spool));
    std::thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || admin::serve(&listener, &served, &spooled))?;
    confine(&interfaces);
    handover::notify("READY=1").context("telling the service manager")?;
    tracing::info!(cores = ?args.cores.0, "serving");

    let reason = stopping.recv().unwrap_or("nobody is left to stop it");
    tracing::info!(reason, "stopping");
    let mut target = target.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(target) = &mut target {
        target.announce_end();
        target.close_all();
    }
    stop_cores(target.map(Target::into_cores).unwrap_or_default(), reactors)?;
    keeper.join().map_err(|_| anyhow::anyhow!("the keeper failed"))
}

/// Goes on with pools on their way in and out, whenever a thread of theirs is done or a core closes one; until the target stops.
fn settle_pools(target: &SharedTarget, woken: &mpsc::Receiver<()>) {
    let mut pause = POOLS_IDLE;
    loop {
        if woken.recv_timeout(pause) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
        let mut guard = target.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(target) = guard.as_mut() else { return };
        pause = if target.settle() { POOLS_BUSY } else { POOLS_IDLE };
    }
}

/// Leaves this thread without capabilities, and makes sure that it can do without.
fn drop_privileges(args: &Args) -> anyhow::Result<()> {
    privileges::drop_capabilities().context("giving up capabilities")?;
    privileges::demand_writable(&args.state).context("state folder")?;
    let beside = args.socket.parent().filter(|folder| !folder.as_os_str().is_empty());
    privileges::demand_writable(beside.unwrap_or(Path::new("."))).context("folder of the socket")
}

/// Keeps the process to the system calls of a serving target. A kernel that has no filters is no reason not to serve.
fn confine(interfaces: &[IoKind]) {
    match privileges::confine_all_threads(interfaces) {
        Ok(()) => tracing::info!("confined: no capabilities, and only the system calls that serving takes"),
        Err(error) => tracing::warn!(%error, "serving without a system call filter (seccomp)"),
    }
}

/// What was handed over, by kind.
struct Inherited {
    nvme: Vec<TcpListener>,
    iscsi: Vec<TcpListener>,
    /// Ends with the supervisor.
    lifeline: Option<OwnedFd>,
    memory: KeptMemory,
}

fn sort_inherited(inherited: Vec<(String, OwnedFd)>) -> anyhow::Result<Inherited> {
    let (mut nvme, mut iscsi) = (Vec::new(), Vec::new());
    let mut lifeline = None;
    let mut rest = Vec::new();
    for (name, fd) in inherited {
        let number = |number: &str| number.parse::<usize>().with_context(|| format!("descriptor `{name}`"));
        if let Some(end) = name.strip_prefix("nvme-") {
            nvme.push((number(end)?, TcpListener::from(fd)));
        } else if let Some(end) = name.strip_prefix("iscsi-") {
            iscsi.push((number(end)?, TcpListener::from(fd)));
        } else if name == LIFELINE {
            lifeline = Some(fd);
        } else {
            rest.push((name, fd));
        }
    }
    let memory = KeptMemory::from_inherited(rest);
    Ok(Inherited { nvme: in_order(nvme), iscsi: in_order(iscsi), lifeline, memory })
}

fn in_order(mut listeners: Vec<(usize, TcpListener)>) -> Vec<TcpListener> {
    listeners.sort_by_key(|(number, _)| *number);
    listeners.into_iter().map(|(_, listener)| listener).collect()
}

fn bind_more(
    mut listeners: Vec<TcpListener>,
    flag: &str,
    addresses: &[SocketAddr],
) -> anyhow::Result<Vec<TcpListener>> {
    for address in addresses {
        let listener = TcpListener::bind(address).with_context(|| format!("{flag} {address}"))?;
        listeners.push(listener);
    }
    Ok(listeners)
}

fn addresses(listeners: &[TcpListener]) -> std::io::Result<Vec<String>> {
    listeners.iter().map(|listener| Ok(listener.local_addr()?.to_string())).collect()
}

fn portals(flag: &str, listeners: &[TcpListener], advertised: &[SocketAddr]) -> anyhow::Result<Vec<Portal>> {
    if advertised.len() > listeners.len() {
        bail!("{flag}: {} addresses for {} portals", advertised.len(), listeners.len());
    }
    let mut advertised = advertised.iter().copied();
    let portal = |listener: &TcpListener| -> std::io::Result<Portal> {
        Ok(Portal { listening: listener.local_addr()?, advertised: advertised.next() })
    };
    Ok(listeners.iter().map(portal).collect::<std::io::Result<Vec<_>>>()?)
}

type CoreThread = JoinHandle<anyhow::Result<()>>;

/// Cores that run.
struct StartedCores {
    cores: Vec<CoreHandle>,
    threads: Vec<CoreThread>,
    /// By which interfaces they do their I/O.
    interfaces: Vec<IoKind>,
    /// Where they learn that reservations are kept.
    keepers: Vec<MailSender<Mail>>,
}

/// Starts a reactor on each core; each has a mailbox to each other, and one for the admin side.
fn start_cores(
    args: &Args,
    shared: &Shared,
    listeners: Vec<TcpListener>,
    faults: &FaultSender,
) -> anyhow::Result<StartedCores> {
    let count = args.cores.0.len();
    let mut inboxes = (0..count).map(|_| Inboxes::new()).collect::<std::io::Result<Vec<_>>>()?;
    let (mut handles, mut keepers) = (Vec::new(), Vec::new());
    let mut peers: Vec<Vec<Option<MailSender<Mail>>>> = (0..count).map(|_| Vec::new()).collect();
    for (to, inbox) in inboxes.iter_mut().enumerate() {
        handles.push(CoreHandle::new(to, inbox.add(MAIL_MAX)));
        keepers.push(inbox.add(MAIL_MAX));
        for (from, senders) in peers.iter_mut().enumerate() {
            senders.push((from != to).then(|| inbox.add(MAIL_MAX)));
        }
    }
    let mut started_cores =
        StartedCores { cores: handles, threads: Vec::new(), interfaces: Vec::new(), keepers };
    for (number, ((core, inboxes), peers)) in args.cores.0.iter().zip(inboxes).zip(peers).enumerate() {
        let listeners = listeners.iter().map(TcpListener::try_clone).collect::<std::io::Result<Vec<_>>>()?;
        let (shared, faults, core, io) = (shared.clone(), faults.clone(), *core, args.io.into());
        let (started, start) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("core-{core}"))
            .spawn(move || run_core(number, core, io, inboxes, peers, listeners, shared, faults, &started))?;
        match start.recv() {
            Ok(interface) => {
                started_cores.threads.push(thread);
                started_cores.interfaces.push(interface);
            }
            Err(_) => match thread.join() {
                Ok(Err(error)) => return Err(error.context(format!("core {core}"))),
                _ => bail!("core {core} did not start"),
            },
        }
    }
    Ok(started_cores)
}

#[expect(clippy::too_many_arguments, reason = "each is moved into the core's thread")]
fn run_core(
    number: usize,
    core: usize,
    io: IoChoice,
    inboxes: Inboxes<Mail>,
    peers: Vec<Option<MailSender<Mail>>>,
    listeners: Vec<TcpListener>,
    shared: Shared,
    faults: FaultSender,
    started: &mpsc::Sender<IoKind>,
) -> anyhow::Result<()> {
    pin_to_core(core).context("pinning the reactor; see --cores")?;
    let config = ReactorConfig { io, ..ReactorConfig::default() };
    let mut reactor = Reactor::new(config, inboxes)?;
    if number == 0
        && let Some(error) = reactor.uring_refusal()
    {
        tracing::warn!(
            "io_uring is refused ({error}): using epoll, at more processor time per command; {REMEDY}"
        );
    }
    for listener in listeners {
        reactor.add_listener(listener)?;
    }
    let mut service =
        Service::new(Stores::new(), faults, Arc::clone(&shared.counters), ServiceLimits::default());
    service.share_reservations(Arc::clone(&shared.reservations));
    let router = Router::new(number, service);
    let mut shard = Shard::new(router, shared, peers, config.receive_buffers, HalfOpenLimits::default());
    privileges::drop_capabilities().context("giving up capabilities")?;
    started.send(reactor.io_kind()).context("the start was given up")?;
    reactor.run(&mut shard).context("the reactor failed")
}

fn stop_cores(mut cores: Vec<CoreHandle>, threads: Vec<CoreThread>) -> anyhow::Result<()> {
    for core in &mut cores {
        core.call(|shard, _| shard.stop())?;
    }
    for thread in threads {
        thread.join().map_err(|_| anyhow::anyhow!("a core failed"))??;
    }
    Ok(())
}

fn watch_signals(mut signals: Signals, stop: mpsc::Sender<&'static str>) -> anyhow::Result<()> {
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let reason = if signal == SIGTERM { "SIGTERM" } else { "SIGINT" };
            if stop.send(reason).is_err() {
                return;
            }
        }
    })?;
    Ok(())
}

fn watch_lifeline(fd: OwnedFd, stop: mpsc::Sender<&'static str>) -> anyhow::Result<()> {
    let mut lifeline = std::fs::File::from(fd);
    std::thread::Builder::new().name("lifeline".to_owned()).spawn(move || {
        // Nothing is ever written to it: it ends when the last holder of the other end is gone.
        let _ended = lifeline.read(&mut [0]);
        let _stopping_already = stop.send("the supervisor is gone");
    })?;
    Ok(())
}

/// Identifiers of hosts that the target meets first: random, so that they never meet those of anybody else.
fn random_host_id() -> HostId {
    loop {
        if let Some(id) = getrandom::u64().ok().and_then(HostId::new) {
            return id;
        }
    }
}
