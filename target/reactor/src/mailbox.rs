//! Mail between threads: bounded queues with one sender and one reactor, without locks. A sender wakes the reactor only
//! when it sleeps.
//!
//! No wake-up is lost: a sender publishes its message, fences, then looks at the sleeping flag; the reactor raises the
//! flag, fences, then looks at its queues once more. Whichever fence is first, one of the two sees the other.

use std::cell::UnsafeCell;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use rustix::event::{EventfdFlags, eventfd};

/// Messages taken from one inbox in one turn, so that sockets get their share.
pub(crate) const MAIL_PER_TURN_MAX: usize = 256;

/// The inboxes of one reactor. They are made on any thread, their senders handed out, and then given to
/// [`crate::Reactor::new`] on the reactor's own thread.
pub struct Inboxes<M> {
    receivers: Vec<Arc<Queue<M>>>,
    wake: Arc<Wake>,
}

impl<M> Inboxes<M> {
    /// None yet. Fails if the process has no descriptor left for the wake-up.
    pub fn new() -> io::Result<Inboxes<M>> {
        Ok(Inboxes { receivers: Vec::new(), wake: Arc::new(Wake::new()?) })
    }

    /// Adds an inbox for at most `capacity` messages (at least one), and gives out its only sender.
    pub fn add(&mut self, capacity: usize) -> MailSender<M> {
        let queue = Arc::new(Queue::new(capacity.max(1)));
        self.receivers.push(Arc::clone(&queue));
        MailSender { queue, wake: Arc::clone(&self.wake) }
    }

    /// The next message of inbox `index`.
    pub(crate) fn take(&mut self, index: usize) -> Option<M> {
        // SAFETY: this value holds the only receiving end of the queue, and is borrowed exclusively.
        unsafe { self.receivers.get(index)?.pop() }
    }

    pub(crate) fn count(&self) -> usize {
        self.receivers.len()
    }

    /// Whether no inbox has a message.
    pub(crate) fn all_empty(&self) -> bool {
        self.receivers.iter().all(|queue| queue.is_empty())
    }

    /// Announces sleep. `false` if there is mail, and the reactor must stay awake.
    pub(crate) fn prepare_sleep(&self) -> bool {
        self.wake.sleeping.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if self.all_empty() {
            return true;
        }
        self.awake();
        false
    }

    /// Takes the announcement back.
    pub(crate) fn awake(&self) {
        self.wake.sleeping.store(false, Ordering::Relaxed);
    }

    /// How others than senders wake the reactor.
    pub(crate) fn wake(&self) -> Arc<Wake> {
        Arc::clone(&self.wake)
    }

    /// The descriptor that becomes readable when a sender wakes the reactor.
    pub(crate) fn wake_fd(&self) -> BorrowedFd<'_> {
        self.wake.event.as_fd()
    }
}

impl<M> Drop for Inboxes<M> {
    fn drop(&mut self) {
        for queue in &self.receivers {
            queue.closed.store(true, Ordering::Release);
        }
    }
}

/// The sending end of an inbox.
pub struct MailSender<M> {
    queue: Arc<Queue<M>>,
    wake: Arc<Wake>,
}

impl<M> MailSender<M> {
    /// Hands a message to the reactor, without waiting. A message comes back when the inbox is full, or when the reactor
    /// has ended (see [`MailSender::is_closed`]).
    pub fn send(&mut self, message: M) -> Result<(), M> {
        if self.is_closed() {
            return Err(message);
        }
        // SAFETY: this value is the only sending end of the queue, and is borrowed exclusively.
        unsafe { self.queue.push(message)? };
        self.wake.rouse();
        Ok(())
    }

    /// Whether the reactor has ended: nothing that is sent now will be read. Messages that were still in the inbox are
    /// dropped with it.
    pub fn is_closed(&self) -> bool {
        self.queue.closed.load(Ordering::Acquire)
    }
}

/// How a sleeping reactor is woken.
pub(crate) struct Wake {
    sleeping: AtomicBool,
    event: OwnedFd,
}

impl Wake {
    fn new() -> io::Result<Wake> {
        // Blocking on purpose: the ring reads it, and would fail at once on a descriptor that does not block.
        Ok(Wake { sleeping: AtomicBool::new(false), event: eventfd(0, EventfdFlags::CLOEXEC)? })
    }

    /// Wakes the reactor if it sleeps: called after what it is to find was published.
    pub(crate) fn rouse(&self) {
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::Relaxed) {
            self.ring();
        }
    }

    fn ring(&self) {
        let written = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        debug_assert!(written.is_ok(), "an eventfd refuses only at 2^64 - 1");
    }
}

/// Keeps what the two ends write apart: two cache lines, since processors fetch them in pairs.
#[repr(align(128))]
struct Padded<T>(T);

/// A bounded single-producer, single-consumer ring. Positions count up for ever and wrap.
struct Queue<M> {
    slots: Box<[UnsafeCell<MaybeUninit<M>>]>,
    mask: usize,
    capacity: usize,
    /// Next position to read; written by the receiver.
    head: Padded<AtomicUsize>,
    /// Next position to write; written by the sender.
    tail: Padded<AtomicUsize>,
    closed: AtomicBool,
}

// SAFETY: a slot is accessed by the sender before its position is published by the tail, and by the receiver after that
// and before the head passes it, never by both; and a message moves between threads, which `M: Send` allows.
unsafe impl<M: Send> Sync for Queue<M> {}
// SAFETY: the queue owns its messages, which may be sent.
unsafe impl<M: Send> Send for Queue<M> {}

impl<M> Queue<M> {
    fn new(capacity: usize) -> Queue<M> {
        let room = capacity.next_power_of_two();
        Queue {
            slots: (0..room).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
            mask: room - 1,
            capacity,
            head: Padded(AtomicUsize::new(0)),
            tail: Padded(AtomicUsize::new(0)),
            closed: AtomicBool::new(false),
        }
    }

    /// # Safety
    ///
    /// Called by one thread at a time.
    unsafe fn push(&self, message: M) -> Result<(), M> {
        let tail = self.tail.0.load(Ordering::Relaxed);
        let head = self.head.0.load(Ordering::Acquire);
        if tail.wrapping_sub(head) >= self.capacity {
            return Err(message);
        }
        let Some(slot) = self.slots.get(tail & self.mask) else {
            return Err(message);
        };
        // SAFETY: the position is free (the head has passed its last use, acquired above) and not yet published, and no
        // other thread pushes.
        unsafe { (*slot.get()).write(message) };
        self.tail.0.store(tail.wrapping_add(1), Ordering::Release);
        Ok(())
    }

    /// # Safety
    ///
    /// Called by one thread at a time.
    unsafe fn pop(&self) -> Option<M> {
        let head = self.head.0.load(Ordering::Relaxed);
        if head == self.tail.0.load(Ordering::Acquire) {
            return None;
        }
        let slot = self.slots.get(head & self.mask)?;
        // SAFETY: the position was published (acquired above) and not read yet, and no other thread pops. The head moves
        // past it, so the message is read once.
        let message = unsafe { (*slot.get()).assume_init_read() };
        self.head.0.store(head.wrapping_add(1), Ordering::Release);
        Some(message)
    }

    fn is_empty(&self) -> bool {
        self.head.0.load(Ordering::Relaxed) == self.tail.0.load(Ordering::Acquire)
    }
}

impl<M> Drop for Queue<M> {
    fn drop(&mut self) {
        // SAFETY: both ends are gone.
        while unsafe { self.pop() }.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_inbox_gives_the_message_back() {
        let mut inboxes = Inboxes::new().unwrap();
        let mut sender = inboxes.add(3);
        for n in 0..3 {
            assert_eq!(sender.send(n), Ok(()));
        }
        assert_eq!(sender.send(3), Err(3));
        assert_eq!(inboxes.take(0), Some(0));
        assert_eq!(sender.send(4), Ok(()));
        assert_eq!(
            [inboxes.take(0), inboxes.take(0), inboxes.take(0), inboxes.take(0)],
            [Some(1), Some(2), Some(4), None]
        );
    }

    #[test]
    fn unread_mail_is_dropped_once_and_the_sender_learns_it() {
        let token = Arc::new(());
        let mut inboxes = Inboxes::new().unwrap();
        let mut sender = inboxes.add(8);
        for _ in 0..5 {
            sender.send(Arc::clone(&token)).unwrap();
        }
        drop(inboxes.take(0));
        drop(inboxes);
        assert!(sender.is_closed());
        assert!(sender.send(Arc::clone(&token)).is_err());
        drop(sender);
        assert_eq!(Arc::strong_count(&token), 1);
    }

    #[test]
    fn mail_forbids_sleep() {
        let mut inboxes = Inboxes::new().unwrap();
        let mut sender = inboxes.add(1);
        assert!(inboxes.prepare_sleep());
        sender.send(1).unwrap();
        assert!(!inboxes.prepare_sleep());
        let mut value = [0; 8];
        rustix::io::read(inboxes.wake_fd(), &mut value).unwrap();
        assert_eq!(u64::from_ne_bytes(value), 1, "rung once, by the message that found it asleep");
    }
}
