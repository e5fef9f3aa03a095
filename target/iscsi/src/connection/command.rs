//! SCSI commands on their way into the device server and back. RFC 7143 §11.3 "SCSI Command".

use holdfast_block::{BlockPort, Completion, Origin};
use holdfast_scsi::sense::{Format, Sense, SenseKey};
use holdfast_scsi::{Buffers, Ended, Progress, Request, Status};
use zerocopy::transmute_ref;

use super::transmit::Outgoing;
use super::{Connection, Context, Phase};
use crate::params::Params;
use crate::slots::{Slot, SlotId, State};
use crate::wire::{ATTRIBUTE_ACA, Additional, Bhs, CDB_LEN_MAX, NO_TAG, ScsiCommand, reason};

/// Unsolicited data that was not allowed. §11.4.7.2 "Sense Data".
pub(super) const UNEXPECTED_DATA: Sense = Sense::new(SenseKey::AbortedCommand, 0x0c, 0x0c);
/// A task attribute that means nothing now: there is no ACA condition. SAM-5 §8.6.5 "Commands having the ACA task attribute".
const INVALID_MESSAGE: Sense = Sense::new(SenseKey::IllegalRequest, 0x49, 0x00);
/// More or less data than was asked for.
pub(super) const WRONG_AMOUNT: Sense = Sense::new(SenseKey::AbortedCommand, 0x0c, 0x0d);

impl Connection {
    /// Begins a command whose header has come; [`Connection::pdu_taken`] follows when its data has come, too. `None`: it was
    /// rejected.
    pub(super) fn begin_command<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        bhs: &Bhs,
        ahs: &[u8],
    ) -> Option<SlotId> {
        let (id, additional) = match self.admit(bhs, ahs) {
            Ok(admitted) => admitted,
            Err(reason) => {
                self.reject(reason, bhs);
                return None;
            }
        };
        let params = self.params().copied()?;
        let command: &ScsiCommand = transmute_ref!(bhs);
        let slot = self.slots.get_mut(id);
        slot.expected_len = length(command.expected_len.get());
        slot.read_len = match (command.reads(), command.writes()) {
            (true, true) => additional.read_len.map_or(0, length),
            (true, false) => slot.expected_len,
            (false, _) => 0,
        };
        slot.long_cdb.extend_from_slice(additional.cdb.unwrap_or_default());
        slot.unsolicited = !bhs.is_final();
        slot.doomed = match command.attribute() {
            ATTRIBUTE_ACA => Some(INVALID_MESSAGE),
            _ => wrong_data(bhs, command, &params),
        };
        let is_sound = slot.doomed.is_none();
        if slot.unsolicited {
            if self.solicited == 0 {
                self.transfer_moved_ms = cx.now_ms;
            }
            self.solicited += 1;
        }
        if is_sound && !self.comes_later(id) {
            self.start(cx, id);
        }
        Some(id)
    }

    /// Gives a command to the device server.
    pub(super) fn start<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let Phase::Full(full) = &mut self.phase else { return };
        let Some(nexus) = &mut full.nexus else { return };
        let slot = self.slots.get_mut(id);
        let bhs = slot.bhs;
        let command: &ScsiCommand = transmute_ref!(&bhs);
        let mut room = [0; CDB_LEN_MAX];
        let request = Request {
            lun: bhs.lun,
            cdb: whole_cdb(command, &slot.long_cdb, &mut room),
            buffers: Buffers {
                data_out: if command.writes() { slot.expected_len } else { 0 },
                data_in: slot.read_len,
            },
            origin: Origin { connection: self.config.id, command: id.get() },
        };
        slot.task.set_yields(self.tickets > 0);
        let progress = nexus.start(&mut cx.scsi(), &mut slot.task, &request);
        self.tickets += slot.task.tickets();
        let cost = slot.task.take_cost();
        self.charge(cost);
        self.advance(cx, id, progress);
    }

    /// Judges a command's header, and gives it a slot; or the reason of a Reject.
    fn admit<'a>(&mut self, bhs: &Bhs, ahs: &'a [u8]) -> Result<(SlotId, Additional<'a>), u8> {
        let command: &ScsiCommand = transmute_ref!(bhs);
        let additional = Additional::parse(ahs).ok_or(reason::INVALID_FIELD)?;
        let is_sound = bhs.itt.get() != NO_TAG
            && command.attribute() <= ATTRIBUTE_ACA
            // §11.3.1: only what writes may announce more data, and what moves data has a direction.
            && (command.writes() || bhs.is_final())
            && (command.writes() || command.reads() || command.expected_len.get() == 0)
            && (command.reads() || additional.read_len.unwrap_or(0) == 0);
        if !is_sound {
            return Err(reason::INVALID_FIELD);
        }
        if self.slots.find(bhs.itt.get()).is_some() {
            return Err(reason::IN_PROGRESS);
        }
        let id = self.slots.insert(bhs).ok_or(reason::IMMEDIATE)?;
        self.ended_tags.retain(|itt| *itt != bhs.itt.get());
        Ok((id, additional))
    }

    /// A PDU with data for a task, or its command, is complete.
    pub(super) fn pdu_taken<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        self.slots.get_mut(id).arriving = false;
        self.data_moved(cx, id);
    }

    /// Takes what has become of a task.
    pub(super) fn advance<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId, progress: Progress) {
        let slot = self.slots.get_mut(id);
        match progress {
            Progress::Receive { out_len } => {
                slot.out_len = Some(out_len);
                let staged = std::mem::take(&mut slot.staging);
                if let Some(bytes) = staged.get(..out_len.min(staged.len()))
                    && !bytes.is_empty()
                {
                    slot.task.fill(cx.port, 0, bytes);
                }
                slot.staging = staged;
                slot.staging.clear();
                if slot.damaged {
                    slot.task.digest_failed(cx.port);
                }
            }
            Progress::Wait => {
                if !std::mem::replace(&mut slot.waiting, true) {
                    self.waiting.push_back(id);
                }
                if !self.others_will_end() {
                    // Nothing will be given back.
                    self.forget_waiting(id);
                    self.give_back(cx, id);
                    self.slots.get_mut(id).ended = Some(Ended::plain(Status::Busy));
                }
            }
            Progress::Running => slot.state = State::Running,
            Progress::Ended(ended) => slot.ended = Some(ended),
        }
        self.data_moved(cx, id);
    }

    /// Looks what is next for a task, when data for it has come or it has got on by itself; not in the middle of a PDU.
    pub(super) fn data_moved<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let slot = self.slots.get_mut(id);
        if slot.arriving {
            return;
        }
        match slot.state {
            State::Receiving | State::Draining | State::Running => {}
            State::Aborting if !slot.awaits_data() => {
                self.slots.free(id);
                return self.finish_managing(cx);
            }
            State::Free | State::Aborting | State::Answering | State::Sent | State::Leaving => return,
        }
        if slot.awaits_data() {
            if slot.ended.is_some() {
                slot.state = State::Draining;
            } else if !slot.unsolicited {
                self.solicit(cx, id);
            }
            return;
        }
        if slot.ended.is_none()
            && let Some(sense) = slot.doomed.take()
        {
            let nexus = match &self.phase {
                Phase::Full(full) => full.nexus.as_ref(),
                Phase::Login(_) | Phase::Over => None,
            };
            let format = nexus.map_or(Format::Fixed, |nexus| nexus.sense_format(slot.bhs.lun));
            slot.ended = Some(Ended::check(&sense, format));
            self.give_back(cx, id);
            self.forget_waiting(id);
        }
        let slot = self.slots.get_mut(id);
        if slot.ended.is_some() {
            return self.answer(id);
        }
        match slot.out_len {
            Some(out_len) if slot.state == State::Receiving && slot.received >= out_len => {
                slot.state = State::Running;
                let progress = self.with_task(cx, id, |slot, cx, nexus| slot.task.received(cx, nexus));
                self.advance(cx, id, progress);
            }
            Some(_) if slot.state == State::Receiving => self.solicit(cx, id),
            Some(_) | None => {}
        }
    }

    /// Ends the device server's part of a task before its time.
    pub(super) fn give_back<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, id: SlotId) {
        let slot = self.slots.get_mut(id);
        let tickets = slot.task.tickets();
        slot.task.cancel(cx.port);
        self.tickets -= tickets;
        self.freed |= tickets > 0;
    }

    /// Whether a task will give something back that does not wait itself.
    fn others_will_end(&self) -> bool {
        let waiting: usize = self.waiting.iter().map(|id| self.slots.get(*id).task.tickets()).sum();
        self.tickets > waiting
    }

    /// Runs `work` on a task, with its tickets counted.
    fn with_task<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        id: SlotId,
        work: impl FnOnce(&mut Slot, &mut holdfast_scsi::Context<'_, P>, &mut holdfast_scsi::Nexus) -> Progress,
    ) -> Progress {
        let Phase::Full(full) = &mut self.phase else { return Progress::Running };
        let Some(nexus) = &mut full.nexus else { return Progress::Running };
        let slot = self.slots.get_mut(id);
        let before = slot.task.tickets();
        let progress = work(slot, &mut cx.scsi(), nexus);
        self.tickets = self.tickets - before + slot.task.tickets();
        let cost = slot.task.take_cost();
        self.charge(cost);
        progress
    }

    /// A completion of the block layer.
    pub(super) fn completed<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, completion: Completion) {
        let Some(id) = self.slots.named(completion.origin.command) else {
            debug_assert!(false, "a completion of no task of this connection");
            return cx.port.release(completion.ticket);
        };
        let progress = self.with_task(cx, id, |slot, cx, nexus| slot.task.complete(cx, nexus, completion));
        self.advance(cx, id, progress);
        self.admit_waiting(cx);
        self.let_others_on(cx);
    }

    /// Lets tasks that wait for room try again, as long as they find any.
    pub(super) fn admit_waiting<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        for _ in 0..self.waiting.len() {
            let Some(id) = self.waiting.pop_front() else { return };
            self.slots.get_mut(id).waiting = false;
            self.slots.get_mut(id).task.set_yields(self.tickets > 0);
            let progress = self.with_task(cx, id, |slot, cx, nexus| slot.task.retry(cx, nexus));
            if progress == Progress::Wait {
                // It was the first, and stays so.
                self.slots.get_mut(id).waiting = true;
                self.waiting.push_front(id);
                if self.others_will_end() {
                    return;
                }
            }
            self.advance(cx, id, progress);
        }
    }

    /// Lets tasks go on that waited for others which have ended, or for room that was given back before its time.
    pub(super) fn let_others_on<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        self.begin_later(cx);
        while std::mem::take(&mut self.freed) {
            self.admit_waiting(cx);
            self.begin_later(cx);
        }
    }

    pub(super) fn forget_waiting(&mut self, id: SlotId) {
        if std::mem::take(&mut self.slots.get_mut(id).waiting) {
            self.waiting.retain(|other| *other != id);
        }
    }

    /// A task is over: its answer is sent.
    fn answer(&mut self, id: SlotId) {
        let slot = self.slots.get_mut(id);
        slot.state = State::Answering;
        let len = slot.task.in_len();
        self.left_order(id);
        self.charge_bytes(len);
        self.outbox.push_back(Outgoing::Answer(id));
    }
}

/// What is wrong with the data that came with a command, or that it announces. §11.4.7.2 "Sense Data".
fn wrong_data(bhs: &Bhs, command: &ScsiCommand, params: &Params) -> Option<Sense> {
    let len = bhs.data_len();
    let most = length(params.first_burst_len).min(length(command.expected_len.get()));
    if len > 0 && !(params.immediate_data && command.writes()) {
        return Some(UNEXPECTED_DATA);
    }
    if !bhs.is_final() && params.initial_r2t {
        return Some(UNEXPECTED_DATA);
    }
    (len > most).then_some(WRONG_AMOUNT)
}

/// The CDB, which goes on in an additional header segment if it is longer than the header has room for.
fn whole_cdb<'a>(command: &'a ScsiCommand, rest: &[u8], room: &'a mut [u8; CDB_LEN_MAX]) -> &'a [u8] {
    if rest.is_empty() {
        return &command.cdb;
    }
    for (place, byte) in room.iter_mut().zip(command.cdb.iter().chain(rest)) {
        *place = *byte;
    }
    room.get(..command.cdb.len() + rest.len()).unwrap_or(&command.cdb)
}

fn length(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
