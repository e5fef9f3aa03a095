//! Scripted iSCSI initiators (`holdfast-testkit`) on an appliance.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use holdfast_testkit::iscsi::{Login, Scsi, Session, test_unit_ready};
use holdfast_testkit::pi::{PiFormat, Tags};

use crate::{Appliance, Share, eventually};

/// For a target that starts, on a busy machine.
const TAKEN_LIMIT: Duration = Duration::from_secs(30);
/// Unit attentions that may wait for one session.
const ATTENTIONS_MAX: usize = 16;
/// Sense key UNIT ATTENTION.
const UNIT_ATTENTION: u8 = 6;

/// The IQN of the scripted initiator `name`.
#[must_use]
pub fn host_iqn(name: &str) -> String {
    format!("iqn.2026-11.io.holdfast.test:{name}")
}

/// Blocks of `block_size` bytes with right guards and these tags, as they travel.
#[must_use]
pub fn protected(data: &[u8], block_size: usize, tags: Tags) -> Vec<u8> {
    PiFormat::CRC16.protect(data, block_size, tags)
}

/// Takes the unit attentions that wait for this session: `(ASC, ASCQ)` in their order.
///
/// # Errors
/// When the unit is not ready for another reason, or they do not end.
pub fn settle(session: &mut Session, lun: u16) -> Result<Vec<(u8, u8)>> {
    let mut taken = Vec::new();
    while taken.len() < ATTENTIONS_MAX {
        let done = session.run(Scsi::new(lun, test_unit_ready()))?;
        match done.sense.as_ref().filter(|sense| sense.key == UNIT_ATTENTION) {
            Some(sense) => taken.push((sense.asc, sense.ascq)),
            None => {
                done.ok()?;
                return Ok(taken);
            }
        }
    }
    bail!("unit attentions without end: {taken:02x?}")
}

impl Appliance {
    /// The address of the first iSCSI portal.
    #[must_use]
    pub fn iscsi(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.iscsi_ports().first().copied().unwrap_or(0))
    }

    /// The URL under which libiscsi finds a logical unit.
    #[must_use]
    pub fn iscsi_url(&self, share: &Share, lun: u16) -> String {
        let (address, port) = self.iscsi();
        format!("iscsi://{address}:{port}/{}/{lun}", share.iqn())
    }

    /// Registers the scripted initiator `name` and lets it use `share` as `grant` says.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn admit_initiator(&self, name: &str, share: &Share, view: &str, enforce: &str) -> Result<()> {
        self.admit_as(name, ("iqn", &host_iqn(name)), share, view, enforce)
    }

    /// A session of the scripted initiator `name`, as soon as the target takes one, and without the unit attentions of its
    /// first logical unit.
    ///
    /// # Errors
    /// The last refusal, when the time is over.
    pub fn log_in(&self, name: &str, share: &Share) -> Result<Session> {
        self.log_in_as(&Login::new(&host_iqn(name), &share.iqn()))
    }

    /// As [`Appliance::log_in`], with what the login says.
    ///
    /// # Errors
    /// As there.
    pub fn log_in_as(&self, login: &Login) -> Result<Session> {
        let open = || Ok(Some(Session::open(self.iscsi(), login)?));
        let mut session = eventually(TAKEN_LIMIT, "the target to take a session", open)?;
        settle(&mut session, 0).context("logical unit 0")?;
        Ok(session)
    }
}
