//! NVMe/TCP itself. NVM Express NVMe over TCP Transport 1.1 §3 "Transport Binding".

use crate::Case;

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
