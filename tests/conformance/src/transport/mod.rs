//! NVMe/TCP itself. NVM Express NVMe over TCP Transport 1.1 §3 "Transport Binding".

use anyhow::Result;
use holdfast_testkit::wire::R2t;
use holdfast_testkit::{Options, Session};

use crate::{Case, Lab};

mod alignment;
mod c2h_data;
mod capsule;
mod digests;
mod flow_control;
mod h2c_data;
mod icreq;
mod r2t;
mod sgl;
mod stream;
mod term;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[
    icreq::CASES,
    term::CASES,
    capsule::CASES,
    sgl::CASES,
    c2h_data::CASES,
    r2t::CASES,
    h2c_data::CASES,
    alignment::CASES,
    digests::CASES,
    stream::CASES,
    flow_control::CASES,
];

/// Offsets of header fields, which FEI names. §3.6.2.1 "PDU Common Header (CH)" ff.
mod field {
    pub(super) const PDU_TYPE: u32 = 0;
    pub(super) const FLAGS: u32 = 1;
    pub(super) const HLEN: u32 = 2;
    pub(super) const PDO: u32 = 3;
    pub(super) const PLEN: u32 = 4;
    pub(super) const PFV: u32 = 8;
    pub(super) const HPDA: u32 = 10;
    pub(super) const CCCID: u32 = 8;
    pub(super) const TTAG: u32 = 10;
    pub(super) const DATAO: u32 = 12;
    pub(super) const DATAL: u32 = 16;
}

/// A session on the standard volume whose write of `data` at `slba` has been answered by an R2T that nobody answers yet.
///
/// # Errors
/// When it does not come to that.
pub(crate) fn held_write(lab: &mut Lab, slba: u64, data: Vec<u8>) -> Result<(Session, u16, R2t)> {
    r2t::held(lab, Options::default(), slba, data)
}
