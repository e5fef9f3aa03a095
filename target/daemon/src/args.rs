//! The command line of `holdfast-target`.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use holdfast_nvme::H2cDataMax;
use holdfast_reactor::IoChoice;

/// The data plane: serves volumes to initiators. Usually started by `holdfast up`.
///
/// Listening sockets may be passed by descriptor (LISTEN_FDS and LISTEN_FDNAMES, names `nvme-0`, `iscsi-0`, …), memory pools
/// too (names `pool-…`); the memory of new pools is handed to the service manager for safekeeping (FDSTORE).
#[derive(Debug, Parser)]
#[command(
    name = "holdfast-target",
    version,
    after_help = "Example:\n  holdfast-target --state ./state/target --socket ./state/target.sock --nvme 127.0.0.1:4420 --iscsi 127.0.0.1:3260"
)]
pub(crate) struct Args {
    /// Folder for what must survive a restart: the applied state, counters, incidents not handed over yet.
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Unix socket on which the control plane is served.
    #[arg(long, value_name = "PATH")]
    pub socket: PathBuf,
    /// Cores to run a reactor on each.
    #[arg(long, value_name = "LIST", default_value = "0", value_parser = parse_cores)]
    pub cores: CoreList,
    /// Interface to the kernel for network I/O.
    #[arg(long, value_enum, value_name = "INTERFACE", default_value_t = Interface::Auto)]
    pub io: Interface,
    /// Memory for the maps of volumes in files and on devices, in bytes, all pools together [default: a quarter of the
    /// machine's memory].
    #[arg(long, value_name = "BYTES")]
    pub map_memory: Option<u64>,
    /// Allow stored bits to be damaged on purpose, when the control plane asks for it.
    #[arg(long)]
    pub enable_drills: bool,
    /// NVMe/TCP portal to listen on, beside those passed by descriptor; may repeat.
    #[arg(long, value_name = "ADDR:PORT")]
    pub nvme: Vec<SocketAddr>,
    /// Address that discovery answers, one per portal in their order, instead of the one the host connected to.
    #[arg(long, value_name = "ADDR:PORT")]
    pub nvme_advertise: Vec<SocketAddr>,
    /// iSCSI portal to listen on, beside those passed by descriptor; may repeat.
    #[arg(long, value_name = "ADDR:PORT")]
    pub iscsi: Vec<SocketAddr>,
    /// Address that SendTargets answers, one per portal in their order, instead of the one the host connected to.
    #[arg(long, value_name = "ADDR:PORT")]
    pub iscsi_advertise: Vec<SocketAddr>,
}

/// Names the longest payload of an H2CData PDU, for tests of hosts: their writes have to survive being cut anywhere.
const H2C_DATA_MAX_VARIABLE: &str = "HOLDFAST_MAXH2CDATA";

/// The longest payload of an H2CData PDU that hosts are told.
pub(crate) fn h2c_data_max() -> anyhow::Result<H2cDataMax> {
    let Some(value) = std::env::var_os(H2C_DATA_MAX_VARIABLE) else {
        return Ok(H2cDataMax::default());
    };
    let bytes = value.to_str().and_then(|text| text.parse().ok());
    let limit = bytes.and_then(H2cDataMax::new);
    limit.with_context(|| format!("{H2C_DATA_MAX_VARIABLE}: {value:?} is not what MAXH2CDATA can be"))
}

/// By which interface reactors ask the kernel for I/O.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interface {
    /// io_uring, or epoll where that is refused.
    Auto,
    /// io_uring, or no start.
    Uring,
    /// epoll.
    Epoll,
}

impl From<Interface> for IoChoice {
    fn from(interface: Interface) -> IoChoice {
        match interface {
            Interface::Auto => IoChoice::Auto,
            Interface::Uring => IoChoice::Uring,
            Interface::Epoll => IoChoice::Epoll,
        }
    }
}

/// Cores by number, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CoreList(pub Vec<usize>);

/// Reads `0,2-3`.
fn parse_cores(text: &str) -> Result<CoreList, String> {
    let number = |text: &str| text.parse::<usize>().map_err(|_| format!("`{text}` is not a core number"));
    let mut cores = Vec::new();
    for part in text.split(',') {
        let (first, last) = match part.split_once('-') {
            Some((first, last)) => (number(first)?, number(last)?),
            None => (number(part)?, number(part)?),
        };
        if last < first || last - first >= CORES_MAX {
            return Err(format!("`{part}` is not a range of cores"));
        }
        cores.extend(first..=last);
    }
    let mut seen = cores.clone();
    seen.sort_unstable();
    seen.dedup();
    if seen.len() != cores.len() {
        return Err("a core is named twice".to_owned());
    }
    if cores.len() > CORES_MAX {
        return Err(format!("at most {CORES_MAX} cores"));
    }
    Ok(CoreList(cores))
}

/// Most reactors of one target: each has a mailbox to each.
const CORES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn core_lists_are_read() {
        assert_eq!(parse_cores("0,2-3").unwrap(), CoreList(vec![0, 2, 3]));
        for bad in ["", "a", "3-2", "1,1", "0-9999999", "-1", "1-"] {
            assert!(parse_cores(bad).is_err(), "{bad}");
        }
    }
}
