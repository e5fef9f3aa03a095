//! The result of a run, for people and for programs.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};
use hdrhistogram::Histogram;
use holdfast_testkit::load::Latency;
use serde::Serialize;

use crate::args::{Format, PiMode, RunArguments, Transport};
use crate::engine::Recorder;
use crate::lane;
use crate::workload::Plan;

/// A run and what came of it.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    transport: &'static str,
    target: String,
    subsystem: String,
    /// The namespace's identifier, or the logical unit's number.
    unit: u32,
    namespace: Namespace,
    depth: u16,
    queues: u16,
    threads: u16,
    block_size_bytes: usize,
    read_percent: u8,
    pi: &'static str,
    header_digest: bool,
    data_digest: bool,
    seconds: f64,
    reads: Direction,
    writes: Direction,
    total: Direction,
    /// Processor time of this program's I/O threads.
    own_cpu_us_per_io: f64,
    /// Processor time of the target's processes; `null` without --target-pid.
    target_cpu_us_per_io: Option<f64>,
    target_cpu_percent: Option<f64>,
    failures: Vec<Failure>,
    bad_blocks: u64,
    first_bad_block: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Namespace {
    blocks: u64,
    block_size_bytes: usize,
    metadata_size_bytes: usize,
    pi_type: u8,
}

/// Throughput and latency of one direction, or of both.
#[derive(Debug, Serialize)]
struct Direction {
    operations: u64,
    iops: f64,
    /// Data without metadata, in 10^6 bytes.
    mb_per_s: f64,
    latency_us: Latency,
}

#[derive(Debug, Serialize)]
struct Failure {
    status: String,
    count: u64,
}

/// Processor time of the target within the measured window.
pub(crate) struct TargetCpu {
    pub(crate) used_ns: u64,
}

impl Report {
    /// From what all threads recorded over `seconds`.
    pub(crate) fn new(
        args: &RunArguments,
        plan: &Plan,
        recorder: &Recorder,
        own_cpu_ns: u64,
        target: Option<TargetCpu>,
    ) -> Result<Self> {
        let seconds = args.seconds.0.as_secs_f64();
        let mut all = recorder.reads.clone();
        all.add(&recorder.writes)?;
        let per_io = |ns: u64| if all.is_empty() { 0.0 } else { ns as f64 / 1000.0 / all.len() as f64 };
        let direction = |histogram: &Histogram<u64>| Direction::new(histogram, seconds, plan.io_data_bytes);
        let failure =
            |(failure, count): &(lane::Failure, u64)| Failure { status: failure.to_string(), count: *count };
        let (transport, unit) = match args.transport {
            Transport::Nvme => ("nvme", args.nsid),
            Transport::Iscsi => ("iscsi", args.lun.into()),
        };
        Ok(Self {
            transport,
            target: args.target.to_string(),
            subsystem: args.subsystem.clone(),
            unit,
            namespace: Namespace {
                blocks: plan.format.blocks,
                block_size_bytes: plan.format.block_size,
                metadata_size_bytes: plan.format.metadata_size,
                pi_type: plan.format.pi_type,
            },
            depth: args.depth,
            queues: args.queues,
            threads: args.threads,
            block_size_bytes: plan.io_data_bytes,
            read_percent: plan.read_percent,
            pi: match plan.pi {
                PiMode::Off => "off",
                PiMode::Pract => "pract",
                PiMode::EndToEnd => "end-to-end",
            },
            header_digest: args.header_digest,
            data_digest: args.data_digest,
            seconds,
            reads: direction(&recorder.reads),
            writes: direction(&recorder.writes),
            total: direction(&all),
            own_cpu_us_per_io: per_io(own_cpu_ns),
            target_cpu_us_per_io: target.as_ref().map(|target| per_io(target.used_ns)),
            target_cpu_percent: target.map(|target| target.used_ns as f64 / 1e7 / seconds),
            failures: recorder.failures.iter().map(failure).collect(),
            bad_blocks: recorder.bad_blocks,
            first_bad_block: recorder.first_bad_block,
        })
    }

    /// Whether every command succeeded, every verified block was right, and there was at least one command.
    pub(crate) fn is_clean(&self) -> bool {
        self.failures.is_empty() && self.bad_blocks == 0 && self.total.operations > 0
    }

    /// As text or JSON, with a final newline.
    pub(crate) fn render(&self, format: Format) -> Result<String> {
        match format {
            Format::Json => Ok(serde_json::to_string_pretty(self).context("writing JSON")? + "\n"),
            Format::Text => self.text().context("writing the report"),
        }
    }

    fn text(&self) -> Result<String, std::fmt::Error> {
        let mut out = String::new();
        let on = |on: bool| if on { "on" } else { "off" };
        writeln!(
            out,
            "{} {} {} {}: {} blocks of {} + {} bytes, PI type {}",
            self.target,
            self.subsystem,
            if self.transport == "nvme" { "namespace" } else { "logical unit" },
            self.unit,
            self.namespace.blocks,
            self.namespace.block_size_bytes,
            self.namespace.metadata_size_bytes,
            self.namespace.pi_type,
        )?;
        writeln!(
            out,
            "{} bytes, {} % reads, depth {} on {} queues ({} threads), PI {}, header digest {}, data digest {}, {} s",
            self.block_size_bytes,
            self.read_percent,
            self.depth,
            self.queues,
            self.threads,
            self.pi,
            on(self.header_digest),
            on(self.data_digest),
            self.seconds,
        )?;
        writeln!(
            out,
            "\n{:<8}{:>12}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "", "IOPS", "MB/s", "min µs", "mean", "p50", "p95", "p99", "p99.9", "max"
        )?;
        for (name, direction) in [("reads", &self.reads), ("writes", &self.writes), ("total", &self.total)] {
            if direction.operations == 0 && name != "total" {
                continue;
            }
            let Latency { min, mean, p50, p95, p99, p99_9, max } = direction.latency_us;
            write!(out, "{name:<8}{:>12.0}{:>12.1}", direction.iops, direction.mb_per_s)?;
            for value in [min, mean, p50, p95, p99, p99_9, max] {
                write!(out, "{value:>10.1}")?;
            }
            writeln!(out)?;
        }
        write!(out, "\nprocessor time per I/O: {:.2} µs here", self.own_cpu_us_per_io)?;
        if let Some((per_io, percent)) = self.target_cpu_us_per_io.zip(self.target_cpu_percent) {
            write!(out, ", {per_io:.2} µs in the target ({percent:.0} % of one core)")?;
        }
        writeln!(out)?;
        for failure in &self.failures {
            writeln!(out, "FAILED {} commands with {}", failure.count, failure.status)?;
        }
        if let Some(lba) = self.first_bad_block {
            writeln!(out, "WRONG DATA in {} commands, the first at LBA {lba}", self.bad_blocks)?;
        }
        Ok(out)
    }
}

impl Direction {
    fn new(latencies: &Histogram<u64>, seconds: f64, io_bytes: usize) -> Self {
        let iops = latencies.len() as f64 / seconds;
        Self {
            operations: latencies.len(),
            iops,
            mb_per_s: iops * io_bytes as f64 / 1e6,
            latency_us: Latency::of(latencies),
        }
    }
}
