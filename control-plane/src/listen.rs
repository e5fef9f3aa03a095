//! The listening socket: inherited by the systemd protocol (sd_listen_fds(3)) under the name `api`, or opened here.
//! Without log-in it may only be a loopback address.

use std::env;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;

/// Name of the inherited socket in `LISTEN_FDNAMES`.
const SOCKET_NAME: &str = "api";

/// Name of the supervisor's lifeline, likewise.
const LIFELINE_NAME: &str = "lifeline";

/// Number of the first passed descriptor, sd_listen_fds(3).
const FIRST_PASSED: usize = 3;

/// Why there is no socket to serve on.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Other machines could reach it, and there is no log-in.
    #[error("the API may only listen on a loopback address, not on {0}: it has no log-in in this version")]
    NotLoopback(SocketAddr),
    /// None was passed and none was asked for.
    #[error("no socket named {SOCKET_NAME} was passed and --listen was not given")]
    Nothing,
    /// The inherited descriptor is no such socket.
    #[error("the passed socket {SOCKET_NAME} cannot be used: {0}")]
    Inherited(std::io::Error),
    /// The address cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, std::io::Error),
}

/// The inherited socket if there is one, otherwise one on `address`.
pub fn listener(address: Option<SocketAddr>) -> Result<TcpListener, ListenError> {
    let listener = match (inherited()?, address) {
        (Some(listener), _) => listener,
        (None, Some(address)) if !address.ip().is_loopback() => {
            return Err(ListenError::NotLoopback(address));
        }
        (None, Some(address)) => {
            TcpListener::bind(address).map_err(|error| ListenError::Bind(address, error))?
        }
        (None, None) => return Err(ListenError::Nothing),
    };
    let address = listener.local_addr().map_err(ListenError::Inherited)?;
    if !address.ip().is_loopback() {
        return Err(ListenError::NotLoopback(address));
    }
    listener.set_nonblocking(true).map_err(ListenError::Inherited)?;
    Ok(listener)
}

/// A descriptor that nobody writes to: its end of file means that the supervisor is gone, however it ended. To be opened
/// before [`listener`] takes what was passed. `None` if there is none.
pub fn lifeline() -> Option<File> {
    let index = position(LIFELINE_NAME)?;
    File::open(format!("/proc/self/fd/{}", FIRST_PASSED + index)).ok()
}

fn position(name: &str) -> Option<usize> {
    env::var("LISTEN_FDNAMES").ok()?.split(':').position(|passed| passed == name)
}

fn inherited() -> Result<Option<TcpListener>, ListenError> {
    let Some(index) = position(SOCKET_NAME) else { return Ok(None) };
    ListenFd::from_env().take_tcp_listener(index).map_err(ListenError::Inherited)
}
