//! I/O commands. NVM Command Set 1.1 §3.3 "NVM Command Set Commands".
//!
//! Cases of one rule for many commands are made by macro. Where nothing else is said a host sees the standard format
//! without tuples: 4096-byte blocks.

use anyhow::{Result, ensure};
use holdfast_testkit::{Io, Options, Queue, Session};

use crate::{Case, Format, Guard, Lab, View};

mod compare;
mod copy;
mod copy_across;
mod data;
mod deallocate;
mod flush;
mod fused;
mod fused_race;
mod namespaces;
mod opcodes;
mod queues;
mod ranges;
mod uncorrectable;
mod verify;
mod zeroes;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[
    data::CASES,
    ranges::CASES,
    ranges::BEYOND,
    namespaces::CASES,
    namespaces::GONE,
    opcodes::CASES,
    flush::CASES,
    zeroes::CASES,
    deallocate::CASES,
    compare::CASES,
    fused::CASES,
    fused_race::CASES,
    verify::CASES,
    uncorrectable::CASES,
    copy::CASES,
    copy_across::CASES,
    queues::CASES,
];

/// Bytes of a block of the standard format.
const BLOCK: usize = 4096;
/// 512-byte blocks.
const SMALL: Format = Format::new(512, 1, Guard::Crc16);

fn session(lab: &mut Lab) -> Result<Session> {
    lab.session(Options::default())
}

fn small_session(lab: &mut Lab) -> Result<Session> {
    lab.open(SMALL, View::Plain, Options::default())
}

/// Demands that these bytes are stored from `slba` on.
fn holds(io: &mut Queue, slba: u64, expected: &[u8]) -> Result<()> {
    let blocks = u32::try_from(expected.len() / BLOCK)?;
    let found = io.read(1, &Io::at(slba, blocks), expected.len())?.ok()?.data;
    let differs = found.chunks(BLOCK).zip(expected.chunks(BLOCK)).position(|(one, other)| one != other);
    ensure!(differs.is_none(), "block {} from LBA {slba} on is another one", differs.unwrap_or(0));
    ensure!(found.len() == expected.len(), "{} of {} bytes", found.len(), expected.len());
    Ok(())
}

/// Blocks of namespace 1.
fn size(session: &mut Session) -> Result<u64> {
    Ok(session.namespace_format(1)?.blocks)
}
