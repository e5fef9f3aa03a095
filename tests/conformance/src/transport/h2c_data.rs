//! Data to the controller. NVMe/TCP 1.1 §3.3.2.2 "Host to Controller Command Data Buffer Transfers", §3.6.2.8 "H2CData".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{DataPdu, Digests, Frame, Pdu, R2t, TermReq, fes};
use holdfast_testkit::{Io, Options, Session};

use super::field;
use super::r2t::{finish, held, submit};
use crate::{Case, Lab, check};

const TRANSFERS: &str = "NVMe/TCP 1.1 §3.3.2.2 \"Host to Controller Command Data Buffer Transfers\"";
const H2CDATA: &str = "NVMe/TCP 1.1 §3.6.2.8 \"Host To Controller Data Transfer PDU (H2CData)\"";
const FES: &str = "NVMe/TCP 1.1 §3.6.2.5 \"C2HTermReq\", field FES";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.h2c.split", TRANSFERS, a_request_may_be_answered_in_any_pieces),
    Case::new("transport.h2c.dword-pieces", TRANSFERS, pieces_may_be_single_dwords),
    Case::new("transport.h2c.maxh2cdata-exact", TRANSFERS, pieces_may_have_maxh2cdata_bytes),
    Case::new("transport.h2c.maxh2cdata", TRANSFERS, longer_pieces_exceed_the_limit),
    Case::new("transport.h2c.ttag", TRANSFERS, an_unknown_tag_is_an_invalid_field),
    Case::new("transport.h2c.cccid", H2CDATA, another_commands_identifier_is_an_invalid_field),
    Case::new("transport.h2c.unasked", TRANSFERS, data_that_nobody_asked_for_is_fatal),
    Case::new("transport.h2c.before-connect", TRANSFERS, data_before_connect_is_fatal),
    Case::new("transport.h2c.gap", TRANSFERS, a_gap_is_a_sequence_error),
    Case::new("transport.h2c.repeat", TRANSFERS, a_repeated_piece_is_a_sequence_error),
    Case::new("transport.h2c.start", TRANSFERS, a_first_piece_behind_the_start_is_a_sequence_error),
    Case::new("transport.h2c.range-start", FES, a_piece_behind_the_request_is_out_of_range),
    Case::new("transport.h2c.range-end", FES, a_piece_over_the_end_is_out_of_range),
    Case::new("transport.h2c.range-wraps", FES, offsets_that_overflow_are_out_of_range),
    Case::new("transport.h2c.last-early", TRANSFERS, an_early_last_pdu_is_a_sequence_error),
    Case::new("transport.h2c.last-missing", TRANSFERS, a_missing_last_pdu_is_fatal),
    Case::new("transport.h2c.after-last", TRANSFERS, data_after_the_last_pdu_is_fatal),
    Case::new("transport.h2c.after-completion", TRANSFERS, data_for_an_ended_command_is_fatal),
    Case::new("transport.h2c.datal-above-plen", H2CDATA, a_length_beyond_the_pdu_is_an_invalid_field),
    Case::new("transport.h2c.datal-below-plen", H2CDATA, a_length_short_of_the_pdu_is_an_invalid_field),
    Case::new("transport.h2c.datal-dword", H2CDATA, lengths_off_the_dword_are_invalid),
    Case::new("transport.h2c.datao-dword", H2CDATA, offsets_off_the_dword_are_invalid),
    Case::new("transport.h2c.empty", H2CDATA, a_piece_without_data_is_fatal),
    Case::new("transport.h2c.hlen", H2CDATA, other_header_lengths_are_invalid),
    Case::new("transport.h2c.plen", H2CDATA, lengths_below_the_header_are_invalid),
    Case::new("transport.h2c.pdo", H2CDATA, data_offsets_within_the_header_or_unaligned_are_invalid),
    Case::new("transport.h2c.digest-flags", H2CDATA, digest_flags_follow_what_was_agreed),
    Case::new("transport.h2c.other-queue", TRANSFERS, another_queues_tag_is_unknown),
    Case::new("transport.h2c.nothing-stored", TRANSFERS, an_error_in_the_last_piece_stores_nothing),
];

/// Blocks of the transfers that are bent; small enough for one R2T of any target.
const BLOCKS: usize = 16;
const LEN: usize = BLOCKS * 4096;
const SLBA: u64 = 1800;

/// An H2CData PDU of `len` bytes that no R2T asked for.
pub(super) fn unasked(len: u32) -> Frame {
    let data = vec![1; usize::try_from(len).unwrap_or(0)];
    let pdu = DataPdu { cccid: 1, ttag: 1, datal: len, last: true, data, ..DataPdu::default() };
    Pdu::H2cData(pdu).encode(Digests::default(), 4)
}

/// A write that waits for its data.
fn waiting(lab: &mut Lab) -> Result<(Session, u16, R2t)> {
    held(lab, Options::default(), SLBA, check::pattern(1, LEN))
}

/// Sends the first bytes of a transfer as `bend` makes them, and demands the end of the connection.
fn refused(
    lab: &mut Lab,
    what: &str,
    (from, to): (usize, usize),
    bend: impl Fn(DataPdu) -> DataPdu,
    fes: u16,
    fei: Option<u32>,
) -> Result<TermReq> {
    let (mut session, _, r2t) = waiting(lab)?;
    let pdu = bend(session.io(1).h2c_data(&r2t, from, to, false)?);
    ended(&mut session, &Pdu::H2cData(pdu), fes, fei).with_context(|| what.to_owned())
}

fn ended(session: &mut Session, pdu: &Pdu, fes: u16, fei: Option<u32>) -> Result<TermReq> {
    let connection = session.io(1).connection();
    let frame = connection.encode(pdu);
    connection.send_frame(&frame)?;
    check::term_req(connection, &frame, fes, fei)
}

/// Bends the frame of a transfer's first half.
fn bent_frame(lab: &mut Lab, what: &str, bend: impl Fn(Frame) -> Frame, fei: u32) -> Result<()> {
    let (mut session, _, r2t) = waiting(lab)?;
    let pdu = session.io(1).h2c_data(&r2t, 0, LEN / 2, false)?;
    let connection = session.io(1).connection();
    let frame = bend(connection.encode(&Pdu::H2cData(pdu)));
    connection.send_frame(&frame)?;
    check::term_req(connection, &frame, fes::INVALID_HEADER_FIELD, Some(fei))
        .with_context(|| what.to_owned())?;
    Ok(())
}

/// Answers an R2T in pieces of `step` bytes.
fn in_pieces(session: &mut Session, r2t: &R2t, step: usize) -> Result<()> {
    let io = session.io(1);
    let start = usize::try_from(r2t.r2to)?;
    let end = start + usize::try_from(r2t.r2tl)?;
    let mut at = start;
    while at < end {
        let next = (at + step).min(end);
        let pdu = io.h2c_data(r2t, at, next, next == end)?;
        io.connection().send(&Pdu::H2cData(pdu))?;
        at = next;
    }
    Ok(())
}

fn stored(session: &mut Session, expected: &[u8]) -> Result<()> {
    let blocks = u32::try_from(expected.len() / 4096)?;
    let back = session.io(1).read(1, &Io::at(SLBA, blocks), expected.len())?.ok()?.data;
    ensure!(back == expected, "stored something else");
    Ok(())
}

fn a_request_may_be_answered_in_any_pieces(lab: &mut Lab) -> Result<()> {
    for step in [512, 1000, 4096, 4100, 12_288, 32_764, LEN - 4, LEN] {
        let (mut session, cid, r2t) = waiting(lab)?;
        in_pieces(&mut session, &r2t, step)?;
        let done = session.io(1).wait(cid)?;
        done.ok().with_context(|| format!("pieces of {step} bytes"))?;
        stored(&mut session, &check::pattern(1, LEN)).with_context(|| format!("pieces of {step} bytes"))?;
    }
    Ok(())
}

fn pieces_may_be_single_dwords(lab: &mut Lab) -> Result<()> {
    let (mut session, cid, r2t) = held(lab, Options::default(), SLBA, check::pattern(4, 4096))?;
    in_pieces(&mut session, &r2t, 4)?;
    session.io(1).wait(cid)?.ok()?;
    stored(&mut session, &check::pattern(4, 4096))
}

/// As much as one write and one R2T can have.
fn big(lab: &mut Lab) -> Result<(Session, u16, R2t, usize)> {
    let (session, cid, r2t) = held(lab, Options::default(), SLBA, check::pattern(2, 256 * 4096))?;
    let mut session = session;
    let max = usize::try_from(session.io(1).connection().ic_resp().maxh2cdata)?;
    Ok((session, cid, r2t, max))
}

fn pieces_may_have_maxh2cdata_bytes(lab: &mut Lab) -> Result<()> {
    let (mut session, cid, r2t, _) = big(lab)?;
    finish(session.io(1), cid, &r2t, 256 * 4096)?;
    session.io(1).hold_r2ts(false);
    stored(&mut session, &check::pattern(2, 256 * 4096))
}

fn longer_pieces_exceed_the_limit(lab: &mut Lab) -> Result<()> {
    for extra in [4, 4096] {
        let (mut session, _, r2t, max) = big(lab)?;
        let data = check::pattern(2, max + extra);
        let pdu = session.io(1).h2c_data(&r2t, 0, 4096, false)?;
        let pdu = DataPdu { datal: u32::try_from(data.len())?, data, ..pdu };
        ended(&mut session, &Pdu::H2cData(pdu), fes::LIMIT_EXCEEDED, None)
            .with_context(|| format!("{extra} more"))?;
    }
    Ok(())
}

fn an_unknown_tag_is_an_invalid_field(lab: &mut Lab) -> Result<()> {
    let bends: [fn(u16) -> u16; 4] =
        [|tag| tag ^ 1, |tag| tag ^ 0x8000, |tag| !tag, |tag| tag.wrapping_add(1)];
    for bend in bends {
        let bend = |pdu: DataPdu| DataPdu { ttag: bend(pdu.ttag), ..pdu };
        refused(lab, "TTAG", (0, 4096), bend, fes::INVALID_HEADER_FIELD, Some(field::TTAG))?;
    }
    Ok(())
}

fn another_commands_identifier_is_an_invalid_field(lab: &mut Lab) -> Result<()> {
    for mask in [1, 0x8000, 0xffff] {
        let bend = |pdu: DataPdu| DataPdu { cccid: pdu.cccid ^ mask, ..pdu };
        refused(lab, "CCCID", (0, 4096), bend, fes::INVALID_HEADER_FIELD, Some(field::CCCID))?;
    }
    Ok(())
}

/// The tag is unknown; that the command is, too, may be found first, and that nothing is expected at all.
fn data_that_nobody_asked_for_is_fatal(lab: &mut Lab) -> Result<()> {
    for len in [4, 512, 4096] {
        let mut session = lab.session(Options::default())?;
        let frame = unasked(len);
        session.io(1).connection().send_frame(&frame)?;
        unexpected(&session.io(1).connection().expect_term_req()?)?;
        session.io(1).connection().expect_close()?;
    }
    Ok(())
}

fn unexpected(term: &TermReq) -> Result<()> {
    let field = term.fes == fes::INVALID_HEADER_FIELD && [field::CCCID, field::TTAG].contains(&term.fei);
    ensure!(field || term.fes == fes::SEQUENCE_ERROR, "{term}");
    Ok(())
}

fn data_before_connect_is_fatal(lab: &mut Lab) -> Result<()> {
    let mut connection = lab.initialized(&holdfast_testkit::ConnectOptions::default())?;
    connection.send_frame(&unasked(64))?;
    unexpected(&connection.expect_term_req()?)?;
    Ok(connection.expect_close()?)
}

fn a_gap_is_a_sequence_error(lab: &mut Lab) -> Result<()> {
    let (mut session, _, r2t) = waiting(lab)?;
    let first = session.io(1).h2c_data(&r2t, 0, 4096, false)?;
    session.io(1).connection().send(&Pdu::H2cData(first))?;
    let next = session.io(1).h2c_data(&r2t, 8192, 12_288, false)?;
    ended(&mut session, &Pdu::H2cData(next), fes::SEQUENCE_ERROR, None)?;
    Ok(())
}

fn a_repeated_piece_is_a_sequence_error(lab: &mut Lab) -> Result<()> {
    let (mut session, _, r2t) = waiting(lab)?;
    let first = Pdu::H2cData(session.io(1).h2c_data(&r2t, 0, 4096, false)?);
    session.io(1).connection().send(&first)?;
    ended(&mut session, &first, fes::SEQUENCE_ERROR, None)?;
    Ok(())
}

fn a_first_piece_behind_the_start_is_a_sequence_error(lab: &mut Lab) -> Result<()> {
    for from in [4, 4096, LEN / 2] {
        let what = format!("starting at {from}");
        refused(lab, &what, (from, from + 4096), |pdu| pdu, fes::SEQUENCE_ERROR, None)?;
    }
    Ok(())
}

fn a_piece_behind_the_request_is_out_of_range(lab: &mut Lab) -> Result<()> {
    let end = u32::try_from(LEN)?;
    for datao in [end, end + 4, 1 << 20, 1 << 31] {
        let bend = |pdu: DataPdu| DataPdu { datao, ..pdu };
        refused(lab, &format!("DATAO {datao:#x}"), (0, 4096), bend, fes::OUT_OF_RANGE, None)?;
    }
    Ok(())
}

fn a_piece_over_the_end_is_out_of_range(lab: &mut Lab) -> Result<()> {
    for extra in [4, 512, 4096] {
        let data = check::pattern(3, LEN + extra);
        let datal = u32::try_from(data.len())?;
        let bend = |pdu: DataPdu| DataPdu { datal, data: data.clone(), last: true, ..pdu };
        refused(lab, &format!("{extra} bytes more"), (0, LEN), bend, fes::OUT_OF_RANGE, None)?;
    }
    Ok(())
}

fn offsets_that_overflow_are_out_of_range(lab: &mut Lab) -> Result<()> {
    for datao in [u32::MAX - 3, u32::MAX - 4095, 0xffff_f000] {
        let bend = |pdu: DataPdu| DataPdu { datao, ..pdu };
        refused(lab, &format!("DATAO {datao:#x}"), (0, 4096), bend, fes::OUT_OF_RANGE, None)?;
    }
    Ok(())
}

fn an_early_last_pdu_is_a_sequence_error(lab: &mut Lab) -> Result<()> {
    for to in [4, 4096, LEN - 4] {
        let bend = |pdu: DataPdu| DataPdu { last: true, ..pdu };
        refused(lab, &format!("after {to} bytes"), (0, to), bend, fes::SEQUENCE_ERROR, None)?;
    }
    Ok(())
}

/// The PDU that completes the request without the flag is wrong by its FLAGS, or by its place.
fn a_missing_last_pdu_is_fatal(lab: &mut Lab) -> Result<()> {
    for step in [LEN, LEN / 2] {
        let (mut session, _, r2t) = waiting(lab)?;
        let io = session.io(1);
        for at in (0..LEN).step_by(step) {
            let pdu = io.h2c_data(&r2t, at, at + step, false)?;
            io.connection().send(&Pdu::H2cData(pdu))?;
        }
        let term = io.connection().expect_term_req()?;
        let flags = term.fes == fes::INVALID_HEADER_FIELD && term.fei == field::FLAGS;
        ensure!(flags || term.fes == fes::SEQUENCE_ERROR, "{term}");
        io.connection().expect_close()?;
    }
    Ok(())
}

fn data_after_the_last_pdu_is_fatal(lab: &mut Lab) -> Result<()> {
    for last in [false, true] {
        let (mut session, _, r2t) = waiting(lab)?;
        let io = session.io(1);
        let whole = io.h2c_data(&r2t, 0, LEN, true)?;
        let again = io.h2c_data(&r2t, LEN - 4096, LEN, last)?;
        let mut bytes = io.connection().encode(&Pdu::H2cData(whole)).as_bytes().to_vec();
        bytes.extend_from_slice(io.connection().encode(&Pdu::H2cData(again)).as_bytes());
        io.connection().send_raw(&bytes)?;
        unexpected(&io.connection().expect_term_req()?)?;
        io.connection().expect_close()?;
    }
    Ok(())
}

fn data_for_an_ended_command_is_fatal(lab: &mut Lab) -> Result<()> {
    let (mut session, cid, r2t) = waiting(lab)?;
    let io = session.io(1);
    let again = io.h2c_data(&r2t, 0, LEN, true)?;
    io.answer_r2t(&r2t)?;
    io.wait(cid)?.ok()?;
    io.connection().send(&Pdu::H2cData(again))?;
    unexpected(&io.connection().expect_term_req()?)?;
    Ok(io.connection().expect_close()?)
}

fn a_length_beyond_the_pdu_is_an_invalid_field(lab: &mut Lab) -> Result<()> {
    for datal in [4100, 8192, 1 << 16, u32::MAX] {
        let bend = |pdu: DataPdu| DataPdu { datal, ..pdu };
        length_refused(lab, datal, bend)?;
    }
    Ok(())
}

fn a_length_short_of_the_pdu_is_an_invalid_field(lab: &mut Lab) -> Result<()> {
    for datal in [0, 4, 2048, 4092] {
        let bend = |pdu: DataPdu| DataPdu { datal, ..pdu };
        length_refused(lab, datal, bend)?;
    }
    Ok(())
}

/// PLEN and DATAL disagree; the lower offset may be called the wrong one.
fn length_refused(lab: &mut Lab, datal: u32, bend: impl Fn(DataPdu) -> DataPdu) -> Result<()> {
    let what = format!("DATAL {datal:#x} with 4096 bytes");
    let term = refused(lab, &what, (0, 4096), bend, fes::INVALID_HEADER_FIELD, None)?;
    ensure!([field::PLEN, field::DATAL].contains(&term.fei), "{what}: {term}");
    Ok(())
}

fn lengths_off_the_dword_are_invalid(lab: &mut Lab) -> Result<()> {
    for len in [1, 2, 3, 4095, 4097] {
        let what = format!("DATAL {len}");
        refused(lab, &what, (0, len), |pdu| pdu, fes::INVALID_HEADER_FIELD, Some(field::DATAL))?;
    }
    Ok(())
}

fn offsets_off_the_dword_are_invalid(lab: &mut Lab) -> Result<()> {
    for datao in [1, 2, 3, 4095] {
        let bend = |pdu: DataPdu| DataPdu { datao, ..pdu };
        let what = format!("DATAO {datao}");
        refused(lab, &what, (0, 4096), bend, fes::INVALID_HEADER_FIELD, Some(field::DATAO))?;
    }
    Ok(())
}

fn a_piece_without_data_is_fatal(lab: &mut Lab) -> Result<()> {
    let (mut session, _, r2t) = waiting(lab)?;
    let pdu = DataPdu { cccid: r2t.cccid, ttag: r2t.ttag, ..DataPdu::default() };
    let connection = session.io(1).connection();
    connection.send(&Pdu::H2cData(pdu))?;
    let term = connection.expect_term_req()?;
    ensure!([fes::INVALID_HEADER_FIELD, fes::SEQUENCE_ERROR].contains(&term.fes), "{term}");
    Ok(connection.expect_close()?)
}

fn other_header_lengths_are_invalid(lab: &mut Lab) -> Result<()> {
    for hlen in [0, 8, 23, 25, 28, 72, 255] {
        bent_frame(lab, &format!("HLEN {hlen}"), |frame| frame.hlen(hlen), field::HLEN)?;
    }
    Ok(())
}

fn lengths_below_the_header_are_invalid(lab: &mut Lab) -> Result<()> {
    for plen in [0, 7, 8, 23] {
        bent_frame(lab, &format!("PLEN {plen}"), |frame| frame.plen(plen), field::PLEN)?;
    }
    Ok(())
}

fn data_offsets_within_the_header_or_unaligned_are_invalid(lab: &mut Lab) -> Result<()> {
    for pdo in [0, 8, 20, 25, 26, 27, 29] {
        bent_frame(lab, &format!("PDO {pdo}"), |frame| frame.pdo(pdo), field::PDO)?;
    }
    Ok(())
}

fn digest_flags_follow_what_was_agreed(lab: &mut Lab) -> Result<()> {
    for flags in [1, 2, 3] {
        bent_frame(lab, &format!("FLAGS {flags}"), |frame| frame.flags(flags), field::FLAGS)?;
    }
    Ok(())
}

fn another_queues_tag_is_unknown(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(2))?;
    session.io(1).hold_r2ts(true);
    let cid = submit(session.io(1), SLBA, check::pattern(6, LEN))?;
    let r2t = session.io(1).next_r2t()?;
    let pdu = Pdu::H2cData(session.io(1).h2c_data(&r2t, 0, LEN, true)?);
    session.io(2).connection().send(&pdu)?;
    unexpected(&session.io(2).connection().expect_term_req()?)?;
    session.io(2).connection().expect_close()?;
    // Whether the first queue goes on depends on who supports the deletion of individual queues; it has no data yet.
    session.io(1).forget(cid);
    Ok(())
}

fn an_error_in_the_last_piece_stores_nothing(lab: &mut Lab) -> Result<()> {
    let mut before = lab.session(Options::default())?;
    before.io(1).write(1, &Io::at(SLBA, u32::try_from(BLOCKS)?), &vec![0xee; LEN])?.ok()?;
    let (mut session, _, r2t) = waiting(lab)?;
    let io = session.io(1);
    let most = io.h2c_data(&r2t, 0, LEN - 4096, false)?;
    io.connection().send(&Pdu::H2cData(most))?;
    let rest = io.h2c_data(&r2t, LEN - 4096, LEN, true)?;
    let bad = DataPdu { ttag: rest.ttag ^ 0x55, ..rest };
    ended(&mut session, &Pdu::H2cData(bad), fes::INVALID_HEADER_FIELD, Some(field::TTAG))?;
    stored(&mut before, &vec![0xee; LEN])
}
