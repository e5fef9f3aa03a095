//! Connect of an Admin Queue. NVMe Base 2.1 §6.3 "Connect Command and Response".

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, ConnectCommand, Options, Placement, Session};

use super::{
    CNTLID, HOSTNQN, QUEUE_EXISTS, RECFMT, SQSIZE, SUBNQN, admin_connect, cntlid, fresh, invalid_parameter,
    tried,
};
use crate::{Case, Lab, check};

const CONNECT: &str = "NVMe Base 2.1 §6.3 \"Connect Command and Response\"";
const NQNS: &str = "NVMe Base 2.1 §4.7 \"NVMe Qualified Names\"";
const RESPONSE: &str = "NVMe Base 2.1 §6.3, figure \"Connect Response – Dword 0 Value Based on Status Code\"";
const CREATION: &str = "NVMe Base 2.1 §3.3.2.2 \"Queue Creation\"";
const IDS: &str = "NVMe Base 2.1 §3.1.3.3, figure \"Controller IDs FFF0h to FFFFh\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.connect.success", RESPONSE, a_success_gives_the_controller_id),
    Case::new("fabrics.connect.identified", CONNECT, identify_tells_the_same_controller_id),
    Case::new("fabrics.connect.dynamic", CONNECT, each_association_has_a_controller_of_its_own),
    Case::new("fabrics.connect.cntlid", CONNECT, only_ffffh_asks_for_a_dynamic_controller),
    Case::new("fabrics.connect.cntlid-reserved", IDS, reserved_controller_ids_are_invalid),
    Case::new("fabrics.connect.recfmt", CONNECT, other_record_formats_are_incompatible),
    Case::new("fabrics.connect.sqsize-zero", CONNECT, a_queue_of_one_entry_is_invalid),
    Case::new("fabrics.connect.sqsize-asqsz", CONNECT, the_largest_admin_queue_is_as_discovery_says),
    Case::new("fabrics.connect.sqsize-large", CONNECT, a_larger_admin_queue_is_invalid),
    Case::new("fabrics.connect.subnqn-unknown", CONNECT, an_unknown_subsystem_is_invalid),
    Case::new("fabrics.connect.subnqn-syntax", NQNS, a_malformed_subsystem_name_is_invalid),
    Case::new("fabrics.connect.subnqn-case", NQNS, names_are_compared_byte_by_byte),
    Case::new("fabrics.connect.subnqn-unterminated", NQNS, a_subsystem_name_without_end_is_invalid),
    Case::new("fabrics.connect.hostnqn-syntax", NQNS, a_malformed_host_name_is_invalid),
    Case::new("fabrics.connect.hostnqn-unterminated", NQNS, a_host_name_without_end_is_invalid),
    Case::new("fabrics.connect.kato-large", CONNECT, any_keep_alive_timeout_is_taken),
    Case::new("fabrics.connect.reserved", CONNECT, reserved_fields_are_not_looked_at),
    Case::new("fabrics.connect.cattr", CONNECT, attributes_are_taken),
    Case::new("fabrics.connect.length", CONNECT, data_of_another_length_is_refused),
    Case::new("fabrics.connect.never-invalid-field", CONNECT, no_failure_is_an_invalid_field),
    Case::new("fabrics.connect.retry", CREATION, a_refused_host_may_try_again_on_its_connection),
    Case::new("fabrics.connect.twice", CREATION, a_second_connect_is_refused),
    Case::new("fabrics.connect.other-statuses", RESPONSE, dword_0_is_reserved_otherwise),
];

/// Demands that a Connect that `bend` has changed names the parameter.
fn invalid(
    lab: &mut Lab,
    what: &str,
    at: super::At,
    bend: impl Fn(ConnectCommand) -> ConnectCommand,
) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let (_queue, done) = tried(lab, &bend(connect))?;
    invalid_parameter(&done, at).with_context(|| what.to_owned())
}

fn a_success_gives_the_controller_id(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let (_queue, done) = tried(lab, &connect)?;
    let done = done.ok()?;
    ensure!(cntlid(&done) < 0xfff0, "CNTLID {:#06x}", cntlid(&done));
    check::same("AUTHREQ", done.cqe.dw0 >> 16, 0)?;
    check::same("dword 1", done.cqe.dw1, 0)
}

fn identify_tells_the_same_controller_id(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let expected = session.cntlid();
    check::same("CNTLID of Identify", session.admin().identify_controller()?.cntlid, expected)
}

fn each_association_has_a_controller_of_its_own(lab: &mut Lab) -> Result<()> {
    let mut sessions: Vec<Session> = Vec::new();
    let mut seen = BTreeSet::new();
    for _ in 0..10 {
        let session = lab.session(Options::default())?;
        ensure!(seen.insert(session.cntlid()), "CNTLID {:#06x} twice", session.cntlid());
        sessions.push(session);
    }
    for session in &mut sessions {
        session.io(1).flush(1)?.ok()?;
    }
    Ok(())
}

fn only_ffffh_asks_for_a_dynamic_controller(lab: &mut Lab) -> Result<()> {
    for cntlid in [0, 1, 2, 0x00ff, 0x8000, 0xffef, 0xfffe] {
        invalid(lab, &format!("CNTLID {cntlid:#06x}"), CNTLID, |connect| ConnectCommand {
            cntlid,
            ..connect
        })?;
    }
    Ok(())
}

fn reserved_controller_ids_are_invalid(lab: &mut Lab) -> Result<()> {
    for cntlid in 0xfff0..=0xfffd {
        invalid(lab, &format!("CNTLID {cntlid:#06x}"), CNTLID, |connect| ConnectCommand {
            cntlid,
            ..connect
        })?;
    }
    Ok(())
}

fn other_record_formats_are_incompatible(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    for recfmt in [1, 2, 0x100, 0xffff] {
        let (_queue, done) = tried(lab, &ConnectCommand { recfmt, ..connect.clone() })?;
        check::status(&done, code::CONNECT_INCOMPATIBLE_FORMAT)
            .with_context(|| format!("RECFMT {recfmt:#x} (byte {RECFMT})"))?;
    }
    Ok(())
}

fn a_queue_of_one_entry_is_invalid(lab: &mut Lab) -> Result<()> {
    invalid(lab, "SQSIZE 0", SQSIZE, |connect| ConnectCommand { sqsize: 0, ..connect })
}

/// ASQSZ of the subsystem's discovery entry.
fn asqsz(lab: &mut Lab) -> Result<u16> {
    let (connect, share) = admin_connect(lab)?;
    let hostnqn = String::from_utf8(connect.hostnqn)?;
    let log = Session::discover(lab.nvme(), &hostnqn)?;
    let entry = log.entries.iter().find(|entry| entry.subnqn == share.nqn).context("no discovery entry")?;
    ensure!(entry.asqsz >= 32, "ASQSZ {}", entry.asqsz);
    Ok(entry.asqsz)
}

fn the_largest_admin_queue_is_as_discovery_says(lab: &mut Lab) -> Result<()> {
    let sqsize = asqsz(lab)? - 1;
    let (connect, _) = admin_connect(lab)?;
    for sqsize in [1, 31, sqsize] {
        let (mut queue, done) = tried(lab, &ConnectCommand { sqsize, ..connect.clone() })?;
        done.ok().with_context(|| format!("SQSIZE {sqsize}"))?;
        queue.enable()?;
    }
    Ok(())
}

fn a_larger_admin_queue_is_invalid(lab: &mut Lab) -> Result<()> {
    let asqsz = asqsz(lab)?;
    for sqsize in [asqsz, asqsz.saturating_add(1), 0x7fff, 0xffff] {
        invalid(lab, &format!("SQSIZE {sqsize}"), SQSIZE, |connect| ConnectCommand { sqsize, ..connect })?;
    }
    Ok(())
}

fn an_unknown_subsystem_is_invalid(lab: &mut Lab) -> Result<()> {
    for name in [
        "nqn.2026-11.io.holdfast:nobody",
        "nqn.2014-08.org.nvmexpress:uuid:11111111-2222-3333-4444-555555555555",
    ] {
        invalid(lab, name, SUBNQN, |connect| ConnectCommand { subnqn: name.into(), ..connect })?;
    }
    Ok(())
}

/// What is no NQN: empty, without the prefix, without a date, longer than 223 bytes, no UTF-8.
fn malformed() -> Vec<Vec<u8>> {
    let long = format!("nqn.2026-11.io.holdfast:{}", "x".repeat(200));
    [
        b"".as_slice(),
        b"nqn.",
        b"iqn.2026-11.io.holdfast:x",
        b"disk",
        b" nqn.2026-11.io.holdfast:x",
        long.as_bytes(),
        b"nqn.2026-11.io.holdfast:\xff\xfe",
    ]
    .map(<[u8]>::to_vec)
    .to_vec()
}

fn a_malformed_subsystem_name_is_invalid(lab: &mut Lab) -> Result<()> {
    for name in malformed() {
        let what = format!("SUBNQN {}", name.escape_ascii());
        invalid(lab, &what, SUBNQN, |connect| ConnectCommand { subnqn: name.clone(), ..connect })?;
    }
    Ok(())
}

fn names_are_compared_byte_by_byte(lab: &mut Lab) -> Result<()> {
    let (_, share) = admin_connect(lab)?;
    let others = [
        share.nqn.to_uppercase().replace("NQN.", "nqn."),
        format!("{}x", share.nqn),
        format!("{} ", share.nqn),
    ];
    for name in others {
        invalid(lab, &name, SUBNQN, |connect| ConnectCommand { subnqn: name.clone().into(), ..connect })?;
    }
    Ok(())
}

fn a_subsystem_name_without_end_is_invalid(lab: &mut Lab) -> Result<()> {
    let name = [b"nqn.2026-11.io.holdfast:".as_slice(), &[b'x'; 232]].concat();
    invalid(lab, "256 bytes", SUBNQN, |connect| ConnectCommand { subnqn: name.clone(), ..connect })
}

fn a_malformed_host_name_is_invalid(lab: &mut Lab) -> Result<()> {
    for name in malformed() {
        let what = format!("HOSTNQN {}", name.escape_ascii());
        invalid(lab, &what, HOSTNQN, |connect| ConnectCommand { hostnqn: name.clone(), ..connect })?;
    }
    Ok(())
}

fn a_host_name_without_end_is_invalid(lab: &mut Lab) -> Result<()> {
    let name = [b"nqn.2026-11.io.holdfast:".as_slice(), &[b'x'; 232]].concat();
    invalid(lab, "256 bytes", HOSTNQN, |connect| ConnectCommand { hostnqn: name.clone(), ..connect })
}

fn any_keep_alive_timeout_is_taken(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    for kato_ms in [1, 999, 120_000, 0x7fff_ffff, u32::MAX] {
        let (_queue, done) = tried(lab, &ConnectCommand { kato_ms, ..connect.clone() })?;
        done.ok().with_context(|| format!("KATO {kato_ms}"))?;
    }
    Ok(())
}

fn reserved_fields_are_not_looked_at(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let mut data = connect.data();
    for range in [18..256, 768..1024] {
        if let Some(reserved) = data.get_mut(range) {
            reserved.fill(0xa5);
        }
    }
    let bent = [(5, "bytes 5 to 23"), (47, "byte 47"), (56, "bytes 54 to 63")];
    for (byte, what) in bent {
        let command = connect.command();
        let command = Command { sqe: command.sqe.byte(byte, 0xff), data: data.clone(), ..command };
        fresh(lab, 0)?.run(command)?.ok().with_context(|| what.to_owned())?;
    }
    Ok(())
}

/// Individual queue deletion, a discovery controller as the host, and the bits that mean nothing yet.
fn attributes_are_taken(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    for cattr in [0x08, 0x20, 0x40, 0x80, 0xe8] {
        let (mut queue, done) = tried(lab, &ConnectCommand { cattr, ..connect.clone() })?;
        done.ok().with_context(|| format!("CATTR {cattr:#04x}"))?;
        queue.enable()?;
    }
    Ok(())
}

fn data_of_another_length_is_refused(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    for len in [0, 4, 512, 1020] {
        let command = connect.command();
        let data: Vec<u8> = command.data.iter().copied().take(len).collect();
        let done = fresh(lab, 0)?.run(Command { data, ..command.placed(Placement::InCapsule) })?;
        check::status(&done, code::DATA_SGL_LENGTH_INVALID).with_context(|| format!("{len} bytes"))?;
    }
    Ok(())
}

fn no_failure_is_an_invalid_field(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let bent = [
        ConnectCommand { recfmt: 7, ..connect.clone() },
        ConnectCommand { sqsize: 0, ..connect.clone() },
        ConnectCommand { sqsize: 0xffff, ..connect.clone() },
        ConnectCommand { cntlid: 3, ..connect.clone() },
        ConnectCommand { subnqn: Vec::new(), ..connect.clone() },
        ConnectCommand { hostnqn: Vec::new(), ..connect.clone() },
        ConnectCommand { hostid: [0; 16], ..connect.clone() },
        ConnectCommand { qid: 0xffff, ..connect.clone() },
    ];
    for connect in bent {
        let (_queue, done) = tried(lab, &connect)?;
        ensure!(done.status().pair() != code::INVALID_FIELD, "{connect:?}: {}", done.status());
    }
    // SGLs that this transport does not know fail the command, by what is wrong with them.
    for identifier in [0x00, 0x20, 0x40] {
        let command = connect.command();
        let sqe = command.sqe.sgl(0, 1024, identifier);
        let done = fresh(lab, 0)?.run(Command { sqe, ..command }.placed(Placement::InCapsule).keep_sgl())?;
        check::status(&done, code::SGL_TYPE_INVALID)
            .with_context(|| format!("identifier {identifier:#04x}"))?;
    }
    Ok(())
}

fn a_refused_host_may_try_again_on_its_connection(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let (mut queue, done) = tried(lab, &ConnectCommand { cntlid: 5, ..connect.clone() })?;
    invalid_parameter(&done, CNTLID)?;
    queue.connect(&connect)?.ok()?;
    queue.enable()?;
    Ok(())
}

fn a_second_connect_is_refused(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let (mut queue, done) = tried(lab, &connect)?;
    done.ok()?;
    check::status_among(&queue.connect(&connect)?, &QUEUE_EXISTS).context("before it is enabled")?;
    queue.enable()?;
    check::status_among(&queue.connect(&connect)?, &QUEUE_EXISTS).context("after that")?;
    queue.run(Command::bare(Sqe::new(opcode::KEEP_ALIVE)))?.ok()?;
    Ok(())
}

fn dword_0_is_reserved_otherwise(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let (_queue, done) = tried(lab, &ConnectCommand { recfmt: 1, ..connect.clone() })?;
    check::same("dword 0 of Incompatible Format", done.cqe.dw0, 0)?;
    let stranger = lab.host("uninvited")?;
    let (_queue, done) = tried(lab, &ConnectCommand { hostnqn: stranger.into(), ..connect })?;
    check::status(&done, code::CONNECT_INVALID_HOST)?;
    check::same("dword 0 of Invalid Host", done.cqe.dw0, 0)
}
