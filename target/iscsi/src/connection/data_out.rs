//! Data from the initiator. RFC 7143 §4.2.5.2 "Data Transfer Overview", §11.7 "SCSI Data-Out and SCSI Data-In", §11.8 "Ready To
//! Transfer (R2T)".
//!
//! Data comes in order, and R2Ts are served in order: DataPDUInOrder and DataSequenceInOrder are on. What breaks a rule dooms its
//! task, which fails when all data that was asked for has come; nothing of it is stored.

use holdfast_block::BlockPort;
use holdfast_scsi::sense::Sense;
use holdfast_scsi::{Ended, Status};

use super::command::{UNEXPECTED_DATA, WRONG_AMOUNT};
use super::receive::{Ingest, data_out};
use super::transmit::{Outgoing, R2tToSend};
use super::{Connection, Context};
use crate::limits::STAGED_BYTES_MAX;
use crate::slots::{Burst, SlotId, State};
use crate::wire::{Bhs, NO_TAG, reason};

impl Connection {
    /// Where the data of a Data-Out goes.
    pub(super) fn take_data_out<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, bhs: &Bhs) -> Ingest {
        let header = data_out(bhs);
        let itt = header.itt.get();
        let Some(id) = self.slots.find(itt) else {
            if self.held_command(itt).is_some() {
                return if self.may_hold() { Ingest::Held { itt, bhs: *bhs } } else { Ingest::Discard };
            }
            if self.ended_tags.contains(&itt) {
                if bhs.is_final() && header.ttt.get() == NO_TAG {
                    self.ended_tags.retain(|other| *other != itt);
                }
            } else {
                self.reject(reason::INVALID_FIELD, bhs);
            }
            return Ingest::Discard;
        };
        let first_burst = self.params().map_or(0, |params| params.first_burst_len);
        let first_burst = usize::try_from(first_burst).unwrap_or(usize::MAX);
        let slot = self.slots.get_mut(id);
        let end = match (header.ttt.get(), slot.bursts.front()) {
            (NO_TAG, _) if slot.unsolicited => first_burst.min(slot.expected_len),
            (NO_TAG, Some(_)) => {
                // Its F bit ends nothing that was asked for.
                slot.doomed.get_or_insert(UNEXPECTED_DATA);
                return Ingest::Discard;
            }
            (ttt, Some(burst)) if burst.ttt == ttt => burst.end,
            (_, open) => {
                // A task from which nothing is awaited is not held up by this any more.
                if open.is_some() {
                    slot.doomed.get_or_insert(UNEXPECTED_DATA);
                }
                self.reject(reason::INVALID_FIELD, bhs);
                return Ingest::Discard;
            }
        };
        let (number, offset) = (header.data_sn.get(), usize::try_from(header.offset.get()));
        let in_order = number == slot.data_out_sn;
        if !in_order {
            // §7.9 "Sequence Errors": something was lost.
            slot.doomed.get_or_insert(Sense::DIGEST);
        }
        let misplaced = in_order && offset != Ok(slot.received) && slot.doomed.is_none();
        if misplaced || bhs.data_len() > end.saturating_sub(slot.received) {
            slot.doomed.get_or_insert(WRONG_AMOUNT);
        }
        slot.data_out_sn = number.wrapping_add(1);
        slot.arriving = true;
        self.transfer_moved_ms = cx.now_ms;
        if misplaced {
            self.reject(reason::INVALID_FIELD, bhs);
        }
        Ingest::DataOut { slot: id, bhs: *bhs }
    }

    /// Takes data for a task.
    pub(super) fn take_data<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId, bytes: &[u8]) {
        let slot = self.slots.get_mut(id);
        let at = slot.received;
        slot.received = slot.received.saturating_add(bytes.len());
        if slot.state != State::Receiving || slot.doomed.is_some() || slot.ended.is_some() {
            return;
        }
        if let Some(out_len) = slot.out_len {
            let wanted = bytes.get(..out_len.saturating_sub(at)).unwrap_or(bytes);
            if !wanted.is_empty() {
                slot.task.fill(cx.port, at, wanted);
            }
            return;
        }
        let is_full = self.slots.staged().saturating_add(bytes.len()) > STAGED_BYTES_MAX;
        let slot = self.slots.get_mut(id);
        if is_full {
            slot.staging.clear();
            slot.ended = Some(Ended::plain(Status::Busy));
            self.give_back(cx, id);
            self.forget_waiting(id);
        } else {
            slot.staging.extend_from_slice(bytes);
        }
    }

    /// A Data-Out is complete.
    pub(super) fn end_data_out<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        bhs: &Bhs,
        damaged: bool,
    ) {
        if damaged {
            self.reject(reason::DATA_DIGEST, bhs);
        }
        let first_burst = self.params().map_or(0, |params| params.first_burst_len);
        let first_burst = usize::try_from(first_burst).unwrap_or(usize::MAX);
        let slot = self.slots.get_mut(id);
        if damaged && slot.state == State::Receiving {
            slot.damaged = true;
            if slot.out_len.is_some() {
                slot.task.digest_failed(cx.port);
            }
        }
        if bhs.is_final() {
            slot.data_out_sn = 0;
            self.solicited -= 1;
            let end = if data_out(bhs).ttt.get() == NO_TAG {
                slot.unsolicited = false;
                first_burst.min(slot.expected_len)
            } else {
                slot.bursts.pop_front().map_or(slot.received, |burst| burst.end)
            };
            if slot.received != end {
                slot.doomed.get_or_insert(WRONG_AMOUNT);
                // What follows is where it was asked for.
                slot.received = end;
            }
        }
        self.pdu_taken(cx, id);
    }

    /// Asks for what is still missing: as much as may be asked for at once.
    pub(super) fn solicit<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let Some(params) = self.params() else { return };
        let most_r2ts = usize::from(params.max_outstanding_r2t);
        let most_bytes = usize::try_from(params.max_burst_len).unwrap_or(usize::MAX);
        loop {
            let slot = self.slots.get(id);
            let Some(out_len) = slot.out_len else { return };
            let at = slot.bursts.back().map_or(slot.received, |burst| burst.end);
            if at >= out_len || slot.bursts.len() >= most_r2ts || slot.doomed.is_some() {
                return;
            }
            let len = most_bytes.min(out_len - at);
            let ttt = self.slots.transfer_tag(id);
            let slot = self.slots.get_mut(id);
            let r2t = R2tToSend { slot: id, ttt, sn: slot.r2t_sn, offset: at, len };
            slot.r2t_sn = slot.r2t_sn.wrapping_add(1);
            slot.bursts.push_back(Burst { ttt, end: at + len });
            if self.solicited == 0 {
                self.transfer_moved_ms = cx.now_ms;
            }
            self.solicited += 1;
            self.outbox.push_back(Outgoing::R2t(r2t));
        }
    }
}
