//! Failed commands on their way from the cores to the spool: bounded, never waiting. A report that finds no room is
//! counted as dropped; the counters of the host have it all the same.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use holdfast_block::attribution::{FaultReport, FaultSink};

/// Reports under way. With their evidence at most about 17 MiB.
const REPORTS_MAX: usize = 4096;

/// A core's end.
#[derive(Debug, Clone)]
pub(crate) struct FaultSender {
    sender: SyncSender<FaultReport>,
    dropped: Arc<AtomicU64>,
}

/// The spool's end.
#[derive(Debug)]
pub(crate) struct FaultReceiver {
    receiver: Receiver<FaultReport>,
    dropped: Arc<AtomicU64>,
}

/// A queue of reports; its sending end is cloned for each core.
pub(crate) fn fault_queue() -> (FaultSender, FaultReceiver) {
    let (sender, receiver) = sync_channel(REPORTS_MAX);
    let dropped = Arc::new(AtomicU64::new(0));
    (FaultSender { sender, dropped: Arc::clone(&dropped) }, FaultReceiver { receiver, dropped })
}

impl FaultSink for FaultSender {
    fn report(&mut self, report: FaultReport) {
        if self.sender.try_send(report).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl FaultReceiver {
    /// Waits at most `patience` for reports and hands each to `take`. False once all senders are gone.
    pub(crate) fn drain(&self, patience: Duration, mut take: impl FnMut(FaultReport)) -> bool {
        let until = Instant::now() + patience;
        loop {
            match self.receiver.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(report) => take(report),
                Err(RecvTimeoutError::Timeout) => return true,
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
    }

    /// Reports dropped since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}
