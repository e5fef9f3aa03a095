//! One TCP connection to a portal: whole PDUs in and out, and raw bytes for hostile tests.

use std::net::ToSocketAddrs;
use std::time::Duration;

use super::pdu::{BHS_LEN, DIGEST_LEN, Pdu};
use crate::wire::{Digests, le32};
use crate::{Connection as Socket, Error, crc};

/// A connection. Digests are off until [`Connection::set_digests`] turns them on, which a login does at its end.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
    digests: Digests,
}

impl Connection {
    /// Connects, and sends nothing. Reads and writes wait for at most `limit`.
    ///
    /// # Errors
    /// When the connection cannot be made.
    pub fn raw(portal: impl ToSocketAddrs, limit: Duration) -> Result<Self, Error> {
        Ok(Self { socket: Socket::raw(portal, limit)?, digests: Digests::default() })
    }

    /// The TCP connection: raw bytes, half-closing, resetting, waiting for the close.
    pub fn socket(&mut self) -> &mut Socket {
        &mut self.socket
    }

    /// Gives the TCP connection away.
    #[must_use]
    pub fn into_socket(self) -> Socket {
        self.socket
    }

    /// Digests in use.
    #[must_use]
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// Uses these digests from now on.
    pub fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// Sends a PDU with right lengths and digests.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn send(&mut self, pdu: &Pdu) -> Result<(), Error> {
        self.socket.send_raw(&pdu.encode(self.digests))
    }

    /// Receives one PDU and checks its digests and its padding.
    ///
    /// # Errors
    /// When nothing comes in time, the target closes, a digest is wrong, or padding is not zero.
    pub fn recv(&mut self) -> Result<Pdu, Error> {
        let header = self.socket.recv_exact(BHS_LEN)?;
        let mut pdu = Pdu { bhs: [0; BHS_LEN], ahs: Vec::new(), data: Vec::new() }.bytes(0, &header);
        let lengths = pdu.word_at(4);
        let [ahs_words, ..] = lengths.to_be_bytes();
        pdu.ahs = self.socket.recv_exact(usize::from(ahs_words).saturating_mul(4))?;
        if self.digests.header {
            self.check_digest("header", &[&header[..], &pdu.ahs].concat())?;
        }
        let len = usize::try_from(lengths & 0xff_ffff).unwrap_or(usize::MAX);
        let mut data = self.socket.recv_exact(len.next_multiple_of(4))?;
        if self.digests.data && len > 0 {
            self.check_digest("data", &data)?;
        }
        if data.iter().skip(len).any(|byte| *byte != 0) {
            return Err(Error::unexpected("padding of zeros", format!("{:02x?}", data.get(len..))));
        }
        data.truncate(len);
        pdu.data = data;
        Ok(pdu)
    }

    /// Receives one PDU, which must have this opcode.
    ///
    /// # Errors
    /// As [`Self::recv`], and when it is another one.
    pub fn recv_opcode(&mut self, opcode: u8) -> Result<Pdu, Error> {
        let pdu = self.recv()?;
        if pdu.opcode() == opcode {
            return Ok(pdu);
        }
        Err(Error::unexpected(format!("a PDU with opcode {opcode:#04x}"), describe(&pdu)))
    }

    fn check_digest(&mut self, of: &str, bytes: &[u8]) -> Result<(), Error> {
        let field = self.socket.recv_exact(DIGEST_LEN)?;
        let (expected, got) = (crc::crc32c(bytes), le32(&field, 0).unwrap_or(0));
        if expected == got {
            return Ok(());
        }
        Err(Error::unexpected(format!("{of} digest {expected:#010x}"), format!("{got:#010x}")))
    }
}

/// A PDU in an error's text.
pub(super) fn describe(pdu: &Pdu) -> String {
    format!("opcode {:#04x}, header {:02x?}, {} bytes of data", pdu.opcode(), pdu.bhs, pdu.data.len())
}
