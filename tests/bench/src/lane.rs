//! One connection of the client.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use hdrhistogram::Histogram;
use holdfast_testkit::load::Mix;

use crate::LoadArguments;
use crate::wire::{REQUEST_LEN, Request};

/// Requests in one send.
const VECTORS_MAX: usize = 32;
const RECEIVE_LEN: usize = 256 << 10;

/// Which request comes next: reads and writes in the asked proportion, spread evenly.
pub(crate) struct Choice {
    read_percent: u8,
    place: u64,
}

impl Choice {
    /// Each connection begins at another place of the same row.
    pub(crate) fn new(mix: Mix, connection: u64) -> Self {
        Self { read_percent: mix.0, place: connection.wrapping_mul(37) }
    }

    fn next_is_read(&mut self) -> bool {
        // 61 has no factor in common with 100, so each hundred requests hit every residue once.
        self.place = self.place.wrapping_add(61);
        self.place % 100 < u64::from(self.read_percent)
    }
}

/// A connection and its requests in flight.
pub(crate) struct Lane {
    stream: TcpStream,
    read: Request,
    write: Request,
    read_bytes: [u8; REQUEST_LEN],
    write_bytes: Vec<u8>,
    choice: Choice,
    depth: usize,
    received: Vec<u8>,
    /// Bytes of the answer that is coming in.
    partial: usize,
    /// Requests that are to leave, the first of them in part already.
    queued: VecDeque<Request>,
    first_sent: usize,
    /// Requests in flight and when they were sent, oldest first: answers come in order.
    in_flight: VecDeque<(Request, Instant)>,
}

impl Lane {
    /// A connection that keeps `args.depth` requests in flight.
    pub(crate) fn new(stream: TcpStream, args: &LoadArguments, choice: Choice) -> Result<Self> {
        let (read, write) = (Request::Read(args.size.0), Request::Write(args.size.0));
        let mut write_bytes = write.capsule().to_vec();
        write_bytes.resize(REQUEST_LEN.saturating_add(args.size.0), 0x5a);
        let depth = usize::from(args.depth);
        Ok(Self {
            stream,
            read,
            write,
            read_bytes: read.capsule(),
            write_bytes,
            choice,
            depth,
            received: vec![0; RECEIVE_LEN],
            partial: 0,
            queued: VecDeque::with_capacity(depth),
            first_sent: 0,
            in_flight: VecDeque::with_capacity(depth),
        })
    }

    /// The socket.
    pub(crate) fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether the socket has not taken everything yet.
    pub(crate) fn wants_to_send(&self) -> bool {
        !self.queued.is_empty()
    }

    /// Fills up to the depth and sends what the socket takes.
    pub(crate) fn send(&mut self, now: Instant) -> Result<()> {
        while self.queued.len().saturating_add(self.in_flight.len()) < self.depth {
            let next = if self.choice.next_is_read() { self.read } else { self.write };
            self.queued.push_back(next);
        }
        while !self.queued.is_empty() {
            match (&self.stream).write_vectored(&self.vectors()) {
                Ok(len) => self.sent(len, now),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending"),
            }
        }
        Ok(())
    }

    /// Takes what has come. `true` when something did.
    pub(crate) fn receive(&mut self, latencies: &mut Histogram<u64>) -> Result<bool> {
        let len = match self.stream.read(&mut self.received) {
            Ok(0) => bail!("the server closed the connection"),
            Ok(len) => len,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error).context("receiving"),
        };
        let now = Instant::now();
        self.partial = self.partial.saturating_add(len);
        while let Some((request, sent_at)) = self.in_flight.front().copied()
            && self.partial >= request.answer_len()
        {
            self.in_flight.pop_front();
            self.partial = self.partial.saturating_sub(request.answer_len());
            let latency_ns = u64::try_from(now.duration_since(sent_at).as_nanos()).unwrap_or(u64::MAX);
            latencies.saturating_record(latency_ns.max(1));
        }
        anyhow::ensure!(self.partial == 0 || !self.in_flight.is_empty(), "an answer to no request");
        Ok(true)
    }

    fn bytes_of(&self, request: Request) -> &[u8] {
        match request {
            Request::Read(_) => &self.read_bytes,
            Request::Write(_) => &self.write_bytes,
        }
    }

    fn vectors(&self) -> [IoSlice<'_>; VECTORS_MAX] {
        let mut vectors = [IoSlice::new(&[]); VECTORS_MAX];
        let mut skip = self.first_sent;
        for (vector, request) in vectors.iter_mut().zip(&self.queued) {
            *vector = IoSlice::new(self.bytes_of(*request).get(skip..).unwrap_or_default());
            skip = 0;
        }
        vectors
    }

    fn sent(&mut self, len: usize, now: Instant) {
        self.first_sent = self.first_sent.saturating_add(len);
        while let Some(request) = self.queued.front().copied() {
            let request_len = self.bytes_of(request).len();
            if self.first_sent < request_len {
                return;
            }
            self.first_sent = self.first_sent.saturating_sub(request_len);
            self.queued.pop_front();
            self.in_flight.push_back((request, now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_requests_hold_the_asked_share_of_reads() {
        for percent in [0, 30, 70, 100] {
            let mut choice = Choice::new(Mix(percent), 5);
            let reads = (0..100).filter(|_| choice.next_is_read()).count();
            assert_eq!(reads, usize::from(percent));
        }
    }
}
