//! Connect, properties, the life of a controller. NVM Express Base 2.1 §6 "Fabrics Command Set", §3.3.2 "Message-based
//! Transport Queue Model (Fabrics)", §3.5.2, §3.6.2, §3.7, §3.9.

use anyhow::{Context as _, Result};
use holdfast_testkit::{Completion, ConnectCommand, ConnectOptions, Queue, host_id_of};

use crate::{Case, Format, Lab, Share, View, check};

mod access;
mod association;
mod commands;
mod connect_admin;
mod connect_io;
mod disconnect;
mod discovery;
mod keep_alive;
mod life;
mod properties;
mod queues;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[
    connect_admin::CASES,
    connect_io::CASES,
    access::CASES,
    commands::CASES,
    properties::CASES,
    life::CASES,
    queues::CASES,
    disconnect::CASES,
    association::CASES,
    keep_alive::CASES,
    discovery::CASES,
];

/// Time in which a host that is to be cut off must be; also what it may wait for a controller that it is owed.
const ENDS_WITHIN_MS: u32 = 60_000;

/// Where the invalid parameter of a Connect begins: IPO and IATTR. §6.3 figure "Connect Response – Dword 0 Value Based on
/// Status Code".
#[derive(Debug, Clone, Copy)]
enum At {
    /// Offset within the submission queue entry.
    Sqe(u32),
    /// Offset within the data.
    Data(u32),
}

const RECFMT: u32 = 40;
const QID: u32 = 42;
const SQSIZE: At = At::Sqe(44);
const HOSTID: At = At::Data(0);
const CNTLID: At = At::Data(16);
const SUBNQN: At = At::Data(256);
const HOSTNQN: At = At::Data(512);

/// 1h/82h.
const INVALID_PARAMETERS: (u8, u8) = holdfast_testkit::wire::code::CONNECT_INVALID_PARAMETERS;
/// Connect of a queue that exists: §3.3.2.3 says the first, the figure of §6.3 the second.
const QUEUE_EXISTS: [(u8, u8); 2] = [holdfast_testkit::wire::code::SEQUENCE_ERROR, (0x1, 0x01)];

/// Demands Connect Invalid Parameters, and that it names the parameter.
fn invalid_parameter(done: &Completion, at: At) -> Result<()> {
    check::status(done, INVALID_PARAMETERS)?;
    let expected = match at {
        At::Sqe(offset) => offset,
        At::Data(offset) => offset | 1 << 16,
    };
    check::same("IPO and IATTR", done.cqe.dw0, expected)
}

/// A Connect of an Admin Queue that is right in every field, with the subsystem it goes to.
fn admin_connect(lab: &mut Lab) -> Result<(ConnectCommand, Share)> {
    let share = lab.share(Format::STANDARD)?;
    let nqn = lab.admit("plain", &share, View::Plain)?;
    let connect = ConnectCommand::admin(&nqn, host_id_of(&nqn), &share.nqn);
    Ok((ConnectCommand { kato_ms: ENDS_WITHIN_MS * 2, ..connect }, share))
}

/// A connection that is ready for a Connect.
fn fresh(lab: &Lab, qid: u16) -> Result<Queue> {
    Ok(Queue::new(lab.initialized(&ConnectOptions::default())?, qid))
}

/// Sends a Connect on a connection of its own.
fn tried(lab: &Lab, connect: &ConnectCommand) -> Result<(Queue, Completion)> {
    let mut queue = fresh(lab, connect.qid)?;
    let done = queue.connect(connect).with_context(|| format!("queue {}", connect.qid))?;
    Ok((queue, done))
}

/// The Controller ID that a successful Connect gave.
fn cntlid(done: &Completion) -> u16 {
    let [low, high, ..] = done.cqe.dw0.to_le_bytes();
    u16::from_le_bytes([low, high])
}
