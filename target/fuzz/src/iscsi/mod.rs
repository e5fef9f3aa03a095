//! iSCSI's full feature phase, over the real device server, block layer and a memory pool.

pub mod cdb;
pub mod connection;
pub mod framer;
mod initiator;
pub mod stateful;
mod wire;
mod world;
