//! What the compiler does not find by itself: a CRC-16/T10-DIF over 512-bit vectors, and prefetching.
//!
//! The one room of this crate with `unsafe` in it. Its doors are safe: whether the machine has the
//! instructions is found out at run time and proven by a value ([`Crc16`]), everything else is a bound
//! that is checked here. Results are those of the portable code, which stays in use on other machines.

#[cfg(target_arch = "x86_64")]
mod crc16;
mod prefetch;
#[cfg(test)]
mod tests;

#[cfg(target_arch = "x86_64")]
pub(crate) use crc16::Crc16;
#[cfg(not(target_arch = "x86_64"))]
pub(crate) use nowhere::Crc16;
pub use prefetch::{prefetch, prefetch_to_write};

#[cfg(not(target_arch = "x86_64"))]
mod nowhere {
    //! The kernel of a machine that has none.

    use std::convert::Infallible;

    /// Never there.
    #[derive(Debug, Clone, Copy)]
    pub(crate) struct Crc16(Infallible);

    impl Crc16 {
        pub(crate) fn detect() -> Option<Crc16> {
            None
        }

        pub(crate) fn update(self, _register: u16, _data: &[u8]) -> u16 {
            match self.0 {}
        }

        pub(crate) fn copy(self, _register: u16, _data: &[u8], _to: &mut [u8]) -> u16 {
            match self.0 {}
        }

        pub(crate) fn four(self, _messages: [&[u8; 512]; 4]) -> [u16; 4] {
            match self.0 {}
        }
    }
}
