//! What a misbehaving iSCSI target does, PDU by PDU. RFC 7143 §11 "iSCSI PDU Formats".

use std::collections::HashMap;

use holdfast_e2e::interposer::iscsi::Seen;
use holdfast_e2e::interposer::{Act, Side};
use holdfast_testkit::iscsi::{Pdu, opcode};

use super::expected::Expected;

/// A case, as for NVMe/TCP.
pub(crate) type Case = super::expected::Case<Seen>;

const ALWAYS: u64 = u64::MAX;
/// A block of 4096 bytes and its tuple.
const BLOCK: usize = 4104;
/// Bytes of a header before data.
const HEADER: usize = 48;

/// READ (10), READ (16), WRITE (10), WRITE (16).
const READS: [u8; 2] = [0x28, 0x88];
const WRITES: [u8; 2] = [0x2a, 0x8a];

/// Byte 1 of Data-In, Data-Out and SCSI Response.
const FINAL: u8 = 0x80;
const STATUS: u8 = 0x01;
const UNDERFLOW: u8 = 0x02;
/// Where fields of a header lie: SCSI Response and Data-In (§11.4, §11.7), R2T (§11.8).
const ITT: usize = 16;
const TTT: usize = 20;
const STAT_SN: usize = 24;
const DATA_SN: usize = 36;
const R2T_SN: usize = 36;
const OFFSET: usize = 40;
const RESIDUAL: usize = 44;
const DESIRED_LENGTH: usize = 44;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [allowed(), wrong_data(), wrong_framing(), wrong_ends(), wrong_requests(), wrong_responses()]
        .into_iter()
        .flatten()
        .collect()
}

/// Tuples may be cut anywhere.
fn allowed() -> Vec<Case> {
    use Expected::Works;
    vec![
        Case::new("data-in-pieces-of-4100", "read-large", Works, ALWAYS, in_pieces(4100)),
        Case::new("data-in-pieces-of-333", "read", Works, ALWAYS, in_pieces(333)),
        Case::new("r2t-in-pieces-of-4100", "write-large", Works, ALWAYS, ask_in_pieces(4100)),
        Case::new("r2t-in-pieces-of-1001", "write-large", Works, ALWAYS, ask_in_pieces(1001)),
    ]
}

fn wrong_data() -> Vec<Case> {
    use Expected::{Fails, Reset};
    let data = |name, expected, change: fn(Pdu) -> Pdu| {
        Case::new(name, "read", expected, 1, move |seen: &Seen| {
            read_data(seen).map_or(Act::Pass, |pdu| send(seen, &[change(pdu.clone())]))
        })
    };
    vec![
        data("data-with-another-guard", Fails, |pdu| flipped(pdu, 4096)),
        data("data-with-another-reference", Fails, |pdu| flipped(pdu, 4103)),
        data("data-that-was-changed", Fails, |pdu| flipped(pdu, BLOCK + 77)),
        data("data-for-an-unknown-tag", Reset, |pdu| pdu.word(ITT, 0x0fff_ffff)),
        data("data-for-no-tag", Reset, |pdu| pdu.word(ITT, u32::MAX)),
        data("data-further-on", Reset, |pdu| further(pdu, 8)),
        data("data-of-another-block", Reset, |pdu| further(pdu, 4104)),
        data("data-at-an-offset-that-wraps", Reset, |pdu| pdu.word(OFFSET, 0xffff_fff0)),
        data("data-beyond-the-end", Reset, |pdu| resized(pdu, |len| len + BLOCK)),
        data("data-one-tuple-too-long", Reset, |pdu| resized(pdu, |len| len + 8)),
        data("data-longer-than-agreed", Reset, |pdu| resized(pdu, |_| 1 << 20)),
        data("data-cut-by-a-tuple", Reset, |pdu| resized(pdu, |len| len - 8)),
        data("data-cut-in-a-tuple", Reset, |pdu| resized(pdu, |len| len - 3)),
        data("data-out-of-order", Reset, |pdu| {
            let number = pdu.word_at(DATA_SN) + 1;
            pdu.word(DATA_SN, number)
        }),
        Case::new("data-twice", "read", Reset, 1, |seen: &Seen| match read_data(seen) {
            Some(pdu) => send(seen, &[pdu.clone(), pdu.clone()]),
            None => Act::Pass,
        }),
        Case::new("data-for-a-write", "write-large", Reset, 1, |seen: &Seen| match request(seen) {
            Some(r2t) => send(seen, &[Pdu::new(opcode::DATA_IN).itt(r2t.task_tag()).data(vec![0; BLOCK])]),
            None => Act::Pass,
        }),
    ]
}

/// The fields of headers contradict each other, or what follows.
fn wrong_framing() -> Vec<Case> {
    use Expected::{Ends, Reset};
    let bytes = |name, expected, change: fn(&mut Vec<u8>)| {
        Case::new(name, "read", expected, 1, move |seen: &Seen| match read_data(seen) {
            Some(pdu) => {
                let mut bytes = seen.bytes(pdu);
                change(&mut bytes);
                Act::Send(bytes)
            }
            None => Act::Pass,
        })
    };
    vec![
        bytes("length-too-short", Reset, |bytes| put(bytes, 5, &[0, 0x10, 0])),
        bytes("length-too-long", Reset, |bytes| put(bytes, 5, &[0xff, 0xff, 0xff])),
        // Linux takes no additional header into account.
        bytes("ahs-that-is-not-there", Ends, |bytes| put(bytes, 4, &[255])),
        bytes("opcode-unknown", Reset, |bytes| put(bytes, 0, &[0x3a])),
        bytes("opcode-of-an-initiator", Reset, |bytes| put(bytes, 0, &[0x01])),
        bytes("login-response-again", Reset, |bytes| put(bytes, 0, &[0x23])),
    ]
}

/// The connection ends, or nothing comes any more.
fn wrong_ends() -> Vec<Case> {
    use Expected::{Ends, Reset};
    let cut = |name, len: usize| {
        Case::new(name, "read", Reset, 1, move |seen: &Seen| match read_data(seen) {
            Some(pdu) => Act::Cut(seen.bytes(pdu).into_iter().take(len).collect()),
            None => Act::Pass,
        })
    };
    vec![
        cut("cut-in-a-header", 11),
        cut("cut-before-a-tuple", HEADER + 4096),
        cut("cut-in-a-tuple", HEADER + 4100),
        cut("cut-after-a-tuple", HEADER + BLOCK),
        Case::new("cut-while-writing", "write-large", Reset, 1, |seen: &Seen| match sent(seen) {
            Some(pdu) => Act::Cut(seen.bytes(pdu).into_iter().take(HEADER + 4100).collect()),
            None => Act::Pass,
        }),
        Case::new("no-answer-to-a-read", "read", Ends, ALWAYS, first_unanswered()),
    ]
}

fn wrong_requests() -> Vec<Case> {
    use Expected::{Ends, Reset};
    let r2t = |name, expected, change: fn(Pdu) -> Vec<Pdu>| {
        Case::new(name, "write-large", expected, 1, move |seen: &Seen| match request(seen) {
            Some(r2t) => send(seen, &change(r2t.clone())),
            None => Act::Pass,
        })
    };
    vec![
        r2t("r2t-too-long", Reset, |r2t| {
            let length = r2t.word_at(DESIRED_LENGTH) + r2t.word_at(OFFSET) + 0x10_0000;
            vec![r2t.word(DESIRED_LENGTH, length)]
        }),
        r2t("r2t-much-too-long", Reset, |r2t| vec![r2t.word(DESIRED_LENGTH, u32::MAX)]),
        r2t("r2t-of-no-length", Reset, |r2t| vec![r2t.word(DESIRED_LENGTH, 0)]),
        r2t("r2t-beyond-the-end", Reset, |r2t| vec![r2t.word(OFFSET, 0x10_0000)]),
        r2t("r2t-that-wraps", Reset, |r2t| vec![r2t.word(OFFSET, 0xffff_fff0)]),
        r2t("r2t-further-on", Ends, |r2t| {
            let offset = r2t.word_at(OFFSET) + 4;
            let length = r2t.word_at(DESIRED_LENGTH) - 8;
            vec![r2t.word(OFFSET, offset).word(DESIRED_LENGTH, length)]
        }),
        r2t("r2t-for-an-unknown-tag", Reset, |r2t| vec![r2t.word(ITT, 0x0fff_ffff)]),
        r2t("r2t-with-data", Reset, |r2t| vec![r2t.data(vec![0; 8])]),
        r2t("r2t-twice", Reset, |r2t| vec![r2t.clone(), r2t]),
        r2t("r2t-many", Reset, |r2t| {
            let first = r2t.word_at(R2T_SN);
            (0..20).map(|number| r2t.clone().word(R2T_SN, first + number)).collect()
        }),
        Case::new("r2t-for-a-read", "read", Reset, 1, |seen: &Seen| match read_data(seen) {
            Some(data) => {
                let r2t = Pdu::new(opcode::R2T).itt(data.task_tag()).word(TTT, 1).word(DESIRED_LENGTH, 4104);
                send(seen, &[r2t])
            }
            None => Act::Pass,
        }),
    ]
}

fn wrong_responses() -> Vec<Case> {
    use Expected::{Caught, Ends, Reset};
    vec![
        Case::new("success-without-data", "read", Caught, 1, |seen: &Seen| match read_data(seen) {
            Some(data) => send(seen, &[response(data, 0)]),
            None => Act::Pass,
        }),
        Case::new("success-with-half-of-the-data", "read", Caught, 1, |seen: &Seen| match read_data(seen) {
            Some(data) => send(seen, &[half(data).flags(FINAL | STATUS)]),
            None => Act::Pass,
        }),
        Case::new("success-after-half-of-the-data", "read", Caught, 1, |seen: &Seen| match read_data(seen) {
            Some(data) => send(seen, &[half(data).flags(FINAL), response(data, 0)]),
            None => Act::Pass,
        }),
        Case::new("half-of-the-data-and-a-residual", "read", Ends, 1, |seen: &Seen| match read_data(seen) {
            Some(data) => {
                let missing = u32::try_from(data.data.len() - half(data).data.len()).unwrap_or(u32::MAX);
                let flags = FINAL | STATUS | UNDERFLOW;
                send(seen, &[half(data).flags(flags).word(RESIDUAL, missing)])
            }
            None => Act::Pass,
        }),
        Case::new("response-twice", "write", Reset, 1, |seen: &Seen| match completion(seen) {
            Some(done) => send(seen, &[done.clone(), done.clone()]),
            None => Act::Pass,
        }),
        Case::new("sense-longer-than-its-data", "write", Ends, 1, |seen: &Seen| match completion(seen) {
            Some(done) => send(seen, &[done.clone().byte(3, 0x02).data(vec![0xff; 20])]),
            None => Act::Pass,
        }),
        // The command is over while its data is still to be sent.
        Case::new("response-after-its-r2t", "write-large", Ends, 1, |seen: &Seen| match request(seen) {
            Some(r2t) => send(seen, &[r2t.clone(), response(r2t, 0x08)]),
            None => Act::Pass,
        }),
        Case::new("response-in-the-midst-of-data", "write-large", Ends, 1, |seen: &Seen| match sent(seen) {
            // BUSY, with the number that the initiator has acknowledged last.
            Some(data) => {
                let done = response(data, 0x08).word(STAT_SN, data.word_at(28));
                Act::Answer(Vec::new(), seen.bytes(&done))
            }
            None => Act::Pass,
        }),
    ]
}

/// Data-In of at least three blocks for a READ.
fn read_data(seen: &Seen) -> Option<&Pdu> {
    any_read_data(seen).filter(|pdu| pdu.data.len() >= 3 * BLOCK)
}

fn any_read_data(seen: &Seen) -> Option<&Pdu> {
    let reads = seen.operation().is_some_and(|code| READS.contains(&code));
    let data = seen.from == Side::Target && seen.pdu.opcode() == opcode::DATA_IN;
    (reads && data).then_some(&seen.pdu)
}

fn of_a_write(seen: &Seen, from: Side, kind: u8) -> Option<&Pdu> {
    let writes = seen.operation().is_some_and(|code| WRITES.contains(&code));
    (writes && seen.from == from && seen.pdu.opcode() == kind).then_some(&seen.pdu)
}

fn request(seen: &Seen) -> Option<&Pdu> {
    of_a_write(seen, Side::Target, opcode::R2T)
}

fn sent(seen: &Seen) -> Option<&Pdu> {
    of_a_write(seen, Side::Host, opcode::DATA_OUT)
}

fn completion(seen: &Seen) -> Option<&Pdu> {
    of_a_write(seen, Side::Target, opcode::SCSI_RESPONSE)
}

fn send(seen: &Seen, pdus: &[Pdu]) -> Act {
    Act::Send(pdus.iter().flat_map(|pdu| seen.bytes(pdu)).collect())
}

fn flipped(mut pdu: Pdu, at: usize) -> Pdu {
    if let Some(byte) = pdu.data.get_mut(at) {
        *byte ^= 0x10;
    }
    pdu
}

fn further(pdu: Pdu, by: u32) -> Pdu {
    let offset = pdu.word_at(OFFSET).wrapping_add(by);
    pdu.word(OFFSET, offset)
}

fn resized(mut pdu: Pdu, len: fn(usize) -> usize) -> Pdu {
    pdu.data.resize(len(pdu.data.len()), 0);
    pdu
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    for (place, byte) in bytes.iter_mut().skip(at).zip(value) {
        *place = *byte;
    }
}

/// The first half of it, which ends in a tuple.
fn half(pdu: &Pdu) -> Pdu {
    let len = pdu.data.len() / 2 / BLOCK * BLOCK + 4100;
    let data: Vec<u8> = pdu.data.iter().take(len).copied().collect();
    pdu.clone().flags(0).data(data)
}

/// A SCSI Response to the command that a PDU belongs to.
fn response(of: &Pdu, status: u8) -> Pdu {
    let numbers = [24, 28, 32].map(|at| (at, of.word_at(at)));
    let done = Pdu::new(opcode::SCSI_RESPONSE).itt(of.task_tag()).byte(3, status);
    numbers.into_iter().fold(done, |done, (at, value)| done.word(at, value))
}

/// Data comes in PDUs of `len` bytes, numbered anew.
fn in_pieces(len: usize) -> impl FnMut(&Seen) -> Act + Send {
    let mut numbers = HashMap::<u32, u32>::new();
    move |seen| {
        let tag = seen.pdu.task_tag();
        if seen.from == Side::Target && seen.pdu.opcode() == opcode::SCSI_RESPONSE {
            // ExpDataSN: how many there were.
            let Some(count) = numbers.remove(&tag) else { return Act::Pass };
            return send(seen, &[seen.pdu.clone().word(DATA_SN, count)]);
        }
        let Some(data) = any_read_data(seen) else { return Act::Pass };
        let next = numbers.entry(tag).or_default();
        let mut pieces: Vec<Pdu> = data
            .data
            .chunks(len)
            .zip((0_u32..).step_by(len))
            .map(|(piece, at)| {
                let number = *next;
                *next += 1;
                further(data.clone().flags(0), at).word(DATA_SN, number).data(piece)
            })
            .collect();
        if let Some(last) = pieces.pop() {
            pieces.push(last.flags(data.byte_at(1)));
        }
        if data.byte_at(1) & STATUS != 0 {
            numbers.remove(&tag);
        }
        send(seen, &pieces)
    }
}

/// One R2T of the target, asked for in pieces.
struct Asked {
    r2t: Pdu,
    /// Bytes of it that have come.
    came: u32,
    /// The next number of Data-Out towards the target.
    data_sn: u32,
}

/// Data is asked for in pieces of `len` bytes, one after the other; the target gets all of it for its own request.
fn ask_in_pieces(len: u32) -> impl FnMut(&Seen) -> Act + Send {
    let mut asked = HashMap::<u32, Asked>::new();
    let mut numbers = HashMap::<u32, u32>::new();
    move |seen| {
        let tag = seen.pdu.task_tag();
        if let Some(r2t) = request(seen) {
            let new = Asked { r2t: r2t.clone(), came: 0, data_sn: 0 };
            let first = piece(&new, len, numbers.entry(tag).or_default());
            asked.insert(tag, new);
            return send(seen, &[first]);
        }
        if completion(seen).is_some() {
            numbers.remove(&tag);
        }
        let (Some(data), Some(open)) = (sent(seen), asked.get_mut(&tag)) else { return Act::Pass };
        open.came += u32::try_from(data.data.len()).unwrap_or(u32::MAX);
        let all = open.came >= open.r2t.word_at(DESIRED_LENGTH);
        let onward = data.clone().word(DATA_SN, open.data_sn).flags(if all { FINAL } else { 0 });
        open.data_sn += 1;
        if all || !data.is_final() {
            return send(seen, &[onward]);
        }
        let next = piece(open, len, numbers.entry(tag).or_default());
        Act::Answer(seen.bytes(&onward), seen.bytes(&next))
    }
}

/// The next part of a request.
fn piece(asked: &Asked, len: u32, number: &mut u32) -> Pdu {
    let r2t = &asked.r2t;
    let left = r2t.word_at(DESIRED_LENGTH) - asked.came;
    let offset = r2t.word_at(OFFSET) + asked.came;
    let next = r2t.clone().word(OFFSET, offset).word(DESIRED_LENGTH, left.min(len)).word(R2T_SN, *number);
    *number += 1;
    next
}

/// What the target answers to the first READ is lost.
fn first_unanswered() -> impl FnMut(&Seen) -> Act + Send {
    let mut lost = None;
    move |seen| {
        let reads = seen.operation().is_some_and(|code| READS.contains(&code));
        if seen.from == Side::Host
            || !reads
            || seen.pdu.task_tag() != *lost.get_or_insert(seen.pdu.task_tag())
        {
            return Act::Pass;
        }
        Act::Send(Vec::new())
    }
}
