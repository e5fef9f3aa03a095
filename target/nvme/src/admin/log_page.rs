//! Get Log Page. Base 2.1 §5.1.12 "Get Log Page command": what is asked for, which part of it, and what the host has then seen.

use holdfast_block::BlockPort;
use zerocopy::{FromZeros, IntoBytes};

use super::events::Event;
use super::{AdminPlan, AdminQueue, log_effects, log_events, log_health};
use crate::connection::Context;
use crate::discovery::{self, Asker};
use crate::limits::TRANSFER_DATA_MAX;
use crate::sgl;
use crate::status::Status;
use crate::wire::log::{FirmwareLog, LogFields, MANAGEMENT_EFFECTS_LEN, lid};
use crate::wire::put_text;
use crate::wire::sqe::Sqe;

/// Bytes of the Changed Attached Namespace List.
const CHANGED_LEN: usize = 4096;
/// Where the parts of the command are, for the error log.
mod at {
    pub(super) const NSID: u8 = 4;
    pub(super) const NUMDL: u8 = 42;
    pub(super) const LPOL: u8 = 48;
    pub(super) const OT: u8 = 58;
    pub(super) const CSI: u8 = 59;
}

/// Answers a Get Log Page.
pub(super) fn execute<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut AdminQueue,
    sqe: &Sqe,
) -> Result<AdminPlan, Status> {
    let fields = LogFields::of(sqe);
    if !log_effects::log_pages(queue.controller.is_discovery()).contains(&fields.lid) {
        return Err(Status::INVALID_LOG_PAGE);
    }
    // None of the pages here is kept per namespace.
    if !matches!(sqe.nsid.get(), 0 | u32::MAX) {
        return Err(Status::INVALID_FIELD.at(at::NSID));
    }
    if fields.lid == lid::PERSISTENT_EVENTS
        && let Some(plan) = log_events::act(cx, queue, sqe, &fields)?
    {
        return Ok(plan);
    }
    let len = requested_len(&fields)?;
    sgl::to_host(sqe, len)?;
    let page = page(cx, queue, &fields)?;
    let start = usize::try_from(fields.offset).ok().filter(|start| *start <= page.len());
    let start = if holdfast_mutant::active("log-offset") { Some(0) } else { start };
    let rest = start.and_then(|start| page.get(start..)).ok_or(Status::INVALID_FIELD.at(at::LPOL))?;
    let data = rest.get(..len).unwrap_or(rest).to_vec();
    if !fields.retain_event || holdfast_mutant::active("log-retain") {
        acknowledge(queue, fields.lid);
    }
    Ok(AdminPlan::Reply { data, len })
}

/// The length, if length and offset can be. What is asked for beyond the end of a page is zero.
pub(super) fn requested_len(fields: &LogFields) -> Result<usize, Status> {
    if fields.length > TRANSFER_DATA_MAX {
        return Err(Status::INVALID_FIELD.at(at::NUMDL));
    }
    if fields.index_offset {
        return Err(Status::INVALID_FIELD.at_bit(at::OT, 7));
    }
    if !fields.offset.is_multiple_of(4) {
        return Err(Status::INVALID_FIELD.at(at::LPOL));
    }
    usize::try_from(fields.length).map_err(|_| Status::INVALID_FIELD)
}

/// The whole page.
fn page<P: BlockPort>(
    cx: &Context<'_, P>,
    queue: &mut AdminQueue,
    fields: &LogFields,
) -> Result<Vec<u8>, Status> {
    match fields.lid {
        lid::SUPPORTED => Ok(log_effects::supported_page(queue.controller.is_discovery())),
        lid::ERROR => Ok(queue.controller.health.error_page()),
        lid::SMART => Ok(log_health::smart(cx, queue).as_bytes().to_vec()),
        lid::FIRMWARE_SLOT => {
            let mut page = FirmwareLog::new_zeroed();
            page.active_slot = 1;
            put_text(&mut page.slot_1, &cx.directory.config().firmware, b' ');
            Ok(page.as_bytes().to_vec())
        }
        lid::CHANGED_NAMESPACES => {
            let changed = queue.events.changed_namespaces().iter();
            let mut page: Vec<u8> = changed.flat_map(|nsid| nsid.to_le_bytes()).collect();
            page.resize(CHANGED_LEN, 0);
            Ok(page)
        }
        lid::EFFECTS if fields.command_set == 0 => Ok(log_effects::commands_page().as_bytes().to_vec()),
        lid::FEATURES if fields.command_set == 0 => Ok(log_effects::features_page()),
        lid::EFFECTS | lid::FEATURES => Err(Status::INVALID_FIELD.at(at::CSI)),
        // There is no management endpoint.
        lid::MANAGEMENT_COMMANDS => Ok(vec![0; MANAGEMENT_EFFECTS_LEN]),
        lid::PERSISTENT_EVENTS => log_events::page(cx, queue),
        lid::DISCOVERY => {
            let hostnqn = &queue.controller.association.hostnqn;
            let asker = Asker { hostnqn, local: queue.local, portal: queue.portal };
            Ok(discovery::log_page(cx.directory.config(), cx.exports, asker))
        }
        _ => Err(Status::INVALID_LOG_PAGE),
    }
}

/// The host has read a page: it may be told about the next change.
fn acknowledge(queue: &mut AdminQueue, page: u8) {
    match page {
        lid::SMART => queue.events.unmask(Event::Temperature),
        lid::CHANGED_NAMESPACES => {
            if !holdfast_mutant::active("log-changed") {
                queue.events.clear_changed_namespaces();
            }
            queue.events.unmask(Event::NamespaceAttribute);
        }
        lid::DISCOVERY => queue.events.unmask(Event::DiscoveryLog),
        _ => {}
    }
}
