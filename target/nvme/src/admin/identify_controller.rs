//! Identify Controller. Base 2.1 §5.1.13.2.1 "Identify Controller Data Structure (CNS 01h)"; NVM Command Set 1.1 §4.1.5.4 "I/O Command
//! Set Specific Identify Controller Data Structure (CNS 06h, CSI 00h)".

use holdfast_block::BlockPort;
use zerocopy::FromZeros;

use super::AdminQueue;
use crate::connection::Context;
use crate::io::blocks_of;
use crate::limits::{
    ABORTS_MAX, ASYNC_EVENTS_MAX, BLOCK_LEN_MAX, ERROR_LOG_ENTRIES, EVENT_LOG_UNITS, IN_CAPSULE_LEN,
    KEEP_ALIVE_GRANULARITY, NAMESPACES_MAX, QUEUE_ENTRIES_MAX, TRANSFER_SIZE_SHIFT,
};
use crate::wire::identify::{
    CMIC_MULTIPLE_CONTROLLERS, CMIC_MULTIPLE_PORTS, COPY_FORMATS, CTRATT_ELBAS, CTRATT_HIDS, CTRATT_MEM,
    FRMW_ONE_SLOT, FUSES_COMPARE_WRITE, IdentifyController, IdentifyControllerNvm, LPA_EFFECTS, LPA_EXTENDED,
    LPA_PERSISTENT_EVENTS, LPA_SUPPORTED_PAGES, NVMSR_STORAGE_DEVICE, OAES_DISCOVERY_LOG,
    OAES_NAMESPACE_ATTRIBUTE, OFCS_DISCONNECT, ONCS, SGLS, VWC_PRESENT,
};
use crate::wire::put_text;

/// NVMe 2.1.0, as in the VS property.
const VERSION: u32 = 0x0002_0100;
/// CNTRLTYPE.
const CONTROLLER_IO: u8 = 1;
const CONTROLLER_DISCOVERY: u8 = 2;
/// SQES, CQES: 64 and 16 bytes, minimum and maximum.
const SQES: u8 = 0x66;
const CQES: u8 = 0x44;

/// The controller's data structure.
pub(super) fn controller<P: BlockPort>(cx: &Context<'_, P>, queue: &AdminQueue) -> IdentifyController {
    let config = cx.directory.config();
    let owner = &queue.controller.association;
    let mut data = IdentifyController::new_zeroed();
    put_text(&mut data.serial, &serial(cx, queue), b' ');
    put_text(&mut data.model, &config.model, b' ');
    put_text(&mut data.firmware, &config.firmware, b' ');
    data.mdts = TRANSFER_SIZE_SHIFT;
    data.cntlid.set(queue.controller.cntlid);
    data.version.set(VERSION);
    data.async_event_limit = zeroes_based(ASYNC_EVENTS_MAX);
    data.error_log_entries = ERROR_LOG_ENTRIES - 1;
    data.keep_alive_support.set(KEEP_ALIVE_GRANULARITY);
    data.maxcmd.set(QUEUE_ENTRIES_MAX);
    data.sgls.set(SGLS);
    put_text(&mut data.subnqn, &owner.subnqn, 0);
    if queue.controller.is_discovery() {
        data.controller_type = CONTROLLER_DISCOVERY;
        data.ctratt.set(CTRATT_HIDS);
        data.oaes.set(OAES_DISCOVERY_LOG);
        data.log_attributes = LPA_EXTENDED;
        return data;
    }
    data.controller_type = CONTROLLER_IO;
    data.cmic = CMIC_MULTIPLE_CONTROLLERS | if config.portals.len() > 1 { CMIC_MULTIPLE_PORTS } else { 0 };
    data.ctratt.set(CTRATT_HIDS | CTRATT_ELBAS | CTRATT_MEM);
    data.oaes.set(OAES_NAMESPACE_ATTRIBUTE);
    data.subsystem_report = NVMSR_STORAGE_DEVICE;
    data.abort_limit = ABORTS_MAX - 1;
    data.firmware_updates = FRMW_ONE_SLOT;
    data.log_attributes = LPA_EFFECTS | LPA_EXTENDED | LPA_PERSISTENT_EVENTS | LPA_SUPPORTED_PAGES;
    data.persistent_event_log_units.set(EVENT_LOG_UNITS);
    data.sqes = SQES;
    data.cqes = CQES;
    data.namespaces.set(NAMESPACES_MAX);
    data.namespaces_allowed.set(NAMESPACES_MAX);
    data.oncs.set(ONCS);
    data.volatile_write_cache = VWC_PRESENT;
    let capsule_len = u32::try_from(64 + IN_CAPSULE_LEN).unwrap_or(u32::MAX);
    data.ioccsz.set(capsule_len / 16);
    data.iorcsz.set(1);
    data.msdbd = 1;
    data.fused.set(FUSES_COMPARE_WRITE);
    data.copy_formats.set(COPY_FORMATS);
    // Of the namespaces with the longest blocks. A kill may come between any two blocks, so that AWUPF is one block.
    data.atomic_write.set(blocks_zeroes_based(BLOCK_LEN_MAX));
    data.atomic_compare_write.set(blocks_zeroes_based(BLOCK_LEN_MAX));
    data.ofcs.set(OFCS_DISCONNECT);
    data
}

/// The serial number of a subsystem.
pub(super) fn serial<P: BlockPort>(cx: &Context<'_, P>, queue: &AdminQueue) -> String {
    let number = queue.controller.association.subsystem.as_ref().map_or(0, |(id, _)| id.get());
    let prefix: String = cx.directory.config().serial_prefix.chars().take(4).collect();
    format!("{prefix}{number:016x}")
}

/// What the NVM command set adds.
pub(super) fn controller_nvm() -> IdentifyControllerNvm {
    let mut data = IdentifyControllerNvm::new_zeroed();
    data.verify_size_limit = TRANSFER_SIZE_SHIFT;
    data.write_zeroes_size_limit = TRANSFER_SIZE_SHIFT;
    data.write_uncorrectable_size_limit = TRANSFER_SIZE_SHIFT;
    data
}

/// Blocks of the longest transfer, as a zeroes based value.
pub(super) fn blocks_zeroes_based(block_len: usize) -> u16 {
    u16::try_from(blocks_of(block_len).saturating_sub(1)).unwrap_or(u16::MAX)
}

fn zeroes_based(count: usize) -> u8 {
    u8::try_from(count.saturating_sub(1)).unwrap_or(u8::MAX)
}
