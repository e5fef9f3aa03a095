//! Reports to the appliance at the start, whenever what was read changes (a device came or went, a knob was turned), and
//! from time to time so that the appliance knows the report to be fresh. What fails is tried again.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::decide::conclude;
use crate::facts::{self, Facts, NoKernel};
use crate::report;
use crate::root::Root;

/// How long the appliance may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause before a report that failed is sent again.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// How often a pause looks whether it shall end.
const STOP_LOOK: Duration = Duration::from_millis(100);
/// Longest part of a refusal that is shown, in characters.
const REFUSAL_CHARS_MAX: usize = 400;

/// Where to report to, and when.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// The appliance's API
    #[arg(long, value_name = "URL", env = "HOLDFAST_API", default_value = "http://127.0.0.1:8080")]
    api: String,
    /// The name under which the appliance knows this host
    #[arg(long, value_name = "NAME")]
    host: String,
    /// File with this host's token, for an appliance that asks for one
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Longest time between two reports, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    every: u64,
    /// How often devices are looked at, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    look: u64,
    /// Report once and end
    #[arg(long)]
    once: bool,
    /// Read below this folder instead of `/`
    #[arg(long, value_name = "DIR", default_value = "/")]
    root: PathBuf,
}

/// Why the agent ends, or why a report did not get through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Not a host that can be read.
    #[error(transparent)]
    NoKernel(#[from] NoKernel),
    /// Standard output is gone.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// The signals that end it cannot be taken.
    #[error("cannot take signals: {0}")]
    Signals(io::Error),
    /// The token cannot be read.
    #[error("cannot read the token in {file}: {error}")]
    Token {
        /// Where it should be.
        file: String,
        /// Why not.
        error: io::Error,
    },
    /// Nobody answers.
    #[error("no answer from {url} ({reason}); is it the appliance's API?")]
    Unreachable {
        /// Where.
        url: String,
        /// Why not.
        reason: String,
    },
    /// The appliance refused.
    #[error("{url} refused the report with {status}: {detail}")]
    Refused {
        /// Where.
        url: String,
        /// HTTP status.
        status: u16,
        /// What it said.
        detail: String,
    },
}

/// Reports until a signal ends it.
pub(crate) fn run(args: &RunArgs) -> Result<(), RunError> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::flag::register(signal, Arc::clone(&stop)).map_err(RunError::Signals)?;
    }
    let root = Root::new(&args.root);
    let appliance = Appliance::new(args)?;
    let mut told: Option<(Facts, Instant)> = None;
    while !stop.load(Ordering::Relaxed) {
        let facts = facts::read(&root)?;
        let due = told.as_ref().is_none_or(|(before, at)| {
            changed(before, &facts) || at.elapsed() >= Duration::from_secs(args.every)
        });
        let mut pause = Duration::from_secs(args.look);
        if due {
            match appliance.put(&report::body(&conclude(facts.clone()))) {
                Ok(()) => told = Some((facts, Instant::now())),
                Err(error) if args.once => return Err(error),
                Err(error) => {
                    eprintln!("holdfast-agent: {error}; trying again");
                    pause = RETRY_PAUSE;
                }
            }
        }
        if args.once {
            break;
        }
        wait(pause, &stop);
    }
    Ok(())
}

/// Whether something else than a patched kernel's counters changed.
fn changed(before: &Facts, now: &Facts) -> bool {
    let without_stats = |facts: &Facts| {
        let mut facts = facts.clone();
        for device in &mut facts.devices {
            if let Some(integrity) = &mut device.integrity {
                integrity.stats = None;
            }
        }
        facts
    };
    without_stats(before) != without_stats(now)
}

fn wait(pause: Duration, stop: &AtomicBool) {
    let until = Instant::now() + pause;
    while !stop.load(Ordering::Relaxed) && Instant::now() < until {
        std::thread::sleep(STOP_LOOK.min(until.saturating_duration_since(Instant::now())));
    }
}

/// The other end.
struct Appliance {
    agent: ureq::Agent,
    url: String,
    token: Option<String>,
}

impl Appliance {
    fn new(args: &RunArgs) -> Result<Self, RunError> {
        let token = args.token_file.as_ref().map(|file| {
            let text = std::fs::read_to_string(file);
            text.map_err(|error| RunError::Token { file: file.display().to_string(), error })
        });
        let config =
            ureq::Agent::config_builder().timeout_global(Some(ANSWER_TIMEOUT)).http_status_as_error(false);
        Ok(Self {
            agent: config.build().into(),
            url: format!("{}/api/v1/hosts/{}/report", args.api.trim_end_matches('/'), args.host),
            token: token.transpose()?.map(|token| token.trim().to_owned()),
        })
    }

    fn put(&self, body: &Value) -> Result<(), RunError> {
        let mut request = self.agent.put(&self.url);
        if let Some(token) = &self.token {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        let unreachable =
            |error: ureq::Error| RunError::Unreachable { url: self.url.clone(), reason: error.to_string() };
        let mut answer = request.send_json(body).map_err(unreachable)?;
        let status = answer.status().as_u16();
        if matches!(status, 200 | 201) {
            return Ok(());
        }
        let text = answer.body_mut().read_to_string().unwrap_or_default();
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let detail = problem.get("detail").and_then(Value::as_str).unwrap_or(&text);
        let detail = detail.chars().take(REFUSAL_CHARS_MAX).collect();
        Err(RunError::Refused { url: self.url.clone(), status, detail })
    }
}
