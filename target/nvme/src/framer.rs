//! Cutting the byte stream into PDUs. NVMe/TCP 1.1 §3.6 "NVMe/TCP PDUs".
//!
//! The framer is fed whatever the network delivers, in any cut. A header is collected in a fixed buffer and judged as soon
//! as it is complete; payload is handed on in place, without a copy. No buffer depends on a length that the peer names.
//!
//! Errors are reported for the lowest field of the header that is wrong. With header digests on, the digest is looked
//! at first: a damaged header says nothing about its sender's intentions. Only what is needed to find the digest (type,
//! header length, PDU length) comes before. What is reserved is not looked at.

use holdfast_pi::{DIGEST_LEN, Digest, Digests, digest_of};
use zerocopy::FromBytes;

use crate::limits::IN_CAPSULE_LEN;
use crate::term::{Fatal, FatalStatus};
use crate::wire::pdu::{
    COMMAND_LEN, COMMON_LEN, CommandCapsule, CommonHeader, DataHeader, FLAG_DDGST, FLAG_HDGST, FLAG_LAST,
    HPDA_MAX, IC_LEN, InitializeConnection, SHORT_LEN, offset, pdu_type,
};
use crate::wire::sqe::Sqe;

/// What came.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    /// ICReq. [`Framer::negotiated`] has to be called before anything else is taken.
    Initialize(InitializeConnection),
    /// A command; `data_len` bytes of payload follow as [`Frame::Data`], then [`Frame::DataEnd`] if there were any.
    Command { sqe: Sqe, data_len: usize },
    /// H2CData, with its payload following in the same way. Its length is at least 1.
    HostData { header: DataHeader, last: bool },
    /// A piece of payload, never empty.
    Data(&'a [u8]),
    /// The payload is complete.
    DataEnd { damaged: bool },
}

/// Why nothing more can be taken from this peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// Say so in a C2HTermReq, then close.
    Terminate(Fatal),
    /// Close without a word.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Common,
    Header,
    Padding,
    Data,
    DataDigest,
    /// After an error, or the host's own TermReq.
    Ended,
}

/// The state of a stream.
#[derive(Debug)]
pub(crate) struct Framer {
    stage: Stage,
    /// Whether ICReq has been answered.
    initialized: bool,
    digests: Digests,
    header: [u8; IC_LEN + DIGEST_LEN],
    header_have: usize,
    padding_left: usize,
    data_left: usize,
    data_digest: Digest,
    received_digest: [u8; DIGEST_LEN],
    received_digest_have: usize,
}

impl Framer {
    pub(crate) fn new() -> Framer {
        Framer {
            stage: Stage::Common,
            initialized: false,
            digests: Digests::default(),
            header: [0; IC_LEN + DIGEST_LEN],
            header_have: 0,
            padding_left: 0,
            data_left: 0,
            data_digest: Digest::new(),
            received_digest: [0; DIGEST_LEN],
            received_digest_have: 0,
        }
    }

    /// From here on PDUs follow these rules.
    pub(crate) fn negotiated(&mut self, digests: Digests) {
        self.initialized = true;
        self.digests = digests;
    }

    /// Whether nothing of a PDU has come that is not complete.
    pub(crate) fn is_between_pdus(&self) -> bool {
        self.stage == Stage::Common && self.header_have == 0
    }

    /// The header, as far as it came, of the PDU in work: for a TermReq.
    pub(crate) fn offending_header(&self) -> &[u8] {
        let [_, _, hlen, ..] = self.header;
        let end = self.header_have.min(usize::from(hlen).max(COMMON_LEN)).min(IC_LEN);
        self.header.get(..end).unwrap_or_default()
    }

    /// Takes bytes off the front of `input` up to the next thing worth telling. `None`: more bytes are needed, and
    /// `input` is used up.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        loop {
            match self.stage {
                Stage::Common => {
                    if !self.collect(input, COMMON_LEN) {
                        return Ok(None);
                    }
                    if let Err(error) = self.check_common() {
                        return self.fail(error, input);
                    }
                    self.stage = Stage::Header;
                }
                Stage::Header => {
                    if !self.collect(input, self.header_len()) {
                        return Ok(None);
                    }
                    match self.finish_header() {
                        Ok(frame) => return Ok(Some(frame)),
                        Err(error) => return self.fail(error, input),
                    }
                }
                Stage::Padding => {
                    let Some(rest) = take(input, &mut self.padding_left) else { return Ok(None) };
                    if holdfast_mutant::active("planted-padding") {
                        self.padding_left = 0;
                    }
                    debug_assert!(rest.len() < IC_LEN + IC_LEN);
                    if self.padding_left == 0 {
                        self.stage = Stage::Data;
                    }
                }
                Stage::Data => {
                    if self.data_left == 0 {
                        if self.digests.data {
                            self.stage = Stage::DataDigest;
                            continue;
                        }
                        self.start_pdu();
                        return Ok(Some(Frame::DataEnd { damaged: false }));
                    }
                    let Some(piece) = take(input, &mut self.data_left) else { return Ok(None) };
                    if self.digests.data {
                        self.data_digest.update(piece);
                    }
                    return Ok(Some(Frame::Data(piece)));
                }
                Stage::DataDigest => {
                    if !self.collect_digest(input) {
                        return Ok(None);
                    }
                    let damaged = self.received_digest != self.data_digest.finish()
                        && !holdfast_mutant::active("data-digest");
                    self.start_pdu();
                    return Ok(Some(Frame::DataEnd { damaged }));
                }
                Stage::Ended => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    fn start_pdu(&mut self) {
        self.stage = Stage::Common;
        self.header_have = 0;
        self.received_digest_have = 0;
        self.data_digest = Digest::new();
    }

    /// Fills the header up to `want` bytes; whether it is there.
    fn collect(&mut self, input: &mut &[u8], want: usize) -> bool {
        let mut missing = want.saturating_sub(self.header_have);
        if let Some(piece) = take(input, &mut missing)
            && let Some(room) = self.header.get_mut(self.header_have..self.header_have + piece.len())
        {
            room.copy_from_slice(piece);
            self.header_have += piece.len();
        }
        self.header_have >= want
    }

    fn collect_digest(&mut self, input: &mut &[u8]) -> bool {
        let mut missing = DIGEST_LEN - self.received_digest_have;
        if let Some(piece) = take(input, &mut missing)
            && let Some(room) = self.received_digest.get_mut(self.received_digest_have..)
        {
            for (to, from) in room.iter_mut().zip(piece) {
                *to = *from;
            }
            self.received_digest_have += piece.len();
        }
        self.received_digest_have == DIGEST_LEN
    }

    fn common(&self) -> CommonHeader {
        let [pdu_type, flags, hlen, pdo, a, b, c, d, ..] = self.header;
        CommonHeader { pdu_type, flags, hlen, pdo, plen: [a, b, c, d].into() }
    }

    fn header_digest_len(&self, pdu: u8) -> usize {
        let digested = matches!(pdu, pdu_type::CAPSULE_CMD | pdu_type::H2C_DATA);
        if digested && self.digests.header { DIGEST_LEN } else { 0 }
    }

    /// Bytes of the header with its digest, once the common part has been checked.
    fn header_len(&self) -> usize {
        let common = self.common();
        usize::from(common.hlen) + self.header_digest_len(common.pdu_type)
    }

    /// What can be said after 8 bytes.
    fn check_common(&self) -> Result<(), FrameError> {
        let common = self.common();
        let expected_hlen = self.check_type(common.pdu_type)?;
        let plen = usize::try_from(common.plen.get()).unwrap_or(usize::MAX);
        let full_len = expected_hlen + self.header_digest_len(common.pdu_type);
        let found = usize::from(common.hlen) == expected_hlen && plen >= full_len;
        if found && full_len > expected_hlen {
            return Ok(());
        }
        self.check_fields(common)
    }

    /// The PDU type, also against the state of the connection; gives the header length that it has to have.
    fn check_type(&self, pdu: u8) -> Result<usize, FrameError> {
        let hlen = match pdu {
            pdu_type::IC_REQ => IC_LEN,
            pdu_type::H2C_DATA => SHORT_LEN,
            pdu_type::CAPSULE_CMD => COMMAND_LEN,
            // §3.5 "Error Handling Model": the connection ends, whatever the rest of it says.
            pdu_type::H2C_TERM_REQ if holdfast_mutant::active("term-answered") => {
                return Err(invalid(offset::PLEN));
            }
            pdu_type::H2C_TERM_REQ => return Err(FrameError::Close),
            _ => return Err(invalid(offset::PDU_TYPE)),
        };
        let in_sequence =
            (pdu == pdu_type::IC_REQ) != self.initialized || holdfast_mutant::active("icreq-twice");
        if in_sequence { Ok(hlen) } else { Err(terminate(FatalStatus::PduSequence, 0)) }
    }

    /// FLAGS, HLEN, PDO and PLEN, in this order.
    fn check_fields(&self, common: CommonHeader) -> Result<(), FrameError> {
        let expected_hlen = self.check_type(common.pdu_type)?;
        let full_len = expected_hlen + self.header_digest_len(common.pdu_type);
        let plen = usize::try_from(common.plen.get()).unwrap_or(usize::MAX);
        // ICReq is all header; its FLAGS and PDO are reserved.
        let carries = common.pdu_type != pdu_type::IC_REQ;
        let has_data = carries && plen > full_len;
        if carries
            && !self.digest_flags_fit(common.flags, has_data)
            && !holdfast_mutant::active("digest-flags")
        {
            return Err(invalid(offset::FLAGS));
        }
        if usize::from(common.hlen) != expected_hlen {
            let named = if holdfast_mutant::active("hlen-offset") { offset::PLEN } else { offset::HLEN };
            return Err(invalid(named));
        }
        let pdo = usize::from(common.pdo);
        // Our CPDA is 0, which leaves dwords. Without data there is nothing that PDO could point at.
        if has_data
            && !(pdo >= full_len && (pdo.is_multiple_of(4) || holdfast_mutant::active("pdo-alignment")))
        {
            return Err(invalid(offset::PDO));
        }
        let trailer = if self.digests.data { DIGEST_LEN } else { 0 };
        let plen_fits = match common.pdu_type {
            pdu_type::IC_REQ => plen == IC_LEN,
            pdu_type::CAPSULE_CMD if !has_data => plen == full_len,
            pdu_type::CAPSULE_CMD if holdfast_mutant::active("capsule-length") => plen > pdo + trailer,
            pdu_type::CAPSULE_CMD => plen > pdo + trailer && plen <= pdo + IN_CAPSULE_LEN + trailer,
            _ => has_data && plen > pdo + trailer,
        };
        if plen_fits { Ok(()) } else { Err(invalid(offset::PLEN)) }
    }

    /// §3.3.1.1: HDGSTF as agreed; DDGSTF as agreed where there is data. Without data DDGSTF says nothing, as long as data
    /// digests are on.
    fn digest_flags_fit(&self, flags: u8, has_data: bool) -> bool {
        let header = flags & FLAG_HDGST != 0;
        let data = flags & FLAG_DDGST != 0;
        header == self.digests.header && (data == self.digests.data || (!data && !has_data))
    }

    fn finish_header<'a>(&mut self) -> Result<Frame<'a>, FrameError> {
        let common = self.common();
        let hlen = usize::from(common.hlen);
        let full_len = self.header_len();
        let header = self.header.get(..hlen).unwrap_or_default();
        if full_len > hlen {
            let received = self.header.get(hlen..full_len).unwrap_or_default();
            if received != digest_of(header) && !holdfast_mutant::active("header-digest") {
                let fei = <[u8; 4]>::try_from(received).map_or(0, u32::from_le_bytes);
                let fei = if holdfast_mutant::active("header-digest-fei") { 0 } else { fei };
                return Err(terminate(FatalStatus::HeaderDigest, fei));
            }
            self.check_fields(common)?;
        }
        let plen = usize::try_from(common.plen.get()).unwrap_or(usize::MAX);
        let mut data_len = 0;
        if plen > full_len {
            let trailer = if self.digests.data { DIGEST_LEN } else { 0 };
            data_len = plen.saturating_sub(usize::from(common.pdo)).saturating_sub(trailer);
        }
        let frame = match common.pdu_type {
            pdu_type::IC_REQ => Frame::Initialize(parse_initialize(header)?),
            pdu_type::CAPSULE_CMD => {
                let capsule = CommandCapsule::read_from_bytes(header).map_err(|_| FrameError::Close)?;
                Frame::Command { sqe: capsule.sqe, data_len }
            }
            _ => {
                let header = DataHeader::read_from_bytes(header).map_err(|_| FrameError::Close)?;
                if !header.offset.get().is_multiple_of(4) && !holdfast_mutant::active("datao-dword") {
                    return Err(invalid(offset::DATAO));
                }
                let length_fits =
                    usize::try_from(header.length.get()) == Ok(data_len) || holdfast_mutant::active("datal");
                if !length_fits || !data_len.is_multiple_of(4) {
                    return Err(invalid(offset::DATAL));
                }
                Frame::HostData { header, last: common.flags & FLAG_LAST != 0 }
            }
        };
        self.data_left = data_len;
        self.padding_left = usize::from(common.pdo).saturating_sub(full_len);
        match (data_len, self.padding_left) {
            (0, _) => self.start_pdu(),
            (_, 0) => self.stage = Stage::Data,
            _ => self.stage = Stage::Padding,
        }
        Ok(frame)
    }

    /// Ends the stream. The rest of the header, if it is there, is taken for the TermReq to quote.
    fn fail<'a>(&mut self, error: FrameError, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        let hlen = usize::from(self.common().hlen).min(IC_LEN);
        self.collect(input, hlen);
        *input = &[];
        self.stage = Stage::Ended;
        Err(error)
    }
}

/// ICReq's own fields. NVMe/TCP 1.1 §3.6.2.2 "Initialize Connection Request PDU (ICReq)".
fn parse_initialize(header: &[u8]) -> Result<InitializeConnection, FrameError> {
    let request = InitializeConnection::read_from_bytes(header).map_err(|_| FrameError::Close)?;
    if request.pfv.get() != 0 && !holdfast_mutant::active("icreq-pfv") {
        return Err(terminate(FatalStatus::UnsupportedParameter, offset::PFV));
    }
    if request.pda > HPDA_MAX && !holdfast_mutant::active("icreq-hpda") {
        return Err(invalid(offset::HPDA));
    }
    Ok(request)
}

/// Splits up to `left` bytes off the front; `None` when there are none to be had.
fn take<'a>(input: &mut &'a [u8], left: &mut usize) -> Option<&'a [u8]> {
    let (piece, rest) = input.split_at_checked(input.len().min(*left))?;
    if piece.is_empty() {
        return None;
    }
    *input = rest;
    *left -= piece.len();
    Some(piece)
}

fn invalid(field: u32) -> FrameError {
    terminate(FatalStatus::InvalidHeaderField, field)
}

fn terminate(status: FatalStatus, information: u32) -> FrameError {
    FrameError::Terminate(Fatal { status, information })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use zerocopy::{FromZeros, IntoBytes};

    /// A PDU with payload, as a host would send it.
    fn pdu(header: &mut [u8], data: &[u8], digests: Digests, padding: usize) -> Vec<u8> {
        let hlen = header.len();
        let pdo = hlen + if digests.header { DIGEST_LEN } else { 0 } + padding;
        let has_data = !data.is_empty();
        let trailer = if digests.data && has_data { DIGEST_LEN } else { 0 };
        let plen = if has_data { pdo + data.len() + trailer } else { pdo - padding };
        header[1] = u8::from(digests.header) | (u8::from(trailer > 0) << 1);
        header[2] = u8::try_from(hlen).unwrap();
        header[3] = if has_data { u8::try_from(pdo).unwrap() } else { 0 };
        header[4..8].copy_from_slice(&u32::try_from(plen).unwrap().to_le_bytes());
        let mut bytes = header.to_vec();
        if digests.header {
            bytes.extend(digest_of(header));
        }
        if has_data {
            bytes.resize(pdo, 0);
            bytes.extend_from_slice(data);
        }
        if trailer > 0 {
            bytes.extend(digest_of(data));
        }
        bytes
    }

    /// Commands and H2CData, told apart by `host_data`, one after another.
    fn stream(pdus: &[(bool, u16, Vec<u8>)], digests: Digests, padding: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (host_data, cid, data) in pdus {
            if *host_data && !data.is_empty() && data.len().is_multiple_of(4) {
                let mut header = DataHeader::new_zeroed();
                header.common.pdu_type = pdu_type::H2C_DATA;
                header.cccid.set(*cid);
                header.length.set(u32::try_from(data.len()).unwrap());
                bytes.extend(pdu(header.as_mut_bytes(), data, digests, padding));
            } else {
                let mut capsule = CommandCapsule::new_zeroed();
                capsule.common.pdu_type = pdu_type::CAPSULE_CMD;
                capsule.sqe.cid.set(*cid);
                bytes.extend(pdu(capsule.as_mut_bytes(), data, digests, padding));
            }
        }
        bytes
    }

    /// What the framer makes of a stream in pieces: CID and payload of each PDU.
    fn played(bytes: &[u8], cuts: &[usize], digests: Digests) -> Vec<(u16, Vec<u8>)> {
        let mut framer = Framer::new();
        framer.negotiated(digests);
        let mut found: Vec<(u16, Vec<u8>)> = Vec::new();
        let mut rest = bytes;
        for cut in cuts.iter().cycle() {
            let (mut piece, later) = rest.split_at(rest.len().min(*cut));
            rest = later;
            while let Some(frame) = framer.next(&mut piece).unwrap() {
                match frame {
                    Frame::Command { sqe, .. } => found.push((sqe.cid.get(), vec![])),
                    Frame::HostData { header, .. } => found.push((header.cccid.get(), vec![])),
                    Frame::Data(data) => found.last_mut().unwrap().1.extend_from_slice(data),
                    Frame::DataEnd { damaged } => assert!(!damaged),
                    other => panic!("{other:?}"),
                }
            }
            assert!(piece.is_empty(), "input is used up");
            if rest.is_empty() {
                break;
            }
        }
        found
    }

    proptest! {
        #[test]
        fn every_cut_gives_the_same_pdus(
            pdus in prop::collection::vec(
                (any::<bool>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..300)), 1..8),
            (header, data) in any::<(bool, bool)>(),
            padding in 0_usize..8,
            cuts in prop::collection::vec(1_usize..200, 1..6),
        ) {
            let digests = Digests { header, data };
            let bytes = stream(&pdus, digests, padding * 4);
            let expected: Vec<_> = pdus.into_iter().map(|(_, cid, data)| (cid, data)).collect();
            prop_assert_eq!(played(&bytes, &cuts, digests), expected);
        }

        #[test]
        fn a_changed_payload_byte_is_noticed(data in prop::collection::vec(any::<u8>(), 1..300), at: prop::sample::Index) {
            let digests = Digests { header: false, data: true };
            let mut bytes = stream(&[(false, 1, data.clone())], digests, 0);
            bytes[COMMAND_LEN + at.index(data.len())] ^= 0x10;
            let mut framer = Framer::new();
            framer.negotiated(digests);
            let mut input = bytes.as_slice();
            let mut damaged = None;
            while let Some(frame) = framer.next(&mut input).unwrap() {
                if let Frame::DataEnd { damaged: found } = frame {
                    damaged = Some(found);
                }
            }
            prop_assert_eq!(damaged, Some(true));
        }
    }
}
