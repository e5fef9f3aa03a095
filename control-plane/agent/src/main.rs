//! `holdfast-agent`: on an initiator host, reads what the kernel does about protection information and stable pages,
//! says which integrity policy that is and which holes it leaves, and reports it to the appliance.
//!
//! | module | what it is |
//! |---|---|
//! | `root` | the one way to files: below a folder that tests replace |
//! | `facts` | what `/sys` and `/proc` say, unknown where they say nothing |
//! | `decide` | from facts to a policy and its holes |
//! | `report` | the conclusion as the appliance's REST API takes it |
//! | `show` | the conclusion for people |
//! | `run` | reports at the start, whenever devices come, go or change, and from time to time |
//! | `self_test` | writes with faulty tuples on purpose, and where they are caught |
//! | `ioctl` | NVMe and SCSI pass-through: the room with `unsafe` |
//!
//! Exit status: 0 done; 1 not readable, refused, not reachable, or a fault was not caught, with the reason on standard error; 2 wrong usage.

mod decide;
mod facts;
#[allow(unsafe_code, reason = "the room for it")]
mod ioctl;
mod report;
mod root;
mod run;
mod self_test;
mod show;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand, ValueEnum};

use root::Root;
use run::{RunArgs, RunError};
use self_test::{SelfTestArgs, SelfTestError};

const EXAMPLES: &str = "\
Look at this host:
  holdfast-agent show
  holdfast-agent show --output json

Report it to an appliance that knows it as db1, now and whenever something changes:
  holdfast-agent run --api http://192.0.2.10:8080 --host db1
  holdfast-agent run --api http://192.0.2.10:8080 --host db1 --token-file /etc/holdfast/token --once

See where bad tuples are caught (block 1000 is written, and put back afterwards):
  holdfast-agent self-test /dev/nvme0n1 --scratch 1000 --may-be-lost
  holdfast-agent self-test /dev/sdb --scratch 1000 --may-be-lost --output json

What cannot be read is said to be unknown, never guessed.
Exit status: 0 done; 1 not readable, refused, not reachable, or a fault was not caught; 2 wrong usage.";

/// Says how this host keeps data and protection information together on its way to a Holdfast appliance
#[derive(Debug, Parser)]
#[command(name = "holdfast-agent", version, arg_required_else_help = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print the policy of every path device, the evidence for it, and its holes with what to do
    Show(ShowArgs),
    /// Report to the appliance: at the start, when devices come, go or change, and from time to time
    Run(RunArgs),
    /// Write a scratch block with a good tuple, a bad guard and a bad reference tag, and say where each was caught
    SelfTest(SelfTestArgs),
}

#[derive(Debug, Args)]
struct ShowArgs {
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    output: Format,
    /// Read below this folder instead of `/`
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Text,
    /// For programs; `show` prints the report as the appliance's API takes it
    Json,
}

/// Why a command did not do what it should.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Show(args) => show(&args),
        Command::Run(args) => run::run(&args).map_err(Failure::from),
        Command::SelfTest(args) => self_test(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast-agent: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(args: &ShowArgs) -> Result<(), Failure> {
    let conclusion = decide::conclude(facts::read(&Root::new(&args.root)).map_err(RunError::from)?);
    let text = match args.output {
        Format::Text => show::text(&conclusion),
        Format::Json => format!("{:#}\n", report::body(&conclusion)),
    };
    print(&text)
}

fn self_test(args: &SelfTestArgs) -> Result<(), Failure> {
    let (text, good) = self_test::run(args)?;
    print(&text)?;
    if good { Ok(()) } else { Err(SelfTestError::Slipped.into()) }
}

fn print(text: &str) -> Result<(), Failure> {
    std::io::stdout().lock().write_all(text.as_bytes()).map_err(|error| RunError::Output(error).into())
}
