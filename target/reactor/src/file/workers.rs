//! Threads that wait in place of a ring: for reactors on epoll, which says nothing about files, and for backings whose I/O
//! is not the kernel's alone. A job owns everything that it touches, so that nothing has to wait for it: neither the
//! end of the reactor nor that of a region.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::io::Errno;

use super::request::{Transfer, Work};
use crate::backend::Token;
use crate::backing::Backing;
use crate::mailbox::Wake;
use crate::mapping::Region;

/// Threads of one reactor: as many requests as are worked on at one time.
const THREADS: usize = 4;

/// One step of a request.
pub(super) struct Job {
    pub(super) token: Token,
    pub(super) work: Work,
    pub(super) backing: Arc<Backing>,
    /// What keeps the memory mapped that `transfer` names.
    pub(super) region: Option<Region>,
    pub(super) transfer: Transfer,
}

/// A step that is done.
pub(super) struct Done {
    pub(super) token: Token,
    pub(super) result: Result<u32, Errno>,
    pub(super) transfer: Transfer,
}

/// The reactor's end.
pub(super) struct Workers {
    shared: Arc<Shared>,
    started: usize,
}

struct Shared {
    queue: Mutex<Queue>,
    /// There is a job, or the reactor has ended.
    news: Condvar,
    done: Mutex<VecDeque<Done>>,
    /// The length of `done`, to look at without the lock.
    done_count: AtomicUsize,
    wake: Arc<Wake>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    ended: bool,
}

impl Workers {
    /// None yet; `wake` is how they wake the reactor.
    pub(super) fn new(wake: Arc<Wake>) -> Workers {
        let shared = Shared {
            queue: Mutex::default(),
            news: Condvar::new(),
            done: Mutex::default(),
            done_count: AtomicUsize::new(0),
            wake,
        };
        Workers { shared: Arc::new(shared), started: 0 }
    }

    /// Starts the threads that are missing. Fails if there is none.
    pub(super) fn ensure_started(&mut self) -> io::Result<()> {
        while self.started < THREADS {
            let shared = Arc::clone(&self.shared);
            let name = format!("files-{}", self.started);
            match thread::Builder::new().name(name).spawn(move || shared.work()) {
                Ok(_) => self.started += 1,
                Err(error) if self.started == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(())
    }

    pub(super) fn start(&self, job: Job) {
        self.shared.queue().jobs.push_back(job);
        self.shared.news.notify_one();
    }

    pub(super) fn has_done(&self) -> bool {
        self.shared.done_count.load(Ordering::Acquire) > 0
    }

    pub(super) fn take_done(&self) -> Option<Done> {
        if !self.has_done() {
            return None;
        }
        let mut done = self.shared.done();
        let taken = done.pop_front();
        self.shared.done_count.store(done.len(), Ordering::Release);
        taken
    }
}

impl Drop for Workers {
    /// What was not begun is not done: nobody was told that it would be.
    fn drop(&mut self) {
        let mut queue = self.shared.queue();
        queue.ended = true;
        queue.jobs.clear();
        drop(queue);
        self.shared.news.notify_all();
    }
}

impl Shared {
    /// The life of a thread.
    fn work(&self) {
        while let Some(Job { token, work, backing, region, transfer }) = self.next() {
            // SAFETY: `region` keeps the memory mapped, and its user was told to leave the parts alone meanwhile (see
            // `Io::file_read`).
            let result = unsafe { backing.step(work, transfer.rest(), transfer.offset()) };
            drop((backing, region));
            let mut done = self.done();
            done.push_back(Done { token, result, transfer });
            self.done_count.store(done.len(), Ordering::Release);
            drop(done);
            self.wake.rouse();
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.queue();
        loop {
            if queue.ended {
                return None;
            }
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            queue = self.news.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn done(&self) -> MutexGuard<'_, VecDeque<Done>> {
        self.done.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
