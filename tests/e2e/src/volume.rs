//! Volumes shared with guests, and what the appliance counted about them.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::{Appliance, HostIdentity};

/// How a host sees a volume: the `view` of its grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// Formatted without metadata; the target inserts and strips protection information.
    Plain,
    /// Formatted with interleaved protection information.
    Pi,
}

impl View {
    fn word(self) -> &'static str {
        match self {
            View::Plain => "plain",
            View::Pi => "pi",
        }
    }
}

/// A volume that is namespace 1 of a subsystem of its own.
#[derive(Debug, Clone)]
pub struct Share {
    /// Name of the volume, and of its subsystem.
    pub name: String,
    /// The subsystem's NQN.
    pub nqn: String,
    /// The volume's UUID, by which a guest finds its disk.
    pub uuid: String,
}

impl Share {
    /// The subsystem's IQN, which no test chooses itself.
    #[must_use]
    pub fn iqn(&self) -> String {
        format!("iqn.2026-11.io.holdfast:{}", self.name)
    }
}

impl Appliance {
    /// A new volume of `size_mib` MiB with protection type 1 and 16-bit guards, in a subsystem of the same name.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn share(&self, name: &str, size_mib: u64, block_size: u64) -> Result<Share> {
        self.share_of("ram", name, size_mib, block_size)
    }

    /// As [`Appliance::share`], in another pool.
    ///
    /// # Errors
    /// As there.
    pub fn share_of(&self, pool: &str, name: &str, size_mib: u64, block_size: u64) -> Result<Share> {
        let size_bytes = size_mib << 20;
        let volume = self.rest().post(
            "/volumes",
            &json!({"name": name, "pool": pool, "size_bytes": size_bytes, "block_size": block_size,
                    "pi": {"type": 1, "guard": "crc16"}}),
        )?;
        let subsystem = self.rest().post("/subsystems", &json!({"name": name}))?;
        self.rest().post(&format!("/subsystems/{name}/namespaces"), &json!({"volume": name, "nsid": 1}))?;
        Ok(Share { name: name.to_owned(), nqn: text(&subsystem, "nqn")?, uuid: text(&volume, "uuid")? })
    }

    /// Registers a host under `name` and lets it use `share` with the view `view`.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn admit(&self, name: &str, host: &HostIdentity, share: &Share, view: View) -> Result<()> {
        self.admit_as(name, ("nqn", &host.nqn), share, view.word(), "any")
    }

    /// What was counted for host `host` on `share`: the element of `volumes` in its counters.
    ///
    /// # Errors
    /// When there are no counters yet.
    pub fn counters(&self, host: &str, share: &Share) -> Result<Value> {
        let counters = self.rest().get(&format!("/hosts/{host}/counters"))?;
        let volumes = counters.get("volumes").and_then(Value::as_array).cloned().unwrap_or_default();
        let mut ours = volumes.into_iter().filter(|entry| entry.get("volume") == Some(&json!(share.name)));
        ours.next().with_context(|| format!("no counters of {} on {}: {counters}", host, share.name))
    }
}

/// The number at `/SECTION/NAME` of a volume's counters, such as `write` and `blocks_inserted`.
///
/// # Errors
/// When there is no such number.
pub fn counter(counters: &Value, section: &str, name: &str) -> Result<u64> {
    let value = counters.pointer(&format!("/{section}/{name}")).and_then(Value::as_u64);
    value.with_context(|| format!("no number {section}.{name} in {counters}"))
}

fn text(object: &Value, field: &str) -> Result<String> {
    let value = object.get(field).and_then(Value::as_str);
    Ok(value.with_context(|| format!("no `{field}` in {object}"))?.to_owned())
}
