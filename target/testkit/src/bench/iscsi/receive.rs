//! What a session receives, taken apart in place.
//!
//! RFC 7143 §11 "iSCSI PDU Formats": Data-In, SCSI Response, R2T and pings. Data is handed on in the pieces in which it
//! lies in the receive buffer; it is copied only by those who want it.

use std::io::Read;

use anyhow::{Result, bail, ensure};
use crc_fast::{CrcAlgorithm, Digest};
use holdfast_testkit::iscsi::{BHS_LEN, RESERVED_TAG, Sense, opcode};
use holdfast_testkit::wire::{DIGEST_LEN, Digests, le32};

use crate::inbox::{Filled, Inbox};

/// The longest data segment that is no Data-In: far more than sense data or a ping of a target has.
const SMALL_MAX: usize = 8 << 10;
/// Data-In with status; Data-In or SCSI Response with a residual. RFC 7143 §11.4.1, §11.7.
const HAS_STATUS: u8 = 0x01;
const RESIDUALS: u8 = 0x06;

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended {
    pub(crate) itt: u32,
    pub(crate) response: u8,
    pub(crate) status: u8,
    pub(crate) sense: Option<(u8, u8, u8)>,
    /// Whether more or less was moved than was expected.
    pub(crate) residual: bool,
}

/// What came.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// A command has ended.
    Ended(Ended),
    /// The target is ready for data.
    R2t { itt: u32, ttt: u32, offset: usize, len: usize },
    /// A piece of data for a command, at `offset` of its buffer.
    Data { itt: u32, offset: usize, bytes: &'a [u8] },
    /// The target wants an answer.
    Ping { lun: [u8; 8], ttt: u32 },
}

#[derive(Debug, Clone, Copy)]
enum State {
    Header,
    /// In the data of a Data-In PDU.
    Data {
        itt: u32,
        offset: usize,
        left: usize,
        pad: usize,
        ended: Option<Ended>,
    },
    /// Before padding and data digest.
    Tail {
        pad: usize,
        ended: Option<Ended>,
    },
}

/// The receive side of one session.
pub(crate) struct Receive {
    inbox: Inbox,
    state: State,
    digests: Digests,
    crc: Digest,
    /// StatSN that comes next, and the highest CmdSN that the target takes.
    pub(crate) exp_stat_sn: u32,
    pub(crate) max_cmd_sn: u32,
}

impl Receive {
    pub(crate) fn new(digests: Digests, exp_stat_sn: u32, max_cmd_sn: u32) -> Self {
        let crc = Digest::new(CrcAlgorithm::Crc32Iscsi);
        Self { inbox: Inbox::default(), state: State::Header, digests, crc, exp_stat_sn, max_cmd_sn }
    }

    /// Reads once from the socket.
    pub(crate) fn fill(&mut self, socket: impl Read) -> Result<Filled> {
        self.inbox.fill(socket)
    }

    /// The next event in what has been read; `None` when more is needed.
    pub(crate) fn next_event(&mut self) -> Result<Option<Event<'_>>> {
        loop {
            match self.state {
                State::Header => {
                    let Some(event) = self.header()? else {
                        if matches!(self.state, State::Header) {
                            return Ok(None);
                        }
                        continue;
                    };
                    return Ok(Some(event));
                }
                State::Data { itt, offset, left, pad, ended } => {
                    let bytes = self.inbox.take(left);
                    if bytes.is_empty() {
                        return Ok(None);
                    }
                    self.state = if left > bytes.len() {
                        let (offset, left) =
                            (offset.saturating_add(bytes.len()), left.saturating_sub(bytes.len()));
                        State::Data { itt, offset, left, pad, ended }
                    } else {
                        State::Tail { pad, ended }
                    };
                    if self.digests.data {
                        self.crc.update(bytes);
                    }
                    return Ok(Some(Event::Data { itt, offset, bytes }));
                }
                State::Tail { pad, ended } => {
                    if !self.tail(pad)? {
                        return Ok(None);
                    }
                    self.state = State::Header;
                    if let Some(ended) = ended {
                        return Ok(Some(Event::Ended(ended)));
                    }
                }
            }
        }
    }

    /// Takes padding and data digest; `false` while they are not there.
    fn tail(&mut self, pad: usize) -> Result<bool> {
        let digest = if self.digests.data { DIGEST_LEN } else { 0 };
        let Some(tail) = self.inbox.unread().get(..pad.saturating_add(digest)) else { return Ok(false) };
        if let Some(got) = le32(tail, pad).filter(|_| self.digests.data) {
            self.crc.update(tail.get(..pad).unwrap_or_default());
            let expected = self.crc.finalize_reset();
            ensure!(u64::from(got) == expected, "data digest: expected {expected:#010x}, got {got:#010x}");
        }
        self.inbox.take(pad.saturating_add(digest));
        Ok(true)
    }

    /// Takes a PDU's header in, once it is there as a whole; with it the data of all but Data-In.
    fn header(&mut self) -> Result<Option<Event<'static>>> {
        let unread = self.inbox.unread();
        let Some((bhs, rest)) = unread.split_first_chunk::<BHS_LEN>() else { return Ok(None) };
        let bhs = *bhs;
        let head_len = BHS_LEN.saturating_add(if self.digests.header { DIGEST_LEN } else { 0 });
        if self.digests.header {
            let Some(got) = le32(rest, 0) else { return Ok(None) };
            let expected = crc_fast::crc32_iscsi(&bhs);
            ensure!(got == expected, "header digest: expected {expected:#010x}, got {got:#010x}");
        }
        let [ahs_words, ..] = word(&bhs, 4).to_be_bytes();
        ensure!(ahs_words == 0, "a response with additional headers");
        let len = usize::try_from(word(&bhs, 4) & 0xff_ffff)?;
        let pad = len.next_multiple_of(4).saturating_sub(len);
        let [code, flags, response, status, ..] = bhs;
        let itt = word(&bhs, 16);
        let ended = Ended { itt, response, status, sense: None, residual: flags & RESIDUALS != 0 };
        if code == opcode::DATA_IN {
            self.inbox.take(head_len);
            let has_status = flags & HAS_STATUS != 0;
            self.count(&bhs, has_status);
            let ended = has_status.then_some(Ended { response: 0, ..ended });
            let offset = usize::try_from(word(&bhs, 40))?;
            ensure!(len > 0 || has_status, "a Data-In without data and status");
            self.state = if len > 0 {
                State::Data { itt, offset, left: len, pad, ended }
            } else {
                self.crc.reset();
                return Ok(ended.map(Event::Ended));
            };
            return Ok(None);
        }
        ensure!(len <= SMALL_MAX, "opcode {code:#04x} with {len} bytes of data");
        let digest = if self.digests.data && len > 0 { DIGEST_LEN } else { 0 };
        let whole = head_len.saturating_add(len).saturating_add(pad).saturating_add(digest);
        let Some(data) =
            unread.get(..whole).and_then(|whole| whole.get(head_len..head_len.saturating_add(len)))
        else {
            return Ok(None);
        };
        let sense = data.get(2..).and_then(Sense::parse).map(|sense| (sense.key, sense.asc, sense.ascq));
        self.inbox.take(whole);
        let number = |at| usize::try_from(word(&bhs, at));
        let event = match code {
            opcode::SCSI_RESPONSE => Event::Ended(Ended { sense, ..ended }),
            opcode::R2T => Event::R2t { itt, ttt: word(&bhs, 20), offset: number(40)?, len: number(44)? },
            opcode::NOP_IN => {
                let [_, _, _, _, _, _, _, _, lun @ ..] = bhs;
                let lun = *lun.first_chunk().unwrap_or(&[0; 8]);
                Event::Ping { lun, ttt: word(&bhs, 20) }
            }
            other => bail!("opcode {other:#04x}, header {bhs:02x?}"),
        };
        // A ping of the target's own accord has the number that comes next, and does not use it up.
        self.count(&bhs, matches!(event, Event::Ended(_)));
        Ok(Some(event))
    }

    fn count(&mut self, bhs: &[u8; BHS_LEN], has_status: bool) {
        if has_status {
            self.exp_stat_sn = word(bhs, 24).wrapping_add(1);
        }
        let max_cmd_sn = word(bhs, 32);
        // Serial number arithmetic, RFC 1982.
        if max_cmd_sn.wrapping_sub(self.max_cmd_sn) < 1 << 31 {
            self.max_cmd_sn = max_cmd_sn;
        }
    }
}

/// Whether a ping asks for an answer.
pub(crate) fn wants_answer(ttt: u32) -> bool {
    ttt != RESERVED_TAG
}

fn word(bhs: &[u8; BHS_LEN], at: usize) -> u32 {
    bhs.get(at..).and_then(|bytes| bytes.first_chunk()).map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_testkit::iscsi::Pdu;

    fn stream(digests: Digests) -> Vec<u8> {
        let data_in = |flags, offset, data: Vec<u8>| {
            Pdu::new(opcode::DATA_IN).flags(flags).itt(7).word(24, 5).word(32, 40).word(40, offset).data(data)
        };
        let sense = [&[0, 18, 0x70, 0, 0x0b, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x10, 1][..], &[0; 4]].concat();
        let pdus = [
            data_in(0, 0, vec![1; 3001]),
            Pdu::new(opcode::R2T).itt(9).word(20, 4).word(32, 41).word(40, 8192).word(44, 4096),
            data_in(0x81, 3001, vec![2; 1095]),
            Pdu::new(opcode::SCSI_RESPONSE).itt(8).byte(3, 2).word(24, 6).word(32, 42).data(sense),
            Pdu::new(opcode::NOP_IN).itt(RESERVED_TAG).word(20, 3).word(24, 7).word(32, 43),
        ];
        pdus.iter().flat_map(|pdu| pdu.encode(digests)).collect()
    }

    fn events(stream: &[u8], digests: Digests, step: usize) -> Vec<String> {
        let mut receive = Receive::new(digests, 5, 30);
        let (mut seen, mut data) = (Vec::new(), Vec::new());
        for mut piece in stream.chunks(step) {
            while !piece.is_empty() {
                assert_ne!(receive.fill(&mut piece).unwrap(), Filled::Nothing);
                while let Some(event) = receive.next_event().unwrap() {
                    match event {
                        Event::Data { itt: 7, offset, bytes } => {
                            assert_eq!(offset, data.len());
                            data.extend_from_slice(bytes);
                        }
                        Event::Ended(ended) => {
                            seen.push(format!("{} {} {:?}", ended.itt, ended.status, ended.sense));
                        }
                        other => seen.push(format!("{other:?}")),
                    }
                }
            }
        }
        assert_eq!(data, [vec![1; 3001], vec![2; 1095]].concat());
        assert_eq!((receive.exp_stat_sn, receive.max_cmd_sn), (7, 43));
        seen
    }

    #[test]
    fn any_cut_of_the_stream_gives_the_same_events() {
        for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
            let digests = Digests { header, data };
            let stream = stream(digests);
            for step in [1, 7, 48, 100, 4096, stream.len()] {
                let expected = [
                    "R2t { itt: 9, ttt: 4, offset: 8192, len: 4096 }",
                    "7 0 None",
                    "8 2 Some((11, 16, 1))",
                    "Ping { lun: [0, 0, 0, 0, 0, 0, 0, 0], ttt: 3 }",
                ];
                assert_eq!(events(&stream, digests, step), expected);
            }
        }
    }

    #[test]
    fn a_bent_data_digest_is_an_error() {
        let digests = Digests { header: false, data: true };
        let mut bent = Pdu::new(opcode::DATA_IN).data(vec![1; 64]).encode(digests);
        *bent.last_mut().unwrap() ^= 1;
        let mut receive = Receive::new(digests, 0, 0);
        receive.fill(&bent[..]).unwrap();
        assert!(matches!(receive.next_event(), Ok(Some(Event::Data { .. }))));
        assert!(receive.next_event().unwrap_err().to_string().contains("data digest"));
    }

    #[test]
    fn a_reject_is_an_error() {
        let reject = Pdu::new(opcode::REJECT).byte(2, 4).encode(Digests::default());
        let mut receive = Receive::new(Digests::default(), 0, 0);
        receive.fill(&reject[..]).unwrap();
        assert!(receive.next_event().unwrap_err().to_string().contains("0x3f"));
    }
}
