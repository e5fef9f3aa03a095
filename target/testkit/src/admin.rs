//! Fabrics and Admin commands, one method each.
//!
//! NVM Express Base 2.1 §6 "Fabrics Command Set", §5.1 "Common Admin Commands", §3.1.4 "Controller Properties".

use std::time::{Duration, Instant};

use crate::identify::IDENTIFY_LEN;
use crate::wire::{Sqe, opcode};
use crate::{Command, Completion, ControllerData, DiscoveryLog, Error, NamespaceFormat, Queue};

/// Controller properties by offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Property {
    /// Controller Capabilities, 8 bytes.
    Cap,
    /// Version.
    Vs,
    /// Controller Configuration.
    Cc,
    /// Controller Status.
    Csts,
    /// Any other offset; `wide` asks for 8 bytes.
    At {
        /// Offset in bytes.
        offset: u32,
        /// 8 bytes rather than 4.
        wide: bool,
    },
}

impl Property {
    fn offset_and_size(self) -> (u32, u8) {
        match self {
            Self::Cap => (0x00, 1),
            Self::Vs => (0x08, 0),
            Self::Cc => (0x14, 0),
            Self::Csts => (0x1c, 0),
            Self::At { offset, wide } => (offset, wide.into()),
        }
    }
}

/// CC of an enabled NVM controller: EN, 64-byte and 16-byte entries (IOSQES 6, IOCQES 4).
const CC_ENABLE: u32 = 0x0046_0001;
const CC_SHUTDOWN_NORMAL: u32 = 0x0000_4000;
const CSTS_READY: u64 = 0x01;
const CSTS_FATAL: u64 = 0x02;
const CSTS_SHUTDOWN_MASK: u64 = 0x0c;
const CSTS_SHUTDOWN_COMPLETE: u64 = 0x08;
/// Bytes of the Connect command's data.
const CONNECT_DATA_LEN: usize = 1024;

/// Connect, field by field, so that a test may get any of them wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectCommand {
    /// Host Identifier.
    pub hostid: [u8; 16],
    /// Controller ID: FFFFh for any (dynamic) on the Admin Queue.
    pub cntlid: u16,
    /// Subsystem NQN; put into its 256 bytes as it is, cut at 256.
    pub subnqn: Vec<u8>,
    /// Host NQN, likewise.
    pub hostnqn: Vec<u8>,
    /// Record Format.
    pub recfmt: u16,
    /// Queue ID.
    pub qid: u16,
    /// Submission Queue Size, 0's based.
    pub sqsize: u16,
    /// Connect Attributes.
    pub cattr: u8,
    /// Keep Alive Timeout in milliseconds (Admin Queue only).
    pub kato_ms: u32,
}

impl ConnectCommand {
    /// Connect of an Admin Queue of 32 entries to any controller.
    #[must_use]
    pub fn admin(hostnqn: &str, hostid: [u8; 16], subnqn: &str) -> Self {
        Self {
            hostid,
            cntlid: 0xffff,
            subnqn: subnqn.as_bytes().to_vec(),
            hostnqn: hostnqn.as_bytes().to_vec(),
            recfmt: 0,
            qid: 0,
            sqsize: 31,
            cattr: 0,
            kato_ms: 0,
        }
    }

    /// Connect of an I/O queue to the same controller.
    #[must_use]
    pub fn io(&self, cntlid: u16, qid: u16, sqsize: u16) -> Self {
        Self { cntlid, qid, sqsize, kato_ms: 0, ..self.clone() }
    }

    /// The 1024 bytes of data.
    #[must_use]
    pub fn data(&self) -> Vec<u8> {
        let mut data = Vec::with_capacity(CONNECT_DATA_LEN);
        data.extend_from_slice(&self.hostid);
        data.extend_from_slice(&self.cntlid.to_le_bytes());
        data.resize(256, 0);
        data.extend(self.subnqn.iter().take(256));
        data.resize(512, 0);
        data.extend(self.hostnqn.iter().take(256));
        data.resize(CONNECT_DATA_LEN, 0);
        data
    }

    /// The command, with its data.
    #[must_use]
    pub fn command(&self) -> Command {
        let sqe = Sqe::fabrics(opcode::CONNECT)
            .cdw(10, u32::from(self.qid) << 16 | u32::from(self.recfmt))
            .cdw(11, u32::from(self.cattr) << 16 | u32::from(self.sqsize))
            .cdw(12, self.kato_ms);
        Command::with_data(sqe, self.data())
    }
}

impl Queue {
    /// Connect.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion. On success DW0 bits 15:0 are the Controller ID.
    pub fn connect(&mut self, connect: &ConnectCommand) -> Result<Completion, Error> {
        self.run(connect.command())
    }

    /// Disconnect (I/O queues).
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn disconnect(&mut self) -> Result<Completion, Error> {
        self.run(Command::bare(Sqe::fabrics(opcode::DISCONNECT)))
    }

    /// Property Get; the value is the completion's [`crate::wire::Cqe::value`].
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn property_get(&mut self, property: Property) -> Result<Completion, Error> {
        let (offset, size) = property.offset_and_size();
        self.run(Command::bare(Sqe::fabrics(opcode::PROPERTY_GET).cdw(10, size.into()).cdw(11, offset)))
    }

    /// Property Set.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn property_set(&mut self, property: Property, value: u64) -> Result<Completion, Error> {
        let (offset, size) = property.offset_and_size();
        let sqe = Sqe::fabrics(opcode::PROPERTY_SET).cdw(10, size.into()).cdw(11, offset).cdw_pair(12, value);
        self.run(Command::bare(sqe))
    }

    /// Enables the controller: CC.EN, then waits for CSTS.RDY. Gives CAP.
    ///
    /// # Errors
    /// Transport errors, a status, CSTS.CFS, or no readiness within CAP.TO.
    pub fn enable(&mut self) -> Result<u64, Error> {
        let cap = self.property_get(Property::Cap)?.ok()?.cqe.value();
        self.property_set(Property::Cc, CC_ENABLE.into())?.ok()?;
        let timeout_ms = (cap >> 24 & 0xff).max(1).saturating_mul(500);
        self.await_csts("CSTS.RDY", timeout_ms, |csts| csts & CSTS_READY != 0)?;
        Ok(cap)
    }

    /// Normal shutdown: CC.SHN, then waits for CSTS.SHST to say that it is complete.
    ///
    /// # Errors
    /// Transport errors, a status, or no completion within 20 seconds.
    pub fn shut_down(&mut self) -> Result<(), Error> {
        self.property_set(Property::Cc, (CC_ENABLE | CC_SHUTDOWN_NORMAL).into())?.ok()?;
        self.await_csts("CSTS.SHST complete", 20_000, |csts| {
            csts & CSTS_SHUTDOWN_MASK == CSTS_SHUTDOWN_COMPLETE
        })
    }

    /// Identify with any CNS; `cns_specific` is CDW11 (CSI in bits 31:24).
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn identify(&mut self, cns: u8, nsid: u32, cns_specific: u32) -> Result<Completion, Error> {
        let sqe = Sqe::new(opcode::IDENTIFY).with_nsid(nsid).cdw(10, cns.into()).cdw(11, cns_specific);
        self.run(Command::reading(sqe, IDENTIFY_LEN))
    }

    /// Identify Controller.
    ///
    /// # Errors
    /// Transport errors or a status.
    pub fn identify_controller(&mut self) -> Result<ControllerData, Error> {
        ControllerData::parse(&self.identify(0x01, 0, 0)?.ok()?.data)
    }

    /// The format of a namespace: CNS 00h, and CNS 05h where the target has that.
    ///
    /// # Errors
    /// Transport errors, a status on CNS 00h, or a format that cannot be.
    pub fn namespace_format(&mut self, nsid: u32) -> Result<NamespaceFormat, Error> {
        let namespace = self.identify(0x00, nsid, 0)?.ok()?.data;
        let command_set = self.identify(0x05, nsid, 0)?;
        let command_set = command_set.status().is_success().then_some(command_set.data);
        NamespaceFormat::parse(&namespace, command_set.as_deref())
    }

    /// The active namespaces above `after` (CNS 02h).
    ///
    /// # Errors
    /// Transport errors or a status.
    pub fn active_namespaces(&mut self, after: u32) -> Result<Vec<u32>, Error> {
        let data = self.identify(0x02, after, 0)?.ok()?.data;
        let entries = data.chunks_exact(4).filter_map(|entry| crate::wire::le32(entry, 0));
        Ok(entries.take_while(|nsid| *nsid != 0).collect())
    }

    /// Get Log Page: `len` bytes (a multiple of 4) from `offset`; Retain Asynchronous Event is not set.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn get_log_page(&mut self, lid: u8, nsid: u32, offset: u64, len: usize) -> Result<Completion, Error> {
        let dwords =
            u32::try_from(len / 4).map_err(|_| Error::Usage(format!("a log page of {len} bytes")))?;
        let numd = dwords.saturating_sub(1);
        let sqe = Sqe::new(opcode::GET_LOG_PAGE)
            .with_nsid(nsid)
            .cdw(10, (numd & 0xffff) << 16 | u32::from(lid))
            .cdw(11, numd >> 16)
            .cdw_pair(12, offset);
        self.run(Command::reading(sqe, len))
    }

    /// The whole Discovery log page.
    ///
    /// # Errors
    /// Transport errors, a status, or a page that changes or is cut short.
    pub fn discovery_log(&mut self) -> Result<DiscoveryLog, Error> {
        /// As many records as this host believes in: 16 MiB of log.
        const RECORDS_MAX: u64 = 16 << 10;
        let header = self.get_log_page(0x70, 0, 0, DiscoveryLog::ENTRY_LEN)?.ok()?.data;
        let count = crate::wire::le64(&header, 8).unwrap_or(0);
        if count > RECORDS_MAX {
            return Err(Error::unexpected(format!("at most {RECORDS_MAX} records"), count.to_string()));
        }
        let generation = header.first_chunk::<8>().copied();
        let mut page = header;
        for index in 1..=count {
            let offset = index.saturating_mul(1024);
            page.extend(self.get_log_page(0x70, 0, offset, DiscoveryLog::ENTRY_LEN)?.ok()?.data);
        }
        let again = self.get_log_page(0x70, 0, 0, 8)?.ok()?.data;
        if again.first_chunk().copied() != generation {
            return Err(Error::unexpected("a discovery log that stays as it is", "another GENCTR"));
        }
        DiscoveryLog::parse(&page)
    }

    /// Get Features, current value; the value is DW0 of the completion.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn get_feature(&mut self, fid: u8) -> Result<Completion, Error> {
        self.run(Command::bare(Sqe::new(opcode::GET_FEATURES).cdw(10, fid.into())))
    }

    /// Set Features with a value in CDW11.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn set_feature(&mut self, fid: u8, value: u32) -> Result<Completion, Error> {
        self.run(Command::bare(Sqe::new(opcode::SET_FEATURES).cdw(10, fid.into()).cdw(11, value)))
    }

    /// Number of Queues (feature 07h): asks for `count` I/O queue pairs, gives how many are granted.
    ///
    /// # Errors
    /// Transport errors or a status.
    pub fn request_io_queues(&mut self, count: u16) -> Result<u16, Error> {
        let wanted = u32::from(count.saturating_sub(1));
        let granted = self.set_feature(0x07, wanted << 16 | wanted)?.ok()?.cqe.dw0;
        let [sq_low, sq_high, cq_low, cq_high] = granted.to_le_bytes();
        let (sqs, cqs) = (u16::from_le_bytes([sq_low, sq_high]), u16::from_le_bytes([cq_low, cq_high]));
        Ok(sqs.min(cqs).saturating_add(1).min(count))
    }

    /// Keep Alive.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn keep_alive(&mut self) -> Result<Completion, Error> {
        self.run(Command::bare(Sqe::new(opcode::KEEP_ALIVE)))
    }

    /// Submits an Asynchronous Event Request and gives its CID; it ends when something happens.
    ///
    /// # Errors
    /// When it cannot be sent.
    pub fn submit_async_event(&mut self) -> Result<u16, Error> {
        self.submit(Command::bare(Sqe::new(opcode::ASYNC_EVENT)))
    }

    /// Abort of command `cid` on queue `sqid`; DW0 bit 0 is clear when it was aborted.
    ///
    /// # Errors
    /// Transport errors; a status is in the completion.
    pub fn abort(&mut self, sqid: u16, cid: u16) -> Result<Completion, Error> {
        self.run(Command::bare(Sqe::new(opcode::ABORT).cdw(10, u32::from(cid) << 16 | u32::from(sqid))))
    }

    fn await_csts(&mut self, what: &str, timeout_ms: u64, done: impl Fn(u64) -> bool) -> Result<(), Error> {
        let deadline = Instant::now().checked_add(Duration::from_millis(timeout_ms));
        loop {
            let csts = self.property_get(Property::Csts)?.ok()?.cqe.value();
            if done(csts) {
                return Ok(());
            }
            if csts & CSTS_FATAL != 0 || deadline.is_some_and(|deadline| Instant::now() > deadline) {
                return Err(Error::unexpected(what, format!("CSTS {csts:#x} after at most {timeout_ms} ms")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
