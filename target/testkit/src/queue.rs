//! Commands in flight on one queue, and the movement of their data.
//!
//! NVMe/TCP 1.1 §3.3.2 "Data transfer": small host data travels in the command capsule, the rest on the
//! target's R2Ts in H2CData PDUs of at most MAXH2CDATA bytes; C2HData comes in any chunks, in order. Whatever
//! the target sends is checked against these rules; a breach is [`Error::Unexpected`].

use std::collections::{BTreeMap, VecDeque};

use crate::wire::{Cqe, DataPdu, Pdu, R2t, Sqe, Status};
use crate::{Connection, Error};

/// Where a command's host data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Placement {
    /// In the capsule when it fits the queue's limit, otherwise on R2Ts.
    #[default]
    Auto,
    /// In the capsule, whatever its size.
    InCapsule,
    /// On R2Ts, whatever its size.
    Solicited,
}

/// A command with its data, ready to be submitted.
#[derive(Debug, Clone)]
pub struct Command {
    /// The entry; submission sets its CID, and SGL1 unless `keep_sgl`.
    pub sqe: Sqe,
    /// Data to the controller.
    pub data: Vec<u8>,
    /// Bytes that the host expects from the controller.
    pub read_len: usize,
    /// Where host data goes.
    pub placement: Placement,
    /// SGL1 is the test's own.
    pub keep_sgl: bool,
}

impl Command {
    /// A command without data.
    #[must_use]
    pub fn bare(sqe: Sqe) -> Self {
        Self { sqe, data: Vec::new(), read_len: 0, placement: Placement::Auto, keep_sgl: false }
    }

    /// A command that sends data.
    #[must_use]
    pub fn with_data(sqe: Sqe, data: Vec<u8>) -> Self {
        Self { data, ..Self::bare(sqe) }
    }

    /// A command that gets `len` bytes.
    #[must_use]
    pub fn reading(sqe: Sqe, len: usize) -> Self {
        Self { read_len: len, ..Self::bare(sqe) }
    }

    /// Chooses where the data goes.
    #[must_use]
    pub fn placed(self, placement: Placement) -> Self {
        Self { placement, ..self }
    }

    /// Leaves SGL1 as the entry has it.
    #[must_use]
    pub fn keep_sgl(self) -> Self {
        Self { keep_sgl: true, ..self }
    }
}

/// How a command's data moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TransferTrace {
    /// Bytes sent in the capsule.
    pub in_capsule_len: usize,
    /// R2Ts that came.
    pub r2ts: usize,
    /// H2CData PDUs sent.
    pub h2c_pdus: usize,
    /// C2HData PDUs that came.
    pub c2h_pdus: usize,
    /// The last C2HData PDU said SUCCESS, so no CapsuleResp came.
    pub success_flag: bool,
}

/// A finished command.
#[derive(Debug, Clone)]
pub struct Completion {
    /// The completion entry; made up (status 0, SQHD 0) where the SUCCESS flag stood for it.
    pub cqe: Cqe,
    /// What the controller sent, cut at the last byte that came.
    pub data: Vec<u8>,
    /// How the data moved.
    pub trace: TransferTrace,
    opcode: u8,
}

impl Completion {
    /// The command's status.
    #[must_use]
    pub fn status(&self) -> Status {
        self.cqe.status
    }

    /// Itself, if the command succeeded.
    ///
    /// # Errors
    /// [`Error::Status`] otherwise.
    pub fn ok(self) -> Result<Self, Error> {
        if self.cqe.status.is_success() {
            Ok(self)
        } else {
            let command = format!("command {:02x}h (cid {:04x}h)", self.opcode, self.cqe.cid);
            Err(Error::Status { command, status: self.cqe.status })
        }
    }
}

#[derive(Debug)]
struct InFlight {
    opcode: u8,
    out: Vec<u8>,
    /// Host data below this offset has been asked for.
    solicited: usize,
    read_len: usize,
    data: Vec<u8>,
    c2h_finished: bool,
    trace: TransferTrace,
}

/// One queue over its own connection.
#[derive(Debug)]
pub struct Queue {
    connection: Connection,
    qid: u16,
    in_capsule_max: usize,
    next_cid: u16,
    in_flight: BTreeMap<u16, InFlight>,
    done: VecDeque<(u16, Completion)>,
    held_r2ts: Option<VecDeque<R2t>>,
    spoil_data_digest: bool,
    spoil_header_digest: bool,
}

impl Queue {
    /// A queue over an initialized connection, before Connect. In-capsule data is limited to the 8192 bytes
    /// that Fabrics and Admin commands may carry.
    #[must_use]
    pub fn new(connection: Connection, qid: u16) -> Self {
        Self {
            connection,
            qid,
            in_capsule_max: ADMIN_IN_CAPSULE_MAX,
            next_cid: 0,
            in_flight: BTreeMap::new(),
            done: VecDeque::new(),
            held_r2ts: None,
            spoil_data_digest: false,
            spoil_header_digest: false,
        }
    }

    /// The Queue Identifier.
    #[must_use]
    pub fn qid(&self) -> u16 {
        self.qid
    }

    /// The connection underneath, for raw bytes.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Gives the connection back.
    #[must_use]
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// The most bytes that [`Placement::Auto`] puts into a capsule.
    #[must_use]
    pub fn in_capsule_max(&self) -> usize {
        self.in_capsule_max
    }

    /// Sets that limit (IOCCSZ × 16 − 64 on I/O queues).
    pub fn set_in_capsule_max(&mut self, len: usize) {
        self.in_capsule_max = len;
    }

    /// The CIDs in flight, lowest first.
    pub fn in_flight(&self) -> impl Iterator<Item = u16> {
        self.in_flight.keys().copied()
    }

    /// Sends a command and gives its CID; its data moves while later calls wait.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn submit(&mut self, command: Command) -> Result<u16, Error> {
        let cid = self.free_cid()?;
        let (sqe, in_capsule, out) = self.place(command.sqe.with_cid(cid), &command)?;
        let trace = TransferTrace { in_capsule_len: in_capsule.len(), ..TransferTrace::default() };
        let entry = InFlight {
            opcode: sqe.opcode(),
            out,
            solicited: 0,
            read_len: command.read_len,
            data: Vec::new(),
            c2h_finished: false,
            trace,
        };
        self.in_flight.insert(cid, entry);
        self.send_possibly_spoiled(&Pdu::CapsuleCmd { sqe, data: in_capsule })?;
        Ok(cid)
    }

    /// Waits for one command. Others that end meanwhile are kept for their own `wait`.
    ///
    /// # Errors
    /// When the connection fails or the target breaks the protocol.
    pub fn wait(&mut self, cid: u16) -> Result<Completion, Error> {
        loop {
            if let Some(at) = self.done.iter().position(|(done, _)| *done == cid)
                && let Some((_, completion)) = self.done.remove(at)
            {
                return Ok(completion);
            }
            if !self.in_flight.contains_key(&cid) {
                return Err(Error::Usage(format!("no command with CID {cid:#06x} is in flight")));
            }
            self.step()?;
        }
    }

    /// Waits for whichever command ends next.
    ///
    /// # Errors
    /// As [`Self::wait`]; [`Error::Usage`] when nothing is in flight.
    pub fn wait_any(&mut self) -> Result<(u16, Completion), Error> {
        loop {
            if let Some(done) = self.done.pop_front() {
                return Ok(done);
            }
            if self.in_flight.is_empty() {
                return Err(Error::Usage("no command is in flight".into()));
            }
            self.step()?;
        }
    }

    /// A command that has ended already, without waiting.
    ///
    /// # Errors
    /// As [`Self::wait`].
    pub fn poll(&mut self) -> Result<Option<(u16, Completion)>, Error> {
        while self.done.is_empty() && self.connection.has_pdu()? {
            self.step()?;
        }
        Ok(self.done.pop_front())
    }

    /// Submits and waits.
    ///
    /// # Errors
    /// As [`Self::submit`] and [`Self::wait`]. A status other than success is no error here.
    pub fn run(&mut self, command: Command) -> Result<Completion, Error> {
        let cid = self.submit(command)?;
        self.wait(cid)
    }

    /// From now on R2Ts are not answered but kept for [`Self::next_r2t`]; `false` turns that off and answers
    /// nothing that was kept.
    pub fn hold_r2ts(&mut self, hold: bool) {
        self.held_r2ts = hold.then(VecDeque::new);
    }

    /// Waits for the next held R2T.
    ///
    /// # Errors
    /// As [`Self::wait`]; [`Error::Usage`] unless [`Self::hold_r2ts`] is on.
    pub fn next_r2t(&mut self) -> Result<R2t, Error> {
        loop {
            match &mut self.held_r2ts {
                None => return Err(Error::Usage("R2Ts are answered, not held".into())),
                Some(held) => {
                    if let Some(r2t) = held.pop_front() {
                        return Ok(r2t);
                    }
                }
            }
            self.step()?;
        }
    }

    /// An R2T that is held already, without waiting for one.
    pub fn held_r2t(&mut self) -> Option<R2t> {
        self.held_r2ts.as_mut().and_then(VecDeque::pop_front)
    }

    /// Answers an R2T as the protocol asks, in H2CData PDUs of at most MAXH2CDATA bytes.
    ///
    /// # Errors
    /// When the command is not in flight or nothing can be sent.
    pub fn answer_r2t(&mut self, r2t: &R2t) -> Result<(), Error> {
        let (start, end) = range(r2t)?;
        let step = usize::try_from(self.connection.ic_resp().maxh2cdata).unwrap_or(usize::MAX).max(1);
        let mut at = start;
        while at < end {
            let next = at.saturating_add(step).min(end);
            let pdu = self.h2c_data(r2t, at, next, next == end)?;
            self.send_possibly_spoiled(&Pdu::H2cData(pdu))?;
            if let Some(entry) = self.in_flight.get_mut(&r2t.cccid) {
                entry.trace.h2c_pdus = entry.trace.h2c_pdus.saturating_add(1);
            }
            at = next;
        }
        Ok(())
    }

    /// The H2CData PDU for bytes `from..to` of a command's buffer, to be changed or sent by the test.
    ///
    /// # Errors
    /// When the command is not in flight or has no such bytes.
    pub fn h2c_data(&self, r2t: &R2t, from: usize, to: usize, last: bool) -> Result<DataPdu, Error> {
        let data = self.in_flight.get(&r2t.cccid).and_then(|entry| entry.out.get(from..to));
        let data =
            data.ok_or_else(|| Error::Usage(format!("bytes {from}..{to} of CID {:#06x}", r2t.cccid)))?;
        Ok(DataPdu {
            cccid: r2t.cccid,
            ttag: r2t.ttag,
            datao: u32_of(from)?,
            datal: u32_of(data.len())?,
            last,
            success: false,
            data: data.to_vec(),
        })
    }

    /// The next PDU with data leaves with one bit of its data digest flipped.
    pub fn spoil_next_data_digest(&mut self) {
        self.spoil_data_digest = true;
    }

    /// The next PDU leaves with one bit of its header digest flipped.
    pub fn spoil_next_header_digest(&mut self) {
        self.spoil_header_digest = true;
    }

    /// Forgets a command that will not end (its data, its completion).
    pub fn forget(&mut self, cid: u16) {
        self.in_flight.remove(&cid);
        self.done.retain(|(done, _)| *done != cid);
    }

    fn free_cid(&mut self) -> Result<u16, Error> {
        for _ in 0..=u16::MAX {
            let cid = self.next_cid;
            // FFFFh is left out: the Error Information log uses it for "no command".
            self.next_cid = if cid >= 0xfffe { 0 } else { cid.saturating_add(1) };
            if !self.in_flight.contains_key(&cid) && self.done.iter().all(|(done, _)| *done != cid) {
                return Ok(cid);
            }
        }
        Err(Error::Usage("every CID is in flight".into()))
    }

    /// Decides where the data goes: gives the entry with its SGL, in-capsule data, and data for R2Ts.
    fn place(&self, sqe: Sqe, command: &Command) -> Result<(Sqe, Vec<u8>, Vec<u8>), Error> {
        let data = &command.data;
        let in_capsule = match command.placement {
            Placement::InCapsule => true,
            Placement::Solicited => false,
            Placement::Auto => data.len() <= self.in_capsule_max,
        };
        let sqe = match (command.keep_sgl, in_capsule && !data.is_empty()) {
            (true, _) => sqe,
            (false, true) => sqe.sgl_in_capsule(0, u32_of(data.len())?),
            (false, false) => sqe.sgl_transport(u32_of(data.len().max(command.read_len))?),
        };
        Ok(if in_capsule { (sqe, data.clone(), Vec::new()) } else { (sqe, Vec::new(), data.clone()) })
    }

    fn send_possibly_spoiled(&mut self, pdu: &Pdu) -> Result<(), Error> {
        let mut frame = self.connection.encode(pdu);
        let [_, _, hlen, pdo, ..] = *frame.as_bytes() else {
            return Err(Error::Usage("a PDU without a header".into()));
        };
        if pdo != 0 && std::mem::take(&mut self.spoil_data_digest) {
            frame = frame.spoil_last_byte();
        }
        if std::mem::take(&mut self.spoil_header_digest) {
            frame = frame.flip_bit(usize::from(hlen).saturating_mul(8));
        }
        self.connection.send_frame(&frame)
    }

    /// Takes in one PDU.
    fn step(&mut self) -> Result<(), Error> {
        match self.connection.recv()? {
            Pdu::CapsuleResp(cqe) => self.on_response(cqe),
            Pdu::C2hData(pdu) => self.on_data(&pdu),
            Pdu::R2t(r2t) => self.on_r2t(&r2t),
            Pdu::C2hTermReq(term) => Err(Error::TermReq(term)),
            other => Err(Error::unexpected("CapsuleResp, C2HData, R2T or C2HTermReq", other.name())),
        }
    }

    fn on_response(&mut self, cqe: Cqe) -> Result<(), Error> {
        let Some(entry) = self.in_flight.remove(&cqe.cid) else {
            return Err(Error::unexpected("a response to a command in flight", format!("{cqe:?}")));
        };
        if !entry.data.is_empty() && !entry.c2h_finished {
            return Err(Error::unexpected("LAST_PDU on the last C2HData PDU", format!("{cqe:?} without it")));
        }
        let completion = Completion { cqe, data: entry.data, trace: entry.trace, opcode: entry.opcode };
        self.done.push_back((cqe.cid, completion));
        Ok(())
    }

    fn on_data(&mut self, pdu: &DataPdu) -> Result<(), Error> {
        let Some(entry) = self.in_flight.get_mut(&pdu.cccid) else {
            return Err(Error::unexpected(
                "C2HData for a command in flight",
                format!("CCCID {:#06x}", pdu.cccid),
            ));
        };
        let (at, len) = (entry.data.len(), pdu.data.len());
        let facts =
            || format!("DATAO {} DATAL {len} last {} (CCCID {:#06x})", pdu.datao, pdu.last, pdu.cccid);
        if entry.c2h_finished {
            return Err(Error::unexpected("no C2HData after LAST_PDU", facts()));
        }
        if usize::try_from(pdu.datao).ok() != Some(at) {
            return Err(Error::unexpected(format!("C2HData at offset {at}"), facts()));
        }
        if len == 0 || at.saturating_add(len) > entry.read_len {
            return Err(Error::unexpected(
                format!("1 to {} bytes more", entry.read_len.saturating_sub(at)),
                facts(),
            ));
        }
        entry.data.extend_from_slice(&pdu.data);
        entry.trace.c2h_pdus = entry.trace.c2h_pdus.saturating_add(1);
        entry.c2h_finished = pdu.last;
        if !pdu.success {
            return Ok(());
        }
        if !pdu.last {
            return Err(Error::unexpected("SUCCESS only together with LAST_PDU", facts()));
        }
        entry.trace.success_flag = true;
        self.on_response(Cqe { cid: pdu.cccid, ..Cqe::default() })
    }

    fn on_r2t(&mut self, r2t: &R2t) -> Result<(), Error> {
        let (start, end) = range(r2t)?;
        let Some(entry) = self.in_flight.get_mut(&r2t.cccid) else {
            return Err(Error::unexpected("an R2T for a command in flight", format!("{r2t:?}")));
        };
        if start != entry.solicited || start >= end || end > entry.out.len() {
            let rest = format!("an R2T within {}..{}", entry.solicited, entry.out.len());
            return Err(Error::unexpected(rest, format!("{r2t:?}")));
        }
        entry.solicited = end;
        entry.trace.r2ts = entry.trace.r2ts.saturating_add(1);
        match &mut self.held_r2ts {
            Some(held) => {
                held.push_back(*r2t);
                Ok(())
            }
            None => self.answer_r2t(r2t),
        }
    }
}

/// NVMe/TCP 1.1 §3.3.2.1 "Host to Controller data transfers": Fabrics and Admin commands may carry up to
/// 8192 bytes in their capsule.
const ADMIN_IN_CAPSULE_MAX: usize = 8192;

fn range(r2t: &R2t) -> Result<(usize, usize), Error> {
    let start = usize::try_from(r2t.r2to).unwrap_or(usize::MAX);
    let end = start.checked_add(usize::try_from(r2t.r2tl).unwrap_or(usize::MAX));
    end.map(|end| (start, end)).ok_or_else(|| Error::unexpected("an R2T within 32 bits", format!("{r2t:?}")))
}

fn u32_of(len: usize) -> Result<u32, Error> {
    u32::try_from(len).map_err(|_| Error::Usage(format!("{len} bytes do not fit a 32-bit field")))
}
