//! The first exchange on a connection. NVMe/TCP 1.1 §3.6.2.2 "Initialize Connection Request PDU (ICReq)", §3.6.2.3
//! "Initialize Connection Response PDU (ICResp)".

use anyhow::{Context as _, Result};
use holdfast_testkit::wire::{Digests, Frame, IcReq, Pdu, fes};

use crate::{Case, Lab, check};

/// The cases.
pub(crate) const CASES: &[Case] = &[Case {
    id: "transport.icreq.pfv",
    clause: "NVMe/TCP 1.1 §3.6.2.2 \"Initialize Connection Request PDU (ICReq)\"",
    run: other_versions_are_unsupported,
}];

const PFV: u32 = 8;

fn other_versions_are_unsupported(lab: &mut Lab) -> Result<()> {
    for pfv in [1, 2, 0x00ff, 0x0100, 0xffff] {
        let mut connection = lab.raw()?;
        let frame = frame(&IcReq { pfv, ..IcReq::default() });
        connection.send_frame(&frame)?;
        check::term_req(&mut connection, &frame, fes::UNSUPPORTED_PARAMETER, Some(PFV))
            .with_context(|| format!("PFV {pfv:#06x}"))?;
    }
    Ok(())
}

fn frame(request: &IcReq) -> Frame {
    Pdu::IcReq(*request).encode(Digests::default(), 4)
}
