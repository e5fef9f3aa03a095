//! `holdfast-pool-load`: what a pool in a file does without a network before it: block layer, store and reactor in one thread,
//! with protection information made, stored and checked. `tests/bench/disk` holds it against fio, which has no network either.

#![forbid(unsafe_code)]

mod load;
mod place;

use std::path::PathBuf;

use anyhow::Result;
use clap::{Parser, Subcommand, ValueEnum};
use holdfast_reactor::{Inboxes, Reactor, ReactorConfig};

use load::{Load, Pattern, Work};
use place::{Place, Volume};

/// Load on a pool in a file without a network before it.
#[derive(Debug, Parser)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// The pool's file
    #[arg(long, global = true, default_value = "pool")]
    file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a pool with two volumes, one for each pattern, each as large as the pool; every slot is written once
    Make {
        /// Length of the file in bytes
        #[arg(long)]
        bytes: u64,
    },
    /// Put load on it and print what it did as JSON
    Run {
        /// What to do
        #[arg(long)]
        operation: Operation,
        /// Where: each pattern has its own volume
        #[arg(long)]
        pattern: Pattern,
        /// Bytes of each command
        #[arg(long)]
        block_size: u64,
        /// Commands under way at once
        #[arg(long, default_value_t = 1)]
        depth: u32,
        /// Bytes of the volume that are used
        #[arg(long)]
        span: u64,
        /// Measured seconds
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
        /// Seconds before these
        #[arg(long, default_value_t = 1.0)]
        warmup: f64,
        /// A Flush after each write
        #[arg(long)]
        flush: bool,
        /// Write the span once, in a row, instead of measuring
        #[arg(long)]
        fill: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Operation {
    Read,
    Write,
}

fn main() -> Result<()> {
    let args = Args::parse();
    match args.command {
        Command::Make { bytes } => make(&args.file, bytes),
        Command::Run { operation, pattern, block_size, depth, span, seconds, warmup, flush, fill } => {
            let work = Work {
                write: operation == Operation::Write,
                pattern: if fill { Pattern::Sequential } else { pattern },
                command_bytes: block_size,
                depth,
                span_bytes: span,
                flush,
                once: fill,
                warmup_us: microseconds(warmup),
                measured_us: microseconds(seconds),
            };
            let volume = match pattern {
                Pattern::Random => Volume::Random,
                Pattern::Sequential => Volume::Sequential,
            };
            let mut place = Place::open(&args.file)?;
            let done = run(&mut place, volume, work)?;
            let iops = done.commands_per_second(seconds);
            println!("{}", serde_json::json!({ "iops": iops, "capacity_bytes": place.capacity_bytes() }));
            Ok(())
        }
    }
}

fn make(file: &std::path::Path, bytes: u64) -> Result<()> {
    let mut place = Place::make(file, bytes)?;
    let span_bytes = place.capacity_bytes() >> 20 << 20;
    place.add_volume(Volume::First, span_bytes)?;
    run(&mut place, Volume::First, Work::filling(span_bytes))?;
    let mut place = Place::open(file)?;
    place.remove_volume(Volume::First)?;
    for volume in [Volume::Random, Volume::Sequential] {
        place.add_volume(volume, span_bytes)?;
    }
    place.close()
}

fn run(place: &mut Place, volume: Volume, work: Work) -> Result<load::Done> {
    let reactor = Reactor::<()>::new(ReactorConfig::default(), Inboxes::new()?)?;
    let mut load = Load::new(place.take()?, volume, work)?;
    reactor.run(&mut load)?;
    load.end()
}

fn microseconds(seconds: f64) -> u64 {
    std::time::Duration::from_secs_f64(seconds).as_micros().try_into().unwrap_or(u64::MAX)
}
