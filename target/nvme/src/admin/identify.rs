//! Identify. Base 2.1 §5.1.13 "Identify command"; NVM Command Set 1.1 §4.1.5 "Identify Command".

use holdfast_block::{BlockPort, Namespace, Session, Subsystem};
use holdfast_pi::GuardKind;
use zerocopy::{FromZeros, IntoBytes};

use super::{AdminPlan, AdminQueue};
use crate::connection::Context;
use crate::limits::{
    ABORTS_MAX, ASYNC_EVENTS_MAX, ERROR_LOG_ENTRIES, IN_CAPSULE_LEN, KEEP_ALIVE_GRANULARITY, NAMESPACES_MAX,
    QUEUE_ENTRIES_MAX, TRANSFER_SIZE_SHIFT,
};
use crate::namespaces::{access, visible_format};
use crate::sgl;
use crate::status::Status;
use crate::wire::identify::{
    CMIC_MULTIPLE_CONTROLLERS, CTRATT_ELBAS, CTRATT_HIDS, CTRATT_MEM, FRMW_ONE_SLOT, IDENTIFY_LEN,
    IdentifyController, IdentifyControllerNvm, LPA_EFFECTS, LPA_EXTENDED, OAES_DISCOVERY_LOG,
    OAES_NAMESPACE_ATTRIBUTE, OFCS_DISCONNECT, ONCS, SGLS, VWC_PRESENT, cns,
};
use crate::wire::namespace::{
    DLFEAT, DPC_LAST_BYTES, FLBAS_EXTENDED, IdentifyNamespace, IdentifyNamespaceIndependent,
    IdentifyNamespaceNvm, MC_EXTENDED, NMIC_SHARED, NSFEAT_THIN, descriptor,
};
use crate::wire::put_text;
use crate::wire::sqe::Sqe;

/// NVMe 2.1.0, as in the VS property.
pub(crate) const VERSION: u32 = 0x0002_0100;
/// CSI of the NVM command set.
const CSI_NVM: u8 = 0;
/// CNTRLTYPE.
const CONTROLLER_IO: u8 = 1;
const CONTROLLER_DISCOVERY: u8 = 2;
/// SQES, CQES: 64 and 16 bytes, minimum and maximum.
const SQES: u8 = 0x66;
const CQES: u8 = 0x44;

/// Answers an Identify.
pub(super) fn execute<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &AdminQueue,
    sqe: &Sqe,
) -> Result<AdminPlan, Status> {
    sgl::to_host(sqe, IDENTIFY_LEN)?;
    let [code, ..] = sqe.cdw10.to_bytes();
    let [.., csi] = sqe.cdw11.to_bytes();
    let data = match (queue.controller.session(), code) {
        (_, cns::CONTROLLER) => controller(cx, queue).as_bytes().to_vec(),
        (None, _) => return Err(Status::INVALID_FIELD),
        (Some(session), _) => {
            let (subsystem, _) = access(cx.exports, session).ok_or(Status::INTERNAL_ERROR)?;
            let asked = Asked { cx, session, subsystem, nsid: sqe.nsid.get() };
            asked.answer(code, csi)?
        }
    };
    Ok(AdminPlan::Reply { data, len: IDENTIFY_LEN })
}

/// Identify Controller.
fn controller<P: BlockPort>(cx: &Context<'_, P>, queue: &AdminQueue) -> IdentifyController {
    let config = cx.directory.config();
    let owner = &queue.controller.association;
    let discovery = queue.controller.is_discovery();
    let mut data = IdentifyController::new_zeroed();
    let number = owner.subsystem.as_ref().map_or(0, |(id, _)| id.get());
    let prefix: String = config.serial_prefix.chars().take(4).collect();
    put_text(&mut data.serial, &format!("{prefix}{number:016x}"), b' ');
    put_text(&mut data.model, &config.model, b' ');
    put_text(&mut data.firmware, &config.firmware, b' ');
    data.mdts = TRANSFER_SIZE_SHIFT;
    data.cntlid.set(queue.controller.cntlid);
    data.version.set(VERSION);
    data.ctratt.set(CTRATT_HIDS | if discovery { 0 } else { CTRATT_ELBAS | CTRATT_MEM });
    data.async_event_limit = zeroes_based(ASYNC_EVENTS_MAX);
    data.firmware_updates = FRMW_ONE_SLOT;
    data.error_log_entries = ERROR_LOG_ENTRIES - 1;
    data.keep_alive_support.set(KEEP_ALIVE_GRANULARITY);
    data.maxcmd.set(QUEUE_ENTRIES_MAX);
    data.sgls.set(SGLS);
    put_text(&mut data.subnqn, &owner.subnqn, 0);
    let capsule_len = u32::try_from(64 + IN_CAPSULE_LEN).unwrap_or(u32::MAX);
    data.ioccsz.set(capsule_len / 16);
    data.iorcsz.set(1);
    data.msdbd = 1;
    if discovery {
        data.controller_type = CONTROLLER_DISCOVERY;
        data.oaes.set(OAES_DISCOVERY_LOG);
        data.log_attributes = LPA_EXTENDED;
        return data;
    }
    data.controller_type = CONTROLLER_IO;
    data.cmic = CMIC_MULTIPLE_CONTROLLERS;
    data.oaes.set(OAES_NAMESPACE_ATTRIBUTE);
    data.abort_limit = ABORTS_MAX - 1;
    data.log_attributes = LPA_EFFECTS | LPA_EXTENDED;
    data.sqes = SQES;
    data.cqes = CQES;
    data.namespaces.set(NAMESPACES_MAX);
    data.namespaces_allowed.set(NAMESPACES_MAX);
    data.oncs.set(ONCS);
    data.volatile_write_cache = VWC_PRESENT;
    data.ofcs.set(OFCS_DISCONNECT);
    data
}

/// What an Identify asks about.
struct Asked<'a, 'c, P: BlockPort> {
    cx: &'a Context<'c, P>,
    session: &'a Session,
    subsystem: &'a Subsystem,
    nsid: u32,
}

impl<P: BlockPort> Asked<'_, '_, P> {
    fn answer(&self, code: u8, csi: u8) -> Result<Vec<u8>, Status> {
        match code {
            cns::NAMESPACE => {
                Ok(self.found()?.map_or(Vec::new(), |ns| self.namespace(ns).as_bytes().to_vec()))
            }
            cns::ACTIVE_NAMESPACES => self.active(),
            cns::DESCRIPTORS => self.found()?.map(descriptors).ok_or(Status::INVALID_NAMESPACE),
            cns::NAMESPACE_OF_COMMAND_SET if csi == CSI_NVM => {
                Ok(self.found()?.map_or(Vec::new(), |ns| self.namespace_nvm(ns).as_bytes().to_vec()))
            }
            cns::CONTROLLER_OF_COMMAND_SET if csi == CSI_NVM => {
                let mut data = IdentifyControllerNvm::new_zeroed();
                data.verify_size_limit = TRANSFER_SIZE_SHIFT;
                data.write_zeroes_size_limit = TRANSFER_SIZE_SHIFT;
                Ok(data.as_bytes().to_vec())
            }
            cns::ACTIVE_NAMESPACES_OF_COMMAND_SET if csi == CSI_NVM => self.active(),
            cns::INDEPENDENT_NAMESPACE => {
                let mut data = IdentifyNamespaceIndependent::new_zeroed();
                data.sharing = NMIC_SHARED;
                data.status = 1;
                Ok(self.found()?.map_or(Vec::new(), |_| data.as_bytes().to_vec()))
            }
            _ => Err(Status::INVALID_FIELD),
        }
    }

    /// The namespace that is asked about; `None` if it is inactive, an error if there can be none.
    fn found(&self) -> Result<Option<&Namespace>, Status> {
        if self.nsid == 0 || self.nsid > NAMESPACES_MAX {
            return Err(Status::INVALID_NAMESPACE);
        }
        Ok(self.subsystem.namespaces.get(&self.nsid))
    }

    /// The active NSIDs above the one given, in order.
    fn active(&self) -> Result<Vec<u8>, Status> {
        let above = self.nsid.checked_add(1).filter(|above| *above != u32::MAX);
        let above = above.ok_or(Status::INVALID_NAMESPACE)?;
        let nsids = self.subsystem.namespaces.range(above..).map(|(nsid, _)| *nsid);
        Ok(nsids.take(IDENTIFY_LEN / 4).flat_map(u32::to_le_bytes).collect())
    }

    fn namespace(&self, namespace: &Namespace) -> IdentifyNamespace {
        let volume = &namespace.volume;
        let mut data = IdentifyNamespace::new_zeroed();
        data.size.set(volume.block_count);
        data.capacity.set(volume.block_count);
        data.utilization.set(self.cx.port.blocks_allocated(volume.id).unwrap_or(0).min(volume.block_count));
        data.features = NSFEAT_THIN;
        data.sharing = NMIC_SHARED;
        data.deallocate_features = DLFEAT;
        data.nguid = volume.nguid;
        data.format.data_size_shift = u8::try_from(volume.block_len.trailing_zeros()).unwrap_or(0);
        if let Some(format) = visible_format(self.session.view, volume) {
            let number = format.pi_type().number();
            data.formatted_size = FLBAS_EXTENDED;
            data.metadata_capabilities = MC_EXTENDED;
            data.protection_capabilities = DPC_LAST_BYTES | (1 << (number - 1));
            data.protection_type = number;
            data.format.metadata_size.set(u16::try_from(format.tuple_len()).unwrap_or(0));
        }
        data
    }

    fn namespace_nvm(&self, namespace: &Namespace) -> IdentifyNamespaceNvm {
        let mut data = IdentifyNamespaceNvm::new_zeroed();
        if let Some(format) = visible_format(self.session.view, &namespace.volume) {
            let guard = match format.guard() {
                GuardKind::Crc16 => 0b00,
                GuardKind::Crc32c => 0b01,
                GuardKind::Crc64 => 0b10,
            };
            data.storage_tag_mask.set(format.storage_tag_mask());
            data.extended_format.set(u32::from(format.storage_tag_bits()) | (guard << 7));
        }
        data
    }
}

/// Namespace Identification Descriptors: type, length, two reserved bytes, value.
fn descriptors(namespace: &Namespace) -> Vec<u8> {
    let mut list = Vec::with_capacity(64);
    let mut put = |kind: u8, value: &[u8]| {
        list.extend_from_slice(&[kind, u8::try_from(value.len()).unwrap_or(0), 0, 0]);
        list.extend_from_slice(value);
    };
    put(descriptor::NGUID, &namespace.volume.nguid);
    put(descriptor::UUID, &namespace.volume.uuid);
    put(descriptor::CSI, &[CSI_NVM]);
    list
}

fn zeroes_based(count: usize) -> u8 {
    u8::try_from(count.saturating_sub(1)).unwrap_or(u8::MAX)
}
