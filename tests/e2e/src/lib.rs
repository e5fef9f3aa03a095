//! Real Linux hosts against a real appliance.
//!
//! [`Guest`] boots one of Debian's stock kernels under QEMU and runs a shell job in it; [`Appliance`] runs the built
//! `holdfast up`. A test puts the two together: it grants a subsystem to the guest's NQN over REST, lets the guest
//! work, and compares what the guest saw with what the appliance recorded.
//!
//! The kernels and the guests' file system are made by `tests/e2e/prepare`; a test whose parts are missing fails and
//! says so, it never passes by skipping. Console and appliance logs are kept under `build/e2e/logs`.

#![forbid(unsafe_code)]

mod appliance;
mod archive;
mod breakable;
mod channel;
mod device;
mod events;
mod guest;
mod hosts;
mod initiator;
pub mod interposer;
mod libiscsi;
mod medium;
mod places;
mod pool;
mod process;
mod rest;
pub mod sample;
mod scripted;
mod tgt;
mod volume;

pub use appliance::{Appliance, Plane, Setup};
pub use breakable::breakable_programs;
pub use channel::Results;
pub use device::{Loop, Mounted, demand_root};
pub use events::Events;
pub use guest::{Guest, GuestBuilder, HostIdentity};
pub use initiator::{host_iqn, protected, settle};
pub use libiscsi::{Findings, Verdict, permitted_skips};
pub use medium::{Deed, Fault, Medium};
pub use places::{Kernel, pool_folder, static_agent};
pub use pool::Backing;
pub use process::Process;
pub use rest::{Answer, Rest, eventually};
pub use scripted::host_nqn;
pub use tgt::Tgt;
pub use volume::{Share, View, counter};
