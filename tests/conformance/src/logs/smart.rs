//! SMART / Health counts what really moves. NVM Express Base 2.1 §5.1.12.1.3 "SMART / Health Information (Log Page
//! Identifier 02h)"; NVM Command Set 1.1 §4.1.4.2 "SMART / Health Information".

use anyhow::{Result, ensure};
use holdfast_testkit::{Io, Options, Session};

use super::smart;
use crate::check::{pattern, same};
use crate::fields::{byte, done, le16, le128, zero};
use crate::{Case, Format, Lab, View};

const CLAUSE: &str = "Base 2.1 §5.1.12.1.3 \"SMART / Health Information (Log Page Identifier 02h)\"";
const VERIFY: &str = "NVM Command Set 1.1 §3.3.5 \"Verify command\", Data Units Read";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "logs.smart.fields", clause: CLAUSE, run: values_are_possible },
    Case { id: "logs.smart.read-units", clause: CLAUSE, run: data_read_is_counted },
    Case { id: "logs.smart.written-units", clause: CLAUSE, run: data_written_is_counted },
    Case { id: "logs.smart.verified-units", clause: VERIFY, run: data_verified_is_counted },
    Case { id: "logs.smart.read-commands", clause: CLAUSE, run: reads_are_counted },
    Case { id: "logs.smart.write-commands", clause: CLAUSE, run: writes_are_counted },
    Case { id: "logs.smart.metadata", clause: CLAUSE, run: metadata_is_not_counted },
    Case { id: "logs.smart.rising", clause: CLAUSE, run: counters_do_not_fall },
    Case { id: "logs.smart.reserved", clause: CLAUSE, run: reserved_bytes_are_zero },
];

/// Offsets of counters.
const UNITS_READ: usize = 32;
const UNITS_WRITTEN: usize = 48;
const READS: usize = 64;
const WRITES: usize = 80;

/// 125 blocks of 4096 bytes are 1000 units of 512 bytes: 1 in the log.
const BLOCKS: u32 = 125;
const LEN: usize = 125 * 4096;

/// A subsystem that nobody else uses.
fn alone(lab: &mut Lab, view: View) -> Result<Session> {
    let share = lab.fresh_share(Format::STANDARD)?;
    lab.open_as(if view == View::Pi { "pi" } else { "plain" }, &share, view, Options::default())
}

/// Demands that a counter grows by `expected` while `work` is done.
fn grows(
    session: &mut Session,
    at: usize,
    expected: u128,
    work: impl FnOnce(&mut Session) -> Result<()>,
) -> Result<()> {
    let before = le128(&smart(session)?, at)?;
    work(session)?;
    let after = le128(&smart(session)?, at)?;
    same(&format!("growth of the counter at byte {at}"), after - before, expected)
}

fn values_are_possible(lab: &mut Lab) -> Result<()> {
    let data = smart(&mut alone(lab, View::Plain)?)?;
    same("Critical Warning", byte(&data, 0)?, 0)?;
    let kelvin = le16(&data, 1)?;
    ensure!((200..=400).contains(&kelvin), "composite temperature of {kelvin} K");
    let (spare, threshold) = (byte(&data, 3)?, byte(&data, 4)?);
    ensure!(
        spare <= 100 && threshold <= 100 && spare >= threshold,
        "spare {spare} %, threshold {threshold} %"
    );
    Ok(())
}

fn data_read_is_counted(lab: &mut Lab) -> Result<()> {
    let mut session = alone(lab, View::Plain)?;
    for times in [1, 3] {
        grows(&mut session, UNITS_READ, times, |session| {
            (0..times).try_for_each(|_| done(&session.io(1).read(1, &Io::at(0, BLOCKS), LEN)?))
        })?;
    }
    Ok(())
}

fn data_written_is_counted(lab: &mut Lab) -> Result<()> {
    let mut session = alone(lab, View::Plain)?;
    let data = pattern(1, LEN);
    for times in [1, 3] {
        grows(&mut session, UNITS_WRITTEN, times, |session| {
            (0..times).try_for_each(|_| done(&session.io(1).write(1, &Io::at(0, BLOCKS), &data)?))
        })?;
    }
    Ok(())
}

fn data_verified_is_counted(lab: &mut Lab) -> Result<()> {
    let mut session = alone(lab, View::Plain)?;
    grows(&mut session, UNITS_READ, 2, |session| {
        (0..2).try_for_each(|_| done(&session.io(1).verify(1, &Io::at(0, BLOCKS))?))
    })
}

fn reads_are_counted(lab: &mut Lab) -> Result<()> {
    let mut session = alone(lab, View::Plain)?;
    grows(&mut session, READS, 17, |session| {
        (0..17).try_for_each(|_| done(&session.io(1).read(1, &Io::at(0, 1), 4096)?))
    })?;
    grows(&mut session, WRITES, 0, |session| done(&session.io(1).read(1, &Io::at(0, 1), 4096)?))
}

fn writes_are_counted(lab: &mut Lab) -> Result<()> {
    let mut session = alone(lab, View::Plain)?;
    let data = pattern(2, 4096);
    grows(&mut session, WRITES, 19, |session| {
        (0..19).try_for_each(|_| done(&session.io(1).write(1, &Io::at(0, 1), &data)?))
    })?;
    grows(&mut session, READS, 0, |session| done(&session.io(1).write(1, &Io::at(0, 1), &data)?))
}

/// Data units are 512 bytes of user data, without metadata.
fn metadata_is_not_counted(lab: &mut Lab) -> Result<()> {
    let mut session = alone(lab, View::Pi)?;
    grows(&mut session, UNITS_READ, 4, |session| {
        (0..4).try_for_each(|_| done(&session.io(1).read(1, &Io::at(0, BLOCKS), 125 * 4104)?))
    })
}

fn counters_do_not_fall(lab: &mut Lab) -> Result<()> {
    let mut session = alone(lab, View::Plain)?;
    let mut before = smart(&mut session)?;
    for _ in 0..3 {
        done(&session.io(1).write(1, &Io::at(0, BLOCKS), &pattern(3, LEN))?)?;
        done(&session.io(1).read(1, &Io::at(0, BLOCKS), LEN)?)?;
        let after = smart(&mut session)?;
        for at in (32..192).step_by(16) {
            ensure!(le128(&after, at)? >= le128(&before, at)?, "the counter at byte {at} fell");
        }
        before = after;
    }
    Ok(())
}

fn reserved_bytes_are_zero(lab: &mut Lab) -> Result<()> {
    let data = smart(&mut alone(lab, View::Plain)?)?;
    zero("reserved", &data, 7, 25)?;
    zero("reserved", &data, 296, 216)
}
