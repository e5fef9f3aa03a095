//! Data to the host. NVMe/TCP 1.1 §3.3.2.1 "Controller to Host Command Data Buffer Transfers", §3.6.2.9 "C2HData".
//!
//! The scripted host itself demands of every transfer that it starts at offset 0, goes on without gaps, stays within the
//! buffer, and ends with LAST_PDU; SUCCESS only together with it, and no response then.

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::wire::{Pdu, code, kind, le16, le32, opcode};
use holdfast_testkit::{Command, Io, Options, Session};

use crate::{Case, Lab, check};

const TRANSFERS: &str = "NVMe/TCP 1.1 §3.3.2.1 \"Controller to Host Command Data Buffer Transfers\"";
const C2HDATA: &str = "NVMe/TCP 1.1 §3.6.2.9 \"Controller to Host Data Transfer PDU (C2HData)\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.c2h.layout", C2HDATA, data_pdus_have_the_specified_layout),
    Case::new("transport.c2h.contiguous", TRANSFERS, reads_of_all_sizes_come_without_gaps),
    Case::new("transport.c2h.dwords", C2HDATA, offsets_and_lengths_are_dwords),
    Case::new("transport.c2h.success", TRANSFERS, success_stands_for_a_response_without_information),
    Case::new("transport.c2h.admin", TRANSFERS, admin_data_comes_the_same_way),
    Case::new("transport.c2h.one-byte-short-log", TRANSFERS, as_much_data_comes_as_was_asked_for),
    Case::new("transport.c2h.refused", TRANSFERS, a_refused_read_sends_no_data),
    Case::new("transport.c2h.interleaved", TRANSFERS, many_reads_at_once_stay_apart),
    Case::new("transport.c2h.largest", TRANSFERS, the_largest_transfer_comes_whole),
    Case::new("transport.c2h.with-writes", TRANSFERS, reads_and_writes_mix),
];

/// Fills `blocks` blocks from `slba` on and gives what was written.
fn filled(session: &mut Session, slba: u64, blocks: u32) -> Result<Vec<u8>> {
    let len = usize::try_from(blocks)? * 4096;
    let data = check::pattern(slba ^ 0xc2, len);
    session.io(1).write(1, &Io::at(slba, blocks), &data)?.ok()?;
    Ok(data)
}

/// The frames of a read, up to the response or the PDU that stands for it.
fn frames(session: &mut Session, io: &Io, len: u32) -> Result<Vec<Vec<u8>>> {
    let sqe = io.sqe(opcode::READ, 1).with_cid(0x2345).sgl_transport(len);
    let connection = session.io(1).connection();
    connection.send(&Pdu::CapsuleCmd { sqe, data: Vec::new() })?;
    let mut frames = Vec::new();
    loop {
        let frame = connection.recv_frame()?.as_bytes().to_vec();
        let [kind, flags, ..] = *frame.as_slice() else { bail!("an empty PDU") };
        frames.push(frame);
        match kind {
            kind::C2H_DATA if flags & 0x08 == 0 => {}
            kind::C2H_DATA | kind::CAPSULE_RESP => return Ok(frames),
            other => bail!("PDU type {other:#04x} within a read"),
        }
    }
}

fn data_pdus_have_the_specified_layout(lab: &mut Lab) -> Result<()> {
    for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut session = lab.session(Options::default().digests(header, data))?;
        let expected = filled(&mut session, 400, 40)?;
        let (flags, head) = (u8::from(header) | u8::from(data) << 1, if header { 28 } else { 24 });
        let tail = if data { 4 } else { 0 };
        let mut sent = Vec::new();
        for frame in frames(&mut session, &Io::at(400, 40), 40 * 4096)? {
            if frame.first() != Some(&kind::C2H_DATA) {
                continue;
            }
            let bits = frame.get(1).context("FLAGS")?;
            check::same("HDGSTF, DDGSTF, reserved bits", bits & 0xf3, flags)?;
            check::same("HLEN, PDO", frame.get(2..4), Some(&[24, head]))?;
            check::same("PLEN", le32(&frame, 4), Some(u32::try_from(frame.len())?))?;
            check::same("CCCID", le16(&frame, 8), Some(0x2345))?;
            check::same("bytes 10 and 11", frame.get(10..12), Some(&[0, 0]))?;
            check::same("bytes 20 to 23", frame.get(20..24), Some(&[0; 4]))?;
            let body = frame.get(usize::from(head)..frame.len().saturating_sub(tail)).context("data")?;
            check::same("DATAO", le32(&frame, 12), Some(u32::try_from(sent.len())?))?;
            check::same("DATAL", le32(&frame, 16), Some(u32::try_from(body.len())?))?;
            sent.extend_from_slice(body);
        }
        ensure!(sent == expected, "read something else");
    }
    Ok(())
}

fn reads_of_all_sizes_come_without_gaps(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let data = filled(&mut session, 500, 256)?;
    for blocks in [1, 2, 3, 7, 8, 16, 31, 32, 33, 63, 64, 65, 100, 127, 128, 129, 255, 256] {
        let len = usize::try_from(blocks)? * 4096;
        let done = session.io(1).read(1, &Io::at(500, blocks), len)?.ok()?;
        ensure!(Some(done.data.as_slice()) == data.get(..len), "{blocks} blocks: something else");
    }
    Ok(())
}

fn offsets_and_lengths_are_dwords(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    filled(&mut session, 500, 256)?;
    for frame in frames(&mut session, &Io::at(500, 256), 256 * 4096)? {
        if frame.first() == Some(&kind::C2H_DATA) {
            let (offset, length) = (le32(&frame, 12).context("DATAO")?, le32(&frame, 16).context("DATAL")?);
            ensure!(offset.is_multiple_of(4) && length.is_multiple_of(4), "DATAO {offset}, DATAL {length}");
        }
    }
    Ok(())
}

/// Whether it is used is the controller's choice. The host checks that nothing follows it: the next PDU is the next
/// command's.
fn success_stands_for_a_response_without_information(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    filled(&mut session, 500, 64)?;
    for _ in 0..20 {
        let frames = frames(&mut session, &Io::at(500, 64), 64 * 4096)?;
        let (last, others) = frames.split_last().context("no PDU")?;
        for frame in others {
            let more = frames.len() > 1 && frame.first() == Some(&kind::C2H_DATA);
            ensure!(
                more && frame.get(1).is_some_and(|flags| flags & 0x08 == 0),
                "SUCCESS before the last PDU"
            );
        }
        if last.first() == Some(&kind::C2H_DATA) {
            check::same("LAST_PDU and SUCCESS", last.get(1).map(|flags| flags & 0x0c), Some(0x0c))?;
        } else {
            let data = others.last().context("a response without data")?;
            check::same("LAST_PDU before the response", data.get(1).map(|flags| flags & 0x0c), Some(0x04))?;
        }
        session.io(1).flush(1)?.ok()?;
    }
    Ok(())
}

fn admin_data_comes_the_same_way(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let first = session.admin().identify(0x01, 0, 0)?.ok()?;
    check::same("bytes", first.data.len(), 4096)?;
    ensure!(first.data == session.controller().raw, "another Identify Controller than before");
    Ok(())
}

fn as_much_data_comes_as_was_asked_for(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for len in [4, 8, 60, 64, 512, 516, 4096] {
        let log = session.admin().get_log_page(0x02, 0xffff_ffff, 0, len);
        let log = log?.ok().with_context(|| format!("{len} bytes"))?;
        check::same("bytes", log.data.len(), len)?;
    }
    Ok(())
}

fn a_refused_read_sends_no_data(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let blocks = session.namespace_format(1)?.blocks;
    for (slba, count) in [(blocks, 1), (blocks - 1, 2), (u64::MAX, 1), (u64::MAX - 3, 8)] {
        let len = usize::try_from(count)? * 4096;
        let done = session.io(1).read(1, &Io::at(slba, count), len)?;
        check::status(&done, code::LBA_OUT_OF_RANGE)?;
        check::same("data PDUs", done.trace.c2h_pdus, 0)?;
    }
    Ok(())
}

fn many_reads_at_once_stay_apart(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let data = filled(&mut session, 600, 256)?;
    let io = session.io(1);
    let mut waiting = Vec::new();
    for index in 0..120_u32 {
        let (at, blocks) = (index * 2, 1 + index % 16);
        let sqe = Io::at(600 + u64::from(at), blocks).sqe(opcode::READ, 1);
        let len = usize::try_from(blocks)? * 4096;
        waiting.push((io.submit(Command::reading(sqe, len))?, usize::try_from(at)? * 4096, len));
    }
    for (cid, start, len) in waiting {
        let done = io.wait(cid)?.ok()?;
        ensure!(
            data.get(start..start + len) == Some(done.data.as_slice()),
            "read at byte {start}: something else"
        );
    }
    Ok(())
}

fn the_largest_transfer_comes_whole(lab: &mut Lab) -> Result<()> {
    for (header, data) in [(false, false), (true, true)] {
        let mut session = lab.session(Options::default().digests(header, data))?;
        let max = session.controller().transfer_max().unwrap_or(1 << 20).min(4 << 20);
        let blocks = u32::try_from(max / 4096)?;
        let expected = filled(&mut session, 1000, blocks)?;
        let done = session.io(1).read(1, &Io::at(1000, blocks), expected.len())?.ok()?;
        ensure!(done.data == expected, "read something else");
    }
    Ok(())
}

fn reads_and_writes_mix(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let data = filled(&mut session, 1500, 64)?;
    let io = session.io(1);
    let mut waiting = Vec::new();
    for round in 0..40_u32 {
        let write = Io::at(1600 + u64::from(round) * 8, 8).sqe(opcode::WRITE, 1);
        let fill = check::pattern(u64::from(round), 8 * 4096);
        waiting.push((io.submit(Command::with_data(write, fill))?, false));
        waiting.push((io.submit(Command::reading(Io::at(1500, 64).sqe(opcode::READ, 1), 64 * 4096))?, true));
    }
    for (cid, read) in waiting {
        let done = io.wait(cid)?.ok()?;
        ensure!(!read || done.data == data, "a read beside writes got something else");
    }
    for round in 0..40_u32 {
        let back = io.read(1, &Io::at(1600 + u64::from(round) * 8, 8), 8 * 4096)?.ok()?.data;
        ensure!(back == check::pattern(u64::from(round), 8 * 4096), "write {round} stored something else");
    }
    Ok(())
}
