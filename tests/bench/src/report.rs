//! What a run has measured, for people and for programs.

use hdrhistogram::Histogram;
use holdfast_testkit::load::Latency;
use serde::Serialize;

use crate::LoadArguments;

/// A run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    read_percent: u8,
    size_bytes: usize,
    depth: u16,
    connections: u16,
    seconds: f64,
    operations: u64,
    iops: f64,
    mb_per_s: f64,
    latency_us: Latency,
    client_cpu_us_per_io: f64,
    server_cpu_us_per_io: Option<f64>,
    /// Share of the measured time in which the server's thread ran, in percent.
    server_cpu_percent: Option<f64>,
}

impl Report {
    /// From latencies in nanoseconds and the processor time of both sides over `seconds`.
    pub(crate) fn new(
        args: &LoadArguments,
        latencies: &Histogram<u64>,
        seconds: f64,
        own_ns: u64,
        server_ns: Option<u64>,
    ) -> Self {
        let per_io =
            |ns: u64| if latencies.is_empty() { 0.0 } else { ns as f64 / 1000.0 / latencies.len() as f64 };
        let iops = latencies.len() as f64 / seconds;
        Self {
            read_percent: args.mix.0,
            size_bytes: args.size.0,
            depth: args.depth,
            connections: args.connections,
            seconds,
            operations: latencies.len(),
            iops,
            mb_per_s: iops * args.size.0 as f64 / 1e6,
            latency_us: Latency::of(latencies),
            client_cpu_us_per_io: per_io(own_ns),
            server_cpu_us_per_io: server_ns.map(per_io),
            server_cpu_percent: server_ns.map(|ns| ns as f64 / 1e7 / seconds),
        }
    }

    /// Prints it for people.
    pub(crate) fn print(&self) {
        let Latency { min, mean, p50, p95, p99, p99_9, max } = self.latency_us;
        println!(
            "{} bytes, {} % reads, depth {} on {} connections: {:.0} IOPS, {:.1} MB/s",
            self.size_bytes, self.read_percent, self.depth, self.connections, self.iops, self.mb_per_s
        );
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
