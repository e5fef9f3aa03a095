//! A task that asks for a change of reservations: one ticket, and an answer.

use holdfast_block::reservations::Request;
use holdfast_block::{AttachmentId, BlockPort, Completion, Lba, TicketId};

use super::{Progress, Task, Work};
use crate::context::Context;
use crate::nexus::Nexus;
use crate::sense::Ending;
use crate::status::Ended;

impl Task {
    /// Asks the block layer.
    pub(crate) fn ask<P: BlockPort>(
        &mut self,
        port: &mut P,
        attachment: AttachmentId,
        request: Request,
    ) -> Progress {
        match port.begin_reservation(self.origin, attachment, request) {
            Ok(ticket) => {
                self.work = Work::Reserve(ticket);
                Progress::Running
            }
            Err(error) => self.end(Ending::of(error, Lba(0))),
        }
    }

    /// Takes the end of its request.
    pub(super) fn answered<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        nexus: &Nexus,
        ticket: TicketId,
        completion: Completion,
    ) -> Progress {
        debug_assert_eq!(completion.ticket, ticket, "a task asks once");
        let answer = cx.port.reservation_answer(ticket).cloned();
        cx.port.release(ticket);
        self.work = Work::Nothing;
        let ended = match (completion.result, answer) {
            (Ok(()), Some(answer)) => nexus.reserve_answered(cx, self.lun, answer, &self.buffer),
            (Ok(()), None) => Err(Ending::Check(crate::sense::Sense::INTERNAL)),
            (Err(error), _) => Err(Ending::of(error, Lba(0))),
        };
        match ended {
            Ok(()) => self.good(),
            Err(ending) => self.end(ending),
        }
    }

    /// Ends it without data, as the block layer's refusal says.
    pub(crate) fn end(&mut self, ending: Ending) -> Progress {
        self.buffer.clear();
        self.work = Work::Nothing;
        self.in_len = 0;
        self.wanted_in = 0;
        Progress::Ended(Ended::of(ending, self.format))
    }
}
