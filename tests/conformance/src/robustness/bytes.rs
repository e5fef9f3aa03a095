//! Bytes that are no PDUs, or not quite.

use anyhow::{Context as _, Result};
use holdfast_testkit::wire::{Digests, Frame, IcReq, Pdu, Sqe, kind, opcode};
use holdfast_testkit::{ConnectOptions, Connection, Io, Options};

use super::{PROMISE, bounded, defined, footprint};
use crate::{Case, Lab, check, transport};

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("robustness.bytes.first", PROMISE, random_bytes_instead_of_an_icreq),
    Case::new("robustness.bytes.other-protocols", PROMISE, other_protocols_words),
    Case::new("robustness.bytes.after-icresp", PROMISE, random_bytes_instead_of_a_connect),
    Case::new("robustness.bytes.on-queues", PROMISE, random_bytes_on_queues),
    Case::new("robustness.bytes.random-commands", PROMISE, random_commands_in_right_capsules),
    Case::new("robustness.bytes.random-admin", PROMISE, random_admin_commands_in_right_capsules),
    Case::new("robustness.bytes.random-connects", PROMISE, random_connect_data),
    Case::new("robustness.bytes.header-bits", PROMISE, every_header_bit_of_a_capsule_flipped),
    Case::new("robustness.bytes.h2c-header-bits", PROMISE, every_header_bit_of_a_data_pdu_flipped),
    Case::new("robustness.bytes.icreq-bits", PROMISE, every_bit_of_an_icreq_flipped),
    Case::new("robustness.bytes.huge", PROMISE, lengths_reserve_no_memory),
    Case::new("robustness.bytes.random-headers", PROMISE, random_headers_of_known_types),
];

fn ic_req() -> Frame {
    Pdu::IcReq(IcReq::default()).encode(Digests::default(), 4)
}

/// Sends bytes that may be more or less than a PDU, and looks at what comes of it. The target may have closed in between.
fn thrown_at(connection: &mut Connection, bytes: &[u8]) -> Result<()> {
    match connection.send_raw(bytes) {
        Ok(()) | Err(holdfast_testkit::Error::Closed { .. }) => defined(connection, false),
        Err(other) => Err(other.into()),
    }
}

fn random_bytes_instead_of_an_icreq(lab: &mut Lab) -> Result<()> {
    for seed in 0..200 {
        let len = usize::try_from(seed * 37 % 1500)? + 1;
        thrown_at(&mut lab.raw()?, &check::pattern(seed, len)).with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

fn other_protocols_words(lab: &mut Lab) -> Result<()> {
    let words: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\nHost: target\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x43\x87\x00\x00\x00\x00\x00\x20InitiatorName=iqn.x",
        b"\r\n\r\n\r\n\r\n\r\n\r\n\r\n",
        &[0; 4096],
    ];
    for word in words {
        thrown_at(&mut lab.raw()?, word).with_context(|| word.escape_ascii().to_string())?;
    }
    Ok(())
}

fn random_bytes_instead_of_a_connect(lab: &mut Lab) -> Result<()> {
    for seed in 0..200 {
        let mut connection =
            lab.initialized(&ConnectOptions { header_digest: seed % 2 == 1, ..ConnectOptions::default() })?;
        let len = usize::try_from(seed * 53 % 2000)? + 1;
        thrown_at(&mut connection, &check::pattern(seed ^ 0xff00, len))
            .with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

fn random_bytes_on_queues(lab: &mut Lab) -> Result<()> {
    for seed in 0..60 {
        let mut session = lab.session(Options::default().digests(false, seed % 2 == 1))?;
        let bytes = check::pattern(seed ^ 0x00ff_0000, 3000);
        let queue = if seed % 3 == 0 { session.admin() } else { session.io(1) };
        thrown_at(queue.connection(), &bytes).with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

/// A submission queue entry of random bytes, but for its opcode and the descriptor of its data, if these are given.
fn random_sqe(seed: u64, opcode: Option<u8>, sgl: Option<u8>) -> Sqe {
    let mut bytes = [0; Sqe::LEN];
    for (to, from) in bytes.iter_mut().zip(check::pattern(seed, Sqe::LEN)) {
        *to = from;
    }
    let sqe = Sqe::from_bytes(bytes).flags(0x40);
    let sqe = if let Some(opcode) = opcode { sqe.byte(0, opcode) } else { sqe };
    match sgl {
        Some(identifier) => sqe.sgl(0, u32::try_from(seed % 3 * 4096).unwrap_or(0), identifier),
        None => sqe,
    }
}

/// Sends one command; any answer to it will do, an R2T or data as well.
fn commanded(connection: &mut Connection, sqe: Sqe, data: Vec<u8>) -> Result<()> {
    connection.send(&Pdu::CapsuleCmd { sqe, data })?;
    defined(connection, true)
}

fn random_commands_in_right_capsules(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(crate::Format::STANDARD)?;
    for seed in 0..300 {
        let mut session = lab.open_as("plain", &share, crate::View::Plain, Options::default())?;
        let opcode = u8::try_from(seed % 0x20)?;
        let in_capsule = seed % 2 == 0;
        let sqe = random_sqe(seed, Some(opcode), Some(if in_capsule { 0x01 } else { 0x5a }));
        let sqe = if seed % 5 == 0 { sqe } else { sqe.with_nsid(1).cdw(11, 0) };
        let len = if in_capsule { usize::try_from(seed % 3 * 4096)? } else { 0 };
        commanded(session.io(1).connection(), sqe, check::pattern(seed, len))
            .with_context(|| format!("seed {seed}: {sqe:?}"))?;
    }
    Ok(())
}

/// Asynchronous Event Requests wait, and so are left out; so is what ends the controller.
fn random_admin_commands_in_right_capsules(lab: &mut Lab) -> Result<()> {
    for seed in 0..300 {
        let mut session = lab.session(Options::default().io_queues(0))?;
        let opcode = u8::try_from(seed % 0x100)?;
        if opcode == opcode::ASYNC_EVENT || opcode == opcode::FABRICS {
            continue;
        }
        let sqe = random_sqe(seed ^ 0xad, Some(opcode), Some(0x5a));
        let sqe = if seed % 2 == 0 { sqe.cdw(10, u32::try_from(seed)? % 0x100) } else { sqe };
        commanded(session.admin().connection(), sqe, Vec::new())
            .with_context(|| format!("seed {seed}: {sqe:?}"))?;
    }
    Ok(())
}

fn random_connect_data(lab: &mut Lab) -> Result<()> {
    for seed in 0..200 {
        let mut connection = lab.initialized(&ConnectOptions::default())?;
        let sqe =
            random_sqe(seed, Some(opcode::FABRICS), None).byte(4, opcode::CONNECT).sgl_in_capsule(0, 1024);
        let sqe = if seed % 2 == 0 { sqe.cdw(10, 0).cdw(11, 31) } else { sqe };
        commanded(&mut connection, sqe, check::pattern(seed, 1024))
            .with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}

/// Some of these are still right, some ask for more bytes.
fn every_header_bit_of_a_capsule_flipped(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(crate::Format::STANDARD)?;
    for bit in (0..8 * 8).chain((64..72 * 8).step_by(5)) {
        let mut session = lab.open_as("plain", &share, crate::View::Plain, Options::default())?;
        let connection = session.io(1).connection();
        let sqe = Io::at(1, 1).sqe(opcode::WRITE, 1).with_cid(1).sgl_in_capsule(0, 4096);
        let frame = connection.encode(&Pdu::CapsuleCmd { sqe, data: vec![1; 4096] }).flip_bit(bit);
        thrown_at(connection, frame.as_bytes()).with_context(|| format!("bit {bit}"))?;
    }
    Ok(())
}

fn every_header_bit_of_a_data_pdu_flipped(lab: &mut Lab) -> Result<()> {
    for bit in 0..24 * 8 {
        let (mut session, _, r2t) = transport::held_write(lab, 3800, vec![1; 8 * 4096])?;
        let pdu = session.io(1).h2c_data(&r2t, 0, 8 * 4096, true)?;
        let connection = session.io(1).connection();
        let frame = connection.encode(&Pdu::H2cData(pdu)).flip_bit(bit);
        thrown_at(connection, frame.as_bytes()).with_context(|| format!("bit {bit}"))?;
    }
    Ok(())
}

fn every_bit_of_an_icreq_flipped(lab: &mut Lab) -> Result<()> {
    for bit in 0..128 * 8 {
        thrown_at(&mut lab.raw()?, ic_req().flip_bit(bit).as_bytes())
            .with_context(|| format!("bit {bit}"))?;
    }
    Ok(())
}

/// PDUs that say that they are as long as they can be, and stay open.
fn lengths_reserve_no_memory(lab: &mut Lab) -> Result<()> {
    let before = footprint(lab)?;
    let mut open = Vec::new();
    for _ in 0..100 {
        let mut connection = lab.initialized(&ConnectOptions::default())?;
        let sqe = Sqe::fabrics(opcode::CONNECT).sgl_in_capsule(0, u32::MAX);
        let frame = connection.encode(&Pdu::CapsuleCmd { sqe, data: vec![0; 8192] });
        connection.send_raw(frame.as_bytes().get(..100).unwrap_or_default())?;
        open.push(connection);
        let mut connection = lab.raw()?;
        connection.send_raw(&[kind::IC_REQ, 0, 128, 0, 0xff, 0xff, 0xff, 0xff])?;
        open.push(connection);
    }
    lab.bystander_works()?;
    bounded(lab, before)
}

fn random_headers_of_known_types(lab: &mut Lab) -> Result<()> {
    for seed in 0..200 {
        let mut session = lab.session(Options::default())?;
        let kind = [kind::CAPSULE_CMD, kind::H2C_DATA, kind::H2C_TERM_REQ, kind::IC_REQ];
        let kind = kind.get(usize::try_from(seed % 4)?).copied().unwrap_or(kind::H2C_DATA);
        let bytes = check::pattern(seed ^ 0xbead, 600);
        let frame = Frame::from_bytes(bytes).kind(kind);
        let frame = if seed % 3 == 0 {
            frame.hlen(if kind == kind::CAPSULE_CMD { 72 } else { 24 }).flags(0)
        } else {
            frame
        };
        let frame = if seed % 6 == 0 { frame.plen(600).pdo(72) } else { frame };
        thrown_at(session.io(1).connection(), frame.as_bytes()).with_context(|| format!("seed {seed}"))?;
    }
    Ok(())
}
