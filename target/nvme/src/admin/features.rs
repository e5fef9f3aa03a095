//! Features. Base 2.1 §5.1.11 "Get Features command", §5.1.25 "Set Features command".
//!
//! Nothing is saved: every feature starts at its default after a controller reset.

use holdfast_block::BlockPort;

use super::{AdminPlan, AdminQueue};
use crate::connection::Context;
use crate::limits::IO_QUEUES_MAX;
use crate::sgl;
use crate::status::Status;
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
    pub(super) const KEEP_ALIVE_TIMER: u8 = 0x0f;
    pub(super) const HOST_BEHAVIOR: u8 = 0x16;
    pub(super) const HOST_IDENTIFIER: u8 = 0x81;
}

/// Bytes of the Host Behavior Support data structure.
const HOST_BEHAVIOR_LEN: usize = 512;
/// Bytes of an extended host identifier.
const HOST_IDENTIFIER_LEN: usize = 16;
/// The bits of Asynchronous Event Configuration that exist: notices of namespaces and of the discovery log.
const ASYNC_EVENTS: u32 = (1 << 8) | (1 << 31);
/// Temperature Threshold for over temperature that is never reached.
const NO_THRESHOLD: u16 = 0xffff;

/// Values of a controller.
#[derive(Debug)]
pub(crate) struct Features {
    arbitration: u32,
    error_recovery: u32,
    write_atomicity: u32,
    async_events: u32,
    over_temperature: u16,
    under_temperature: u16,
    /// The first bytes of Host Behavior Support: ACRE, ETDAS, LBAFEE and so on; the rest is reserved.
    host_behavior: [u8; 8],
}

impl Default for Features {
    fn default() -> Self {
        Features {
            // Arbitration Burst: no limit.
            arbitration: 0b111,
            error_recovery: 0,
            write_atomicity: 0,
            async_events: 0,
            over_temperature: NO_THRESHOLD,
            under_temperature: 0,
            host_behavior: [0; 8],
        }
    }
}

impl Features {
    /// Which events the host wants to be told.
    pub(crate) fn async_events(&self) -> u32 {
        self.async_events
    }
}

/// Whether a feature exists here.
fn exists(queue: &AdminQueue, id: u8) -> bool {
    match id {
        fid::ASYNC_EVENT_CONFIGURATION | fid::KEEP_ALIVE_TIMER => true,
        fid::ARBITRATION
        | fid::POWER_MANAGEMENT
        | fid::TEMPERATURE_THRESHOLD
        | fid::ERROR_RECOVERY
        | fid::VOLATILE_WRITE_CACHE
        | fid::NUMBER_OF_QUEUES
        | fid::WRITE_ATOMICITY
        | fid::HOST_BEHAVIOR
        | fid::HOST_IDENTIFIER => !queue.controller.is_discovery(),
        _ => false,
    }
}

/// Get Features.
pub(super) fn get(queue: &AdminQueue, sqe: &Sqe) -> Result<AdminPlan, Status> {
    let [id, select, ..] = sqe.cdw10.to_bytes();
    if !exists(queue, id) {
        return Err(Status::INVALID_FIELD);
    }
    let defaults = Features::default();
    let values = match select & 0b111 {
        0 => &queue.features,
        // Default, and saved: what is not saved has its default there.
        1 | 2 => &defaults,
        // Supported capabilities: not saveable, not per namespace, changeable unless set by Connect.
        3 => return Ok(AdminPlan::Done(if id == fid::HOST_IDENTIFIER { 0 } else { 0b100 })),
        _ => return Err(Status::INVALID_FIELD),
    };
    let current = select & 0b111 == 0;
    let value = match id {
        fid::ARBITRATION => values.arbitration,
        fid::POWER_MANAGEMENT => 0,
        fid::TEMPERATURE_THRESHOLD => u32::from(*threshold(values, sqe.cdw11.get())?),
        fid::ERROR_RECOVERY => values.error_recovery,
        fid::VOLATILE_WRITE_CACHE => u32::from(!current || queue.controller.write_cache()),
        fid::NUMBER_OF_QUEUES => {
            queue_counts(if current { queue.controller.queues_granted() } else { IO_QUEUES_MAX })
        }
        fid::WRITE_ATOMICITY => values.write_atomicity,
        fid::ASYNC_EVENT_CONFIGURATION => values.async_events,
        fid::KEEP_ALIVE_TIMER if current => queue.keep_alive.kato_ms(),
        fid::KEEP_ALIVE_TIMER => 0,
        fid::HOST_BEHAVIOR => {
            sgl::to_host(sqe, HOST_BEHAVIOR_LEN)?;
            return Ok(AdminPlan::Reply { data: values.host_behavior.to_vec(), len: HOST_BEHAVIOR_LEN });
        }
        _ => {
            // Over fabrics the identifier has 128 bits (EXHID).
            if sqe.cdw11.get() & 1 == 0 {
                return Err(Status::INVALID_FIELD);
            }
            sgl::to_host(sqe, HOST_IDENTIFIER_LEN)?;
            let data = queue.controller.association.host_id.to_vec();
            return Ok(AdminPlan::Reply { data, len: HOST_IDENTIFIER_LEN });
        }
    };
    Ok(AdminPlan::Done(value))
}

/// Set Features.
pub(super) fn set<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut AdminQueue,
    sqe: &Sqe,
) -> Result<AdminPlan, Status> {
    let [id, _, _, save] = sqe.cdw10.to_bytes();
    if !exists(queue, id) {
        return Err(Status::INVALID_FIELD);
    }
    if save & 0x80 != 0 {
        return Err(Status::FEATURE_NOT_SAVEABLE);
    }
    let value = sqe.cdw11.get();
    match id {
        fid::ARBITRATION => queue.features.arbitration = value,
        // There is power state 0.
        fid::POWER_MANAGEMENT if value & 0x1f != 0 => return Err(Status::INVALID_FIELD),
        fid::POWER_MANAGEMENT => {}
        fid::TEMPERATURE_THRESHOLD => {
            let [low, high, ..] = value.to_le_bytes();
            *threshold_mut(&mut queue.features, value)? = u16::from_le_bytes([low, high]);
        }
        // DULBE is not offered by our namespaces.
        fid::ERROR_RECOVERY if value & (1 << 16) != 0 => return Err(Status::INVALID_FIELD),
        fid::ERROR_RECOVERY => queue.features.error_recovery = value & 0xffff,
        fid::VOLATILE_WRITE_CACHE => queue.controller.set_write_cache(value & 1 != 0),
        fid::NUMBER_OF_QUEUES => return set_queues(queue, value),
        fid::WRITE_ATOMICITY => queue.features.write_atomicity = value & 1,
        fid::ASYNC_EVENT_CONFIGURATION => queue.features.async_events = value & ASYNC_EVENTS,
        fid::KEEP_ALIVE_TIMER => queue.keep_alive.set(value, cx.now_ms),
        fid::HOST_BEHAVIOR => return Ok(AdminPlan::Collect { len: HOST_BEHAVIOR_LEN }),
        // It came with Connect.
        _ => return Err(Status::COMMAND_SEQUENCE),
    }
    Ok(AdminPlan::Done(0))
}

/// Set Features, with its payload: Host Behavior Support. Base 2.1 §5.1.25.1.14.
pub(super) fn set_with_data(queue: &mut AdminQueue, sqe: &Sqe, payload: &[u8]) -> Result<AdminPlan, Status> {
    let [id, ..] = sqe.cdw10.to_bytes();
    let behavior = payload.first_chunk::<8>().filter(|_| id == fid::HOST_BEHAVIOR);
    let behavior = behavior.ok_or(Status::FEATURE_NOT_CHANGEABLE)?;
    let [retry, telemetry, extended_formats, ..] = *behavior;
    if [retry, telemetry, extended_formats].iter().any(|value| *value > 1) {
        return Err(Status::INVALID_FIELD);
    }
    queue.features.host_behavior = *behavior;
    queue.controller.set_extended_formats(extended_formats == 1);
    Ok(AdminPlan::Done(0))
}

/// Number of Queues. Base 2.1 §5.1.25.1.2: both counts zeroes based; a queue pair over fabrics is one connection, so
/// the larger of the two is what is asked for.
fn set_queues(queue: &AdminQueue, value: u32) -> Result<AdminPlan, Status> {
    let [sq_low, sq_high, cq_low, cq_high] = value.to_le_bytes();
    let asked = u16::from_le_bytes([sq_low, sq_high]).max(u16::from_le_bytes([cq_low, cq_high]));
    if asked == u16::MAX {
        return Err(Status::INVALID_FIELD);
    }
    if queue.controller.has_queues() {
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

/// The threshold that Dword 11 selects: of the composite temperature (TMPSEL 0), over or under (THSEL).
fn threshold(features: &Features, dword: u32) -> Result<&u16, Status> {
    match (dword >> 16) & 0x3f {
        0x00 => Ok(&features.over_temperature),
        0x10 => Ok(&features.under_temperature),
        _ => Err(Status::INVALID_FIELD),
    }
}

fn threshold_mut(features: &mut Features, dword: u32) -> Result<&mut u16, Status> {
    match (dword >> 16) & 0x3f {
        0x00 => Ok(&mut features.over_temperature),
        0x10 => Ok(&mut features.under_temperature),
        // All sensors: there is one.
        0x0f => Ok(&mut features.over_temperature),
        0x1f => Ok(&mut features.under_temperature),
        _ => Err(Status::INVALID_FIELD),
    }
}
