//! Features. Base 2.1 §5.1.11 "Get Features command", §5.1.25 "Set Features command", §4.4 "Feature Values".
//!
//! Nothing is saved: what has the scope of the controller starts at its default after a controller reset.

use holdfast_block::{BlockPort, VolumeId};

use super::feature_values::{Features, TIMESTAMP_LEN};
use super::{AdminPlan, AdminQueue};
use crate::connection::Context;
use crate::limits::{IO_QUEUES_MAX, NAMESPACES_MAX};
use crate::sgl;
use crate::status::Status;
use crate::subsystem::Moment;
use crate::wire::sqe::Sqe;

/// Feature identifiers.
mod fid {
    pub(super) const ARBITRATION: u8 = 0x01;
    pub(super) const POWER_MANAGEMENT: u8 = 0x02;
    pub(super) const TEMPERATURE_THRESHOLD: u8 = 0x04;
    pub(super) const ERROR_RECOVERY: u8 = 0x05;
    pub(super) const VOLATILE_WRITE_CACHE: u8 = 0x06;
    pub(super) const NUMBER_OF_QUEUES: u8 = 0x07;
    pub(super) const WRITE_ATOMICITY: u8 = 0x0a;
    pub(super) const ASYNC_EVENT_CONFIGURATION: u8 = 0x0b;
    pub(super) const TIMESTAMP: u8 = 0x0e;
    pub(super) const KEEP_ALIVE_TIMER: u8 = 0x0f;
    pub(super) const HOST_BEHAVIOR: u8 = 0x16;
    pub(super) const HOST_IDENTIFIER: u8 = 0x81;
}

/// Features of an I/O controller. Base 2.1 §3.1.3.6 "Feature Support Requirements"; the interrupt features belong to PCIe.
pub(super) const IO_CONTROLLER: [u8; 12] = [
    fid::ARBITRATION,
    fid::POWER_MANAGEMENT,
    fid::TEMPERATURE_THRESHOLD,
    fid::ERROR_RECOVERY,
    fid::VOLATILE_WRITE_CACHE,
    fid::NUMBER_OF_QUEUES,
    fid::WRITE_ATOMICITY,
    fid::ASYNC_EVENT_CONFIGURATION,
    fid::TIMESTAMP,
    fid::KEEP_ALIVE_TIMER,
    fid::HOST_BEHAVIOR,
    fid::HOST_IDENTIFIER,
];

/// Features of a discovery controller.
const DISCOVERY_CONTROLLER: [u8; 2] = [fid::ASYNC_EVENT_CONFIGURATION, fid::KEEP_ALIVE_TIMER];

/// Bytes of the Host Behavior Support data structure.
const HOST_BEHAVIOR_LEN: usize = 512;
/// Bytes of an extended host identifier.
const HOST_IDENTIFIER_LEN: usize = 16;
/// Supported Capabilities: the value can be changed.
const CHANGEABLE: u32 = 0b100;
/// Supported Capabilities: each namespace has its own.
const PER_NAMESPACE: u32 = 0b010;

/// Where the parts of the commands are, for the error log.
mod at {
    pub(super) const FID: u8 = 40;
    pub(super) const SEL: u8 = 41;
    pub(super) const DWORD_11: u8 = 44;
}

/// Whether each namespace has its own value.
pub(super) fn is_per_namespace(id: u8) -> bool {
    id == fid::ERROR_RECOVERY
}

fn exists(queue: &AdminQueue, id: u8) -> Result<(), Status> {
    let discovery = queue.controller.is_discovery();
    let all: &[u8] = if discovery { &DISCOVERY_CONTROLLER } else { &IO_CONTROLLER };
    if all.contains(&id) { Ok(()) } else { Err(Status::INVALID_FIELD.at(at::FID)) }
}

/// Whether a command may name this NSID. What has the scope of the controller is set by naming none, and read by naming any.
fn check_nsid(queue: &AdminQueue, id: u8, nsid: u32, sets: bool) -> Result<(), Status> {
    let is_valid = !queue.controller.is_discovery() && (1..=NAMESPACES_MAX).contains(&nsid);
    match nsid {
        0 | u32::MAX => Ok(()),
        _ if !is_valid => Err(Status::INVALID_NAMESPACE),
        _ if sets && !is_per_namespace(id) && !holdfast_mutant::active("feature-scope") => {
            Err(Status::FEATURE_NOT_PER_NAMESPACE)
        }
        _ => Ok(()),
    }
}

/// The namespace of a feature that each has its own of; `None`: all of them. NSID 0 means all as well: until revision 2.0 such
/// features had the scope of the controller, and hosts still read and set them so.
fn namespace_of<P: BlockPort>(
    cx: &Context<'_, P>,
    queue: &AdminQueue,
    nsid: u32,
) -> Result<Option<(u32, VolumeId)>, Status> {
    if matches!(nsid, 0 | u32::MAX) {
        return Ok(None);
    }
    let session = queue.controller.session().ok_or(Status::INVALID_NAMESPACE)?;
    let (subsystem, _) = cx.exports.access_of(session).ok_or(Status::INVALID_NAMESPACE)?;
    let namespace = subsystem.namespaces.get(&nsid).ok_or(Status::INACTIVE_NAMESPACE)?;
    Ok(Some((nsid, namespace.volume.id)))
}

/// Get Features.
pub(super) fn get<P: BlockPort>(
    cx: &Context<'_, P>,
    queue: &AdminQueue,
    sqe: &Sqe,
) -> Result<AdminPlan, Status> {
    let [id, select, ..] = sqe.cdw10.to_bytes();
    exists(queue, id)?;
    check_nsid(queue, id, sqe.nsid.get(), false)?;
    let current = match select & 0b111 {
        0 => true,
        // Default, and saved: what is not saved has its default there.
        1 | 2 => false,
        3 => return Ok(AdminPlan::Done(capabilities(id))),
        _ => return Err(Status::INVALID_FIELD.at(at::SEL)),
    };
    match id {
        fid::HOST_BEHAVIOR => {
            sgl::to_host(sqe, HOST_BEHAVIOR_LEN)?;
            let data = if current { queue.features.host_behavior().to_vec() } else { Vec::new() };
            Ok(AdminPlan::Reply { data, len: HOST_BEHAVIOR_LEN })
        }
        fid::TIMESTAMP => {
            sgl::to_host(sqe, TIMESTAMP_LEN)?;
            let data = if current { queue.features.timestamp(cx.now_ms).to_vec() } else { Vec::new() };
            Ok(AdminPlan::Reply { data, len: TIMESTAMP_LEN })
        }
        fid::HOST_IDENTIFIER => {
            // Over fabrics the identifier has 128 bits (EXHID).
            if sqe.cdw11.get() & 1 == 0 {
                return Err(Status::INVALID_FIELD.at(at::DWORD_11));
            }
            sgl::to_host(sqe, HOST_IDENTIFIER_LEN)?;
            let data = queue.controller.association.host_id.to_vec();
            Ok(AdminPlan::Reply { data, len: HOST_IDENTIFIER_LEN })
        }
        _ => Ok(AdminPlan::Done(dword(cx, queue, sqe, id, current)?)),
    }
}

/// Supported Capabilities. Nothing can be saved; who the host is was settled by Connect.
fn capabilities(id: u8) -> u32 {
    match id {
        fid::HOST_IDENTIFIER => 0,
        _ if is_per_namespace(id) => CHANGEABLE | PER_NAMESPACE,
        _ => CHANGEABLE,
    }
}

/// The value of a feature that is a dword.
fn dword<P: BlockPort>(
    cx: &Context<'_, P>,
    queue: &AdminQueue,
    sqe: &Sqe,
    id: u8,
    current: bool,
) -> Result<u32, Status> {
    let defaults = Features::new(cx.now_ms);
    let values = if current { &queue.features } else { &defaults };
    Ok(match id {
        fid::ARBITRATION => values.arbitration,
        fid::POWER_MANAGEMENT => values.power_management,
        fid::TEMPERATURE_THRESHOLD => {
            let threshold = values.temperature_threshold(sqe.cdw11.get());
            threshold.ok_or(Status::INVALID_FIELD.at(at::DWORD_11 + 2))?.into()
        }
        fid::ERROR_RECOVERY => {
            if sqe.nsid.get() == u32::MAX {
                return Err(Status::INVALID_NAMESPACE);
            }
            let namespace = namespace_of(cx, queue, sqe.nsid.get())?;
            if current { queue.controller.subsystem.error_recovery(namespace).into() } else { 0 }
        }
        fid::VOLATILE_WRITE_CACHE => u32::from(!current || queue.controller.write_cache()),
        fid::NUMBER_OF_QUEUES => {
            queue_counts(if current { queue.controller.queues_granted() } else { IO_QUEUES_MAX })
        }
        fid::WRITE_ATOMICITY => values.write_atomicity,
        fid::ASYNC_EVENT_CONFIGURATION => values.async_events(),
        // The Keep Alive Timer.
        _ if current => queue.keep_alive.kato_ms(),
        _ => 0,
    })
}

/// Set Features.
pub(super) fn set<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut AdminQueue,
    sqe: &Sqe,
) -> Result<AdminPlan, Status> {
    let [id, _, _, save] = sqe.cdw10.to_bytes();
    exists(queue, id)?;
    if save & 0x80 != 0 && !holdfast_mutant::active("feature-save") {
        return Err(Status::FEATURE_NOT_SAVEABLE);
    }
    check_nsid(queue, id, sqe.nsid.get(), true)?;
    let value = sqe.cdw11.get();
    match id {
        fid::ARBITRATION => queue.features.set_arbitration(value),
        fid::POWER_MANAGEMENT => {
            queue.features.set_power_management(value).ok_or(Status::INVALID_FIELD.at(at::DWORD_11))?;
        }
        fid::TEMPERATURE_THRESHOLD => {
            let set = queue.features.set_temperature_threshold(value);
            set.ok_or(Status::INVALID_FIELD.at(at::DWORD_11 + 2))?;
            queue.look_at_temperature();
        }
        // DULBE: our namespaces do not report deallocated blocks as errors.
        fid::ERROR_RECOVERY if value & (1 << 16) != 0 => {
            return Err(Status::INVALID_FIELD.at(at::DWORD_11 + 2));
        }
        fid::ERROR_RECOVERY => {
            let namespace = namespace_of(cx, queue, sqe.nsid.get())?;
            let [low, high, ..] = value.to_le_bytes();
            let limit = u16::from_le_bytes([low, high]);
            queue.controller.subsystem.set_error_recovery(namespace, limit);
        }
        fid::VOLATILE_WRITE_CACHE => queue.controller.set_write_cache(value & 1 != 0),
        fid::NUMBER_OF_QUEUES => return set_queues(queue, value),
        fid::WRITE_ATOMICITY => queue.features.write_atomicity = value & 1,
        fid::ASYNC_EVENT_CONFIGURATION => {
            queue.features.set_async_events(value, queue.controller.is_discovery());
            queue.look_at_temperature();
        }
        // NVMe/TCP 1.1 §3.4 "Keep Alive Model" requires the timer, so that Base 2.1 §3.9.1 does not let it be switched off.
        fid::KEEP_ALIVE_TIMER if value == 0 => {
            return Err(Status::KEEP_ALIVE_TIMEOUT_INVALID.at(at::DWORD_11));
        }
        fid::KEEP_ALIVE_TIMER => queue.keep_alive.set(value, cx.now_ms),
        fid::TIMESTAMP => return Ok(AdminPlan::Collect { len: TIMESTAMP_LEN }),
        fid::HOST_BEHAVIOR => return Ok(AdminPlan::Collect { len: HOST_BEHAVIOR_LEN }),
        // It came with Connect.
        _ => return Err(Status::COMMAND_SEQUENCE),
    }
    Ok(AdminPlan::Done(0))
}

/// Set Features, with its payload: Timestamp, Host Behavior Support.
pub(super) fn set_with_data<P: BlockPort>(
    cx: &Context<'_, P>,
    queue: &mut AdminQueue,
    sqe: &Sqe,
    payload: &[u8],
) -> Result<AdminPlan, Status> {
    let [id, ..] = sqe.cdw10.to_bytes();
    let head = *payload.first_chunk::<8>().ok_or(Status::INTERNAL_ERROR)?;
    if id == fid::TIMESTAMP {
        let (previous, since_reset_ms) = queue.features.set_timestamp(head, cx.now_ms);
        let moment = Moment::now(cx, queue.controller.cntlid);
        queue.controller.subsystem.timestamp_changed(moment, previous, since_reset_ms);
    } else {
        let set = queue.features.set_host_behavior(head);
        let (takes_interrupted, extended_formats, copy_formats) = set.ok_or(Status::INVALID_FIELD)?;
        queue.controller.set_takes_interrupted(takes_interrupted);
        queue.controller.set_extended_formats(extended_formats);
        queue.controller.set_copy_formats(copy_formats);
    }
    Ok(AdminPlan::Done(0))
}

/// Number of Queues. Base 2.1 §5.1.25.2.1 "Number of Queues (Feature Identifier 07h)": both counts zeroes based; a queue pair over
/// fabrics is one connection, so the larger of the two is what is asked for.
fn set_queues(queue: &AdminQueue, value: u32) -> Result<AdminPlan, Status> {
    let [sq_low, sq_high, cq_low, cq_high] = value.to_le_bytes();
    let asked = u16::from_le_bytes([sq_low, sq_high]).max(u16::from_le_bytes([cq_low, cq_high]));
    if asked == u16::MAX {
        return Err(Status::INVALID_FIELD.at(at::DWORD_11));
    }
    if queue.controller.has_queues() && !holdfast_mutant::active("feature-queues") {
        return Err(Status::COMMAND_SEQUENCE);
    }
    let granted = (asked + 1).min(IO_QUEUES_MAX);
    queue.controller.grant_queues(granted);
    Ok(AdminPlan::Done(queue_counts(granted)))
}

fn queue_counts(queues: u16) -> u32 {
    let zeroes_based = u32::from(queues.saturating_sub(1));
    zeroes_based | (zeroes_based << 16)
}
