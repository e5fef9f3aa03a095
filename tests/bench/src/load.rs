//! The client: one connection, a fixed number of requests in flight, answers counted by their length.

use std::collections::VecDeque;
use std::fs;
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

use crate::{
    DATA_LEN, Format, LoadArguments, Mode, READ_ANSWER_LEN, READ_MARK, REQUEST_LEN, SHORT_LEN, WRITE_LEN,
    WRITE_MARK,
};

/// Requests in one send.
const VECTORS_MAX: usize = 32;
const RECEIVE_LEN: usize = 256 << 10;
/// How long the loop looks for answers before it sleeps.
const SPIN: Duration = Duration::from_micros(50);
/// A server that answers nothing for so long is given up.
const STALL: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

#[derive(Debug, Serialize)]
struct Report {
    mode: &'static str,
    depth: u16,
    seconds: u32,
    operations: u64,
    iops: f64,
    mb_per_s: f64,
    latency_us: Latency,
    client_cpu_us_per_io: f64,
    server_cpu_us_per_io: Option<f64>,
}

#[derive(Debug, Serialize)]
struct Latency {
    min: f64,
    mean: f64,
    p50: f64,
    p95: f64,
    p99: f64,
    p99_9: f64,
    max: f64,
}

/// Loads the server and reports.
pub(crate) fn load(args: &LoadArguments) -> Result<()> {
    let mut client = Client::connect(args)?;
    let warm = Instant::now() + Duration::from_secs(args.warmup.into());
    client.run_until(warm)?;
    client.latencies.reset();
    let (own, server) = (own_cpu_ns(), args.server_pid.map(cpu_ns).transpose()?);
    client.run_until(Instant::now() + Duration::from_secs(args.seconds.into()))?;
    let own = own_cpu_ns().saturating_sub(own);
    let server = match args.server_pid.zip(server) {
        Some((pid, before)) => Some(cpu_ns(pid)?.saturating_sub(before)),
        None => None,
    };
    let report = Report::new(args, &client.latencies, own, server);
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Format::Text => report.print(),
    }
    Ok(())
}

struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    answer_len: usize,
    depth: usize,
    received: Vec<u8>,
    /// Bytes of the answer that is coming in.
    partial: usize,
    /// When each request in flight was sent, oldest first: answers come in order.
    sent_at: VecDeque<Instant>,
    /// Bytes of the next request that have left already.
    request_sent: usize,
    latencies: Histogram<u64>,
}

impl Client {
    fn connect(args: &LoadArguments) -> Result<Self> {
        let stream =
            TcpStream::connect(args.target).with_context(|| format!("connecting to {}", args.target))?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let (mark, request_len, answer_len) = match args.mode {
            Mode::Read => (READ_MARK, REQUEST_LEN, READ_ANSWER_LEN),
            Mode::Write => (WRITE_MARK, WRITE_LEN, SHORT_LEN),
        };
        let depth = usize::from(args.depth);
        Ok(Self {
            stream,
            request: vec![mark; request_len],
            answer_len,
            depth,
            received: vec![0; RECEIVE_LEN],
            partial: 0,
            sent_at: VecDeque::with_capacity(depth),
            request_sent: 0,
            latencies: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
        })
    }

    /// Keeps requests in flight until `end`; those in flight then stay so.
    fn run_until(&mut self, end: Instant) -> Result<()> {
        let mut active = Instant::now();
        let mut now = active;
        while now < end {
            self.send(now)?;
            if self.receive()? {
                active = Instant::now();
            } else if now.duration_since(active) > SPIN {
                self.sleep()?;
                active = Instant::now();
            }
            now = Instant::now();
        }
        Ok(())
    }

    fn send(&mut self, now: Instant) -> Result<()> {
        loop {
            let wanted = self.depth.saturating_sub(self.sent_at.len()).min(VECTORS_MAX);
            if wanted == 0 {
                return Ok(());
            }
            let mut vectors = [IoSlice::new(&self.request); VECTORS_MAX];
            if let Some(first) = vectors.first_mut() {
                *first = IoSlice::new(self.request.get(self.request_sent..).unwrap_or_default());
            }
            match self.stream.write_vectored(vectors.get(..wanted).unwrap_or_default()) {
                Ok(len) => {
                    let total = self.request_sent.saturating_add(len);
                    self.request_sent = total % self.request.len();
                    for _ in 0..total / self.request.len() {
                        self.sent_at.push_back(now);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending"),
            }
        }
    }

    /// `true` when something came.
    fn receive(&mut self) -> Result<bool> {
        let len = match self.stream.read(&mut self.received) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error).context("receiving"),
        };
        let now = Instant::now();
        let total = self.partial.saturating_add(len);
        self.partial = total % self.answer_len;
        for _ in 0..total / self.answer_len {
            let sent_at = self.sent_at.pop_front().context("an answer to no request")?;
            let latency_ns = u64::try_from(now.duration_since(sent_at).as_nanos()).unwrap_or(u64::MAX);
            self.latencies.saturating_record(latency_ns.max(1));
        }
        Ok(true)
    }

    fn sleep(&self) -> Result<()> {
        let mut interest = PollFlags::IN;
        if self.sent_at.len() < self.depth {
            interest |= PollFlags::OUT;
        }
        match poll(&mut [PollFd::new(&self.stream, interest)], Some(&STALL)) {
            Ok(0) => bail!("the server has answered nothing for {} seconds", STALL.tv_sec),
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error).context("waiting for answers"),
        }
    }
}

impl Report {
    fn new(args: &LoadArguments, latencies: &Histogram<u64>, own_ns: u64, server_ns: Option<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let quantile = |quantile| us(latencies.value_at_quantile(quantile));
        let per_io = |ns: u64| if latencies.is_empty() { 0.0 } else { us(ns) / latencies.len() as f64 };
        let iops = latencies.len() as f64 / f64::from(args.seconds);
        Self {
            mode: match args.mode {
                Mode::Read => "read",
                Mode::Write => "write",
            },
            depth: args.depth,
            seconds: args.seconds,
            operations: latencies.len(),
            iops,
            mb_per_s: iops * DATA_LEN as f64 / 1e6,
            latency_us: Latency {
                min: us(latencies.min()),
                mean: latencies.mean() / 1000.0,
                p50: quantile(0.5),
                p95: quantile(0.95),
                p99: quantile(0.99),
                p99_9: quantile(0.999),
                max: us(latencies.max()),
            },
            client_cpu_us_per_io: per_io(own_ns),
            server_cpu_us_per_io: server_ns.map(per_io),
        }
    }

    fn print(&self) {
        let Latency { min, mean, p50, p95, p99, p99_9, max } = self.latency_us;
        println!("{} depth {}: {:.0} IOPS, {:.1} MB/s", self.mode, self.depth, self.iops, self.mb_per_s);
        println!(
            "latency µs: min {min:.1} mean {mean:.1} p50 {p50:.1} p95 {p95:.1} p99 {p99:.1} p99.9 {p99_9:.1} max {max:.1}"
        );
        print!("processor time per request: {:.2} µs here", self.client_cpu_us_per_io);
        match self.server_cpu_us_per_io {
            Some(server) => println!(", {server:.2} µs in the server"),
            None => println!(),
        }
    }
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
