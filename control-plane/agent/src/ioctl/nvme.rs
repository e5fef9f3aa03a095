//! NVMe commands by pass-through: `struct nvme_passthru_cmd` of `linux/nvme_ioctl.h`.

use std::ffi::c_void;
use std::fs::File;
use std::io;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

use super::TIMEOUT_MS;

/// Which queue a command goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Queue {
    /// The Admin Queue.
    Admin,
    /// An I/O queue.
    Io,
}

/// A command without its data.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Command {
    /// Opcode.
    pub(crate) opcode: u8,
    /// Namespace.
    pub(crate) nsid: u32,
    /// CDW10 to CDW15.
    pub(crate) cdw10_to_15: [u32; 6],
}

#[repr(C)]
struct PassThrough {
    opcode: u8,
    flags: u8,
    reserved: u16,
    nsid: u32,
    cdw2: u32,
    cdw3: u32,
    metadata: u64,
    data: u64,
    metadata_len: u32,
    data_len: u32,
    cdw10_to_15: [u32; 6],
    timeout_ms: u32,
    result: u32,
}

const _: () = assert!(size_of::<PassThrough>() == 72, "the size is part of the request's number");

/// The namespace identifier of an open namespace.
pub(crate) fn nsid(file: &File) -> io::Result<u32> {
    // SAFETY: NVME_IOCTL_ID takes no argument and changes nothing.
    let nsid = unsafe { ioctl(file, AskNsid) }?;
    u32::try_from(nsid).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

/// Sends a command and answers its status: type and code as in the completion, without the bits above; 0 is success. An error
/// is the kernel's, which then has not sent it or got no answer.
pub(crate) fn send(file: &File, queue: Queue, command: &Command, data: &mut [u8]) -> io::Result<u16> {
    let data_len = u32::try_from(data.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let request = PassThrough {
        opcode: command.opcode,
        flags: 0,
        reserved: 0,
        nsid: command.nsid,
        cdw2: 0,
        cdw3: 0,
        metadata: 0,
        data: u64::try_from(data.as_mut_ptr().expose_provenance())
            .map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?,
        metadata_len: 0,
        data_len,
        cdw10_to_15: command.cdw10_to_15,
        timeout_ms: TIMEOUT_MS,
        result: 0,
    };
    // SAFETY: the kernel reads or writes `data_len` bytes at `data`, which is borrowed for as long as the call lasts, and
    // the request itself, which the call owns.
    let status = unsafe { ioctl(file, Send { queue, request }) }?;
    u16::try_from(status & 0x7ff).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))
}

struct AskNsid;

// SAFETY: the request has no argument; its answer is the call's own.
unsafe impl Ioctl for AskNsid {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = false;

    fn opcode(&self) -> Opcode {
        0x4e40
    }

    fn as_ptr(&mut self) -> *mut c_void {
        std::ptr::null_mut()
    }

    /// # Safety
    /// None is needed: the pointer is not followed.
    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> rustix::io::Result<IoctlOutput> {
        Ok(answer)
    }
}

struct Send {
    queue: Queue,
    request: PassThrough,
}

// SAFETY: both numbers name a request of 72 bytes that is read and written, which is what `request` is.
unsafe impl Ioctl for Send {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        match self.queue {
            Queue::Admin => 0xc048_4e41,
            Queue::Io => 0xc048_4e43,
        }
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut self.request).cast()
    }

    /// # Safety
    /// None is needed: the pointer is not followed.
    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> rustix::io::Result<IoctlOutput> {
        Ok(answer)
    }
}
