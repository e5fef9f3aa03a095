//! From what the target says of itself to what is kept: identifiers that it had to change, hosts that it met, and
//! what listeners should hear of.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use holdfast_contract::{
    DesiredPool, DesiredState, DiscoveredHost, HostId, ObservedPool, ObservedState, ObservedVolume,
    PoolHealth, PoolId, VolumeId,
};
use tokio::time::Instant;

use super::APPLY_PATIENCE;
use crate::app::events::{Event, EventKind};
use crate::app::hosts::auto_name;
use crate::app::pools::{Crossing, crossing};
use crate::app::{App, Writer};
use crate::clock::now_ms;
use crate::db::{Conn, hosts, pools, volumes};
use crate::error::Result;

/// Takes in one observation. The caller is the writer and the target runs what is kept.
pub(super) async fn absorb(app: &App, writer: &mut Writer, observed: Arc<ObservedState>) -> Result<()> {
    let before = app.telemetry.observe(Arc::clone(&observed));
    let mut events = changes(writer.committed(), before.as_deref(), &observed);
    let facts: Vec<&ObservedVolume> =
        observed.volumes.iter().filter(|volume| is_news(writer.committed(), volume)).collect();
    let strangers: Vec<&DiscoveredHost> =
        observed.discovered_hosts.iter().filter(|host| !is_known(writer.committed(), host.id)).collect();
    let crossed = crossings(app, writer.committed(), &observed);
    let destroyed: Vec<PoolId> = destroyed(writer.committed(), &observed).collect();
    if !facts.is_empty() || !strangers.is_empty() || !crossed.is_empty() || !destroyed.is_empty() {
        let connected: HashSet<HostId> = observed.sessions.iter().map(|session| session.host).collect();
        let mut tx = app.db.write().await?;
        for volume in facts {
            volumes::set_provisioned(&mut tx, volume).await?;
            events.extend(volume_events(writer.committed(), volume));
        }
        for stranger in strangers {
            events.extend(adopt(&mut tx, stranger, connected.contains(&stranger.id)).await?);
        }
        for (pool, found) in &crossed {
            pools::set_threshold(&mut tx, pool.id, found.threshold).await?;
            events.extend(crossing_events(pool, found));
        }
        for id in destroyed {
            pools::forget_to_destroy(&mut tx, id).await?;
        }
        let told: Vec<_> = crossed.iter().map(|(pool, found)| (pool.id, found.threshold)).collect();
        app.store(writer, tx, Instant::now() + APPLY_PATIENCE).await?;
        for (pool, threshold) in told {
            app.telemetry.set_told(pool, threshold);
        }
    }
    for event in events {
        app.events.send(event);
    }
    Ok(())
}

/// Pools whose use has passed a threshold, or fallen below one.
fn crossings(app: &App, committed: &DesiredState, observed: &ObservedState) -> Vec<(DesiredPool, Crossing)> {
    let look = |pool: &ObservedPool| {
        let told = app.telemetry.told(pool.id);
        let crossed = crossing(told, pool.capacity_bytes, pool.allocated_bytes)?;
        Some((committed.pools.iter().find(|known| known.id == pool.id)?.clone(), crossed))
    };
    observed.pools.iter().filter_map(look).collect()
}

fn crossing_events(pool: &DesiredPool, found: &Crossing) -> Vec<Event> {
    let Crossing { threshold, rising, percent } = *found;
    let mut events = vec![Event::fill(&pool.name, threshold, percent)];
    if rising {
        tracing::warn!(pool = pool.name, percent, "the pool fills up");
        let detail =
            format!("{percent} % of the pool's capacity is in use; new blocks find no room once it is full");
        events.push(Event::alarm(&pool.name, &detail));
    }
    events
}

/// Pools that were to be destroyed, and that the target has let go of.
fn destroyed<'a>(
    committed: &'a DesiredState,
    observed: &'a ObservedState,
) -> impl Iterator<Item = PoolId> + 'a {
    let ids = committed.destroyed.iter().map(|pool| pool.id);
    ids.filter(|id| observed.pools.iter().all(|pool| pool.id != *id))
}

fn is_news(committed: &DesiredState, observed: &ObservedVolume) -> bool {
    committed.volumes.iter().any(|volume| {
        volume.id == observed.id
            && (!volume.provisioned
                || volume.uuid != observed.uuid
                || volume.nguid != observed.nguid
                // Grown under a state that was lost before it was kept: volumes never shrink.
                || volume.size_bytes < observed.size_bytes)
    })
}

fn is_known(committed: &DesiredState, id: HostId) -> bool {
    committed.hosts.iter().any(|host| host.id == id || host.aliases.contains(&id))
}

fn volume_events(committed: &DesiredState, observed: &ObservedVolume) -> Vec<Event> {
    let Some(volume) = volume_of(committed, observed.id) else { return Vec::new() };
    let lost = volume.provisioned && (volume.uuid != observed.uuid || volume.nguid != observed.nguid);
    if !lost {
        return Vec::new();
    }
    tracing::warn!(volume = volume.name, "contents lost with the pool's memory");
    vec![
        Event::object(EventKind::Volume, &volume.name, "updated"),
        Event::alarm(&volume.name, "its contents were lost with the pool's memory; it is empty now"),
    ]
}

fn volume_of(committed: &DesiredState, id: VolumeId) -> Option<&holdfast_contract::DesiredVolume> {
    committed.volumes.iter().find(|volume| volume.id == id)
}

/// Brings a host on record that connected before anybody registered it, or, when its identity was registered in
/// the meantime, lets its identifier stand for the registered host.
async fn adopt(conn: &mut Conn, stranger: &DiscoveredHost, connected: bool) -> Result<Option<Event>> {
    if !connected && hosts::is_tombstone(conn, stranger.id).await? {
        return Ok(None);
    }
    let by_nqn = match &stranger.nqn {
        Some(nqn) => hosts::by_nqn(conn, nqn).await?,
        None => None,
    };
    let owner = match (&by_nqn, &stranger.iqn) {
        (None, Some(iqn)) => hosts::by_iqn(conn, iqn).await?,
        _ => by_nqn,
    };
    if let Some(owner) = owner {
        hosts::add_alias(conn, stranger.id, owner.id).await?;
        return Ok(Some(Event::object(EventKind::Host, &owner.name, "updated")));
    }
    let Some(identity) = stranger.nqn.as_deref().or(stranger.iqn.as_deref()) else { return Ok(None) };
    let row = hosts::HostRow {
        id: stranger.id,
        name: auto_name(conn, identity).await?,
        nqn: stranger.nqn.clone(),
        iqn: stranger.iqn.clone(),
        registered: false,
        policy: "unknown".to_owned(),
    };
    hosts::insert(conn, &row).await?;
    hosts::add_policy(conn, row.id, now_ms(), "declared", &row.policy).await?;
    tracing::info!(host = row.name, "recorded on its first connection");
    Ok(Some(Event::object(EventKind::Host, &row.name, "created")))
}

/// What listeners should hear of that nobody has to keep.
fn changes(committed: &DesiredState, before: Option<&ObservedState>, now: &ObservedState) -> Vec<Event> {
    let mut events = Vec::new();
    let sessions_before = before.map(sessions).unwrap_or_default();
    let sessions_now = sessions(now);
    let hosts: BTreeSet<HostId> =
        sessions_before.symmetric_difference(&sessions_now).map(|(host, _)| *host).collect();
    for id in hosts {
        let host = committed.hosts.iter().find(|host| host.id == id || host.aliases.contains(&id));
        events.extend(host.map(|host| Event::object(EventKind::Host, &host.name, "sessions")));
    }
    for pool in &now.pools {
        let Some(name) = committed.pools.iter().find(|known| known.id == pool.id).map(|known| &known.name)
        else {
            continue;
        };
        let health_before =
            before.and_then(|state| state.pools.iter().find(|old| old.id == pool.id)).map(|old| old.health);
        if health_before.is_some_and(|health| health != pool.health) {
            events.push(Event::object(EventKind::Pool, name, "updated"));
        }
        if health_before != Some(pool.health) && pool.health != PoolHealth::Ok {
            let reason = pool.reason.as_deref().unwrap_or("no reason is given");
            events.push(Event::alarm(name, &format!("the pool is {}: {reason}", health_word(pool.health))));
        }
    }
    let dropped_before = before.map(|state| state.incidents_dropped);
    if dropped_before.is_some_and(|dropped| now.incidents_dropped > dropped) {
        events.push(Event::alarm("target", "incidents found no room in the target's spool and were dropped"));
    }
    events
}

fn health_word(health: PoolHealth) -> &'static str {
    match health {
        PoolHealth::Ok => "well",
        PoolHealth::Degraded => "degraded",
        PoolHealth::Failed => "failed",
    }
}

fn sessions(state: &ObservedState) -> BTreeSet<(HostId, u64)> {
    state.sessions.iter().map(|session| (session.host, session.id)).collect()
}
