//! The listening sockets. They belong to `up`, so that they outlive a child: while it is away, connections
//! queue.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::error::UpError;

/// Connections that may wait while a child restarts: 64 hosts with a queue for each of 64 processors. The
/// kernel caps it at net.core.somaxconn, 4096 by default.
const BACKLOG: i32 = 4096;

/// A listening socket and where it listens.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: OwnedFd,
    address: SocketAddr,
}

impl Listener {
    /// Binds `address` (port 0: the kernel picks one) and listens. `flag` is what a message names.
    ///
    /// # Errors
    /// [`UpError::Bind`] with the kernel's reason.
    pub(crate) fn bind(flag: &'static str, address: SocketAddr) -> Result<Self, UpError> {
        listen(address).map_err(|source| UpError::Bind { flag, address, source })
    }

    /// The real address, with the port that the kernel picked.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn listen(address: SocketAddr) -> io::Result<Listener> {
    let family = if address.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Connections of an earlier run that linger in TIME-WAIT must not keep the port.
    rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv6() {
        // So that [::] and 0.0.0.0 can be two portals on one port.
        rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let listener = TcpListener::from(socket);
    let address = listener.local_addr()?;
    Ok(Listener { socket: listener.into(), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_zero_becomes_a_real_port() {
        let listener = Listener::bind("--nvme", "127.0.0.1:0".parse().unwrap()).unwrap();
        assert_ne!(listener.address().port(), 0);
        std::net::TcpStream::connect(listener.address()).unwrap();
    }

    #[test]
    fn address_in_use_names_flag_and_address() {
        let first = Listener::bind("--nvme", "127.0.0.1:0".parse().unwrap()).unwrap();
        let error = Listener::bind("--api", first.address()).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with(&format!("--api {}: the address is in use", first.address())), "{text}");
        assert_eq!(error.exit_status(), 1);
    }

    #[test]
    fn foreign_address_is_refused_in_words() {
        // TEST-NET-1 (RFC 5737) belongs to no interface.
        let error = Listener::bind("--nvme", "192.0.2.1:4420".parse().unwrap()).unwrap_err();
        assert!(error.to_string().contains("no network interface"), "{error}");
    }
}
