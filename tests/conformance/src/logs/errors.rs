//! The error log says what failed, where and why. NVM Express Base 2.1 §5.1.12.1.2 "Error Information (Log Page Identifier
//! 01h)".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::pi::{PiFormat, Tags};
use holdfast_testkit::wire::{code, opcode};
use holdfast_testkit::{Command, Completion, ErrorEntry, Io, Options, Session};

use super::smart;
use crate::check::{pattern, same, status};
use crate::fields::{byte, done, le128};
use crate::{Case, Format, Lab, View};

const CLAUSE: &str = "Base 2.1 §5.1.12.1.2 \"Error Information (Log Page Identifier 01h)\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "logs.errors.empty", clause: CLAUSE, run: a_new_controller_has_no_errors },
    Case { id: "logs.errors.guard-write", clause: CLAUSE, run: a_bad_guard_on_write_is_told },
    Case { id: "logs.errors.guard-read", clause: CLAUSE, run: a_bad_guard_on_read_is_told },
    Case { id: "logs.errors.app-tag", clause: CLAUSE, run: a_bad_application_tag_is_told },
    Case { id: "logs.errors.ref-tag", clause: CLAUSE, run: a_bad_reference_tag_is_told },
    Case { id: "logs.errors.first-lba", clause: CLAUSE, run: the_first_failing_lba_is_told },
    Case { id: "logs.errors.queue", clause: CLAUSE, run: queue_and_command_are_told },
    Case { id: "logs.errors.newest-first", clause: CLAUSE, run: the_newest_comes_first },
    Case { id: "logs.errors.bounded", clause: CLAUSE, run: the_oldest_make_room },
    Case { id: "logs.errors.own", clause: CLAUSE, run: other_controllers_keep_their_own },
    Case { id: "logs.errors.counted", clause: CLAUSE, run: smart_counts_the_entries },
    Case { id: "logs.errors.more", clause: CLAUSE, run: more_promises_an_entry },
    Case { id: "logs.errors.success", clause: CLAUSE, run: success_leaves_no_entry },
    Case { id: "logs.errors.retained", clause: CLAUSE, run: reading_clears_nothing },
];

const BLOCK: usize = 4096;
const LBA: u64 = 500;

fn open(lab: &mut Lab) -> Result<Session> {
    lab.open(Format::STANDARD, View::Pi, Options::default().io_queues(2))
}

fn blocks(seed: u64, count: usize) -> Vec<u8> {
    PiFormat::CRC16.protect(&pattern(seed, count * BLOCK), BLOCK, Tags::counting(LBA).app(0x1111))
}

/// Blocks of which these have a tuple with one bit flipped: 0 to 15 the guard, 16 to 31 the application tag, then the
/// reference tag.
fn bent(seed: u64, count: usize, bad: &[usize], bit: usize) -> Vec<u8> {
    let mut data = blocks(seed, count);
    for block in bad {
        holdfast_testkit::pi::flip_tuple_bit(&mut data, BLOCK, 8, *block, bit);
    }
    data
}

fn checked(count: u32) -> Result<Io> {
    Ok(Io::at(LBA, count).check_all().ref_tag(u32::try_from(LBA)?).app_tag(0x1111))
}

fn newest(session: &mut Session) -> Result<ErrorEntry> {
    session.admin().error_log(1)?.first().copied().context("the error log is empty")
}

/// An entry that tells of this command on queue 1.
fn tells(entry: &ErrorEntry, completion: &Completion, opcode: u8, lba: u64) -> Result<()> {
    same("SQID", entry.sqid, 1)?;
    same("CID", entry.cid, completion.cqe.cid)?;
    same("status", entry.status.pair(), completion.status().pair())?;
    same("DNR", entry.status.dnr, completion.status().dnr)?;
    same("LBA", entry.lba, lba)?;
    same("NSID", entry.nsid, 1)?;
    same("TRTYPE", entry.trtype, 3)?;
    same("version", entry.version, 1)?;
    ensure!(entry.opcode == opcode || entry.opcode == 0, "opcode {:02x}h", entry.opcode);
    ensure!(entry.count > 0, "Error Count 0");
    Ok(())
}

fn a_new_controller_has_no_errors(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    let entries = u32::from(byte(&session.controller().raw, 262)?) + 1;
    let data = session.admin().log_page(&holdfast_testkit::LogPage::new(0x01, entries * 64))?.ok()?.data;
    crate::fields::zero("the error log of a new controller", &data, 0, data.len())
}

fn a_bad_guard_on_write_is_told(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    let completion = session.io(1).write(1, &checked(4)?, &bent(1, 4, &[2], 3))?;
    status(&completion, code::GUARD_CHECK)?;
    tells(&newest(&mut session)?, &completion, opcode::WRITE, LBA + 2)
}

fn a_bad_guard_on_read_is_told(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    done(&session.io(1).write(1, &Io::at(LBA, 4), &bent(2, 4, &[3], 3))?)?;
    let completion = session.io(1).read(1, &checked(4)?, 4 * (BLOCK + 8))?;
    status(&completion, code::GUARD_CHECK)?;
    tells(&newest(&mut session)?, &completion, opcode::READ, LBA + 3)
}

fn a_bad_application_tag_is_told(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    let completion = session.io(1).write(1, &checked(4)?, &bent(3, 4, &[1], 20))?;
    status(&completion, code::APP_TAG_CHECK)?;
    tells(&newest(&mut session)?, &completion, opcode::WRITE, LBA + 1)
}

fn a_bad_reference_tag_is_told(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    let completion = session.io(1).write(1, &checked(4)?, &bent(4, 4, &[0], 60))?;
    status(&completion, code::REF_TAG_CHECK)?;
    tells(&newest(&mut session)?, &completion, opcode::WRITE, LBA)
}

fn the_first_failing_lba_is_told(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    let completion = session.io(1).write(1, &checked(8)?, &bent(5, 8, &[6, 3, 7], 3))?;
    status(&completion, code::GUARD_CHECK)?;
    tells(&newest(&mut session)?, &completion, opcode::WRITE, LBA + 3)
}

fn queue_and_command_are_told(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    let bad = bent(6, 1, &[0], 3);
    for qid in [1, 2, 1] {
        let completion = session.io(qid).write(1, &checked(1)?, &bad)?;
        let entry = newest(&mut session)?;
        same("SQID", entry.sqid, qid)?;
        same("CID", entry.cid, completion.cqe.cid)?;
    }
    Ok(())
}

/// Fails this many writes, each at another block.
fn fail(session: &mut Session, times: usize) -> Result<()> {
    for _ in 0..times {
        let completion = session.io(1).write(1, &checked(1)?, &bent(7, 1, &[0], 3))?;
        status(&completion, code::GUARD_CHECK)?;
    }
    Ok(())
}

fn the_newest_comes_first(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    fail(&mut session, 3)?;
    let bad = bent(8, 2, &[1], 3);
    session.io(1).write(1, &checked(2)?, &bad)?;
    let entries = session.admin().error_log(8)?;
    let counts: Vec<u64> = entries.iter().map(|entry| entry.count).collect();
    same("entries", counts.len(), 4)?;
    let follows = counts.iter().zip(counts.iter().skip(1)).all(|(newer, older)| *newer == older + 1);
    ensure!(follows, "Error Counts {counts:?}");
    same("LBA of the newest", entries.first().map(|entry| entry.lba), Some(LBA + 1))
}

fn the_oldest_make_room(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    let room = u32::from(byte(&session.controller().raw, 262)?) + 1;
    let more = usize::try_from(room)? + 5;
    fail(&mut session, more)?;
    let entries = session.admin().error_log(room)?;
    same("entries", entries.len(), usize::try_from(room)?)?;
    let (newest, oldest) =
        (entries.first().map(|entry| entry.count), entries.last().map(|entry| entry.count));
    same("newest", newest, Some(u64::try_from(more)?))?;
    same("oldest", oldest, Some(6))
}

fn other_controllers_keep_their_own(lab: &mut Lab) -> Result<()> {
    let (mut one, mut other) = (open(lab)?, open(lab)?);
    fail(&mut one, 2)?;
    same("errors of the other controller", other.admin().error_log(4)?.len(), 0)?;
    same("errors of its own", one.admin().error_log(4)?.len(), 2)
}

/// Number of Error Information Log Entries, bytes 191:176 of SMART / Health.
fn smart_counts_the_entries(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    let before = le128(&smart(&mut session)?, 176)?;
    fail(&mut session, 3)?;
    same("error log entries", le128(&smart(&mut session)?, 176)? - before, 3)
}

/// M in the completion: the error log has more about this command.
fn more_promises_an_entry(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    let failing = [
        Command::with_data(checked(1)?.sqe(opcode::WRITE, 1), bent(9, 1, &[0], 3)),
        Command::reading(Io::at(u64::MAX, 1).sqe(opcode::READ, 1), BLOCK + 8),
        Command::reading(Io::at(0, 1).sqe(opcode::READ, 77), BLOCK + 8),
        Command::bare(Io::at(0, 1).sqe(0x99, 1)),
    ];
    for command in failing {
        let completion = session.io(1).run(command)?;
        ensure!(!completion.status().is_success(), "a command that cannot be succeeded");
        if completion.status().more {
            same("CID of the newest entry", newest(&mut session)?.cid, completion.cqe.cid)?;
        }
    }
    Ok(())
}

fn success_leaves_no_entry(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    done(&session.io(1).write(1, &checked(4)?, &blocks(10, 4))?)?;
    done(&session.io(1).read(1, &checked(4)?, 4 * (BLOCK + 8))?)?;
    same("entries", session.admin().error_log(4)?.len(), 0)
}

fn reading_clears_nothing(lab: &mut Lab) -> Result<()> {
    let mut session = open(lab)?;
    fail(&mut session, 2)?;
    let first = session.admin().error_log(4)?;
    ensure!(session.admin().error_log(4)? == first, "a second look differs");
    Ok(())
}
