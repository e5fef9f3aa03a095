//! What comes in: which PDU, in which order, and where its data goes. RFC 7143 §4.2.2.1 "Command Numbering and Acknowledging".
//!
//! Requests are carried out in the order of their numbers. One connection delivers them so, but for one that was rejected: its
//! number counts as not received (§7.3 "Usage of Reject PDU in Recovery"), and what comes behind it waits until the gap is
//! filled.

use holdfast_block::{BlockPort, PDU_COST};
use zerocopy::transmute_ref;

use super::{Connection, Context, Phase};
use crate::framer::{Frame, FrameError};
use crate::limits::{HELD_BYTES_MAX, NOTICE_BYTES_MAX, NOTICES_MAX, ROOM_KEPT_MAX, WINDOW};
use crate::slots::SlotId;
use crate::wire::{Bhs, opcode, reason};

/// Where the data of the PDU in work goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Ingest {
    Idle,
    /// Nowhere.
    Discard,
    /// Nowhere, since its command was aborted meanwhile; its number counts.
    Aborted(Bhs),
    /// To a request that is looked at when it is whole.
    Gather(Bhs),
    /// To a command that came with it.
    Immediate(SlotId),
    /// To a command that came before.
    DataOut {
        slot: SlotId,
        bhs: Bhs,
    },
    /// To a command that waits for a request before it.
    Held {
        itt: u32,
        bhs: Bhs,
    },
}

/// A request that waits for one that is missing before it.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bhs: Bhs,
    ahs: Vec<u8>,
    data: Vec<u8>,
    /// Unsolicited data that came behind it; whether each piece is damaged.
    more: Vec<(Bhs, Vec<u8>, bool)>,
    /// It was aborted: only its number is left.
    is_void: bool,
}

impl Held {
    /// A number that nothing is carried out for.
    pub(super) fn void(bhs: Bhs) -> Held {
        Held { bhs, ahs: Vec::new(), data: Vec::new(), more: Vec::new(), is_void: true }
    }

    /// Whether it is a command that is still to be carried out.
    pub(super) fn is_command(&self) -> bool {
        !self.is_void && self.bhs.opcode() == opcode::SCSI_COMMAND
    }

    /// Nothing is carried out for it any more; its tag.
    pub(super) fn make_void(&mut self) -> u32 {
        *self = Held::void(self.bhs);
        self.bhs.itt.get()
    }

    fn len(&self) -> usize {
        let more: usize = self.more.iter().map(|(_, data, _)| size_of::<Bhs>() + data.len()).sum();
        size_of::<Held>() + self.ahs.len() + self.data.len() + more
    }
}

impl Connection {
    pub(super) fn take<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, frame: Frame<'_>) {
        match frame {
            Frame::Header(bhs) => {
                self.charge(PDU_COST);
                if self.notices >= NOTICES_MAX || self.notice_bytes >= NOTICE_BYTES_MAX {
                    return self.lose(cx);
                }
                self.take_header(cx, &bhs);
                if bhs.data_len() == 0 {
                    self.end_of_pdu(cx, false);
                }
            }
            Frame::Data(bytes) => {
                self.charge_bytes(bytes.len());
                match self.ingest {
                    Ingest::Idle | Ingest::Discard | Ingest::Aborted(_) => {}
                    Ingest::Gather(_) | Ingest::Held { .. } => self.gathered.extend_from_slice(bytes),
                    Ingest::Immediate(id) | Ingest::DataOut { slot: id, .. } => {
                        self.transfer_moved_ms = cx.now_ms;
                        self.take_data(cx, id, bytes);
                    }
                }
            }
            Frame::DataEnd { damaged } => self.end_of_pdu(cx, damaged),
        }
    }

    /// Nothing more can be made of the stream.
    pub(super) fn stream_failed<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, error: FrameError) {
        if error == FrameError::HeaderDigest
            && let Some(counters) = &self.digest_counters
        {
            counters.add_header();
        }
        self.lose(cx);
    }

    fn take_header<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, bhs: &Bhs) {
        self.gathered.clear();
        self.ingest = Ingest::Gather(*bhs);
        let Phase::Full(full) = &self.phase else { return };
        let opcode = bhs.opcode();
        // §4.3 "iSCSI Session Types": for discovery there are Text and Logout alone.
        let is_offered = full.nexus.is_some() || matches!(opcode, opcode::TEXT | opcode::LOGOUT);
        let refused = match opcode {
            // §6.3: a login is over, and a new one needs a new connection. §11.16: there is nothing to ask for again at
            // ErrorRecoveryLevel 0.
            opcode::LOGIN | opcode::SNACK => Some(reason::PROTOCOL),
            _ if !is_offered => Some(reason::PROTOCOL),
            opcode::NOP_OUT | opcode::TEXT | opcode::LOGOUT | opcode::TASK_MANAGEMENT => None,
            opcode::SCSI_COMMAND | opcode::DATA_OUT => None,
            _ => Some(reason::NOT_SUPPORTED),
        };
        if let Some(reason) = refused {
            self.ingest = Ingest::Discard;
            return self.reject(reason, bhs);
        }
        if opcode == opcode::DATA_OUT {
            self.ingest = self.take_data_out(cx, bhs);
            return;
        }
        let judged_whole = self.digests.data && bhs.data_len() > 0;
        match self.distance(bhs) {
            Some(0) if opcode == opcode::SCSI_COMMAND && !judged_whole => {
                // Only commands with long CDBs bring any.
                let ahs = self.framer.ahs().to_vec();
                let begun = self.begin_command(cx, bhs, &ahs);
                self.ingest = begun.map_or(Ingest::Discard, Ingest::Immediate);
            }
            Some(0) => {}
            Some(_) if self.held_bytes() < HELD_BYTES_MAX => {}
            // §4.2.2.1: what lies outside the window is ignored without a word, and so are duplicates.
            Some(_) | None => {
                self.ingest = Ingest::Discard;
                if opcode == opcode::SCSI_COMMAND
                    && !bhs.is_final()
                    && self.slots.find(bhs.itt.get()).is_none()
                {
                    self.remember_ended(bhs.itt.get());
                }
            }
        }
    }

    /// How many requests are missing before this one; `None`: it is outside the window, or there already.
    fn distance(&self, bhs: &Bhs) -> Option<u32> {
        if bhs.is_immediate() {
            return Some(0);
        }
        let ahead = bhs.cmd_sn.get().wrapping_sub(self.exp_cmd_sn);
        (ahead < self.room() && !self.is_held(bhs.cmd_sn.get())).then_some(ahead)
    }

    pub(super) fn is_held(&self, cmd_sn: u32) -> bool {
        self.held.iter().any(|held| held.bhs.cmd_sn.get() == cmd_sn)
    }

    /// How many numbers may still come now.
    pub(super) fn room(&self) -> u32 {
        WINDOW.saturating_sub(self.slots.numbered())
    }

    /// The last number that may come now: it grows as tasks end, and never goes back.
    pub(super) fn max_cmd_sn(&self) -> u32 {
        self.exp_cmd_sn.wrapping_add(self.room()).wrapping_sub(1)
    }

    fn held_bytes(&self) -> usize {
        self.held.iter().map(Held::len).sum()
    }

    /// All of a PDU is there.
    fn end_of_pdu<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, damaged: bool) {
        if damaged && let Some(counters) = &self.digest_counters {
            counters.add_data();
        }
        match std::mem::replace(&mut self.ingest, Ingest::Idle) {
            Ingest::Idle | Ingest::Discard => {}
            Ingest::Aborted(bhs) => {
                self.count(&bhs);
                self.go_on(cx);
            }
            Ingest::Immediate(id) => {
                let bhs = self.slots.get(id).bhs;
                self.count(&bhs);
                self.slots.count(id);
                self.pdu_taken(cx, id);
                self.go_on(cx);
            }
            Ingest::DataOut { slot, bhs } => self.end_data_out(cx, slot, &bhs, damaged),
            Ingest::Held { itt, bhs } => self.end_held_data(itt, &bhs, damaged),
            // §7.8 "Digest Errors": with its data the whole request is discarded, its number counted as not received.
            Ingest::Gather(bhs) if damaged => self.reject(reason::DATA_DIGEST, &bhs),
            Ingest::Gather(bhs) => {
                let data = std::mem::take(&mut self.gathered);
                self.take_whole(cx, &bhs, &data);
                if data.capacity() <= ROOM_KEPT_MAX {
                    self.gathered = data;
                    self.gathered.clear();
                }
            }
        }
    }

    fn take_whole<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, bhs: &Bhs, data: &[u8]) {
        if matches!(self.phase, Phase::Login(_)) {
            return self.take_login(cx, bhs, data);
        }
        let ahs = self.framer.ahs().to_vec();
        match self.distance(bhs) {
            Some(0) => {
                self.carry_out_whole(cx, bhs, &ahs, data);
                self.go_on(cx);
            }
            Some(_) => {
                let held = Held { bhs: *bhs, ahs, data: data.to_vec(), more: Vec::new(), is_void: false };
                self.held.push(held);
            }
            None => {}
        }
    }

    /// Carries out a request whose turn it is. `false`: it was rejected, so that its number counts as not received.
    fn carry_out_whole<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        bhs: &Bhs,
        ahs: &[u8],
        data: &[u8],
    ) -> bool {
        if bhs.opcode() != opcode::SCSI_COMMAND {
            let received = self.carry_out(cx, bhs, data);
            if received {
                self.count(bhs);
            }
            return received;
        }
        let Some(id) = self.begin_command(cx, bhs, ahs) else { return false };
        self.take_data(cx, id, data);
        self.count(bhs);
        self.slots.count(id);
        self.pdu_taken(cx, id);
        true
    }

    /// A request was received: its number is used up.
    fn count(&mut self, bhs: &Bhs) {
        if !bhs.is_immediate() {
            self.exp_cmd_sn = self.exp_cmd_sn.wrapping_add(1);
        }
    }

    /// Carries out what waited for the request that has just been counted.
    fn go_on<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        while self.takes_input()
            && let Some(at) = self.held.iter().position(|held| held.bhs.cmd_sn.get() == self.exp_cmd_sn)
        {
            let Held { bhs, ahs, data, more, is_void } = self.held.swap_remove(at);
            if is_void {
                self.count(&bhs);
            } else if !self.carry_out_whole(cx, &bhs, &ahs, &data) {
                return;
            }
            for (bhs, data, damaged) in more {
                if let Ingest::DataOut { slot, bhs } = self.take_data_out(cx, &bhs) {
                    self.take_data(cx, slot, &data);
                    self.end_data_out(cx, slot, &bhs, damaged);
                }
            }
        }
    }

    /// Whether a command with this tag waits for its turn.
    pub(super) fn held_command(&mut self, itt: u32) -> Option<&mut Held> {
        self.held.iter_mut().find(|held| held.is_command() && held.bhs.itt.get() == itt)
    }

    /// Whether more may be held.
    pub(super) fn may_hold(&self) -> bool {
        self.held_bytes() < HELD_BYTES_MAX
    }

    /// A Data-Out for a command that waits for its turn is complete.
    fn end_held_data(&mut self, itt: u32, bhs: &Bhs, damaged: bool) {
        if damaged {
            self.reject(reason::DATA_DIGEST, bhs);
        }
        let data = std::mem::take(&mut self.gathered);
        if let Some(held) = self.held_command(itt) {
            held.more.push((*bhs, data, damaged));
        }
    }
}

/// What a Data-Out says beside what all headers say.
pub(super) fn data_out(bhs: &Bhs) -> &crate::wire::DataOut {
    transmute_ref!(bhs)
}
