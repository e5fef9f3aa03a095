//! Pools in files and on block devices: data, tuple and provenance of a block reach the medium as one, whatever
//! happens in between.
//!
//! | module | what it decides |
//! |---|---|
//! | [`check`] | whether all of a pool is right, offline |
//! | [`format`] | the bytes on the medium, as FORMAT.md describes them |
//! | [`io`] | what is asked of a device, and what a device is to threads |
//! | [`space`] | which slots are free, and which to use next |

pub mod check;
pub mod format;
pub mod io;
pub mod space;
