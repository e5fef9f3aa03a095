//! SCSI commands by pass-through: `struct sg_io_hdr` of `scsi/sg.h`.

use std::ffi::c_void;
use std::fs::File;
use std::io;

use rustix::ioctl::{Ioctl, IoctlOutput, Opcode, ioctl};

use super::TIMEOUT_MS;

/// `interface_id`.
const INTERFACE: i32 = b'S' as i32;
const SENSE_BYTES: usize = 64;

/// Which way the data goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    /// From the device.
    In,
    /// To the device.
    Out,
}

impl Direction {
    /// `SG_DXFER_FROM_DEV` or `SG_DXFER_TO_DEV`.
    fn code(self) -> i32 {
        match self {
            Self::In => -3,
            Self::Out => -2,
        }
    }
}

/// How a command ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ended {
    /// SCSI status; 0 is GOOD.
    pub(crate) status: u8,
    /// Sense data, as much as came.
    pub(crate) sense: Vec<u8>,
    /// Bytes of the buffer that were not used.
    pub(crate) residual: usize,
}

#[repr(C)]
struct SgIo {
    interface: i32,
    direction: i32,
    cdb_len: u8,
    sense_room: u8,
    pieces: u16,
    data_len: u32,
    data: u64,
    cdb: u64,
    sense: u64,
    timeout_ms: u32,
    flags: u32,
    pack: i32,
    user: u64,
    status: u8,
    masked_status: u8,
    message_status: u8,
    sense_len: u8,
    host_status: u16,
    driver_status: u16,
    residual: i32,
    duration: u32,
    information: u32,
}

const _: () = assert!(size_of::<SgIo>() == 88, "sg_io_hdr of 64-bit machines");

/// Sends a command. An error is the kernel's, which then has not sent it or got no answer.
pub(crate) fn send(file: &File, cdb: &[u8], direction: Direction, data: &mut [u8]) -> io::Result<Ended> {
    let invalid = |_| io::Error::from(io::ErrorKind::InvalidInput);
    let address = |pointer: *const u8| u64::try_from(pointer.expose_provenance()).map_err(invalid);
    let mut sense = [0_u8; SENSE_BYTES];
    let mut request = SgIo {
        interface: INTERFACE,
        direction: direction.code(),
        cdb_len: u8::try_from(cdb.len()).map_err(invalid)?,
        sense_room: u8::try_from(SENSE_BYTES).map_err(invalid)?,
        pieces: 0,
        data_len: u32::try_from(data.len()).map_err(invalid)?,
        data: address(data.as_mut_ptr())?,
        cdb: address(cdb.as_ptr())?,
        sense: address(sense.as_mut_ptr())?,
        timeout_ms: TIMEOUT_MS,
        flags: 0,
        pack: 0,
        user: 0,
        status: 0,
        masked_status: 0,
        message_status: 0,
        sense_len: 0,
        host_status: 0,
        driver_status: 0,
        residual: 0,
        duration: 0,
        information: 0,
    };
    // SAFETY: the kernel reads `cdb_len` bytes at `cdb`, reads or writes `data_len` bytes at `data`, and writes at most
    // `sense_room` bytes at `sense`; all three, and the request itself, are borrowed for as long as the call lasts.
    unsafe { ioctl(file, Send(&mut request)) }?;
    if request.host_status != 0 {
        return Err(io::Error::other(format!("no answer: host status {:#x}", request.host_status)));
    }
    Ok(Ended {
        status: request.status,
        sense: sense.get(..usize::from(request.sense_len)).unwrap_or(&sense).to_vec(),
        residual: usize::try_from(request.residual).unwrap_or(0),
    })
}

struct Send<'a>(&'a mut SgIo);

// SAFETY: SG_IO reads and writes a request of this shape.
unsafe impl Ioctl for Send<'_> {
    type Output = IoctlOutput;

    const IS_MUTATING: bool = true;

    fn opcode(&self) -> Opcode {
        0x2285
    }

    fn as_ptr(&mut self) -> *mut c_void {
        (&raw mut *self.0).cast()
    }

    /// # Safety
    /// None is needed: the pointer is not followed.
    unsafe fn output_from_ptr(answer: IoctlOutput, _: *mut c_void) -> rustix::io::Result<IoctlOutput> {
        Ok(answer)
    }
}
