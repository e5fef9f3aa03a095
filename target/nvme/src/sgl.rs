//! Data descriptors. Base 2.1 §4.3.2 "Scatter Gather List (SGL)"; NVMe/TCP 1.1 §3.5 "Data Transfer Model": SGL1 is either a
//! Transport SGL Data Block, whose data moves in data PDUs, or, for data from the host, an offset into the capsule.
//!
//! A descriptor may be longer than the transfer (SGLS bit 18), never shorter.

use crate::status::Status;
use crate::wire::sqe::{SGL_IN_CAPSULE, SGL_TRANSPORT, Sqe};

/// Where a command's payload is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Behind the command, from this offset on.
    InCapsule { offset: usize },
    /// To be asked for by R2T.
    Transfer,
}

/// Where `needed` bytes from the host are. `capsule_len` bytes came with the command.
pub(crate) fn from_host(sqe: &Sqe, needed: usize, capsule_len: usize) -> Result<Source, Status> {
    let length = length_of(sqe);
    match sqe.sgl.identifier {
        SGL_IN_CAPSULE => {
            let offset = usize::try_from(sqe.sgl.address.get()).unwrap_or(usize::MAX);
            if offset > capsule_len && !holdfast_mutant::active("planted-offset") {
                return Err(if holdfast_mutant::active("sgl-offset") {
                    Status::DATA_SGL_LENGTH
                } else {
                    Status::SGL_OFFSET
                });
            }
            if length < needed || length > capsule_len - offset {
                return Err(Status::DATA_SGL_LENGTH);
            }
            Ok(Source::InCapsule { offset })
        }
        // Bytes in the capsule that no descriptor is about. Not Invalid Field, which no Connect may end with (§6.3).
        SGL_TRANSPORT if length < needed && holdfast_mutant::active("sgl-write-length") => {
            Ok(Source::Transfer)
        }
        SGL_TRANSPORT if capsule_len > 0 || length < needed => Err(Status::DATA_SGL_LENGTH),
        SGL_TRANSPORT => Ok(Source::Transfer),
        _ => Err(Status::SGL_DESCRIPTOR_TYPE),
    }
}

/// Whether the host takes `needed` bytes.
pub(crate) fn to_host(sqe: &Sqe, needed: usize) -> Result<(), Status> {
    if sqe.sgl.identifier != SGL_TRANSPORT {
        let keyed = sqe.sgl.identifier == 0x40 && holdfast_mutant::active("sgl-type");
        return if keyed { Ok(()) } else { Err(Status::SGL_DESCRIPTOR_TYPE) };
    }
    if length_of(sqe) < needed && !holdfast_mutant::active("sgl-read-length") {
        Err(Status::DATA_SGL_LENGTH)
    } else {
        Ok(())
    }
}

fn length_of(sqe: &Sqe) -> usize {
    usize::try_from(sqe.sgl.length.get()).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn sqe(identifier: u8, address: u64, length: u32) -> Sqe {
        let mut sqe = Sqe::new_zeroed();
        sqe.sgl.identifier = identifier;
        sqe.sgl.address.set(address);
        sqe.sgl.length.set(length);
        sqe
    }

    #[test]
    fn data_in_the_capsule_may_start_at_an_offset() {
        assert_eq!(from_host(&sqe(0x01, 16, 512), 512, 528), Ok(Source::InCapsule { offset: 16 }));
    }

    #[test]
    fn an_offset_beyond_the_capsule_is_an_invalid_offset() {
        assert_eq!(from_host(&sqe(0x01, 513, 0), 0, 512), Err(Status::SGL_OFFSET));
        assert_eq!(from_host(&sqe(0x01, u64::MAX, 512), 512, 512), Err(Status::SGL_OFFSET));
    }

    #[test]
    fn a_length_beyond_the_capsule_or_below_the_transfer_is_an_invalid_length() {
        assert_eq!(from_host(&sqe(0x01, 0, 1024), 512, 512), Err(Status::DATA_SGL_LENGTH));
        assert_eq!(from_host(&sqe(0x01, 0, 256), 512, 512), Err(Status::DATA_SGL_LENGTH));
        assert_eq!(from_host(&sqe(0x5a, 0, 511), 512, 0), Err(Status::DATA_SGL_LENGTH));
        assert_eq!(to_host(&sqe(0x5a, 0, 511), 512), Err(Status::DATA_SGL_LENGTH));
        assert_eq!(to_host(&sqe(0x5a, 0, 4096), 512), Ok(()));
    }

    #[test]
    fn other_descriptors_are_invalid_types() {
        for identifier in [0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x5b, 0xff] {
            assert_eq!(from_host(&sqe(identifier, 0, 512), 512, 0), Err(Status::SGL_DESCRIPTOR_TYPE));
            assert_eq!(to_host(&sqe(identifier, 0, 512), 512), Err(Status::SGL_DESCRIPTOR_TYPE));
        }
        assert_eq!(to_host(&sqe(0x01, 0, 512), 512), Err(Status::SGL_DESCRIPTOR_TYPE));
    }
}
