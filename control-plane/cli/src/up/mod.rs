//! `holdfast up`: a complete appliance in the foreground.
//!
//! It plays the service manager's part for both planes with systemd's own protocols (sd_listen_fds(3),
//! sd_notify(3)), so that the planes need not know whether `up` or systemd runs them. What must outlive a
//! crash lives here: the listening sockets, so that no host is refused while the target restarts, and the
//! memory of memory pools. Everything else is the planes' own business, so `up` stays small enough not to
//! crash itself.

mod address;
mod args;
mod backoff;
mod child;
mod cores;
mod error;
mod fdname;
mod fdstore;
mod leftover;
mod listen;
mod notify;
mod programs;
mod relay;
mod state_dir;
mod supervisor;
mod unit;

use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::process::{Resource, Rlimit};

pub(crate) use args::UpArgs;
pub(crate) use error::UpError;

use args::Plan;
use fdname::FdName;
use leftover::RunRecord;
use listen::Listener;
use programs::Programs;
use state_dir::StateDir;
use supervisor::{Lifeline, Supervisor};
use unit::Unit;

/// Runs the appliance until SIGTERM or SIGINT.
///
/// # Errors
/// Wrong usage, a start that failed, or a child that had to be killed at the end.
pub(crate) fn run(args: UpArgs) -> Result<(), UpError> {
    let allowed = rustix::thread::sched_getaffinity(None).map_err(|error| UpError::Affinity(error.into()))?;
    let plan = args.plan(&allowed)?;
    let programs = Programs::find()?;
    log_to_stderr();
    // Sockets, database and keys are for this user alone; the children inherit it.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    raise_file_limit();
    let state = StateDir::open(&plan.state)?;
    let record = RunRecord::new(state.path());
    record.wait_for_leftovers()?;
    // Until here nothing needs an orderly end, and a signal may simply end us.
    let signals = supervisor::stop_signals()?;

    let bind = |flag: &'static str, addresses: &[SocketAddr]| {
        addresses.iter().map(|&address| Listener::bind(flag, address)).collect::<Result<Vec<_>, _>>()
    };
    let portals = Portals { nvme: bind("--nvme", &plan.nvme)?, iscsi: bind("--iscsi", &plan.iscsi)? };
    let api = Listener::bind("--api", plan.api)?;
    let ready_line = ready_line(api.address(), &addresses(&portals.nvme), &addresses(&portals.iscsi));
    // Lives until this function returns, which is after both children have ended.
    let lifeline = Lifeline::new()?;
    let (target, control) = units(&plan, &programs, &state, &lifeline, (&portals, &api))?;
    Supervisor { target, control, signals, record, ready_line }.run()
}

/// Listening sockets of the front ends.
struct Portals {
    nvme: Vec<Listener>,
    iscsi: Vec<Listener>,
}

fn addresses(listeners: &[Listener]) -> Vec<SocketAddr> {
    listeners.iter().map(Listener::address).collect()
}

/// Both units with their listening sockets and the lifeline.
fn units(
    plan: &Plan,
    programs: &Programs,
    state: &StateDir,
    lifeline: &Lifeline,
    (portals, api): (&Portals, &Listener),
) -> Result<(Unit, Unit), UpError> {
    let now = Instant::now();
    let mut fixed = Vec::new();
    for (protocol, listeners) in [("nvme", &portals.nvme), ("iscsi", &portals.iscsi)] {
        for (index, listener) in listeners.iter().enumerate() {
            fixed.push(named(&format!("{protocol}-{index}"), listener)?);
        }
    }
    fixed.push(lifeline.for_child()?);
    let target = Unit::new(programs.target(plan, state)?, fixed, now)?;
    let fixed = vec![named("api", api)?, lifeline.for_child()?];
    let control = Unit::new(programs.control_plane(plan, state), fixed, now)?;
    Ok((target, control))
}

fn named(name: &str, listener: &Listener) -> Result<(FdName, OwnedFd), UpError> {
    let copy = listener.as_fd().try_clone_to_owned().map_err(UpError::system("cannot copy a descriptor"))?;
    Ok((FdName::parse(name)?, copy))
}

/// `ready api=http://127.0.0.1:8080 nvme=127.0.0.1:4420 iscsi=127.0.0.1:3260`; a front end that is off is left out.
fn ready_line(api: SocketAddr, nvme: &[SocketAddr], iscsi: &[SocketAddr]) -> String {
    let mut line = format!("ready api=http://{api}");
    for (protocol, portals) in [("nvme", nvme), ("iscsi", iscsi)] {
        if !portals.is_empty() {
            let portals: Vec<String> = portals.iter().map(SocketAddr::to_string).collect();
            line.push_str(&format!(" {protocol}={}", portals.join(",")));
        }
    }
    line
}

/// Lines on standard error; HOLDFAST_LOG sets the level.
fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("HOLDFAST_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        // A line that cannot be written is lost; the appliance goes on when nobody reads its log any more.
        .log_internal_errors(false)
        .init();
}

/// Every connection of every host is an open file of the target, which inherits our limit. The usual soft
/// limit of 1024 is there for programs that use select(2); no part of this one does.
fn raise_file_limit() {
    let limit = rustix::process::getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = rustix::process::setrlimit(Resource::Nofile, raised) {
        tracing::warn!("cannot raise the limit on open files: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_line_names_real_ports_and_leaves_out_what_is_off() {
        let api = "[::1]:8080".parse().unwrap();
        let portals = ["127.0.0.1:4420".parse().unwrap(), "[::1]:4420".parse().unwrap()];
        let iscsi = ["127.0.0.1:3260".parse().unwrap()];
        assert_eq!(ready_line(api, &[], &[]), "ready api=http://[::1]:8080");
        let both = "ready api=http://[::1]:8080 nvme=127.0.0.1:4420,[::1]:4420 iscsi=127.0.0.1:3260";
        assert_eq!(ready_line(api, &portals, &iscsi), both);
        assert_eq!(ready_line(api, &[], &iscsi), "ready api=http://[::1]:8080 iscsi=127.0.0.1:3260");
    }
}
