//! Addresses of front ends: `127.0.0.1:4420`, `[::1]:4420`, or `none`.

use std::net::SocketAddr;
use std::str::FromStr;

/// Where a front end listens, or that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Portal {
    /// The front end is switched off.
    Off,
    /// It listens here; port 0 lets the kernel pick one.
    At(SocketAddr),
}

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AddressError {
    /// Neither an address with a port nor the word `none`.
    #[error("write IPv4:PORT or [IPv6]:PORT (numbers, no host names), or `none`")]
    Portal,
    /// Not an address with a port.
    #[error("write IPv4:PORT or [IPv6]:PORT (numbers, no host names)")]
    Address,
    /// An address that no initiator can connect to.
    #[error(
        "an advertised address is what initiators connect to: it needs a real address and a port above 0"
    )]
    NotReachable,
}

impl FromStr for Portal {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text {
            "none" => Ok(Self::Off),
            _ => text.parse().map(Self::At).map_err(|_| AddressError::Portal),
        }
    }
}

/// An address and port that initiators are sent to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Advertised(pub(crate) SocketAddr);

impl FromStr for Advertised {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let address: SocketAddr = text.parse().map_err(|_| AddressError::Address)?;
        let ip = address.ip();
        if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() {
            return Err(AddressError::NotReachable);
        }
        Ok(Self(address))
    }
}

/// Where the REST API listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ApiAddress(pub(crate) SocketAddr);

impl FromStr for ApiAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.parse().map(Self).map_err(|_| AddressError::Address)
    }
}

impl ApiAddress {
    /// Whether only this machine can reach it.
    pub(crate) fn is_loopback(self) -> bool {
        self.0.ip().to_canonical().is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portals_are_ipv4_bracketed_ipv6_or_none() {
        assert_eq!("none".parse(), Ok(Portal::Off));
        for text in ["127.0.0.1:4420", "0.0.0.0:0", "[::1]:4420", "[::]:4420"] {
            let Ok(Portal::At(address)) = text.parse::<Portal>() else { panic!("{text}") };
            assert_eq!(address.to_string(), text);
        }
        for text in
            ["", "None", "localhost:4420", "127.0.0.1", "::1:4420", "1.2.3.4:65536", "1.2.3.4:", ":4420"]
        {
            assert_eq!(text.parse::<Portal>(), Err(AddressError::Portal), "{text}");
        }
    }

    #[test]
    fn advertised_addresses_can_be_connected_to() {
        assert!("10.0.2.2:4420".parse::<Advertised>().is_ok());
        for text in ["10.0.2.2:0", "0.0.0.0:4420", "[::]:4420", "224.0.0.1:4420"] {
            assert_eq!(text.parse::<Advertised>(), Err(AddressError::NotReachable), "{text}");
        }
        assert_eq!("none".parse::<Advertised>(), Err(AddressError::Address));
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for text in ["127.0.0.1:1", "127.255.0.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(text.parse::<ApiAddress>().unwrap().is_loopback(), "{text}");
        }
        for text in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "[::ffff:10.0.0.1]:1"] {
            assert!(!text.parse::<ApiAddress>().unwrap().is_loopback(), "{text}");
        }
    }
}
