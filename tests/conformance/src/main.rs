//! `holdfast-conformance`: runs the checks for people.

use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::Parser;
use holdfast_conformance::{Case, Lab, Start, cases, run};
use holdfast_e2e::Backing;

/// Checks a Holdfast target against the NVMe specifications, clause by clause, over TCP.
///
/// Without more arguments it starts an appliance of its own from the programs beside this one (build them with
/// `cargo build`), runs every check on it and ends it again. After each check it demands that an uninvolved host still
/// works and that the target is the same process. Exit status: 0 when all passed, 1 otherwise.
#[derive(Debug, Parser)]
#[command(
    version,
    after_help = "\
Examples:
  holdfast-conformance --list
  holdfast-conformance --filter 'transport.*' --filter fabrics.connect.cattr
  holdfast-conformance --pool file
  holdfast-conformance --nvme 127.0.0.1:4420 --api http://127.0.0.1:8080 --json

On an appliance that runs already the checks make volumes, subsystems and hosts whose names begin with `c` and this
process's id, in the pool `ram` (up to 2 GiB: start it with --ram-pool 4GiB), and leave them there."
)]
struct Args {
    /// Say which checks there are, with their clauses, and run none
    #[arg(long)]
    list: bool,
    /// Only checks whose id this means; `*` stands for any characters. May be given more than once
    #[arg(long, value_name = "GLOB")]
    filter: Vec<String>,
    /// NVMe/TCP portal of an appliance that runs already
    #[arg(long, value_name = "ADDR:PORT", requires = "api")]
    nvme: Option<String>,
    /// Its API
    #[arg(long, value_name = "URL", requires = "nvme")]
    api: Option<String>,
    /// What the volumes of its own appliance lie in: `memory`, or a `file` below build/
    #[arg(long, value_name = "KIND", default_value = "memory", conflicts_with = "nvme")]
    pool: Backing,
    /// Print one JSON object instead of lines: every check with its clause, time and, where it failed, why
    #[arg(long)]
    json: bool,
}

fn main() -> ExitCode {
    match perform(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("holdfast-conformance: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(args: &Args) -> Result<bool> {
    let meant =
        |case: &&Case| args.filter.is_empty() || args.filter.iter().any(|glob| case.is_meant_by(glob));
    let chosen: Vec<&Case> = cases().filter(meant).collect();
    ensure!(!chosen.is_empty(), "no check is meant by {}", args.filter.join(", "));
    if args.list {
        let list: String = chosen.iter().map(|case| format!("{:<48} {}\n", case.id, case.clause)).collect();
        return match std::io::stdout().write_all(list.as_bytes()) {
            // Whoever reads has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(true),
            written => Ok(written.map(|()| true)?),
        };
    }
    let mut lab = match (&args.api, &args.nvme) {
        (Some(api), Some(nvme)) => Lab::attach(api, nvme)?,
        _ => Lab::start("conformance", Start { backing: Some(args.pool), ..Start::default() })?,
    };
    let report = run(&mut lab, chosen, |outcome| {
        if !args.json {
            println!("{outcome}");
        }
    });
    lab.end()?;
    let failed = report.failures().count();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{} checks, {failed} failed", report.outcomes.len());
    }
    Ok(failed == 0)
}
