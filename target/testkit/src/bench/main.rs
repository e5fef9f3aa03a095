//! `holdfast-bench`: a load generator for NVMe/TCP and iSCSI targets that speaks protection information.
//!
//! `run` keeps a fixed number of commands in flight on each connection and reports throughput, latency and the
//! processor time of both sides; `idle` holds many quiet hosts and reports what they cost the target. One
//! thread drives all connections unless told otherwise: non-blocking sockets, epoll, one send for all that is
//! ready, and no allocation for each I/O once warm.
#![forbid(unsafe_code)]

mod args;
mod engine;
mod idle;
mod inbox;
mod iscsi;
mod lane;
mod nvme;
mod process;
mod report;
mod run;
mod slots;
mod transmit;
mod workload;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::{Arguments, Task};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match &arguments.task {
        Task::Run(run) => run::run(run),
        Task::Idle(idle) => idle::idle(idle),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("holdfast-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}
