//! Hosts as the API shows them, over whichever transport they came.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{Appliance, Share, counter, eventually};

/// The contract: visible within 2 seconds. The rest is for a busy machine.
const SEEN_LIMIT: Duration = Duration::from_secs(30);

impl Appliance {
    /// Registers a host with one identity, the value of `nqn` or `iqn`, and lets it use `share` as the grant says.
    ///
    /// # Errors
    /// When the API refuses.
    pub(crate) fn admit_as(
        &self,
        name: &str,
        (kind, identity): (&str, &str),
        share: &Share,
        view: &str,
        enforce: &str,
    ) -> Result<()> {
        self.rest().post("/hosts", &json!({"name": name, kind: identity}))?;
        let grant = json!({"view": view, "enforce": enforce});
        self.rest().put(&format!("/subsystems/{}/hosts/{name}", share.name), &grant)?;
        Ok(())
    }

    /// The names of all hosts on record.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn host_names(&self) -> Result<Vec<String>> {
        let hosts = self.rest().items("/hosts")?;
        let names =
            hosts.iter().filter_map(|host| host.get("name").and_then(Value::as_str).map(str::to_owned));
        Ok(names.collect())
    }

    /// The only session of host `name`, as soon as the API shows one, which has to be an unproven one over `transport` with
    /// `share`.
    ///
    /// # Errors
    /// What is other than that, when the time is over.
    pub fn shown_session(&self, name: &str, transport: &str, share: &Share) -> Result<Value> {
        eventually(SEEN_LIMIT, "its session", || {
            let host = self.rest().get(&format!("/hosts/{name}"))?;
            let session = host.pointer("/sessions/0").context("a session")?.clone();
            ensure!(session.get("transport") == Some(&json!(transport)), "{session}");
            ensure!(session.get("subsystem") == Some(&json!(share.name)), "{session}");
            ensure!(session.get("authenticated") == Some(&json!(false)), "{session}");
            Ok(Some(session))
        })
    }

    /// Waits until exactly `blocks` tuples were inserted for what host `name` wrote to `share`.
    ///
    /// # Errors
    /// When that does not come.
    pub fn wait_inserted(&self, name: &str, share: &Share, blocks: u64) -> Result<()> {
        eventually(SEEN_LIMIT, &format!("{blocks} blocks of {name}"), || {
            let seen = counter(&self.counters(name, share)?, "write", "blocks_inserted")?;
            Ok((seen == blocks).then_some(()))
        })
    }
}
