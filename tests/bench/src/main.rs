//! The bare socket loop: what this machine can do when there is no storage protocol at all.
//!
//! A server that answers requests of NVMe/TCP's sizes with a copy from, or to, a random place of a large store, and
//! a client that keeps requests in flight. Sizes are those of a 4 KiB I/O: a command capsule is 72 bytes (with
//! its data behind it for a write), the answer to a read is a data header of 24 bytes, 4096 bytes and a response
//! of 24 bytes, the answer to a write a response of 24 bytes. Nothing is parsed, checked or counted beyond that,
//! so a target's figures divided by these say what its protocol and its checks cost. Up to sixteen answers leave in
//! one send.
#![forbid(unsafe_code)]

mod load;
mod serve;

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Parser, Subcommand, ValueEnum};
use rustix::thread::{CpuSet, sched_setaffinity};

/// Bytes of data in each request or answer.
const DATA_LEN: usize = 4096;
/// A command capsule without data.
const REQUEST_LEN: usize = 72;
/// A data header, and a response.
const SHORT_LEN: usize = 24;
/// A request to write, with its data.
const WRITE_LEN: usize = REQUEST_LEN + DATA_LEN;
/// The answer to a read: data header, data, response.
const READ_ANSWER_LEN: usize = SHORT_LEN + DATA_LEN + SHORT_LEN;
/// The first byte of a request.
const READ_MARK: u8 = 0x52;
const WRITE_MARK: u8 = 0x57;

const EXAMPLES: &str = "\
Example, on two cores:
  holdfast-bare-loop serve --listen 127.0.0.1:7000 --core 0 &
  holdfast-bare-loop load --target 127.0.0.1:7000 --core 1 --depth 32 --mode read --server-pid $!";

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
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..=65_536))]
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
    /// Requests in flight
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u16).range(1..=1024))]
    depth: u16,
    /// What is asked for
    #[arg(long, value_enum, default_value_t = Mode::Read)]
    mode: Mode,
    /// Measured time in seconds
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=3600))]
    seconds: u32,
    /// Time under load before measuring, in seconds
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=3600))]
    warmup: u32,
    /// Process of the server, to report its processor time
    #[arg(long, value_name = "PID")]
    server_pid: Option<u32>,
    /// How to report
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// 72 bytes there, 4144 back.
    Read,
    /// 4168 bytes there, 24 back.
    Write,
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
