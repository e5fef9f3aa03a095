//! Work that takes its time, on a thread of its own: opening, making and destroying pools.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};

use holdfast_contract::Progress;

/// How far a job is; written by the job, read by whoever asks.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    done: AtomicU64,
    total: AtomicU64,
}

impl Meter {
    /// So many steps are done, of so many as far as known.
    pub(crate) fn set(&self, done: u64, total: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
    }

    fn read(&self) -> Progress {
        Progress { done: self.done.load(Ordering::Relaxed), total: self.total.load(Ordering::Relaxed) }
    }
}

/// A job under way.
#[derive(Debug)]
pub(crate) struct Job<T> {
    meter: Arc<Meter>,
    result: Receiver<T>,
}

/// How a job is.
#[derive(Debug)]
pub(crate) enum Poll<T> {
    /// Not done.
    Pending,
    /// Done.
    Done(T),
    /// Its thread ended without a result, or never began.
    Lost,
}

impl<T: Send + 'static> Job<T> {
    /// Starts `work`. When it is done, `wake` hears of it.
    pub(crate) fn start(wake: &Sender<()>, work: impl FnOnce(&Meter) -> T + Send + 'static) -> Self {
        let (sender, result) = channel();
        let meter = Arc::new(Meter::default());
        let (shared, wake) = (Arc::clone(&meter), wake.clone());
        let spawned = std::thread::Builder::new().name("pool".to_owned()).spawn(move || {
            // Nobody waits for either only while the process ends.
            let _unheard = sender.send(work(&shared));
            let _unheard = wake.send(());
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for a pool");
        }
        Job { meter, result }
    }

    /// How it is; a result is given once.
    pub(crate) fn poll(&self) -> Poll<T> {
        match self.result.try_recv() {
            Ok(result) => Poll::Done(result),
            Err(TryRecvError::Empty) => Poll::Pending,
            Err(TryRecvError::Disconnected) => Poll::Lost,
        }
    }

    /// How far it is.
    pub(crate) fn progress(&self) -> Progress {
        self.meter.read()
    }
}
