//! Hosts: who connects, by which identities, under which policy, and what was seen of them.
//!
//! A host is keyed by an immutable identifier. A record that the target made on a first connection is merged into the
//! host that claims its identity later: its identifier becomes an alias, so that counters and incidents kept under it
//! are the claimer's from then on.

use std::collections::HashMap;

use holdfast_contract::{HostId, ObservedSession, Transport as WireTransport};
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::auth::{self, Auth, AuthPatch, NewAuth};
use super::counters::{Coverage, coverage, observed_policy, volume_names};
use super::events::{Event, EventKind};
use super::page::{Page, PageQuery};
use super::reports::Report;
use super::words::{AlarmKind, ObservedPolicy, Policy, Transport, Witness};
use super::{App, Change, fresh_host_id, witness};
use crate::clock::{now_ms, rfc3339};
use crate::db::hosts::{HostRow, PolicyRow};
use crate::db::reports::AlarmRow;
use crate::db::{Conn, chap, grants, hosts, reports, stored, tokens};
use crate::error::{Error, Result};
use crate::names::{Iqn, Name, Nqn};

/// A host to register.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewHost {
    /// Its name.
    pub name: Name,
    /// NVMe identity.
    pub nqn: Option<Nqn>,
    /// iSCSI identity.
    pub iqn: Option<Iqn>,
    /// What is known of it.
    #[schema(nullable = false)]
    pub policy: Option<NewPolicy>,
    /// How it has to prove itself.
    pub auth: Option<NewAuth>,
}

/// What somebody says of a host.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPolicy {
    /// The policy it is said to run. Default `unknown`.
    #[schema(nullable = false, default = "unknown")]
    pub declared: Option<Policy>,
}

/// What may change of a host. The other fields may be sent along as they are.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct HostPatch {
    /// NVMe identity; null takes it away. Not while the host has sessions over NVMe/TCP (409).
    #[schema(value_type = Option<Nqn>)]
    pub nqn: Option<Option<Nqn>>,
    /// iSCSI identity, as `nqn`.
    #[schema(value_type = Option<Iqn>)]
    pub iqn: Option<Option<Iqn>>,
    /// What is known of it; null returns to `unknown`.
    pub policy: Option<PolicyPatch>,
    /// How it has to prove itself; null: not at all. It counts for sessions to come.
    #[schema(value_type = Option<AuthPatch>)]
    pub auth: Option<Option<AuthPatch>>,
}

/// What may change of a host's policy.
#[derive(Debug, Clone, Copy, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyPatch {
    /// The policy it is said to run; null returns to `unknown`.
    #[schema(value_type = Option<Policy>)]
    pub declared: Option<Option<Policy>>,
}

/// A host.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Host {
    /// Immutable identifier, 16 hex digits.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    pub id: String,
    /// Its name.
    #[schema(value_type = Name)]
    pub name: String,
    /// NVMe identity.
    pub nqn: Option<String>,
    /// iSCSI identity.
    pub iqn: Option<String>,
    /// How it has to prove itself, without the secrets.
    pub auth: Auth,
    /// False for one that connected before anybody registered it.
    pub registered: bool,
    /// How it keeps pages still, by several witnesses.
    pub policy: HostPolicy,
    /// Sessions that are open.
    pub sessions: Vec<Session>,
    /// How much of its I/O was protected, by volume.
    pub coverage: Vec<Coverage>,
}

/// A host's policy.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct HostPolicy {
    /// What somebody said.
    pub declared: Policy,
    /// What the host's agent reports; null while there is no report.
    pub reported: Option<Policy>,
    /// What the target sees on the wire.
    pub observed: ObservedPolicy,
    /// What each of them said when it changed its word, oldest first.
    pub history: Vec<PolicyEntry>,
    /// What does not fit between them at present.
    pub alarms: Vec<PolicyAlarm>,
}

/// An entry of a host's policy history.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PolicyEntry {
    /// From when on.
    #[schema(format = DateTime)]
    pub time: String,
    /// By which witness.
    pub kind: Witness,
    /// Which: a word of `declared`, or where the kind is `observed`, of `observed`.
    pub policy: String,
}

/// Something that does not fit between what is said of a host and what is seen of it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct PolicyAlarm {
    /// What.
    pub kind: AlarmKind,
    /// Since when.
    #[schema(format = DateTime)]
    pub since: String,
    /// Where guard errors came in spite of the policy: its hole that fits.
    pub hole: Option<String>,
    /// What it is, and what to do.
    pub detail: String,
}

/// An open session.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Session {
    /// Number of the session in this run of the target.
    pub id: u64,
    /// Over what.
    pub transport: Transport,
    /// The initiator's address and port.
    pub address: String,
    /// Name of the subsystem.
    pub subsystem: String,
    /// Whether the host proved who it is.
    pub authenticated: bool,
    /// Since when.
    #[schema(format = DateTime)]
    pub since: String,
}

impl From<ObservedSession> for Session {
    fn from(session: ObservedSession) -> Self {
        Self {
            id: session.id,
            transport: match session.transport {
                WireTransport::NvmeTcp => Transport::NvmeTcp,
                WireTransport::Iscsi => Transport::Iscsi,
            },
            address: session.peer,
            subsystem: session.subsystem,
            authenticated: session.authenticated,
            since: rfc3339(crate::clock::signed(session.since.saturating_mul(1000))),
        }
    }
}

/// Narrows a list of hosts.
#[derive(Debug, Clone, Default)]
pub struct HostFilter {
    /// Only the host with this NQN.
    pub nqn: Option<String>,
    /// Only the host with this iSCSI name.
    pub iqn: Option<String>,
}

impl App {
    /// Registers a host. Records that the target made under its identities are merged into it.
    pub async fn create_host(&self, new: NewHost) -> Result<Host> {
        let mut change = self.change().await?;
        let nqn = new.nqn.as_ref().map(Nqn::as_str);
        let iqn = new.iqn.as_ref().map(Iqn::as_str);
        let merged = claim(change.db(), None, nqn, iqn).await?;
        let name = new.name.as_str();
        let namesake = hosts::by_name(change.db(), name).await?;
        if namesake.is_some_and(|other| merged.iter().all(|record| record.id != other.id)) {
            return Err(Error::conflict("/name", format!("there is a host {name} already")));
        }
        let id = fresh_host_id()?;
        let mut row = HostRow {
            id,
            // Until the merged records are gone, whose name and identities these may be.
            name: id.to_string(),
            nqn: None,
            iqn: None,
            registered: true,
            policy: Policy::Unknown.as_str().to_owned(),
        };
        hosts::insert(change.db(), &row).await?;
        row.name = name.to_owned();
        row.nqn = nqn.map(str::to_owned);
        row.iqn = iqn.map(str::to_owned);
        merge(&mut change, &mut row, merged).await?;
        if let Some(declared) = new.policy.and_then(|policy| policy.declared) {
            row.policy = declared.as_str().to_owned();
        }
        hosts::update(change.db(), &row).await?;
        if let Some(new) = new.auth {
            chap::set(change.db(), row.id, auth::from_new(new)?.as_ref()).await?;
        }
        note_policy(change.db(), &row).await?;
        change.announce(Event::object(EventKind::Host, name, "created"));
        self.review(&mut change).await?;
        change.commit().await?;
        self.host(name).await
    }

    /// Hosts by name.
    pub async fn hosts(&self, filter: &HostFilter, query: &PageQuery) -> Result<Page<Host>> {
        let mut tx = self.db.read().await?;
        let (nqn, iqn) = (filter.nqn.as_deref(), filter.iqn.as_deref());
        let mut rows = hosts::page(&mut tx, nqn, iqn, query.after(), query.fetch()).await?;
        let next = query.cut(&mut rows, |row| row.name.clone());
        let owners = Owners::load(&mut tx).await?;
        let volumes = volume_names(&mut tx).await?;
        let secrets = chap::all(&mut tx).await?;
        let mut items = Vec::with_capacity(rows.len());
        for row in rows {
            let said = Said::load(&mut tx, row.id).await?;
            let auth = Auth::of(secrets.get(&row.id));
            items.push(self.render_host(row, said, auth, &owners, &volumes)?);
        }
        Ok(Page { items, next })
    }

    /// One host.
    pub async fn host(&self, name: &str) -> Result<Host> {
        let mut tx = self.db.read().await?;
        let row = find(&mut tx, name).await?;
        let owners = Owners::load(&mut tx).await?;
        let volumes = volume_names(&mut tx).await?;
        let said = Said::load(&mut tx, row.id).await?;
        let auth = Auth::of(chap::of(&mut tx, row.id).await?.as_ref());
        self.render_host(row, said, auth, &owners, &volumes)
    }

    /// Changes identities or the declared policy.
    pub async fn patch_host(&self, name: &str, patch: HostPatch) -> Result<Host> {
        let mut change = self.change().await?;
        let mut row = find(change.db(), name).await?;
        let owners = Owners::load(change.db()).await?;
        let nqn = patch.nqn.map(|nqn| nqn.map(|nqn| nqn.to_string())).filter(|nqn| *nqn != row.nqn);
        let iqn = patch.iqn.map(|iqn| iqn.map(|iqn| iqn.to_string())).filter(|iqn| *iqn != row.iqn);
        for (pointer, identity, before, transport) in
            [("/nqn", &nqn, &row.nqn, WireTransport::NvmeTcp), ("/iqn", &iqn, &row.iqn, WireTransport::Iscsi)]
        {
            let in_use = identity.is_some() && before.is_some() && {
                let sessions = self.telemetry.sessions();
                sessions.iter().any(|s| owners.owner(s.host) == row.id && s.transport == transport)
            };
            if in_use {
                return Err(Error::conflict(pointer, format!("the host {name} has sessions under it")));
            }
        }
        let claimed_nqn = nqn.as_ref().and_then(|nqn| nqn.as_deref());
        let claimed_iqn = iqn.as_ref().and_then(|iqn| iqn.as_deref());
        let merged = claim(change.db(), Some(row.id), claimed_nqn, claimed_iqn).await?;
        if let Some(nqn) = nqn {
            row.nqn = nqn;
        }
        if let Some(iqn) = iqn {
            row.iqn = iqn;
        }
        // What was counted before a merge, or before somebody spoke anew, is not held against the claims.
        if !merged.is_empty() || patch.policy.is_some() {
            reports::forget_watch(change.db(), row.id).await?;
        }
        merge(&mut change, &mut row, merged).await?;
        if let Some(declared) = patch.policy.and_then(|policy| policy.declared) {
            row.policy = declared.unwrap_or(Policy::Unknown).as_str().to_owned();
        }
        hosts::update(change.db(), &row).await?;
        if let Some(patch) = patch.auth {
            let before = chap::of(change.db(), row.id).await?;
            let after = patch.map_or(Ok(None), |patch| auth::patched(before, patch))?;
            chap::set(change.db(), row.id, after.as_ref()).await?;
        }
        note_policy(change.db(), &row).await?;
        change.announce(Event::object(EventKind::Host, name, "updated"));
        self.review(&mut change).await?;
        change.commit().await?;
        self.host(name).await
    }

    /// Holds all claims against what is seen, as part of a change.
    pub(super) async fn review(&self, change: &mut Change<'_>) -> Result<()> {
        for event in witness::review(change.db(), &self.telemetry.numbers()).await? {
            change.announce(event);
        }
        Ok(())
    }

    /// Removes a host without sessions and grants.
    pub async fn delete_host(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        let row = find(change.db(), name).await?;
        let granted = grants::subsystems_of(change.db(), row.id).await?;
        if !granted.is_empty() {
            let detail = format!("the host {name} is granted {}", granted.join(", "));
            return Err(Error::conflict("", detail));
        }
        let owners = Owners::load(change.db()).await?;
        // Sessions that just ended should not stand in the way, so the target is asked anew where it can be.
        let sessions = match self.target.observe().await {
            Ok(observed) => observed.sessions.clone(),
            Err(_) => self.telemetry.sessions(),
        };
        if let Some(session) = sessions.iter().find(|session| owners.owner(session.host) == row.id) {
            let detail = format!("the host {name} has a session with {}", session.subsystem);
            return Err(Error::conflict("", detail));
        }
        hosts::delete(change.db(), row.id).await?;
        change.announce(Event::object(EventKind::Host, name, "deleted"));
        change.commit().await
    }

    fn render_host(
        &self,
        row: HostRow,
        said: Said,
        auth: Auth,
        owners: &Owners,
        volumes: &HashMap<holdfast_contract::VolumeId, String>,
    ) -> Result<Host> {
        let numbers = self.telemetry.numbers();
        let counters: Vec<_> =
            numbers.counters.iter().filter(|counters| owners.owner(counters.host) == row.id).collect();
        let mut sessions = self.telemetry.sessions();
        sessions.retain(|session| owners.owner(session.host) == row.id);
        Ok(Host {
            id: row.id.to_string(),
            policy: HostPolicy {
                declared: stored(&row.policy)?,
                reported: said.report.map(|report| report.policy),
                observed: observed_policy(&counters),
                history: said.history.into_iter().map(entry).collect::<Result<_>>()?,
                alarms: said.alarms.into_iter().map(alarm).collect::<Result<_>>()?,
            },
            name: row.name,
            nqn: row.nqn,
            iqn: row.iqn,
            auth,
            registered: row.registered,
            sessions: sessions.into_iter().map(Session::from).collect(),
            coverage: coverage(&counters, volumes),
        })
    }
}

/// What is on record of a host's policy.
struct Said {
    history: Vec<PolicyRow>,
    report: Option<Report>,
    alarms: Vec<AlarmRow>,
}

impl Said {
    async fn load(conn: &mut Conn, id: HostId) -> Result<Self> {
        let report = reports::get(conn, id).await?;
        Ok(Self {
            history: hosts::policies(conn, id).await?,
            report: report.as_ref().map(Report::from_row).transpose()?,
            alarms: reports::alarms(conn, id).await?,
        })
    }
}

fn entry(row: PolicyRow) -> Result<PolicyEntry> {
    Ok(PolicyEntry { time: rfc3339(row.time_ms), kind: stored(&row.kind)?, policy: row.policy })
}

fn alarm(row: AlarmRow) -> Result<PolicyAlarm> {
    Ok(PolicyAlarm {
        kind: stored(&row.kind)?,
        since: rfc3339(row.since_ms),
        hole: row.hole,
        detail: row.detail,
    })
}

/// Which host an identifier of the target stands for.
#[derive(Debug)]
pub(super) struct Owners {
    aliases: HashMap<HostId, HostId>,
}

impl Owners {
    pub(super) async fn load(conn: &mut Conn) -> Result<Self> {
        Ok(Self { aliases: hosts::aliases(conn).await? })
    }

    pub(super) fn owner(&self, id: HostId) -> HostId {
        self.aliases.get(&id).copied().unwrap_or(id)
    }

    /// A host's own identifier and those merged into it.
    pub(super) fn all_of(&self, id: HostId) -> Vec<HostId> {
        let merged = self.aliases.iter().filter(|(_, owner)| **owner == id).map(|(alias, _)| *alias);
        std::iter::once(id).chain(merged).collect()
    }
}

/// The row of a host that the path names.
pub(super) async fn find(conn: &mut Conn, name: &str) -> Result<HostRow> {
    hosts::by_name(conn, name).await?.ok_or_else(|| Error::missing("host", name))
}

/// `host-` and the first 8 hex digits of the identity's SHA-256, with a number behind if that is taken.
pub(crate) async fn auto_name(conn: &mut Conn, identity: &str) -> Result<String> {
    let digest = Sha256::digest(identity.as_bytes());
    let digits: String = digest.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    let plain = format!("host-{digits}");
    let mut name = plain.clone();
    let mut number = 1_u32;
    while hosts::by_name(conn, &name).await?.is_some() {
        number += 1;
        name = format!("{plain}-{number}");
    }
    Ok(name)
}

/// The unregistered records that have these identities; 409 where a registered host has one.
async fn claim(
    conn: &mut Conn,
    claimer: Option<HostId>,
    nqn: Option<&str>,
    iqn: Option<&str>,
) -> Result<Vec<HostRow>> {
    let mut merged: Vec<HostRow> = Vec::new();
    let by_nqn = match nqn {
        Some(nqn) => hosts::by_nqn(conn, nqn).await?,
        None => None,
    };
    let by_iqn = match iqn {
        Some(iqn) => hosts::by_iqn(conn, iqn).await?,
        None => None,
    };
    for (pointer, owner) in [("/nqn", by_nqn), ("/iqn", by_iqn)] {
        let Some(owner) = owner.filter(|owner| Some(owner.id) != claimer) else { continue };
        if owner.registered {
            return Err(Error::conflict(pointer, format!("it belongs to the host {}", owner.name)));
        }
        if merged.iter().all(|record| record.id != owner.id) {
            merged.push(owner);
        }
    }
    Ok(merged)
}

/// Merges records into `row`: history, grants and whatever `row` does not have of its own.
async fn merge(change: &mut Change<'_>, row: &mut HostRow, merged: Vec<HostRow>) -> Result<()> {
    for record in merged {
        grants::hand_over(change.db(), record.id, row.id).await?;
        reports::hand_over(change.db(), record.id, row.id).await?;
        tokens::hand_over(change.db(), record.id, row.id).await?;
        hosts::absorb(change.db(), record.id, row.id).await?;
        row.nqn = row.nqn.take().or(record.nqn);
        row.iqn = row.iqn.take().or(record.iqn);
        if row.policy == Policy::Unknown.as_str() {
            row.policy = record.policy;
        }
        tracing::info!(host = row.name, record = record.name, "record merged in");
        change.announce(Event::object(EventKind::Host, &record.name, "merged"));
    }
    Ok(())
}

/// Adds the policy to the history if it is not the last entry there.
async fn note_policy(conn: &mut Conn, row: &HostRow) -> Result<()> {
    let last = hosts::last_policy(conn, row.id, "declared").await?;
    if last.as_ref() != Some(&row.policy) {
        hosts::add_policy(conn, row.id, now_ms(), "declared", &row.policy).await?;
    }
    Ok(())
}
