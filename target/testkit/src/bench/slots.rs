//! The commands in flight of one connection, with their data, whatever it speaks.

use anyhow::{Context as _, Result, ensure};

use crate::lane::{Failure, Finished};
use crate::workload::{Feed, Op, Plan, Random};

/// A command, or room for one.
#[derive(Debug, Clone)]
struct Slot {
    busy: bool,
    op: Op,
    slba: u64,
    submitted_ns: u64,
    received: usize,
}

/// As many slots as commands may be in flight.
#[derive(Debug)]
pub(crate) struct Slots {
    slots: Vec<Slot>,
    idle: Vec<usize>,
    /// Write data by slot; empty where nothing is written.
    payloads: Vec<Vec<u8>>,
    /// With --verify: read data by slot, otherwise empty.
    read_data: Vec<Vec<u8>>,
}

impl Slots {
    /// `depth` slots; `writes` says whether any of them will write, `port` makes their data differ from other connections'.
    pub(crate) fn new(plan: &Plan, depth: usize, writes: bool, port: u16) -> Self {
        let mut random = Random::new(plan.seed ^ u64::from(port));
        let payloads =
            if writes { (0..depth).map(|_| plan.payload(&mut random)).collect() } else { Vec::new() };
        let slot = Slot { busy: false, op: Op::Read, slba: 0, submitted_ns: 0, received: 0 };
        Self {
            slots: vec![slot; depth],
            idle: (0..depth).rev().collect(),
            payloads,
            read_data: if plan.verify { vec![vec![0; plan.io_wire_bytes]; depth] } else { Vec::new() },
        }
    }

    /// Whether no command is in flight.
    pub(crate) fn is_quiet(&self) -> bool {
        self.idle.len() == self.slots.len()
    }

    /// A free slot and what comes next there, operation and unit; `None` when either is missing.
    pub(crate) fn take(&mut self, feed: &mut Feed) -> Option<(usize, Op, u64)> {
        let index = self.idle.last().copied()?;
        let (op, unit) = feed.next()?;
        self.idle.pop();
        Some((index, op, unit))
    }

    /// Notes the command that a slot now holds.
    pub(crate) fn start(&mut self, index: usize, op: Op, slba: u64, submitted_ns: u64) {
        let slot = self.slots.get_mut(index).expect("slots are numbered by depth");
        *slot = Slot { busy: true, op, slba, submitted_ns, received: 0 };
    }

    /// Makes a write's data fit its place.
    pub(crate) fn stamp(&mut self, plan: &Plan, index: usize, slba: u64) {
        let payload = self.payloads.get_mut(index).expect("a load that writes has a payload for each slot");
        plan.stamp(payload, slba);
    }

    /// All write data, by slot.
    pub(crate) fn payloads(&self) -> &[Vec<u8>] {
        &self.payloads
    }

    /// A part of a slot's write data, which has it.
    pub(crate) fn payload_part(&self, index: usize, from: usize, len: usize) -> &[u8] {
        let payload = self.payloads.get(index);
        payload
            .and_then(|payload| payload.get(from..from.saturating_add(len)))
            .expect("the range was checked")
    }

    /// What a slot's command does, where, and since when; `None`: it has none, or there is no such slot.
    pub(crate) fn in_flight(&self, index: usize) -> Option<(Op, u64, u64)> {
        let slot = self.slots.get(index).filter(|slot| slot.busy)?;
        Some((slot.op, slot.slba, slot.submitted_ns))
    }

    /// Whether data is asked for that a write in flight has.
    ///
    /// # Errors
    /// It is no write in flight, or has no such bytes.
    pub(crate) fn demand_write(&self, plan: &Plan, index: usize, from: usize, to: usize) -> Result<()> {
        let op = self.in_flight(index).map(|(op, ..)| op);
        ensure!(op == Some(Op::Write), "not a write in flight");
        ensure!(from < to && to <= plan.io_wire_bytes, "data is asked for from {from} to {to}");
        Ok(())
    }

    /// Notes a piece of read data, and keeps it where it is to be verified.
    ///
    /// # Errors
    /// It is no read in flight, or other bytes come next.
    pub(crate) fn keep(&mut self, plan: &Plan, index: usize, offset: usize, bytes: &[u8]) -> Result<()> {
        let slot = self.slots.get_mut(index).filter(|slot| slot.busy && slot.op == Op::Read);
        let slot = slot.context("not a read in flight")?;
        let end = offset.saturating_add(bytes.len());
        ensure!(
            offset == slot.received && end <= plan.io_wire_bytes,
            "{offset}..{end} where {} was next",
            slot.received
        );
        slot.received = end;
        if let Some(kept) = self.read_data.get_mut(index).and_then(|data| data.get_mut(offset..end)) {
            kept.copy_from_slice(bytes);
        }
        Ok(())
    }

    /// Ends a slot's command. The Flush of a write counts as that write.
    ///
    /// # Errors
    /// A read has succeeded without all its data.
    pub(crate) fn finish(&mut self, plan: &Plan, index: usize, failure: Option<Failure>) -> Result<Finished> {
        let slot = self.slots.get_mut(index).expect("slots are numbered by depth");
        slot.busy = false;
        self.idle.push(index);
        let mut bad_block = None;
        if slot.op == Op::Read && failure.is_none() {
            ensure!(slot.received == plan.io_wire_bytes, "a read succeeded with {} bytes", slot.received);
            bad_block = self.read_data.get(index).and_then(|data| plan.first_bad_block(data, slot.slba));
        }
        let op = if slot.op == Op::Flush { Op::Write } else { slot.op };
        Ok(Finished { op, failure, submitted_ns: slot.submitted_ns, bad_block })
    }
}
