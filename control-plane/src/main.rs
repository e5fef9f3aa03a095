//! `holdfast-control-plane`: the process around the management plane.

use std::io::{IsTerminal, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use holdfast_control_plane::app::{App, Sync};
use holdfast_control_plane::{http, listen, reconcile, target::TargetHandle};
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tracing_subscriber::EnvFilter;

/// How long an open change may take to end when the process stops.
const CLOSE_PATIENCE: Duration = Duration::from_secs(3);

/// The management plane of a Holdfast appliance.
#[derive(Debug, Parser)]
#[command(version, name = "holdfast-control-plane")]
struct Arguments {
    /// Folder for the database; made if it is not there.
    #[arg(long, value_name = "DIR")]
    state: PathBuf,
    /// The target's Unix socket.
    #[arg(long, value_name = "PATH")]
    target_socket: PathBuf,
    /// Where to serve if no socket named `api` is passed: a loopback address.
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Size of the memory pool `ram` that the first start makes.
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = parse_size)]
    ram_pool: u64,
    /// Allow stored bits to be damaged on purpose, by `/drills`.
    #[arg(long)]
    enable_drills: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let filter = EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| EnvFilter::new("info,sqlx=warn"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .init();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("holdfast-control-plane: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let lifeline = listen::lifeline();
    let listener = listen::listener(arguments.listen)?;
    make_state_folder(&arguments.state)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("no runtime")?;
    runtime.block_on(serve(arguments, listener, watch_lifeline(lifeline)?))
}

/// Only the owner looks in: evidence of incidents is users' data.
fn make_state_folder(folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot make the state folder {}", folder.display()))
}

/// Hears when the supervisor is gone; never, without a lifeline.
fn watch_lifeline(lifeline: Option<std::fs::File>) -> anyhow::Result<Arc<Notify>> {
    let gone = Arc::new(Notify::new());
    if let Some(mut lifeline) = lifeline {
        let gone = Arc::clone(&gone);
        std::thread::Builder::new().name("lifeline".to_owned()).spawn(move || {
            let _ended = lifeline.read(&mut [0]);
            gone.notify_one();
        })?;
    }
    Ok(gone)
}

async fn serve(
    arguments: &Arguments,
    listener: std::net::TcpListener,
    supervisor_gone: Arc<Notify>,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("no signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("no signals")?;
    let listener = TcpListener::from_std(listener).context("the listening socket cannot be used")?;
    let address = listener.local_addr().context("the listening socket cannot be used")?;
    let target = TargetHandle::spawn(arguments.target_socket.clone());
    let app = App::open(&arguments.state, target, arguments.ram_pool, arguments.enable_drills)
        .await
        .map_err(|error| anyhow::anyhow!("cannot open the database: {}", explain(&error)))?;
    let (stop, stopped) = watch::channel(false);
    let reconciler = tokio::spawn(reconcile::run(Arc::clone(&app), stopped.clone()));
    let router = http::router(Arc::clone(&app), stopped.clone());
    let server = tokio::spawn(http::serve::serve(listener, router, stopped));
    tracing::info!(%address, "serving");
    tokio::spawn(report_ready(app.sync()));
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = supervisor_gone.notified() => tracing::info!("the supervisor is gone"),
    }
    tracing::info!("stopping");
    let _ = sd_notify::notify(&[NotifyState::Stopping]);
    let _ = stop.send(true);
    server.await.context("the server failed")?;
    reconciler.await.context("the reconciler failed")?;
    if timeout(CLOSE_PATIENCE, app.close()).await.is_err() {
        // A change still waits for the target. It was not answered, and the database is whole without it.
        tracing::warn!("a change was cut off");
    }
    Ok(())
}

/// Tells the supervisor once the target runs what is wanted.
async fn report_ready(mut sync: watch::Receiver<Sync>) {
    if sync.wait_for(|sync| *sync == Sync::InSync).await.is_ok()
        && let Err(error) = sd_notify::notify(&[NotifyState::Ready])
    {
        tracing::warn!(%error, "readiness could not be reported");
    }
}

/// The error with its cause, on one line.
fn explain(error: &holdfast_control_plane::error::Error) -> String {
    use std::error::Error;
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

/// Bytes, or a number with KiB, MiB, GiB or TiB.
fn parse_size(text: &str) -> Result<u64, String> {
    let units = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40)];
    let (digits, shift) = units
        .iter()
        .find_map(|(unit, shift)| text.strip_suffix(unit).map(|digits| (digits, *shift)))
        .unwrap_or((text, 0));
    digits
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(1_u64 << shift))
        .ok_or_else(|| "a size is a number of bytes, or a number and KiB, MiB, GiB or TiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_have_binary_units() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64MiB"), Ok(64 << 20));
        assert_eq!(parse_size("1GiB"), Ok(1 << 30));
        for wrong in ["", "GiB", "1GB", "-1", "1.5GiB", "99999999TiB"] {
            assert!(parse_size(wrong).is_err(), "{wrong}");
        }
    }
}
