//! Commands by pass-through, which the block layer would not send. The one room of this crate with `unsafe`.

pub(crate) mod nvme;
pub(crate) mod scsi;

/// How long a command may take.
const TIMEOUT_MS: u32 = 30_000;
