//! One session under load. RFC 7143 §11.3 "SCSI Command", §11.7 "SCSI Data-Out and SCSI Data-In".

use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};
use crc_fast::crc32_iscsi;
use holdfast_testkit::iscsi::{
    BHS_LEN, Medium, Op as Command, Params, Pdu, RESERVED_TAG, Session, opcode, status,
};

use super::receive::{Ended, Event, Receive, wants_answer};
use crate::args::PiMode;
use crate::inbox::Filled;
use crate::lane::{Failure, Finished, Lane};
use crate::slots::Slots;
use crate::transmit::Transmit;
use crate::workload::{Feed, Op, Plan};

/// F bit; R and W bits; the attribute SIMPLE. RFC 7143 §11.3.1.
const FINAL: u8 = 0x80;
const READS: u8 = 0x40;
const WRITES: u8 = 0x20;
const SIMPLE: u8 = 0x01;
/// SYNCHRONIZE CACHE (10) over everything.
const SYNCHRONIZE: [u8; 10] = [0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// How write data travels.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// With the command.
    immediate: usize,
    /// Unasked, those with the command included.
    unasked: usize,
    /// In one PDU, in whole words.
    pdu_max: usize,
}

/// One session.
pub(crate) struct IscsiLane {
    stream: TcpStream,
    plan: Plan,
    feed: Feed,
    params: Params,
    shares: Shares,
    lun: [u8; 8],
    cmd_sn: u32,
    read_template: [u8; BHS_LEN],
    write_template: [u8; BHS_LEN],
    flush_template: [u8; BHS_LEN],
    slots: Slots,
    /// Writes whose flush waits for the command window.
    unflushed: Vec<usize>,
    transmit: Transmit,
    receive: Receive,
}

impl IscsiLane {
    /// Takes a session over; `writes` says whether any feed of it will write.
    pub(crate) fn new(session: Session, lun: u16, plan: &Plan, depth: usize, writes: bool) -> Result<Self> {
        let params = session.params().clone();
        let (cmd_sn, exp_stat_sn) = session.numbers();
        let max_cmd_sn = session.max_cmd_sn();
        let stream = session.into_connection().into_socket().into_stream()?;
        stream.set_nonblocking(true).context("making a socket non-blocking")?;
        let shares = Shares::new(&params, plan.io_wire_bytes);
        let template = |op| template(op, lun, plan, &shares);
        let slots = Slots::new(plan, depth, writes, stream.local_addr()?.port());
        let [_, _, _, _, _, _, _, _, address @ ..] = Pdu::new(opcode::SCSI_COMMAND).lun(lun).bhs;
        Ok(Self {
            read_template: template(Op::Read)?,
            write_template: template(Op::Write)?,
            flush_template: template(Op::Flush)?,
            stream,
            plan: plan.clone(),
            feed: Feed::nothing(),
            shares,
            lun: *address.first_chunk().context("a header is longer than a LUN")?,
            cmd_sn,
            slots,
            unflushed: Vec::with_capacity(depth),
            transmit: Transmit::default(),
            receive: Receive::new(params.digests, exp_stat_sn, max_cmd_sn),
            params,
        })
    }

    /// Whether the target takes another command. RFC 7143 §4.2.2.1 "Command Numbering and Acknowledging".
    fn window_is_open(&self) -> bool {
        self.receive.max_cmd_sn.wrapping_sub(self.cmd_sn) < 1 << 31
    }

    fn start(&mut self, index: usize, op: Op, slba: u64, now_ns: u64) {
        self.slots.start(index, op, slba, now_ns);
        let mut bhs = match op {
            Op::Read => self.read_template,
            Op::Write => self.write_template,
            Op::Flush => self.flush_template,
        };
        bhs[16..20].copy_from_slice(&tag(index).to_be_bytes());
        bhs[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        bhs[28..32].copy_from_slice(&self.receive.exp_stat_sn.to_be_bytes());
        if op != Op::Flush {
            bhs[34..42].copy_from_slice(&slba.to_be_bytes());
        }
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.header(&bhs);
        if op != Op::Write {
            return;
        }
        self.slots.stamp(&self.plan, index, slba);
        let Shares { immediate, unasked, .. } = self.shares;
        if immediate > 0 {
            self.data(index, 0, immediate);
        }
        if unasked > immediate {
            self.data_out(index, RESERVED_TAG, immediate, unasked);
        }
    }

    /// Queues the bytes from `from` to `to` of a slot's write data, in as many PDUs as it takes.
    fn data_out(&mut self, slot: usize, ttt: u32, from: usize, to: usize) {
        let (mut at, mut data_sn) = (from, 0_u32);
        while at < to {
            let next = at.saturating_add(self.shares.pdu_max).min(to);
            let len = next.saturating_sub(at);
            let mut bhs = [0; BHS_LEN];
            bhs[0] = opcode::DATA_OUT;
            bhs[1] = if next == to { FINAL } else { 0 };
            bhs[4..8].copy_from_slice(&number(len).to_be_bytes());
            bhs[8..16].copy_from_slice(&self.lun);
            bhs[16..20].copy_from_slice(&tag(slot).to_be_bytes());
            bhs[20..24].copy_from_slice(&ttt.to_be_bytes());
            bhs[28..32].copy_from_slice(&self.receive.exp_stat_sn.to_be_bytes());
            bhs[36..40].copy_from_slice(&data_sn.to_be_bytes());
            bhs[40..44].copy_from_slice(&number(at).to_be_bytes());
            self.header(&bhs);
            self.data(slot, at, len);
            data_sn = data_sn.wrapping_add(1);
            at = next;
        }
    }

    fn header(&mut self, bhs: &[u8; BHS_LEN]) {
        self.transmit.header(bhs);
        if self.params.digests.header {
            self.transmit.header(&crc32_iscsi(bhs).to_le_bytes());
        }
    }

    /// Queues payload bytes, whole words, and their digest.
    fn data(&mut self, slot: usize, from: usize, len: usize) {
        self.transmit.payload(slot, from, len);
        if self.params.digests.data {
            let crc = crc32_iscsi(self.slots.payload_part(slot, from, len));
            self.transmit.header(&crc.to_le_bytes());
        }
    }

    fn answer_ping(&mut self, lun: [u8; 8], ttt: u32) {
        let mut bhs = [0; BHS_LEN];
        bhs[0] = opcode::NOP_OUT | 0x40;
        bhs[1] = FINAL;
        bhs[8..16].copy_from_slice(&lun);
        bhs[16..20].copy_from_slice(&RESERVED_TAG.to_be_bytes());
        bhs[20..24].copy_from_slice(&ttt.to_be_bytes());
        bhs[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        bhs[28..32].copy_from_slice(&self.receive.exp_stat_sn.to_be_bytes());
        self.header(&bhs);
    }

    /// Ends a command; `None` if the flush of its write follows.
    fn finish(&mut self, ended: &Ended) -> Result<Option<Finished>> {
        let index = usize::try_from(ended.itt)?;
        let Some((op, ..)) = self.slots.in_flight(index) else {
            bail!("a response for task {:#010x}, which is not in flight", ended.itt);
        };
        ensure!(ended.response == 0, "response {:#04x} to task {:#010x}", ended.response, ended.itt);
        let is_good = ended.status == status::GOOD;
        if self.plan.flush && op == Op::Write && is_good {
            self.unflushed.push(index);
            self.start_flushes();
            return Ok(None);
        }
        ensure!(!is_good || !ended.residual, "a residual with status GOOD");
        let failure = (!is_good).then_some(Failure::Scsi { status: ended.status, sense: ended.sense });
        self.slots.finish(&self.plan, index, failure).map(Some)
    }

    fn start_flushes(&mut self) {
        while self.window_is_open() {
            let Some(index) = self.unflushed.pop() else { return };
            let since = self.slots.in_flight(index).map_or(0, |(_, _, submitted_ns)| submitted_ns);
            self.start(index, Op::Flush, 0, since);
        }
    }
}

impl Lane for IscsiLane {
    fn set_feed(&mut self, feed: Feed) {
        self.feed = feed;
    }

    fn socket(&self) -> &TcpStream {
        &self.stream
    }

    fn is_quiet(&self) -> bool {
        self.slots.is_quiet()
    }

    fn submit(&mut self, now_ns: u64) {
        while self.window_is_open() {
            let Some((index, op, unit)) = self.slots.take(&mut self.feed) else { return };
            self.start(index, op, self.plan.slba(unit), now_ns);
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.start_flushes();
        self.transmit.flush(&self.stream, self.slots.payloads()).context("sending")
    }

    fn receive(&mut self) -> Result<Filled> {
        self.receive.fill(&self.stream)
    }

    fn advance(&mut self) -> Result<Option<Finished>> {
        loop {
            match self.receive.next_event()? {
                None => return Ok(None),
                Some(Event::Ended(ended)) => {
                    if let Some(finished) = self.finish(&ended)? {
                        return Ok(Some(finished));
                    }
                }
                Some(Event::R2t { itt, ttt, offset, len }) => {
                    let index = usize::try_from(itt)?;
                    let end = offset.saturating_add(len);
                    let demanded = self.slots.demand_write(&self.plan, index, offset, end);
                    demanded.with_context(|| format!("R2T for task {itt:#010x}"))?;
                    self.data_out(index, ttt, offset, end);
                }
                Some(Event::Data { itt, offset, bytes }) => {
                    let kept = self.slots.keep(&self.plan, usize::try_from(itt)?, offset, bytes);
                    kept.with_context(|| format!("Data-In for task {itt:#010x}"))?;
                }
                Some(Event::Ping { lun, ttt }) => {
                    if wants_answer(ttt) {
                        self.answer_ping(lun, ttt);
                    }
                }
            }
        }
    }
}

impl Shares {
    fn new(params: &Params, len: usize) -> Self {
        let pdu_max = (params.max_send & !3).max(4);
        let burst = (params.first_burst & !3).min(len);
        let immediate = if params.immediate_data { burst.min(pdu_max) } else { 0 };
        let unasked = if params.initial_r2t { immediate } else { burst };
        Self { immediate, unasked, pdu_max }
    }
}

/// A command's header, all but task tag, numbers and address.
fn template(op: Op, lun: u16, plan: &Plan, shares: &Shares) -> Result<[u8; BHS_LEN]> {
    let protect = u8::from(plan.pi == PiMode::EndToEnd);
    let medium = Medium::at(0, u32::try_from(plan.io_blocks)?).protect(protect);
    let len = u32::try_from(plan.io_wire_bytes)?;
    let with_command = if op == Op::Write { number(shares.immediate) } else { 0 };
    let (flags, len, cdb) = match op {
        Op::Read => (FINAL | READS, len, medium.cdb16(Command::Read)),
        Op::Write => {
            let last = if shares.unasked > shares.immediate { 0 } else { FINAL };
            (last | WRITES, len, medium.cdb16(Command::Write))
        }
        Op::Flush => (FINAL, 0, SYNCHRONIZE.to_vec()),
    };
    let pdu = Pdu::new(opcode::SCSI_COMMAND).flags(flags | SIMPLE).lun(lun).word(20, len).cdb(&cdb);
    Ok(pdu.word(4, with_command).bhs)
}

fn tag(index: usize) -> u32 {
    u32::try_from(index).expect("the depth fits a task tag")
}

fn number(len: usize) -> u32 {
    u32::try_from(len).expect("a command's data fits 32 bits")
}
