//! One I/O queue under load.

use std::net::TcpStream;

use anyhow::{Context as _, Result, bail, ensure};
use crc_fast::crc32_iscsi;
use holdfast_testkit::Queue;
use holdfast_testkit::wire::{Cqe, DataPdu, Digests, Frame, Pdu, R2t, Sqe, kind};

use super::receive::{Event, Receive};
use crate::inbox::Filled;
use crate::lane::{Failure, Finished, Lane};
use crate::slots::Slots;
use crate::transmit::Transmit;
use crate::workload::{Feed, Op, Plan};

/// A capsule that needs only its CID, SLBA and tags: Common Header and entry.
#[derive(Debug, Clone, Copy)]
struct Template([u8; 72]);

/// One connection.
pub(crate) struct NvmeLane {
    stream: TcpStream,
    plan: Plan,
    feed: Feed,
    digests: Digests,
    maxh2cdata: usize,
    data_alignment: usize,
    write_in_capsule: bool,
    read_template: Template,
    write_template: Template,
    flush_template: Template,
    slots: Slots,
    transmit: Transmit,
    receive: Receive,
}

impl Lane for NvmeLane {
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
        while let Some((index, op, unit)) = self.slots.take(&mut self.feed) {
            self.start(index, op, self.plan.slba(unit), now_ns);
        }
    }

    fn flush(&mut self) -> Result<()> {
        self.transmit.flush(&self.stream, self.slots.payloads()).context("sending")
    }

    fn receive(&mut self) -> Result<Filled> {
        self.receive.fill(&self.stream)
    }

    fn advance(&mut self) -> Result<Option<Finished>> {
        loop {
            match self.receive.next_event()? {
                None => return Ok(None),
                Some(Event::Response(cqe)) => {
                    if let Some(finished) = self.finish(cqe)? {
                        return Ok(Some(finished));
                    }
                }
                Some(Event::Success { cid }) => {
                    if let Some(finished) = self.finish(Cqe { cid, ..Cqe::default() })? {
                        return Ok(Some(finished));
                    }
                }
                Some(Event::R2t(r2t)) => self.answer(&r2t)?,
                Some(Event::Data { cid, offset, bytes }) => {
                    let kept = self.slots.keep(&self.plan, cid.into(), offset, bytes);
                    kept.with_context(|| format!("C2HData for CID {cid:#06x}"))?;
                }
            }
        }
    }
}

impl NvmeLane {
    /// Takes a connected queue over; `writes` says whether any feed of it will write.
    pub(crate) fn new(queue: Queue, plan: &Plan, depth: usize, writes: bool) -> Result<Self> {
        let write_in_capsule = plan.io_wire_bytes <= queue.in_capsule_max();
        let connection = queue.into_connection();
        let (digests, resp) = (connection.digests(), connection.ic_resp());
        let data_alignment = connection.data_alignment();
        let stream = connection.into_stream()?;
        stream.set_nonblocking(true).context("making a socket non-blocking")?;
        let template = |op| {
            let sqe = plan.sqe(op, write_in_capsule);
            let data =
                if op == Op::Write && write_in_capsule { vec![0; plan.io_wire_bytes] } else { Vec::new() };
            Template::new(&Pdu::CapsuleCmd { sqe, data }.encode(digests, data_alignment))
        };
        let slots = Slots::new(plan, depth, writes, stream.local_addr()?.port());
        Ok(Self {
            read_template: template(Op::Read)?,
            write_template: template(Op::Write)?,
            flush_template: template(Op::Flush)?,
            stream,
            plan: plan.clone(),
            feed: Feed::nothing(),
            digests,
            maxh2cdata: usize::try_from(resp.maxh2cdata)?.max(1),
            data_alignment,
            write_in_capsule,
            slots,
            transmit: Transmit::default(),
            receive: Receive::new(digests),
        })
    }

    fn start(&mut self, index: usize, op: Op, slba: u64, now_ns: u64) {
        let cid = u16::try_from(index).expect("the depth fits a CID");
        self.slots.start(index, op, slba, now_ns);
        let template = match op {
            Op::Read => &self.read_template,
            Op::Write => &self.write_template,
            Op::Flush => &self.flush_template,
        };
        let capsule = match op {
            Op::Read | Op::Write => template.filled(cid, slba, self.plan.ref_tag(slba)),
            Op::Flush => template.filled(cid, 0, 0),
        };
        self.transmit.header(&capsule);
        if self.digests.header {
            self.transmit.header(&crc32_iscsi(&capsule).to_le_bytes());
        }
        if op == Op::Write {
            self.slots.stamp(&self.plan, index, slba);
            if self.write_in_capsule {
                self.data(index, 0, self.plan.io_wire_bytes, 72);
            }
        }
    }

    /// Queues padding, payload bytes and data digest, behind a header of `hlen` bytes.
    fn data(&mut self, slot: usize, from: usize, len: usize, hlen: usize) {
        const PADDING: [u8; 128] = [0; 128];
        let head_len = hlen.saturating_add(if self.digests.header { 4 } else { 0 });
        let padding = head_len.next_multiple_of(self.data_alignment).saturating_sub(head_len);
        self.transmit.header(PADDING.get(..padding).expect("alignment is at most 128 bytes"));
        self.transmit.payload(slot, from, len);
        if self.digests.data {
            let crc = crc32_iscsi(self.slots.payload_part(slot, from, len));
            self.transmit.header(&crc.to_le_bytes());
        }
    }

    fn answer(&mut self, r2t: &R2t) -> Result<()> {
        let index = usize::from(r2t.cccid);
        let start = usize::try_from(r2t.r2to)?;
        let end = start.saturating_add(usize::try_from(r2t.r2tl)?);
        let demanded = self.slots.demand_write(&self.plan, index, start, end);
        demanded.with_context(|| format!("R2T for CID {:#06x}", r2t.cccid))?;
        ensure!(!self.write_in_capsule, "R2T for a write whose data is in its capsule");
        let mut at = start;
        while at < end {
            let next = at.saturating_add(self.maxh2cdata).min(end);
            let len = next.saturating_sub(at);
            let pdu = DataPdu {
                cccid: r2t.cccid,
                ttag: r2t.ttag,
                datao: u32::try_from(at)?,
                datal: u32::try_from(len)?,
                last: next == end,
                ..DataPdu::default()
            };
            self.h2c_header(&pdu, len)?;
            self.data(index, at, len, 24);
            at = next;
        }
        Ok(())
    }

    /// Queues the header of an H2CData PDU whose data, of `len` bytes, is queued by [`Self::data`].
    fn h2c_header(&mut self, pdu: &DataPdu, len: usize) -> Result<()> {
        const HLEN: usize = 24;
        const FLAG_LAST: u8 = 0x04;
        let (header_digest, data_digest) = (self.digests.header, self.digests.data);
        let head_len = HLEN.saturating_add(if header_digest { 4 } else { 0 });
        let pdo = head_len.next_multiple_of(self.data_alignment);
        let plen = pdo.saturating_add(len).saturating_add(if data_digest { 4 } else { 0 });
        let mut header = [0; HLEN];
        header[0] = kind::H2C_DATA;
        header[1] =
            u8::from(header_digest) | u8::from(data_digest) << 1 | if pdu.last { FLAG_LAST } else { 0 };
        header[2] = 24;
        header[3] = u8::try_from(pdo)?;
        header[4..8].copy_from_slice(&u32::try_from(plen)?.to_le_bytes());
        header[8..10].copy_from_slice(&pdu.cccid.to_le_bytes());
        header[10..12].copy_from_slice(&pdu.ttag.to_le_bytes());
        header[12..16].copy_from_slice(&pdu.datao.to_le_bytes());
        header[16..20].copy_from_slice(&pdu.datal.to_le_bytes());
        self.transmit.header(&header);
        if header_digest {
            self.transmit.header(&crc32_iscsi(&header).to_le_bytes());
        }
        Ok(())
    }

    /// Ends a command; `None` if the Flush of its write follows.
    fn finish(&mut self, cqe: Cqe) -> Result<Option<Finished>> {
        let index = usize::from(cqe.cid);
        let Some((op, slba, submitted_ns)) = self.slots.in_flight(index) else {
            bail!("a response for CID {:#06x}, which is not in flight", cqe.cid);
        };
        if self.plan.flush && op == Op::Write && cqe.status.is_success() {
            self.start(index, Op::Flush, slba, submitted_ns);
            return Ok(None);
        }
        let failure = (!cqe.status.is_success()).then_some(Failure::Nvme(cqe.status));
        self.slots.finish(&self.plan, index, failure).map(Some)
    }
}

impl Template {
    fn new(frame: &Frame) -> Result<Self> {
        frame.as_bytes().first_chunk().copied().map(Self).context("a capsule is at least 72 bytes")
    }

    /// Behind the Common Header: CID at byte 2 of the entry, CDW3 at 12, SLBA at 40, CDW14 at 56.
    fn filled(&self, cid: u16, slba: u64, ref_tag: u64) -> [u8; 72] {
        let [b0, b1, b2, b3, b4, b5, b6, b7] = ref_tag.to_le_bytes();
        let mut bytes = self.0;
        bytes[10..12].copy_from_slice(&cid.to_le_bytes());
        bytes[20..24].copy_from_slice(&[b4, b5, b6, b7]);
        bytes[48..56].copy_from_slice(&slba.to_le_bytes());
        bytes[64..68].copy_from_slice(&[b0, b1, b2, b3]);
        bytes
    }
}

const _: () = assert!(Sqe::LEN + 8 == 72);
