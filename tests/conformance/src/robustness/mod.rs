//! Hosts that break rules on purpose or by accident, and the hosts beside them.
//!
//! What the specifications say of a rule's breach is checked in the other chapters. Here it is enough that every peer gets a
//! defined end, that memory and descriptors stay bounded, and that nobody else notices; the last is demanded after each case.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_testkit::wire::Pdu;
use holdfast_testkit::{Connection, Error};

use crate::{Case, Lab};

mod bytes;
mod crashes;
mod floods;
mod greed;
mod load;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[bytes::CASES, crashes::CASES, floods::CASES, greed::CASES, load::CASES];

const PROMISE: &str = "Any bytes get a defined answer, and nobody else notices";
/// What one bad host may make the target hold, beyond what it held before.
const MEMORY_MAX: u64 = 96 << 20;
/// In this time the target has noticed that connections are gone.
const NOTICED_WITHIN: Duration = Duration::from_secs(20);

/// Demands that the target answers or ends the connection; a PDU that is not complete yet may also be waited for.
fn defined(connection: &mut Connection, complete: bool) -> Result<()> {
    connection.set_limit(if complete { NOTICED_WITHIN } else { Duration::from_millis(5) })?;
    match connection.recv() {
        Ok(Pdu::C2hTermReq(_)) => {
            connection.set_limit(NOTICED_WITHIN)?;
            Ok(connection.expect_close()?)
        }
        Ok(_) | Err(Error::Closed { .. }) => Ok(()),
        Err(Error::Timeout { .. }) if !complete => Ok(()),
        Err(other) => Err(other.into()),
    }
}

/// The target's memory besides its pools, and its descriptors; nothing where the target is not the Lab's own.
fn footprint(lab: &Lab) -> Result<Option<(u64, usize)>> {
    Ok(lab.process()?.map(|process| (process.private_bytes, process.descriptors)))
}

/// Demands that the target holds little more memory than before.
fn bounded(lab: &Lab, before: Option<(u64, usize)>) -> Result<()> {
    if let (Some((before, _)), Some((now, _))) = (before, footprint(lab)?) {
        ensure!(now.saturating_sub(before) < MEMORY_MAX, "{before} bytes of memory, then {now}");
    }
    Ok(())
}

/// Demands that descriptors are given back.
fn given_back(lab: &Lab, before: Option<(u64, usize)>) -> Result<()> {
    let Some((_, before)) = before else { return Ok(()) };
    let looks = || Ok(footprint(lab)?.filter(|(_, now)| *now <= before + 2));
    holdfast_e2e::eventually(NOTICED_WITHIN, "the end of connections that are gone", looks)?;
    Ok(())
}
