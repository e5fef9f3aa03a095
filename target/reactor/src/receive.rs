//! Receiving: each socket has one multishot receive armed, or waits: paused by its service, or for a buffer to come back.
//!
//! Bytes stay in order because a socket has one receive at a time: the next is armed only after the last completion of
//! the one before. When the buffers run out, the receives of the sockets that have data end; they queue, and as buffers come back each is armed for a single one in its turn, so that nobody who sends fast takes them all.

use std::os::fd::AsFd;

use rustix::io::Errno;

use crate::backend::{Completion, Operation, Shots};
use crate::buffers::Received;
use crate::io::{Io, is_passing};
use crate::reactor::Service;
use crate::socket::{CloseReason, Phase, SocketId};

impl Io {
    /// Delivers no more of a socket's stream than what the kernel has taken out of it already (at most the reactor's
    /// receive buffers), until [`Io::resume_receive`]: the peer is slowed down by TCP. Nothing is lost or reordered. That
    /// the peer closes, or the connection fails, is noticed after the resumption, or by a send.
    pub fn pause_receive(&mut self, socket: SocketId) {
        if let Some(found) = self.sockets.get(socket)
            && found.phase == Phase::Open
        {
            found.paused = true;
            self.cancel_if_paused(socket);
        }
    }

    /// Takes [`Io::pause_receive`] back. [`Io::shutdown_after_send`] does so as well.
    pub fn resume_receive(&mut self, socket: SocketId) {
        if let Some(found) = self.sockets.get(socket)
            && std::mem::take(&mut found.paused)
        {
            self.receive_on(socket);
        }
    }

    /// Arms the socket's receive if it shall receive and nothing is armed; or lets it queue for a buffer.
    pub(crate) fn receive_on(&mut self, socket: SocketId) {
        let others_wait = !self.starved.is_empty();
        let Some(found) = self.sockets.get(socket) else { return };
        let closing = matches!(found.phase, Phase::Closing { .. });
        if closing || found.receiving || found.paused || found.starved || found.ended {
            return;
        }
        if others_wait {
            self.join_starved(socket);
        } else {
            self.arm_receive(socket, Shots::Many);
        }
    }

    /// Arms as many of the sockets that wait for a buffer as there are buffers.
    pub(crate) fn feed_starved(&mut self) {
        if self.starved.is_empty() {
            return;
        }
        for _ in 0..self.backend.available_buffers() {
            let Some(socket) = self.starved.pop_front() else { return };
            let Some(found) = self.sockets.get(socket) else { continue };
            found.starved = false;
            if !found.paused {
                self.arm_receive(socket, Shots::One);
            }
        }
    }

    /// Takes a closing socket out of the queue for buffers.
    pub(crate) fn leave_starved(&mut self, socket: SocketId) {
        if let Some(found) = self.sockets.get(socket)
            && std::mem::take(&mut found.starved)
        {
            self.starved.retain(|waiting| *waiting != socket);
        }
    }

    /// A completion of the socket's receive: bytes, the end of the stream, or the end of this receive.
    pub(crate) fn on_receive<S: Service>(
        &mut self,
        service: &mut S,
        socket: SocketId,
        completion: Completion,
    ) {
        if let Some(id) = completion.buffer {
            let len = completion.result.map_or(0, |len| usize::try_from(len).unwrap_or(0));
            // SAFETY: completions are taken out of the ring once and looked at here only.
            let bytes = unsafe { self.backend.buffers().lend(id, len) };
            debug_assert!(bytes.is_some(), "the kernel filled a buffer that does not exist");
            if let Some(bytes) = bytes
                && !bytes.is_empty()
            {
                self.deliver(service, socket, bytes);
            }
        }
        if completion.more {
            self.cancel_if_paused(socket);
            return;
        }
        let Some(found) = self.sockets.get(socket) else { return };
        found.receiving = false;
        found.cancelling = false;
        if matches!(found.phase, Phase::Closing { .. }) {
            self.finish_if_quiet(socket);
            return;
        }
        match completion.result {
            Ok(0) => self.peer_closed(socket),
            // Cancelled: the socket was paused, and perhaps resumed since.
            Ok(_) | Err(Errno::CANCELED) => self.receive_on(socket),
            Err(Errno::NOBUFS) => self.join_starved(socket),
            Err(error) if is_passing(error) => self.receive_on(socket),
            Err(error) => self.begin_close(socket, CloseReason::Failed(error.raw_os_error())),
        }
    }

    /// Hands bytes on, or discards them.
    fn deliver<S: Service>(&mut self, service: &mut S, socket: SocketId, bytes: Received) {
        let Some(found) = self.sockets.get(socket) else { return };
        match &mut found.phase {
            Phase::Open => service.received(self, socket, bytes),
            Phase::Lingering { discard_max } => match discard_max.checked_sub(bytes.len()) {
                Some(rest) => *discard_max = rest,
                None => self.begin_close(socket, CloseReason::Lingered),
            },
            Phase::Closing { .. } => {}
        }
    }

    fn cancel_if_paused(&mut self, socket: SocketId) {
        if let Some(found) = self.sockets.get(socket)
            && found.paused
            && found.receiving
            && !found.cancelling
        {
            found.cancelling = true;
            self.backend.cancel(Operation::Receive, socket);
        }
    }

    fn join_starved(&mut self, socket: SocketId) {
        if let Some(found) = self.sockets.get(socket)
            && !found.starved
        {
            found.starved = true;
            self.starved.push_back(socket);
        }
    }

    fn arm_receive(&mut self, socket: SocketId, shots: Shots) {
        let Some(found) = self.sockets.get(socket) else { return };
        debug_assert!(!found.receiving, "a second receive would reorder the stream");
        found.receiving = true;
        self.backend.receive(socket, found.fd.as_fd(), shots);
    }
}
