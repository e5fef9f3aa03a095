//! What a connection receives, taken apart in place.
//!
//! NVMe/TCP 1.1 §3.6 "PDU formats": response capsules, data and ready-to-transfer PDUs. Data is handed on in
//! the pieces in which it lies in the receive buffer; it is copied only by those who want it.

use std::io::Read;

use anyhow::{Result, bail, ensure};
use crc_fast::{CrcAlgorithm, Digest};
use holdfast_testkit::wire::{Cqe, DIGEST_LEN, Digests, R2t, kind, le16, le32};

use crate::inbox::{Filled, Inbox};

/// CapsuleResp, C2HData and R2T all have a header of 24 bytes.
const HEADER_LEN: usize = 24;

const FLAG_DDGST: u8 = 0x02;
const FLAG_LAST: u8 = 0x04;
const FLAG_SUCCESS: u8 = 0x08;

/// What came.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A response.
    Response(Cqe),
    /// The target is ready for data.
    R2t(R2t),
    /// A piece of data for command `cid`, at `offset` of its buffer.
    Data { cid: u16, offset: usize, bytes: &'a [u8] },
    /// A C2HData PDU said SUCCESS: the command is done, no response follows.
    Success { cid: u16 },
}

#[derive(Debug)]
enum State {
    Header,
    /// In the data of a C2HData PDU.
    Data {
        cid: u16,
        offset: usize,
        left: usize,
        success: bool,
        digested: bool,
    },
    /// Before the data digest.
    DataDigest {
        cid: u16,
        success: bool,
    },
    /// Behind a C2HData PDU that said SUCCESS.
    Success {
        cid: u16,
    },
}

/// Where a PDU's header leads.
enum Header {
    /// More bytes are needed.
    Short,
    /// The PDU is nothing but its header.
    Whole(Event<'static>),
    /// Data follows.
    Data,
}

/// The receive side of one connection.
pub(crate) struct Receive {
    inbox: Inbox,
    state: State,
    digests: Digests,
    crc: Digest,
}

impl Receive {
    pub(crate) fn new(digests: Digests) -> Self {
        let crc = Digest::new(CrcAlgorithm::Crc32Iscsi);
        Self { inbox: Inbox::default(), state: State::Header, digests, crc }
    }

    /// Reads once from the socket.
    pub(crate) fn fill(&mut self, socket: impl Read) -> Result<Filled> {
        self.inbox.fill(socket)
    }

    /// The next event in what has been read; `None` when more is needed.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event<'_>>> {
        loop {
            match self.state {
                State::Header => match self.header()? {
                    Header::Short => return Ok(None),
                    Header::Whole(event) => return Ok(Some(event)),
                    Header::Data => {}
                },
                State::Data { cid, offset, left, success, digested } => {
                    let bytes = self.inbox.take(left);
                    let len = bytes.len();
                    if len == 0 {
                        return Ok(None);
                    }
                    self.state = if left > len {
                        let offset = offset.saturating_add(len);
                        State::Data { cid, offset, left: left.saturating_sub(len), success, digested }
                    } else if digested {
                        State::DataDigest { cid, success }
                    } else {
                        after_data(cid, success)
                    };
                    if digested {
                        self.crc.update(bytes);
                    }
                    return Ok(Some(Event::Data { cid, offset, bytes }));
                }
                State::DataDigest { cid, success } => {
                    let Some(field) = self.inbox.unread().first_chunk::<DIGEST_LEN>() else {
                        return Ok(None);
                    };
                    let got = u64::from(u32::from_le_bytes(*field));
                    let expected = self.crc.finalize_reset();
                    ensure!(got == expected, "data digest: expected {expected:#010x}, got {got:#010x}");
                    self.inbox.take(DIGEST_LEN);
                    self.state = after_data(cid, success);
                }
                State::Success { cid } => {
                    self.state = State::Header;
                    return Ok(Some(Event::Success { cid }));
                }
            }
        }
    }

    /// Takes a PDU's header in, once it is there as a whole.
    fn header(&mut self) -> Result<Header> {
        let unread = self.inbox.unread();
        let &[pdu_kind, flags, hlen, pdo, ..] = unread else { return Ok(Header::Short) };
        let Some(plen) = le32(unread, 4) else { return Ok(Header::Short) };
        if pdu_kind == kind::C2H_TERM_REQ {
            let (Some(fes), Some(fei)) = (le16(unread, 8), le32(unread, 10)) else {
                return Ok(Header::Short);
            };
            bail!("the target ended the connection with a terminate request: FES {fes:#04x}, FEI {fei:#x}");
        }
        ensure!(usize::from(hlen) == HEADER_LEN, "PDU type {pdu_kind:#04x} with HLEN {hlen}");
        let head_len = HEADER_LEN.saturating_add(if self.digests.header { DIGEST_LEN } else { 0 });
        let data_at = if pdu_kind == kind::C2H_DATA { usize::from(pdo) } else { head_len };
        ensure!(data_at >= head_len, "PDU type {pdu_kind:#04x} with PDO {pdo}");
        let Some(head) = unread.get(..data_at) else { return Ok(Header::Short) };
        let (Some((header, rest)), Some(cid)) = (head.split_first_chunk::<HEADER_LEN>(), le16(head, 8))
        else {
            return Ok(Header::Short);
        };
        if self.digests.header {
            let (got, expected) = (le32(rest, 0), crc_fast::crc32_iscsi(header));
            ensure!(got == Some(expected), "header digest: expected {expected:#010x}, got {got:#010x?}");
        }
        let header = *header;
        let outcome = match pdu_kind {
            kind::CAPSULE_RESP => {
                let [_, _, _, _, _, _, _, _, cqe @ ..] = header;
                Header::Whole(Event::Response(Cqe::parse(&cqe)))
            }
            kind::R2T => Header::Whole(Event::R2t(R2t {
                cccid: cid,
                ttag: le16(&header, 10).unwrap_or(0),
                r2to: le32(&header, 12).unwrap_or(0),
                r2tl: le32(&header, 16).unwrap_or(0),
            })),
            kind::C2H_DATA => {
                let offset = usize::try_from(le32(&header, 12).unwrap_or(0))?;
                let left = usize::try_from(le32(&header, 16).unwrap_or(0))?;
                let digested = flags & FLAG_DDGST != 0;
                ensure!(digested == self.digests.data, "C2HData with DDGSTF {digested}");
                let len = data_at.saturating_add(left).saturating_add(if digested { DIGEST_LEN } else { 0 });
                ensure!(
                    left > 0 && usize::try_from(plen)? == len,
                    "C2HData with DATAL {left} and PLEN {plen}"
                );
                let success = flags & FLAG_SUCCESS != 0;
                ensure!(!success || flags & FLAG_LAST != 0, "C2HData with SUCCESS but not LAST_PDU");
                self.state = State::Data { cid, offset, left, success, digested };
                Header::Data
            }
            other => bail!("PDU type {other:#04x} is not for a host"),
        };
        self.inbox.take(data_at);
        Ok(outcome)
    }
}

fn after_data(cid: u16, success: bool) -> State {
    if success { State::Success { cid } } else { State::Header }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_testkit::wire::{DataPdu, Pdu};

    fn pdus() -> Vec<Pdu> {
        let data = |cccid, datao, data: Vec<u8>, last, success| {
            let datal = u32::try_from(data.len()).unwrap();
            Pdu::C2hData(DataPdu { cccid, ttag: 0, datao, datal, last, success, data })
        };
        vec![
            data(7, 0, vec![1; 3000], false, false),
            Pdu::R2t(R2t { cccid: 9, ttag: 4, r2to: 8192, r2tl: 4096 }),
            data(7, 3000, vec![2; 1096], true, false),
            Pdu::CapsuleResp(Cqe { cid: 7, sqhd: 3, ..Cqe::default() }),
            data(8, 0, vec![3; 512], true, true),
        ]
    }

    /// Feeds the stream in pieces of `step` bytes; gives what came as text, data joined.
    fn events(stream: &[u8], digests: Digests, step: usize) -> Vec<String> {
        let mut receive = Receive::new(digests);
        let (mut seen, mut data) = (Vec::new(), Vec::new());
        for mut piece in stream.chunks(step) {
            while !piece.is_empty() {
                assert_ne!(receive.fill(&mut piece).unwrap(), Filled::Nothing);
                while let Some(event) = receive.next_event().unwrap() {
                    match event {
                        Event::Data { cid, offset, bytes } => data.push((cid, offset, bytes.to_vec())),
                        Event::Response(cqe) => seen.push(format!("response {}", cqe.cid)),
                        Event::R2t(r2t) => seen.push(format!("r2t {} {}+{}", r2t.cccid, r2t.r2to, r2t.r2tl)),
                        Event::Success { cid } => seen.push(format!("success {cid}")),
                    }
                }
            }
        }
        let whole: Vec<u8> =
            data.iter().filter(|(cid, ..)| *cid == 7).flat_map(|(.., bytes)| bytes.clone()).collect();
        assert_eq!(whole, [vec![1; 3000], vec![2; 1096]].concat());
        assert!(data.iter().any(|(cid, offset, _)| (*cid, *offset) == (7, 3000)));
        seen
    }

    #[test]
    fn any_cut_of_the_stream_gives_the_same_events() {
        for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
            let digests = Digests { header, data };
            let stream: Vec<u8> =
                pdus().iter().flat_map(|pdu| pdu.encode(digests, 32).as_bytes().to_vec()).collect();
            for step in [1, 7, 24, 100, 4096, stream.len()] {
                assert_eq!(events(&stream, digests, step), ["r2t 9 8192+4096", "response 7", "success 8"]);
            }
        }
    }

    #[test]
    fn a_bent_data_digest_is_an_error() {
        let digests = Digests { header: false, data: true };
        let frame = pdus()[0].encode(digests, 4).spoil_last_byte();
        let mut receive = Receive::new(digests);
        receive.fill(frame.as_bytes()).unwrap();
        assert!(matches!(receive.next_event(), Ok(Some(Event::Data { .. }))));
        assert!(receive.next_event().unwrap_err().to_string().contains("data digest"));
    }

    #[test]
    fn a_terminate_request_is_an_error_that_says_why() {
        let term = holdfast_testkit::wire::TermReq { fes: 2, fei: 0, header: vec![] };
        let frame = Pdu::C2hTermReq(term).encode(Digests::default(), 4);
        let mut receive = Receive::new(Digests::default());
        receive.fill(frame.as_bytes()).unwrap();
        assert!(receive.next_event().unwrap_err().to_string().contains("FES 0x02"));
    }
}
