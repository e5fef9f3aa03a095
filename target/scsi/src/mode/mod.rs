//! Mode parameters. SPC-4 §7.5 "Mode parameters", SBC-4 §6.5 "Mode parameters for direct access block devices".
//!
//! All nexuses of a logical unit share one set, which nothing keeps over a restart.

mod pages;
mod select;
mod sense;

pub(crate) use select::select;
pub(crate) use sense::{Asked, sense};

use holdfast_block::Lba;

use crate::protect::AppTagRange;

/// What MODE SELECT can change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ModeValues {
    /// WCE: a write may be acknowledged before it is durable.
    pub(crate) write_cache: bool,
    /// D_SENSE: sense data in descriptor format.
    pub(crate) descriptor_sense: bool,
    /// SWP: nothing is written.
    pub(crate) write_protect: bool,
    /// ATO: application tags are the initiators'.
    pub(crate) app_tag_owner: bool,
    /// TAS: whose tasks are aborted by others is told so for each.
    pub(crate) task_aborted_status: bool,
    /// ATMPE: the application tag mode page says what application tags are to be.
    pub(crate) app_tag_page: bool,
    /// The application tag mode page; descriptors without blocks are not in use.
    pub(crate) app_tags: [AppTagRange; APP_TAG_RANGES],
}

impl Default for ModeValues {
    fn default() -> Self {
        ModeValues {
            write_cache: true,
            descriptor_sense: false,
            write_protect: false,
            app_tag_owner: true,
            task_aborted_status: false,
            app_tag_page: false,
            app_tags: [NO_RANGE; APP_TAG_RANGES],
        }
    }
}

/// Descriptors of the application tag mode page. SBC-4 §6.5.3 "Application Tag mode page".
pub(crate) const APP_TAG_RANGES: usize = 4;

/// A descriptor that is not in use.
const NO_RANGE: AppTagRange = AppTagRange { app_tag: 0, lba: Lba(0), blocks: 0 };

impl ModeValues {
    /// The application tag mode page, while it counts.
    pub(crate) fn known_app_tags(&self) -> Option<&[AppTagRange]> {
        self.app_tag_page.then_some(&self.app_tags)
    }
}

/// Page codes and subpage codes.
pub(crate) mod code {
    pub(crate) const ERROR_RECOVERY: (u8, u8) = (0x01, 0);
    pub(crate) const CACHING: (u8, u8) = (0x08, 0);
    pub(crate) const CONTROL: (u8, u8) = (0x0a, 0);
    pub(crate) const CONTROL_EXTENSION: (u8, u8) = (0x0a, 0x01);
    pub(crate) const APPLICATION_TAG: (u8, u8) = (0x0a, 0x02);
    pub(crate) const EXCEPTIONS: (u8, u8) = (0x1c, 0);
    pub(crate) const POWER: (u8, u8) = (0x1a, 0);
    pub(crate) const ALL_PAGES: u8 = 0x3f;
    pub(crate) const ALL_SUBPAGES: u8 = 0xff;
}

#[cfg(test)]
mod tests;
