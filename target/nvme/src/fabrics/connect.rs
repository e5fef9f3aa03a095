//! Connect. Base 2.1 §6.3 "Connect Command and Response".
//!
//! A connection becomes the admin queue of a new controller or an I/O queue of an existing one. A parameter that cannot be
//! is answered with its place: IPO, and IATTR for whether that is in the data.

use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_block::reservations::Nexus;
use holdfast_block::{BlockPort, Identity, Session, SessionRequest, Transport};
use holdfast_pi::Digests;
use zerocopy::FromBytes;

use crate::admin::AdminQueue;
use crate::connection::Context;
use crate::controller::{Association, Controller, QueueRefused};
use crate::health::Traffic;
use crate::limits::{NQN_LEN_MAX, QUEUE_ENTRIES_MAX};
use crate::status::Status;
use crate::wire::connect::{CNTLID_DYNAMIC, ConnectData, ConnectFields, offset};
use crate::wire::discovery::DISCOVERY_NQN;
use crate::wire::sqe::Sqe;

/// The connection that a Connect came on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) portal: u16,
    pub(crate) digests: Digests,
}

/// What the connection is from now on.
#[derive(Debug)]
pub(crate) enum Queue {
    Admin(Box<AdminQueue>),
    Io(IoQueue),
}

/// An I/O queue.
#[derive(Debug)]
pub(crate) struct IoQueue {
    pub(crate) controller: Arc<Controller>,
    pub(crate) session: Arc<Session>,
    pub(crate) qid: u16,
    pub(crate) epoch: u32,
    /// What it moves.
    pub(crate) traffic: Arc<Traffic>,
}

/// A queue, and what was agreed for it.
#[derive(Debug)]
pub(crate) struct Connected {
    pub(crate) queue: Queue,
    pub(crate) cntlid: u16,
    pub(crate) entries: u16,
    pub(crate) flow_control: bool,
}

/// A refusal, with Dword 0 of the completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) status: Status,
    pub(crate) result: u32,
}

impl From<Status> for Refused {
    fn from(status: Status) -> Self {
        Refused { status, result: 0 }
    }
}

/// HOSTID of a host that gives none.
const NO_HOST_ID: [u8; 16] = [0; 16];

/// A parameter in the submission queue entry that cannot be.
fn bad_field(position: u16) -> Refused {
    Refused { status: Status::CONNECT_INVALID_PARAMETERS, result: u32::from(position) }
}

/// A parameter in the data that cannot be.
fn bad_data(position: u16) -> Refused {
    let start = if holdfast_mutant::active("connect-iattr") { 0 } else { 1 << 16 };
    Refused { status: Status::CONNECT_INVALID_PARAMETERS, result: u32::from(position) | start }
}

/// Carries out a Connect.
pub(crate) fn connect<P: BlockPort>(
    cx: &mut Context<'_, P>,
    caller: Caller,
    sqe: &Sqe,
    payload: &[u8],
) -> Result<Connected, Refused> {
    let fields = ConnectFields::of(sqe);
    if fields.record_format != 0 && !holdfast_mutant::active("connect-recfmt") {
        return Err(Status::CONNECT_INCOMPATIBLE_FORMAT.into());
    }
    let too_large = fields.sq_size >= QUEUE_ENTRIES_MAX && !holdfast_mutant::active("connect-sqsize");
    if fields.sq_size == 0 || too_large {
        return Err(bad_field(offset::SQSIZE));
    }
    let data = ConnectData::read_from_bytes(payload).map_err(|_| Refused::from(Status::DATA_SGL_LENGTH))?;
    let subnqn = parse_nqn(&data.subnqn).ok_or(bad_data(offset::SUBNQN))?;
    let hostnqn = parse_nqn(&data.hostnqn).filter(|name| is_host_name(name));
    let hostnqn = hostnqn.ok_or(bad_data(offset::HOSTNQN))?;
    let asked = Asked { data: &data, subnqn, hostnqn };
    let (queue, cntlid) = if fields.qid == 0 {
        let controller = asked.new_controller(cx, caller)?;
        let cntlid = controller.cntlid;
        let queue = AdminQueue::new(cx, controller, fields.kato_ms, caller.local, caller.portal);
        (Queue::Admin(Box::new(queue)), cntlid)
    } else {
        let queue = asked.io_queue(cx, fields.qid)?;
        let cntlid = queue.controller.cntlid;
        (Queue::Io(queue), cntlid)
    };
    Ok(Connected {
        queue,
        cntlid,
        entries: fields.sq_size.saturating_add(1),
        flow_control: !fields.disable_flow_control,
    })
}

/// Connect's data.
struct Asked<'a> {
    data: &'a ConnectData,
    subnqn: &'a str,
    hostnqn: &'a str,
}

impl Asked<'_> {
    fn new_controller<P: BlockPort>(
        &self,
        cx: &mut Context<'_, P>,
        caller: Caller,
    ) -> Result<Arc<Controller>, Refused> {
        if self.data.cntlid.get() != CNTLID_DYNAMIC && !holdfast_mutant::active("connect-cntlid") {
            return Err(bad_data(offset::CNTLID));
        }
        if self.subnqn == DISCOVERY_NQN {
            // Discovery wants no Host Identifier: it associates nobody with anything.
            let created = cx.directory.create(self.hostnqn, |_| Some(self.association(None)));
            return created.ok_or(Status::CONNECT_CONTROLLER_BUSY.into());
        }
        let subsystem = cx.exports.subsystem_by_nqn(self.subnqn).ok_or(bad_data(offset::SUBNQN))?;
        // TREQ.ZHIDS of our discovery entries is 0.
        if self.data.host_id == NO_HOST_ID {
            return Err(bad_data(offset::HOSTID));
        }
        let on_record = cx.exports.host_by_nqn(self.hostnqn).map(|host| host.id);
        let grant =
            cx.exports.access(subsystem, on_record).ok_or(Refused::from(Status::CONNECT_INVALID_HOST))?;
        // Only now: a host that may not come in is not recorded.
        let identity = Identity::Nqn(self.hostnqn.to_owned());
        let host = cx.hosts.resolve(cx.exports, &identity);
        let host = cx.exports.canonical(host.ok_or(Refused::from(Status::CONNECT_CONTROLLER_BUSY))?);
        let created = cx.directory.create(self.hostnqn, |cntlid| {
            let session = cx.sessions.open(SessionRequest {
                host,
                transport: Transport::NvmeTcp,
                peer: caller.peer,
                subsystem: subsystem.id,
                view: grant.nvme_view,
                authenticated: false,
                label: format!("cntlid {cntlid}"),
                header_digest: caller.digests.header,
                data_digest: caller.digests.data,
                since: cx.unix_seconds,
                nexus: Nexus::Nvme { host: self.data.host_id },
            })?;
            Some(self.association(Some((subsystem.id, session))))
        });
        created.ok_or(Status::CONNECT_CONTROLLER_BUSY.into())
    }

    fn association(&self, subsystem: Option<(holdfast_block::SubsystemId, Arc<Session>)>) -> Association {
        Association {
            subnqn: self.subnqn.to_owned(),
            hostnqn: self.hostnqn.to_owned(),
            host_id: self.data.host_id,
            subsystem,
        }
    }

    /// An I/O queue has to name the controller of its admin queue, and everything that its admin queue named. Only HOSTID may
    /// be left out.
    fn io_queue<P: BlockPort>(&self, cx: &Context<'_, P>, qid: u16) -> Result<IoQueue, Refused> {
        let refused = bad_data(offset::CNTLID);
        // A controller that is gone: the host will have to start over, so it may try again.
        let controller = cx.directory.find(self.data.cntlid.get());
        let controller = controller.ok_or(Refused { status: refused.status.retryable(), ..refused })?;
        let owner = &controller.association;
        if owner.subnqn != self.subnqn && !holdfast_mutant::active("connect-io-subnqn") {
            return Err(bad_data(offset::SUBNQN));
        }
        if owner.hostnqn != self.hostnqn && !holdfast_mutant::active("connect-io-hostnqn") {
            return Err(bad_data(offset::HOSTNQN));
        }
        let another = self.data.host_id != NO_HOST_ID && owner.host_id != self.data.host_id;
        if another && !holdfast_mutant::active("connect-io-hostid") {
            return Err(bad_data(offset::HOSTID));
        }
        let session = controller.session().cloned().ok_or(bad_field(offset::QID))?;
        if !cx.directory.has_room(self.hostnqn) {
            return Err(Status::CONNECT_CONTROLLER_BUSY.into());
        }
        let epoch = controller.connect_queue(qid).map_err(|refused| match refused {
            QueueRefused::InUse => Refused::from(Status::COMMAND_SEQUENCE),
            QueueRefused::NotReady | QueueRefused::Beyond => bad_field(offset::QID),
        })?;
        let traffic = controller.health.open_queue();
        Ok(IoQueue { controller, session, qid, epoch, traffic })
    }
}

/// A name in a fixed field: at most 223 bytes of UTF-8, ended by NUL. Base 2.1 §4.7 "NVMe Qualified Names".
fn parse_nqn(field: &[u8]) -> Option<&str> {
    let end = field.iter().position(|byte| *byte == 0)?;
    let name = field.get(..end).filter(|name| !name.is_empty() && name.len() <= NQN_LEN_MAX)?;
    std::str::from_utf8(name).ok()
}

/// Whether a host may call itself so: it will stand in lists and logs. Base 2.1 §4.7 "NVMe Qualified Names".
fn is_host_name(name: &str) -> bool {
    let own = name.strip_prefix("nqn.").unwrap_or_default();
    !own.is_empty() && !own.chars().any(|c| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_readable_nqn() {
        assert!(is_host_name("nqn.2014-08.org.nvmexpress:uuid:host-x"));
        for bad in ["", "nqn.", "host", "nqn.2014-08.org:a b", "nqn.2014-08.org:\u{1}"] {
            assert!(!is_host_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn names_are_terminated_and_bounded() {
        let mut field = [0_u8; 256];
        assert_eq!(parse_nqn(&field), None);
        field[..3].copy_from_slice(b"nqn");
        assert_eq!(parse_nqn(&field), Some("nqn"));
        field[..224].fill(b'x');
        assert_eq!(parse_nqn(&field), None);
        field.fill(b'x');
        assert_eq!(parse_nqn(&field), None);
        field.fill(0);
        field[0] = 0xff;
        assert_eq!(parse_nqn(&field), None);
    }
}
