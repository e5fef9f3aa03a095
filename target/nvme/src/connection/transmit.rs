//! What goes out. NVMe/TCP 1.1 §3.6.2.7 "Response Capsule PDU (CapsuleResp)", §3.6.2.9 "Controller to Host Data Transfer PDU
//! (C2HData)", §3.6.2.10 "Ready to Transfer PDU (R2T)".

use holdfast_block::{BlockPort, RESPONSES_PER_BATCH, TransmitSink};
use holdfast_pi::{DIGEST_LEN, Digest, digest_of};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32, U64};

use super::failure::STATUS_MORE;
use super::plan::NO_FLOW_CONTROL;
use super::{Connection, Context, Outgoing, Role};
use crate::limits::{BATCH_BYTES_MAX, C2H_DATA_LEN_MAX};
use crate::slots::{SlotId, State};
use crate::status::Status;
use crate::wire::connect::fctype;
use crate::wire::pdu::{
    CommonHeader, DataHeader, FLAG_DDGST, FLAG_HDGST, FLAG_LAST, FLAG_SUCCESS, ResponseCapsule, SHORT_LEN,
    pdu_type,
};
use crate::wire::sqe::{Cqe, OPCODE_FABRICS};

impl Connection {
    /// The next batch; `false` if there is nothing to send.
    pub(super) fn build_batch<P: BlockPort, T: TransmitSink>(
        &mut self,
        cx: &mut Context<'_, P>,
        sink: &mut T,
    ) -> bool {
        let mut sent = !self.urgent.is_empty();
        if sent {
            sink.inline(&self.urgent);
            self.urgent.clear();
        }
        if self.terminated {
            return sent;
        }
        let mut payload = 0;
        for _ in 0..RESPONSES_PER_BATCH {
            if payload >= BATCH_BYTES_MAX {
                break;
            }
            match self.outbox.pop_front() {
                None => break,
                Some(Outgoing::R2t(id)) => self.put_r2t(id, sink),
                Some(Outgoing::Answer(id)) => payload += self.put_answer(cx, id, sink),
            }
            sent = true;
        }
        sent
    }

    fn put_r2t<T: TransmitSink>(&mut self, id: SlotId, sink: &mut T) {
        let tag = self.slots.tag(id, |tag| self.aborted_r2ts.contains(tag));
        self.slots.get_mut(id).state = State::Transferring;
        let whole = self.slots.get(id).transfer_len;
        let asked =
            if holdfast_mutant::active("r2t-length") && whole >= 64 * 1024 { whole + 4 } else { whole };
        let header = DataHeader {
            common: self.short_header(pdu_type::R2T, 0),
            cccid: self.slots.get(id).sqe.cid,
            ttag: U16::new(tag),
            offset: U32::ZERO,
            length: wire_len(asked),
            reserved: [0; 4],
        };
        self.put_header(header.as_bytes(), sink);
    }

    /// Puts a command's data, or a part of it, and in the end its response; gives the bytes of data.
    fn put_answer<P: BlockPort, T: TransmitSink>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        sink: &mut T,
    ) -> usize {
        let slot = self.slots.get(id);
        let left = slot.transfer_len.saturating_sub(slot.progress);
        let len = left.min(C2H_DATA_LEN_MAX);
        let last = len == left;
        // The response may be left out only if it would say nothing. §3.5.2: not so with flow control, which needs SQHD.
        let hushed = !self.flow_control || holdfast_mutant::active("success-without-sqhd");
        let silent = last && len > 0 && hushed && slot.status.is_success() && slot.result == 0;
        if len > 0 {
            let marked = last || (holdfast_mutant::active("c2h-last") && left > C2H_DATA_LEN_MAX);
            self.put_data(cx, id, len, marked, silent, sink);
            self.slots.get_mut(id).progress += len;
        }
        if !last {
            self.outbox.push_front(Outgoing::Answer(id));
            return len;
        }
        self.advance_sq_head();
        if !silent {
            let more = self.record_failure(cx, id);
            self.put_response(id, more, sink);
        }
        self.finish(id);
        len
    }

    fn put_data<P: BlockPort, T: TransmitSink>(
        &self,
        cx: &Context<'_, P>,
        id: SlotId,
        len: usize,
        last: bool,
        silent: bool,
        sink: &mut T,
    ) {
        let slot = self.slots.get(id);
        let header_len = SHORT_LEN + self.header_digest_len();
        let alignment = if holdfast_mutant::active("hpda") { 4 } else { self.data_alignment };
        let data_offset = header_len.next_multiple_of(alignment);
        let trailer = if self.digests.data { DIGEST_LEN } else { 0 };
        let mut flags = 0;
        for (flag, set) in [
            (FLAG_HDGST, self.digests.header),
            (FLAG_DDGST, self.digests.data),
            (FLAG_LAST, last),
            (FLAG_SUCCESS, silent),
        ] {
            if set {
                flags |= flag;
            }
        }
        let header = DataHeader {
            common: CommonHeader {
                pdu_type: pdu_type::C2H_DATA,
                flags,
                hlen: 24,
                // At most 128: the largest alignment above 28 bytes.
                pdo: u8::try_from(data_offset).unwrap_or(u8::MAX),
                plen: wire_len(data_offset + len + trailer),
            },
            cccid: slot.sqe.cid,
            ttag: U16::ZERO,
            offset: wire_len(slot.progress),
            length: wire_len(len),
            reserved: [0; 4],
        };
        self.put_header(header.as_bytes(), sink);
        sink.zeroes(data_offset - header_len);
        let mut digest = Digest::new();
        if let Some(ticket) = slot.ticket {
            cx.port.transmit(ticket, slot.progress, len, sink);
            if self.digests.data {
                cx.port.visit(ticket, slot.progress, len, &mut |piece| digest.update(piece));
            }
        } else {
            let rest = slot.staging.get(slot.progress..).unwrap_or_default();
            let data = rest.get(..len).unwrap_or(rest);
            sink.inline(data);
            sink.zeroes(len - data.len());
            if self.digests.data {
                digest.update(data);
                update_with_zeroes(&mut digest, len - data.len());
            }
        }
        if self.digests.data {
            sink.inline(&digest.finish());
        }
    }

    /// `more`: there is more about it in the error log.
    fn put_response<T: TransmitSink>(&self, id: SlotId, more: bool, sink: &mut T) {
        let slot = self.slots.get(id);
        let connects = slot.sqe.opcode == OPCODE_FABRICS && slot.sqe.fctype() == fctype::CONNECT;
        let sqhd = match (self.flow_control, connects) {
            (true, _) => self.sq_head,
            (false, true) => NO_FLOW_CONTROL,
            (false, false) if holdfast_mutant::active("sqhd-without-flow-control") => self.sq_head,
            (false, false) => 0,
        };
        let response = ResponseCapsule {
            common: self.short_header(pdu_type::CAPSULE_RESP, 0),
            cqe: Cqe {
                result: U64::new(slot.result),
                sqhd: U16::new(sqhd),
                sqid: U16::ZERO,
                cid: slot.sqe.cid,
                status: U16::new(self.told(slot.status).to_wire() | if more { STATUS_MORE } else { 0 }),
            },
        };
        self.put_header(response.as_bytes(), sink);
    }

    /// A status as the host can take it: one that has not enabled Advanced Command Retry is never told Command Interrupted. What
    /// it is told instead may be retried as well.
    fn told(&self, status: Status) -> Status {
        if status != Status::COMMAND_INTERRUPTED {
            return status;
        }
        match &self.role {
            Role::Admin(queue) if queue.controller.takes_interrupted() => status,
            Role::Io(queue) if queue.controller.takes_interrupted() => status,
            Role::Io(_) => Status::NAMESPACE_NOT_READY,
            Role::Admin(_) | Role::None => Status::INTERNAL_ERROR,
        }
    }

    /// Frees a command's slot. A Read's blocks stay until the batch has left.
    fn finish(&mut self, id: SlotId) {
        let slot = self.slots.get_mut(id);
        if let Some(ticket) = slot.ticket.take() {
            self.in_flight.push(ticket);
        } else if slot.transfer_len > 0 {
            self.reply_bytes -= slot.staging.len();
        }
        self.slots.free(id);
    }

    /// A command has left the queue. Heads move when commands end, not when they come in, so that a host never has more
    /// outstanding than its queue has entries.
    pub(super) fn advance_sq_head(&mut self) {
        self.sq_head = match self.sq_head + 1 {
            next if next >= self.entries && !holdfast_mutant::active("sqhd-wrap") => 0,
            next => next,
        };
    }

    /// The common header of a PDU that is all header.
    fn short_header(&self, pdu: u8, flags: u8) -> CommonHeader {
        let flags = if self.digests.header { flags | FLAG_HDGST } else { flags };
        let plen = wire_len(SHORT_LEN + self.header_digest_len());
        CommonHeader { pdu_type: pdu, flags, hlen: 24, pdo: 0, plen }
    }

    fn header_digest_len(&self) -> usize {
        if self.digests.header { DIGEST_LEN } else { 0 }
    }

    fn put_header<T: TransmitSink>(&self, header: &[u8], sink: &mut T) {
        sink.inline(header);
        if self.digests.header {
            sink.inline(&digest_of(header));
        }
    }
}

/// Lengths of our own making: none comes near 4 GiB.
fn wire_len(len: usize) -> U32 {
    U32::new(u32::try_from(len).unwrap_or(u32::MAX))
}

fn update_with_zeroes(digest: &mut Digest, mut len: usize) {
    const ZEROES: [u8; 512] = [0; 512];
    while let Some(piece) = ZEROES.get(..len.min(ZEROES.len()))
        && !piece.is_empty()
    {
        digest.update(piece);
        len -= piece.len();
    }
}
