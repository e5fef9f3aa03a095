//! Reservations: PERSISTENT RESERVE IN and OUT, RESERVE and RELEASE (6). SPC-4 §5.13 "Reservations", §6.15 "PERSISTENT RESERVE
//! IN command", §6.16 "PERSISTENT RESERVE OUT command"; SPC-2 §7.18 and §7.21.
//!
//! What becomes of a request is decided in `holdfast_block::reservations`, for all protocols.
//!
//! | file | what it decides |
//! |---|---|
//! | `list` | what a PERSISTENT RESERVE OUT asks for |
//! | `report` | what PERSISTENT RESERVE IN shows |
//! | `transport_id` | initiator ports in bytes |
//! | `conflicts` | what each command is to a reservation of others |

mod conflicts;
mod list;
mod report;
mod transport_id;

#[cfg(test)]
mod tests;

pub(crate) use conflicts::access;
pub(crate) use list::Asked;

use holdfast_block::reservations::{Access, Effects, Field, Nexus as PortPair, Refusal, Request};
use holdfast_block::{BlockError, BlockPort};

use crate::cdb::Cdb;
use crate::context::Context;
use crate::nexus::Nexus;
use crate::sense::{Ending, Sense, SenseKey};
use crate::task::{List, Progress, Task};
use list::LIST_LEN;

/// INVALID RELEASE OF PERSISTENT RESERVATION.
const INVALID_RELEASE: Sense = Sense::new(SenseKey::IllegalRequest, 0x26, 0x04);
/// INSUFFICIENT REGISTRATION RESOURCES.
const NO_ROOM: Sense = Sense::new(SenseKey::IllegalRequest, 0x55, 0x04);

impl Nexus {
    /// What a reservation of others makes of a command, if it refuses it.
    pub(crate) fn conflict<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        lun: u16,
        cdb: &Cdb,
    ) -> Option<BlockError> {
        let access = access(cdb);
        if access == Access::Always {
            return None;
        }
        // A volume that is not there has no reservations; its commands fail for that.
        let attachment = self.attached(cx.port, lun).ok()?;
        cx.port.standing(attachment).check(access).err()
    }

    /// PERSISTENT RESERVE IN.
    pub(crate) fn reserve_in<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        action: u16,
        allocation_len: u16,
    ) -> Result<Progress, Sense> {
        let attachment = self.attached(cx.port, task.unit())?;
        let state = cx.port.reservation_report(attachment).ok_or(Sense::NOT_READY)?;
        let shown = match state.report() {
            Ok(shown) => shown,
            Err(refusal) => return Ok(task.end(ending(refusal, &[]))),
        };
        let out = task.buffer_mut();
        match action {
            0 => report::put_keys(shown, out),
            1 => report::put_reservation(shown, out),
            2 => report::put_capabilities(shown, out),
            _ => report::put_full_status(shown, out),
        }
        Ok(task.reply(allocation_len.into()))
    }

    /// PERSISTENT RESERVE OUT, whose parameter list is still to come.
    pub(crate) fn reserve_out<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        cdb: (u16, u8, u8),
        list_len: u32,
    ) -> Result<Progress, Sense> {
        let asked = Asked::read(cdb, list_len)?;
        let list_len = usize::try_from(list_len).map_err(|_| Sense::PARAMETER_LIST_LENGTH)?;
        Ok(task.collect(cx, self, List::Reserve(asked), list_len))
    }

    /// Its parameter list has come.
    pub(crate) fn reserve_asked<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        asked: Asked,
        bytes: &[u8],
    ) -> Result<Progress, Sense> {
        let PortPair::Scsi { target, .. } = self.session().nexus else { return Err(Sense::INTERNAL) };
        let known = |name: &str| cx.units.ports_named(target, name);
        let list = asked.list(bytes, target, &known)?;
        for place in &list.places {
            task.buffer_mut().extend(place.to_be_bytes());
        }
        self.ask(cx, task, list.request)
    }

    /// Asks for a change of the unit's reservations; the task goes on with its completion.
    pub(crate) fn ask<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        request: Request,
    ) -> Result<Progress, Sense> {
        let attachment = self.attached(cx.port, task.unit())?;
        Ok(task.ask(cx.port, attachment, request))
    }

    /// A change has come to its end: whoever it concerns is told, and how the command ends. `places`: where TransportIDs stood
    /// in its parameter list.
    pub(crate) fn reserve_answered<P: BlockPort>(
        &self,
        cx: &mut Context<'_, P>,
        lun: u16,
        answer: Result<Effects, Refusal>,
        places: &[u8],
    ) -> Result<(), Ending> {
        let effects = answer.map_err(|refusal| ending(refusal, places))?;
        let unit = self.units().iter().find(|unit| unit.seen.lun == lun);
        if let Some(unit) = unit {
            cx.units.reservations_changed(unit.seen.volume.id, &effects, Some(self.session().id));
        }
        Ok(())
    }
}

/// How a request ends that was refused.
fn ending(refusal: Refusal, places: &[u8]) -> Ending {
    let sense = match refusal {
        Refusal::Conflict => return Ending::ReservationConflict,
        Refusal::InvalidField(field) => {
            let (byte, bit) = match field {
                Field::Key => (0, None),
                Field::NewKey => (8, None),
                Field::SpecInitiatorPorts => (20, Some(3)),
                Field::TransportId(number) => (place_of(number, places), None),
            };
            Sense::invalid_in_parameters(byte, bit)
        }
        Refusal::NothingToMove => Sense::invalid_in_cdb(1, Some(4)),
        Refusal::NoType => Sense::invalid_in_cdb(2, None),
        Refusal::InvalidRelease => INVALID_RELEASE,
        Refusal::NoRoom => NO_ROOM,
        Refusal::Lost => Sense::RESERVATIONS_LOST,
    };
    Ending::Check(sense)
}

/// Where a TransportID stands in the parameter list.
fn place_of(number: usize, places: &[u8]) -> u16 {
    let place = places.chunks_exact(2).nth(number).and_then(|bytes| <[u8; 2]>::try_from(bytes).ok());
    place.map_or(u16::try_from(LIST_LEN).unwrap_or(0), u16::from_be_bytes)
}
