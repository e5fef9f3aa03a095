//! The first exchange on a connection. NVMe/TCP 1.1 §3.1 "Setup & Initialization", §3.6.2.2 "ICReq", §3.6.2.3 "ICResp".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{DataPdu, Digests, Frame, IcReq, Pdu, Sqe, fes, kind, le32, opcode};
use holdfast_testkit::{ConnectOptions, Connection};

use super::field;
use crate::{Case, Lab, check};

const SETUP: &str = "NVMe/TCP 1.1 §3.1 \"Setup & Initialization\"";
const ICREQ: &str = "NVMe/TCP 1.1 §3.6.2.2 \"Initialize Connection Request PDU (ICReq)\"";
const ICRESP: &str = "NVMe/TCP 1.1 §3.6.2.3 \"Initialize Connection Response PDU (ICResp)\"";
const TYPES: &str = "NVMe/TCP 1.1 §3.3 \"Data Transfer Model\", figure \"NVMe/TCP PDU Types\"";
const LOWEST: &str = "NVMe/TCP 1.1 §3.6.2.5 \"C2HTermReq\", field FEI";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.icreq.pfv", ICREQ, other_versions_are_unsupported),
    Case::new("transport.icreq.hpda-range", ICREQ, alignments_above_31_are_invalid),
    Case::new("transport.icreq.hpda-accepted", ICREQ, all_alignments_up_to_31_are_taken),
    Case::new("transport.icreq.maxr2t-accepted", ICREQ, any_maxr2t_is_taken),
    Case::new("transport.icreq.reserved", ICREQ, reserved_fields_are_not_looked_at),
    Case::new("transport.icreq.hlen", ICREQ, other_header_lengths_are_invalid),
    Case::new("transport.icreq.plen", ICREQ, other_lengths_are_invalid),
    Case::new("transport.icreq.lowest-field", LOWEST, the_lowest_wrong_field_is_named),
    Case::new("transport.icreq.pfv-before-hpda", SETUP, a_wrong_version_comes_before_what_it_defines),
    Case::new("transport.icreq.undefined-type", TYPES, undefined_types_are_invalid),
    Case::new("transport.icreq.wrong-direction", TYPES, what_controllers_send_is_invalid),
    Case::new("transport.icreq.command-first", SETUP, a_command_before_it_is_a_sequence_error),
    Case::new("transport.icreq.data-first", SETUP, data_before_it_is_a_sequence_error),
    Case::new("transport.icreq.twice", SETUP, a_second_one_is_a_sequence_error),
    Case::new("transport.icreq.twice-connected", SETUP, one_on_a_queue_is_a_sequence_error),
    Case::new("transport.icresp.layout", ICRESP, the_answer_has_the_specified_layout),
    Case::new("transport.icresp.maxh2cdata", ICRESP, maxh2cdata_is_dwords_and_no_less_than_4096),
    Case::new("transport.icresp.digests", ICRESP, digests_are_on_exactly_when_asked_for),
    Case::new("transport.icresp.same-for-all", ICRESP, the_answer_does_not_change),
];

fn frame(request: &IcReq) -> Frame {
    Pdu::IcReq(*request).encode(Digests::default(), 4)
}

/// Sends the frame on a fresh connection and demands its end.
fn refused(lab: &Lab, what: &str, frame: &Frame, fes: u16, fei: Option<u32>) -> Result<()> {
    let mut connection = lab.raw()?;
    connection.send_frame(frame)?;
    check::term_req(&mut connection, frame, fes, fei).with_context(|| what.to_owned())?;
    Ok(())
}

/// Sends the frame on a fresh connection and gives the bytes of the ICResp.
fn answered(lab: &Lab, frame: &Frame) -> Result<Frame> {
    let mut connection = lab.raw()?;
    connection.send_frame(frame)?;
    let answer = connection.recv_frame()?;
    ensure!(answer.as_bytes().first() == Some(&kind::IC_RESP), "answered {:02x?}", answer.as_bytes());
    Ok(answer)
}

fn other_versions_are_unsupported(lab: &mut Lab) -> Result<()> {
    for pfv in [1, 2, 0x00ff, 0x0100, 0x8000, 0xffff] {
        let frame = frame(&IcReq { pfv, ..IcReq::default() });
        refused(lab, &format!("PFV {pfv:#06x}"), &frame, fes::UNSUPPORTED_PARAMETER, Some(field::PFV))?;
    }
    Ok(())
}

fn alignments_above_31_are_invalid(lab: &mut Lab) -> Result<()> {
    for hpda in [32, 33, 63, 64, 127, 128, 255] {
        let frame = frame(&IcReq { hpda, ..IcReq::default() });
        refused(lab, &format!("HPDA {hpda}"), &frame, fes::INVALID_HEADER_FIELD, Some(field::HPDA))?;
    }
    Ok(())
}

fn all_alignments_up_to_31_are_taken(lab: &mut Lab) -> Result<()> {
    for hpda in 0..=31 {
        lab.initialized(&ConnectOptions { hpda, ..ConnectOptions::default() })
            .with_context(|| format!("HPDA {hpda}"))?;
    }
    Ok(())
}

fn any_maxr2t_is_taken(lab: &mut Lab) -> Result<()> {
    for maxr2t in [0, 1, 15, 0xffff, 0x1_0000, u32::MAX - 1, u32::MAX] {
        lab.initialized(&ConnectOptions { maxr2t, ..ConnectOptions::default() })
            .with_context(|| format!("MAXR2T {maxr2t:#x}"))?;
    }
    Ok(())
}

fn reserved_fields_are_not_looked_at(lab: &mut Lab) -> Result<()> {
    let plain = frame(&IcReq::default());
    let bent = [
        ("PDO", plain.clone().pdo(72)),
        ("bytes 16 to 127", plain.clone().put(16, &[0xff; 112])),
        ("DGST bits 7:2", plain.put(11, &[0xfc])),
    ];
    for (what, frame) in bent {
        let answer = answered(lab, &frame).with_context(|| format!("non-zero {what}"))?;
        check::same("DGST of the answer", answer.as_bytes().get(11), Some(&0))
            .with_context(|| what.to_owned())?;
    }
    Ok(())
}

fn other_header_lengths_are_invalid(lab: &mut Lab) -> Result<()> {
    for hlen in [0, 1, 8, 24, 72, 127, 129, 255] {
        let frame = frame(&IcReq::default()).hlen(hlen);
        refused(lab, &format!("HLEN {hlen}"), &frame, fes::INVALID_HEADER_FIELD, Some(field::HLEN))?;
    }
    Ok(())
}

fn other_lengths_are_invalid(lab: &mut Lab) -> Result<()> {
    for plen in [0, 1, 8, 24, 127, 129, 132, 256, 0x8000_0080, u32::MAX] {
        let frame = frame(&IcReq::default()).plen(plen);
        refused(lab, &format!("PLEN {plen:#x}"), &frame, fes::INVALID_HEADER_FIELD, Some(field::PLEN))?;
    }
    Ok(())
}

fn the_lowest_wrong_field_is_named(lab: &mut Lab) -> Result<()> {
    let plain = frame(&IcReq::default());
    let invalid = fes::INVALID_HEADER_FIELD;
    refused(lab, "HLEN and PLEN", &plain.clone().hlen(72).plen(64), invalid, Some(field::HLEN))?;
    refused(lab, "type, HLEN and PLEN", &plain.kind(0x0b).hlen(72).plen(64), invalid, Some(field::PDU_TYPE))?;
    let bent = frame(&IcReq { hpda: 40, ..IcReq::default() }).hlen(24);
    refused(lab, "HLEN and HPDA", &bent, invalid, Some(field::HLEN))
}

/// What another version makes of the bytes behind its number is not known.
fn a_wrong_version_comes_before_what_it_defines(lab: &mut Lab) -> Result<()> {
    let frame = frame(&IcReq { pfv: 3, hpda: 77, dgst: 0xff, maxr2t: 9 });
    refused(lab, "PFV and HPDA", &frame, fes::UNSUPPORTED_PARAMETER, Some(field::PFV))
}

fn undefined_types_are_invalid(lab: &mut Lab) -> Result<()> {
    for undefined in [0x08, 0x0a, 0x0b, 0x0c, 0x0e, 0x10, 0x7f, 0x80, 0xff] {
        let frame = frame(&IcReq::default()).kind(undefined);
        let what = format!("type {undefined:#04x}");
        refused(lab, &what, &frame, fes::INVALID_HEADER_FIELD, Some(field::PDU_TYPE))?;
    }
    Ok(())
}

fn what_controllers_send_is_invalid(lab: &mut Lab) -> Result<()> {
    for c2h in [kind::IC_RESP, kind::C2H_TERM_REQ, kind::CAPSULE_RESP, kind::C2H_DATA, kind::R2T] {
        let frame = frame(&IcReq::default()).kind(c2h);
        let what = format!("type {c2h:#04x}");
        refused(lab, &what, &frame, fes::INVALID_HEADER_FIELD, Some(field::PDU_TYPE))?;
    }
    Ok(())
}

fn a_command_before_it_is_a_sequence_error(lab: &mut Lab) -> Result<()> {
    let sqe = Sqe::fabrics(opcode::PROPERTY_GET).sgl_transport(0);
    let frame = Pdu::CapsuleCmd { sqe, data: Vec::new() }.encode(Digests::default(), 4);
    refused(lab, "CapsuleCmd", &frame, fes::SEQUENCE_ERROR, None)
}

fn data_before_it_is_a_sequence_error(lab: &mut Lab) -> Result<()> {
    let pdu = DataPdu { datal: 16, last: true, data: vec![1; 16], ..DataPdu::default() };
    refused(lab, "H2CData", &Pdu::H2cData(pdu).encode(Digests::default(), 4), fes::SEQUENCE_ERROR, None)
}

fn a_second_one_is_a_sequence_error(lab: &mut Lab) -> Result<()> {
    for header_digest in [false, true] {
        let mut connection =
            lab.initialized(&ConnectOptions { header_digest, ..ConnectOptions::default() })?;
        second(&mut connection).with_context(|| format!("header digests {header_digest}"))?;
    }
    Ok(())
}

fn one_on_a_queue_is_a_sequence_error(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(holdfast_testkit::Options::default())?;
    second(session.io(1).connection()).context("on an I/O queue")?;
    let mut session = lab.session(holdfast_testkit::Options::default())?;
    second(session.admin().connection()).context("on an Admin Queue")
}

fn second(connection: &mut Connection) -> Result<()> {
    let frame = frame(&IcReq::default());
    connection.send_frame(&frame)?;
    check::term_req(connection, &frame, fes::SEQUENCE_ERROR, None)?;
    Ok(())
}

fn the_answer_has_the_specified_layout(lab: &mut Lab) -> Result<()> {
    let answer = answered(lab, &frame(&IcReq { dgst: 3, maxr2t: 7, hpda: 15, pfv: 0 }))?;
    let bytes = answer.as_bytes();
    check::same("the common header", bytes.get(..8), Some(&[kind::IC_RESP, 0, 128, 0, 128, 0, 0, 0]))?;
    check::same("the length", bytes.len(), 128)?;
    check::same("PFV", bytes.get(8..10), Some(&[0, 0]))?;
    ensure!(bytes.get(10).is_some_and(|cpda| *cpda <= 31), "CPDA {:?}", bytes.get(10));
    ensure!(bytes.get(11).is_some_and(|dgst| dgst & 0xfc == 0), "DGST {:x?}", bytes.get(11));
    ensure!(bytes.iter().skip(16).all(|byte| *byte == 0), "reserved bytes: {:02x?}", bytes.get(16..));
    Ok(())
}

fn maxh2cdata_is_dwords_and_no_less_than_4096(lab: &mut Lab) -> Result<()> {
    let answer = answered(lab, &frame(&IcReq::default()))?;
    let max = le32(answer.as_bytes(), 12).context("MAXH2CDATA")?;
    ensure!(max >= 4096 && max.is_multiple_of(4), "MAXH2CDATA {max}");
    Ok(())
}

fn digests_are_on_exactly_when_asked_for(lab: &mut Lab) -> Result<()> {
    for dgst in 0..=3 {
        let answer = answered(lab, &frame(&IcReq { dgst, ..IcReq::default() }))?;
        check::same("DGST", answer.as_bytes().get(11), Some(&dgst))?;
    }
    Ok(())
}

fn the_answer_does_not_change(lab: &mut Lab) -> Result<()> {
    let first = answered(lab, &frame(&IcReq::default()))?;
    for maxr2t in [0, 3, u32::MAX] {
        let other = answered(lab, &frame(&IcReq { maxr2t, hpda: 7, ..IcReq::default() }))?;
        ensure!(other == first, "{:02x?}, then {:02x?}", first.as_bytes(), other.as_bytes());
    }
    Ok(())
}
