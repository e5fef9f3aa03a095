//! Protection information (PI): what it looks like, how it is made, and how it is checked.
//!
//! NVM Command Set 1.1 §5.3 "End-to-end Data Protection" and SBC-4 "Protection information model"
//! define the same tuple behind each logical block: a *guard* (a CRC of the block), an *application
//! tag*, a *reference tag* that ties the block to its address, and, with NVMe's 32- and 64-bit guards,
//! a *storage tag*. This crate holds everything that both command sets share:
//!
//! | module | what it decides |
//! |---|---|
//! | [`format`](PiFormat) | which protection type, guard, block size and tag widths go together |
//! | [`tuple`](Tuple) | the bytes of a tuple, and the escape values that switch its checks off |
//! | [`guard`](Guard) | the three CRCs, over whole blocks or over pieces |
//! | [`plan`](CheckPlan) | what one command asks to be checked or inserted |
//! | [`check`](check_tuple) | one block against the plan; a [`Fault`] names block, tag, expected, actual |
//! | [`split`](split()) | an arbitrarily cut piece of an interleaved stream, cut again at block and tuple |
//! | [`stream`](Verifier) | verify, strip, generate and insert over such pieces in one pass |
//! | [`digest`](Digest) | the CRC-32C that both transports put behind headers and data |
//! | [`simd`](prefetch) | a faster CRC-16 where the machine has AVX-512, and prefetching: the room with `unsafe` |
//!
//! Nothing here allocates, does I/O or knows a transport. Input from a peer never panics.

mod check;
mod digest;
mod format;
mod guard;
mod plan;
#[allow(unsafe_code, reason = "the room for it")]
mod simd;
mod split;
mod stream;
mod tuple;

pub use check::{Checked, Fault, Tag, check_tuple};
pub use digest::{DIGEST_LEN, Digest, Digests, digest_of};
pub use format::{FormatError, GuardKind, PiFormat, PiType};
pub use guard::{BlockGuard, Guard, guard_of, guards_of};
pub use plan::{CheckPlan, InsertTags, InvalidPi, NvmePi, make_tuple, validate_nvme};
pub use simd::{prefetch, prefetch_to_write};
pub use split::{Part, Piece, WireSplit, split};
pub use stream::{Counts, Inserter, Verifier};
pub use tuple::Tuple;
