//! Features that there are not. NVM Express Base 2.1 §5.1.11 "Get Features command", §5.1.25 "Set Features command".

use anyhow::Result;
use holdfast_testkit::wire::code;

use super::Request;
use crate::admin::admin_session;
use crate::fields::{bit, refused};
use crate::{Case, Lab};

const CLAUSE: &str = "Base 2.1 §5.1.25 \"Set Features command\", figure \"Feature Identifiers\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "features.unknown.reserved", clause: CLAUSE, run: |lab| all_are_invalid(lab, &RESERVED) },
    Case {
        id: "features.unknown.memory-based",
        clause: CLAUSE,
        run: |lab| all_are_invalid(lab, &[0x08, 0x09]),
    },
    Case { id: "features.unknown.memory-buffer", clause: CLAUSE, run: |lab| all_are_invalid(lab, &[0x0d]) },
    Case {
        id: "features.unknown.command-set",
        clause: CLAUSE,
        run: |lab| all_are_invalid(lab, &[0xa0, 0xbf]),
    },
    Case {
        id: "features.unknown.vendor",
        clause: CLAUSE,
        run: |lab| all_are_invalid(lab, &[0xc0, 0xd5, 0xff]),
    },
    Case { id: "features.unknown.power", clause: CLAUSE, run: optional_power_features_follow_their_fields },
    Case { id: "features.unknown.reservations", clause: CLAUSE, run: reservation_features_follow_oncs },
];

const RESERVED: [u8; 10] = [0x00, 0x27, 0x30, 0x45, 0x5f, 0x60, 0x70, 0x77, 0x88, 0x9f];

fn all_are_invalid(lab: &mut Lab, fids: &[u8]) -> Result<()> {
    let mut session = admin_session(lab)?;
    for fid in fids {
        for select in 0..=3 {
            refused(&Request::new(*fid).select(select).get(&mut session)?, code::INVALID_FIELD)?;
        }
        refused(&Request::new(*fid).set(&mut session, &[])?, code::INVALID_FIELD)?;
        refused(&Request::new(*fid).save().set(&mut session, &[])?, code::INVALID_FIELD)?;
    }
    Ok(())
}

/// APSTA bit 0: Autonomous Power State Transition; HCTMA bit 0: Host Controlled Thermal Management.
fn optional_power_features_follow_their_fields(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let raw = session.controller().raw.clone();
    for (fid, at) in [(0x0c, 265), (0x10, 322)] {
        if !bit(crate::fields::byte(&raw, at)?, 0) {
            refused(&Request::new(fid).get(&mut session)?, code::INVALID_FIELD)?;
        }
    }
    Ok(())
}

/// ONCS bit 5: Reservation Notification Mask (82h) and Reservation Persistence (83h).
fn reservation_features_follow_oncs(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    if bit(session.controller().oncs, 5) {
        return Ok(());
    }
    for fid in [0x82, 0x83] {
        refused(&Request::new(fid).nsid(1).get(&mut session)?, code::INVALID_FIELD)?;
        refused(&Request::new(fid).nsid(1).set(&mut session, &[])?, code::INVALID_FIELD)?;
    }
    Ok(())
}
