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
/// CC fields that have to be zero: CSS (NVM command set), MPS (4 KiB), AMS (round robin).
const CC_UNSUPPORTED: u32 = (0b111 << 4) | (0b1111 << 7) | (0b111 << 11);
/// CC.SHN.
const CC_SHUTDOWN: u32 = 0b11 << 14;
/// CC.SHN values that start a shutdown: normal, abrupt.
const SHUTDOWN_NORMAL: u32 = 0b01 << 14;
const SHUTDOWN_ABRUPT: u32 = 0b10 << 14;
/// CC.IOSQES and CC.IOCQES, which have to say 64 and 16 bytes.
const CC_ENTRY_SIZES: u32 = 0xff << 16;
const ENTRY_SIZES: u32 = (6 << 16) | (4 << 20);
/// All of CC that can be written: CRIME is read-only where CAP.CRMS has only one mode, the rest is reserved.
const CC_WRITABLE: u32 = CC_ENABLE | CC_UNSUPPORTED | CC_SHUTDOWN | CC_ENTRY_SIZES;
/// CSTS.RDY, CSTS.CFS, CSTS.SHST: shutdown processing in progress, complete.
const CSTS_READY: u64 = 1;
const CSTS_FATAL: u64 = 1 << 1;
const CSTS_SHUTDOWN_BUSY: u64 = 0b01 << 2;
const CSTS_SHUTDOWN_COMPLETE: u64 = 0b10 << 2;

/// CAP: MQES, CQR, TO, CSS (NVM command set), CRMS.CRWMS.
fn capabilities() -> u64 {
    u64::from(QUEUE_ENTRIES_MAX - 1) | (1 << 16) | (u64::from(READY_TIMEOUT) << 24) | (1 << 37) | (1 << 59)
}

/// What the host has written, and what came of it.
#[derive(Debug, Default)]
pub(crate) struct Properties {
    cc: u32,
    fatal: bool,
    shutdown: Shutdown,
}

/// CSTS.SHST. §3.6.2 "Message-based Controller Shutdown".
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Shutdown {
    #[default]
    None,
    Busy,
    Complete,
}

/// What a write to CC means for the rest of the controller; to be done in this order.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Effects {
    /// EN went from 1 to 0: Controller Level Reset.
    pub(crate) reset: bool,
    /// EN went from 0 to 1, with settings that we can work with.
    pub(crate) enable: bool,
    /// A shutdown begins. [`Properties::shut_down`] ends it.
    pub(crate) shut_down: bool,
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
    let fits = size_code == fields.size_code || holdfast_mutant::active("property-size");
    if fits { Ok(value) } else { Err(Status::INVALID_FIELD) }
}

impl Properties {
    /// Property Set. Only CC can be written.
    pub(crate) fn set(&mut self, fields: &PropertyFields) -> Result<Effects, Status> {
        if fields.offset != property::CC || fields.size_code != 0 {
            return Err(Status::INVALID_FIELD);
        }
        let [a, b, c, d, ..] = fields.value.to_le_bytes();
        let cc = u32::from_le_bytes([a, b, c, d]) & CC_WRITABLE;
        let before = std::mem::replace(&mut self.cc, cc);
        let shut_down = matches!(cc & CC_SHUTDOWN, SHUTDOWN_NORMAL | SHUTDOWN_ABRUPT);
        let mut effects = Effects::default();
        match (before & CC_ENABLE != 0, cc & CC_ENABLE != 0) {
            (false, true) => {
                self.fatal = cc & CC_UNSUPPORTED != 0;
                effects.enable = !self.fatal;
                if !shut_down {
                    self.shutdown = Shutdown::None;
                }
            }
            (true, false) => {
                self.fatal = false;
                self.shutdown = Shutdown::None;
                effects.reset = true;
            }
            _ => {}
        }
        // Once begun, a shutdown is over only with a reset, not with SHN.
        if shut_down && self.shutdown == Shutdown::None {
            self.shutdown = Shutdown::Busy;
            effects.shut_down = true;
        }
        Ok(effects)
    }

    /// The shutdown that was begun is complete, unless a reset has ended it.
    pub(crate) fn shut_down(&mut self) {
        if self.shutdown == Shutdown::Busy && !holdfast_mutant::active("shutdown-endless") {
            self.shutdown = Shutdown::Complete;
        }
    }

    /// Whether CC asks for queue entries of the sizes that there are. It need not do so before there are I/O queues.
    pub(crate) fn entry_sizes_fit(&self) -> bool {
        self.cc & CC_ENTRY_SIZES == ENTRY_SIZES
    }

    /// CSTS. Ready is immediate.
    fn status(&self, ready: bool) -> u64 {
        let mut status = match self.shutdown {
            Shutdown::None => 0,
            Shutdown::Busy => CSTS_SHUTDOWN_BUSY,
            Shutdown::Complete => CSTS_SHUTDOWN_COMPLETE,
        };
        if ready {
            status |= CSTS_READY;
        }
        if self.fatal {
            status |= CSTS_FATAL;
        }
        status
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Effects = Effects { reset: false, enable: false, shut_down: false };

    fn set(properties: &mut Properties, value: u64) -> Effects {
        let fields = PropertyFields { size_code: 0, offset: property::CC, value };
        properties.set(&fields).unwrap()
    }

    #[test]
    fn enabling_and_disabling_are_seen_as_edges() {
        let mut properties = Properties::default();
        assert_eq!(set(&mut properties, 0x0046_0001), Effects { enable: true, ..NOTHING });
        assert_eq!(set(&mut properties, 0x0046_0001), NOTHING);
        assert_eq!(set(&mut properties, 0x0046_0000), Effects { reset: true, ..NOTHING });
        assert_eq!(properties.status(false), 0);
    }

    #[test]
    fn a_shutdown_lasts_until_a_reset() {
        let mut properties = Properties::default();
        set(&mut properties, 0x0046_0001);
        assert_eq!(set(&mut properties, 0x0046_4001), Effects { shut_down: true, ..NOTHING });
        assert_eq!(properties.status(true), CSTS_READY | CSTS_SHUTDOWN_BUSY);
        properties.shut_down();
        assert_eq!(set(&mut properties, 0x0046_0001), NOTHING);
        assert_eq!(set(&mut properties, 0x0046_8001), NOTHING);
        assert_eq!(properties.status(true), CSTS_READY | CSTS_SHUTDOWN_COMPLETE);
        set(&mut properties, 0x0046_0000);
        properties.shut_down();
        assert_eq!(properties.status(false), 0);
    }

    #[test]
    fn reset_and_shutdown_may_come_in_one_write() {
        let mut properties = Properties::default();
        set(&mut properties, 0x0046_0001);
        assert_eq!(set(&mut properties, 0x4000), Effects { reset: true, shut_down: true, enable: false });
        properties.shut_down();
        assert_eq!(properties.status(false), CSTS_SHUTDOWN_COMPLETE);
        assert_eq!(set(&mut properties, 0x0046_0001), Effects { enable: true, ..NOTHING });
        assert_eq!(properties.status(true), CSTS_READY);
    }

    #[test]
    fn the_reserved_shutdown_notification_does_nothing() {
        let mut properties = Properties::default();
        assert_eq!(set(&mut properties, 0xc000), NOTHING);
    }

    #[test]
    fn settings_that_we_cannot_work_with_are_fatal() {
        for value in [0x0046_0011, 0x0046_0081, 0x0046_0801] {
            let mut properties = Properties::default();
            assert_eq!(set(&mut properties, value), NOTHING);
            assert_eq!(properties.status(false), CSTS_FATAL);
            assert_eq!(set(&mut properties, 0), Effects { reset: true, ..NOTHING });
            assert_eq!(properties.status(false), 0);
        }
    }

    #[test]
    fn reserved_and_read_only_bits_of_cc_are_not_kept() {
        let mut properties = Properties::default();
        set(&mut properties, 0xff46_000e);
        assert_eq!(properties.cc, 0x0046_0000);
    }

    #[test]
    fn entry_sizes_are_asked_for_by_io_queues_only() {
        let mut properties = Properties::default();
        assert_eq!(set(&mut properties, 1), Effects { enable: true, ..NOTHING });
        assert!(!properties.entry_sizes_fit());
        set(&mut properties, 0x0046_0001);
        assert!(properties.entry_sizes_fit());
    }

    #[test]
    fn other_properties_cannot_be_written() {
        let fields = PropertyFields { size_code: 0, offset: property::CSTS, value: 0 };
        assert_eq!(Properties::default().set(&fields), Err(Status::INVALID_FIELD));
        let wide = PropertyFields { size_code: 1, offset: property::CC, value: 0 };
        assert_eq!(Properties::default().set(&wide), Err(Status::INVALID_FIELD));
    }
}
