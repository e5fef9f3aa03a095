//! The bare socket loop: what this machine can do when there is no storage protocol at all.
//!
//! A server that answers requests of NVMe/TCP's sizes with a copy from, or to, a random place of a large store, and
//! a client that keeps requests in flight. Sizes are those of the same I/O: a command capsule is 72 bytes (with
//! its data behind it for a write of any length), the answer to a read is a data header of 24 bytes, the data and a
//! response of 24 bytes, the answer to a write a response of 24 bytes. Nothing is parsed, checked or counted beyond that,
//! so a target's figures divided by these say what its protocol and its checks cost. Up to sixteen answers leave in
//! one send.
#![forbid(unsafe_code)]

mod lane;
mod load;
mod report;
mod serve;
mod wire;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use holdfast_testkit::load::Mix;
use rustix::thread::{CpuSet, sched_setaffinity};

const EXAMPLES: &str = "\
Example, on two cores:
  holdfast-bare-loop serve --listen 127.0.0.1:7000 --core 0 &
  holdfast-bare-loop load --target 127.0.0.1:7000 --core 1 --depth 32 --mix read --server-pid $!";

/// The bare socket loop that storage targets are compared with.
#[derive(Debug, Parser)]
#[command(name = "holdfast-bare-loop", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Answer requests until ended by a signal
    Serve(ServeArguments),
    /// Keep requests in flight and report
    Load(LoadArguments),
}

#[derive(Debug, Args)]
struct ServeArguments {
    /// Where to listen; port 0 picks one, and the line `ready ADDR:PORT` says which
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Run on this processor alone
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// The store's size in MiB
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(4..=65_536))]
    store: u32,
    /// Answers in one send at most
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    coalesce: u16,
}

#[derive(Debug, Args)]
struct LoadArguments {
    /// The server
    #[arg(long, value_name = "ADDR:PORT")]
    target: SocketAddr,
    /// Run on this processor alone
    #[arg(long, value_name = "N")]
    core: Option<usize>,
    /// Requests in flight on each connection
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    depth: u16,
    /// Connections
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    connections: u16,
    /// Data of one request: bytes, or with a suffix KiB or MiB, at most 1 MiB
    #[arg(long, value_name = "SIZE", default_value = "4KiB")]
    size: Size,
    /// read, write, or percentages such as 70/30 (reads first)
    #[arg(long, value_name = "MIX", default_value = "read")]
    mix: Mix,
    /// Measured time in seconds; fractions are allowed
    #[arg(long, value_name = "SECONDS", default_value = "3")]
    seconds: Seconds,
    /// Time under load before measuring, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "1")]
    warmup: Seconds,
    /// Process of the server, to report its processor time
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A size in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Size(usize);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let suffix = [("KiB", 10), ("MiB", 20)];
        let suffix = suffix.iter().find_map(|(suffix, shift)| Some((text.strip_suffix(suffix)?, *shift)));
        let (digits, shift) = suffix.unwrap_or((text, 0));
        let size = digits.parse::<usize>().ok().and_then(|count| count.checked_mul(1 << shift));
        size.filter(|size| (1..=wire::DATA_LEN_MAX).contains(size))
            .map(Self)
            .ok_or_else(|| "expected up to 1048576 bytes, or a number with KiB or MiB".into())
    }
}

/// A time in seconds, with fractions.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Seconds(Duration);

impl FromStr for Seconds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=3600.0).contains(seconds));
        let seconds = seconds.ok_or("expected seconds, from 0 to 3600")?;
        Ok(Self(Duration::from_secs_f64(seconds)))
    }
}

/// How to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.task {
        Task::Serve(serve) => pin(serve.core).and_then(|()| serve::serve(serve)),
        Task::Load(load) => pin(load.core).and_then(|()| load::load(load)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast-bare-loop: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn pin(core: Option<usize>) -> Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut set = CpuSet::new();
    anyhow::ensure!(core < CpuSet::MAX_CPU, "there is no processor {core}");
    set.set(core);
    sched_setaffinity(None, &set).with_context(|| format!("running on processor {core}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_what_they_say() {
        assert_eq!("128KiB".parse(), Ok(Size(131_072)));
        assert!("2MiB".parse::<Size>().is_err() && "0".parse::<Size>().is_err());
        assert_eq!("70/30".parse(), Ok(Mix(70)));
        assert!("70/31".parse::<Mix>().is_err());
        assert_eq!("0.5".parse(), Ok(Seconds(Duration::from_millis(500))));
        assert!("-1".parse::<Seconds>().is_err() && "NaN".parse::<Seconds>().is_err());
    }
}
