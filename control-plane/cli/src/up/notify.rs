//! The service manager's side of sd_notify(3): a datagram socket on which one child reports and hands over
//! descriptors.
//!
//! The kernel stamps every message with the sender's process id (unix(7), SO_PASSCRED), so that only the
//! child itself is listened to. Messages keep their order: a `BARRIER=1` is answered (its descriptor is
//! closed) after everything that was sent before it has been taken in, so a child that waits for it knows
//! that its descriptors are kept.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags};
use rustix::process::Pid;

/// Longest message. sd_notify(3) senders keep to the kernel's PIPE_BUF.
const MESSAGE_MAX_BYTES: usize = 4096;

/// Most descriptors in one message. One is all that any message here needs; the kernel closes what does not
/// fit.
const DESCRIPTORS_MAX: usize = 4;

/// A bound socket that one child notifies.
#[derive(Debug)]
pub(crate) struct NotifySocket {
    socket: UnixDatagram,
}

/// A message as it came.
#[derive(Debug)]
pub(crate) struct Datagram {
    /// The process that sent it, as the kernel says.
    pub(crate) sender: Option<Pid>,
    /// The text.
    pub(crate) text: Vec<u8>,
    /// The descriptors that came with it.
    pub(crate) descriptors: Vec<OwnedFd>,
    /// Whether the text or the descriptors exceeded their limits and were cut.
    pub(crate) cut: bool,
}

impl NotifySocket {
    /// Binds the socket at `path`; a leftover of an earlier run is removed first (the caller holds the
    /// directory's lock).
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(path)?;
        rustix::net::sockopt::set_socket_passcred(&socket, true)?;
        Ok(Self { socket })
    }

    /// The next message, or `None` if none waits.
    ///
    /// # Errors
    /// What the kernel says.
    pub(crate) fn receive(&self) -> io::Result<Option<Datagram>> {
        let mut text = vec![0; MESSAGE_MAX_BYTES];
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX), ScmCredentials(1))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
        let received = loop {
            match rustix::net::recvmsg(&self.socket, &mut [IoSliceMut::new(&mut text)], &mut control, flags) {
                Ok(received) => break received,
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        let mut sender = None;
        let mut descriptors = Vec::new();
        for message in control.drain() {
            match message {
                RecvAncillaryMessage::ScmRights(fds) => descriptors.extend(fds),
                RecvAncillaryMessage::ScmCredentials(credentials) => sender = Some(credentials.pid),
                _ => {}
            }
        }
        text.truncate(received.bytes);
        let cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
        Ok(Some(Datagram { sender, text, descriptors, cut }))
    }
}

impl AsFd for NotifySocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a message says, as far as `up` acts on it. Unknown assignments are passed over, as the protocol asks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Notification<'a> {
    /// READY=1: start-up is finished.
    pub(crate) ready: bool,
    /// STATUS=…: one line on what the child is doing.
    pub(crate) status: Option<&'a str>,
    /// FDSTORE=1: keep the descriptor that comes with this.
    pub(crate) store: bool,
    /// FDSTOREREMOVE=1: forget the descriptor of this name.
    pub(crate) remove: bool,
    /// FDNAME=…
    pub(crate) name: Option<&'a str>,
}

/// The message is no text.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message is not UTF-8 text")]
pub(crate) struct NotText;

impl<'a> Notification<'a> {
    /// Reads newline-separated assignments; of repeated ones the last counts.
    ///
    /// # Errors
    /// Bytes that are not UTF-8.
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, NotText> {
        let text = std::str::from_utf8(bytes).map_err(|_| NotText)?;
        let mut notification = Self::default();
        for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
            match key {
                "READY" => notification.ready = value == "1",
                "STATUS" => notification.status = Some(value),
                "FDSTORE" => notification.store = value == "1",
                "FDSTOREREMOVE" => notification.remove = value == "1",
                "FDNAME" => notification.name = Some(value),
                _ => {}
            }
        }
        Ok(notification)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
    use std::io::IoSlice;

    #[test]
    fn assignments_are_read_and_unknown_ones_passed_over() {
        let text =
            b"STATUS=half way\nMAINPID=7\nREADY=1\nno assignment\nFDSTORE=1\nFDNAME=pool-0123456789abcdef\n";
        let expected = Notification {
            ready: true,
            status: Some("half way"),
            store: true,
            remove: false,
            name: Some("pool-0123456789abcdef"),
        };
        assert_eq!(Notification::parse(text), Ok(expected));
        assert_eq!(Notification::parse(b""), Ok(Notification::default()));
        assert_eq!(Notification::parse(b"READY=0\nFDSTOREREMOVE=yes"), Ok(Notification::default()));
        assert_eq!(Notification::parse(&[b'R', 0xff]), Err(NotText));
    }

    #[test]
    fn message_carries_its_sender_and_its_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify.sock");
        let socket = NotifySocket::bind(&path).unwrap();
        assert!(socket.receive().unwrap().is_none());

        let (pipe, _) = std::io::pipe().unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();
        send(&sender, b"FDSTORE=1", &[pipe.as_fd()]);
        send(&sender, b"READY=1", &[]);

        let first = socket.receive().unwrap().unwrap();
        assert_eq!(first.sender, Some(rustix::process::getpid()));
        assert_eq!(
            (first.text.as_slice(), first.descriptors.len(), first.cut),
            (&b"FDSTORE=1"[..], 1, false)
        );
        let second = socket.receive().unwrap().unwrap();
        assert_eq!((second.text.as_slice(), second.descriptors.len()), (&b"READY=1"[..], 0));
        assert!(socket.receive().unwrap().is_none());
    }

    #[test]
    fn what_exceeds_the_limits_is_cut_and_said_so() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify.sock");
        let socket = NotifySocket::bind(&path).unwrap();
        let sender = UnixDatagram::unbound().unwrap();
        sender.connect(&path).unwrap();

        send(&sender, &[b'x'; MESSAGE_MAX_BYTES + 1], &[]);
        let long = socket.receive().unwrap().unwrap();
        assert!(long.cut && long.text.len() == MESSAGE_MAX_BYTES);

        let (pipe, _) = std::io::pipe().unwrap();
        send(&sender, b"FDSTORE=1", &[pipe.as_fd(); 16]);
        let many = socket.receive().unwrap().unwrap();
        assert!(many.cut && many.descriptors.len() < 16);
    }

    #[test]
    fn leftover_socket_is_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify.sock");
        drop(NotifySocket::bind(&path).unwrap());
        assert!(path.exists());
        NotifySocket::bind(&path).unwrap();
    }

    fn send(socket: &UnixDatagram, text: &[u8], descriptors: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
        }
        rustix::net::sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::empty()).unwrap();
    }
}
