//! What goes over the socket: requests and answers with the sizes that NVMe/TCP gives to the same I/O.

/// A command capsule without data.
pub(crate) const REQUEST_LEN: usize = 72;
/// A data header, and a response.
pub(crate) const SHORT_LEN: usize = 24;
/// The most data of one request.
pub(crate) const DATA_LEN_MAX: usize = 1 << 20;

/// The first byte of a request.
const READ_MARK: u8 = 0x52;
const WRITE_MARK: u8 = 0x57;

/// One request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// A capsule there; a data header, so many bytes and a response back.
    Read(usize),
    /// A capsule with so many bytes there, a response back.
    Write(usize),
}

impl Request {
    /// The capsule: kind and length, and zeros up to the length of a capsule.
    pub(crate) fn capsule(self) -> [u8; REQUEST_LEN] {
        let (mark, len) = match self {
            Request::Read(len) => (READ_MARK, len),
            Request::Write(len) => (WRITE_MARK, len),
        };
        let mut capsule = [0; REQUEST_LEN];
        capsule[0] = mark;
        capsule[4..8].copy_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_le_bytes());
        capsule
    }

    /// The request of a capsule; `None` for one that no client of ours sends.
    pub(crate) fn of(capsule: &[u8; REQUEST_LEN]) -> Option<Request> {
        let [mark, _, _, _, a, b, c, d, ..] = *capsule;
        let len = usize::try_from(u32::from_le_bytes([a, b, c, d])).ok()?;
        match mark {
            _ if len == 0 || len > DATA_LEN_MAX => None,
            READ_MARK => Some(Request::Read(len)),
            WRITE_MARK => Some(Request::Write(len)),
            _ => None,
        }
    }

    /// Bytes of its answer.
    pub(crate) fn answer_len(self) -> usize {
        match self {
            Request::Read(len) => SHORT_LEN.saturating_add(len).saturating_add(SHORT_LEN),
            Request::Write(_) => SHORT_LEN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capsule_says_what_was_put_into_it() {
        for request in [Request::Read(4096), Request::Write(1), Request::Write(DATA_LEN_MAX)] {
            assert_eq!(Request::of(&request.capsule()), Some(request));
        }
        assert_eq!(Request::of(&Request::Read(DATA_LEN_MAX + 1).capsule()), None);
        assert_eq!(Request::of(&[0x52; REQUEST_LEN]), None);
        assert_eq!(Request::of(&[0; REQUEST_LEN]), None);
    }
}
