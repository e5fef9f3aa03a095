//! Fabrics commands. Base 2.1 §6 "Fabrics Command Set".

pub(crate) mod connect;
pub(crate) mod properties;
