//! The client: a fixed number of requests in flight on each connection, answers counted by their length.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

use crate::lane::{Choice, Lane};
use crate::report::Report;
use crate::{Format, LoadArguments};

/// How long the loop looks for answers before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
/// A server that answers nothing for so long is given up.
const STALL: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };
/// The longest latency that is told apart.
const LATENCY_MAX_NS: u64 = 60_000_000_000;

/// Loads the server and reports.
pub(crate) fn load(args: &LoadArguments) -> Result<()> {
    ensure!(!args.seconds.0.is_zero(), "--seconds 0 measures nothing");
    let mut client = Client::connect(args)?;
    client.run_until(Instant::now() + args.warmup.0)?;
    client.latencies.reset();
    let (own, server) = (own_cpu_ns(), args.server_pid.map(cpu_ns).transpose()?);
    let from = Instant::now();
    client.run_until(from + args.seconds.0)?;
    let seconds = from.elapsed().as_secs_f64();
    let own = own_cpu_ns().saturating_sub(own);
    let server = match args.server_pid.zip(server) {
        Some((pid, before)) => Some(cpu_ns(pid)?.saturating_sub(before)),
        None => None,
    };
    let report = Report::new(args, &client.latencies, seconds, own, server);
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Format::Text => report.print(),
    }
    Ok(())
}

struct Client {
    lanes: Vec<Lane>,
    latencies: Histogram<u64>,
}

impl Client {
    fn connect(args: &LoadArguments) -> Result<Self> {
        let lane = |number: u64| Lane::new(connect(args.target)?, args, Choice::new(args.mix, number));
        let lanes = (0..u64::from(args.connections)).map(lane).collect::<Result<Vec<_>>>()?;
        Ok(Self { lanes, latencies: Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3)? })
    }

    /// Keeps requests in flight until `end`; those in flight then stay so.
    fn run_until(&mut self, end: Instant) -> Result<()> {
        let mut active = Instant::now();
        let mut now = active;
        while now < end {
            let mut came = false;
            for lane in &mut self.lanes {
                lane.send(now)?;
                came |= lane.receive(&mut self.latencies)?;
            }
            if came {
                active = Instant::now();
            } else if now.duration_since(active) > SPIN {
                self.sleep()?;
                active = Instant::now();
            }
            now = Instant::now();
        }
        Ok(())
    }

    fn sleep(&self) -> Result<()> {
        let interest =
            |lane: &Lane| if lane.wants_to_send() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN };
        let mut ready: Vec<PollFd<'_>> =
            self.lanes.iter().map(|lane| PollFd::new(lane.socket(), interest(lane))).collect();
        match poll(&mut ready, Some(&STALL)) {
            Ok(0) => bail!("the server has answered nothing for {} seconds", STALL.tv_sec),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("waiting for answers"),
        }
    }
}

fn connect(target: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(target).with_context(|| format!("connecting to {target}"))?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// Processor time of the calling thread.
fn own_cpu_ns() -> u64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Processor time of a process of one thread, from its schedstat.
fn cpu_ns(pid: u32) -> Result<u64> {
    let text =
        fs::read_to_string(format!("/proc/{pid}/schedstat")).with_context(|| format!("process {pid}"))?;
    let running = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    running.with_context(|| format!("schedstat of process {pid}"))
}
