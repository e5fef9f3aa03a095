//! What there is: log pages, commands, features. Base 2.1 §5.1.12.1.1 "Supported Log Pages (Log Page Identifier 00h)", §5.1.12.1.6
//! "Commands Supported and Effects (Log Page Identifier 05h)", §5.1.12.1.18 "Feature Identifiers Supported and Effects (Log Page
//! Identifier 12h)".

use zerocopy::FromZeros;

use super::features;
use super::opcode;
use crate::wire::log::{
    EFFECT_CONTENT_CHANGES, EFFECT_SCOPE_CONTROLLER, EFFECT_SCOPE_NAMESPACE, EFFECT_SUPPORTED, EffectsLog,
    IDENTIFIER_EFFECTS_LEN, LOG_CONTEXT_WITH_HEADER, LOG_SUPPORTED, lid,
};
use crate::wire::nvm::opcode as io_opcode;
use crate::wire::sqe::OPCODE_FABRICS;

/// The log pages of a controller.
pub(super) fn log_pages(discovery: bool) -> &'static [u8] {
    if discovery {
        &[lid::SUPPORTED, lid::ERROR, lid::DISCOVERY]
    } else {
        &[
            lid::SUPPORTED,
            lid::ERROR,
            lid::SMART,
            lid::FIRMWARE_SLOT,
            lid::CHANGED_NAMESPACES,
            lid::EFFECTS,
            lid::PERSISTENT_EVENTS,
            lid::FEATURES,
            lid::MANAGEMENT_COMMANDS,
        ]
    }
}

/// Supported Log Pages.
pub(super) fn supported_page(discovery: bool) -> Vec<u8> {
    let entries = log_pages(discovery).iter().map(|id| match *id {
        lid::PERSISTENT_EVENTS => (*id, LOG_SUPPORTED | LOG_CONTEXT_WITH_HEADER),
        _ => (*id, LOG_SUPPORTED),
    });
    by_identifier(entries)
}

/// Feature Identifiers Supported and Effects, of an I/O controller.
pub(super) fn features_page() -> Vec<u8> {
    by_identifier(features::IO_CONTROLLER.iter().map(|id| match features::is_per_namespace(*id) {
        true => (*id, EFFECT_SUPPORTED | EFFECT_SCOPE_NAMESPACE),
        false => (*id, EFFECT_SUPPORTED | EFFECT_SCOPE_CONTROLLER),
    }))
}

/// A dword for each of 256 identifiers.
fn by_identifier(entries: impl Iterator<Item = (u8, u32)>) -> Vec<u8> {
    let mut page = vec![0; IDENTIFIER_EFFECTS_LEN];
    for (id, flags) in entries {
        if let Some(room) = page.chunks_exact_mut(4).nth(usize::from(id)) {
            room.copy_from_slice(&flags.to_le_bytes());
        }
    }
    page
}

/// Commands Supported and Effects, of an I/O controller. I/O commands report no scope: Linux up to 6.12 calls that unusual, and
/// warns.
pub(super) fn commands_page() -> EffectsLog {
    let mut page = EffectsLog::new_zeroed();
    let admin = [
        opcode::GET_LOG_PAGE,
        opcode::IDENTIFY,
        opcode::ABORT,
        opcode::SET_FEATURES,
        opcode::GET_FEATURES,
        opcode::ASYNC_EVENT_REQUEST,
        opcode::KEEP_ALIVE,
        OPCODE_FABRICS,
    ];
    for code in admin {
        if let Some(entry) = page.admin.get_mut(usize::from(code)) {
            entry.set(EFFECT_SUPPORTED | EFFECT_SCOPE_CONTROLLER);
        }
    }
    let reads = [io_opcode::FLUSH, io_opcode::READ, io_opcode::COMPARE, io_opcode::VERIFY];
    let writes = [
        io_opcode::WRITE,
        io_opcode::WRITE_UNCORRECTABLE,
        io_opcode::WRITE_ZEROES,
        io_opcode::DATASET_MANAGEMENT,
        io_opcode::COPY,
    ];
    let reads = reads.into_iter().chain([OPCODE_FABRICS]).map(|code| (code, EFFECT_SUPPORTED));
    let writes = writes.into_iter().map(|code| (code, EFFECT_SUPPORTED | EFFECT_CONTENT_CHANGES));
    for (code, effect) in reads.chain(writes) {
        if let Some(entry) = page.io.get_mut(usize::from(code)) {
            entry.set(effect);
        }
    }
    page
}
