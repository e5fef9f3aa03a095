//! Controller properties over fabrics. Base 2.1 §3.1.4 "Controller Properties", §3.5 "Controller Initialization", §3.6
//! "Shutdown Processing".

use crate::admin::AdminQueue;
use crate::limits::{QUEUE_ENTRIES_MAX, READY_TIMEOUT};
use crate::status::Status;
use crate::wire::connect::{PropertyFields, property};

/// VS: 2.1.0.
const VERSION: u64 = 0x0002_0100;

/// CC.EN.
const CC_ENABLE: u32 = 1;
/// CC fields that have to be zero: CSS (NVM command set), MPS (4 KiB), AMS (round robin), CRIME.
const CC_UNSUPPORTED: u32 = (0b111 << 4) | (0b1111 << 7) | (0b111 << 11) | (1 << 24);
/// CC.SHN.
const CC_SHUTDOWN: u32 = 0b11 << 14;
/// CC.IOSQES and CC.IOCQES, which have to say 64 and 16 bytes.
const CC_ENTRY_SIZES: u32 = 0xff << 16;
const ENTRY_SIZES: u32 = (6 << 16) | (4 << 20);
/// CSTS.RDY, CSTS.CFS, CSTS.SHST: shutdown processing complete.
const CSTS_READY: u64 = 1;
const CSTS_FATAL: u64 = 1 << 1;
const CSTS_SHUTDOWN_COMPLETE: u64 = 0b10 << 2;

/// CAP: MQES, CQR, TO, CSS (NVM command set), CRMS.CRWMS.
fn capabilities() -> u64 {
    u64::from(QUEUE_ENTRIES_MAX - 1) | (1 << 16) | (u64::from(READY_TIMEOUT) << 24) | (1 << 37) | (1 << 59)
}

/// What the host has written.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    cc: u32,
    fatal: bool,
}

/// What a write to CC means for the rest of the controller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transition {
    None,
    /// EN went from 0 to 1, with settings that we can work with.
    Enabled,
    /// EN went from 1 to 0: Controller Level Reset.
    Reset,
}

/// Property Get. The size has to be the property's own.
pub(crate) fn get(queue: &AdminQueue, fields: &PropertyFields) -> Result<u64, Status> {
    let (size_code, value) = match fields.offset {
        property::CAP => (1, capabilities()),
        property::VS => (0, VERSION),
        property::CC => (0, u64::from(queue.properties.cc)),
        property::CSTS => (0, queue.properties.status(queue.controller.is_ready())),
        property::CRTO => (0, u64::from(READY_TIMEOUT)),
        _ => return Err(Status::INVALID_FIELD),
    };
    if size_code == fields.size_code { Ok(value) } else { Err(Status::INVALID_FIELD) }
}

impl Properties {
    /// Property Set. Only CC can be written.
    pub(crate) fn set(&mut self, fields: &PropertyFields, discovery: bool) -> Result<Transition, Status> {
        if fields.offset != property::CC || fields.size_code != 0 {
            return Err(Status::INVALID_FIELD);
        }
        let [a, b, c, d, ..] = fields.value.to_le_bytes();
        let before = std::mem::replace(&mut self.cc, u32::from_le_bytes([a, b, c, d]));
        let enabled = self.cc & CC_ENABLE != 0;
        match (before & CC_ENABLE != 0, enabled) {
            (false, true) => {
                // A discovery controller has no I/O queues whose entries could have sizes.
                let sizes_fit = discovery || self.cc & CC_ENTRY_SIZES == ENTRY_SIZES;
                self.fatal = self.cc & CC_UNSUPPORTED != 0 || !sizes_fit;
                Ok(if self.fatal { Transition::None } else { Transition::Enabled })
            }
            (true, false) => {
                self.fatal = false;
                Ok(Transition::Reset)
            }
            _ => Ok(Transition::None),
        }
    }

    /// CSTS. There is nothing to wait for: ready and shut down are immediate.
    fn status(&self, ready: bool) -> u64 {
        let mut status = 0;
        if ready {
            status |= CSTS_READY;
        }
        if self.fatal {
            status |= CSTS_FATAL;
        }
        if self.cc & CC_SHUTDOWN != 0 {
            status |= CSTS_SHUTDOWN_COMPLETE;
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(properties: &mut Properties, value: u64) -> Transition {
        let fields = PropertyFields { size_code: 0, offset: property::CC, value };
        properties.set(&fields, false).unwrap()
    }

    #[test]
    fn enabling_and_disabling_are_seen_as_edges() {
        let mut properties = Properties::default();
        assert_eq!(set(&mut properties, 0x0046_0001), Transition::Enabled);
        assert_eq!(set(&mut properties, 0x0046_0001), Transition::None);
        assert_eq!(set(&mut properties, 0x0046_4001), Transition::None);
        assert_eq!(properties.status(true), CSTS_READY | CSTS_SHUTDOWN_COMPLETE);
        assert_eq!(set(&mut properties, 0x0046_0000), Transition::Reset);
        assert_eq!(properties.status(false), 0);
    }

    #[test]
    fn settings_that_we_cannot_work_with_are_fatal() {
        for value in [0x0000_0001, 0x0046_0011, 0x0046_0081, 0x0046_0801] {
            let mut properties = Properties::default();
            assert_eq!(set(&mut properties, value), Transition::None);
            assert_eq!(properties.status(false), CSTS_FATAL);
            assert_eq!(set(&mut properties, 0), Transition::Reset);
        }
    }

    #[test]
    fn other_properties_cannot_be_written() {
        let fields = PropertyFields { size_code: 0, offset: property::CSTS, value: 0 };
        assert_eq!(Properties::default().set(&fields, false), Err(Status::INVALID_FIELD));
        let wide = PropertyFields { size_code: 1, offset: property::CC, value: 0 };
        assert_eq!(Properties::default().set(&wide, false), Err(Status::INVALID_FIELD));
    }
}
