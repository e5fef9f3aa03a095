//! One session: numbered commands, their data, and everything else that a Full Feature Phase knows.
//!
//! RFC 7143 §4.2.2 "Ordering and iSCSI Numbering", §11.7 "SCSI Data-Out and SCSI Data-In", §11.8 "Ready To Transfer".

use std::collections::BTreeMap;
use std::net::ToSocketAddrs;

use super::connection::{Connection, describe};
use super::login::{Login, Params};
use super::pdu::{Pdu, RESERVED_TAG, opcode};
use super::sense::Sense;
use super::task::{Done, Residual, Scsi, sense_of};
use super::text::{self, Pairs};
use crate::Error;

/// Flags of a SCSI Command: read, write. RFC 7143 §11.3.1.
const READS: u8 = 0x40;
const WRITES: u8 = 0x20;
const FINAL: u8 = 0x80;
/// Flags of SCSI Response and Data-In: overflow, underflow; S: a Data-In that carries the status.
const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;
const HAS_STATUS: u8 = 0x01;

/// A command under way.
#[derive(Debug)]
struct Task {
    lun: u16,
    out: Vec<u8>,
    data: Vec<u8>,
    r2ts: Vec<usize>,
    data_ins: usize,
}

/// A session in Full Feature Phase.
#[derive(Debug)]
pub struct Session {
    connection: Connection,
    params: Params,
    cmd_sn: u32,
    exp_stat_sn: u32,
    max_cmd_sn: u32,
    next_itt: u32,
    tasks: BTreeMap<u32, Task>,
    done: BTreeMap<u32, Done>,
    /// Asynchronous messages that came by the way.
    pub notices: Vec<Pdu>,
    /// Rejects that came by the way.
    pub rejects: Vec<Pdu>,
}

impl Session {
    /// Connects and logs in.
    ///
    /// # Errors
    /// As [`Login::open`].
    pub fn open(portal: impl ToSocketAddrs, login: &Login) -> Result<Self, Error> {
        let (connection, params, exp_stat_sn) = login.open(portal)?;
        Ok(Self::of(connection, params, login.cmd_sn, exp_stat_sn))
    }

    /// A session on a connection that has logged in: `cmd_sn` and `exp_stat_sn` come next.
    #[must_use]
    pub fn of(connection: Connection, params: Params, cmd_sn: u32, exp_stat_sn: u32) -> Self {
        Self {
            connection,
            params,
            cmd_sn,
            exp_stat_sn,
            max_cmd_sn: cmd_sn,
            next_itt: 1,
            tasks: BTreeMap::new(),
            done: BTreeMap::new(),
            notices: Vec::new(),
            rejects: Vec::new(),
        }
    }

    /// What was agreed.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The connection, for what is not in the script.
    pub fn connection(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// The connection, when nothing is under way any more; see [`Self::numbers`] and [`Self::params`] before.
    #[must_use]
    pub fn into_connection(self) -> Connection {
        self.connection
    }

    /// CmdSN of the next command, StatSN that is expected next.
    #[must_use]
    pub fn numbers(&self) -> (u32, u32) {
        (self.cmd_sn, self.exp_stat_sn)
    }

    /// The highest CmdSN that the target takes.
    #[must_use]
    pub fn max_cmd_sn(&self) -> u32 {
        self.max_cmd_sn
    }

    /// Sends a command and waits for its end.
    ///
    /// # Errors
    /// When the connection fails or the target breaks the protocol.
    pub fn run(&mut self, command: Scsi) -> Result<Done, Error> {
        let itt = self.submit(command)?;
        self.wait(itt)
    }

    /// Sends a command with what may go unasked; gives its Initiator Task Tag.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn submit(&mut self, command: Scsi) -> Result<u32, Error> {
        let itt = self.tag();
        let expected = if command.out.is_empty() { command.room } else { command.out.len() };
        let expected = command.claimed.unwrap_or(u32::try_from(expected).unwrap_or(u32::MAX));
        let (with_command, unasked) = self.shares(&command);
        let mut flags = command.attribute as u8;
        if command.room > 0 {
            flags |= READS;
        }
        if !command.out.is_empty() || command.claimed.is_some() {
            flags |= WRITES;
        }
        if unasked <= with_command {
            flags |= FINAL;
        }
        let pdu = Pdu::new(opcode::SCSI_COMMAND)
            .flags(flags)
            .lun(command.lun)
            .itt(itt)
            .word(20, expected)
            .data(command.out.get(..with_command).unwrap_or_default())
            .cdb(&command.cdb);
        self.send_numbered(pdu, command.immediate)?;
        let Scsi { lun, out, .. } = command;
        self.tasks.insert(itt, Task { lun, out, data: Vec::new(), r2ts: Vec::new(), data_ins: 0 });
        if unasked > with_command {
            self.send_data(itt, RESERVED_TAG, with_command, unasked.saturating_sub(with_command))?;
        }
        Ok(itt)
    }

    /// Waits for the end of a command that was submitted.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn wait(&mut self, itt: u32) -> Result<Done, Error> {
        loop {
            if let Some(done) = self.done.remove(&itt) {
                return Ok(done);
            }
            if !self.tasks.contains_key(&itt) {
                return Err(Error::Usage(format!("no command {itt} is under way")));
            }
            if let Some(pdu) = self.next_foreign()? {
                return Err(Error::unexpected("the end of a command", describe(&pdu)));
            }
        }
    }

    /// Whether a command has not ended yet, as far as has been looked.
    #[must_use]
    pub fn is_under_way(&self, itt: u32) -> bool {
        self.tasks.contains_key(&itt)
    }

    /// Sends a ping and waits for its echo.
    ///
    /// # Errors
    /// When something else than the echo comes.
    pub fn ping(&mut self, data: &[u8]) -> Result<Vec<u8>, Error> {
        let itt = self.tag();
        let pdu = Pdu::new(opcode::NOP_OUT).itt(itt).word(20, RESERVED_TAG).data(data);
        self.send_numbered(pdu, false)?;
        Ok(self.answer(opcode::NOP_IN, itt)?.data)
    }

    /// Sends a Text Request and gives the answer's keys, over as many PDUs as it takes.
    ///
    /// # Errors
    /// When something else than the answer comes.
    pub fn text<K: AsRef<str>, V: AsRef<str>>(&mut self, pairs: &[(K, V)]) -> Result<Pairs, Error> {
        let itt = self.tag();
        let (mut ttt, mut bytes, mut asked) = (RESERVED_TAG, Vec::new(), text::encode(pairs));
        loop {
            let pdu = Pdu::new(opcode::TEXT).itt(itt).word(20, ttt).data(std::mem::take(&mut asked));
            self.send_numbered(pdu, false)?;
            let answer = self.answer(opcode::TEXT_RESPONSE, itt)?;
            bytes.extend_from_slice(&answer.data);
            ttt = answer.word_at(20);
            if answer.is_final() {
                break;
            }
        }
        text::decode(&bytes)
            .ok_or_else(|| Error::unexpected("pairs of keys and values", format!("{bytes:02x?}")))
    }

    /// SendTargets: `All`, a name, or nothing for the session's own target.
    ///
    /// # Errors
    /// As [`Self::text`].
    pub fn send_targets(&mut self, which: &str) -> Result<Pairs, Error> {
        self.text(&[("SendTargets", which)])
    }

    /// Asks for a task management function and gives the response code. RFC 7143 §11.5 "Task Management Function
    /// Request": 1 abort task, 2 abort task set, 3 clear ACA, 4 clear task set, 5 logical unit reset, 6 target warm
    /// reset, 7 target cold reset, 8 task reassign.
    ///
    /// # Errors
    /// When something else than the response comes.
    pub fn manage(&mut self, function: u8, lun: u16, referenced: u32) -> Result<u8, Error> {
        let itt = self.tag();
        let pdu = Pdu::new(opcode::TASK_MANAGEMENT).immediate().flags(0x80 | function).lun(lun).itt(itt);
        let pdu = pdu.word(20, referenced).word(32, self.cmd_sn.wrapping_sub(1));
        self.send_numbered(pdu, true)?;
        let response = self.answer(opcode::TASK_MANAGEMENT_RESPONSE, itt)?;
        if matches!(function, 1) {
            self.tasks.remove(&referenced);
        }
        Ok(response.byte_at(2))
    }

    /// Logs out (reason 0: closes the session) and gives the response code.
    ///
    /// # Errors
    /// When something else than the response comes.
    pub fn logout(mut self, reason: u8) -> Result<u8, Error> {
        let itt = self.tag();
        let pdu = Pdu::new(opcode::LOGOUT).immediate().flags(0x80 | reason).itt(itt);
        self.send_numbered(pdu, true)?;
        let response = self.answer(opcode::LOGOUT_RESPONSE, itt)?.byte_at(2);
        self.connection.socket().expect_close()?;
        Ok(response)
    }

    /// Numbers a request and sends it; one that is immediate does not use its number up.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn send_numbered(&mut self, pdu: Pdu, immediate: bool) -> Result<(), Error> {
        let pdu = pdu.word(24, self.cmd_sn).word(28, self.exp_stat_sn);
        if immediate {
            return self.connection.send(&pdu.immediate());
        }
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        self.connection.send(&pdu)
    }

    /// Takes PDUs until one comes that belongs to no command and asks for no answer.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub fn answer(&mut self, opcode: u8, itt: u32) -> Result<Pdu, Error> {
        loop {
            match self.next_foreign()? {
                Some(pdu) if (pdu.opcode(), pdu.task_tag()) == (opcode, itt) => return Ok(pdu),
                Some(pdu) => {
                    return Err(Error::unexpected(
                        format!("opcode {opcode:#04x} for task {itt}"),
                        describe(&pdu),
                    ));
                }
                None => {}
            }
        }
    }

    /// A fresh Initiator Task Tag.
    pub fn tag(&mut self) -> u32 {
        let itt = self.next_itt;
        self.next_itt = itt.wrapping_add(1);
        itt
    }

    /// How much goes with the command, and how much unasked in all.
    fn shares(&self, command: &Scsi) -> (usize, usize) {
        let len = command.out.len();
        let burst = self.params.first_burst.min(len);
        let with = if self.params.immediate_data { burst.min(self.params.max_send) } else { 0 };
        let with = command.immediate_data.unwrap_or(with).min(len);
        let unasked = if self.params.initial_r2t { with } else { burst };
        (with, command.unsolicited.unwrap_or(unasked).min(len).max(with))
    }

    /// Sends part of a task's data in PDUs as large as the target takes.
    fn send_data(&mut self, itt: u32, ttt: u32, offset: usize, len: usize) -> Result<(), Error> {
        let Some(task) = self.tasks.get(&itt) else { return Ok(()) };
        let part = offset.checked_add(len).and_then(|end| task.out.get(offset..end));
        let part = part.ok_or_else(|| {
            Error::unexpected(format!("an R2T within {} bytes", task.out.len()), format!("{offset}+{len}"))
        })?;
        let chunks = part.len().div_ceil(self.params.max_send.max(1));
        let mut at = offset;
        for (number, chunk) in part.chunks(self.params.max_send.max(1)).enumerate() {
            let flags = if number.saturating_add(1) == chunks { FINAL } else { 0 };
            let pdu = Pdu::new(opcode::DATA_OUT)
                .flags(flags)
                .lun(task.lun)
                .itt(itt)
                .word(20, ttt)
                .word(28, self.exp_stat_sn)
                .word(36, u32::try_from(number).unwrap_or(u32::MAX))
                .word(40, u32::try_from(at).unwrap_or(u32::MAX))
                .data(chunk);
            self.connection.send(&pdu)?;
            at = at.saturating_add(chunk.len());
        }
        Ok(())
    }

    /// Takes one PDU in; gives it back when it belongs to no command and asks for nothing.
    fn next_foreign(&mut self) -> Result<Option<Pdu>, Error> {
        let pdu = self.connection.recv()?;
        self.check_numbers(&pdu)?;
        match pdu.opcode() {
            opcode::SCSI_RESPONSE => self.take_response(&pdu)?,
            opcode::DATA_IN => self.take_data(&pdu)?,
            opcode::R2T => self.take_r2t(&pdu)?,
            opcode::NOP_IN if pdu.word_at(20) != RESERVED_TAG => {
                let echo = Pdu::new(opcode::NOP_OUT).lun(0).bytes(8, pdu.bhs.get(8..16).unwrap_or_default());
                let echo = echo.itt(RESERVED_TAG).word(20, pdu.word_at(20));
                self.send_numbered(echo, true)?;
            }
            opcode::ASYNC => self.notices.push(pdu),
            opcode::REJECT => self.rejects.push(pdu),
            _ => return Ok(Some(pdu)),
        }
        Ok(None)
    }

    /// StatSN counts every PDU that carries a status, without gaps; windows never shrink.
    fn check_numbers(&mut self, pdu: &Pdu) -> Result<(), Error> {
        let carries_status = match pdu.opcode() {
            opcode::DATA_IN => pdu.byte_at(1) & HAS_STATUS != 0,
            opcode::R2T => false,
            opcode::NOP_IN => pdu.task_tag() != RESERVED_TAG,
            _ => true,
        };
        if carries_status {
            if pdu.stat_sn() != self.exp_stat_sn {
                return Err(Error::unexpected(format!("StatSN {}", self.exp_stat_sn), describe(pdu)));
            }
            self.exp_stat_sn = self.exp_stat_sn.wrapping_add(1);
        }
        // Serial number arithmetic, RFC 1982.
        if pdu.max_cmd_sn().wrapping_sub(self.max_cmd_sn) < 1 << 31 {
            self.max_cmd_sn = pdu.max_cmd_sn();
        }
        Ok(())
    }

    fn task(&mut self, pdu: &Pdu) -> Result<&mut Task, Error> {
        let unknown = || Error::unexpected("a task of ours", describe(pdu));
        self.tasks.get_mut(&pdu.task_tag()).ok_or_else(unknown)
    }

    fn take_data(&mut self, pdu: &Pdu) -> Result<(), Error> {
        let task = self.task(pdu)?;
        let (offset, number) = (pdu.word_at(40), pdu.word_at(36));
        let in_order =
            usize::try_from(offset) == Ok(task.data.len()) && usize::try_from(number) == Ok(task.data_ins);
        if !in_order {
            let expected = format!("Data-In {} at {}", task.data_ins, task.data.len());
            return Err(Error::unexpected(expected, describe(pdu)));
        }
        task.data.extend_from_slice(&pdu.data);
        task.data_ins = task.data_ins.saturating_add(1);
        if pdu.byte_at(1) & HAS_STATUS != 0 {
            return self.finish(pdu, 0, Vec::new(), true);
        }
        Ok(())
    }

    fn take_r2t(&mut self, pdu: &Pdu) -> Result<(), Error> {
        let number = |at| usize::try_from(pdu.word_at(at)).unwrap_or(usize::MAX);
        let (r2t_sn, offset, len) = (number(36), number(40), number(44));
        let burst = self.params.max_burst;
        let task = self.task(pdu)?;
        if r2t_sn != task.r2ts.len() || len == 0 || len > burst {
            let expected = format!("R2T {} of at most {burst} bytes", task.r2ts.len());
            return Err(Error::unexpected(expected, describe(pdu)));
        }
        task.r2ts.push(len);
        self.send_data(pdu.task_tag(), pdu.word_at(20), offset, len)
    }

    fn take_response(&mut self, pdu: &Pdu) -> Result<(), Error> {
        self.finish(pdu, pdu.byte_at(2), sense_of(&pdu.data), false)
    }

    fn finish(&mut self, pdu: &Pdu, response: u8, sense: Vec<u8>, collapsed: bool) -> Result<(), Error> {
        self.task(pdu)?;
        let Some(task) = self.tasks.remove(&pdu.task_tag()) else { return Ok(()) };
        let residual = match pdu.byte_at(1) & (OVERFLOW | UNDERFLOW) {
            0 => Residual::None,
            OVERFLOW => Residual::Over(pdu.word_at(44)),
            UNDERFLOW => Residual::Under(pdu.word_at(44)),
            _ => return Err(Error::unexpected("overflow or underflow, not both", describe(pdu))),
        };
        let done = Done {
            response,
            status: pdu.byte_at(3),
            sense: Sense::parse(&sense),
            sense_bytes: sense,
            data: task.data,
            residual,
            r2ts: task.r2ts,
            data_ins: task.data_ins,
            phase_collapse: collapsed,
        };
        self.done.insert(pdu.task_tag(), done);
        Ok(())
    }
}
