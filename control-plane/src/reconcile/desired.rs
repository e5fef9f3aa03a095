//! From what is kept to what the target is told.

use std::collections::{BTreeMap, HashMap};

use holdfast_contract::{
    DesiredGrant, DesiredHost, DesiredNamespace, DesiredPool, DesiredState, DesiredSubsystem, DesiredVolume,
    EnforceSetting, HostId, SubsystemId, ViewSetting,
};

use crate::app::grants::{Enforce, View};
use crate::app::reports::Report;
use crate::app::words::Transport;
use crate::db::subsystems::SubsystemRow;
use crate::db::{Conn, chap, grants, hosts, namespaces, pools, reports, stored, subsystems, volumes};
use crate::error::Result;

/// Everything, under revision zero; equal states are equal values.
pub(crate) async fn desired_state(conn: &mut Conn) -> Result<DesiredState> {
    let kept_pools = pools::all(conn)
        .await?
        .into_iter()
        .map(|row| DesiredPool { id: row.id, name: row.name, uuid: row.uuid, backing: row.backing })
        .collect();
    let volumes = volumes::all(conn)
        .await?
        .into_iter()
        .map(|row| DesiredVolume {
            id: row.id,
            name: row.name,
            pool: row.pool_id,
            size_bytes: row.size_bytes,
            block_size: row.block_size,
            pi: row.pi,
            uuid: row.uuid,
            nguid: row.nguid,
            provisioned: row.provisioned,
        })
        .collect();
    Ok(DesiredState {
        revision: 0,
        pools: kept_pools,
        volumes,
        subsystems: desired_subsystems(conn).await?,
        hosts: desired_hosts(conn).await?,
        destroyed: pools::to_destroy(conn).await?,
    })
}

async fn desired_subsystems(conn: &mut Conn) -> Result<Vec<DesiredSubsystem>> {
    let mut mapped: HashMap<SubsystemId, Vec<DesiredNamespace>> = HashMap::new();
    for row in namespaces::all(conn).await? {
        let namespace = DesiredNamespace { nsid: row.nsid, volume: row.volume_id };
        mapped.entry(row.subsystem_id).or_default().push(namespace);
    }
    let able = able(conn).await?;
    let mut granted: HashMap<SubsystemId, Vec<DesiredGrant>> = HashMap::new();
    for row in grants::all(conn).await? {
        let can = able.get(&row.host_id).copied().unwrap_or_default();
        let grant = desired_grant(row.host_id, stored(&row.view)?, stored(&row.enforce)?, can);
        granted.entry(row.subsystem_id).or_default().push(grant);
    }
    let grants_of = |row: &SubsystemRow, mut grants: Vec<DesiredGrant>| {
        if row.allow_any_host {
            let ungranted: Vec<_> =
                able.iter().filter(|(id, _)| grants.iter().all(|grant| grant.host != **id)).collect();
            grants.extend(
                ungranted.into_iter().map(|(id, can)| desired_grant(*id, View::Auto, Enforce::Any, *can)),
            );
            grants.sort_by_key(|grant| grant.host);
        }
        grants
    };
    Ok(subsystems::all(conn)
        .await?
        .into_iter()
        .map(|row| DesiredSubsystem {
            namespaces: mapped.remove(&row.id).unwrap_or_default(),
            grants: grants_of(&row, granted.remove(&row.id).unwrap_or_default()),
            id: row.id,
            name: row.name,
            nqn: row.nqn,
            iqn: row.iqn,
            allow_any_host: row.allow_any_host,
        })
        .collect())
}

/// Transports over which a host can put tuples on the wire, by its agent's latest report.
#[derive(Debug, Clone, Copy, Default)]
struct Able {
    nvme_tcp: bool,
    iscsi: bool,
}

/// Hosts that can over at least one transport.
async fn able(conn: &mut Conn) -> Result<BTreeMap<HostId, Able>> {
    let mut able = BTreeMap::new();
    for (id, row) in reports::all(conn).await? {
        let transports = Report::from_row(&row)?.pi_transports;
        let can = Able {
            nvme_tcp: transports.contains(&Transport::NvmeTcp),
            iscsi: transports.contains(&Transport::Iscsi),
        };
        if can.nvme_tcp || can.iscsi {
            able.insert(id, can);
        }
    }
    Ok(able)
}

/// Decides `auto`: tuples on the wire for a host of which they are demanded, or that can send them.
fn desired_grant(host: HostId, view: View, enforce: Enforce, able: Able) -> DesiredGrant {
    let setting = |able| match (view, enforce) {
        (View::Pi, _) | (View::Auto, Enforce::RequirePi) => ViewSetting::Pi,
        (View::Auto, Enforce::Any) if able => ViewSetting::Pi,
        (View::Plain, _) | (View::Auto, Enforce::Any) => ViewSetting::Plain,
    };
    let enforce = match enforce {
        Enforce::Any => EnforceSetting::Any,
        Enforce::RequirePi => EnforceSetting::RequirePi,
    };
    DesiredGrant { host, nvme_view: setting(able.nvme_tcp), iscsi_view: setting(able.iscsi), enforce }
}

async fn desired_hosts(conn: &mut Conn) -> Result<Vec<DesiredHost>> {
    let mut merged: HashMap<HostId, Vec<HostId>> = HashMap::new();
    for (alias, host) in hosts::aliases(conn).await? {
        merged.entry(host).or_default().push(alias);
    }
    let mut secrets = chap::all(conn).await?;
    Ok(hosts::all(conn)
        .await?
        .into_iter()
        .map(|row| {
            let mut aliases = merged.remove(&row.id).unwrap_or_default();
            aliases.sort_unstable();
            let chap = secrets.remove(&row.id);
            DesiredHost { id: row.id, name: row.name, nqn: row.nqn, iqn: row.iqn, chap, aliases }
        })
        .collect())
}
