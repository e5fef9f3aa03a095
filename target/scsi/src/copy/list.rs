//! The parameter list of EXTENDED COPY (LID1). SPC-4 §6.4.1 "EXTENDED COPY(LID1) command introduction", §6.4.5.1
//! "Identification CSCD descriptor format", §6.4.6.3 "Block device to block device functions".

use holdfast_block::Lba;

use crate::sense::{Sense, SenseKey};

/// Most CSCD descriptors of one list, and most segment descriptors.
pub(super) const CSCDS_MAX: u16 = 16;
pub(super) const SEGMENTS_MAX: u16 = 64;
/// Bytes of both together.
pub(super) const DESCRIPTORS_LEN_MAX: u32 = CSCDS_MAX as u32 * 32 + SEGMENTS_MAX as u32 * 28;

/// DESCRIPTOR TYPE CODE of the descriptors that there are.
pub(super) const IDENTIFICATION: u8 = 0xe4;
pub(super) const BLOCK_TO_BLOCK: u8 = 0x02;

const HEADER_LEN: usize = 16;
const CSCD_LEN: usize = 32;
const SEGMENT_LEN: usize = 28;

const TOO_MANY_CSCDS: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x06);
const UNSUPPORTED_CSCD: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x07);
const TOO_MANY_SEGMENTS: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x08);
const UNSUPPORTED_SEGMENT: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x09);
const INLINE_DATA: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x0b);

/// A copy as it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Copy {
    /// LIST IDENTIFIER; `None`: nobody will ask how it goes.
    pub(crate) list_id: Option<u8>,
    pub(crate) cscds: Vec<Cscd>,
    pub(crate) segments: Vec<Segment>,
}

/// A logical unit from or to which is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cscd {
    /// Where in the list the descriptor begins.
    pub(crate) at: u16,
    pub(crate) device_type: u8,
    /// CODE SET, DESIGNATOR TYPE, and as many bytes of the designator as it has.
    pub(crate) kind: (u8, u8),
    pub(crate) designator: [u8; 20],
    pub(crate) designator_len: usize,
    /// DISK BLOCK LENGTH in bytes.
    pub(crate) block_len: u32,
}

/// Blocks that are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    /// Where in the list the descriptor begins.
    pub(crate) at: u16,
    /// CSCD descriptor IDs.
    pub(crate) source: u16,
    pub(crate) target: u16,
    pub(crate) source_lba: Lba,
    pub(crate) target_lba: Lba,
    pub(crate) blocks: u32,
}

impl Copy {
    /// Judges a list, which is not empty, as far as that goes without looking at logical units.
    pub(super) fn read(bytes: &[u8]) -> Result<Copy, Sense> {
        let (header, rest) = bytes.split_first_chunk::<HEADER_LEN>().ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        let [list_id, flags, c1, c0, _, _, _, _, s3, s2, s1, s0, i3, i2, i1, i0] = *header;
        let cscds_len = u32::from(u16::from_be_bytes([c1, c0]));
        let segments_len = u32::from_be_bytes([s3, s2, s1, s0]);
        let total = cscds_len.saturating_add(segments_len);
        let inline_len = u32::from_be_bytes([i3, i2, i1, i0]);
        if total > DESCRIPTORS_LEN_MAX || usize::try_from(total).is_ok_and(|total| total > rest.len()) {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        }
        if inline_len > 0 {
            return Err(INLINE_DATA);
        }
        let list_id = match (flags >> 3) & 0b11 {
            0b00 | 0b10 => Some(list_id),
            0b11 if list_id == 0 => None,
            0b11 => return Err(Sense::invalid_in_parameters(0, None)),
            _ => return Err(Sense::invalid_in_parameters(1, Some(4))),
        };
        let cscds_len = usize::try_from(cscds_len).unwrap_or(usize::MAX);
        let segments_len = usize::try_from(segments_len).unwrap_or(usize::MAX);
        let (cscds, rest) = rest.split_at_checked(cscds_len).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        let segments = rest.get(..segments_len).ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        let cscds = read_cscds(cscds)?;
        let segments = read_segments(segments, HEADER_LEN + cscds_len)?;
        Ok(Copy { list_id, cscds, segments })
    }
}

fn read_cscds(bytes: &[u8]) -> Result<Vec<Cscd>, Sense> {
    let mut cscds = Vec::new();
    for (number, bytes) in bytes.chunks(CSCD_LEN).enumerate() {
        let at = place(HEADER_LEN + number * CSCD_LEN);
        if bytes.first() != Some(&IDENTIFICATION) {
            return Err(UNSUPPORTED_CSCD);
        }
        let bytes: &[u8; CSCD_LEN] = bytes.try_into().map_err(|_| Sense::invalid_in_parameters(2, None))?;
        if cscds.len() >= usize::from(CSCDS_MAX) {
            return Err(TOO_MANY_CSCDS);
        }
        cscds.push(read_cscd(bytes, at)?);
    }
    Ok(cscds)
}

fn read_cscd(bytes: &[u8; CSCD_LEN], at: u16) -> Result<Cscd, Sense> {
    let [_, kind, _, _, set, designator_type, _, len, rest @ ..] = *bytes;
    let [designator @ .., _, b2, b1, b0] = rest;
    let invalid = |offset: u16, bit| Err(Sense::invalid_in_parameters(at.saturating_add(offset), bit));
    // LU ID TYPE means nothing here, and NUL nothing any more. ASSOCIATION: with the logical unit.
    if designator_type & 0x30 != 0 {
        return invalid(5, Some(5));
    }
    let designator_len = usize::from(len);
    if designator_len > designator.len() {
        return invalid(7, None);
    }
    Ok(Cscd {
        at,
        device_type: kind & 0x1f,
        kind: (set & 0x0f, designator_type & 0x0f),
        designator,
        designator_len,
        block_len: u32::from_be_bytes([0, b2, b1, b0]),
    })
}

fn read_segments(mut bytes: &[u8], mut at: usize) -> Result<Vec<Segment>, Sense> {
    let mut segments = Vec::new();
    while let Some(kind) = bytes.first() {
        if *kind != BLOCK_TO_BLOCK {
            return Err(UNSUPPORTED_SEGMENT);
        }
        if segments.len() >= usize::from(SEGMENTS_MAX) {
            return Err(TOO_MANY_SEGMENTS);
        }
        let (segment, rest) =
            bytes.split_first_chunk::<SEGMENT_LEN>().ok_or(Sense::invalid_in_parameters(8, None))?;
        segments.push(read_segment(segment, place(at))?);
        bytes = rest;
        at += SEGMENT_LEN;
    }
    Ok(segments)
}

/// DC and CAT say whose blocks are counted, and what becomes of what is left over: blocks of one length alone are copied.
fn read_segment(bytes: &[u8; SEGMENT_LEN], at: u16) -> Result<Segment, Sense> {
    let [_, _, len_1, len_0, source_1, source_0, target_1, target_0, _, _, blocks_1, blocks_0, lbas @ ..] =
        *bytes;
    let [source_lba @ .., _, _, _, _, _, _, _, _] = lbas;
    let [_, _, _, _, _, _, _, _, target_lba @ ..] = lbas;
    if usize::from(u16::from_be_bytes([len_1, len_0])) != SEGMENT_LEN - 4 {
        return Err(Sense::invalid_in_parameters(at.saturating_add(2), None));
    }
    Ok(Segment {
        at,
        source: u16::from_be_bytes([source_1, source_0]),
        target: u16::from_be_bytes([target_1, target_0]),
        source_lba: Lba(u64::from_be_bytes(source_lba)),
        target_lba: Lba(u64::from_be_bytes(target_lba)),
        blocks: u32::from(u16::from_be_bytes([blocks_1, blocks_0])),
    })
}

fn place(at: usize) -> u16 {
    u16::try_from(at).unwrap_or(u16::MAX)
}
