//! The Persistent Event log page, as a host reads it. Base 2.1 §5.1.12.1.14 "Persistent Event (Log Page Identifier 0Dh)".
//!
//! The log goes on while it is read, so a host reads a *reporting context*: a picture that it has made and gives back. Each
//! controller has its own, so that hosts do not get into each other's way.

use holdfast_block::BlockPort;
use zerocopy::{FromZeros, IntoBytes};

use super::log_health::smart;
use super::{AdminPlan, AdminQueue, identify_controller};
use crate::connection::Context;
use crate::sgl;
use crate::status::Status;
use crate::subsystem::Moment;
use crate::wire::events::{
    CONTEXT_EXISTS, EVENT_LOG_HEADER_LEN, EVENT_LOG_REVISION, EventLogHeader, TIMESTAMP_ORIGIN_SET,
    event_type,
};
use crate::wire::log::{LogFields, lid};
use crate::wire::put_text;
use crate::wire::sqe::Sqe;

/// Actions, in the Log Specific Parameter.
mod action {
    pub(super) const READ: u8 = 0;
    pub(super) const ESTABLISH_AND_READ: u8 = 1;
    pub(super) const RELEASE: u8 = 2;
    pub(super) const ESTABLISH_AND_READ_HEADER: u8 = 3;
}
const ACTION_MASK: u8 = 0b11;

/// Bytes of the header behind its first 20.
const HEADER_LEN_FIELD: u16 = 492;

/// A reporting context: the header but for what belongs to the reading command, and the events.
#[derive(Debug)]
pub(crate) struct EventReport {
    header: EventLogHeader,
    events: Vec<u8>,
    /// It was there before the command that now reads.
    read_before: bool,
}

/// Does what a command asks for besides reading; the plan, if there is nothing more to do.
pub(super) fn act<P: BlockPort>(
    cx: &Context<'_, P>,
    queue: &mut AdminQueue,
    sqe: &Sqe,
    fields: &LogFields,
) -> Result<Option<AdminPlan>, Status> {
    let exists = queue.event_report.is_some();
    match fields.specific & ACTION_MASK {
        action::RELEASE => {
            queue.event_report = None;
            return Ok(Some(AdminPlan::Done(0)));
        }
        action::READ if !exists => return Err(Status::COMMAND_SEQUENCE.at(41)),
        action::ESTABLISH_AND_READ if exists => return Err(Status::COMMAND_SEQUENCE.at(41)),
        action::ESTABLISH_AND_READ_HEADER => {
            sgl::to_host(sqe, EVENT_LOG_HEADER_LEN)?;
            establish(cx, queue);
            // Length and offset mean nothing here.
            let mut data = page(cx, queue)?;
            data.truncate(EVENT_LOG_HEADER_LEN);
            return Ok(Some(AdminPlan::Reply { data, len: EVENT_LOG_HEADER_LEN }));
        }
        action::ESTABLISH_AND_READ => {
            // Not before it is certain that the host gets it.
            sgl::to_host(sqe, super::log_page::requested_len(fields)?)?;
            establish(cx, queue);
        }
        _ => {}
    }
    Ok(None)
}

/// Makes the context, unless there is one.
fn establish<P: BlockPort>(cx: &Context<'_, P>, queue: &mut AdminQueue) {
    if let Some(report) = &mut queue.event_report {
        report.read_before = true;
        return;
    }
    let moment = Moment::now(cx, queue.controller.cntlid);
    let (generation, count, events) = queue.controller.subsystem.report(moment, &smart(cx, queue));
    let config = cx.directory.config();
    let mut header = EventLogHeader::new_zeroed();
    header.lid = lid::PERSISTENT_EVENTS;
    header.events.set(count);
    header.log_len.set(u64::try_from(EVENT_LOG_HEADER_LEN + events.len()).unwrap_or(0));
    header.revision = EVENT_LOG_REVISION;
    header.header_len.set(HEADER_LEN_FIELD);
    header.timestamp.set(moment.unix_ms | TIMESTAMP_ORIGIN_SET);
    header.power_cycles.set(cx.directory.power_cycles());
    put_text(&mut header.serial, &identify_controller::serial(cx, queue), b' ');
    put_text(&mut header.model, &config.model, b' ');
    put_text(&mut header.subnqn, &queue.controller.association.subnqn, 0);
    header.generation.set(generation);
    for kind in event_type::ALL {
        if let Some(byte) = header.supported.get_mut(usize::from(kind / 8)) {
            *byte |= 1 << (kind % 8);
        }
    }
    queue.event_report = Some(EventReport { header, events, read_before: false });
}

/// The whole page, with what the header says of the reading itself.
pub(super) fn page<P: BlockPort>(cx: &Context<'_, P>, queue: &mut AdminQueue) -> Result<Vec<u8>, Status> {
    let report = queue.event_report.as_mut().ok_or(Status::COMMAND_SEQUENCE)?;
    let mut header = report.header;
    header.power_on_hours.set(cx.directory.power_on_hours(cx.unix_seconds));
    header.context.set(if report.read_before { CONTEXT_EXISTS } else { 0 });
    report.read_before = true;
    Ok([header.as_bytes(), &report.events].concat())
}
