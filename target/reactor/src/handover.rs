//! Descriptors that outlive a process: listening sockets and pool memory are kept by the parent and inherited again after
//! a crash. The protocols are systemd's, so that systemd itself can be the parent: `sd_listen_fds(3)` "Check for file
//! descriptors passed by the system manager", and `sd_notify(3)` "Notify service manager about start-up completion and
//! other service status changes", there `FDSTORE=1`.

use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::io::FdFlags;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sendmsg_addr, socket_with,
};

/// The first inherited descriptor (`SD_LISTEN_FDS_START`).
const FIRST_FD: RawFd = 3;

/// Descriptors inherited at most: portals and memory pools of one appliance are far fewer.
const INHERITED_MAX: RawFd = 1024;

/// Longest name of a stored descriptor (systemd's own limit).
const NAME_BYTES_MAX: usize = 255;

/// The name of a descriptor that its sender did not name (systemd's word).
const UNNAMED: &str = "unknown";

/// Inherited descriptors are owned by the first who asks.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// Takes the inherited descriptors, with their names, in order: those from 3 up that `LISTEN_FDS` counts and
/// `LISTEN_FDNAMES` names (colon-separated). Empty if the variables are absent or, by `LISTEN_PID`, meant for another
/// process; an absent `LISTEN_PID` means us. The descriptors are closed on exec from now on. To be called before the
/// process opens descriptors of its own: what the variables count is taken for inherited.
///
/// The variables are left in the environment (to remove them is unsafe once threads run), so a child that is started with
/// this environment must have them set anew or removed.
///
/// # Errors
///
/// `AlreadyExists` when called a second time, `InvalidData` when the variables contradict each other or name a
/// descriptor that is not open; then none is taken.
pub fn inherited() -> io::Result<Vec<(String, OwnedFd)>> {
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "inherited descriptors were taken before"));
    }
    let read = |name: &str| std::env::var_os(name);
    let names = match announced(read("LISTEN_FDS"), read("LISTEN_FDNAMES"), read("LISTEN_PID"))? {
        Some(names) => names,
        None => return Ok(Vec::new()),
    };
    let numbers = || FIRST_FD..INHERITED_MAX.saturating_add(FIRST_FD);
    for (_, fd) in names.iter().zip(numbers()) {
        // SAFETY: the descriptor is borrowed for this call only, and if it is not open the call says so.
        let borrowed = unsafe { BorrowedFd::borrow_raw(fd) };
        rustix::io::fcntl_setfd(borrowed, FdFlags::CLOEXEC)
            .map_err(|_| invalid("LISTEN_FDS counts a descriptor that is not open"))?;
    }
    // SAFETY: each is open (just tried), was passed on to this process for it to own, and is taken once (see `TAKEN`).
    let own = |(name, fd)| (name, unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(names.into_iter().zip(numbers()).map(own).collect())
}

/// Tells the holder something, as newline-separated assignments such as `READY=1`. Whether there is a holder
/// (`NOTIFY_SOCKET` is set): without one, nothing happens.
///
/// # Errors
///
/// The kernel's, when the holder's socket does not take the datagram.
pub fn notify(state: &str) -> io::Result<bool> {
    send(state, None)
}

/// Gives the holder a duplicate of `fd` to keep under `name`: a successor finds it among its inherited descriptors.
/// Whether there is a holder.
///
/// # Errors
///
/// `InvalidInput` for a name that is empty, longer than 255 bytes, not printable ASCII or holds a colon; the kernel's,
/// when the holder's socket does not take the datagram.
pub fn store_fd(name: &str, fd: BorrowedFd<'_>) -> io::Result<bool> {
    check_name(name)?;
    send(&format!("FDSTORE=1\nFDNAME={name}"), Some(fd))
}

/// Tells the holder to close all that it keeps under `name`. Whether there is a holder.
///
/// # Errors
///
/// As [`store_fd`].
pub fn remove_fd(name: &str) -> io::Result<bool> {
    check_name(name)?;
    send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), None)
}

/// The names of the descriptors that the environment announces; `None` if it announces none to this process.
fn announced(
    count: Option<impl AsRef<OsStr>>,
    names: Option<impl AsRef<OsStr>>,
    pid: Option<impl AsRef<OsStr>>,
) -> io::Result<Option<Vec<String>>> {
    let Some(count) = count else { return Ok(None) };
    if let Some(pid) = pid {
        let pid: u32 = number(pid.as_ref()).ok_or_else(|| invalid("LISTEN_PID is not a number"))?;
        if pid != std::process::id() {
            return Ok(None);
        }
    }
    let count: RawFd = number(count.as_ref()).ok_or_else(|| invalid("LISTEN_FDS is not a number"))?;
    if !(0..=INHERITED_MAX).contains(&count) {
        return Err(invalid("LISTEN_FDS is out of range"));
    }
    let count = usize::try_from(count).unwrap_or(0);
    let Some(names) = names else {
        return Ok(Some(vec![UNNAMED.to_owned(); count]));
    };
    let names = names.as_ref().to_str().ok_or_else(|| invalid("LISTEN_FDNAMES is not text"))?;
    let names: Vec<String> = if count == 0 && names.is_empty() {
        Vec::new()
    } else {
        names.split(':').map(str::to_owned).collect()
    };
    if names.len() != count {
        return Err(invalid("LISTEN_FDS and LISTEN_FDNAMES differ in number"));
    }
    Ok(Some(names))
}

fn number<T: std::str::FromStr>(text: &OsStr) -> Option<T> {
    text.to_str()?.parse().ok()
}

fn check_name(name: &str) -> io::Result<()> {
    let printable = name.bytes().all(|byte| (byte.is_ascii_graphic() || byte == b' ') && byte != b':');
    if name.is_empty() || name.len() > NAME_BYTES_MAX || !printable {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a name for a stored descriptor"));
    }
    Ok(())
}

/// Sends one datagram to the holder, with a descriptor or without.
fn send(state: &str, fd: Option<BorrowedFd<'_>>) -> io::Result<bool> {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return Ok(false) };
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddrUnix::new_abstract_name(name)?,
        [b'/', ..] => SocketAddrUnix::new(path.as_bytes())?,
        _ => {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "NOTIFY_SOCKET is no Unix socket's address",
            ));
        }
    };
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = fd.map(|fd| [fd]);
    if let Some(fds) = &fds {
        let fits = control.push(SendAncillaryMessage::ScmRights(fds));
        debug_assert!(fits, "the space is for one descriptor");
    }
    let bytes = [io::IoSlice::new(state.as_bytes())];
    sendmsg_addr(socket.as_fd(), &address, &bytes, &mut control, SendFlags::NOSIGNAL)?;
    Ok(true)
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(count: &str, names: Option<&str>, pid: Option<&str>) -> io::Result<Option<Vec<String>>> {
        announced(Some(count), names, pid)
    }

    #[test]
    fn names_come_in_the_order_of_the_descriptors() {
        let own = std::process::id().to_string();
        assert_eq!(announced(None::<&str>, Some("a"), Some(&own)).unwrap(), None);
        assert_eq!(names("2", Some("nvme:pool-ram"), None).unwrap().unwrap(), ["nvme", "pool-ram"]);
        assert_eq!(names("1", Some("x"), Some(&own)).unwrap().unwrap(), ["x"]);
        assert_eq!(names("2", None, None).unwrap().unwrap(), ["unknown", "unknown"]);
        assert_eq!(names("0", Some(""), None).unwrap().unwrap(), [""; 0]);
    }

    #[test]
    fn descriptors_for_another_process_are_left_alone() {
        assert_eq!(names("2", Some("a:b"), Some("1")).unwrap(), None);
    }

    #[test]
    fn contradictions_are_refused() {
        for (count, list, pid) in [
            ("2", Some("a"), None),
            ("1", Some("a:b"), None),
            ("-1", None, None),
            ("1025", None, None),
            ("x", None, None),
            ("1", None, Some("me")),
        ] {
            assert_eq!(
                names(count, list, pid).unwrap_err().kind(),
                io::ErrorKind::InvalidData,
                "{count} {list:?}"
            );
        }
    }

    #[test]
    fn names_that_the_protocol_cannot_carry_are_refused() {
        let long = "x".repeat(256);
        for name in ["", "a:b", "a\nREADY=1", "ü", long.as_str()] {
            assert_eq!(check_name(name).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
        check_name("pool-ram.1 x").unwrap();
    }
}
