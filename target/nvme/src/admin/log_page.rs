//! Log pages. Base 2.1 §5.1.12 "Get Log Page command".

use holdfast_block::BlockPort;
use zerocopy::{FromZeros, IntoBytes};

use super::events::Event;
use super::{AdminPlan, AdminQueue, opcode};
use crate::connection::Context;
use crate::discovery::{self, Asker};
use crate::limits::{ERROR_LOG_ENTRIES, TRANSFER_DATA_MAX};
use crate::sgl;
use crate::status::Status;
use crate::wire::log::{
    EFFECT_CONTENT_CHANGES, EFFECT_SUPPORTED, ERROR_ENTRY_LEN, EffectsLog, FirmwareLog, LogFields, SmartLog,
    lid,
};
use crate::wire::nvm::opcode as io_opcode;
use crate::wire::put_text;
use crate::wire::sqe::Sqe;

/// Bytes of the Supported Log Pages log page.
const SUPPORTED_LEN: usize = 1024;
/// Bytes of the Changed Attached Namespace List.
const CHANGED_LEN: usize = 4096;
/// LSUPP: the log page is supported.
const LOG_SUPPORTED: u8 = 1;
/// Opcode of Fabrics commands, for the effects page.
const FABRICS: u8 = crate::wire::sqe::OPCODE_FABRICS;

/// Answers a Get Log Page.
pub(super) fn execute<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &mut AdminQueue,
    sqe: &Sqe,
) -> Result<AdminPlan, Status> {
    let fields = LogFields::of(sqe);
    if !supported(queue.controller.is_discovery()).contains(&fields.lid) {
        return Err(Status::INVALID_LOG_PAGE);
    }
    if fields.length > TRANSFER_DATA_MAX || fields.index_offset || !fields.offset.is_multiple_of(4) {
        return Err(Status::INVALID_FIELD);
    }
    let len = usize::try_from(fields.length).map_err(|_| Status::INVALID_FIELD)?;
    sgl::to_host(sqe, len)?;
    let page = page(cx, queue, &fields)?;
    let start = usize::try_from(fields.offset).ok().filter(|start| *start <= page.len());
    let rest = start.and_then(|start| page.get(start..)).ok_or(Status::INVALID_FIELD)?;
    let data = rest.get(..len).unwrap_or(rest).to_vec();
    if !fields.retain_event {
        acknowledge(queue, fields.lid);
    }
    Ok(AdminPlan::Reply { data, len })
}

fn supported(discovery: bool) -> &'static [u8] {
    if discovery {
        &[lid::SUPPORTED, lid::ERROR, lid::DISCOVERY]
    } else {
        &[lid::SUPPORTED, lid::ERROR, lid::SMART, lid::FIRMWARE_SLOT, lid::CHANGED_NAMESPACES, lid::EFFECTS]
    }
}

/// The whole page.
fn page<P: BlockPort>(
    cx: &Context<'_, P>,
    queue: &AdminQueue,
    fields: &LogFields,
) -> Result<Vec<u8>, Status> {
    match fields.lid {
        lid::SUPPORTED => {
            let mut page = vec![0; SUPPORTED_LEN];
            for id in supported(queue.controller.is_discovery()) {
                if let Some(flags) = page.get_mut(usize::from(*id) * 4) {
                    *flags = LOG_SUPPORTED;
                }
            }
            Ok(page)
        }
        lid::ERROR => Ok(vec![0; usize::from(ERROR_LOG_ENTRIES) * ERROR_ENTRY_LEN]),
        lid::SMART => {
            let mut page = SmartLog::new_zeroed();
            page.available_spare_percent = 100;
            page.spare_threshold_percent = 10;
            Ok(page.as_bytes().to_vec())
        }
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
        lid::EFFECTS if fields.command_set == 0 => Ok(effects().as_bytes().to_vec()),
        lid::DISCOVERY => {
            let hostnqn = &queue.controller.association.hostnqn;
            let asker = Asker { hostnqn, local: queue.local, portal: queue.portal };
            Ok(discovery::log_page(cx.directory.config(), cx.exports, asker))
        }
        _ => Err(Status::INVALID_FIELD),
    }
}

/// The host has read a page: it may be told about the next change.
fn acknowledge(queue: &mut AdminQueue, page: u8) {
    match page {
        lid::CHANGED_NAMESPACES => {
            queue.events.clear_changed_namespaces();
            queue.events.unmask(Event::NamespaceAttribute);
        }
        lid::DISCOVERY => queue.events.unmask(Event::DiscoveryLog),
        _ => {}
    }
}

fn effects() -> EffectsLog {
    let mut page = EffectsLog::new_zeroed();
    let admin = [
        opcode::GET_LOG_PAGE,
        opcode::IDENTIFY,
        opcode::ABORT,
        opcode::SET_FEATURES,
        opcode::GET_FEATURES,
        opcode::ASYNC_EVENT_REQUEST,
        opcode::KEEP_ALIVE,
        FABRICS,
    ];
    for code in admin {
        if let Some(entry) = page.admin.get_mut(usize::from(code)) {
            entry.set(EFFECT_SUPPORTED);
        }
    }
    let reads = [io_opcode::FLUSH, io_opcode::READ, io_opcode::COMPARE, io_opcode::VERIFY, FABRICS];
    let writes = [io_opcode::WRITE, io_opcode::WRITE_ZEROES, io_opcode::DATASET_MANAGEMENT];
    let reads = reads.into_iter().map(|code| (code, EFFECT_SUPPORTED));
    let writes = writes.into_iter().map(|code| (code, EFFECT_SUPPORTED | EFFECT_CONTENT_CHANGES));
    for (code, effect) in reads.chain(writes) {
        if let Some(entry) = page.io.get_mut(usize::from(code)) {
            entry.set(effect);
        }
    }
    page
}
