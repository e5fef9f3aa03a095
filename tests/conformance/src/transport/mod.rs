//! NVMe/TCP itself. NVM Express NVMe over TCP Transport 1.1 §3 "NVMe/TCP Transport".

use crate::Case;

mod icreq;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[icreq::CASES];
