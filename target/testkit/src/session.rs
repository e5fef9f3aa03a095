//! An association: the Admin Queue, an enabled controller, and its I/O queues, each over its own connection.
//!
//! NVM Express Base 2.1 §3.5 "Controller Initialization" (message-based transports), §3.3.2.2 "Queue Creation"
//! by Connect.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;

use crate::{
    ConnectCommand, ConnectOptions, Connection, ControllerData, DiscoveryLog, Error, NamespaceFormat, Queue,
};

/// The well-known discovery service.
const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// How a session is opened. The defaults suit most tests: no digests, one I/O queue of 128 entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Options of each connection.
    pub connect: ConnectOptions,
    /// I/O queues to ask for and to connect.
    pub io_queues: u16,
    /// Entries of each I/O queue (counted from one).
    pub queue_size: u16,
    /// Keep Alive Timeout in milliseconds. Two minutes, so that a test need not keep alive; 0 asks for none.
    pub kato_ms: u32,
    /// Host Identifier; made from the host NQN when `None`.
    pub host_id: Option<[u8; 16]>,
}

impl Default for Options {
    fn default() -> Self {
        let connect = ConnectOptions::default();
        Self { connect, io_queues: 1, queue_size: 128, kato_ms: 120_000, host_id: None }
    }
}

impl Options {
    /// Header and data digests on or off.
    #[must_use]
    pub fn digests(mut self, header: bool, data: bool) -> Self {
        self.connect.header_digest = header;
        self.connect.data_digest = data;
        self
    }

    /// This many I/O queues.
    #[must_use]
    pub fn io_queues(self, io_queues: u16) -> Self {
        Self { io_queues, ..self }
    }

    /// I/O queues of this many entries.
    #[must_use]
    pub fn queue_size(self, queue_size: u16) -> Self {
        Self { queue_size, ..self }
    }

    /// This Keep Alive Timeout.
    #[must_use]
    pub fn kato_ms(self, kato_ms: u32) -> Self {
        Self { kato_ms, ..self }
    }

    /// This Host Identifier.
    #[must_use]
    pub fn host_id(self, host_id: [u8; 16]) -> Self {
        Self { host_id: Some(host_id), ..self }
    }

    /// This time limit on each read and write of the sockets.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.connect.limit = limit;
        self
    }
}

/// An open association. Dropping it closes its connections without a word, as a host that vanishes does;
/// [`Session::close`] says goodbye.
#[derive(Debug)]
pub struct Session {
    target: SocketAddr,
    options: Options,
    connect: ConnectCommand,
    admin: Queue,
    io: Vec<Queue>,
    controller: ControllerData,
    cap: u64,
    cntlid: u16,
}

impl Session {
    /// Connects, enables the controller, and connects the I/O queues.
    ///
    /// # Errors
    /// Whatever fails first; a refused Connect is [`Error::Status`].
    pub fn open(
        target: impl ToSocketAddrs,
        hostnqn: &str,
        subnqn: &str,
        options: Options,
    ) -> Result<Self, Error> {
        let target = resolve(target)?;
        let hostid = options.host_id.unwrap_or_else(|| host_id_of(hostnqn));
        let connect =
            ConnectCommand { kato_ms: options.kato_ms, ..ConnectCommand::admin(hostnqn, hostid, subnqn) };
        let mut admin = Queue::new(Connection::open(target, &options.connect)?, 0);
        let cntlid = cntlid_of(admin.connect(&connect)?.ok()?.cqe.dw0);
        let cap = admin.enable()?;
        let controller = admin.identify_controller()?;
        let granted = if options.io_queues == 0 { 0 } else { admin.request_io_queues(options.io_queues)? };
        if granted < options.io_queues {
            return Err(Error::unexpected(format!("{} I/O queues", options.io_queues), granted.to_string()));
        }
        let mut session = Self { target, options, connect, admin, io: Vec::new(), controller, cap, cntlid };
        for _ in 0..granted {
            session.add_io_queue()?;
        }
        Ok(session)
    }

    /// Asks the target's discovery service for its log, as this host.
    ///
    /// # Errors
    /// Whatever fails first.
    pub fn discover(target: impl ToSocketAddrs, hostnqn: &str) -> Result<DiscoveryLog, Error> {
        let options = Options::default().io_queues(0);
        Self::open_discovery(target, hostnqn, options)?.admin().discovery_log()
    }

    /// Opens an association with the target's discovery service.
    ///
    /// # Errors
    /// Whatever fails first.
    pub fn open_discovery(
        target: impl ToSocketAddrs,
        hostnqn: &str,
        options: Options,
    ) -> Result<Self, Error> {
        Self::open(target, hostnqn, DISCOVERY_NQN, options.io_queues(0))
    }

    /// The Admin Queue.
    pub fn admin(&mut self) -> &mut Queue {
        &mut self.admin
    }

    /// I/O queue `qid`, counted from 1.
    ///
    /// # Panics
    /// When the session has no such queue: a mistake in the test.
    pub fn io(&mut self, qid: u16) -> &mut Queue {
        let index = usize::from(qid).checked_sub(1);
        index.and_then(|index| self.io.get_mut(index)).expect("the session has this I/O queue")
    }

    /// How many I/O queues are connected.
    #[must_use]
    pub fn io_queue_count(&self) -> usize {
        self.io.len()
    }

    /// The Admin Queue and I/O queue `qid` at once.
    ///
    /// # Panics
    /// As [`Self::io`].
    pub fn admin_and_io(&mut self, qid: u16) -> (&mut Queue, &mut Queue) {
        let index = usize::from(qid).checked_sub(1);
        let io = index.and_then(|index| self.io.get_mut(index)).expect("the session has this I/O queue");
        (&mut self.admin, io)
    }

    /// Connects one more I/O queue.
    ///
    /// # Errors
    /// Whatever fails first.
    pub fn add_io_queue(&mut self) -> Result<&mut Queue, Error> {
        let qid = u16::try_from(self.io.len()).ok().and_then(|count| count.checked_add(1));
        let qid = qid.ok_or_else(|| Error::Usage("more I/O queues than QIDs".into()))?;
        let mut queue = Queue::new(Connection::open(self.target, &self.options.connect)?, qid);
        let connect = self.connect.io(self.cntlid, qid, self.options.queue_size.saturating_sub(1));
        queue.connect(&connect)?.ok()?;
        queue.set_in_capsule_max(self.controller.in_capsule_max());
        self.io.push(queue);
        self.io.last_mut().ok_or_else(|| Error::Usage("no queue".into()))
    }

    /// Takes the I/O queues out, for an engine of its own; the Admin Queue keeps the association alive.
    pub fn take_io_queues(&mut self) -> Vec<Queue> {
        std::mem::take(&mut self.io)
    }

    /// What Identify Controller said.
    #[must_use]
    pub fn controller(&self) -> &ControllerData {
        &self.controller
    }

    /// The most commands that one I/O queue takes: CAP.MQES, which is the largest queue's entries less one.
    #[must_use]
    pub fn queue_depth_max(&self) -> u16 {
        let [low, high, ..] = self.cap.to_le_bytes();
        u16::from_le_bytes([low, high])
    }

    /// The Controller ID.
    #[must_use]
    pub fn cntlid(&self) -> u16 {
        self.cntlid
    }

    /// The format of a namespace.
    ///
    /// # Errors
    /// As [`Queue::namespace_format`].
    pub fn namespace_format(&mut self, nsid: u32) -> Result<NamespaceFormat, Error> {
        self.admin.namespace_format(nsid)
    }

    /// The Connect command of the Admin Queue; its `io` makes those of further queues.
    #[must_use]
    pub fn connect_command(&self) -> &ConnectCommand {
        &self.connect
    }

    /// Shuts the controller down and closes the connections.
    ///
    /// # Errors
    /// When the shutdown does not complete.
    pub fn close(mut self) -> Result<(), Error> {
        self.admin.shut_down()
    }
}

/// A Host Identifier for a host NQN: always the same, and different for different NQNs (two FNV-1a hashes).
#[must_use]
pub fn host_id_of(hostnqn: &str) -> [u8; 16] {
    let hash = |seed: u64| {
        hostnqn.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    let both = u128::from(hash(0xcbf2_9ce4_8422_2325)) << 64 | u128::from(hash(0x6c62_272e_07bb_0142));
    both.to_be_bytes()
}

fn cntlid_of(dw0: u32) -> u16 {
    let [low, high, ..] = dw0.to_le_bytes();
    u16::from_le_bytes([low, high])
}

fn resolve(target: impl ToSocketAddrs) -> Result<SocketAddr, Error> {
    let mut addresses =
        target.to_socket_addrs().map_err(|source| Error::Socket { doing: "resolving", source })?;
    addresses.next().ok_or_else(|| Error::Usage("the target's address names no socket address".into()))
}
