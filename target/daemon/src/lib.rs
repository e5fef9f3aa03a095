//! What other programs than `holdfast-target` need of it: pools on the reactor's files.

#![forbid(unsafe_code)]

pub mod device;
