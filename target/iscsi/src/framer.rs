//! Cutting the byte stream into PDUs. RFC 7143 §11.1 "iSCSI PDU Length and Padding", §11.2 "PDU Template, Header, and Opcodes".
//!
//! The framer is fed whatever the network delivers, in any cut. Headers are collected in fixed buffers; data is handed on in
//! place, without a copy. No buffer depends on a length that the peer names.

use holdfast_pi::{DIGEST_LEN, Digest, Digests};
use zerocopy::FromBytes;

use crate::wire::{AHS_LEN_MAX, BHS_LEN, Bhs, padding};

/// What came.
#[derive(Debug)]
pub(crate) enum Frame<'a> {
    /// A header, with its additional segments in [`Framer::ahs`]; its data follows as [`Frame::Data`], then [`Frame::DataEnd`] if
    /// there was any.
    Header(Bhs),
    /// A piece of data, never empty.
    Data(&'a [u8]),
    /// The data is complete.
    DataEnd { damaged: bool },
}

/// Why nothing more can be taken from this peer: what follows cannot be found any more, or is not worth it. §7.7 "Header
/// Digest Errors", §7.3 "Usage of Reject PDU in Recovery".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// A header is damaged.
    HeaderDigest,
    /// A data segment is longer than was declared.
    TooLong,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Header,
    Additional,
    HeaderDigest,
    Data,
    Padding,
    DataDigest,
    /// After an error.
    Ended,
}

/// The state of a stream.
#[derive(Debug)]
pub(crate) struct Framer {
    stage: Stage,
    digests: Digests,
    /// Longest data segment.
    data_len_max: usize,
    header: [u8; BHS_LEN],
    have: usize,
    ahs: Vec<u8>,
    ahs_len: usize,
    data_left: usize,
    padding_left: usize,
    digest: Digest,
    received: [u8; DIGEST_LEN],
}

impl Framer {
    /// For a connection that begins: no digests.
    pub(crate) fn new(data_len_max: usize) -> Framer {
        Framer {
            stage: Stage::Header,
            digests: Digests::default(),
            data_len_max,
            header: [0; BHS_LEN],
            have: 0,
            ahs: Vec::new(),
            ahs_len: 0,
            data_left: 0,
            padding_left: 0,
            digest: Digest::new(),
            received: [0; DIGEST_LEN],
        }
    }

    /// From the next PDU on these rules hold.
    pub(crate) fn negotiated(&mut self, digests: Digests, data_len_max: usize) {
        self.digests = digests;
        self.data_len_max = data_len_max;
    }

    /// Whether nothing of a PDU has come that is not complete.
    pub(crate) fn is_between_pdus(&self) -> bool {
        self.stage == Stage::Header && self.have == 0
    }

    /// Additional header segments of the last header.
    pub(crate) fn ahs(&self) -> &[u8] {
        &self.ahs
    }

    /// Takes bytes off the front of `input` up to the next thing worth telling. `None`: more bytes are needed, and
    /// `input` is used up.
    pub(crate) fn next<'a>(&mut self, input: &mut &'a [u8]) -> Result<Option<Frame<'a>>, FrameError> {
        loop {
            match self.stage {
                Stage::Header => {
                    let Some(piece) = take(input, BHS_LEN - self.have) else { return Ok(None) };
                    if let Some(room) = self.header.get_mut(self.have..self.have + piece.len()) {
                        room.copy_from_slice(piece);
                    }
                    self.have += piece.len();
                    if self.have < BHS_LEN {
                        return Ok(None);
                    }
                    self.have = 0;
                    self.check_header()?;
                }
                Stage::Additional => {
                    let Some(piece) = take(input, self.ahs_len - self.ahs.len()) else { return Ok(None) };
                    self.ahs.extend_from_slice(piece);
                    if self.ahs.len() < self.ahs_len {
                        return Ok(None);
                    }
                    self.stage = Stage::HeaderDigest;
                }
                Stage::HeaderDigest => {
                    if self.digests.header {
                        if !self.collect_digest(input) {
                            return Ok(None);
                        }
                        let mut digest = Digest::new();
                        digest.update(&self.header);
                        digest.update(&self.ahs);
                        if digest.finish() != self.received {
                            return Err(self.fail(FrameError::HeaderDigest));
                        }
                    }
                    return self.finish_header().map(Some);
                }
                Stage::Data => {
                    let Some(piece) = take(input, self.data_left) else { return Ok(None) };
                    self.data_left -= piece.len();
                    if self.digests.data {
                        self.digest.update(piece);
                    }
                    if self.data_left == 0 {
                        self.stage = Stage::Padding;
                    }
                    return Ok(Some(Frame::Data(piece)));
                }
                Stage::Padding => {
                    if self.padding_left > 0 {
                        let Some(piece) = take(input, self.padding_left) else { return Ok(None) };
                        self.padding_left -= piece.len();
                        if holdfast_mutant::active("planted-iscsi-padding") {
                            self.padding_left = 0;
                        }
                        if self.digests.data {
                            self.digest.update(piece);
                        }
                        continue;
                    }
                    self.stage = Stage::DataDigest;
                }
                Stage::DataDigest => {
                    if self.digests.data && !self.collect_digest(input) {
                        return Ok(None);
                    }
                    let digest = std::mem::replace(&mut self.digest, Digest::new());
                    let damaged = self.digests.data && digest.finish() != self.received;
                    self.stage = Stage::Header;
                    return Ok(Some(Frame::DataEnd { damaged }));
                }
                Stage::Ended => {
                    *input = &[];
                    return Ok(None);
                }
            }
        }
    }

    fn bhs(&self) -> Bhs {
        Bhs::read_from_bytes(&self.header).unwrap_or_else(|_| zerocopy::FromZeros::new_zeroed())
    }

    /// Without a digest a length can be looked at as soon as it is there; with one, only what finds the digest.
    fn check_header(&mut self) -> Result<(), FrameError> {
        let bhs = self.bhs();
        if !self.digests.header && bhs.data_len() > self.data_len_max {
            return Err(self.fail(FrameError::TooLong));
        }
        self.ahs.clear();
        self.ahs_len = bhs.ahs_len().min(AHS_LEN_MAX);
        self.stage = if self.ahs_len > 0 { Stage::Additional } else { Stage::HeaderDigest };
        Ok(())
    }

    fn finish_header<'a>(&mut self) -> Result<Frame<'a>, FrameError> {
        let bhs = self.bhs();
        let len = bhs.data_len();
        if len > self.data_len_max {
            return Err(self.fail(FrameError::TooLong));
        }
        self.data_left = len;
        self.padding_left = padding(len);
        self.stage = if len > 0 { Stage::Data } else { Stage::Header };
        Ok(Frame::Header(bhs))
    }

    /// Whether the digest is there.
    fn collect_digest(&mut self, input: &mut &[u8]) -> bool {
        if let Some(piece) = take(input, DIGEST_LEN - self.have)
            && let Some(room) = self.received.get_mut(self.have..self.have + piece.len())
        {
            room.copy_from_slice(piece);
            self.have += piece.len();
        }
        let is_there = self.have == DIGEST_LEN;
        if is_there {
            self.have = 0;
        }
        is_there
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.stage = Stage::Ended;
        error
    }
}

/// Up to `most` bytes off the front; `None` if there are none.
fn take<'a>(input: &mut &'a [u8], most: usize) -> Option<&'a [u8]> {
    let (piece, rest) = input.split_at_checked(most.min(input.len()))?;
    *input = rest;
    (!piece.is_empty()).then_some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_pi::digest_of;
    use proptest::prelude::*;

    /// A PDU with additional header segments and data, digested as agreed.
    fn pdu(ahs: &[u8], data: &[u8], digests: Digests) -> Vec<u8> {
        let mut bytes = vec![0; BHS_LEN];
        bytes[0] = 0x01;
        bytes[4] = u8::try_from(ahs.len() / 4).unwrap();
        bytes[5..8].copy_from_slice(&crate::wire::wire_len(data.len()));
        bytes.extend(ahs);
        if digests.header {
            bytes.extend(digest_of(&bytes));
        }
        let mut segment = data.to_vec();
        segment.resize(data.len().next_multiple_of(4), 0);
        bytes.extend(&segment);
        if digests.data && !data.is_empty() {
            bytes.extend(digest_of(&segment));
        }
        bytes
    }

    /// What comes of a stream that is fed in pieces of these lengths: headers, data, whether each data was damaged.
    fn run(
        framer: &mut Framer,
        stream: &[u8],
        cuts: &[usize],
    ) -> Result<(usize, Vec<u8>, Vec<bool>), FrameError> {
        let (mut headers, mut data, mut ends) = (0, Vec::new(), Vec::new());
        let mut rest = stream;
        let mut cuts = cuts.iter().copied().cycle();
        while !rest.is_empty() {
            let (mut piece, tail) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            rest = tail;
            while let Some(frame) = framer.next(&mut piece)? {
                match frame {
                    Frame::Header(bhs) => {
                        assert_eq!(bhs.opcode(), 1);
                        headers += 1;
                    }
                    Frame::Data(bytes) => data.extend_from_slice(bytes),
                    Frame::DataEnd { damaged } => ends.push(damaged),
                }
            }
        }
        Ok((headers, data, ends))
    }

    proptest! {
        #[test]
        fn any_cut_gives_the_same(
            header in any::<bool>(), data_digest in any::<bool>(), words in 0_usize..3, len in 0_usize..40,
            cuts in prop::collection::vec(1_usize..70, 1..8),
        ) {
            let digests = Digests { header, data: data_digest };
            let payload: Vec<u8> = (1..=u8::try_from(len).unwrap()).collect();
            let one = pdu(&vec![7; words * 4], &payload, digests);
            let stream = [one.clone(), one].concat();
            let mut framer = Framer::new(64);
            framer.negotiated(digests, 64);
            let (headers, data, ends) = run(&mut framer, &stream, &cuts).unwrap();
            prop_assert_eq!(headers, 2);
            prop_assert_eq!(data, [payload.clone(), payload].concat());
            prop_assert_eq!(ends, vec![false; if len > 0 { 2 } else { 0 }]);
            prop_assert!(framer.is_between_pdus());
        }
    }

    #[test]
    fn a_damaged_header_ends_the_stream_and_damaged_data_is_told() {
        let digests = Digests { header: true, data: true };
        let good = pdu(&[], b"abcde", digests);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let mut framer = Framer::new(64);
            framer.negotiated(digests, 1 << 24);
            let ended = run(&mut framer, &bad, &[usize::MAX]);
            if at < BHS_LEN + 4 && at != 4 {
                assert_eq!(ended, Err(FrameError::HeaderDigest), "byte {at}");
            } else if at != 4 {
                assert_eq!(ended.unwrap().2, [true], "byte {at}");
            }
        }
    }

    #[test]
    fn a_data_segment_longer_than_declared_is_not_begun() {
        for header in [false, true] {
            let digests = Digests { header, data: false };
            let mut framer = Framer::new(64);
            framer.negotiated(digests, 8);
            let long = pdu(&[], &[1; 9], digests);
            assert_eq!(run(&mut framer, &long, &[usize::MAX]), Err(FrameError::TooLong));
        }
    }
}
