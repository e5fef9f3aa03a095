//! What goes out. RFC 7143 §11.4 "SCSI Response", §11.7 "SCSI Data-Out and SCSI Data-In", §11.8 "Ready To Transfer (R2T)".
//!
//! Numbers are given when a PDU is put into a batch: StatSN in the order of sending, and the command window as it is then.

use std::cmp::Ordering;

use holdfast_block::{BlockPort, RESPONSES_PER_BATCH, TransmitSink};
use holdfast_pi::{Digest, Digests, digest_of};
use holdfast_scsi::{Ended, Status};
use zerocopy::big_endian::U32;
use zerocopy::{IntoBytes, transmute_ref};

use super::{Connection, Context};
use crate::limits::{BATCH_BYTES_MAX, DATA_IN_LEN_MAX};
use crate::slots::{Slot, SlotId, State};
use crate::wire::{
    BHS_LEN, DataIn, FINAL, NO_TAG, R2t, ScsiCommand, ScsiResponse, opcode, padding, wire_len,
};

/// o and u bits of SCSI Response.
const READ_OVERFLOW: u8 = 0x10;
const READ_UNDERFLOW: u8 = 0x08;
/// O, U and S bits of Data-In; O and U are in the same place in SCSI Response.
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;
const WITH_STATUS: u8 = 0x01;

/// Something to be sent.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// A whole PDU.
    Notice(Notice),
    R2t(R2tToSend),
    /// A task's data and response.
    Answer(SlotId),
}

/// An R2T that is to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct R2tToSend {
    pub(super) slot: SlotId,
    pub(super) ttt: u32,
    pub(super) sn: u32,
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// What a PDU does with StatSN. §4.2.2.2 "Response/Status Numbering and Acknowledging".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stat {
    /// It has the next number.
    Counts,
    /// It tells the next number without taking it.
    Tells,
}

/// A PDU without a task.
#[derive(Debug)]
pub(super) struct Notice {
    header: [u8; BHS_LEN],
    data: Vec<u8>,
    stat: Stat,
    /// Sent without digests, whatever was agreed: it is of the login.
    bare: bool,
}

impl Notice {
    pub(super) fn new(header: impl IntoBytes + zerocopy::Immutable, data: Vec<u8>, stat: Stat) -> Notice {
        let mut bytes = [0; BHS_LEN];
        bytes.iter_mut().zip(header.as_bytes()).for_each(|(place, byte)| *place = *byte);
        Notice { header: bytes, data, stat, bare: false }
    }

    pub(super) fn len(&self) -> usize {
        self.data.len()
    }

    pub(super) fn bare(header: impl IntoBytes + zerocopy::Immutable, data: Vec<u8>) -> Notice {
        Notice { bare: true, ..Notice::new(header, data, Stat::Counts) }
    }
}

/// Where StatSN, ExpCmdSN and MaxCmdSN are in all PDUs.
const NUMBERS_AT: usize = 24;

impl Connection {
    /// The next batch; `false` if there is nothing to send.
    pub(super) fn build_batch<P: BlockPort, T: TransmitSink>(
        &mut self,
        cx: &mut Context<'_, P>,
        sink: &mut T,
    ) -> bool {
        let mut payload = 0;
        let mut sent = false;
        for _ in 0..RESPONSES_PER_BATCH {
            if payload >= BATCH_BYTES_MAX {
                break;
            }
            match self.outbox.pop_front() {
                None => break,
                Some(Outgoing::Notice(notice)) => {
                    self.notices -= 1;
                    self.notice_bytes -= notice.len();
                    payload += notice.len();
                    self.put_notice(notice, sink);
                }
                Some(Outgoing::R2t(r2t)) => self.put_r2t(r2t, sink),
                Some(Outgoing::Answer(id)) => payload += self.put_answer(cx, id, sink),
            }
            sent = true;
        }
        sent
    }

    /// The numbers of the next PDU.
    fn numbers(&mut self, stat: Stat) -> [U32; 3] {
        let stat_sn = self.stat_sn;
        if stat == Stat::Counts {
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
        [U32::new(stat_sn), U32::new(self.exp_cmd_sn), U32::new(self.max_cmd_sn())]
    }

    fn put_notice<T: TransmitSink>(&mut self, notice: Notice, sink: &mut T) {
        let Notice { mut header, data, stat, bare } = notice;
        let numbers = self.numbers(stat);
        if let Some(place) = header.get_mut(NUMBERS_AT..NUMBERS_AT + 12) {
            place.copy_from_slice(numbers.as_bytes());
        }
        let digests = if bare { Digests::default() } else { self.digests };
        put_header(&header, digests, sink);
        put_segment(&data, digests, sink);
    }

    fn put_r2t<T: TransmitSink>(&mut self, r2t: R2tToSend, sink: &mut T) {
        let bhs = self.slots.get(r2t.slot).bhs;
        let mut pdu = R2t::new(opcode::R2T);
        pdu.flags = FINAL;
        pdu.lun = bhs.lun;
        pdu.itt = bhs.itt;
        pdu.ttt.set(r2t.ttt);
        pdu.r2t_sn.set(r2t.sn);
        pdu.offset.set(number(r2t.offset));
        pdu.desired_len.set(number(r2t.len));
        let [stat_sn, exp_cmd_sn, max_cmd_sn] = self.numbers(Stat::Tells);
        pdu.numbers.stat_sn = stat_sn;
        pdu.numbers.exp_cmd_sn = exp_cmd_sn;
        pdu.numbers.max_cmd_sn = max_cmd_sn;
        put_header(pdu.as_bytes(), self.digests, sink);
    }

    /// Puts a task's data, or a part of it, and in the end its response; gives the bytes of data.
    fn put_answer<P: BlockPort, T: TransmitSink>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        sink: &mut T,
    ) -> usize {
        if !std::mem::replace(&mut self.slots.get_mut(id).in_flight, true) {
            self.flying.push(id);
        }
        let Some(params) = self.params().copied() else { return 0 };
        let [longest, burst] =
            [params.max_recv_initiator, params.max_burst_len].map(|len| usize::try_from(len).unwrap_or(1));
        // §11.7.5: whole words, but for the end of a sequence.
        let longest = (longest & !3).clamp(4, DATA_IN_LEN_MAX);
        let mut put = 0;
        loop {
            let slot = self.slots.get(id);
            let whole = slot.task.in_len();
            let left = whole.saturating_sub(slot.sent);
            if left == 0 {
                break;
            }
            if put >= BATCH_BYTES_MAX {
                self.outbox.push_front(Outgoing::Answer(id));
                return put;
            }
            // A sequence ends with its burst: §13.13 "MaxBurstLength".
            let burst_left = burst - slot.sent % burst;
            let len = left.min(longest).min(burst_left);
            // A Data-In has room for one residual alone.
            let collapses = len == left && directions(slot) != (true, true);
            let ended = slot.ended.filter(|ended| ended.status == Status::Good && collapses);
            self.put_data(cx, id, len, len == left || len == burst_left, ended.is_some(), sink);
            put += len;
            if ended.is_some() {
                self.leave(id);
                return put;
            }
        }
        self.put_response(id, sink);
        self.leave(id);
        put
    }

    /// The answer is complete.
    fn leave(&mut self, id: SlotId) {
        self.slots.retire(id);
        self.slots.get_mut(id).state = State::Sent;
    }

    fn put_data<P: BlockPort, T: TransmitSink>(
        &mut self,
        cx: &Context<'_, P>,
        id: SlotId,
        len: usize,
        is_final: bool,
        with_status: bool,
        sink: &mut T,
    ) {
        let mut pdu = DataIn::new(opcode::DATA_IN);
        if with_status {
            // Its place in the window is free with the status.
            self.slots.retire(id);
        }
        let [stat_sn, exp_cmd_sn, max_cmd_sn] =
            self.numbers(if with_status { Stat::Counts } else { Stat::Tells });
        let (residual_flag, residual) = self.residual(id);
        let slot = self.slots.get_mut(id);
        pdu.flags = if is_final { FINAL } else { 0 };
        if with_status {
            pdu.flags |= WITH_STATUS | residual_flag;
            pdu.residual.set(residual);
            pdu.numbers.stat_sn = stat_sn;
        }
        pdu.data_len = wire_len(len);
        pdu.itt = slot.bhs.itt;
        pdu.ttt.set(NO_TAG);
        pdu.numbers.exp_cmd_sn = exp_cmd_sn;
        pdu.numbers.max_cmd_sn = max_cmd_sn;
        pdu.data_sn.set(slot.data_in_sn);
        pdu.offset.set(number(slot.sent));
        slot.data_in_sn = slot.data_in_sn.wrapping_add(1);
        let at = slot.sent;
        slot.sent += len;
        let slot = self.slots.get(id);
        put_header(pdu.as_bytes(), self.digests, sink);
        slot.task.transmit(&*cx.port, at, len, sink);
        sink.zeroes(padding(len));
        if self.digests.data {
            let mut digest = Digest::new();
            slot.task.visit(&*cx.port, at, len, &mut |piece| digest.update(piece));
            digest.update([0; 3].get(..padding(len)).unwrap_or_default());
            sink.inline(&digest.finish());
        }
    }

    /// §11.4.5 "Residual Count": what was not moved of what the command or the initiator expected, in the direction that the
    /// initiator has named.
    fn residual(&self, id: SlotId) -> (u8, u32) {
        let slot = self.slots.get(id);
        let (wanted_in, wanted_out) = (slot.task.wanted_in(), slot.task.wanted_out());
        let wanted = match directions(slot) {
            _ if holdfast_mutant::active("planted-residual") => wanted_in.max(wanted_out),
            (true, false) => wanted_in,
            (_, true) => wanted_out,
            (false, false) => wanted_in.max(wanted_out),
        };
        match difference(wanted, slot.expected_len) {
            (Ordering::Less, left) => (UNDERFLOW, left),
            (Ordering::Equal, _) => (0, 0),
            (Ordering::Greater, left) => (OVERFLOW, left),
        }
    }

    /// The same for the data that a command reads beside what it writes.
    fn read_residual(&self, id: SlotId) -> (u8, u32) {
        let slot = self.slots.get(id);
        if directions(slot) != (true, true) {
            return (0, 0);
        }
        match difference(slot.task.wanted_in(), slot.read_len) {
            (Ordering::Less, left) => (READ_UNDERFLOW, left),
            (Ordering::Equal, _) => (0, 0),
            (Ordering::Greater, left) => (READ_OVERFLOW, left),
        }
    }

    fn put_response<T: TransmitSink>(&mut self, id: SlotId, sink: &mut T) {
        self.slots.retire(id);
        let [stat_sn, exp_cmd_sn, max_cmd_sn] = self.numbers(Stat::Counts);
        let (residual_flag, residual) = self.residual(id);
        let (read_flag, read_residual) = self.read_residual(id);
        let slot = self.slots.get(id);
        let ended = slot.ended.unwrap_or(Ended::GOOD);
        let sense = ended.sense.as_slice();
        let mut pdu = ScsiResponse::new(opcode::SCSI_RESPONSE);
        pdu.flags = FINAL | residual_flag | read_flag;
        pdu.status = ended.status.code();
        pdu.itt = slot.bhs.itt;
        pdu.numbers.stat_sn = stat_sn;
        pdu.numbers.exp_cmd_sn = exp_cmd_sn;
        pdu.numbers.max_cmd_sn = max_cmd_sn;
        pdu.exp_data_sn.set(slot.data_in_sn.wrapping_add(slot.r2t_sn));
        pdu.residual.set(residual);
        pdu.bidirectional_residual.set(read_residual);
        if sense.is_empty() {
            return put_header(pdu.as_bytes(), self.digests, sink);
        }
        // §11.4.7: SenseLength, then sense data.
        let mut segment = [0; 2 + holdfast_scsi::sense::DESCRIPTOR_LEN_MAX];
        let [high, low] = u16::try_from(sense.len()).unwrap_or(0).to_be_bytes();
        segment.iter_mut().zip([high, low].iter().chain(sense)).for_each(|(place, byte)| *place = *byte);
        let segment = segment.get(..2 + sense.len()).unwrap_or_default();
        pdu.data_len = wire_len(segment.len());
        put_header(pdu.as_bytes(), self.digests, sink);
        put_segment(segment, self.digests, sink);
    }
}

fn put_header<T: TransmitSink>(header: &[u8], digests: Digests, sink: &mut T) {
    sink.inline(header);
    if digests.header {
        sink.inline(&digest_of(header));
    }
}

fn put_segment<T: TransmitSink>(data: &[u8], digests: Digests, sink: &mut T) {
    if data.is_empty() {
        return;
    }
    sink.inline(data);
    sink.zeroes(padding(data.len()));
    if digests.data {
        let mut digest = Digest::new();
        digest.update(data);
        digest.update([0; 3].get(..padding(data.len())).unwrap_or_default());
        sink.inline(&digest.finish());
    }
}

/// Whether a command reads, and whether it writes, as its initiator says.
fn directions(slot: &Slot) -> (bool, bool) {
    let command: &ScsiCommand = transmute_ref!(&slot.bhs);
    (command.reads(), command.writes())
}

fn difference(wanted: usize, expected: usize) -> (Ordering, u32) {
    (wanted.cmp(&expected), number(wanted.abs_diff(expected)))
}

/// Lengths of our own making: none comes near 4 GiB.
fn number(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}
