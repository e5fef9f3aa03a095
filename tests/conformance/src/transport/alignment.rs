//! Where data begins in a PDU. NVMe/TCP 1.1 §3.3 "Data Transfer Model" (HPDA, CPDA, PAD).

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::wire::{Pdu, kind, opcode};
use holdfast_testkit::{Command, ConnectOptions, Io, Options, Placement};

use crate::{Case, Lab, check};

const ALIGNMENT: &str = "NVMe/TCP 1.1 §3.3 \"Data Transfer Model\"";
const C2HDATA: &str = "NVMe/TCP 1.1 §3.6.2.9 \"C2HData\", fields PDO, PAD";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.align.hpda", ALIGNMENT, data_begins_where_hpda_asks),
    Case::new("transport.align.hpda-digests", ALIGNMENT, digests_move_the_data_to_the_next_alignment),
    Case::new("transport.align.pad-zero", C2HDATA, padding_is_zero),
    Case::new("transport.align.hpda-admin", ALIGNMENT, admin_data_is_aligned_too),
    Case::new("transport.align.cpda", ALIGNMENT, host_data_is_taken_where_cpda_asks),
    Case::new("transport.align.pad-contents", ALIGNMENT, what_the_padding_holds_does_not_matter),
];

fn options(hpda: u8, header_digest: bool, data_digest: bool) -> Options {
    let connect = ConnectOptions { hpda, header_digest, data_digest, ..ConnectOptions::default() };
    Options { connect, ..Options::default() }
}

/// Reads 33 blocks and looks at every data PDU.
fn aligned(lab: &mut Lab, options: Options) -> Result<()> {
    let connect = options.connect;
    let what = format!("HPDA {}, digests {} {}", connect.hpda, connect.header_digest, connect.data_digest);
    let mut session = lab.session(options)?;
    let expected = check::pattern(connect.hpda.into(), 33 * 4096);
    session.io(1).write(1, &Io::at(50, 33), &expected)?.ok()?;
    let back = session.io(1).read(1, &Io::at(50, 33), expected.len())?.ok()?.data;
    ensure!(back == expected, "{what}: read something else");
    let sqe = Io::at(50, 33).sqe(opcode::READ, 1).with_cid(1).sgl_transport(33 * 4096);
    let connection = session.io(1).connection();
    connection.send(&Pdu::CapsuleCmd { sqe, data: Vec::new() })?;
    let header_len = if connect.header_digest { 28_usize } else { 24 };
    let pdo = header_len.next_multiple_of((usize::from(connect.hpda) + 1) * 4);
    loop {
        let frame = connection.recv_frame()?;
        let [kind, flags, _, offset, ..] = *frame.as_bytes() else { bail!("an empty PDU") };
        if kind != kind::C2H_DATA {
            return Ok(());
        }
        ensure!(usize::from(offset) == pdo, "{what}: PDO {offset}, not {pdo}");
        let padding = frame.as_bytes().get(header_len..pdo).context("the padding")?;
        ensure!(padding.iter().all(|byte| *byte == 0), "{what}: padding {padding:02x?}");
        if flags & 0x08 != 0 {
            return Ok(());
        }
    }
}

fn data_begins_where_hpda_asks(lab: &mut Lab) -> Result<()> {
    for hpda in 0..=31 {
        aligned(lab, options(hpda, false, false))?;
    }
    Ok(())
}

fn digests_move_the_data_to_the_next_alignment(lab: &mut Lab) -> Result<()> {
    for hpda in [0, 1, 3, 5, 6, 7, 15, 31] {
        for (header, data) in [(true, false), (false, true), (true, true)] {
            aligned(lab, options(hpda, header, data))?;
        }
    }
    Ok(())
}

fn padding_is_zero(lab: &mut Lab) -> Result<()> {
    aligned(lab, options(31, false, false))?;
    aligned(lab, options(30, true, true))
}

fn admin_data_is_aligned_too(lab: &mut Lab) -> Result<()> {
    for hpda in [0, 7, 31] {
        let mut session = lab.session(options(hpda, false, false))?;
        let sqe =
            holdfast_testkit::wire::Sqe::new(opcode::IDENTIFY).cdw(10, 1).with_cid(3).sgl_transport(4096);
        let connection = session.admin().connection();
        connection.send(&Pdu::CapsuleCmd { sqe, data: Vec::new() })?;
        let frame = connection.recv_frame()?;
        let [kind, _, _, pdo, ..] = *frame.as_bytes() else { bail!("an empty PDU") };
        check::same("the PDU type", kind, kind::C2H_DATA)?;
        check::same("PDO", usize::from(pdo), 24_usize.next_multiple_of((usize::from(hpda) + 1) * 4))?;
    }
    Ok(())
}

/// The scripted host lays its PDUs out as CPDA asks, with and without digests.
fn host_data_is_taken_where_cpda_asks(lab: &mut Lab) -> Result<()> {
    for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut session = lab.session(options(0, header, data))?;
        for placement in [Placement::InCapsule, Placement::Solicited] {
            let bytes = check::pattern(8, 8192);
            let command = Command::with_data(Io::at(90, 2).sqe(opcode::WRITE, 1), bytes.clone());
            session.io(1).run(command.placed(placement))?.ok()?;
            let back = session.io(1).read(1, &Io::at(90, 2), 8192)?.ok()?.data;
            ensure!(back == bytes, "{placement:?} with digests {header} {data}: stored something else");
        }
    }
    Ok(())
}

/// Padding is reserved and covered by no digest. Where CPDA asks for none, there is none to fill.
fn what_the_padding_holds_does_not_matter(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(options(0, true, true))?;
    let connection = session.io(1).connection();
    let sqe = Io::at(91, 1).sqe(opcode::WRITE, 1).with_cid(2).sgl_in_capsule(0, 4096);
    let frame = connection.encode(&Pdu::CapsuleCmd { sqe, data: vec![4; 4096] });
    let [_, _, hlen, pdo, ..] = *frame.as_bytes() else { bail!("an empty PDU") };
    let head = usize::from(hlen) + 4;
    let padding = usize::from(pdo).saturating_sub(head);
    connection.send_frame(&frame.put(head, &vec![0xff; padding]))?;
    let Pdu::CapsuleResp(cqe) = connection.recv()? else { bail!("no response") };
    ensure!(cqe.status.is_success(), "{cqe:?}");
    Ok(())
}
