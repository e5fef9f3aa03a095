//! What the target may do once it serves: nothing that a storage target does not do. A peer that found a hole in it would
//! find itself in a process without capabilities (capabilities(7)), which cannot gain any (`PR_SET_NO_NEW_PRIVS`), and
//! whose kernel answers only the system calls that serving takes (seccomp(2)). Operations that go through an io_uring
//! are seen by no filter; those the reactor's rings refuse by themselves.
//!
//! The order matters. Listening sockets, pinned threads and rings may need privileges, so they come first. Each core's thread
//! drops its capabilities when it has its ring, the main thread when it has started the cores; the threads that it starts
//! from then on have none. The filter comes last, over all threads, before the target says that it is ready.

mod capabilities;
mod system_calls;

pub(crate) use capabilities::{demand_writable, drop_capabilities};
pub(crate) use system_calls::confine_all_threads;
