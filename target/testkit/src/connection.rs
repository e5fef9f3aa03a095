//! One TCP connection to the target: initialization, whole PDUs in and out, and raw bytes for hostile peers.
//!
//! NVMe/TCP 1.1 §3.3 "Transport specific content: connection establishment" (ICReq, ICResp), §3.4 "Digests",
//! §3.5 "Error handling". Reads and writes block for at most [`ConnectOptions::limit`].

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::Error;
use crate::wire::{COMMON_HEADER_LEN, Digests, Frame, IcReq, IcResp, PDU_LEN_MAX, Pdu, TermReq, le32};

/// How a connection is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectOptions {
    /// Ask for header digests.
    pub header_digest: bool,
    /// Ask for data digests.
    pub data_digest: bool,
    /// PDU Format Version to send.
    pub pfv: u16,
    /// Host PDU Data Alignment to send.
    pub hpda: u8,
    /// Maximum Number of Outstanding R2T to send, 0's based.
    pub maxr2t: u32,
    /// How long one read or write may wait.
    pub limit: Duration,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        Self {
            header_digest: false,
            data_digest: false,
            pfv: 0,
            hpda: 0,
            maxr2t: 0,
            // Long enough for a target under sanitizers on a busy machine; an expected answer never takes it.
            limit: Duration::from_secs(20),
        }
    }
}

impl ConnectOptions {
    /// The ICReq that these options make.
    #[must_use]
    pub fn ic_req(&self) -> IcReq {
        let dgst = u8::from(self.header_digest) | u8::from(self.data_digest) << 1;
        IcReq { pfv: self.pfv, hpda: self.hpda, dgst, maxr2t: self.maxr2t }
    }
}

/// A connection. After [`Connection::open`] digests and alignments are as negotiated; after
/// [`Connection::raw`] nothing has been sent yet.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    limit: Duration,
    ic_resp: IcResp,
    digests: Digests,
    received: Vec<u8>,
    eof: bool,
}

impl Connection {
    /// Connects and exchanges ICReq and ICResp.
    ///
    /// # Errors
    /// When the connection cannot be made, or the target answers with anything but a valid ICResp.
    pub fn open(target: impl ToSocketAddrs, options: &ConnectOptions) -> Result<Self, Error> {
        let mut connection = Self::raw(target, options.limit)?;
        connection.initialize(&options.ic_req())?;
        Ok(connection)
    }

    /// Connects, and sends nothing.
    ///
    /// # Errors
    /// When the connection cannot be made.
    pub fn raw(target: impl ToSocketAddrs, limit: Duration) -> Result<Self, Error> {
        const DOING: &str = "connecting";
        let fail = |source| Error::socket(DOING, limit, source);
        let mut last = Error::Usage("the target's address names no socket address".into());
        for address in target.to_socket_addrs().map_err(fail)? {
            match TcpStream::connect_timeout(&address, limit) {
                Ok(stream) => {
                    stream.set_nodelay(true).map_err(fail)?;
                    stream.set_read_timeout(Some(limit)).map_err(fail)?;
                    stream.set_write_timeout(Some(limit)).map_err(fail)?;
                    return Ok(Self {
                        stream,
                        limit,
                        ic_resp: IcResp::default(),
                        digests: Digests::default(),
                        received: Vec::new(),
                        eof: false,
                    });
                }
                Err(source) => last = fail(source),
            }
        }
        Err(last)
    }

    /// Sends an ICReq and takes over what the ICResp says.
    ///
    /// # Errors
    /// When the answer is no ICResp, names another PFV, or turns on a digest that was not asked for.
    pub fn initialize(&mut self, request: &IcReq) -> Result<IcResp, Error> {
        self.send(&Pdu::IcReq(*request))?;
        let resp = match self.recv()? {
            Pdu::IcResp(resp) => resp,
            other => return Err(Error::unexpected("ICResp", format!("{other:?}"))),
        };
        if resp.pfv != 0 {
            return Err(Error::unexpected("ICResp with PFV 0", format!("PFV {}", resp.pfv)));
        }
        if resp.dgst & !request.dgst != 0 {
            let asked = format!("ICResp with no digests beyond {:#04x}", request.dgst);
            return Err(Error::unexpected(asked, format!("{:#04x}", resp.dgst)));
        }
        if resp.maxh2cdata < MAXH2CDATA_MIN || !resp.maxh2cdata.is_multiple_of(4) {
            let asked = format!("MAXH2CDATA of at least {MAXH2CDATA_MIN}, in dwords");
            return Err(Error::unexpected(asked, resp.maxh2cdata.to_string()));
        }
        if resp.cpda > CPDA_MAX {
            return Err(Error::unexpected(format!("CPDA of at most {CPDA_MAX}"), resp.cpda.to_string()));
        }
        self.digests = Digests { header: resp.dgst & 1 != 0, data: resp.dgst & 2 != 0 };
        self.ic_resp = resp;
        Ok(resp)
    }

    /// What the target answered to the ICReq (all zeros before).
    #[must_use]
    pub fn ic_resp(&self) -> IcResp {
        self.ic_resp
    }

    /// Digests in use.
    #[must_use]
    pub fn digests(&self) -> Digests {
        self.digests
    }

    /// The alignment of data that the target asked for, in bytes.
    #[must_use]
    pub fn data_alignment(&self) -> usize {
        usize::from(self.ic_resp.cpda).saturating_add(1).saturating_mul(4)
    }

    /// This side's socket address.
    ///
    /// # Errors
    /// When the socket has none any more.
    pub fn local_addr(&self) -> Result<SocketAddr, Error> {
        self.stream.local_addr().map_err(|source| Error::socket("reading the address", self.limit, source))
    }

    /// Lays a PDU out as this connection asks: digests, alignment.
    #[must_use]
    pub fn encode(&self, pdu: &Pdu) -> Frame {
        pdu.encode(self.digests, self.data_alignment())
    }

    /// Sends a well-formed PDU.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn send(&mut self, pdu: &Pdu) -> Result<(), Error> {
        self.send_frame(&self.encode(pdu))
    }

    /// Sends a frame as it is.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn send_frame(&mut self, frame: &Frame) -> Result<(), Error> {
        self.send_raw(frame.as_bytes())
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// When they cannot be sent.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.stream.write_all(bytes).map_err(|source| Error::socket("sending", self.limit, source))
    }

    /// Receives one PDU. A C2HTermReq is returned as a PDU like the others.
    ///
    /// # Errors
    /// When nothing comes in time, the target closes, or what comes is no PDU.
    pub fn recv(&mut self) -> Result<Pdu, Error> {
        let frame = self.recv_frame()?;
        Ok(Pdu::decode(&frame, self.digests)?)
    }

    /// Receives the bytes of one PDU by its PLEN, unchecked otherwise.
    ///
    /// # Errors
    /// As [`Self::recv`]; [`Error::Unexpected`] for a PLEN below 8 or above [`PDU_LEN_MAX`].
    pub fn recv_frame(&mut self) -> Result<Frame, Error> {
        self.fill(COMMON_HEADER_LEN)?;
        let plen = le32(&self.received, 4).map_or(0, |plen| usize::try_from(plen).unwrap_or(usize::MAX));
        if !(COMMON_HEADER_LEN..=PDU_LEN_MAX).contains(&plen) {
            return Err(Error::unexpected("a PLEN within limits", plen.to_string()));
        }
        self.fill(plen)?;
        let rest = self.received.split_off(plen);
        Ok(Frame::from_bytes(std::mem::replace(&mut self.received, rest)))
    }

    /// Whether a whole PDU can be had without waiting for the target (looks at what has arrived so far).
    ///
    /// # Errors
    /// When the socket fails.
    pub fn has_pdu(&mut self) -> Result<bool, Error> {
        let fail = |source| Error::socket("looking for a PDU", Duration::ZERO, source);
        self.stream.set_nonblocking(true).map_err(fail)?;
        let mut outcome = Ok(());
        while outcome.is_ok() && !self.eof {
            outcome = self.read_some();
        }
        self.stream.set_nonblocking(false).map_err(fail)?;
        match outcome {
            Ok(()) | Err(Error::Timeout { .. } | Error::Closed { .. }) => {}
            Err(other) => return Err(other),
        }
        let plen = le32(&self.received, 4).map(|plen| usize::try_from(plen).unwrap_or(usize::MAX));
        Ok(plen.is_some_and(|plen| self.received.len() >= plen))
    }

    /// Reads on until a C2HTermReq comes, passing over other PDUs.
    ///
    /// # Errors
    /// When the connection ends, or time runs out, without one.
    pub fn expect_term_req(&mut self) -> Result<TermReq, Error> {
        loop {
            if let Pdu::C2hTermReq(term) = self.recv()? {
                return Ok(term);
            }
        }
    }

    /// Reads on until the target closes (or resets) the connection, passing over whatever still comes.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the connection stays open.
    pub fn expect_close(&mut self) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(self.limit);
        while !self.eof {
            self.received.clear();
            match self.read_some() {
                Ok(()) => {}
                Err(Error::Closed { .. }) => return Ok(()),
                Err(other) => return Err(other),
            }
            if deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Err(Error::Timeout {
                    doing: "waiting for the close",
                    limit_ms: self.limit.as_millis(),
                });
            }
        }
        Ok(())
    }

    /// Ends this side's direction; the target reads end of file but may still answer.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn half_close(&mut self) -> Result<(), Error> {
        self.stream
            .shutdown(Shutdown::Write)
            .map_err(|source| Error::socket("half-closing", self.limit, source))
    }

    /// Dies as a host does that crashes: the connection is reset, and whatever was on its way is lost.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn abort(self) -> Result<(), Error> {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))
            .map_err(|error| Error::socket("resetting the connection", self.limit, error.into()))
    }

    /// Ends the connection as a crash does: with a TCP reset, whatever is under way.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn reset(self) -> Result<(), Error> {
        rustix::net::sockopt::set_socket_linger(&self.stream, Some(Duration::ZERO))
            .map_err(|errno| Error::socket("resetting", self.limit, errno.into()))
    }

    /// Changes the time limit of later reads and writes.
    ///
    /// # Errors
    /// When the socket fails.
    pub fn set_limit(&mut self, limit: Duration) -> Result<(), Error> {
        let fail = |source| Error::socket("setting the time limit", limit, source);
        self.stream.set_read_timeout(Some(limit)).map_err(fail)?;
        self.stream.set_write_timeout(Some(limit)).map_err(fail)?;
        self.limit = limit;
        Ok(())
    }

    /// Gives the socket away, for an engine of its own. Nothing may have been received beyond the last PDU.
    ///
    /// # Errors
    /// When bytes of the target would be lost.
    pub fn into_stream(self) -> Result<TcpStream, Error> {
        if self.received.is_empty() {
            Ok(self.stream)
        } else {
            Err(Error::unexpected("no PDU in between", format!("{} bytes", self.received.len())))
        }
    }

    /// Receives exactly so many bytes.
    pub(crate) fn recv_exact(&mut self, len: usize) -> Result<Vec<u8>, Error> {
        self.fill(len)?;
        let rest = self.received.split_off(len);
        Ok(std::mem::replace(&mut self.received, rest))
    }

    fn fill(&mut self, len: usize) -> Result<(), Error> {
        while self.received.len() < len {
            if self.eof {
                return Err(Error::Closed { doing: "receiving a PDU" });
            }
            self.read_some()?;
        }
        Ok(())
    }

    fn read_some(&mut self) -> Result<(), Error> {
        let mut chunk = [0; 64 << 10];
        match self.stream.read(&mut chunk) {
            Ok(0) => {
                self.eof = true;
                Ok(())
            }
            Ok(len) => {
                self.received.extend_from_slice(chunk.get(..len).unwrap_or_default());
                Ok(())
            }
            Err(source) if source.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(source) => Err(Error::socket("receiving a PDU", self.limit, source)),
        }
    }
}

/// NVMe/TCP 1.1 §3.6.2.3 "Initialize Connection Response PDU": MAXH2CDATA is at least 4096, a multiple of 4.
const MAXH2CDATA_MIN: u32 = 4096;
/// The same clause: alignments are at most 128 bytes, (31 + 1) dwords.
const CPDA_MAX: u8 = 31;
