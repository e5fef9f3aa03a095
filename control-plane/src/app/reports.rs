//! What agents report of their hosts: the kernel, the policy that it keeps, the transports over which it can send
//! protection information, and the evidence. A report decides the view of grants that leave it open.

use holdfast_contract::HostId;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::App;
use super::events::{Event, EventKind};
use super::hosts::find;
use super::tokens;
use super::words::{Policy, Transport};
use crate::clock::{now_ms, rfc3339};
use crate::db::reports::ReportRow;
use crate::db::{Conn, hosts, reports, stored};
use crate::error::{Error, Result};

/// Most devices of a report: far more than one host has paths.
pub(crate) const DEVICES_MAX: usize = 1024;
/// Longest kernel release, in bytes; Linux has room for 64.
pub(crate) const KERNEL_BYTES_MAX: usize = 256;

/// A report as an agent sends it.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewReport {
    /// Release of the running kernel; null or left out when it could not be read.
    #[schema(required = false, max_length = 256)]
    pub kernel: Option<String>,
    /// The policy of the host as a whole.
    pub policy: Policy,
    /// Transports over which the kernel puts tuples on the wire.
    #[schema(required = false)]
    pub pi_transports: Vec<Transport>,
    /// What was read of each path device; open objects. Of `holes[].hole` alarms make use.
    #[schema(required = false, max_items = 1024)]
    pub devices: Vec<Map<String, Value>>,
    /// What the policy was concluded from; an open object.
    #[schema(required = false)]
    pub evidence: Map<String, Value>,
}

/// A report as it is kept.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Report {
    /// When it came.
    #[schema(format = DateTime)]
    pub time: String,
    /// Release of the running kernel.
    pub kernel: Option<String>,
    /// The policy of the host as a whole.
    pub policy: Policy,
    /// Transports over which the kernel puts tuples on the wire.
    pub pi_transports: Vec<Transport>,
    /// What was read of each path device.
    pub devices: Vec<Map<String, Value>>,
    /// What the policy was concluded from.
    pub evidence: Map<String, Value>,
}

/// The form in the database: words as texts, so that a word of a later version is an error that names it.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    kernel: Option<String>,
    policy: String,
    pi_transports: Vec<String>,
    devices: Vec<Map<String, Value>>,
    evidence: Map<String, Value>,
}

impl Report {
    /// Reads a report back.
    pub(crate) fn from_row(row: &ReportRow) -> Result<Self> {
        let kept: Kept = serde_json::from_str(&row.body)
            .map_err(|error| Error::Stored(format!("unreadable report: {error}")))?;
        Ok(Self {
            time: rfc3339(row.time_ms),
            kernel: kept.kernel,
            policy: stored(&kept.policy)?,
            pi_transports: kept.pi_transports.iter().map(|word| stored(word)).collect::<Result<_>>()?,
            devices: kept.devices,
            evidence: kept.evidence,
        })
    }

    /// Names of the holes that the agent found, each once, in its order.
    pub(crate) fn holes(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for device in &self.devices {
            let holes = device.get("holes").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
            for name in holes.iter().filter_map(|hole| hole.get("hole").and_then(Value::as_str)) {
                if !names.contains(&name) {
                    names.push(name);
                }
            }
        }
        names
    }
}

impl App {
    /// Keeps a report that came with `token`; `true` with it if it is the host's first.
    pub async fn put_report(
        &self,
        name: &str,
        token: Option<&str>,
        new: NewReport,
    ) -> Result<(Report, bool)> {
        let mut change = self.change().await?;
        let host = find(change.db(), name).await?;
        tokens::demand(change.db(), host.id, token).await?;
        let before = reports::get(change.db(), host.id).await?;
        let row = row(host.id, &new)?;
        reports::put(change.db(), &row).await?;
        note(change.db(), host.id, row.time_ms, new.policy).await?;
        change.announce(Event::object(EventKind::Host, name, "reported"));
        self.review(&mut change).await?;
        change.commit().await?;
        Ok((Report::from_row(&row)?, before.is_none()))
    }

    /// A host's latest report.
    pub async fn report(&self, name: &str) -> Result<Report> {
        let mut tx = self.db.read().await?;
        let host = find(&mut tx, name).await?;
        let row = reports::get(&mut tx, host.id).await?;
        Report::from_row(&row.ok_or_else(|| Error::missing("report", format!("of {name}")))?)
    }
}

fn row(host_id: HostId, new: &NewReport) -> Result<ReportRow> {
    let kept = Kept {
        kernel: new.kernel.clone(),
        policy: new.policy.as_str().to_owned(),
        pi_transports: new.pi_transports.iter().map(|transport| transport.as_str().to_owned()).collect(),
        devices: new.devices.clone(),
        evidence: new.evidence.clone(),
    };
    let body = serde_json::to_string(&kept).map_err(|error| Error::Stored(error.to_string()))?;
    Ok(ReportRow { host_id, time_ms: now_ms(), body })
}

/// Adds a reported policy to the history if it is not the last one there.
async fn note(conn: &mut Conn, host: HostId, time_ms: i64, policy: Policy) -> Result<()> {
    let last = hosts::last_policy(conn, host, "reported").await?;
    if last.as_deref() != Some(policy.as_str()) {
        hosts::add_policy(conn, host, time_ms, "reported", policy.as_str()).await?;
    }
    Ok(())
}
