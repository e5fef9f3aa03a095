//! Ends of connections. NVMe/TCP 1.1 §3.5 "Error Handling Model", §3.6.2.4 "H2CTermReq", §3.6.2.5 "C2HTermReq".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Digests, Frame, IcReq, Pdu, Sqe, TermReq, fes, kind, le16, le32, opcode};
use holdfast_testkit::{Command, ConnectOptions, Io, Options, Placement};

use super::field;
use crate::{Case, Lab, check};

const ERRORS: &str = "NVMe/TCP 1.1 §3.5 \"Error Handling Model\"";
const C2H: &str =
    "NVMe/TCP 1.1 §3.6.2.5 \"Controller to Host Terminate Connection Request PDU (C2HTermReq)\"";
const H2C: &str =
    "NVMe/TCP 1.1 §3.6.2.4 \"Host to Controller Terminate Connection Request PDU (H2CTermReq)\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.term.c2h-layout", C2H, the_request_has_the_specified_layout),
    Case::new("transport.term.c2h-no-digest", C2H, the_request_has_no_digest),
    Case::new("transport.term.c2h-quotes-header", ERRORS, the_whole_header_is_quoted),
    Case::new("transport.term.nothing-after", ERRORS, pdus_behind_the_error_are_not_processed),
    Case::new("transport.term.one-only", ERRORS, an_error_is_told_once),
    Case::new("transport.term.h2c-closes", H2C, a_hosts_request_ends_the_connection),
    Case::new("transport.term.h2c-all-statuses", H2C, a_hosts_request_ends_it_whatever_it_says),
    Case::new("transport.term.h2c-before-icreq", H2C, a_hosts_request_may_be_its_first_word),
    Case::new("transport.term.h2c-too-long", ERRORS, a_request_above_152_bytes_is_closed_without_a_word),
    Case::new("transport.term.h2c-too-short", ERRORS, a_request_below_24_bytes_is_closed_without_a_word),
    Case::new("transport.term.h2c-with-digests", H2C, a_hosts_request_has_no_digest),
    Case::new("transport.term.h2c-ends-io", ERRORS, what_was_under_way_ends_with_the_connection),
    Case::new("transport.term.admin-ends-all", ERRORS, an_error_on_the_admin_queue_ends_the_io_queues),
];

fn bad_capsule() -> Frame {
    let sqe = Sqe::fabrics(opcode::PROPERTY_GET).sgl_transport(0);
    Pdu::CapsuleCmd { sqe, data: Vec::new() }.encode(Digests::default(), 4).hlen(71)
}

fn term(header: Vec<u8>) -> Frame {
    Pdu::H2cTermReq(TermReq { fes: 1, fei: 4, header }).encode(Digests::default(), 4)
}

fn the_request_has_the_specified_layout(lab: &mut Lab) -> Result<()> {
    let mut connection = lab.initialized(&ConnectOptions::default())?;
    connection.send_frame(&bad_capsule())?;
    let frame = connection.recv_frame()?;
    let bytes = frame.as_bytes();
    check::same("PDU-Type, FLAGS, HLEN, PDO", bytes.get(..4), Some(&[kind::C2H_TERM_REQ, 0, 24, 0]))?;
    let plen = le32(bytes, 4).context("PLEN")?;
    ensure!((24 + 8..=152).contains(&plen), "PLEN {plen}");
    check::same("FES", le16(bytes, 8), Some(fes::INVALID_HEADER_FIELD))?;
    check::same("FEI", le32(bytes, 10), Some(field::HLEN))?;
    check::same("reserved bytes", bytes.get(14..24), Some(&[0; 10]))
}

fn the_request_has_no_digest(lab: &mut Lab) -> Result<()> {
    for (header_digest, data_digest) in [(true, false), (false, true), (true, true)] {
        let options = ConnectOptions { header_digest, data_digest, ..ConnectOptions::default() };
        let mut connection = lab.initialized(&options)?;
        let frame = Pdu::IcReq(IcReq::default()).encode(Digests::default(), 4);
        connection.send_frame(&frame)?;
        check::term_req(&mut connection, &frame, fes::SEQUENCE_ERROR, None)?;
    }
    Ok(())
}

fn the_whole_header_is_quoted(lab: &mut Lab) -> Result<()> {
    let mut connection = lab.raw()?;
    let frame = Pdu::IcReq(IcReq { pfv: 9, ..IcReq::default() }).encode(Digests::default(), 4);
    connection.send_frame(&frame)?;
    let term = check::term_req(&mut connection, &frame, fes::UNSUPPORTED_PARAMETER, Some(field::PFV))?;
    check::same("quoted bytes of an ICReq", term.header.len(), 128)?;
    let mut connection = lab.initialized(&ConnectOptions::default())?;
    let frame = super::h2c_data::unasked(16);
    connection.send_frame(&frame)?;
    let term = connection.expect_term_req()?;
    check::same(
        "quoted bytes of an H2CData",
        term.header.as_slice(),
        frame.as_bytes().get(..24).unwrap_or_default(),
    )
}

/// A write that follows in the same segment must not happen.
fn pdus_behind_the_error_are_not_processed(lab: &mut Lab) -> Result<()> {
    let at = Io::at(3000, 1);
    let mut session = lab.session(Options::default())?;
    session.io(1).write(1, &at, &[1; 4096])?.ok()?;
    let connection = session.io(1).connection();
    let sqe = at.sqe(opcode::WRITE, 1).with_cid(77).sgl_in_capsule(0, 4096);
    let write = connection.encode(&Pdu::CapsuleCmd { sqe, data: vec![2; 4096] });
    let mut bytes = bad_capsule().as_bytes().to_vec();
    bytes.extend_from_slice(write.as_bytes());
    connection.send_raw(&bytes)?;
    connection.expect_term_req()?;
    connection.expect_close()?;
    let back = lab.session(Options::default())?.io(1).read(1, &at, 4096)?.ok()?.data;
    ensure!(back == [1; 4096], "the write behind the error was done");
    Ok(())
}

fn an_error_is_told_once(lab: &mut Lab) -> Result<()> {
    let mut connection = lab.initialized(&ConnectOptions::default())?;
    let bytes: Vec<u8> = (0..3).flat_map(|_| bad_capsule().as_bytes().to_vec()).collect();
    connection.send_raw(&bytes)?;
    connection.expect_term_req()?;
    check::closed_silently(&mut connection)
}

fn a_hosts_request_ends_the_connection(lab: &mut Lab) -> Result<()> {
    for header in [Vec::new(), vec![4; 8], vec![4; 24], vec![5; 128]] {
        let mut connection = lab.initialized(&ConnectOptions::default())?;
        let len = header.len();
        connection.send_frame(&term(header))?;
        check::closed_silently(&mut connection).with_context(|| format!("{len} bytes quoted"))?;
    }
    Ok(())
}

fn a_hosts_request_ends_it_whatever_it_says(lab: &mut Lab) -> Result<()> {
    for status in [0, 1, 2, 3, 4, 5, 6, 7, 0xffff] {
        let mut connection = lab.initialized(&ConnectOptions::default())?;
        let pdu = TermReq { fes: status, fei: u32::MAX, header: vec![9; 24] };
        connection.send(&Pdu::H2cTermReq(pdu))?;
        check::closed_silently(&mut connection).with_context(|| format!("FES {status:#x}"))?;
    }
    Ok(())
}

fn a_hosts_request_may_be_its_first_word(lab: &mut Lab) -> Result<()> {
    let mut connection = lab.raw()?;
    connection.send_frame(&term(vec![1; 24]))?;
    check::closed_silently(&mut connection)
}

fn a_request_above_152_bytes_is_closed_without_a_word(lab: &mut Lab) -> Result<()> {
    for plen in [153, 156, 4096, 1 << 20, u32::MAX] {
        let mut connection = lab.initialized(&ConnectOptions::default())?;
        connection.send_frame(&term(vec![4; 128]).plen(plen))?;
        check::closed_silently(&mut connection).with_context(|| format!("PLEN {plen}"))?;
    }
    Ok(())
}

fn a_request_below_24_bytes_is_closed_without_a_word(lab: &mut Lab) -> Result<()> {
    for plen in [0, 1, 8, 9, 23] {
        let mut connection = lab.initialized(&ConnectOptions::default())?;
        connection.send_frame(&term(Vec::new()).plen(plen))?;
        check::closed_silently(&mut connection).with_context(|| format!("PLEN {plen}"))?;
    }
    Ok(())
}

fn a_hosts_request_has_no_digest(lab: &mut Lab) -> Result<()> {
    let options = ConnectOptions { header_digest: true, data_digest: true, ..ConnectOptions::default() };
    let mut connection = lab.initialized(&options)?;
    connection.send_frame(&term(vec![4; 24]))?;
    check::closed_silently(&mut connection)
}

fn what_was_under_way_ends_with_the_connection(lab: &mut Lab) -> Result<()> {
    let at = Io::at(3001, 8);
    let mut session = lab.session(Options::default())?;
    session.io(1).write(1, &at, &[3; 8 * 4096])?.ok()?;
    let io = session.io(1);
    io.hold_r2ts(true);
    let write = Command::with_data(at.sqe(opcode::WRITE, 1), vec![4; 8 * 4096]).placed(Placement::Solicited);
    io.submit(write)?;
    let r2t = io.next_r2t()?;
    let half = io.h2c_data(&r2t, 0, 4096, false)?;
    io.connection().send(&Pdu::H2cData(half))?;
    io.connection().send_frame(&term(vec![4; 24]))?;
    io.connection().expect_close()?;
    let back = lab.session(Options::default())?.io(1).read(1, &at, 8 * 4096)?.ok()?.data;
    ensure!(back == [3; 8 * 4096], "part of an unfinished write was stored");
    Ok(())
}

fn an_error_on_the_admin_queue_ends_the_io_queues(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(3))?;
    session.admin().connection().send_frame(&bad_capsule())?;
    session.admin().connection().expect_term_req()?;
    for qid in 1..=3 {
        session.io(qid).connection().expect_close().with_context(|| format!("I/O queue {qid}"))?;
    }
    Ok(())
}
