//! The ring: queueing of submissions, one `io_uring_enter` per loop turn, and completions as plain values.
//!
//! The ring belongs to the thread that made it (`SINGLE_ISSUER`), and the kernel leaves work that completes requests to
//! that thread's next enter with `GETEVENTS` (`DEFER_TASKRUN`); `TASKRUN_FLAG` shows in shared memory that there is some,
//! so a spinning reactor enters the kernel only when there is something to fetch.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};
use rustix::io::Errno;

/// Submission slots. More than a turn usually fills; what exceeds it waits in the backlog for the same enter.
const SUBMISSIONS: u32 = 512;

/// Completion slots. Room for a burst on every socket of a busy reactor; the kernel keeps what overflows.
const COMPLETIONS: u32 = 4096;

/// Completions taken in one turn, so that mail and deadlines get their share under load.
pub(crate) const COMPLETIONS_PER_TURN_MAX: usize = 256;

/// Bits of a token that hold the index of a socket or listener.
const INDEX_BITS: u32 = 24;

/// Indices (of sockets, of listeners) stay below this.
pub(crate) const INDEX_MAX: u32 = 1 << INDEX_BITS;

/// What a submission was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    /// Multishot accept of a listener.
    Accept,
    /// Multishot receive of a socket.
    Receive,
    /// The one gathered send of a socket.
    Send,
    /// Cancellation of one of the above.
    Cancel,
    /// The read of the descriptor by which other threads wake this one.
    Wake,
}

/// Names a submission in its completions: what it was for, and which slot in which of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) operation: Operation,
    /// Below [`INDEX_MAX`].
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

impl Token {
    pub(crate) fn encode(self) -> u64 {
        let operation: u64 = match self.operation {
            Operation::Accept => 1,
            Operation::Receive => 2,
            Operation::Send => 3,
            Operation::Cancel => 4,
            Operation::Wake => 5,
        };
        debug_assert!(self.index < INDEX_MAX, "an index outgrew its bits");
        (operation << 56) | (u64::from(self.index) << 32) | u64::from(self.generation)
    }

    pub(crate) fn decode(user_data: u64) -> Option<Token> {
        let [g0, g1, g2, g3, i0, i1, i2, operation] = user_data.to_le_bytes();
        let operation = match operation {
            1 => Operation::Accept,
            2 => Operation::Receive,
            3 => Operation::Send,
            4 => Operation::Cancel,
            5 => Operation::Wake,
            _ => return None,
        };
        let index = u32::from_le_bytes([i0, i1, i2, 0]);
        let generation = u32::from_le_bytes([g0, g1, g2, g3]);
        Some(Token { operation, index, generation })
    }
}

/// One completion, copied out of the ring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completion {
    pub(crate) token: Token,
    /// Bytes or descriptor, or the error.
    pub(crate) result: Result<u32, Errno>,
    /// More completions of the same submission will follow.
    pub(crate) more: bool,
    /// The receive buffer that was filled; it must be given back.
    pub(crate) buffer: Option<u16>,
}

/// How long an enter may block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wait {
    /// Not at all.
    Never,
    /// Until a completion, or until the time is over.
    AtMost(Duration),
    /// Until a completion.
    Forever,
}

/// An io_uring of this thread.
pub(crate) struct Ring {
    inner: IoUring,
    /// Submissions that found the queue full, in order. Bounded by the few that each socket and listener can have.
    backlog: VecDeque<squeue::Entry>,
    /// Submissions whose last completion has not been taken yet.
    in_flight: usize,
    /// Flags for a blocking enter.
    wait_flags: EnterFlags,
}

impl Ring {
    /// Makes the ring. Errors are the kernel's: `ENOSYS` and `EPERM` where io_uring is missing or forbidden,
    /// `EINVAL` where the kernel is older than 6.1, `ENOMEM` where a limit on locked memory is met.
    pub(crate) fn new() -> io::Result<Ring> {
        let inner = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(SUBMISSIONS)?;
        let mut wait_flags = EnterFlags::EXT_ARG | EnterFlags::GETEVENTS;
        if inner.params().is_feature_no_iowait() {
            // An idle target is not waiting for a disk, and should not look so in the machine's statistics.
            wait_flags |= EnterFlags::NO_IOWAIT;
        }
        Ok(Ring { inner, backlog: VecDeque::new(), in_flight: 0, wait_flags })
    }

    /// The submitter, for the registration of buffers.
    pub(crate) fn submitter(&self) -> io_uring::Submitter<'_> {
        self.inner.submitter()
    }

    /// Queues a submission for the next enter.
    ///
    /// # Safety
    ///
    /// Everything that `entry` points to stays valid, and is not written to (or, where the kernel writes, not touched),
    /// until the submission's last completion has been taken or the ring has been drained.
    pub(crate) unsafe fn push(&mut self, entry: squeue::Entry) {
        self.in_flight += 1;
        if self.backlog.is_empty() {
            // SAFETY: the caller's promise is exactly the one that the queue asks for.
            if unsafe { self.inner.submission().push(&entry) }.is_ok() {
                return;
            }
        }
        self.backlog.push_back(entry);
    }

    /// Whether an enter has anything to do without blocking.
    pub(crate) fn wants_enter(&mut self) -> bool {
        let queue = self.inner.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Whether completions can be taken.
    pub(crate) fn has_completions(&mut self) -> bool {
        !self.inner.completion().is_empty()
    }

    /// Completions that can be taken.
    pub(crate) fn completion_count(&mut self) -> usize {
        self.inner.completion().len()
    }

    /// Submissions whose last completion is still to come.
    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Hands everything queued to the kernel and lets it run what it has deferred; then waits as told.
    /// Interruptions, time-outs and passing shortages are not errors: the next turn tries again.
    pub(crate) fn enter(&mut self, wait: Wait) -> io::Result<()> {
        loop {
            self.refill();
            let queued = self.inner.submission().len();
            let last = self.backlog.is_empty();
            let result =
                if last { self.enter_once(queued, wait) } else { self.enter_once(queued, Wait::Never) };
            match result {
                Ok(()) if last => return Ok(()),
                Ok(()) => {}
                Err(error) => {
                    return match Errno::from_io_error(&error) {
                        Some(Errno::TIME | Errno::INTR | Errno::BUSY | Errno::AGAIN) => Ok(()),
                        _ => Err(error),
                    };
                }
            }
        }
    }

    /// Queues the cancellation of every submission of this ring. Their completions follow.
    pub(crate) fn cancel_all(&mut self) {
        let token = Token { operation: Operation::Cancel, index: 0, generation: 0 };
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(token.encode());
        // SAFETY: a cancellation points to nothing.
        unsafe { self.push(entry) };
    }

    /// Takes up to [`COMPLETIONS_PER_TURN_MAX`] completions.
    pub(crate) fn reap(&mut self, into: &mut Vec<Completion>) {
        for entry in self.inner.completion().take(COMPLETIONS_PER_TURN_MAX) {
            let more = cqueue::more(entry.flags());
            if !more {
                self.in_flight = self.in_flight.saturating_sub(1);
            }
            let Some(token) = Token::decode(entry.user_data()) else {
                debug_assert!(false, "a completion of nothing that was submitted");
                continue;
            };
            let result = match u32::try_from(entry.result()) {
                Ok(value) => Ok(value),
                Err(_) => Err(Errno::from_raw_os_error(entry.result().saturating_neg())),
            };
            into.push(Completion { token, result, more, buffer: cqueue::buffer_select(entry.flags()) });
        }
    }

    fn refill(&mut self) {
        let mut queue = self.inner.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: `push` took the promise for this entry.
            if unsafe { queue.push(entry) }.is_err() {
                break;
            }
            self.backlog.pop_front();
        }
    }

    fn enter_once(&mut self, queued: usize, wait: Wait) -> io::Result<()> {
        let queued = u32::try_from(queued).unwrap_or(SUBMISSIONS);
        let timeout = match wait {
            Wait::Never | Wait::Forever => None,
            Wait::AtMost(limit) => Some(Timespec::from(limit)),
        };
        let args = match &timeout {
            Some(timeout) => SubmitArgs::new().timespec(timeout),
            None => SubmitArgs::new(),
        };
        let submitter = self.inner.submitter();
        // SAFETY: `args` is the extended argument that `EXT_ARG` announces, and it and the timeout that it points to
        // live until the call returns; what the queued submissions point to was promised to `push`.
        let outcome = unsafe {
            match wait {
                Wait::Never => {
                    submitter.enter::<libc::sigset_t>(queued, 0, EnterFlags::GETEVENTS.bits(), None)
                }
                Wait::AtMost(_) | Wait::Forever => {
                    submitter.enter(queued, 1, self.wait_flags.bits(), Some(&args))
                }
            }
        };
        outcome.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_survives_the_ring() {
        let operations =
            [Operation::Accept, Operation::Receive, Operation::Send, Operation::Cancel, Operation::Wake];
        for operation in operations {
            for (index, generation) in [(0, 0), (INDEX_MAX - 1, u32::MAX), (77, 3)] {
                let token = Token { operation, index, generation };
                assert_eq!(Token::decode(token.encode()), Some(token));
            }
        }
    }

    #[test]
    fn unknown_user_data_is_no_token() {
        assert_eq!(Token::decode(0), None);
        assert_eq!(Token::decode(u64::MAX), None);
    }
}
