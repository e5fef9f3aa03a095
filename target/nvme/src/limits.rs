//! Every limit of this front end, by name, with its reason.

/// Payload bytes after which a batch is closed: bounds the pieces of one send (512-byte blocks with tuples
/// are two pieces each) and lets other connections have their turn.
pub(crate) const BATCH_BYTES_MAX: usize = 256 * 1024;

/// Longest payload of one C2HData PDU. NVMe/TCP sets no limit; this one keeps a batch short and lets a host
/// start to use a large read before its end was sent.
pub(crate) const C2H_DATA_LEN_MAX: usize = 128 * 1024;

/// MAXH2CDATA: longest payload of one H2CData PDU that we accept, and more than any configuration may ask for.
pub(crate) const MAXH2CDATA: u32 = 128 * 1024;

/// Longest in-capsule data. The admin queue's is fixed by NVMe/TCP 1.1; the I/O queues' holds a 4 KiB block with
/// its tuple, which is what most writes are.
pub(crate) const IN_CAPSULE_LEN: usize = 8192;

/// Entries of the longest queue (CAP.MQES + 1, MAXCMD): twice the depth that hosts use, so that depth 128 fits with
/// room for flow control.
pub(crate) const QUEUE_ENTRIES_MAX: u16 = 256;

/// Most I/O queues of one controller: one per core of a large host.
pub(crate) const IO_QUEUES_MAX: u16 = 64;

/// MDTS as a power of two in units of CAP.MPSMIN (4 KiB): 1 MiB of data. Also VSL, WZSL and WUSL, which for us are
/// recommendations: commands that move no data are done in pieces of this length.
pub(crate) const TRANSFER_SIZE_SHIFT: u8 = 8;

/// The same in bytes. Metadata is not counted (CTRATT.MEM). Also the longest Copy (MSSRL, MCL), and what of a write is
/// atomic (AWUN, ACWU): each piece of this length is published at once.
pub(crate) const TRANSFER_DATA_MAX: u64 = 1 << 20;

/// Bytes of buffers that one connection may have reserved for data that it was asked for by R2T. Further writes wait in
/// order. One command of any length is always admitted.
pub(crate) const TRANSFER_RESERVED_MAX: usize = 32 << 20;

/// A host that leaves R2Ts unanswered for this time is disconnected, so that the room reserved for it comes back. It is
/// what Linux waits for a command of its own.
pub(crate) const TRANSFER_STALL_MS: u64 = 30_000;

/// R2Ts of aborted commands that are remembered, because their data may still be on its way. One more forgets the oldest,
/// and data for that ends the connection.
pub(crate) const ABORTED_R2TS_MAX: usize = 64;

/// Bytes of admin replies that one connection may have waiting to be sent: Identify on every entry of a full queue. One
/// reply of any length is taken always.
pub(crate) const REPLY_BYTES_MAX: usize = QUEUE_ENTRIES_MAX as usize * 4096;

/// Payload that an admin command, Dataset Management or Copy may bring: the last of them brings most.
pub(crate) const STAGED_LEN_MAX: usize = COPY_RANGES_MAX * 40;

/// Longest block of a volume in bytes.
pub(crate) const BLOCK_LEN_MAX: usize = 4096;

/// Source ranges of a Copy (MSRC + 1).
pub(crate) const COPY_RANGES_MAX: usize = 128;

/// What a block costs that is checked, zeroed or deallocated without leaving the target: an eighth of moving 4 KiB.
pub(crate) const BLOCK_COST: u64 = 512;

/// A controller whose keep-alive timer does not run (it is not enabled, or shut down, or of a discovery service whose host
/// set none) ends after this time without a command. Base 2.1 §3.6.2 and §3.1.3.3 ask for at least two minutes.
pub(crate) const IDLE_MS: u64 = 150_000;

/// KAS: granularity of the keep-alive timer in units of 100 ms.
pub(crate) const KEEP_ALIVE_GRANULARITY: u16 = 10;

/// The same in milliseconds.
pub(crate) const KEEP_ALIVE_GRANULARITY_MS: u64 = 1_000;

/// Most Asynchronous Event Requests at a time (AERL + 1).
pub(crate) const ASYNC_EVENTS_MAX: usize = 4;

/// Most Abort commands at a time (ACL + 1): as many as may be on their way to I/O queues.
pub(crate) const ABORTS_MAX: u8 = 4;

/// Composite temperature: a nominal 25 °C, since nothing here has one of its own.
pub(crate) const TEMPERATURE_KELVIN: u16 = 298;

/// Entries of the error log (ELPE + 1).
pub(crate) const ERROR_LOG_ENTRIES: u8 = 64;

/// Bytes of the persistent event log of a subsystem, without its header. Each host may hold a copy while it reads.
pub(crate) const EVENT_LOG_LEN_MAX: usize = 16 * 1024;

/// PELS: the persistent event log, in units of 64 KiB.
pub(crate) const EVENT_LOG_UNITS: u32 = 1;
const _: () = assert!(EVENT_LOG_LEN_MAX + 512 <= 64 * 1024);

/// Highest NSID.
pub(crate) const NAMESPACES_MAX: u32 = 1024;

/// Entries of the changed namespace list; with more changes it says only that there were many.
pub(crate) const CHANGED_NAMESPACES_MAX: usize = 1024;

/// Most controllers of all subsystems at once, as many as there may be sessions.
pub(crate) const CONTROLLERS_MAX: usize = 4096;

/// Most connections of one host, admin queues counted: a large host with a queue per core on each of several paths to several
/// subsystems. One that asks for more is told to try again later, so that it leaves room for others.
pub(crate) const HOST_CONNECTIONS_MAX: usize = 1024;

/// CAP.TO and CRTO: units of 500 ms within which a controller is ready. It is at once.
pub(crate) const READY_TIMEOUT: u8 = 20;

/// Longest NVMe qualified name in bytes, without the terminating NUL.
pub(crate) const NQN_LEN_MAX: usize = 223;
