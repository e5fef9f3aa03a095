//! Where the target listens, and what discovery tells about it.

use std::net::SocketAddr;

/// Where the target listens.
#[derive(Debug, Clone)]
pub struct Portal {
    /// What discovery tells; `None`: the address that the asking host has connected to.
    pub advertised: Option<SocketAddr>,
    /// The socket's address, with its real port.
    pub listening: SocketAddr,
}

impl Portal {
    /// Where a host reaches it that has connected to `local`, of this portal if `here`: as advertised; as it came in, if that was
    /// here; else at the portal's own address, or on the host that it came in to where the portal listens on all of them.
    pub fn address_for(&self, local: SocketAddr, here: bool) -> SocketAddr {
        if let Some(advertised) = self.advertised {
            return advertised;
        }
        if here {
            return local;
        }
        let mut address = self.listening;
        if address.ip().is_unspecified() {
            address.set_ip(local.ip());
        }
        address
    }
}
