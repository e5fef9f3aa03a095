//! Identify, Abort, Keep Alive, unknown and malformed Admin commands. NVM Express Base 2.1 §5 "Admin Command Set".

use anyhow::{Result, ensure};
use holdfast_testkit::{Completion, Options, Session};

use crate::{Case, Lab, fields};

mod abort;
mod capabilities;
mod controller;
mod discovery;
mod formats;
mod identifiers;
mod keep_alive;
mod lists;
mod namespace;
mod opcodes;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[
    controller::CASES,
    capabilities::CASES,
    capabilities::COMMANDS,
    namespace::CASES,
    formats::PI_VIEWS,
    formats::PLAIN_VIEWS,
    formats::CASES,
    identifiers::CASES,
    lists::CASES,
    discovery::CASES,
    opcodes::CASES,
    abort::CASES,
    keep_alive::CASES,
];

/// Bytes of every Identify data structure.
const IDENTIFY_LEN: usize = 4096;
/// An NSID that no namespace has here but could: inactive.
pub(crate) const INACTIVE_NSID: u32 = 77;

/// An Identify data structure that the target has to give.
pub(crate) fn identify(session: &mut Session, cns: u8, nsid: u32, cdw11: u32) -> Result<Vec<u8>> {
    let completion = session.admin().identify(cns, nsid, cdw11)?;
    fields::done(&completion)?;
    ensure!(completion.data.len() == IDENTIFY_LEN, "CNS {cns:02x}h has {} bytes", completion.data.len());
    Ok(completion.data)
}

/// Whatever is answered to Identify.
fn try_identify(session: &mut Session, cns: u8, nsid: u32, cdw11: u32) -> Result<Completion> {
    Ok(session.admin().identify(cns, nsid, cdw11)?)
}

/// A session without I/O queues.
pub(crate) fn admin_session(lab: &mut Lab) -> Result<Session> {
    lab.session(Options::default().io_queues(0))
}

/// A session with the discovery service.
fn discovery_session(lab: &mut Lab) -> Result<Session> {
    let nqn = lab.host("plain")?;
    Ok(Session::open_discovery(lab.nvme(), &nqn, Options::default())?)
}

/// NN: the highest NSID that a namespace could have.
fn nsid_max(session: &mut Session) -> Result<u32> {
    let controller = identify(session, 0x01, 0, 0)?;
    fields::le32(&controller, 516)
}

/// An NSID above NN: invalid.
pub(crate) fn nsid_beyond(session: &mut Session) -> Result<u32> {
    Ok(nsid_max(session)?.saturating_add(1))
}
