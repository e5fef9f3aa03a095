//! `holdfast`: runs an appliance (`holdfast up`) and is a client of its REST API (everything else).
//!
//! | module | what it is |
//! |---|---|
//! | `up` | the supervisor of both planes |
//! | `commands` | one file for each resource of the API |
//! | `client` | HTTP, pages, problems, event streams |
//! | `output` | tables and JSON |
//!
//! Exit status: 0 done; 1 refused, failed or not reachable, with the reason on standard error; 2 wrong usage.
//! (`holdfast pool check`: 1 damage was found; 2 wrong usage, or no pool that can be read.)

mod client;
mod commands;
mod output;
mod size;
mod up;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use commands::{
    ClientOptions, DrillCommand, EventCommand, GrantCommand, Group, HostCommand, IncidentCommand, Leaf,
    NamespaceCommand, PoolCommand, SubsystemCommand, VolumeCommand,
};
use up::{UpArgs, UpError};

/// Block storage over NVMe/TCP that checks protection information and says whose fault an error is
#[derive(Debug, Parser)]
#[command(name = "holdfast", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    options: ClientOptions,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
A volume for one host, from nothing:
  holdfast up                  # stays in the foreground; go on in another terminal
  holdfast volume create v1 --size 512MiB
  holdfast subsystem create s1
  holdfast namespace add s1 v1
  holdfast host create web1 --nqn nqn.2014-08.org.nvmexpress:uuid:…
  holdfast grant set s1 web1
  holdfast host counters web1

Every client command takes --api URL (or HOLDFAST_API in the environment) and --output json.
Exit status: 0 done; 1 refused, failed or not reachable; 2 wrong usage.";

#[derive(Debug, Subcommand)]
enum Command {
    Up(UpArgs),
    /// Pools: where volumes are stored
    Pool(Group<PoolCommand>),
    /// Volumes: thin block devices with protection information
    Volume(Group<VolumeCommand>),
    /// Subsystems: exports under one NQN
    Subsystem(Group<SubsystemCommand>),
    /// Namespaces: the volumes of a subsystem
    Namespace(Group<NamespaceCommand>),
    /// Hosts: who may connect, who did, and what was counted for each
    Host(Group<HostCommand>),
    /// Grants: which host may use which subsystem, and how
    Grant(Group<GrantCommand>),
    /// Incidents: integrity failures with their evidence and verdict
    Incident(Group<IncidentCommand>),
    /// Faults injected on purpose
    Drill(Group<DrillCommand>),
    /// Events as they happen
    Event(Group<EventCommand>),
    /// Show a summary of the appliance
    Status(Leaf),
    /// Print the OpenAPI document of the REST API
    Openapi(Leaf),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let options = cli.options;
    let done = match cli.command {
        Command::Up(args) => return up(&options, args),
        Command::Pool(group) => group.run(options),
        Command::Volume(group) => group.run(options),
        Command::Subsystem(group) => group.run(options),
        Command::Namespace(group) => group.run(options),
        Command::Host(group) => group.run(options),
        Command::Grant(group) => group.run(options),
        Command::Incident(group) => group.run(options),
        Command::Drill(group) => group.run(options),
        Command::Event(group) => group.run(options),
        Command::Status(leaf) => leaf.run(options, commands::status),
        Command::Openapi(leaf) => leaf.run(options, commands::openapi),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read our output has seen enough: `holdfast incident list | head`.
        Err(error) if error.is_closed_output() => ExitCode::SUCCESS,
        Err(error) => fail("holdfast", &error.to_string(), error.exit_status()),
    }
}

fn up(options: &ClientOptions, args: UpArgs) -> ExitCode {
    let done = match options.first_given() {
        Some(flag) => Err(UpError::ClientOption(flag)),
        None => up::run(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail("holdfast up", &error.to_string(), error.exit_status()),
    }
}

/// Each line of the message on standard error with the program in front.
fn fail(program: &str, message: &str, status: u8) -> ExitCode {
    let mut err = std::io::stderr().lock();
    for line in message.lines() {
        // Nobody to tell if standard error is closed; the status says it all the same.
        let _ = writeln!(err, "{program}: {line}");
    }
    ExitCode::from(status)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn command_line_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_examples() {
        fn check(command: &clap::Command, path: &str) {
            if command.get_subcommands().next().is_none() {
                let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(text.contains(path), "no example in the help of `{path}`");
            }
            for sub in command.get_subcommands() {
                check(sub, &format!("{path} {}", sub.get_name()));
            }
        }
        check(&Cli::command(), "holdfast");
    }
}
