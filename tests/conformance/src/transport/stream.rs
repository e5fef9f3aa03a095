//! PDUs in the byte stream. NVMe/TCP 1.1 §2 "Transport Overview": they need not be aligned to TCP segments.

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::wire::{Digests, IcReq, Pdu, Sqe, opcode};
use holdfast_testkit::{ConnectCommand, Connection, Io, Options, Session};

use super::r2t::held;
use crate::{Case, Lab, check};

const SEGMENTS: &str = "NVMe/TCP 1.1 §2 \"Transport Overview\", figures \"Multiple PDUs in a Single TCP/IP Packet\" and \"PDU Spanning across TCP/IP Packets\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.stream.icreq-bytewise", SEGMENTS, an_icreq_may_come_byte_by_byte),
    Case::new("transport.stream.bytewise", SEGMENTS, capsules_may_come_byte_by_byte),
    Case::new("transport.stream.bytewise-digests", SEGMENTS, digested_capsules_may_come_byte_by_byte),
    Case::new("transport.stream.h2c-bytewise", SEGMENTS, data_may_come_byte_by_byte),
    Case::new("transport.stream.every-cut", SEGMENTS, a_capsule_may_be_cut_anywhere),
    Case::new("transport.stream.h2c-every-cut", SEGMENTS, a_data_pdu_may_be_cut_anywhere),
    Case::new("transport.stream.many-in-one", SEGMENTS, many_capsules_may_come_at_once),
    Case::new("transport.stream.writes-in-one", SEGMENTS, many_capsules_with_data_may_come_at_once),
    Case::new("transport.stream.icreq-and-connect", SEGMENTS, a_connect_may_follow_its_icreq_at_once),
    Case::new("transport.stream.straddling", SEGMENTS, segments_may_end_within_any_pdu),
    Case::new("transport.stream.half-and-half", SEGMENTS, half_a_pdu_delays_only_its_own_connection),
];

fn ic_req() -> Vec<u8> {
    Pdu::IcReq(IcReq::default()).encode(Digests::default(), 4).as_bytes().to_vec()
}

fn bytewise(connection: &mut Connection, bytes: &[u8]) -> Result<()> {
    for byte in bytes {
        connection.send_raw(&[*byte])?;
    }
    Ok(())
}

/// A write of one block in its capsule, as bytes.
fn write(connection: &Connection, cid: u16, slba: u64, data: Vec<u8>) -> Result<Vec<u8>> {
    let blocks = u32::try_from(data.len() / 4096)?;
    let length = u32::try_from(data.len())?;
    let sqe = Io::at(slba, blocks).sqe(opcode::WRITE, 1).with_cid(cid).sgl_in_capsule(0, length);
    Ok(connection.encode(&Pdu::CapsuleCmd { sqe, data }).as_bytes().to_vec())
}

fn flush(connection: &Connection, cid: u16) -> Vec<u8> {
    let sqe = Sqe::new(opcode::FLUSH).with_nsid(1).with_cid(cid).sgl_transport(0);
    connection.encode(&Pdu::CapsuleCmd { sqe, data: Vec::new() }).as_bytes().to_vec()
}

/// Demands successful responses to these commands, in any order.
fn responses(connection: &mut Connection, cids: impl IntoIterator<Item = u16>) -> Result<()> {
    let mut missing: Vec<u16> = cids.into_iter().collect();
    while !missing.is_empty() {
        let Pdu::CapsuleResp(cqe) = connection.recv()? else { bail!("no response") };
        ensure!(cqe.status.is_success(), "{cqe:?}");
        let before = missing.len();
        missing.retain(|cid| *cid != cqe.cid);
        ensure!(missing.len() < before, "CID {:#06x} was not in flight", cqe.cid);
    }
    Ok(())
}

fn reads_back(session: &mut Session, slba: u64, expected: &[u8]) -> Result<()> {
    let blocks = u32::try_from(expected.len() / 4096)?;
    let back = session.io(1).read(1, &Io::at(slba, blocks), expected.len())?.ok()?.data;
    ensure!(back == expected, "block {slba}: stored something else");
    Ok(())
}

fn an_icreq_may_come_byte_by_byte(lab: &mut Lab) -> Result<()> {
    let mut connection = lab.raw()?;
    bytewise(&mut connection, &ic_req())?;
    ensure!(matches!(connection.recv()?, Pdu::IcResp(_)), "no ICResp");
    Ok(())
}

fn slowly(lab: &mut Lab, options: Options) -> Result<()> {
    let mut session = lab.session(options)?;
    let data = check::pattern(1, 4096);
    let connection = session.io(1).connection();
    let bytes = write(connection, 1, 3100, data.clone())?;
    bytewise(connection, &bytes)?;
    responses(connection, [1])?;
    bytewise(connection, &flush(connection, 2))?;
    responses(connection, [2])?;
    reads_back(&mut session, 3100, &data)
}

fn capsules_may_come_byte_by_byte(lab: &mut Lab) -> Result<()> {
    slowly(lab, Options::default())
}

fn digested_capsules_may_come_byte_by_byte(lab: &mut Lab) -> Result<()> {
    slowly(lab, Options::default().digests(true, true))
}

fn data_may_come_byte_by_byte(lab: &mut Lab) -> Result<()> {
    let data = check::pattern(2, 4096);
    let (mut session, cid, r2t) = held(lab, Options::default().digests(true, true), 3101, data.clone())?;
    let pdu = session.io(1).h2c_data(&r2t, 0, 4096, true)?;
    let connection = session.io(1).connection();
    let bytes = connection.encode(&Pdu::H2cData(pdu)).as_bytes().to_vec();
    bytewise(connection, &bytes)?;
    session.io(1).wait(cid)?.ok()?;
    reads_back(&mut session, 3101, &data)
}

/// Sends the bytes in two parts; between them another command's answer on another queue shows that the first has arrived.
fn in_two(session: &mut Session, bytes: &[u8], cut: usize) -> Result<()> {
    let (first, second) = bytes.split_at_checked(cut).context("a cut within the bytes")?;
    session.io(1).connection().send_raw(first)?;
    session.io(2).flush(1)?.ok()?;
    session.io(1).connection().send_raw(second)?;
    Ok(())
}

fn a_capsule_may_be_cut_anywhere(lab: &mut Lab) -> Result<()> {
    for (header, data) in [(false, false), (true, true)] {
        let mut session = lab.session(Options::default().digests(header, data).io_queues(2))?;
        let bytes = write(session.io(1).connection(), 7, 3102, check::pattern(3, 4096))?;
        let interesting = (1..100).chain([bytes.len() / 2]).chain(bytes.len() - 8..bytes.len());
        for cut in interesting {
            in_two(&mut session, &bytes, cut)?;
            responses(session.io(1).connection(), [7]).with_context(|| format!("cut at byte {cut}"))?;
        }
        reads_back(&mut session, 3102, &check::pattern(3, 4096))?;
    }
    Ok(())
}

fn a_data_pdu_may_be_cut_anywhere(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().digests(true, true).io_queues(2))?;
    for cut in (1..40).chain([1000, 4095, 4122, 4123, 4124, 4125, 4126, 4127]) {
        session.io(1).hold_r2ts(true);
        let cid = super::r2t::submit(session.io(1), 3103, check::pattern(cut, 4096))?;
        let r2t = session.io(1).next_r2t()?;
        let pdu = session.io(1).h2c_data(&r2t, 0, 4096, true)?;
        let bytes = session.io(1).connection().encode(&Pdu::H2cData(pdu)).as_bytes().to_vec();
        in_two(&mut session, &bytes, usize::try_from(cut)?)?;
        session.io(1).wait(cid)?.ok().with_context(|| format!("cut at byte {cut}"))?;
        reads_back(&mut session, 3103, &check::pattern(cut, 4096))?;
    }
    Ok(())
}

fn many_capsules_may_come_at_once(lab: &mut Lab) -> Result<()> {
    for (header, data) in [(false, false), (true, true)] {
        let mut session = lab.session(Options::default().digests(header, data))?;
        let connection = session.io(1).connection();
        let bytes: Vec<u8> = (0..100).flat_map(|cid| flush(connection, cid)).collect();
        connection.send_raw(&bytes)?;
        responses(connection, 0..100)?;
    }
    Ok(())
}

fn many_capsules_with_data_may_come_at_once(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let connection = session.io(1).connection();
    let mut bytes = Vec::new();
    for cid in 0..100 {
        bytes.extend(write(connection, cid, 3200 + u64::from(cid), check::pattern(cid.into(), 4096))?);
        bytes.extend(flush(connection, 200 + cid).into_iter().take(if cid % 5 == 0 { 72 } else { 0 }));
    }
    connection.send_raw(&bytes)?;
    responses(connection, (0..100).chain((200..300).step_by(5)))?;
    for cid in 0..100 {
        reads_back(&mut session, 3200 + cid, &check::pattern(cid, 4096))?;
    }
    Ok(())
}

/// A host that asks for nothing special knows what it will be answered.
fn a_connect_may_follow_its_icreq_at_once(lab: &mut Lab) -> Result<()> {
    let share = lab.share(crate::Format::STANDARD)?;
    let nqn = lab.admit("plain", &share, crate::View::Plain)?;
    let command = ConnectCommand::admin(&nqn, [3; 16], &share.nqn).command();
    let sqe = command.sqe.with_cid(4).sgl_in_capsule(0, 1024);
    let connect = Pdu::CapsuleCmd { sqe, data: command.data }.encode(Digests::default(), 4);
    let mut connection = lab.raw()?;
    connection.send_raw(&[ic_req().as_slice(), connect.as_bytes()].concat())?;
    ensure!(matches!(connection.recv()?, Pdu::IcResp(_)), "no ICResp");
    responses(&mut connection, [4])
}

fn segments_may_end_within_any_pdu(lab: &mut Lab) -> Result<()> {
    for piece in [61, 1021, 1448, 4093] {
        let mut session = lab.session(Options::default().digests(true, true))?;
        let connection = session.io(1).connection();
        let mut bytes = Vec::new();
        for cid in 0..20 {
            bytes.extend(write(
                connection,
                cid,
                3300 + u64::from(cid),
                check::pattern(u64::from(cid) + 9, 4096),
            )?);
        }
        for part in bytes.chunks(piece) {
            connection.send_raw(part)?;
        }
        responses(connection, 0..20).with_context(|| format!("{piece} bytes at a time"))?;
        for cid in 0..20 {
            reads_back(&mut session, 3300 + cid, &check::pattern(cid + 9, 4096))?;
        }
    }
    Ok(())
}

fn half_a_pdu_delays_only_its_own_connection(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(3))?;
    let bytes = write(session.io(1).connection(), 1, 3400, check::pattern(5, 4096))?;
    let (first, second) = bytes.split_at_checked(2000).context("a cut")?;
    session.io(1).connection().send_raw(first)?;
    for _ in 0..20 {
        session.io(2).write(1, &Io::at(3401, 1), &[1; 4096])?.ok()?;
        session.io(3).flush(1)?.ok()?;
        session.admin().keep_alive()?.ok()?;
    }
    lab.bystander_works()?;
    session.io(1).connection().send_raw(second)?;
    responses(session.io(1).connection(), [1])?;
    reads_back(&mut session, 3400, &check::pattern(5, 4096))
}
