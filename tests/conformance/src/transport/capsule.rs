//! Command capsules as PDUs. NVMe/TCP 1.1 §3.6.2.6 "Command Capsule PDU (CapsuleCmd)", §3.3.1 "Capsules".

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::wire::{Frame, Pdu, Sqe, fes, kind, opcode};
use holdfast_testkit::{Command, Error, Io, Options, Placement, Session};

use super::field;
use crate::{Case, Lab, check};

const CAPSULE: &str = "NVMe/TCP 1.1 §3.6.2.6 \"Command Capsule PDU (CapsuleCmd)\"";
const RESPONSE: &str = "NVMe/TCP 1.1 §3.6.2.7 \"Response Capsule PDU (CapsuleResp)\"";
const SIZES: &str = "NVMe/TCP 1.1 §3.3.1 \"Capsules\"";
const TYPES: &str = "NVMe/TCP 1.1 §3.3 \"Data Transfer Model\", figure \"NVMe/TCP PDU Types\"";
const LOWEST: &str = "NVMe/TCP 1.1 §3.6.2.5 \"C2HTermReq\", field FEI";
const IOCCSZ: &str = "NVMe Base 2.1 §5.1.13.2.1 \"Identify Controller\", fields IOCCSZ, IORCSZ, ICDOFF";
const CQE: &str = "NVMe Base 2.1 §4.2.2 \"Fabrics Response Capsule\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.capsule.hlen", CAPSULE, other_header_lengths_are_invalid),
    Case::new("transport.capsule.plen-short", CAPSULE, lengths_below_the_header_are_invalid),
    Case::new("transport.capsule.plen-huge", CAPSULE, lengths_beyond_any_capsule_are_invalid),
    Case::new("transport.capsule.pdo-in-header", CAPSULE, data_within_the_header_is_invalid),
    Case::new("transport.capsule.pdo-alignment", CAPSULE, data_off_the_alignment_is_invalid),
    Case::new("transport.capsule.pdo-beyond", CAPSULE, data_behind_the_end_is_invalid),
    Case::new("transport.capsule.pdo-unused", CAPSULE, the_offset_means_nothing_without_data),
    Case::new("transport.capsule.digest-flags", CAPSULE, digest_flags_follow_what_was_agreed),
    Case::new("transport.capsule.wrong-direction", TYPES, what_controllers_send_is_invalid),
    Case::new("transport.capsule.undefined-type", TYPES, undefined_types_are_invalid),
    Case::new("transport.capsule.lowest-field", LOWEST, the_lowest_wrong_field_is_named),
    Case::new("transport.capsule.admin-8192", SIZES, admin_capsules_carry_8192_bytes),
    Case::new("transport.capsule.io-ioccsz", SIZES, io_capsules_carry_what_ioccsz_says),
    Case::new("transport.capsule.beyond-ioccsz", SIZES, larger_capsules_are_refused),
    Case::new("transport.capsule.sizes-identified", IOCCSZ, capsule_sizes_are_those_of_this_transport),
    Case::new("transport.capsule.smallest-data", SIZES, every_number_of_blocks_up_to_the_limit_fits),
    Case::new("transport.capsule.response-layout", RESPONSE, responses_have_the_specified_layout),
    Case::new("transport.capsule.response-reserved", CQE, sq_identifier_and_phase_tag_are_zero),
    Case::new("transport.capsule.any-cid", CAPSULE, any_command_identifier_comes_back),
];

/// A Flush with this identifier.
fn flush(cid: u16) -> Pdu {
    let sqe = Sqe::new(opcode::FLUSH).with_nsid(1).with_cid(cid).sgl_transport(0);
    Pdu::CapsuleCmd { sqe, data: Vec::new() }
}

/// A write of one block in its capsule.
fn write() -> Pdu {
    let sqe = Io::at(100, 1).sqe(opcode::WRITE, 1).with_cid(9).sgl_in_capsule(0, 4096);
    Pdu::CapsuleCmd { sqe, data: vec![0x77; 4096] }
}

/// Sends a bent PDU on an I/O queue of its own, and demands the end of the connection.
fn refused(lab: &mut Lab, what: &str, pdu: &Pdu, bend: impl Fn(Frame) -> Frame, fei: u32) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let connection = session.io(1).connection();
    let frame = bend(connection.encode(pdu));
    connection.send_frame(&frame)?;
    check::term_req(connection, &frame, fes::INVALID_HEADER_FIELD, Some(fei))
        .with_context(|| what.to_owned())?;
    Ok(())
}

fn other_header_lengths_are_invalid(lab: &mut Lab) -> Result<()> {
    for hlen in [0, 8, 24, 64, 71, 73, 76, 128, 255] {
        refused(lab, &format!("HLEN {hlen}"), &write(), |frame| frame.hlen(hlen), field::HLEN)?;
    }
    Ok(())
}

fn lengths_below_the_header_are_invalid(lab: &mut Lab) -> Result<()> {
    for plen in [0, 1, 7, 8, 64, 71] {
        refused(lab, &format!("PLEN {plen}"), &flush(3), |frame| frame.plen(plen), field::PLEN)?;
    }
    Ok(())
}

fn lengths_beyond_any_capsule_are_invalid(lab: &mut Lab) -> Result<()> {
    for plen in [1 << 20, 1 << 24, 0x7fff_ffff, 0x8000_0000, 0xffff_fffc, u32::MAX] {
        refused(lab, &format!("PLEN {plen:#x}"), &write(), |frame| frame.plen(plen), field::PLEN)?;
    }
    Ok(())
}

fn data_within_the_header_is_invalid(lab: &mut Lab) -> Result<()> {
    for pdo in [0, 4, 8, 64, 68] {
        refused(lab, &format!("PDO {pdo}"), &write(), |frame| frame.pdo(pdo), field::PDO)?;
    }
    Ok(())
}

fn data_off_the_alignment_is_invalid(lab: &mut Lab) -> Result<()> {
    for pdo in [73, 74, 75, 77, 255] {
        refused(lab, &format!("PDO {pdo}"), &write(), |frame| frame.pdo(pdo), field::PDO)?;
    }
    Ok(())
}

/// PDO is right by its alignment; either field can be called the wrong one.
fn data_behind_the_end_is_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let connection = session.io(1).connection();
    let frame = connection.encode(&write()).plen(80).pdo(128);
    connection.send_frame(&frame)?;
    let term = check::term_req(connection, &frame, fes::INVALID_HEADER_FIELD, None)?;
    ensure!([field::PDO, field::PLEN].contains(&term.fei), "{term}");
    Ok(())
}

fn the_offset_means_nothing_without_data(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let connection = session.io(1).connection();
    for pdo in [0, 72] {
        let frame = connection.encode(&flush(11)).pdo(pdo);
        connection.send_frame(&frame)?;
        let Pdu::CapsuleResp(cqe) = connection.recv()? else { bail!("no response with PDO {pdo}") };
        ensure!(cqe.cid == 11 && cqe.status.is_success(), "{cqe:?}");
    }
    Ok(())
}

fn digest_flags_follow_what_was_agreed(lab: &mut Lab) -> Result<()> {
    for flags in [1, 2, 3] {
        refused(
            lab,
            &format!("FLAGS {flags}, none agreed"),
            &write(),
            |frame| frame.flags(flags),
            field::FLAGS,
        )?;
    }
    for (header, data, flags) in [(true, true, 1), (false, true, 0), (false, true, 1)] {
        let mut session = lab.session(Options::default().digests(header, data))?;
        let connection = session.io(1).connection();
        let frame = connection.encode(&write()).flags(flags).seal(connection.digests());
        connection.send_frame(&frame)?;
        check::term_req(connection, &frame, fes::INVALID_HEADER_FIELD, Some(field::FLAGS))
            .with_context(|| format!("FLAGS {flags}, agreed {header} {data}"))?;
    }
    Ok(())
}

fn what_controllers_send_is_invalid(lab: &mut Lab) -> Result<()> {
    for c2h in [kind::IC_RESP, kind::C2H_TERM_REQ, kind::CAPSULE_RESP, kind::C2H_DATA, kind::R2T] {
        refused(lab, &format!("type {c2h:#04x}"), &flush(3), |frame| frame.kind(c2h), field::PDU_TYPE)?;
    }
    Ok(())
}

fn undefined_types_are_invalid(lab: &mut Lab) -> Result<()> {
    for undefined in [0x08, 0x0a, 0x0b, 0x14, 0x44, 0x84, 0xff] {
        refused(
            lab,
            &format!("type {undefined:#04x}"),
            &flush(3),
            |frame| frame.kind(undefined),
            field::PDU_TYPE,
        )?;
    }
    Ok(())
}

fn the_lowest_wrong_field_is_named(lab: &mut Lab) -> Result<()> {
    refused(lab, "HLEN, PDO, PLEN", &write(), |frame| frame.hlen(70).pdo(1).plen(9), field::HLEN)?;
    refused(lab, "PDO, PLEN", &write(), |frame| frame.pdo(1).plen(1 << 30), field::PDO)?;
    refused(lab, "type, PDO", &write(), |frame| frame.kind(0x0d).pdo(1), field::PDU_TYPE)
}

/// 8192 bytes to a command that has no use for them: the capsule itself is right, the SGL is not what the command needs.
fn admin_capsules_carry_8192_bytes(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for len in [1024, 4096, 8192] {
        let sqe = Sqe::new(opcode::KEEP_ALIVE);
        let command = Command::with_data(sqe, vec![0; len]).placed(Placement::InCapsule);
        session.admin().run(command).with_context(|| format!("{len} bytes"))?;
    }
    session.admin().keep_alive()?.ok()?;
    Ok(())
}

fn in_capsule_write(session: &mut Session, blocks: u32, fill: u8) -> Result<(), Error> {
    let len = usize::try_from(blocks).unwrap_or(0) * 4096;
    let at = Io::at(200, blocks);
    let io = session.io(1);
    io.run(Command::with_data(at.sqe(opcode::WRITE, 1), vec![fill; len]).placed(Placement::InCapsule))?
        .ok()?;
    let back = io.read(1, &at, len)?.ok()?.data;
    if back == vec![fill; len] { Ok(()) } else { Err(Error::Usage("read back something else".into())) }
}

fn io_capsules_carry_what_ioccsz_says(lab: &mut Lab) -> Result<()> {
    for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut session = lab.session(Options::default().digests(header, data))?;
        let max = session.controller().in_capsule_max();
        ensure!(max >= 4096, "IOCCSZ leaves {max} bytes");
        in_capsule_write(&mut session, u32::try_from(max / 4096)?, 0x31)?;
    }
    Ok(())
}

/// Fatal or not is not said; that it is no success and stores nothing is.
fn larger_capsules_are_refused(lab: &mut Lab) -> Result<()> {
    for extra in [1, 2, 64] {
        let mut session = lab.session(Options::default())?;
        let blocks = u32::try_from(session.controller().in_capsule_max() / 4096)? + extra;
        in_capsule_write(&mut session, 1, 0x41)?;
        let command = Io::at(200, blocks).sqe(opcode::WRITE, 1);
        let command = Command::with_data(command, vec![0x42; usize::try_from(blocks)? * 4096]);
        match session.io(1).run(command.placed(Placement::InCapsule)) {
            Ok(completion) => {
                ensure!(!completion.status().is_success(), "{extra} blocks too many were taken")
            }
            Err(Error::TermReq(_) | Error::Closed { .. }) => {}
            Err(other) => return Err(other).context("a capsule that is too large"),
        }
        let back = lab.session(Options::default())?.io(1).read(1, &Io::at(200, 1), 4096)?.ok()?.data;
        ensure!(back == [0x41; 4096], "a refused capsule was stored");
    }
    Ok(())
}

fn capsule_sizes_are_those_of_this_transport(lab: &mut Lab) -> Result<()> {
    let session = lab.session(Options::default())?;
    let controller = session.controller();
    ensure!(controller.ioccsz >= 4, "IOCCSZ {}", controller.ioccsz);
    check::same("IORCSZ", controller.iorcsz, 1)?;
    check::same("ICDOFF", controller.icdoff, 0)
}

fn every_number_of_blocks_up_to_the_limit_fits(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let max = u32::try_from(session.controller().in_capsule_max() / 4096)?;
    for blocks in 1..=max {
        in_capsule_write(&mut session, blocks, blocks.to_le_bytes()[0])?;
    }
    Ok(())
}

fn responses_have_the_specified_layout(lab: &mut Lab) -> Result<()> {
    for (header, flags, len) in [(false, 0, 24_u8), (true, 1, 28)] {
        let mut session = lab.session(Options::default().digests(header, false))?;
        let connection = session.io(1).connection();
        connection.send(&flush(0x1234))?;
        let frame = connection.recv_frame()?;
        let expected = [kind::CAPSULE_RESP, flags, 24, 0, len, 0, 0, 0];
        check::same("the common header", frame.as_bytes().get(..8), Some(expected.as_slice()))?;
        check::same("the length", frame.as_bytes().len(), usize::from(len))?;
        check::same("CID", frame.as_bytes().get(20..22), Some(&[0x34, 0x12]))?;
    }
    Ok(())
}

fn sq_identifier_and_phase_tag_are_zero(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(2))?;
    for qid in [1, 2] {
        let connection = session.io(qid).connection();
        connection.send(&flush(5))?;
        let frame = connection.recv_frame()?;
        check::same("SQ Identifier", frame.as_bytes().get(18..20), Some(&[0, 0]))?;
        ensure!(frame.as_bytes().get(22).is_some_and(|byte| byte & 1 == 0), "the Phase Tag bit is set");
    }
    Ok(())
}

fn any_command_identifier_comes_back(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let connection = session.io(1).connection();
    for cid in [0, 1, 0x00ff, 0x0100, 0x7fff, 0x8000, 0xfffe, 0xffff] {
        connection.send(&flush(cid))?;
        let Pdu::CapsuleResp(cqe) = connection.recv()? else { bail!("no response to CID {cid:#06x}") };
        ensure!(cqe.cid == cid && cqe.status.is_success(), "CID {cid:#06x}: {cqe:?}");
    }
    Ok(())
}
