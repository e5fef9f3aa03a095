//! PDUs that break the transport's rules, on the real appliance: the C2HTermReq that NVMe/TCP 1.1 asks for, then the end of
//! that connection and of nothing else. §3.6.1 "Common Header", §3.6.2 "PDU Definitions", §3.5 "Error Handling".

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Plane, Share, eventually};
use holdfast_testkit::wire::{
    DataPdu, Digests, Frame, IcReq, Pdu, Sqe, TermReq, code, fes, kind, le32, opcode,
};
use holdfast_testkit::{Command, ConnectOptions, Connection, Io, Options, Placement, Session};
use serde_json::{Value, json};
use std::time::Duration;

const SEEN_LIMIT: Duration = Duration::from_secs(20);
/// Offsets that FEI names.
const PDU_TYPE: u32 = 0;
const HLEN: u32 = 2;
const PDO: u32 = 3;
const PLEN: u32 = 4;
const PFV: u32 = 8;
const CCCID: u32 = 8;
const TTAG: u32 = 10;
const DATAL: u32 = 16;
/// Bytes of the transfers whose H2CData is bent.
const TRANSFER: usize = 256 << 10;

fn appliance(name: &str) -> Result<(Appliance, Share)> {
    let appliance = Appliance::start(name)?;
    let share = appliance.share("disk", 64, 4096)?;
    appliance.admit_scripted("good", &share, "plain", "any")?;
    appliance.admit_scripted("bad", &share, "plain", "any")?;
    Ok((appliance, share))
}

/// Demands this C2HTermReq, quoting the header that was sent, and then the close.
fn expect(
    connection: &mut Connection,
    what: &str,
    sent: &[u8],
    fes: u16,
    fei: Option<u32>,
) -> Result<TermReq> {
    let term = connection.expect_term_req().with_context(|| what.to_owned())?;
    ensure!(term.fes == fes, "{what}: {term}, not FES {fes:#x}");
    ensure!(fei.is_none_or(|fei| term.fei == fei), "{what}: {term}, not FEI {fei:?}");
    ensure!(term.header.len() >= 8 && term.header.len() <= 128, "{what}: {} bytes quoted", term.header.len());
    ensure!(sent.starts_with(&term.header), "{what}: quoted {:02x?}", term.header);
    connection.expect_close().with_context(|| what.to_owned())?;
    Ok(term)
}

struct Bad {
    what: &'static str,
    frame: Frame,
    fes: u16,
    fei: Option<u32>,
}

fn bad(what: &'static str, frame: Frame, fes: u16, fei: Option<u32>) -> Bad {
    Bad { what, frame, fes, fei }
}

fn plain(pdu: &Pdu) -> Frame {
    pdu.encode(Digests::default(), 4)
}

fn ic_req() -> Frame {
    plain(&Pdu::IcReq(IcReq::default()))
}

fn capsule(data: Vec<u8>) -> Frame {
    let len = u32::try_from(data.len()).unwrap_or(0);
    plain(&Pdu::CapsuleCmd { sqe: Sqe::fabrics(opcode::CONNECT).sgl_in_capsule(0, len), data })
}

fn h2c_data() -> Frame {
    plain(&Pdu::H2cData(DataPdu { datal: 16, last: true, data: vec![1; 16], ..DataPdu::default() }))
}

#[test]
fn malformed_pdus_before_initialization_get_the_right_term_req() -> Result<()> {
    let (appliance, share) = appliance("hostile_before")?;
    let before = appliance.process(Plane::Data)?;
    let invalid = fes::INVALID_HEADER_FIELD;
    let mut cases = vec![
        bad("a command before ICReq", capsule(Vec::new()), fes::SEQUENCE_ERROR, None),
        bad("H2CData before ICReq", h2c_data(), fes::SEQUENCE_ERROR, None),
        bad("ICReq with PFV 1", ic_req().put(8, &[1, 0]), fes::UNSUPPORTED_PARAMETER, Some(PFV)),
        bad("ICReq with HPDA 32", ic_req().put(10, &[32]), invalid, Some(10)),
        bad("ICReq with HLEN 64", ic_req().hlen(64), invalid, Some(HLEN)),
        bad("ICReq with HLEN 0", ic_req().hlen(0), invalid, Some(HLEN)),
        bad("ICReq with PLEN 127", ic_req().plen(127), invalid, Some(PLEN)),
        bad("ICReq with PLEN 129", ic_req().plen(129), invalid, Some(PLEN)),
        bad("ICReq with PLEN 0", ic_req().plen(0), invalid, Some(PLEN)),
        bad("ICReq of 4 GiB", ic_req().plen(u32::MAX), invalid, Some(PLEN)),
    ];
    for undefined in [0x08, 0x0a, 0x0b, 0x7f, 0xff] {
        cases.push(bad("a type that is not defined", ic_req().kind(undefined), invalid, Some(PDU_TYPE)));
    }
    for case in cases {
        let mut connection = Connection::raw(appliance.nvme(), SEEN_LIMIT)?;
        connection.send_frame(&case.frame)?;
        expect(&mut connection, case.what, case.frame.as_bytes(), case.fes, case.fei)?;
    }
    appliance.works_for("good", &share, 8)?;
    appliance.same_target(before)?;
    appliance.stop()
}

#[test]
fn malformed_pdus_after_initialization_get_the_right_term_req() -> Result<()> {
    let (appliance, share) = appliance("hostile_after")?;
    let before = appliance.process(Plane::Data)?;
    let mut bystander = appliance.session("good", &share, Options::default())?;
    let invalid = fes::INVALID_HEADER_FIELD;
    let mut cases = vec![
        bad("a second ICReq", ic_req(), fes::SEQUENCE_ERROR, None),
        bad("a command with HLEN 71", capsule(vec![0; 64]).hlen(71), invalid, Some(HLEN)),
        bad("a command with HLEN 255", capsule(vec![0; 64]).hlen(255), invalid, Some(HLEN)),
        bad("a command with HLEN 0", capsule(vec![0; 64]).hlen(0), invalid, Some(HLEN)),
        bad("data that begin within the header", capsule(vec![0; 64]).pdo(68), invalid, Some(PDO)),
        bad("data off the dword", capsule(vec![0; 64]).pdo(73), invalid, Some(PDO)),
        bad("a command with PLEN 71", capsule(Vec::new()).plen(71), invalid, Some(PLEN)),
        bad("a command with PLEN 8", capsule(Vec::new()).plen(8), invalid, Some(PLEN)),
        bad("a command with PLEN 0", capsule(Vec::new()).plen(0), invalid, Some(PLEN)),
        bad("a command of 4 GiB", capsule(vec![0; 64]).plen(u32::MAX), invalid, Some(PLEN)),
        bad("a capsule beyond IOCCSZ", capsule(vec![0; 64]).plen(72 + 8192 + 4), invalid, Some(PLEN)),
        bad("H2CData with HLEN 23", h2c_data().hlen(23), invalid, Some(HLEN)),
        bad("H2CData with PLEN 24", h2c_data().plen(24), invalid, None),
        bad("H2CData with PLEN 4", h2c_data().plen(4), invalid, Some(PLEN)),
        bad("H2CData without an R2T", h2c_data(), invalid, None),
    ];
    for c2h in [kind::IC_RESP, kind::C2H_TERM_REQ, kind::CAPSULE_RESP, kind::C2H_DATA, kind::R2T, 0x08, 0xff]
    {
        cases.push(bad("a type that hosts do not send", h2c_data().kind(c2h), invalid, Some(PDU_TYPE)));
    }
    for case in cases {
        let mut connection = appliance.initialized(&ConnectOptions::default())?;
        connection.send_frame(&case.frame)?;
        expect(&mut connection, case.what, case.frame.as_bytes(), case.fes, case.fei)?;
        bystander.io(1).flush(1)?.ok()?;
    }
    bystander.close()?;
    appliance.works_for("good", &share, 8)?;
    appliance.same_target(before)?;
    appliance.stop()
}

/// A host's own TermReq, well or ill formed, ends its connection; a TermReq is never answered by one.
#[test]
fn a_hosts_term_req_is_answered_by_the_close_alone() -> Result<()> {
    let (appliance, share) = appliance("hostile_term")?;
    let term = |header: Vec<u8>| plain(&Pdu::H2cTermReq(TermReq { fes: 1, fei: 4, header }));
    let frames =
        [term(vec![4; 24]), term(Vec::new()), term(vec![4; 24]).plen(u32::MAX), term(vec![4; 24]).plen(9)];
    for frame in frames {
        let mut connection = appliance.initialized(&ConnectOptions::default())?;
        connection.send_frame(&frame)?;
        match connection.recv() {
            Err(error) if error.is_closed() => {}
            other => anyhow::bail!("not the close: {other:?}"),
        }
    }
    appliance.works_for("good", &share, 8)?;
    appliance.stop()
}

/// A session whose write has been answered by an R2T that is not answered yet.
fn with_r2t(appliance: &Appliance, share: &Share) -> Result<(Session, holdfast_testkit::wire::R2t)> {
    let mut session = appliance.session("bad", share, Options::default())?;
    let blocks = u32::try_from(TRANSFER / 4096)?;
    session.io(1).hold_r2ts(true);
    let sqe = Io::at(1024, blocks).sqe(opcode::WRITE, 1);
    session.io(1).submit(Command::with_data(sqe, vec![0x5a; TRANSFER]).placed(Placement::Solicited))?;
    let r2t = session.io(1).next_r2t()?;
    Ok((session, r2t))
}

#[test]
fn host_data_that_breaks_its_r2t_gets_the_right_term_req() -> Result<()> {
    type Bend = fn(DataPdu) -> DataPdu;
    let (appliance, share) = appliance("hostile_h2c")?;
    let before = appliance.process(Plane::Data)?;
    let invalid = fes::INVALID_HEADER_FIELD;
    let cases: [(&str, usize, Bend, u16, Option<u32>); 10] = [
        ("wrong TTAG", 4096, |pdu| DataPdu { ttag: pdu.ttag ^ 0x40, ..pdu }, invalid, Some(TTAG)),
        ("wild TTAG", 4096, |pdu| DataPdu { ttag: 0xffff, ..pdu }, invalid, Some(TTAG)),
        ("wrong CCCID", 4096, |pdu| DataPdu { cccid: pdu.cccid ^ 1, ..pdu }, invalid, Some(CCCID)),
        ("DATAL beyond PLEN", 4096, |pdu| DataPdu { datal: 8192, ..pdu }, invalid, Some(DATAL)),
        ("DATAL short of PLEN", 4096, |pdu| DataPdu { datal: 4092, ..pdu }, invalid, Some(DATAL)),
        ("DATAO ahead", 4096, |pdu| DataPdu { datao: 4096, ..pdu }, fes::SEQUENCE_ERROR, None),
        ("DATAO beyond the R2T", 4096, |pdu| DataPdu { datao: 256 << 10, ..pdu }, fes::OUT_OF_RANGE, None),
        ("DATAO near 4 GiB", 4096, |pdu| DataPdu { datao: u32::MAX - 3, ..pdu }, fes::OUT_OF_RANGE, None),
        ("LAST_PDU too early", 4096, |pdu| DataPdu { last: true, ..pdu }, fes::SEQUENCE_ERROR, None),
        ("more than MAXH2CDATA", 0, |pdu| pdu, fes::LIMIT_EXCEEDED, None),
    ];
    for (what, len, bend, fes, fei) in cases {
        let (mut session, r2t) = with_r2t(&appliance, &share).with_context(|| what)?;
        let max = usize::try_from(session.io(1).connection().ic_resp().maxh2cdata)?;
        let len = if len == 0 { max + 4096 } else { len };
        let pdu = bend(session.io(1).h2c_data(&r2t, 0, len, false)?);
        let connection = session.io(1).connection();
        let frame = connection.encode(&Pdu::H2cData(pdu));
        connection.send_frame(&frame)?;
        expect(connection, what, frame.as_bytes(), fes, fei)?;
    }
    let (mut session, r2t) = with_r2t(&appliance, &share)?;
    for at in [0, TRANSFER / 2] {
        let pdu = session.io(1).h2c_data(&r2t, at, at + TRANSFER / 2, false)?;
        session.io(1).connection().send(&Pdu::H2cData(pdu))?;
    }
    let term = session.io(1).connection().expect_term_req().context("LAST_PDU missing")?;
    ensure!(term.fes == fes::SEQUENCE_ERROR, "LAST_PDU missing: {term}");
    // Of none of these writes is there a trace.
    let mut good = appliance.session("good", &share, Options::default())?;
    let back = good.io(1).read(1, &Io::at(1024, 64), TRANSFER)?.ok()?.data;
    ensure!(back == vec![0; TRANSFER], "half a transfer was stored");
    good.close()?;
    appliance.works_for("good", &share, 8)?;
    appliance.same_target(before)?;
    appliance.stop()
}

/// The count `digest_errors.NAME` of host `bad`.
fn digest_errors(appliance: &Appliance, name: &str, expected: u64) -> Result<()> {
    eventually(SEEN_LIMIT, &format!("{expected} {name} digest errors"), || {
        let counters = appliance.rest().get("/hosts/bad/counters")?;
        let seen = counters.pointer(&format!("/digest_errors/{name}")).and_then(|count| count.as_u64());
        ensure!(seen == Some(expected), "{counters}");
        Ok(Some(()))
    })
}

#[test]
fn a_header_digest_error_is_a_term_req_with_the_digest_that_came() -> Result<()> {
    let (appliance, share) = appliance("hostile_hdgst")?;
    let mut session = appliance.session("bad", &share, Options::default().digests(true, true))?;
    let connection = session.io(1).connection();
    let flush = Sqe::new(opcode::FLUSH).with_nsid(1).sgl_transport(0);
    let frame = connection.encode(&Pdu::CapsuleCmd { sqe: flush, data: Vec::new() }).flip_bit(72 * 8 + 5);
    let received = le32(frame.as_bytes(), 72);
    connection.send_frame(&frame)?;
    expect(connection, "header digest", frame.as_bytes(), fes::HEADER_DIGEST, received)?;
    digest_errors(&appliance, "header", 1)?;
    appliance.works_for("good", &share, 8)?;
    appliance.stop()
}

#[test]
fn a_data_digest_error_fails_its_command_and_the_connection_stays() -> Result<()> {
    let (appliance, share) = appliance("hostile_ddgst")?;
    for header in [false, true] {
        let mut session = appliance.session("bad", &share, Options::default().digests(header, true))?;
        let io = session.io(1);
        for (placement, blocks) in
            [(Placement::InCapsule, 1), (Placement::Solicited, 1), (Placement::Solicited, 256)]
        {
            let len = usize::try_from(blocks)? * 4096;
            let write = |byte: u8| {
                let sqe = Io::at(2048, blocks).sqe(opcode::WRITE, 1);
                Command::with_data(sqe, vec![byte; len]).placed(placement)
            };
            io.run(write(3))?.ok()?;
            io.spoil_next_data_digest();
            let refused = io.run(write(9))?.status();
            ensure!(refused.pair() == code::TRANSIENT_TRANSPORT_ERROR, "{placement:?} {blocks}: {refused}");
            ensure!(!refused.dnr, "the host may try again");
            let back = io.read(1, &Io::at(2048, blocks), len)?.ok()?.data;
            ensure!(back == vec![3; len], "{placement:?} {blocks}: damaged data was stored");
            io.run(write(9))?.ok()?;
        }
        session.close()?;
    }
    digest_errors(&appliance, "data", 6)?;
    digest_errors(&appliance, "header", 0)?;
    eventually(SEEN_LIMIT, "one incident of six failures", || {
        let incidents = appliance.rest().items("/incidents?host=bad&volume=disk&tag=digest")?;
        let [incident] = incidents.as_slice() else { anyhow::bail!("{incidents:?}") };
        let fields = ["operation", "lba", "verdict", "writer"].map(|name| incident.get(name));
        let expected = [json!("write"), json!(2048), json!("undetermined"), Value::Null];
        ensure!(fields == expected.each_ref().map(Some), "{incident}");
        Ok((incident.get("count") == Some(&json!(6))).then_some(()))
    })?;
    appliance.works_for("good", &share, 8)?;
    appliance.stop()
}
