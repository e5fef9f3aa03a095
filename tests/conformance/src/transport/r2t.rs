//! Asking for data. NVMe/TCP 1.1 §3.3.2.2 "Host to Controller Command Data Buffer Transfers", §3.6.2.10 "R2T".
//!
//! The scripted host itself demands that the R2Ts of a command begin at offset 0, follow each other without gaps and
//! stay within the buffer.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::wire::{Pdu, R2t, Sqe, code, kind, le16, le32, opcode};
use holdfast_testkit::{Command, ConnectOptions, Io, Options, Placement, Queue, Session};

use crate::{Case, Format, Lab, View, check};

const TRANSFERS: &str = "NVMe/TCP 1.1 §3.3.2.2 \"Host to Controller Command Data Buffer Transfers\"";
const R2T: &str = "NVMe/TCP 1.1 §3.6.2.10 \"Ready to Transfer PDU (R2T)\"";
const CAPSULES: &str = "NVMe/TCP 1.1 §3.3.1 \"Capsules\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("transport.r2t.layout", R2T, requests_have_the_specified_layout),
    Case::new("transport.r2t.length", TRANSFERS, requests_cover_the_buffer_exactly),
    Case::new("transport.r2t.dwords", R2T, offsets_and_lengths_are_dwords),
    Case::new("transport.r2t.maxr2t-0", TRANSFERS, one_request_at_a_time_with_maxr2t_0),
    Case::new("transport.r2t.maxr2t-n", TRANSFERS, no_more_requests_than_maxr2t_allows),
    Case::new("transport.r2t.tags", R2T, outstanding_requests_are_told_apart_by_their_tags),
    Case::new("transport.r2t.not-for-capsules", CAPSULES, data_in_the_capsule_is_not_asked_for),
    Case::new("transport.r2t.not-for-refused", TRANSFERS, refused_commands_ask_for_nothing),
    Case::new("transport.r2t.any-order", TRANSFERS, commands_may_be_served_in_any_order),
    Case::new("transport.r2t.interleaved", TRANSFERS, data_of_several_commands_may_be_interleaved),
    Case::new("transport.r2t.unanswered", TRANSFERS, an_unanswered_request_delays_nobody),
    Case::new("transport.r2t.smallest", TRANSFERS, a_single_small_block_can_be_asked_for),
    Case::new("transport.r2t.connect", CAPSULES, connect_data_can_be_asked_for),
    Case::new("transport.r2t.admin", CAPSULES, admin_data_can_be_asked_for),
    Case::new("transport.r2t.no-response-before-data", TRANSFERS, no_response_comes_before_all_data),
];

/// Submits a write of `blocks` blocks whose data has to be asked for.
pub(super) fn submit(queue: &mut Queue, slba: u64, data: Vec<u8>) -> Result<u16> {
    let blocks = u32::try_from(data.len() / 4096)?;
    let sqe = Io::at(slba, blocks).sqe(opcode::WRITE, 1);
    Ok(queue.submit(Command::with_data(sqe, data).placed(Placement::Solicited))?)
}

/// A session whose write of `data` at `slba` has been answered by an R2T that is held.
pub(super) fn held(lab: &mut Lab, options: Options, slba: u64, data: Vec<u8>) -> Result<(Session, u16, R2t)> {
    let mut session = lab.session(options)?;
    session.io(1).hold_r2ts(true);
    let cid = submit(session.io(1), slba, data)?;
    let r2t = session.io(1).next_r2t()?;
    Ok((session, cid, r2t))
}

/// Answers all R2Ts of a command that are held or come, and waits for it.
pub(super) fn finish(queue: &mut Queue, cid: u16, first: &R2t, len: usize) -> Result<()> {
    let mut r2t = *first;
    loop {
        queue.answer_r2t(&r2t)?;
        let end = usize::try_from(u64::from(r2t.r2to) + u64::from(r2t.r2tl))?;
        if end >= len {
            break;
        }
        r2t = queue.next_r2t()?;
    }
    queue.wait(cid)?.ok()?;
    Ok(())
}

fn requests_have_the_specified_layout(lab: &mut Lab) -> Result<()> {
    for (header, flags, len) in [(false, 0, 24_u8), (true, 1, 28)] {
        let mut session = lab.session(Options::default().digests(header, false))?;
        let sqe = Io::at(20, 8).sqe(opcode::WRITE, 1).with_cid(0xabcd).sgl_transport(8 * 4096);
        let connection = session.io(1).connection();
        connection.send(&Pdu::CapsuleCmd { sqe, data: Vec::new() })?;
        let frame = connection.recv_frame()?;
        let bytes = frame.as_bytes();
        let expected = [kind::R2T, flags, 24, 0, len, 0, 0, 0];
        check::same("the common header", bytes.get(..8), Some(expected.as_slice()))?;
        check::same("CCCID", le16(bytes, 8), Some(0xabcd))?;
        check::same("R2TO", le32(bytes, 12), Some(0))?;
        ensure!(le32(bytes, 16).is_some_and(|length| length > 0 && length <= 8 * 4096), "R2TL");
        check::same("reserved bytes", bytes.get(20..24), Some(&[0; 4]))?;
    }
    Ok(())
}

fn requests_cover_the_buffer_exactly(lab: &mut Lab) -> Result<()> {
    for blocks in [1, 2, 3, 8, 31, 32, 33, 64, 127, 128, 129, 200, 256] {
        let data = check::pattern(blocks, usize::try_from(blocks)? * 4096);
        let (mut session, cid, first) = held(lab, Options::default(), 2000, data.clone())?;
        finish(session.io(1), cid, &first, data.len()).with_context(|| format!("{blocks} blocks"))?;
        session.io(1).hold_r2ts(false);
        let back = session.io(1).read(1, &Io::at(2000, u32::try_from(blocks)?), data.len())?.ok()?.data;
        ensure!(back == data, "{blocks} blocks: stored something else");
    }
    Ok(())
}

fn offsets_and_lengths_are_dwords(lab: &mut Lab) -> Result<()> {
    let share = lab.share(Format::new(512, 1, crate::Guard::Crc16))?;
    let mut session = lab.open_as("pi", &share, View::Pi, Options::default())?;
    let io = session.io(1);
    io.hold_r2ts(true);
    for blocks in [1_u32, 3, 17, 401] {
        let len = usize::try_from(blocks)? * 520;
        let sqe = Io::at(0, blocks).sqe(opcode::WRITE, 1);
        let cid = io.submit(Command::with_data(sqe, vec![0; len]).placed(Placement::Solicited))?;
        let mut at = 0;
        while at < len {
            let r2t = io.next_r2t()?;
            ensure!(r2t.r2to.is_multiple_of(4) && r2t.r2tl.is_multiple_of(4), "{r2t:?}");
            at = usize::try_from(r2t.r2to)? + usize::try_from(r2t.r2tl)?;
            io.answer_r2t(&r2t)?;
        }
        io.wait(cid)?;
    }
    Ok(())
}

/// How many R2Ts of one command come while none is answered. A Flush behind it tells that no more will.
fn outstanding(lab: &mut Lab, maxr2t: u32) -> Result<usize> {
    let connect = ConnectOptions { maxr2t, ..ConnectOptions::default() };
    let mut session = lab.session(Options { connect, ..Options::default() })?;
    let io = session.io(1);
    io.hold_r2ts(true);
    let len = 256 * 4096;
    let cid = submit(io, 2300, check::pattern(9, len))?;
    let mut held = vec![io.next_r2t()?];
    for _ in 0..3 {
        io.flush(1)?.ok()?;
    }
    let mut end = held.iter().map(|r2t| u64::from(r2t.r2to) + u64::from(r2t.r2tl)).max().unwrap_or(0);
    // What else came before the Flushes ended is held already, and given without waiting.
    while held.len() < usize::try_from(maxr2t)? + 2 && end < u64::try_from(len)? {
        match io.held_r2t() {
            Some(r2t) => {
                end = u64::from(r2t.r2to) + u64::from(r2t.r2tl);
                held.push(r2t);
            }
            None => break,
        }
    }
    let count = held.len();
    for r2t in &held {
        io.answer_r2t(r2t)?;
    }
    while end < u64::try_from(len)? {
        let r2t = io.next_r2t()?;
        end = u64::from(r2t.r2to) + u64::from(r2t.r2tl);
        io.answer_r2t(&r2t)?;
    }
    io.wait(cid)?.ok()?;
    Ok(count)
}

fn one_request_at_a_time_with_maxr2t_0(lab: &mut Lab) -> Result<()> {
    let count = outstanding(lab, 0)?;
    ensure!(count == 1, "{count} R2Ts at once with MAXR2T 0");
    Ok(())
}

fn no_more_requests_than_maxr2t_allows(lab: &mut Lab) -> Result<()> {
    for maxr2t in [1, 2, 7] {
        let count = outstanding(lab, maxr2t)?;
        ensure!(count <= usize::try_from(maxr2t)? + 1, "{count} R2Ts at once with MAXR2T {maxr2t}");
    }
    Ok(())
}

fn outstanding_requests_are_told_apart_by_their_tags(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let io = session.io(1);
    io.hold_r2ts(true);
    let mut cids = Vec::new();
    let mut seen = BTreeSet::new();
    let mut r2ts = Vec::new();
    for index in 0..32 {
        cids.push(submit(io, 2600 + index * 4, vec![1; 4 * 4096])?);
    }
    for _ in 0..32 {
        let r2t = io.next_r2t()?;
        ensure!(seen.insert(r2t.ttag), "TTAG {:#06x} is used twice at a time", r2t.ttag);
        r2ts.push(r2t);
    }
    for r2t in &r2ts {
        io.answer_r2t(r2t)?;
    }
    for cid in cids {
        io.wait(cid)?.ok()?;
    }
    Ok(())
}

fn data_in_the_capsule_is_not_asked_for(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for blocks in [1, 2] {
        let command = Command::with_data(
            Io::at(30, blocks).sqe(opcode::WRITE, 1),
            vec![1; usize::try_from(blocks)? * 4096],
        );
        let done = session.io(1).run(command.placed(Placement::InCapsule))?.ok()?;
        check::same("R2Ts", done.trace.r2ts, 0)?;
    }
    Ok(())
}

fn refused_commands_ask_for_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let blocks = session.namespace_format(1)?.blocks;
    let refused = [
        (Io::at(blocks, 1).sqe(opcode::WRITE, 1), code::LBA_OUT_OF_RANGE),
        (Io::at(0, 1).sqe(opcode::WRITE, 0xffff_fff0), code::INVALID_NAMESPACE),
        (Io::at(0, 1).sqe(0x7e, 1), code::INVALID_OPCODE),
    ];
    for (sqe, expected) in refused {
        let done = session.io(1).run(Command::with_data(sqe, vec![1; 4096]).placed(Placement::Solicited))?;
        check::status(&done, expected)?;
        check::same("R2Ts", done.trace.r2ts, 0)?;
    }
    Ok(())
}

fn commands_may_be_served_in_any_order(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let io = session.io(1);
    io.hold_r2ts(true);
    let mut open = Vec::new();
    for index in 0..40_u64 {
        let cid = submit(io, 100 + index * 4, check::pattern(index, 4 * 4096))?;
        open.push((cid, index));
    }
    let mut r2ts = Vec::new();
    for _ in 0..open.len() {
        r2ts.push(io.next_r2t()?);
    }
    // What is asked for after the first answers is answered as it comes.
    io.hold_r2ts(false);
    for r2t in r2ts.iter().rev() {
        io.answer_r2t(r2t)?;
    }
    for (cid, _) in &open {
        io.wait(*cid)?.ok()?;
    }
    for (_, index) in open {
        let back = io.read(1, &Io::at(100 + index * 4, 4), 4 * 4096)?.ok()?.data;
        ensure!(back == check::pattern(index, 4 * 4096), "write {index} stored something else");
    }
    Ok(())
}

/// One PDU of each command in turn, 4 KiB at a time.
fn data_of_several_commands_may_be_interleaved(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let io = session.io(1);
    io.hold_r2ts(true);
    let mut r2ts = Vec::new();
    for index in 0..6_u64 {
        submit(io, 300 + index * 8, check::pattern(index ^ 55, 8 * 4096))?;
        r2ts.push(io.next_r2t()?);
    }
    for piece in 0..8 {
        for r2t in &r2ts {
            let pdu = io.h2c_data(r2t, piece * 4096, (piece + 1) * 4096, piece == 7)?;
            io.connection().send(&Pdu::H2cData(pdu))?;
        }
    }
    for _ in &r2ts {
        io.wait_any()?.1.ok()?;
    }
    for index in 0..6_u64 {
        let back = io.read(1, &Io::at(300 + index * 8, 8), 8 * 4096)?.ok()?.data;
        ensure!(back == check::pattern(index ^ 55, 8 * 4096), "write {index} stored something else");
    }
    Ok(())
}

fn an_unanswered_request_delays_nobody(lab: &mut Lab) -> Result<()> {
    let data = check::pattern(77, 16 * 4096);
    let (mut session, cid, r2t) = held(lab, Options::default(), 700, data.clone())?;
    for round in 0..50 {
        session.io(1).write(1, &Io::at(800, 1), &[round; 4096])?.ok()?;
        let back = session.io(1).read(1, &Io::at(800, 1), 4096)?.ok()?.data;
        ensure!(back == [round; 4096], "round {round}");
    }
    finish(session.io(1), cid, &r2t, data.len())
}

fn a_single_small_block_can_be_asked_for(lab: &mut Lab) -> Result<()> {
    let mut session = lab.open(Format::new(512, 1, crate::Guard::Crc16), View::Plain, Options::default())?;
    let command =
        Command::with_data(Io::at(5, 1).sqe(opcode::WRITE, 1), vec![9; 512]).placed(Placement::Solicited);
    let done = session.io(1).run(command)?.ok()?;
    check::same("R2Ts and data PDUs", (done.trace.r2ts, done.trace.h2c_pdus), (1, 1))?;
    ensure!(session.io(1).read(1, &Io::at(5, 1), 512)?.ok()?.data == [9; 512], "stored something else");
    Ok(())
}

fn connect_data_can_be_asked_for(lab: &mut Lab) -> Result<()> {
    let share = lab.share(Format::STANDARD)?;
    let nqn = lab.admit("plain", &share, View::Plain)?;
    let connection = lab.initialized(&ConnectOptions::default())?;
    let mut queue = Queue::new(connection, 0);
    let connect = holdfast_testkit::ConnectCommand {
        kato_ms: 60_000,
        ..holdfast_testkit::ConnectCommand::admin(&nqn, holdfast_testkit::host_id_of(&nqn), &share.nqn)
    };
    let done = queue.run(connect.command().placed(Placement::Solicited))?.ok()?;
    check::same("R2Ts", done.trace.r2ts, 1)?;
    queue.enable()?;
    Ok(())
}

fn admin_data_can_be_asked_for(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    // Timestamp takes eight bytes of data.
    let sqe = Sqe::new(opcode::SET_FEATURES).cdw(10, 0x0e);
    let done = session.admin().run(Command::with_data(sqe, vec![0; 8]).placed(Placement::Solicited))?;
    let solicited = session.admin().run(Command::with_data(sqe, vec![0; 8]).placed(Placement::InCapsule))?;
    check::same("the status with either placement", done.status(), solicited.status())
}

fn no_response_comes_before_all_data(lab: &mut Lab) -> Result<()> {
    let (mut session, cid, r2t) = held(lab, Options::default(), 900, vec![5; 8 * 4096])?;
    let io = session.io(1);
    for piece in 0..8 {
        let pdu = io.h2c_data(&r2t, piece * 4096, (piece + 1) * 4096, piece == 7)?;
        if piece == 7 {
            io.flush(1)?.ok()?;
            if let Some((done, _)) = io.poll()? {
                bail!("CID {done:#06x} ended before its last block came");
            }
        }
        io.connection().send(&Pdu::H2cData(pdu))?;
    }
    io.wait(cid)?.ok()?;
    Ok(())
}
