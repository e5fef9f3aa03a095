//! What comes in: connection set-up, command capsules, payload. NVMe/TCP 1.1 §3.3.2 "Transport Initialization" and §3.5 "Data
//! Transfer Model".

use holdfast_block::{BlockPort, PDU_COST};
use holdfast_pi::Digests;

use super::{Connection, Context, Outgoing};
use crate::directory::H2cDataMax;
use crate::framer::Frame;
use crate::slots::{SlotId, State, Tagged};
use crate::status::Status;
use crate::term::{Fatal, FatalStatus};
use crate::wire::pdu::{DGST_DATA, DGST_HEADER, DataHeader, InitializeConnection, offset};
use crate::wire::sqe::Sqe;
use zerocopy::IntoBytes;

/// Where the payload of the PDU in work goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ingest {
    Idle,
    /// Nowhere; then this command is answered.
    Discard {
        then: SlotId,
    },
    /// In-capsule data, after so many bytes.
    Capsule {
        slot: SlotId,
        skip: usize,
    },
    /// H2CData.
    Transfer {
        slot: SlotId,
        last: bool,
        /// Where in the transfer this PDU ends.
        end: usize,
    },
}

impl Connection {
    pub(super) fn take<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, frame: Frame<'_>) {
        match &frame {
            Frame::Data(bytes) => self.charge_bytes(bytes.len()),
            Frame::DataEnd { .. } => {}
            _ => self.charge(PDU_COST),
        }
        match frame {
            Frame::Initialize(request) => self.initialize(&request, cx.directory.config().h2c_data_max),
            Frame::Command { sqe, data_len } => self.take_command(cx, sqe, data_len),
            Frame::HostData { header, last } => {
                let limit = cx.directory.config().h2c_data_max;
                if let Err(fatal) = self.take_host_data(&header, last, limit) {
                    self.terminate(cx, fatal);
                }
            }
            Frame::Data(bytes) => self.take_payload(cx, bytes),
            Frame::DataEnd { damaged } => self.end_payload(cx, damaged),
        }
    }

    /// Digests are on if the host wants them.
    fn initialize(&mut self, request: &InitializeConnection, limit: H2cDataMax) {
        let header = request.dgst & DGST_HEADER != 0;
        let data = request.dgst & DGST_DATA != 0;
        self.digests = Digests { header, data };
        self.data_alignment = (usize::from(request.pda) + 1) * 4;
        self.framer.negotiated(self.digests);
        let digests = request.dgst & (DGST_HEADER | DGST_DATA);
        let response = InitializeConnection::response(digests, limit.bytes());
        self.urgent.extend_from_slice(response.as_bytes());
    }

    fn take_command<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, sqe: Sqe, data_len: usize) {
        if self.is_orphan() {
            // Any answer would be final for the host, while a lost connection lets it use another path.
            return self.lose(cx);
        }
        let Some((id, fresh)) = self.slots.insert(sqe) else {
            return self.overflow(cx);
        };
        let planned = if fresh || holdfast_mutant::active("cid-conflict") {
            self.plan(cx, id, &sqe)
        } else {
            Err(Status::COMMAND_ID_CONFLICT.into())
        };
        self.begin_io(cx, id, planned, data_len);
    }

    /// Answers a command, after its capsule's payload has been swallowed.
    pub(super) fn settle(&mut self, id: SlotId, status: Status, result: u64, data_len: usize) {
        let slot = self.slots.get_mut(id);
        slot.status = status;
        slot.result = result;
        slot.transfer_len = 0;
        slot.progress = 0;
        self.send_after_payload(id, data_len);
    }

    /// Sends what the slot holds, after its capsule's payload has been swallowed.
    pub(super) fn send_after_payload(&mut self, id: SlotId, data_len: usize) {
        if data_len > 0 {
            self.ingest = Ingest::Discard { then: id };
        } else {
            self.send(id);
        }
    }

    pub(super) fn send(&mut self, id: SlotId) {
        self.slots.get_mut(id).state = State::Answering;
        self.outbox.push_back(Outgoing::Answer(id));
    }

    pub(super) fn expect_capsule_data(&mut self, id: SlotId, skip: usize) {
        self.slots.get_mut(id).state = State::Arriving;
        self.ingest = Ingest::Capsule { slot: id, skip };
    }

    /// §3.3.2.2 "Host to Controller Command Data Buffer Transfers": of a command with an R2T, in order, within the R2T, and the
    /// last one marked.
    fn take_host_data(&mut self, header: &DataHeader, last: bool, limit: H2cDataMax) -> Result<(), Fatal> {
        let (tag, cid) = (header.ttag.get(), header.cccid.get());
        match self.slots.tagged(tag) {
            Tagged::Open(id) => {
                let slot = self.slots.get(id);
                if slot.sqe.cid != header.cccid && !holdfast_mutant::active("h2c-cccid") {
                    return Err(Fatal::field(offset::CCCID));
                }
                let end = end_of(header, slot.progress, slot.transfer_len, last, limit)?;
                self.ingest = Ingest::Transfer { slot: id, last, end };
            }
            over => {
                let Some(aborted) = self.aborted_r2ts.find(tag) else {
                    let known = over == Tagged::Over { cid };
                    let unexpected = Fatal::new(FatalStatus::PduSequence);
                    return Err(if known { unexpected } else { Fatal::field(offset::TTAG) });
                };
                if aborted.cid != cid {
                    return Err(Fatal::field(offset::CCCID));
                }
                aborted.progress = end_of(header, aborted.progress, aborted.transfer_len, last, limit)?;
                if last {
                    self.aborted_r2ts.remove(tag);
                }
            }
        }
        Ok(())
    }

    fn take_payload<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, bytes: &[u8]) {
        match &mut self.ingest {
            Ingest::Idle | Ingest::Discard { .. } => {}
            Ingest::Capsule { slot, skip } => {
                let skipped = bytes.len().min(*skip);
                *skip -= skipped;
                let id = *slot;
                self.fill(cx, id, bytes.get(skipped..).unwrap_or_default());
            }
            Ingest::Transfer { slot, .. } => {
                let id = *slot;
                self.transfer_moved_ms = cx.now_ms;
                self.fill(cx, id, bytes);
            }
        }
    }

    /// Hands on what a command still wants of some bytes.
    fn fill<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId, bytes: &[u8]) {
        let slot = self.slots.get_mut(id);
        let wanted = slot.transfer_len.saturating_sub(slot.progress);
        let bytes = bytes.get(..wanted).unwrap_or(bytes);
        if bytes.is_empty() {
            return;
        }
        match slot.ticket {
            Some(ticket) => cx.port.fill(ticket, slot.progress, bytes),
            None => self.slots.stage(id, bytes),
        }
        self.slots.get_mut(id).progress += bytes.len();
    }

    fn end_payload<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, damaged: bool) {
        if damaged && let Some(counters) = &self.digest_counters {
            counters.add_data();
        }
        let (id, complete) = match std::mem::replace(&mut self.ingest, Ingest::Idle) {
            Ingest::Idle => return,
            Ingest::Discard { then } => return self.send(then),
            Ingest::Capsule { slot, .. } => (slot, true),
            Ingest::Transfer { slot, last, .. } => (slot, last),
        };
        let slot = self.slots.get_mut(id);
        if damaged {
            slot.damaged = true;
            if let Some(ticket) = slot.ticket {
                cx.port.digest_failed(ticket);
            }
        }
        if complete {
            self.payload_complete(cx, id);
        }
    }
}

/// Where H2CData ends that has to go on at `progress` of a transfer.
fn end_of(
    header: &DataHeader,
    progress: usize,
    transfer_len: usize,
    last: bool,
    limit: H2cDataMax,
) -> Result<usize, Fatal> {
    if header.length.get() > limit.bytes() && !holdfast_mutant::active("maxh2cdata") {
        return Err(Fatal::new(FatalStatus::DataLimitExceeded));
    }
    let at = usize::try_from(header.offset.get()).ok();
    let end = at.zip(usize::try_from(header.length.get()).ok()).and_then(|(at, len)| at.checked_add(len));
    let end = end.filter(|end| *end <= transfer_len).ok_or(Fatal::new(FatalStatus::DataOutOfRange))?;
    let in_order = at == Some(progress) || holdfast_mutant::active("h2c-order");
    let last_fits = last == (end == transfer_len) || holdfast_mutant::active("h2c-last");
    if !in_order || !last_fits {
        return Err(Fatal::new(FatalStatus::PduSequence));
    }
    Ok(end)
}
