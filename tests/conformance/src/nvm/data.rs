//! Read and Write carry data. NVM Command Set 1.1 §3.3.4 "Read command", §3.3.6 "Write command".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{code, opcode};
use holdfast_testkit::{Command, Io, Options, Placement};

use super::{BLOCK, holds, session, small_session};
use crate::check::{pattern, status_among};
use crate::fields::{done, part};
use crate::{Case, Format, Lab, View};

const READ: &str = "NVM Command Set 1.1 §3.3.4 \"Read command\"";
const WRITE: &str = "NVM Command Set 1.1 §3.3.6 \"Write command\"";
const UNWRITTEN: &str = "NVM Command Set 1.1 §3.3.3.2.1 \"Deallocated or Unwritten Logical Blocks\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.data.lengths-512", clause: WRITE, run: every_length_of_small_blocks },
    Case { id: "nvm.data.lengths-4096", clause: WRITE, run: every_length_of_large_blocks },
    Case { id: "nvm.data.in-capsule", clause: WRITE, run: |lab| placed(lab, Placement::InCapsule) },
    Case { id: "nvm.data.solicited", clause: WRITE, run: |lab| placed(lab, Placement::Solicited) },
    Case { id: "nvm.data.digests", clause: WRITE, run: digests_change_nothing },
    Case { id: "nvm.data.neighbours", clause: WRITE, run: neighbours_stay },
    Case { id: "nvm.data.overwritten", clause: WRITE, run: the_last_write_counts },
    Case { id: "nvm.data.parts", clause: READ, run: any_part_can_be_read },
    Case { id: "nvm.data.unwritten", clause: UNWRITTEN, run: unwritten_blocks_are_zero },
    Case { id: "nvm.data.fua", clause: WRITE, run: forced_writes_are_there },
    Case { id: "nvm.data.limited-retry", clause: READ, run: limited_retry_changes_nothing },
    Case { id: "nvm.data.hints", clause: READ, run: hints_change_nothing },
    Case { id: "nvm.data.directive", clause: WRITE, run: directives_are_refused_or_ignored },
    Case { id: "nvm.data.extension", clause: READ, run: extensions_are_refused_or_ignored },
    Case { id: "nvm.data.other-hosts", clause: READ, run: other_hosts_see_it },
    Case { id: "nvm.data.other-queues", clause: READ, run: other_queues_see_it },
    Case { id: "nvm.data.after-session", clause: WRITE, run: it_outlives_the_session },
    Case { id: "nvm.data.read-len", clause: READ, run: exactly_the_blocks_come },
];

fn every_length_of_small_blocks(lab: &mut Lab) -> Result<()> {
    let mut session = small_session(lab)?;
    let io = session.io(1);
    for blocks in (1..=33_u32).chain([64, 255, 256, 257, 1000, 2048]) {
        let data = pattern(blocks.into(), usize::try_from(blocks)? * 512);
        let at = Io::at(u64::from(blocks) * 3, blocks);
        done(&io.write(1, &at, &data)?)?;
        let back = io.read(1, &at, data.len())?.ok()?.data;
        ensure!(back == data, "{blocks} blocks came back different");
    }
    Ok(())
}

fn every_length_of_large_blocks(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for blocks in (1..=20_u32).chain([31, 32, 33, 64, 100, 255, 256]) {
        let data = pattern(blocks.into(), usize::try_from(blocks)? * BLOCK);
        let at = Io::at(u64::from(blocks) * 5 + 1, blocks);
        done(&io.write(1, &at, &data)?)?;
        holds(io, u64::from(blocks) * 5 + 1, &data).with_context(|| format!("{blocks} blocks"))?;
    }
    Ok(())
}

fn placed(lab: &mut Lab, placement: Placement) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for blocks in [1, 2] {
        let data = pattern(u64::from(blocks) + 90, usize::try_from(blocks)? * BLOCK);
        let sqe = Io::at(700, blocks).sqe(opcode::WRITE, 1);
        done(&io.run(Command::with_data(sqe, data.clone()).placed(placement))?)?;
        holds(io, 700, &data)?;
    }
    Ok(())
}

fn digests_change_nothing(lab: &mut Lab) -> Result<()> {
    for (header, data) in [(true, false), (false, true), (true, true)] {
        let mut session = lab.session(Options::default().digests(header, data))?;
        let bytes = pattern(17, 40 * BLOCK);
        let io = session.io(1);
        for (slba, blocks) in [(710, 1), (712, 40)] {
            let part = part(&bytes, 0, usize::try_from(blocks)? * BLOCK)?;
            done(&io.write(1, &Io::at(slba, blocks), part)?)?;
            holds(io, slba, part)?;
        }
    }
    Ok(())
}

fn neighbours_stay(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let around = pattern(18, 12 * BLOCK);
    done(&io.write(1, &Io::at(800, 12), &around)?)?;
    let middle = pattern(19, 4 * BLOCK);
    done(&io.write(1, &Io::at(804, 4), &middle)?)?;
    holds(io, 800, part(&around, 0, 4 * BLOCK)?)?;
    holds(io, 804, &middle)?;
    holds(io, 808, part(&around, 8 * BLOCK, 4 * BLOCK)?)
}

fn the_last_write_counts(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for round in 0..50 {
        let data = pattern(round, 3 * BLOCK);
        done(&io.write(1, &Io::at(820, 3), &data)?)?;
        holds(io, 820, &data)?;
    }
    Ok(())
}

fn any_part_can_be_read(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = pattern(20, 64 * BLOCK);
    done(&io.write(1, &Io::at(840, 64), &data)?)?;
    for (first, blocks) in [(0, 1), (63, 1), (1, 62), (31, 2), (7, 50)] {
        holds(io, 840 + first, part(&data, usize::try_from(first)? * BLOCK, blocks * BLOCK)?)?;
    }
    Ok(())
}

fn unwritten_blocks_are_zero(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default())?;
    let io = session.io(1);
    holds(io, 0, &vec![0; 256 * BLOCK])?;
    done(&io.write(1, &Io::at(10, 1), &pattern(1, BLOCK))?)?;
    holds(io, 0, &vec![0; 10 * BLOCK])?;
    holds(io, 11, &vec![0; 10 * BLOCK])
}

fn forced_writes_are_there(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = pattern(21, 8 * BLOCK);
    done(&io.write(1, &Io::at(910, 8).fua(), &data)?)?;
    let back = io.read(1, &Io::at(910, 8).fua(), data.len())?.ok()?.data;
    ensure!(back == data, "other data with FUA");
    done(&io.compare(1, &Io::at(910, 8).fua(), &data)?)?;
    done(&io.verify(1, &Io::at(910, 8).fua())?)
}

fn limited_retry_changes_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = pattern(22, 2 * BLOCK);
    done(&io.write(1, &Io::at(920, 2).limited_retry(), &data)?)?;
    let back = io.read(1, &Io::at(920, 2).limited_retry(), data.len())?.ok()?.data;
    ensure!(back == data, "other data with Limited Retry");
    done(&io.verify(1, &Io::at(920, 2).limited_retry())?)
}

/// CDW13 bits 7:0, Dataset Management: access frequency, latency, sequential, incompressible.
fn hints_change_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for hints in [0x01, 0x16, 0x40, 0x80, 0xf8] {
        let data = pattern(u64::from(hints), BLOCK);
        done(&io.write(1, &Io::at(930, 1).cdw13(hints), &data)?)?;
        let back = io.read(1, &Io::at(930, 1).cdw13(hints), BLOCK)?.ok()?.data;
        ensure!(back == data, "other data with hints {hints:#x}");
    }
    Ok(())
}

/// DTYPE (CDW12 bits 23:20) without support for directives.
fn directives_are_refused_or_ignored(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = pattern(23, BLOCK);
    done(&io.write(1, &Io::at(940, 1), &old)?)?;
    for directive in [1, 2, 0xf] {
        let new = pattern(24 + u64::from(directive), BLOCK);
        let completion = io.write(1, &Io::at(940, 1).cdw12(directive << 20), &new)?;
        status_among(&completion, &[code::SUCCESS, code::INVALID_FIELD])?;
        let now = if completion.status().is_success() { &new } else { &old };
        holds(io, 940, now)?;
        done(&io.write(1, &Io::at(940, 1), &old)?)?;
    }
    Ok(())
}

/// CETYPE (CDW12 bits 19:16) without Key Per I/O.
fn extensions_are_refused_or_ignored(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = pattern(24, BLOCK);
    for extension in [1, 8, 0xf] {
        done(&io.write(1, &Io::at(942, 1), &old)?)?;
        let at = Io::at(942, 1).cdw12(extension << 16);
        status_among(&io.read(1, &at, BLOCK)?, &[code::SUCCESS, code::INVALID_FIELD])?;
        status_among(&io.compare(1, &at, &old)?, &[code::SUCCESS, code::INVALID_FIELD])?;
        status_among(&io.verify(1, &at)?, &[code::SUCCESS, code::INVALID_FIELD])?;
        let completion = io.write(1, &at, &pattern(25, BLOCK))?;
        status_among(&completion, &[code::SUCCESS, code::INVALID_FIELD])?;
        if !completion.status().is_success() {
            holds(io, 942, &old)?;
        }
    }
    Ok(())
}

fn other_hosts_see_it(lab: &mut Lab) -> Result<()> {
    let mut writer = session(lab)?;
    let mut reader = lab.open(Format::STANDARD, View::Pi, Options::default())?;
    let data = pattern(25, 16 * BLOCK);
    done(&writer.io(1).write(1, &Io::at(950, 16), &data)?)?;
    let back = reader.io(1).read(1, &Io::at(950, 16).pract(), data.len())?.ok()?.data;
    ensure!(back == data, "another host sees other data");
    Ok(())
}

fn other_queues_see_it(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(4))?;
    for qid in 1..=4 {
        let data = pattern(26 + u64::from(qid), 16 * BLOCK);
        done(&session.io(qid).write(1, &Io::at(970, 16), &data)?)?;
        for other in 1..=4 {
            holds(session.io(other), 970, &data).with_context(|| format!("queue {qid} to {other}"))?;
        }
    }
    Ok(())
}

fn it_outlives_the_session(lab: &mut Lab) -> Result<()> {
    let data = pattern(31, 16 * BLOCK);
    let mut first = session(lab)?;
    done(&first.io(1).write(1, &Io::at(990, 16), &data)?)?;
    // Gone without a word.
    drop(first);
    holds(session(lab)?.io(1), 990, &data)
}

fn exactly_the_blocks_come(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    for blocks in [1_u32, 3, 256] {
        let len = usize::try_from(blocks)? * BLOCK;
        let completion = session.io(1).read(1, &Io::at(0, blocks), len)?;
        done(&completion)?;
        ensure!(completion.data.len() == len, "{} of {len} bytes", completion.data.len());
    }
    Ok(())
}
