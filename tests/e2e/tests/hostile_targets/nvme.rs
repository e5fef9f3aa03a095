//! What a misbehaving NVMe/TCP target does, PDU by PDU. NVMe over TCP Transport 1.1 §3.6 "PDU formats".

use holdfast_e2e::interposer::nvme::Seen;
use holdfast_e2e::interposer::{Act, Side};
use holdfast_testkit::wire::{Cqe, DataPdu, Frame, Pdu, R2t, Status, TermReq, fes, opcode};

use super::expected::Expected;

/// A case.
pub(crate) type Case = super::expected::Case<Seen>;

const ALWAYS: u64 = u64::MAX;
/// A block of 4096 bytes and its tuple.
const BLOCK: usize = 4104;
/// An invalid PDU type of the target's direction.
const UNKNOWN_KIND: u8 = 0x0b;

/// All of them.
pub(crate) fn cases() -> Vec<Case> {
    [allowed(), wrong_data(), wrong_framing(), wrong_ends(), wrong_requests(), wrong_completions()]
        .into_iter()
        .flatten()
        .collect()
}

/// Tuples may be cut anywhere.
fn allowed() -> Vec<Case> {
    use Expected::Works;
    vec![
        Case::new("data-in-pieces-of-4100", "read-large", Works, ALWAYS, |seen: &Seen| in_pieces(seen, 4100)),
        Case::new("data-in-pieces-of-332", "read", Works, ALWAYS, |seen: &Seen| in_pieces(seen, 332)),
        Case::new("data-in-pieces-of-4", "read", Works, 1, |seen: &Seen| in_pieces(seen, 4)),
        Case::new("r2t-in-pieces-of-4100", "write-large", Works, ALWAYS, ask_in_pieces(4100)),
        Case::new("r2t-in-pieces-of-1004", "write", Works, ALWAYS, ask_in_pieces(1004)),
    ]
}

fn wrong_data() -> Vec<Case> {
    use Expected::{Fails, Reset};
    let data = |name, expected, change: fn(&mut DataPdu)| {
        Case::new(name, "read", expected, 1, move |seen: &Seen| changed_data(seen, change))
    };
    vec![
        data("data-with-another-guard", Fails, |pdu| flip(&mut pdu.data, 4096)),
        data("data-with-another-reference", Fails, |pdu| flip(&mut pdu.data, 4103)),
        data("data-that-was-changed", Fails, |pdu| flip(&mut pdu.data, BLOCK + 77)),
        data("data-for-an-unknown-tag", Reset, |pdu| pdu.cccid = 0x0fff),
        data("data-for-an-older-command", Reset, |pdu| pdu.cccid ^= 0x3000),
        data("data-further-on", Reset, |pdu| pdu.datao += 8),
        data("data-of-another-block", Reset, |pdu| pdu.datao += 4104),
        data("data-beyond-the-end", Reset, |pdu| lengthen(pdu, BLOCK)),
        data("data-one-tuple-too-long", Reset, |pdu| lengthen(pdu, 8)),
        data("data-cut-by-a-tuple", Fails, |pdu| shorten(pdu, 8)),
        data("data-cut-in-a-tuple", Fails, |pdu| shorten(pdu, 3)),
        data("data-of-no-length", Fails, |pdu| shorten(pdu, usize::MAX)),
        Case::new("data-twice", "read", Reset, 1, |seen: &Seen| {
            read_data(seen)
                .map_or(Act::Pass, |pdu| send(seen, &[Pdu::C2hData(pdu.clone()), Pdu::C2hData(pdu)]))
        }),
        Case::new("data-for-a-write", "write", Reset, 1, |seen: &Seen| match request(seen) {
            Some(r2t) => send(seen, &[Pdu::C2hData(blocks(r2t.cccid, 1))]),
            None => Act::Pass,
        }),
        Case::new("data-for-a-written-small-block", "write-small", Reset, 1, |seen: &Seen| match completion(
            seen,
        ) {
            Some(cqe) => send(seen, &[Pdu::C2hData(blocks(cqe.cid, 1))]),
            None => Act::Pass,
        }),
        Case::new("data-success-before-the-last", "read", Reset, 1, |seen: &Seen| {
            changed_data(seen, |pdu| (pdu.success, pdu.last) = (true, false))
        }),
    ]
}

/// The fields of headers contradict each other, or what follows.
fn wrong_framing() -> Vec<Case> {
    use Expected::Reset;
    let frame = |name, change: fn(Frame) -> Frame| {
        Case::new(name, "read", Reset, 1, move |seen: &Seen| match read_data(seen) {
            Some(_) => Act::Send(change(seen.frame(&seen.pdu)).as_bytes().to_vec()),
            None => Act::Pass,
        })
    };
    vec![
        frame("datal-too-short", |frame| frame.put(16, &4096_u32.to_le_bytes())),
        frame("datal-too-long", |frame| frame.put(16, &0x7fff_ffff_u32.to_le_bytes())),
        frame("datal-zero", |frame| frame.put(16, &[0; 4])),
        frame("hlen-too-short", |frame| frame.hlen(8)),
        frame("hlen-too-long", |frame| frame.hlen(255)),
        frame("type-unknown", |frame| frame.kind(UNKNOWN_KIND)),
        frame("type-of-a-host", |frame| frame.kind(0x06)),
        frame("icresp-again", |frame| frame.kind(0x01)),
        frame("less-than-the-header-says", |frame| frame.truncate(24 + 4000)),
        Case::new("term-request", "read", Reset, 1, |seen: &Seen| {
            let pdu = TermReq { fes: fes::INVALID_HEADER_FIELD, fei: 0, header: vec![0; 24] };
            read_data(seen).map_or(Act::Pass, |_| send(seen, &[Pdu::C2hTermReq(pdu.clone())]))
        }),
        Case::new("term-request-of-no-length", "read", Reset, 1, |seen: &Seen| {
            let frame = seen.frame(&Pdu::C2hTermReq(TermReq::default())).plen(0);
            read_data(seen).map_or(Act::Pass, |_| Act::Send(frame.as_bytes().to_vec()))
        }),
    ]
}

/// The connection ends, or nothing comes any more.
fn wrong_ends() -> Vec<Case> {
    use Expected::Reset;
    let cut = |name, len: usize| {
        Case::new(name, "read", Reset, 1, move |seen: &Seen| match read_data(seen) {
            Some(_) => Act::Cut(seen.frame(&seen.pdu).truncate(len).as_bytes().to_vec()),
            None => Act::Pass,
        })
    };
    vec![
        cut("cut-in-a-header", 11),
        cut("cut-before-a-tuple", 24 + 4096),
        cut("cut-in-a-tuple", 24 + 4100),
        cut("cut-after-a-tuple", 24 + BLOCK),
        Case::new("cut-while-writing", "write-large", Reset, 1, |seen: &Seen| match (&seen.pdu, seen.io()) {
            (Pdu::H2cData(_), Some(opcode::WRITE)) => {
                Act::Cut(seen.frame(&seen.pdu).truncate(24 + 4100).as_bytes().to_vec())
            }
            _ => Act::Pass,
        }),
        Case::new("no-answer-to-a-read", "read", Reset, ALWAYS, first_command_lost(opcode::READ)),
        Case::new("no-answer-to-a-write", "write", Reset, ALWAYS, first_command_lost(opcode::WRITE)),
    ]
}

fn wrong_requests() -> Vec<Case> {
    use Expected::Reset;
    let r2t = |name, change: fn(&mut R2t)| {
        Case::new(name, "write", Reset, 1, move |seen: &Seen| match request(seen) {
            Some(mut r2t) => {
                change(&mut r2t);
                send(seen, &[Pdu::R2t(r2t)])
            }
            None => Act::Pass,
        })
    };
    vec![
        r2t("r2t-too-long", |r2t| r2t.r2tl += 8),
        r2t("r2t-much-too-long", |r2t| r2t.r2tl = u32::MAX),
        r2t("r2t-of-no-length", |r2t| r2t.r2tl = 0),
        r2t("r2t-further-on", |r2t| (r2t.r2to, r2t.r2tl) = (8, r2t.r2tl - 8)),
        r2t("r2t-for-an-unknown-tag", |r2t| r2t.cccid = 0x0fff),
        r2t("r2t-for-an-older-command", |r2t| r2t.cccid ^= 0x3000),
        Case::new("r2t-twice", "write-large", Reset, 1, |seen: &Seen| match request(seen) {
            Some(r2t) => send(seen, &[Pdu::R2t(r2t), Pdu::R2t(r2t)]),
            None => Act::Pass,
        }),
        Case::new("r2t-for-a-read", "read", Reset, 1, |seen: &Seen| match read_data(seen) {
            Some(data) => {
                let r2t = R2t { cccid: data.cccid, ttag: 1, r2to: 0, r2tl: data.datal };
                send(seen, &[Pdu::R2t(r2t)])
            }
            None => Act::Pass,
        }),
        Case::new("r2t-for-a-read-in-progress", "read", Reset, 1, |seen: &Seen| match read_data(seen) {
            Some(data) => {
                let half = DataPdu { datal: 4100, last: false, ..part(&data, 0, 4100) };
                let r2t = R2t { cccid: data.cccid, ttag: 1, r2to: 0, r2tl: data.datal };
                send(seen, &[Pdu::C2hData(half), Pdu::R2t(r2t)])
            }
            None => Act::Pass,
        }),
        Case::new(
            "r2t-for-what-came-in-the-capsule",
            "write-small",
            Reset,
            1,
            |seen: &Seen| match completion(seen) {
                Some(cqe) => send(seen, &[Pdu::R2t(R2t { cccid: cqe.cid, ttag: 1, r2to: 0, r2tl: 4104 })]),
                None => Act::Pass,
            },
        ),
    ]
}

fn wrong_completions() -> Vec<Case> {
    use Expected::{Caught, Ends, Reset};
    vec![
        Case::new("success-without-data", "read", Caught, 1, |seen: &Seen| match read_data(seen) {
            Some(data) => send(seen, &[done(data.cccid, 0, 0)]),
            None => Act::Pass,
        }),
        Case::new("success-with-half-of-the-data", "read", Caught, 1, |seen: &Seen| match read_data(seen) {
            Some(data) => {
                let half = part(&data, 0, BLOCK);
                send(seen, &[Pdu::C2hData(DataPdu { last: true, success: true, ..half })])
            }
            None => Act::Pass,
        }),
        Case::new("success-after-half-of-the-data", "read", Caught, 1, |seen: &Seen| match read_data(seen) {
            Some(data) => {
                let half = part(&data, 0, BLOCK + 4100);
                let half = DataPdu { last: true, success: false, ..half };
                send(seen, &[Pdu::C2hData(half), done(data.cccid, 0, 0)])
            }
            None => Act::Pass,
        }),
        Case::new("guard-error-after-half-of-the-data", "read", Ends, 1, |seen: &Seen| {
            match read_data(seen) {
                Some(data) => {
                    let half = DataPdu { last: true, success: false, ..part(&data, 0, BLOCK + 4100) };
                    send(seen, &[Pdu::C2hData(half), done(data.cccid, 2, 0x82)])
                }
                None => Act::Pass,
            }
        }),
        Case::new("completion-of-an-unknown-command", "write", Reset, 1, |seen: &Seen| {
            match completion(seen) {
                Some(cqe) => send(seen, &[Pdu::CapsuleResp(Cqe { cid: 0x0fff, ..cqe })]),
                None => Act::Pass,
            }
        }),
        Case::new("completion-twice", "write", Reset, 1, |seen: &Seen| match completion(seen) {
            Some(cqe) => send(seen, &[Pdu::CapsuleResp(cqe), Pdu::CapsuleResp(cqe)]),
            None => Act::Pass,
        }),
        // The command is over while its data is still to be sent.
        Case::new("completion-after-its-r2t", "write-large", Reset, 1, |seen: &Seen| match request(seen) {
            Some(r2t) => send(seen, &[Pdu::R2t(r2t), done(r2t.cccid, 2, 0x82)]),
            None => Act::Pass,
        }),
        Case::new("completion-in-the-midst-of-data", "write-large", Ends, 1, |seen: &Seen| {
            match (&seen.pdu, seen.io()) {
                (Pdu::H2cData(data), Some(opcode::WRITE)) => {
                    Act::Answer(Vec::new(), seen.bytes(&done(data.cccid, 2, 0x82)))
                }
                _ => Act::Pass,
            }
        }),
    ]
}

/// Data that the target sends for a Read of an I/O queue, of at least three blocks.
fn read_data(seen: &Seen) -> Option<DataPdu> {
    match (&seen.pdu, seen.io()) {
        (Pdu::C2hData(data), Some(opcode::READ)) if data.data.len() >= 3 * BLOCK => Some(data.clone()),
        _ => None,
    }
}

/// An R2T for a Write of an I/O queue.
fn request(seen: &Seen) -> Option<R2t> {
    match (&seen.pdu, seen.io()) {
        (Pdu::R2t(r2t), Some(opcode::WRITE)) => Some(*r2t),
        _ => None,
    }
}

/// The completion of a Write.
fn completion(seen: &Seen) -> Option<Cqe> {
    match (&seen.pdu, seen.io()) {
        (Pdu::CapsuleResp(cqe), Some(opcode::WRITE)) => Some(*cqe),
        _ => None,
    }
}

fn send(seen: &Seen, pdus: &[Pdu]) -> Act {
    Act::Send(pdus.iter().flat_map(|pdu| seen.bytes(pdu)).collect())
}

fn changed_data(seen: &Seen, change: impl Fn(&mut DataPdu)) -> Act {
    read_data(seen).map_or(Act::Pass, |mut data| {
        change(&mut data);
        send(seen, &[Pdu::C2hData(data)])
    })
}

fn flip(data: &mut [u8], at: usize) {
    if let Some(byte) = data.get_mut(at) {
        *byte ^= 0x10;
    }
}

fn lengthen(pdu: &mut DataPdu, bytes: usize) {
    resize(pdu, pdu.data.len().saturating_add(bytes));
}

fn shorten(pdu: &mut DataPdu, bytes: usize) {
    resize(pdu, pdu.data.len().saturating_sub(bytes));
}

fn resize(pdu: &mut DataPdu, len: usize) {
    pdu.data.resize(len, 0);
    pdu.datal = length(&pdu.data);
}

fn length(data: &[u8]) -> u32 {
    u32::try_from(data.len()).unwrap_or(u32::MAX)
}

/// `len` bytes of a PDU from `at` on, as a PDU of their own that is not the last.
fn part(pdu: &DataPdu, at: usize, len: usize) -> DataPdu {
    let data: Vec<u8> = pdu.data.iter().skip(at).take(len).copied().collect();
    let datao = pdu.datao + u32::try_from(at).unwrap_or(u32::MAX);
    DataPdu { datao, datal: length(&data), last: false, success: false, data, ..*pdu }
}

fn blocks(cccid: u16, count: usize) -> DataPdu {
    let data = vec![0; BLOCK * count];
    DataPdu { cccid, datal: length(&data), last: true, data, ..DataPdu::default() }
}

fn done(cid: u16, kind: u8, code: u8) -> Pdu {
    let status = Status { sct: kind, sc: code, dnr: kind > 0, ..Status::default() };
    Pdu::CapsuleResp(Cqe { cid, status, ..Cqe::default() })
}

/// Data that comes in PDUs of `len` bytes.
fn in_pieces(seen: &Seen, len: usize) -> Act {
    let Some(data) = read_data(seen) else { return Act::Pass };
    let mut pieces: Vec<DataPdu> = (0..data.data.len()).step_by(len).map(|at| part(&data, at, len)).collect();
    if let Some(last) = pieces.last_mut() {
        (last.last, last.success) = (data.last, data.success);
    }
    send(seen, &pieces.into_iter().map(Pdu::C2hData).collect::<Vec<_>>())
}

/// Data is asked for in pieces of `len` bytes, one after the other; the target gets all of it for its own request.
fn ask_in_pieces(len: u32) -> impl FnMut(&Seen) -> Act + Send {
    let mut asked = std::collections::HashMap::<(u16, u16), R2t>::new();
    move |seen: &Seen| {
        let next = |r2t: &R2t| R2t { r2tl: r2t.r2tl.min(len), ..*r2t };
        match &seen.pdu {
            Pdu::R2t(r2t) if seen.from == Side::Target => {
                asked.insert((seen.queue, r2t.ttag), *r2t);
                send(seen, &[Pdu::R2t(next(r2t))])
            }
            Pdu::H2cData(data) if data.last => {
                let Some(r2t) = asked.get_mut(&(seen.queue, data.ttag)) else { return Act::Pass };
                let got = data.datao + data.datal - r2t.r2to;
                (r2t.r2to, r2t.r2tl) = (r2t.r2to + got, r2t.r2tl - got);
                if r2t.r2tl == 0 {
                    return Act::Pass;
                }
                let onward = DataPdu { last: false, ..data.clone() };
                Act::Answer(seen.bytes(&Pdu::H2cData(onward)), seen.bytes(&Pdu::R2t(next(r2t))))
            }
            _ => Act::Pass,
        }
    }
}

/// The first command with this opcode never reaches the target.
fn first_command_lost(opcode: u8) -> impl FnMut(&Seen) -> Act + Send {
    let mut lost = false;
    move |seen: &Seen| {
        if lost || seen.from == Side::Target || seen.io() != Some(opcode) {
            return Act::Pass;
        }
        lost = true;
        Act::Send(Vec::new())
    }
}
