//! Requests that are no SCSI commands: NOP-Out, Text, Logout, and what is none at all.

use holdfast_block::BlockPort;
use zerocopy::{IntoBytes, transmute_ref};

use super::transmit::{Notice, Stat};
use super::{Connection, Context, Disposition, Phase};
use crate::full_feature::{TextRequest, TextStep};
use crate::limits::LOGOUT_WITHIN_S;
use crate::wire::{
    AsyncMessage, Bhs, FINAL, LogoutRequest, LogoutResponse, NO_TAG, NopIn, NopOut, Reject,
    TextRequestHeader, TextResponse, opcode, reason, wire_len,
};

/// C bit of texts.
const CONTINUE: u8 = 0x40;
/// AsyncEvent 1: the target asks for a logout.
const LOGOUT_WANTED: u8 = 1;
/// Responses to a Logout. RFC 7143 §11.15.1 "Response".
mod logout {
    pub(super) const DONE: u8 = 0;
    pub(super) const NO_SUCH_CONNECTION: u8 = 1;
    pub(super) const NO_RECOVERY: u8 = 2;
}

impl Connection {
    /// Carries out a request. `false`: it was rejected, so its number counts as not received.
    pub(super) fn carry_out<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        bhs: &Bhs,
        data: &[u8],
    ) -> bool {
        // §11.2.1.8 "Initiator Task Tag": it names one task at a time.
        if self.slots.find(bhs.itt.get()).is_some() {
            return self.refuse(reason::IN_PROGRESS, bhs);
        }
        match bhs.opcode() {
            opcode::NOP_OUT => self.pinged(transmute_ref!(bhs), bhs, data),
            opcode::TEXT => self.text(cx, bhs, data),
            opcode::LOGOUT => self.log_out(cx, transmute_ref!(bhs)),
            opcode::TASK_MANAGEMENT => self.manage(cx, bhs),
            _ => self.refuse(reason::NOT_SUPPORTED, bhs),
        }
    }

    fn refuse(&mut self, reason: u8, bhs: &Bhs) -> bool {
        self.reject(reason, bhs);
        false
    }

    /// §11.18 "NOP-Out": a ping is answered with its data, an answer to ours with nothing.
    fn pinged(&mut self, request: &NopOut, bhs: &Bhs, data: &[u8]) -> bool {
        if request.itt.get() == NO_TAG {
            // Not numbered, so it has to be immediate.
            return bhs.is_immediate() || self.refuse(reason::INVALID_FIELD, bhs);
        }
        let longest = self.params().map_or(0, |params| params.max_recv_initiator);
        let longest = usize::try_from(longest).unwrap_or(usize::MAX);
        let echo = data.get(..longest).unwrap_or(data);
        let mut answer = NopIn::new(opcode::NOP_IN);
        answer.flags = FINAL;
        answer.data_len = wire_len(echo.len());
        answer.itt = request.itt;
        answer.ttt.set(NO_TAG);
        self.notice(Notice::new(answer, echo.to_vec(), Stat::Counts));
        true
    }

    /// Asks whether the initiator is there.
    pub(super) fn ping(&mut self) {
        self.pings = (self.pings + 1) % NO_TAG;
        let mut ping = NopIn::new(opcode::NOP_IN);
        ping.flags = FINAL;
        ping.itt.set(NO_TAG);
        ping.ttt.set(self.pings);
        self.notice(Notice::new(ping, Vec::new(), Stat::Tells));
    }

    fn text<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, bhs: &Bhs, data: &[u8]) -> bool {
        if bhs.itt.get() == NO_TAG {
            return self.refuse(reason::INVALID_FIELD, bhs);
        }
        let Phase::Full(full) = &mut self.phase else { return false };
        let request: &TextRequestHeader = transmute_ref!(bhs);
        let request = TextRequest {
            is_final: request.flags & FINAL != 0,
            continues: request.flags & CONTINUE != 0,
            itt: request.itt.get(),
            ttt: request.ttt.get(),
        };
        let step = full.text.take(cx.directory, cx.exports, &mut full.params, request, data);
        match step {
            TextStep::Reject(reason) => self.refuse(reason, bhs),
            TextStep::Answer(answer) => {
                let mut response = TextResponse::new(opcode::TEXT_RESPONSE);
                response.flags =
                    if answer.is_final { FINAL } else { 0 } | if answer.continues { CONTINUE } else { 0 };
                response.data_len = wire_len(answer.data.len());
                response.itt.set(answer.itt);
                response.ttt.set(answer.ttt);
                self.notice(Notice::new(response, answer.data, Stat::Counts));
                true
            }
        }
    }

    /// §11.14 "Logout Request": the session has one connection, so that it ends with it.
    fn log_out<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, request: &LogoutRequest) -> bool {
        let Phase::Full(full) = &self.phase else { return false };
        let response = match request.reason() {
            0 => logout::DONE,
            1 if request.cid.get() == full.member.cid => logout::DONE,
            1 => logout::NO_SUCH_CONNECTION,
            2 => logout::NO_RECOVERY,
            _ => return self.refuse(reason::INVALID_FIELD, transmute_ref!(request)),
        };
        let params = full.params;
        if response == logout::DONE {
            // What is answered already is still sent.
            self.end_open_tasks(cx);
        }
        let mut answer = LogoutResponse::new(opcode::LOGOUT_RESPONSE);
        answer.flags = FINAL;
        answer.response = response;
        answer.itt = request.itt;
        answer.time2wait.set(params.time2wait_s);
        answer.time2retain.set(params.time2retain_s);
        self.notice(Notice::new(answer, Vec::new(), Stat::Counts));
        if response == logout::DONE {
            if self.slots.in_use().next().is_none() {
                self.end_session(cx);
            }
            self.end = Disposition::CloseAfterTransmit;
        }
        true
    }

    pub(super) fn ask_to_log_out(&mut self) {
        let mut message = AsyncMessage::new(opcode::ASYNC);
        message.flags = FINAL;
        message.itt.set(NO_TAG);
        message.event = LOGOUT_WANTED;
        message.parameter3.set(LOGOUT_WITHIN_S);
        self.notice(Notice::new(message, Vec::new(), Stat::Counts));
    }

    /// §11.17 "Reject": with the header of what is rejected.
    pub(super) fn reject(&mut self, reason: u8, bhs: &Bhs) {
        let mut reject = Reject::new(opcode::REJECT);
        reject.flags = FINAL;
        reject.reason = reason;
        reject.data_len = wire_len(bhs.as_bytes().len());
        reject.itt.set(NO_TAG);
        self.notice(Notice::new(reject, bhs.as_bytes().to_vec(), Stat::Counts));
    }

    pub(super) fn params(&self) -> Option<&crate::Params> {
        match &self.phase {
            Phase::Full(full) => Some(&full.params),
            Phase::Login(_) | Phase::Over => None,
        }
    }
}
