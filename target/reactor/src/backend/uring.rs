//! The ring: queueing of submissions, one `io_uring_enter` per loop turn, and completions as plain values.
//!
//! The ring belongs to the thread that made it (`SINGLE_ISSUER`), and the kernel leaves work that completes requests to
//! that thread's next enter with `GETEVENTS` (`DEFER_TASKRUN`); `TASKRUN_FLAG` shows in shared memory that there is some,
//! so a spinning reactor enters the kernel only when there is something to fetch.
//!
//! What goes through a ring is seen by no seccomp filter. So the ring itself refuses, from its first use on, every
//! operation but the few that are needed here: whoever takes this process over cannot open files or sockets with it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::rc::Rc;
use std::time::Duration;

use io_uring::register::Restriction;
use io_uring::types::{CancelBuilder, Fd, FsyncFlags, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, Submitter, cqueue, opcode, squeue};
use libc::msghdr;
use rustix::io::Errno;

use super::{COMPLETIONS_PER_TURN_MAX, Completion, Operation, Shots, Token, Wait};
use crate::buffers::BufferPool;
use crate::file::{Step, Work};
use crate::socket::SocketId;

/// Submission slots. More than a turn usually fills; what exceeds it waits in the backlog for the same enter.
const SUBMISSIONS: u32 = 512;

/// Completion slots. Room for a burst on every socket of a busy reactor; the kernel keeps what overflows.
const COMPLETIONS: u32 = 4096;

/// The buffer group that every receive of a reactor draws from.
const BUFFER_GROUP: u16 = 0;

/// Never raise SIGPIPE. The kernel goes on by itself after a short send, as far as it can.
const SEND_FLAGS: i32 = libc::MSG_NOSIGNAL | libc::MSG_WAITALL;

/// How often the end of a reactor waits in vain for the kernel to let go of its memory; then the memory is leaked.
const DRAIN_ATTEMPTS_MAX: u32 = 50;

/// One attempt's wait.
const DRAIN_WAIT: Duration = Duration::from_millis(100);

/// An io_uring of this thread.
pub(crate) struct Ring {
    inner: IoUring,
    /// Submissions that found the queue full, in order. Bounded by the few that each socket and listener, and
    /// the many that each file can have.
    backlog: VecDeque<squeue::Entry>,
    /// Submissions whose last completion has not been taken yet.
    in_flight: usize,
    /// Flags for a blocking enter.
    wait_flags: EnterFlags,
    /// What the kernel fills.
    buffers: Rc<BufferPool>,
    /// Where the kernel puts the count of wake-ups. Boxed: its address is with the kernel.
    woken: Box<u64>,
}

impl Ring {
    /// Makes the ring, whose receives draw from `buffers`. Errors are the kernel's: `ENOSYS` and `EPERM` where io_uring is
    /// missing or forbidden, `EINVAL` where the kernel is older than 6.1, `ENOMEM` where a limit on locked memory is met.
    pub(super) fn new(buffers: Rc<BufferPool>) -> io::Result<Ring> {
        let inner = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_taskrun_flag()
            .setup_submit_all()
            .setup_r_disabled()
            .setup_cqsize(COMPLETIONS)
            .dontfork()
            .build(SUBMISSIONS)?;
        let (entries, count) = buffers.ring_entries();
        // SAFETY: the entries are mapped, page-aligned and of the announced length, and stay so: the ring keeps the pool,
        // and is dropped only when it has no receive left (see `drain`).
        unsafe { inner.submitter().register_buf_ring_with_flags(entries, count, BUFFER_GROUP, 0)? };
        restrict_and_enable(&inner.submitter())?;
        let mut wait_flags = EnterFlags::EXT_ARG | EnterFlags::GETEVENTS;
        if inner.params().is_feature_no_iowait() {
            // An idle target is not waiting for a disk, and should not look so in the machine's statistics.
            wait_flags |= EnterFlags::NO_IOWAIT;
        }
        let mut ring =
            Ring { inner, backlog: VecDeque::new(), in_flight: 0, wait_flags, buffers, woken: Box::new(0) };
        // A sandbox may allow the set-up and refuse the use.
        ring.enter(Wait::Never)?;
        Ok(ring)
    }

    pub(super) fn buffers(&self) -> &Rc<BufferPool> {
        &self.buffers
    }

    /// Buffers that the kernel can fill: each completion that was not taken yet may hold one.
    pub(super) fn available_buffers(&mut self) -> usize {
        self.buffers.free_count().saturating_sub(self.inner.completion().len())
    }

    pub(super) fn accept(&mut self, index: u32, listener: BorrowedFd<'_>) {
        let token = Token { operation: Operation::Accept, index, generation: 0 };
        let fd = Fd(listener.as_raw_fd());
        let entry = opcode::AcceptMulti::new(fd).flags(libc::SOCK_CLOEXEC).build();
        // SAFETY: a multishot accept points to nothing.
        unsafe { self.push(entry.user_data(token.encode())) };
    }

    pub(super) fn watch_wake(&mut self, eventfd: BorrowedFd<'_>) {
        let token = Token { operation: Operation::Wake, index: 0, generation: 0 };
        let fd = Fd(eventfd.as_raw_fd());
        let entry = opcode::Read::new(fd, (&raw mut *self.woken).cast(), 8).build();
        // SAFETY: eight bytes in a box that is neither moved out nor looked at, and that lives until the ring is drained.
        unsafe { self.push(entry.user_data(token.encode())) };
    }

    pub(super) fn receive(&mut self, socket: SocketId, fd: BorrowedFd<'_>, shots: Shots) {
        let fd = Fd(fd.as_raw_fd());
        let entry = match shots {
            Shots::Many => opcode::RecvMulti::new(fd, BUFFER_GROUP).build(),
            Shots::One => {
                let entry = opcode::Recv::new(fd, ptr::null_mut(), 0).buf_group(BUFFER_GROUP).build();
                entry.flags(squeue::Flags::BUFFER_SELECT)
            }
        };
        // SAFETY: the kernel writes to provided buffers only, which outlive the ring's requests.
        unsafe { self.push(entry.user_data(Token::of(Operation::Receive, socket).encode())) };
    }

    /// # Safety
    ///
    /// That of [`super::Backend::send`].
    pub(super) unsafe fn send(&mut self, socket: SocketId, fd: BorrowedFd<'_>, header: *const msghdr) {
        let fd = Fd(fd.as_raw_fd());
        let entry = opcode::SendMsg::new(fd, header).flags(SEND_FLAGS.unsigned_abs()).build();
        // SAFETY: the caller's promise.
        unsafe { self.push(entry.user_data(Token::of(Operation::Send, socket).encode())) };
    }

    pub(super) fn cancel(&mut self, operation: Operation, socket: SocketId) {
        let entry = opcode::AsyncCancel::new(Token::of(operation, socket).encode()).build();
        // SAFETY: a cancellation points to nothing.
        unsafe { self.push(entry.user_data(Token::of(Operation::Cancel, socket).encode())) };
    }

    /// Reads, writes or syncs a file as `step` says. Memory is not registered for it: pools come and go while the
    /// target serves, and a ring in use takes no registration.
    ///
    /// # Safety
    ///
    /// The step's vectors and the memory that they name stay valid, and untouched (not written to, for writes), until its
    /// completion was taken or the ring has been drained; the file stays open as long.
    pub(crate) unsafe fn file_step(&mut self, token: Token, fd: BorrowedFd<'_>, step: Step) {
        let fd = Fd(fd.as_raw_fd());
        let Step { work, vectors, count, offset } = step;
        let entry = match work {
            Work::Read => opcode::Readv::new(fd, vectors, count).offset(offset).build(),
            Work::Write => opcode::Writev::new(fd, vectors, count).offset(offset).build(),
            Work::Sync => opcode::Fsync::new(fd).flags(FsyncFlags::DATASYNC).build(),
        };
        // SAFETY: the caller's promise.
        unsafe { self.push(entry.user_data(token.encode())) };
    }

    /// Queues a submission for the next enter.
    ///
    /// # Safety
    ///
    /// Everything that `entry` points to stays valid, and is not written to (or, where the kernel writes, not touched),
    /// until the submission's last completion has been taken or the ring has been drained.
    unsafe fn push(&mut self, entry: squeue::Entry) {
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
    pub(super) fn wants_enter(&mut self) -> bool {
        let queue = self.inner.submission();
        !queue.is_empty() || queue.taskrun() || queue.cq_overflow()
    }

    /// Whether completions can be taken.
    pub(super) fn has_completions(&mut self) -> bool {
        !self.inner.completion().is_empty()
    }

    /// Hands everything queued to the kernel and lets it run what it has deferred; then waits as told.
    pub(super) fn enter(&mut self, wait: Wait) -> io::Result<()> {
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
    fn cancel_all(&mut self) {
        let token = Token { operation: Operation::Cancel, index: 0, generation: 0 };
        let entry = opcode::AsyncCancel2::new(CancelBuilder::any()).build().user_data(token.encode());
        // SAFETY: a cancellation points to nothing.
        unsafe { self.push(entry) };
    }

    /// Takes up to [`COMPLETIONS_PER_TURN_MAX`] completions.
    pub(super) fn reap(&mut self, into: &mut Vec<Completion>) {
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

    /// Cancels everything and waits for it. Whether the kernel has let go of all memory.
    pub(super) fn drain(&mut self) -> bool {
        let mut completions = Vec::new();
        let mut attempts = 0;
        while self.in_flight > 0 && attempts < DRAIN_ATTEMPTS_MAX {
            // Again now and then: a cancellation misses a request that is just being worked on.
            if attempts % 10 == 0 {
                self.cancel_all();
            }
            let before = self.in_flight;
            if self.enter(Wait::AtMost(DRAIN_WAIT)).is_err() {
                return false;
            }
            completions.clear();
            self.reap(&mut completions);
            for completion in &completions {
                if completion.token.operation == Operation::Accept
                    && let Some(fd) = completion.result.ok().and_then(|fd| RawFd::try_from(fd).ok())
                {
                    // SAFETY: made by the kernel for this completion; nobody else knows it.
                    drop(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
            // Only waiting in vain counts: what a disk is working on comes one after the other.
            attempts = if self.in_flight < before { 1 } else { attempts + 1 };
        }
        self.in_flight == 0
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

/// Allows what this file submits, and no registration any more; then opens the ring for the calling thread.
fn restrict_and_enable(submitter: &Submitter<'_>) -> io::Result<()> {
    let mut restrictions = [
        Restriction::sqe_op(opcode::Accept::CODE),
        Restriction::sqe_op(opcode::Recv::CODE),
        Restriction::sqe_op(opcode::SendMsg::CODE),
        Restriction::sqe_op(opcode::AsyncCancel::CODE),
        Restriction::sqe_op(opcode::Read::CODE),
        Restriction::sqe_op(opcode::Readv::CODE),
        Restriction::sqe_op(opcode::Writev::CODE),
        Restriction::sqe_op(opcode::Fsync::CODE),
        Restriction::sqe_flags_allowed(squeue::Flags::BUFFER_SELECT.bits()),
    ];
    submitter.register_restrictions(&mut restrictions)?;
    submitter.register_enable_rings()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the ring answers to one submission that points to nothing.
    fn answer(ring: &mut Ring, entry: squeue::Entry) -> Result<u32, Errno> {
        let token = Token { operation: Operation::Wake, index: 0, generation: 0 };
        // SAFETY: every caller's entry points to nothing, or to what is static.
        unsafe { ring.push(entry.user_data(token.encode())) };
        ring.enter(Wait::Forever).unwrap();
        let mut completions = Vec::new();
        ring.reap(&mut completions);
        assert_eq!(completions.len(), 1);
        completions[0].result
    }

    #[test]
    fn operations_that_the_reactor_does_not_use_are_refused() {
        let mut ring = Ring::new(BufferPool::for_ring(2).unwrap()).unwrap();
        let path = c"/dev/null";
        let refused = [
            opcode::Nop::new().build(),
            opcode::OpenAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).build(),
            opcode::Socket::new(libc::AF_INET, libc::SOCK_STREAM, 0).build(),
            opcode::Write::new(Fd(1), path.as_ptr().cast(), 1).build(),
            opcode::WriteFixed::new(Fd(1), path.as_ptr().cast(), 1, 0).build(),
            opcode::Fallocate::new(Fd(1), 1).build(),
            opcode::Fadvise::new(Fd(1), 1, 0).build(),
            opcode::Send::new(Fd(1), path.as_ptr().cast(), 1).build(),
            opcode::UnlinkAt::new(Fd(libc::AT_FDCWD), path.as_ptr()).build(),
        ];
        for entry in refused {
            assert_eq!(answer(&mut ring, entry), Err(Errno::ACCESS));
        }
        let cancel = || opcode::AsyncCancel::new(1).build();
        assert_eq!(answer(&mut ring, cancel()), Err(Errno::NOENT), "carried out");
        for flags in [squeue::Flags::ASYNC, squeue::Flags::FIXED_FILE, squeue::Flags::IO_DRAIN] {
            assert_eq!(answer(&mut ring, cancel().flags(flags)), Err(Errno::ACCESS), "{flags:?}");
        }
        assert!(ring.drain());
    }

    #[test]
    fn nothing_can_be_registered_with_a_ring_in_use() {
        let mut ring = Ring::new(BufferPool::for_ring(2).unwrap()).unwrap();
        let submitter = ring.inner.submitter();
        for outcome in [
            submitter.register_files(&[0]),
            submitter.register_eventfd(0),
            submitter.unregister_buf_ring(BUFFER_GROUP),
            submitter.register_iowq_max_workers(&mut [1, 1]),
        ] {
            assert_eq!(outcome.map_err(|error| Errno::from_io_error(&error)), Err(Some(Errno::ACCESS)));
        }
        assert!(ring.drain());
    }
}
