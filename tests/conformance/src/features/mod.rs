//! Get Features and Set Features. NVM Express Base 2.1 §5.1.11 "Get Features command", §5.1.25 "Set Features command".

use anyhow::Result;
use holdfast_testkit::wire::{Sqe, opcode};
use holdfast_testkit::{Command, Completion, Session};

use crate::{Case, fields};

mod behavior;
mod common;
mod host;
mod queues;
mod timestamp;
mod unknown;
mod values;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[
    common::CASES,
    queues::CASES,
    values::CASES,
    host::CASES,
    timestamp::CASES,
    behavior::CASES,
    unknown::CASES,
];

/// Feature identifiers.
pub(crate) mod fid {
    pub(crate) const ARBITRATION: u8 = 0x01;
    pub(crate) const POWER_MANAGEMENT: u8 = 0x02;
    pub(crate) const TEMPERATURE_THRESHOLD: u8 = 0x04;
    pub(crate) const ERROR_RECOVERY: u8 = 0x05;
    pub(crate) const VOLATILE_WRITE_CACHE: u8 = 0x06;
    pub(crate) const NUMBER_OF_QUEUES: u8 = 0x07;
    pub(crate) const WRITE_ATOMICITY: u8 = 0x0a;
    pub(crate) const ASYNC_EVENTS: u8 = 0x0b;
    pub(crate) const TIMESTAMP: u8 = 0x0e;
    pub(crate) const KEEP_ALIVE_TIMER: u8 = 0x0f;
    pub(crate) const HOST_BEHAVIOR: u8 = 0x16;
    pub(crate) const HOST_IDENTIFIER: u8 = 0x81;
}

/// Bytes of the Host Behavior Support data structure.
const HOST_BEHAVIOR_LEN: usize = 512;

/// A Get Features or Set Features command, field by field.
#[derive(Debug, Clone, Copy, Default)]
struct Request {
    fid: u8,
    nsid: u32,
    select: u32,
    save: bool,
    cdw11: u32,
}

impl Request {
    fn new(fid: u8) -> Self {
        // Only the Host Identifier has a form that must be chosen: 128 bits.
        let cdw11 = u32::from(fid == fid::HOST_IDENTIFIER);
        Self { fid, cdw11, ..Self::default() }
    }

    fn value(self, cdw11: u32) -> Self {
        Self { cdw11, ..self }
    }

    fn nsid(self, nsid: u32) -> Self {
        Self { nsid, ..self }
    }

    fn select(self, select: u32) -> Self {
        Self { select, ..self }
    }

    fn save(self) -> Self {
        Self { save: true, ..self }
    }

    /// Bytes of the feature's data structure.
    fn len(self) -> usize {
        match self.fid {
            fid::HOST_BEHAVIOR => HOST_BEHAVIOR_LEN,
            fid::HOST_IDENTIFIER => 16,
            fid::TIMESTAMP => 8,
            _ => 0,
        }
    }

    fn get(self, session: &mut Session) -> Result<Completion> {
        let sqe = Sqe::new(opcode::GET_FEATURES)
            .with_nsid(self.nsid)
            .cdw(10, self.select << 8 | u32::from(self.fid))
            .cdw(11, self.cdw11);
        // Supported capabilities have no data.
        let len = if self.select == 3 { 0 } else { self.len() };
        Ok(session.admin().run(Command::reading(sqe, len))?)
    }

    fn set(self, session: &mut Session, data: &[u8]) -> Result<Completion> {
        let sqe = Sqe::new(opcode::SET_FEATURES)
            .with_nsid(self.nsid)
            .cdw(10, u32::from(self.save) << 31 | u32::from(self.fid))
            .cdw(11, self.cdw11);
        Ok(session.admin().run(Command::with_data(sqe, data.to_vec()))?)
    }
}

/// The current value of a feature, from DW0.
fn current(session: &mut Session, fid: u8) -> Result<u32> {
    let completion = Request::new(fid).get(session)?;
    fields::done(&completion)?;
    Ok(completion.cqe.dw0)
}

/// Sets a feature, which must succeed.
fn set(session: &mut Session, fid: u8, value: u32) -> Result<()> {
    fields::done(&Request::new(fid).value(value).set(session, &[])?)
}

/// Set Features, Host Behavior Support, with these bytes of the structure (offset and value) and zeroes elsewhere.
pub(crate) fn host_behavior(bytes: &[(usize, u8)]) -> Command {
    let mut data = vec![0; HOST_BEHAVIOR_LEN];
    for (at, value) in bytes {
        if let Some(byte) = data.get_mut(*at) {
            *byte = *value;
        }
    }
    Command::with_data(Sqe::new(opcode::SET_FEATURES).cdw(10, fid::HOST_BEHAVIOR.into()), data)
}
