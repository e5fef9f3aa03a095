//! One connection under load, whatever it speaks: what the engine drives, and what it learns.

use std::fmt;
use std::net::TcpStream;

use anyhow::Result;
use holdfast_testkit::wire::Status;

use crate::engine::Recorder;
use crate::inbox::Filled;
use crate::workload::{Feed, Op};

/// Reads in a row from one connection before the others get their turn.
const READS_IN_A_ROW: usize = 4;

/// The lanes of one thread, each with its number among all of them.
pub(crate) type Lanes = Vec<(u64, Box<dyn Lane>)>;

/// One connection: its commands in flight, and their data.
pub(crate) trait Lane: Send {
    /// Changes what comes next. The lane must have been made for writes if the feed has any.
    fn set_feed(&mut self, feed: Feed);

    /// The socket, for epoll.
    fn socket(&self) -> &TcpStream;

    /// Whether no command is in flight.
    fn is_quiet(&self) -> bool;

    /// Fills free slots with commands, as far as the feed has any and the target takes them.
    fn submit(&mut self, now_ns: u64);

    /// Sends what is ready.
    fn flush(&mut self) -> Result<()>;

    /// Receives once.
    fn receive(&mut self) -> Result<Filled>;

    /// Works through received bytes up to the next command that ends.
    fn advance(&mut self) -> Result<Option<Finished>>;

    /// Receives, records each command that has ended, and puts new ones in their place while the recorder says
    /// so. `true`: there may be more to read.
    fn pump(&mut self, recorder: &mut Recorder) -> Result<bool> {
        for _ in 0..READS_IN_A_ROW {
            let filled = self.receive()?;
            if filled == Filled::Nothing {
                return Ok(false);
            }
            let now_ns = recorder.tick();
            while let Some(done) = self.advance()? {
                recorder.record(&done, now_ns);
            }
            if recorder.is_submitting() {
                self.submit(now_ns);
            }
            self.flush()?;
            if filled == Filled::All {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// A command that has ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Finished {
    pub(crate) op: Op,
    pub(crate) failure: Option<Failure>,
    pub(crate) submitted_ns: u64,
    /// With --verify: a block of read data was wrong.
    pub(crate) bad_block: Option<u64>,
}

/// How a command failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// NVMe's status.
    Nvme(Status),
    /// SCSI's status, and sense key and codes where there was sense data.
    Scsi { status: u8, sense: Option<(u8, u8, u8)> },
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Nvme(status) => status.fmt(f),
            Self::Scsi { status, sense: None } => write!(f, "SCSI status {status:02X}h"),
            Self::Scsi { status, sense: Some((key, asc, ascq)) } => {
                write!(f, "SCSI status {status:02X}h, sense {key:X}h, {asc:02X}h/{ascq:02X}h")
            }
        }
    }
}
