//! `holdfast-bench idle`: what many quiet hosts cost the target.
//!
//! Each host has its own NQN, an Admin Queue and one I/O queue, waits for an asynchronous event, and keeps alive
//! at half its timeout, as Linux does. The hosts' Keep Alives are spread evenly over that time.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use holdfast_testkit::{Options, Session};
use serde::Serialize;

use crate::args::{Format, IdleArguments};
use crate::process::{self, Resident};

#[derive(Debug, Serialize)]
struct Report {
    hosts: u16,
    seconds: f64,
    keep_alives: u64,
    processes: Vec<Process>,
    total_cpu_percent: f64,
    total_resident: Resident,
}

#[derive(Debug, Serialize)]
struct Process {
    pid: u32,
    name: String,
    /// Of one processor.
    cpu_percent: f64,
    resident: Resident,
}

/// Holds the hosts for the asked time and reports; `false` is never answered, since a host that is thrown out is
/// an error.
pub(crate) fn idle(args: &IdleArguments) -> Result<bool> {
    process::cpu_ns_of_all(&args.target_pid)?;
    let mut hosts = Hosts::connect(args)?;
    hosts.keep(Duration::from_secs(args.settle))?;
    hosts.keep_alives = 0;
    let before: Vec<u64> = args.target_pid.iter().map(|pid| process::cpu_ns(*pid)).collect::<Result<_>>()?;
    let start = Instant::now();
    hosts.keep(Duration::from_secs(args.seconds))?;
    let seconds = start.elapsed().as_secs_f64();
    let mut report = Report {
        hosts: args.hosts,
        seconds,
        keep_alives: hosts.keep_alives,
        processes: Vec::new(),
        total_cpu_percent: 0.0,
        total_resident: Resident { anonymous_kib: 0, file_kib: 0, shared_kib: 0 },
    };
    for (pid, before) in args.target_pid.iter().copied().zip(before) {
        let used_ns = process::cpu_ns(pid)?.saturating_sub(before);
        let (cpu_percent, resident) = (used_ns as f64 / 1e7 / seconds, process::resident(pid)?);
        report.total_cpu_percent += cpu_percent;
        report.total_resident.anonymous_kib += resident.anonymous_kib;
        report.total_resident.file_kib += resident.file_kib;
        report.total_resident.shared_kib += resident.shared_kib;
        report.processes.push(Process { pid, name: process::name(pid), cpu_percent, resident });
    }
    for session in hosts.sessions {
        session.close().context("closing an association")?;
    }
    match args.format {
        Format::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Format::Text => print!("{}", report.text()?),
    }
    Ok(true)
}

struct Hosts {
    sessions: Vec<Session>,
    interval: Duration,
    next: usize,
    due: Instant,
    keep_alives: u64,
}

impl Hosts {
    fn connect(args: &IdleArguments) -> Result<Self> {
        let kato_ms = u32::from(args.keep_alive).saturating_mul(1000);
        // Half the timeout, shared out among the hosts.
        let interval = Duration::from_millis(u64::from(kato_ms) / 2) / u32::from(args.hosts);
        let now = Instant::now();
        let mut hosts = Self { sessions: Vec::new(), interval, next: 0, due: now, keep_alives: 0 };
        for number in 1..=args.hosts {
            let hostnqn = format!("{}{number}", args.host_nqn_prefix);
            let options = Options::default().io_queues(1).kato_ms(kato_ms);
            let mut session = Session::open(args.target, &hostnqn, &args.subsystem, options)
                .with_context(|| format!("connecting host {number} to {}", args.target))?;
            session.admin().submit_async_event().context("requesting asynchronous events")?;
            hosts.sessions.push(session);
            // Those that are connected already must be kept alive while the others connect.
            hosts.keep(Duration::ZERO)?;
        }
        Ok(hosts)
    }

    /// Keeps all hosts alive for `time`.
    fn keep(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        loop {
            let now = Instant::now();
            if now >= self.due {
                self.keep_one()?;
                self.due = now.max(self.due + self.interval);
                continue;
            }
            if now >= end {
                return Ok(());
            }
            thread::sleep(self.due.min(end).saturating_duration_since(now));
        }
    }

    fn keep_one(&mut self) -> Result<()> {
        if self.next >= self.sessions.len() {
            self.next = 0;
        }
        if let Some(session) = self.sessions.get_mut(self.next) {
            session
                .admin()
                .keep_alive()?
                .ok()
                .with_context(|| format!("keeping host {} alive", self.next + 1))?;
            self.keep_alives += 1;
        }
        self.next += 1;
        Ok(())
    }
}

impl Report {
    fn text(&self) -> Result<String> {
        let mut out = String::new();
        writeln!(
            out,
            "{} idle hosts for {:.1} s, {} Keep Alives",
            self.hosts, self.seconds, self.keep_alives
        )?;
        writeln!(
            out,
            "\n{:>8}  {:<24}{:>8}{:>14}{:>12}{:>14}",
            "pid", "name", "CPU %", "own KiB", "file KiB", "shared KiB"
        )?;
        for process in &self.processes {
            let Resident { anonymous_kib, file_kib, shared_kib } = process.resident;
            write!(out, "{:>8}  {:<24}{:>8.2}", process.pid, process.name, process.cpu_percent)?;
            writeln!(out, "{anonymous_kib:>14}{file_kib:>12}{shared_kib:>14}")?;
        }
        let Resident { anonymous_kib, file_kib, shared_kib } = self.total_resident;
        write!(out, "{:>8}  {:<24}{:>8.2}", "", "total", self.total_cpu_percent)?;
        writeln!(out, "{anonymous_kib:>14}{file_kib:>12}{shared_kib:>14}")?;
        Ok(out)
    }
}
