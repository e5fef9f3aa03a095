//! Why `holdfast up` does not run, each as one line that says what to do, and its exit status.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::fdname::NameError;

/// Everything that ends `holdfast up` with a status other than 0.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpError {
    /// A flag of a later version.
    #[error("{0}: not in this version")]
    NotInThisVersion(&'static str),
    /// A client option in front of `up`.
    #[error("{0} in front of `up` belongs to the client commands; the flags of `up` come behind it")]
    ClientOption(&'static str),
    /// `none` beside an address.
    #[error("{0} none switches the front end off and cannot stand beside another {0}")]
    NoneBesideAddress(&'static str),
    /// Too many portals of one kind.
    #[error("{flag} is given {given} times; at most {limit} portals are possible")]
    TooManyPortals {
        /// The flag.
        flag: &'static str,
        /// How often it was given.
        given: usize,
        /// How often it may be given.
        limit: usize,
    },
    /// More advertised addresses than portals.
    #[error(
        "{0}-advertise is given more often than there are {0} portals; the first belongs to the first portal, and so on"
    )]
    AdvertiseWithoutPortal(&'static str),
    /// Plain HTTP for everybody.
    #[error(
        "--api {0} can be reached from other machines, and without --secure the API is plain HTTP without log-in: \
         use a loopback address such as 127.0.0.1:8080"
    )]
    ApiNotLoopback(SocketAddr),
    /// A pool that does not consist of whole slots.
    #[error(
        "--ram-pool {bytes}: a pool consists of 4096-byte slots; the nearest sizes are {below} and {above}"
    )]
    PoolNotWholeSlots {
        /// What was asked for.
        bytes: u64,
        /// The next lower possible size.
        below: u64,
        /// The next higher possible size.
        above: u64,
    },
    /// A core that is not there, or not allowed.
    #[error("--cores: core {core} is not available here; this process may run on {available}")]
    NoSuchCore {
        /// The first missing core.
        core: usize,
        /// The available ones.
        available: String,
    },
    /// The affinity mask cannot be read or is empty.
    #[error("--cores: cannot find out which cores this process may run on: {0}")]
    Affinity(io::Error),
    /// Something about the state directory.
    #[error("--state {}: {what}: {source}", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// Others could replace the sockets.
    #[error(
        "--state {} can be written to by every user of this machine: name a directory of its own (it is made if missing)",
        .0.display()
    )]
    StateWorldWritable(PathBuf),
    /// Another `up` runs there.
    #[error("--state {} is in use by another `holdfast up` (pid {pid})", path.display())]
    StateInUse {
        /// The directory.
        path: PathBuf,
        /// The other process, or `unknown`.
        pid: String,
    },
    /// No socket with a short enough path can be made.
    #[error(
        "--state {} is too long for a Unix socket, and the short way {} to it cannot be made: {source}",
        path.display(),
        link.display()
    )]
    SocketPath {
        /// The directory.
        path: PathBuf,
        /// The short way.
        link: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A listening socket that cannot be had.
    #[error("{flag} {address}: {}", bind_reason(.source))]
    Bind {
        /// The flag that asked for it.
        flag: &'static str,
        /// The address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// A program that is not installed.
    #[error("cannot find the program {name}: looked beside this one ({}) and in PATH", beside.display())]
    ProgramMissing {
        /// Its name.
        name: &'static str,
        /// The folder of this executable.
        beside: PathBuf,
    },
    /// A descriptor's name.
    #[error("descriptor name: {0}")]
    DescriptorName(#[from] NameError),
    /// Pipes, sockets, signals: what supervision itself needs.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// A child that dies again and again before it is ready.
    #[error("{name} ended {attempts} times before it was ready ({ending}); its last message: {last_line}")]
    ChildKeepsDying {
        /// The child.
        name: &'static str,
        /// How often.
        attempts: u32,
        /// How it ended the last time.
        ending: String,
        /// The last line it wrote.
        last_line: String,
    },
    /// A child that never says that it is ready.
    #[error("{name} was not ready within {seconds} seconds; its last message: {last_line}")]
    ChildNotReady {
        /// The child.
        name: &'static str,
        /// The limit.
        seconds: u64,
        /// The last line it wrote.
        last_line: String,
    },
    /// A child that did not end in time and was killed.
    #[error("{name} did not end within {seconds} seconds and was killed; what it had not flushed is lost")]
    ChildKilled {
        /// The child.
        name: &'static str,
        /// The limit.
        seconds: u64,
    },
}

impl UpError {
    /// 2 for wrong usage and for flags of later versions, 1 for everything else.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::NotInThisVersion(_)
            | Self::ClientOption(_)
            | Self::NoneBesideAddress(_)
            | Self::TooManyPortals { .. }
            | Self::AdvertiseWithoutPortal(_)
            | Self::ApiNotLoopback(_)
            | Self::PoolNotWholeSlots { .. } => 2,
            Self::NoSuchCore { .. }
            | Self::Affinity(_)
            | Self::State { .. }
            | Self::StateWorldWritable(_)
            | Self::StateInUse { .. }
            | Self::SocketPath { .. }
            | Self::Bind { .. }
            | Self::ProgramMissing { .. }
            | Self::DescriptorName(_)
            | Self::System { .. }
            | Self::ChildKeepsDying { .. }
            | Self::ChildNotReady { .. }
            | Self::ChildKilled { .. } => 1,
        }
    }

    /// For `map_err` on what supervision itself needs.
    pub(crate) fn system<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> Self {
        move |source| Self::System { what, source: source.into() }
    }
}

/// The reasons that people meet, in words that say what to do.
fn bind_reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            "the address is in use by another program; stop it, or choose another port (0 picks a free one)"
                .into()
        }
        io::ErrorKind::AddrNotAvailable => "no network interface of this machine has this address".into(),
        io::ErrorKind::PermissionDenied => {
            "permission denied; ports below 1024 need the capability CAP_NET_BIND_SERVICE".into()
        }
        _ => error.to_string(),
    }
}
