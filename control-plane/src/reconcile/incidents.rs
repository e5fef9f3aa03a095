//! Collects the target's incidents, each exactly once: they are kept in the same transaction as the position in the
//! stream, and only then acknowledged. What is sent twice carries the same identifier and is kept once.

use holdfast_contract::{Incident, Request, Response};

use crate::app::App;
use crate::app::events::{Event, EventKind};
use crate::clock::signed;
use crate::db::{hosts, incidents, meta};
use crate::error::{Error, Result};

/// Incidents asked for at once: with evidence some 10 KB each, far below the longest message.
const BATCH: u32 = 200;
/// Batches collected before others get their turn.
const BATCHES_PER_TURN: u32 = 10;

/// Where the stream stands.
#[derive(Debug)]
pub(super) struct IncidentStream {
    /// The run of the target that `sequence` belongs to. A new run is read from its beginning: it sends again only
    /// what nobody acknowledged, and a target that lost its spool counts from one.
    boot_id: String,
    /// Highest sequence that is kept.
    sequence: u64,
    /// Conversation and sequence last acknowledged.
    acknowledged: Option<(u64, u64)>,
}

impl IncidentStream {
    /// Where the last run of this program left it.
    pub(super) async fn load(app: &App) -> Result<Self> {
        let mut tx = app.db.read().await?;
        let boot_id = meta::get(&mut tx, meta::Key::IncidentBoot).await?.unwrap_or_default();
        let sequence = meta::get_u64(&mut tx, meta::Key::IncidentSequence).await?;
        Ok(Self { boot_id, sequence, acknowledged: None })
    }

    /// Collects what is there. The caller is the writer.
    pub(super) async fn collect(&mut self, app: &App, generation: u64, boot_id: &str) -> Result<()> {
        if self.boot_id != boot_id {
            self.boot_id = boot_id.to_owned();
            self.sequence = 0;
        }
        for _ in 0..BATCHES_PER_TURN {
            let after = self.sequence;
            let batch = match app.target.call(Request::Incidents { after, limit: BATCH }).await {
                Ok(Response::Incidents(batch)) => batch,
                Ok(_) => return Err(Error::Target("not an answer to Incidents".to_owned())),
                Err(error) => return Err(Error::TargetAway(error.to_string())),
            };
            let Some(last) =
                batch.iter().map(|incident| incident.sequence).max().filter(|last| *last > after)
            else {
                break;
            };
            self.keep(app, &batch, last).await?;
            self.sequence = last;
        }
        self.acknowledge(app, generation).await
    }

    async fn keep(&self, app: &App, batch: &[Incident], last: u64) -> Result<()> {
        let mut tx = app.db.write().await?;
        let mut events = Vec::new();
        for incident in batch {
            let policy = hosts::policy_at(&mut tx, incident.host, signed(incident.first_time_ms)).await?;
            let policy = policy.as_deref().unwrap_or("unknown");
            let change = match incidents::put(&mut tx, incident, policy).await? {
                incidents::Stored::New => "created",
                incidents::Stored::Updated => "updated",
                incidents::Stored::Unchanged => continue,
            };
            let data = serde_json::json!({ "id": incident.id, "change": change, "count": incident.count });
            events.push(Event { kind: EventKind::Incident, data });
        }
        incidents::prune(&mut tx).await?;
        meta::set(&mut tx, meta::Key::IncidentBoot, &self.boot_id).await?;
        meta::set(&mut tx, meta::Key::IncidentSequence, &last.to_string()).await?;
        tx.commit().await?;
        for event in events {
            app.events.send(event);
        }
        Ok(())
    }

    /// Lets the target forget what is kept; again in every new conversation, in case the last one broke before.
    async fn acknowledge(&mut self, app: &App, generation: u64) -> Result<()> {
        let through = self.sequence;
        if through == 0 || self.acknowledged == Some((generation, through)) {
            return Ok(());
        }
        match app.target.call(Request::AckIncidents { through }).await {
            Ok(Response::Acked) => {
                self.acknowledged = Some((generation, through));
                Ok(())
            }
            Ok(_) => Err(Error::Target("not an answer to AckIncidents".to_owned())),
            Err(error) => Err(Error::TargetAway(error.to_string())),
        }
    }
}
