//! The flags of `holdfast up`, and their check as a whole.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use rustix::thread::CpuSet;

use super::address::{Advertised, ApiAddress, Portal};
use super::cores::CoreList;
use super::error::UpError;
use crate::size::ByteSize;

/// Most portals of one front end: more addresses than machines have.
const PORTALS_MAX: usize = 16;

/// A pool consists of slots of this many bytes.
const SLOT_BYTES: u64 = 4096;

/// Run a complete appliance in the foreground.
///
/// Starts the data plane and the management plane, restarts them when they die, and keeps their listening
/// sockets and the memory of memory pools over such a restart. Prints one line beginning with `ready` on
/// standard output once it serves; SIGTERM or SIGINT flushes and ends it with status 0.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct UpArgs {
    /// Directory of everything that must last: database, the target's state, keys; made if missing
    #[arg(long, value_name = "DIR", default_value = "./holdfast-state")]
    pub(crate) state: PathBuf,

    /// NVMe/TCP portal; port 0 picks one; `none` switches NVMe off; may repeat
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:4420")]
    nvme: Vec<Portal>,

    /// iSCSI portal; port 0 picks one; `none` switches iSCSI off; may repeat
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:3260")]
    iscsi: Vec<Portal>,

    /// REST API and web page; port 0 picks one; a loopback address
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8080")]
    api: ApiAddress,

    /// Address that discovery answers for the portal at the same place in the list [default: the one the host
    /// connected to]
    #[arg(long, value_name = "ADDR:PORT")]
    nvme_advertise: Vec<Advertised>,

    /// The same for iSCSI
    #[arg(long, value_name = "ADDR:PORT")]
    iscsi_advertise: Vec<Advertised>,

    /// Cores that reactors run on, such as 0,2-3 [default: one core]
    #[arg(long, value_name = "LIST")]
    cores: Option<CoreList>,

    /// How reactors ask the kernel for network I/O
    #[arg(long, value_enum, value_name = "INTERFACE", default_value_t = Interface::Auto)]
    io: Interface,

    /// Size of the memory pool `ram`, made on first start
    #[arg(long, value_name = "SIZE", default_value = "1GiB")]
    ram_pool: ByteSize,

    /// Memory for the maps of volumes in files and on devices, all pools together: 32 bytes per 4 KiB of their data
    /// [default: a quarter of the machine's memory]
    #[arg(long, value_name = "SIZE")]
    map_memory: Option<ByteSize>,

    /// Log-in and TLS (not in this version)
    #[arg(long)]
    secure: bool,

    /// Allow fault injection: `holdfast drill`, `/drills`
    #[arg(long)]
    enable_drills: bool,
}

/// The kernel's interfaces for network I/O.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Interface {
    /// io_uring, or epoll where that is refused
    Auto,
    /// io_uring, or no start
    Uring,
    /// epoll
    Epoll,
}

impl Interface {
    /// As the target's `--io` takes it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Interface::Auto => "auto",
            Interface::Uring => "uring",
            Interface::Epoll => "epoll",
        }
    }
}

const EXAMPLES: &str = "\
Examples:
  holdfast up
  holdfast up --state /var/lib/holdfast --nvme 192.0.2.10:4420 --cores 2-3 --ram-pool 8GiB
  holdfast up --nvme 127.0.0.1:0 --iscsi 127.0.0.1:0 --api 127.0.0.1:0   # free ports, named in the ready line
  holdfast up --nvme 192.0.2.10:4420 --iscsi 192.0.2.10:3260 --iscsi 192.0.2.11:3260
  holdfast up --nvme 127.0.0.1:4420 --nvme-advertise 10.0.2.2:4420 --iscsi none";

/// What the flags ask for, checked.
#[derive(Debug)]
pub(crate) struct Plan {
    /// The state directory as given.
    pub(crate) state: PathBuf,
    /// Where NVMe/TCP listens, in the order given.
    pub(crate) nvme: Vec<std::net::SocketAddr>,
    /// What discovery answers, by place.
    pub(crate) nvme_advertise: Vec<std::net::SocketAddr>,
    /// Where iSCSI listens, in the order given.
    pub(crate) iscsi: Vec<std::net::SocketAddr>,
    /// What SendTargets answers, by place.
    pub(crate) iscsi_advertise: Vec<std::net::SocketAddr>,
    /// Where the API listens.
    pub(crate) api: std::net::SocketAddr,
    /// The reactors' cores.
    pub(crate) cores: CoreList,
    /// How they do I/O.
    pub(crate) io: Interface,
    /// Size of the pool `ram`.
    pub(crate) ram_pool: ByteSize,
    /// Memory for maps; the target decides if it is not given.
    pub(crate) map_memory: Option<ByteSize>,
    /// Whether stored bits may be damaged on purpose.
    pub(crate) drills: bool,
}

impl UpArgs {
    /// Checks everything that can be said without touching the machine; `allowed` are the cores this process
    /// may run on.
    ///
    /// # Errors
    /// Wrong usage, a flag of a later version, or a core that is not there.
    pub(crate) fn plan(self, allowed: &CpuSet) -> Result<Plan, UpError> {
        if self.secure {
            return Err(UpError::NotInThisVersion("--secure"));
        }
        let nvme = portals("--nvme", &self.nvme, &self.nvme_advertise)?;
        let iscsi = portals("--iscsi", &self.iscsi, &self.iscsi_advertise)?;
        if !self.api.is_loopback() {
            return Err(UpError::ApiNotLoopback(self.api.0));
        }
        let bytes = self.ram_pool.bytes();
        if !bytes.is_multiple_of(SLOT_BYTES) {
            let below = bytes - bytes % SLOT_BYTES;
            return Err(UpError::PoolNotWholeSlots { bytes, below, above: below + SLOT_BYTES });
        }
        Ok(Plan {
            state: self.state,
            nvme,
            nvme_advertise: self.nvme_advertise.iter().map(|advertised| advertised.0).collect(),
            iscsi,
            iscsi_advertise: self.iscsi_advertise.iter().map(|advertised| advertised.0).collect(),
            api: self.api.0,
            cores: cores(self.cores, allowed)?,
            io: self.io,
            ram_pool: self.ram_pool,
            map_memory: self.map_memory,
            drills: self.enable_drills,
        })
    }
}

/// The addresses of one front end; none if it is switched off.
fn portals(
    flag: &'static str,
    given: &[Portal],
    advertised: &[Advertised],
) -> Result<Vec<std::net::SocketAddr>, UpError> {
    let addresses: Vec<_> = given
        .iter()
        .filter_map(|portal| match portal {
            Portal::At(address) => Some(*address),
            Portal::Off => None,
        })
        .collect();
    if addresses.len() < given.len() && given.len() > 1 {
        return Err(UpError::NoneBesideAddress(flag));
    }
    if addresses.len() > PORTALS_MAX {
        return Err(UpError::TooManyPortals { flag, given: addresses.len(), limit: PORTALS_MAX });
    }
    if advertised.len() > addresses.len() {
        return Err(UpError::AdvertiseWithoutPortal(flag));
    }
    Ok(addresses)
}

/// The asked-for cores, all of them allowed, or the first allowed one.
fn cores(asked: Option<CoreList>, allowed: &CpuSet) -> Result<CoreList, UpError> {
    let Some(cores) = asked else {
        let empty = || UpError::Affinity(std::io::Error::other("the affinity mask is empty"));
        return CoreList::first_of(allowed).ok_or_else(empty);
    };
    match cores.first_missing(allowed) {
        Some(core) => Err(UpError::NoSuchCore { core, available: CoreList::describe(allowed) }),
        None => Ok(cores),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Wrapper {
        #[command(flatten)]
        up: UpArgs,
    }

    fn plan(flags: &[&str]) -> Result<Plan, UpError> {
        let mut allowed = CpuSet::new();
        allowed.set(0);
        allowed.set(1);
        let args = std::iter::once("up").chain(flags.iter().copied());
        Wrapper::try_parse_from(args).unwrap().up.plan(&allowed)
    }

    fn refusal(flags: &[&str]) -> (u8, String) {
        let error = plan(flags).unwrap_err();
        (error.exit_status(), error.to_string())
    }

    #[test]
    fn defaults_are_the_documented_ones() {
        let plan = plan(&[]).unwrap();
        assert_eq!(plan.state, PathBuf::from("./holdfast-state"));
        assert_eq!(plan.nvme, ["127.0.0.1:4420".parse().unwrap()]);
        assert_eq!(plan.api, "127.0.0.1:8080".parse().unwrap());
        assert_eq!((plan.cores.to_string().as_str(), plan.io), ("0", Interface::Auto));
        assert_eq!(plan.ram_pool.bytes(), 1 << 30);
        assert_eq!((plan.map_memory, plan.drills), (None, false));
        assert!(plan.nvme_advertise.is_empty());
        assert_eq!(plan.iscsi, ["127.0.0.1:3260".parse().unwrap()]);
    }

    #[test]
    fn flags_of_later_versions_are_refused_as_such() {
        assert_eq!(refusal(&["--secure"]), (2, "--secure: not in this version".to_owned()));
    }

    #[test]
    fn none_switches_a_front_end_off_and_stands_alone() {
        let off = plan(&["--nvme", "none", "--iscsi", "none"]).unwrap();
        assert!(off.nvme.is_empty() && off.iscsi.is_empty());
        assert_eq!(refusal(&["--nvme", "none", "--nvme", "127.0.0.1:1"]).0, 2);
        assert_eq!(refusal(&["--iscsi", "127.0.0.1:1", "--iscsi", "none"]).0, 2);
    }

    #[test]
    fn portals_repeat_up_to_a_limit_and_keep_their_order() {
        let two = plan(&["--nvme", "127.0.0.1:2", "--nvme", "[::1]:1", "--iscsi", "127.0.0.1:9"]).unwrap();
        assert_eq!(two.nvme, ["127.0.0.1:2".parse().unwrap(), "[::1]:1".parse().unwrap()]);
        let many = ["--nvme", "127.0.0.1:0"].repeat(PORTALS_MAX + 1);
        assert_eq!(refusal(&many).0, 2);
    }

    #[test]
    fn advertised_addresses_need_a_portal_each() {
        assert_eq!(plan(&["--nvme-advertise", "10.0.2.2:4420"]).unwrap().nvme_advertise.len(), 1);
        assert_eq!(refusal(&["--nvme-advertise", "10.0.2.2:4420", "--nvme", "none"]).0, 2);
        assert_eq!(refusal(&["--iscsi-advertise", "10.0.2.2:1", "--iscsi-advertise", "10.0.2.2:2"]).0, 2);
    }

    #[test]
    fn api_without_login_stays_on_loopback() {
        assert!(plan(&["--api", "[::1]:0"]).is_ok());
        let (status, text) = refusal(&["--api", "0.0.0.0:8080"]);
        assert_eq!(status, 2);
        assert!(text.starts_with("--api 0.0.0.0:8080 can be reached from other machines"), "{text}");
    }

    #[test]
    fn pool_consists_of_whole_slots() {
        assert_eq!(plan(&["--ram-pool", "512MiB"]).unwrap().ram_pool.bytes(), 512 << 20);
        let (status, text) = refusal(&["--ram-pool", "5000"]);
        assert_eq!(status, 2);
        assert!(text.ends_with("the nearest sizes are 4096 and 8192"), "{text}");
    }

    #[test]
    fn missing_core_is_named_with_the_available_ones() {
        assert_eq!(plan(&["--cores", "0-1"]).unwrap().cores.to_string(), "0,1");
        let (status, text) = refusal(&["--cores", "0-3"]);
        assert_eq!(
            (status, text.contains("core 2 is not available"), text.ends_with("0,1")),
            (1, true, true)
        );
    }
}
