//! Incidents: integrity failures with one cause, and who is to blame.

use std::collections::HashMap;

use holdfast_contract::{
    Confidence, Evidence as WireEvidence, HostId, OperationWord, TagWord, Transport as WireTransport,
    Verdict, VolumeId,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::App;
use super::counters::volume_names;
use super::hosts::Owners;
use super::page::{Page, PageQuery, bad_token};
use super::words::{ConfidenceWord, Operation, Policy, Tag, Transport, VerdictWord};
use crate::clock::{rfc3339, signed};
use crate::db::incidents::{Filter, IncidentRow};
use crate::db::{Conn, hosts, incidents, stored, volumes};
use crate::error::{Error, Result};
use crate::names::Name;

/// An incident.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Incident {
    /// Immutable identifier.
    pub id: String,
    /// Of the first failure.
    #[schema(format = DateTime)]
    pub first_time: String,
    /// Of the latest failure.
    #[schema(format = DateTime)]
    pub last_time: String,
    /// Failed commands.
    pub count: u64,
    /// Name of the host whose command failed; null when it was removed since.
    #[schema(value_type = Option<Name>)]
    pub host: Option<String>,
    /// Whether the host had proved who it is.
    pub authenticated: bool,
    /// Over what.
    pub transport: Transport,
    /// The initiator's address and port.
    pub peer: String,
    /// The session, readable.
    pub session: String,
    /// Name of the volume; null when it was removed since.
    #[schema(value_type = Option<Name>)]
    pub volume: Option<String>,
    /// Lowest failing block of the first failed command.
    pub lba: u64,
    /// Length of the first failed command, in blocks.
    pub blocks: u64,
    /// What the host had asked for.
    pub operation: Operation,
    /// What did not match.
    pub tag: Tag,
    /// The tag that should have been there, `0x…`, full width; null for digests and media.
    pub expected: Option<String>,
    /// The tag that was there, as above.
    pub actual: Option<String>,
    /// On reads, name of the host that wrote the block; null when unknown or removed since.
    #[schema(value_type = Option<Name>)]
    pub writer: Option<String>,
    /// Whose fault.
    pub verdict: VerdictWord,
    /// How sure.
    pub confidence: ConfidenceWord,
    /// Why, in sentences.
    pub reasons: Vec<String>,
    /// What the host ran when the incident began: as its agent reported, otherwise as declared.
    pub policy: Policy,
    /// The failing block as it came.
    pub evidence: Evidence,
}

/// The failing block, kept as it came.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Evidence {
    /// Its data in hex; empty where it was not kept.
    pub data: String,
    /// Its tuple in hex.
    pub tuple: String,
    /// Whether PDUs of the connection carried header digests.
    pub header_digest: bool,
    /// Whether they carried data digests.
    pub data_digest: bool,
}

impl From<WireEvidence> for Evidence {
    fn from(evidence: WireEvidence) -> Self {
        Self {
            data: evidence.data,
            tuple: evidence.tuple,
            header_digest: evidence.header_digest,
            data_digest: evidence.data_digest,
        }
    }
}

/// Narrows a list of incidents. Names of objects that are gone match nothing.
#[derive(Debug, Clone, Default)]
pub struct IncidentFilter {
    /// Name of the host whose command failed.
    pub host: Option<String>,
    /// Name of the volume.
    pub volume: Option<String>,
    /// What did not match.
    pub tag: Option<Tag>,
    /// Whose fault.
    pub verdict: Option<VerdictWord>,
    /// Latest failure at this time or after.
    pub since_ms: Option<i64>,
}

impl App {
    /// Incidents, those that began last first.
    pub async fn incidents(&self, filter: &IncidentFilter, query: &PageQuery) -> Result<Page<Incident>> {
        let mut tx = self.db.read().await?;
        let names = Names::load(&mut tx).await?;
        let narrowed = Filter {
            hosts: match &filter.host {
                Some(name) => Some(names.ids_of_host(&mut tx, name).await?),
                None => None,
            },
            volumes: match &filter.volume {
                Some(name) => {
                    let row = volumes::by_name(&mut tx, name).await?;
                    Some(row.into_iter().map(|row| row.id.to_string()).collect())
                }
                None => None,
            },
            tag: filter.tag.map(|tag| tag.as_str().to_owned()),
            verdict: filter.verdict.map(|verdict| verdict.as_str().to_owned()),
            since_ms: filter.since_ms,
            before: match query.after() {
                "" => None,
                token => Some(position(token).ok_or_else(bad_token)?),
            },
        };
        let mut rows = incidents::page(&mut tx, &narrowed, query.fetch()).await?;
        let next =
            query.cut(&mut rows, |row| format!("{}/{}", signed(row.incident.first_time_ms), row.entry));
        Ok(Page { items: rows.into_iter().map(|row| names.render(row)).collect::<Result<_>>()?, next })
    }

    /// One incident.
    pub async fn incident(&self, id: &str) -> Result<Incident> {
        let mut tx = self.db.read().await?;
        let row = incidents::by_id(&mut tx, id).await?.ok_or_else(|| Error::missing("incident", id))?;
        Names::load(&mut tx).await?.render(row)
    }
}

/// Reads a list position back: first time and entry.
fn position(token: &str) -> Option<(i64, i64)> {
    let (first_ms, entry) = token.split_once('/')?;
    Some((first_ms.parse().ok()?, entry.parse().ok()?))
}

/// Names of what exists now.
struct Names {
    owners: Owners,
    hosts: HashMap<HostId, String>,
    volumes: HashMap<VolumeId, String>,
}

impl Names {
    async fn load(conn: &mut Conn) -> Result<Self> {
        Ok(Self {
            owners: Owners::load(conn).await?,
            hosts: hosts::all(conn).await?.into_iter().map(|row| (row.id, row.name)).collect(),
            volumes: volume_names(conn).await?,
        })
    }

    fn host(&self, id: HostId) -> Option<String> {
        self.hosts.get(&self.owners.owner(id)).cloned()
    }

    async fn ids_of_host(&self, conn: &mut Conn, name: &str) -> Result<Vec<String>> {
        let row = hosts::by_name(conn, name).await?;
        let ids = row.map(|row| self.owners.all_of(row.id)).unwrap_or_default();
        Ok(ids.into_iter().map(|id| id.to_string()).collect())
    }

    fn render(&self, row: IncidentRow) -> Result<Incident> {
        let incident = row.incident;
        Ok(Incident {
            id: incident.id,
            first_time: rfc3339(signed(incident.first_time_ms)),
            last_time: rfc3339(signed(incident.last_time_ms)),
            count: incident.count,
            host: self.host(incident.host),
            authenticated: incident.authenticated,
            transport: match incident.transport {
                WireTransport::NvmeTcp => Transport::NvmeTcp,
                WireTransport::Iscsi => Transport::Iscsi,
            },
            peer: incident.peer,
            session: incident.session,
            volume: self.volumes.get(&incident.volume).cloned(),
            lba: incident.lba,
            blocks: incident.blocks,
            operation: match incident.operation {
                OperationWord::Read => Operation::Read,
                OperationWord::Write => Operation::Write,
                OperationWord::Compare => Operation::Compare,
                OperationWord::Verify => Operation::Verify,
            },
            tag: match incident.tag {
                TagWord::Guard => Tag::Guard,
                TagWord::App => Tag::App,
                TagWord::Ref => Tag::Ref,
                TagWord::Storage => Tag::Storage,
                TagWord::Digest => Tag::Digest,
                TagWord::Media => Tag::Media,
            },
            expected: incident.expected,
            actual: incident.actual,
            writer: incident.writer.and_then(|writer| self.host(writer)),
            verdict: match incident.verdict {
                Verdict::HostRace => VerdictWord::HostRace,
                Verdict::HostMemory => VerdictWord::HostMemory,
                Verdict::Wire => VerdictWord::Wire,
                Verdict::Misdirected => VerdictWord::Misdirected,
                Verdict::Target => VerdictWord::Target,
                Verdict::Media => VerdictWord::Media,
                Verdict::Undetermined => VerdictWord::Undetermined,
            },
            confidence: match incident.confidence {
                Confidence::Low => ConfidenceWord::Low,
                Confidence::Medium => ConfidenceWord::Medium,
                Confidence::High => ConfidenceWord::High,
            },
            reasons: incident.reasons,
            policy: stored(&row.policy)?,
            evidence: incident.evidence.into(),
        })
    }
}
