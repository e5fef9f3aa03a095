//! Scripted hosts (`holdfast-testkit`) on an appliance.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_testkit::{ConnectOptions, Connection, Io, Options, Session};

use crate::{Appliance, Share, eventually};

/// For a target that starts, on a busy machine.
const TAKEN_LIMIT: Duration = Duration::from_secs(30);

/// The NQN of the scripted host `name`.
#[must_use]
pub fn host_nqn(name: &str) -> String {
    format!("nqn.2026-11.io.holdfast.test:{name}")
}

impl Appliance {
    /// The address of the NVMe/TCP front end.
    #[must_use]
    pub fn nvme(&self) -> (&'static str, u16) {
        ("127.0.0.1", self.nvme_port())
    }

    /// Registers the scripted host `name` and lets it use `share` as `grant` says.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn admit_scripted(&self, name: &str, share: &Share, view: &str, enforce: &str) -> Result<()> {
        self.admit_as(name, ("nqn", &host_nqn(name)), share, view, enforce)
    }

    /// A session of the scripted host `name`.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub fn session(&self, name: &str, share: &Share, options: Options) -> Result<Session> {
        Ok(Session::open(self.nvme(), &host_nqn(name), &share.nqn, options)?)
    }

    /// A session of the host `nqn`, as soon as the target takes one: it may be starting, or its pools may be.
    ///
    /// # Errors
    /// The last refusal, when the time is over.
    pub fn connect(&self, nqn: &str, share: &Share) -> Result<Session> {
        let open = || Ok(Some(Session::open(self.nvme(), nqn, &share.nqn, Options::default())?));
        eventually(TAKEN_LIMIT, "the target to take a session", open)
    }

    /// A TCP connection on which ICReq and ICResp have been exchanged.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub fn initialized(&self, options: &ConnectOptions) -> Result<Connection> {
        Ok(Connection::open(self.nvme(), options)?)
    }

    /// Demands that host `name` can write and read back a few blocks (of 4096 bytes, plain view) at `lba`.
    ///
    /// # Errors
    /// When it cannot.
    pub fn works_for(&self, name: &str, share: &Share, lba: u64) -> Result<()> {
        let mut session = self.session(name, share, Options::default())?;
        let fill = lba.to_le_bytes()[0] | 1;
        let data = vec![fill; 8 * 4096];
        session.io(1).write(1, &Io::at(lba, 8), &data)?.ok()?;
        let back = session.io(1).read(1, &Io::at(lba, 8), data.len())?.ok()?;
        ensure!(back.data == data, "{name} read back something else at block {lba}");
        Ok(session.close()?)
    }
}
