//! Identify Namespace in its parts. NVM Command Set 1.1 §4.1.5.1 "NVM Command Set Identify Namespace Data Structure (CNS 00h)" and
//! §4.1.5.3 "I/O Command Set Specific Identify Namespace Data Structure (CNS 05h, CSI 00h)"; Base 2.1 §5.1.13.2.3 "Namespace
//! Identification Descriptor list (CNS 03h)" and §5.1.13.2.8 "I/O Command Set Independent Identify Namespace data structure (CNS 08h)".

use holdfast_block::{BlockPort, Namespace, View};
use holdfast_pi::GuardKind;
use zerocopy::FromZeros;

use super::identify_controller::blocks_zeroes_based;
use crate::connection::Context;
use crate::io::blocks_of;
use crate::limits::COPY_RANGES_MAX;
use crate::namespaces::visible_format;
use crate::wire::identify::CSI_NVM;
use crate::wire::namespace::{
    DLFEAT, DPC_LAST_BYTES, FLBAS_EXTENDED, IdentifyNamespace, IdentifyNamespaceIndependent,
    IdentifyNamespaceNvm, MC_EXTENDED, NMIC_SHARED, NSFEAT_ATOMICITY, NSFEAT_THIN, NSTAT_READY, PIC_EXTENDED,
    descriptor,
};

/// The namespace, as a view shows it. It has a single LBA format.
pub(super) fn namespace<P: BlockPort>(
    cx: &Context<'_, P>,
    view: View,
    namespace: &Namespace,
) -> IdentifyNamespace {
    let volume = &namespace.volume;
    let mut data = IdentifyNamespace::new_zeroed();
    data.size.set(volume.block_count);
    data.capacity.set(volume.block_count);
    data.utilization.set(cx.port.blocks_allocated(volume.id).unwrap_or(0).min(volume.block_count));
    data.features = NSFEAT_THIN | NSFEAT_ATOMICITY;
    data.atomic_write.set(blocks_zeroes_based(volume.block_len));
    data.atomic_compare_write.set(blocks_zeroes_based(volume.block_len));
    let copied = blocks_of(volume.block_len);
    data.copy_range_length.set(u16::try_from(copied).unwrap_or(u16::MAX));
    data.copy_length.set(copied);
    data.copy_ranges = u8::try_from(COPY_RANGES_MAX - 1).unwrap_or(u8::MAX);
    data.sharing = NMIC_SHARED;
    data.deallocate_features = DLFEAT;
    data.nguid = volume.nguid;
    data.format.data_size_shift = u8::try_from(volume.block_len.trailing_zeros()).unwrap_or(0);
    if let Some(format) = visible_format(view, volume) {
        let number = format.pi_type().number();
        data.formatted_size = FLBAS_EXTENDED;
        data.metadata_capabilities = MC_EXTENDED;
        data.protection_capabilities = DPC_LAST_BYTES | (1 << (number - 1));
        data.protection_type = if holdfast_mutant::active("identify-dps") { 1 } else { number };
        data.format.metadata_size.set(u16::try_from(format.tuple_len()).unwrap_or(0));
    }
    data
}

/// What the NVM command set adds: guard and storage tag.
pub(super) fn namespace_nvm(view: View, namespace: &Namespace) -> IdentifyNamespaceNvm {
    let mut data = IdentifyNamespaceNvm::new_zeroed();
    if let Some(format) = visible_format(view, &namespace.volume) {
        let (guard, capabilities) = match format.guard() {
            GuardKind::Crc16 => (0b00, 0),
            GuardKind::Crc32c => (0b01, PIC_EXTENDED),
            GuardKind::Crc64 => (0b10, PIC_EXTENDED),
        };
        data.protection_formats = capabilities;
        data.storage_tag_mask.set(format.storage_tag_mask());
        data.extended_format.set(u32::from(format.storage_tag_bits()) | (guard << 7));
    }
    data
}

/// What all command sets share.
pub(super) fn independent() -> IdentifyNamespaceIndependent {
    let mut data = IdentifyNamespaceIndependent::new_zeroed();
    data.sharing = NMIC_SHARED;
    data.status = NSTAT_READY;
    data
}

/// Namespace Identification Descriptors: type, length, two reserved bytes, value.
pub(super) fn descriptors(namespace: &Namespace) -> Vec<u8> {
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
