//! From what is kept to what the target is told.

use std::collections::HashMap;

use holdfast_contract::{
    DesiredGrant, DesiredHost, DesiredNamespace, DesiredPool, DesiredState, DesiredSubsystem, DesiredVolume,
    EnforceSetting, HostId, SubsystemId, ViewSetting,
};

use crate::app::grants::{Enforce, View};
use crate::db::{Conn, grants, hosts, namespaces, pools, stored, subsystems, volumes};
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
    let mut granted: HashMap<SubsystemId, Vec<DesiredGrant>> = HashMap::new();
    for row in grants::all(conn).await? {
        let grant = desired_grant(row.host_id, stored(&row.view)?, stored(&row.enforce)?);
        granted.entry(row.subsystem_id).or_default().push(grant);
    }
    Ok(subsystems::all(conn)
        .await?
        .into_iter()
        .map(|row| DesiredSubsystem {
            namespaces: mapped.remove(&row.id).unwrap_or_default(),
            grants: granted.remove(&row.id).unwrap_or_default(),
            id: row.id,
            name: row.name,
            nqn: row.nqn,
            iqn: row.iqn,
            allow_any_host: row.allow_any_host,
        })
        .collect())
}

/// Decides `auto`: tuples on the wire only for a host of which they are demanded.
fn desired_grant(host: HostId, view: View, enforce: Enforce) -> DesiredGrant {
    let setting = match (view, enforce) {
        (View::Pi, _) | (View::Auto, Enforce::RequirePi) => ViewSetting::Pi,
        (View::Plain, _) | (View::Auto, Enforce::Any) => ViewSetting::Plain,
    };
    let enforce = match enforce {
        Enforce::Any => EnforceSetting::Any,
        Enforce::RequirePi => EnforceSetting::RequirePi,
    };
    DesiredGrant { host, nvme_view: setting, iscsi_view: setting, enforce }
}

async fn desired_hosts(conn: &mut Conn) -> Result<Vec<DesiredHost>> {
    let mut merged: HashMap<HostId, Vec<HostId>> = HashMap::new();
    for (alias, host) in hosts::aliases(conn).await? {
        merged.entry(host).or_default().push(alias);
    }
    Ok(hosts::all(conn)
        .await?
        .into_iter()
        .map(|row| {
            let mut aliases = merged.remove(&row.id).unwrap_or_default();
            aliases.sort_unstable();
            DesiredHost { id: row.id, name: row.name, nqn: row.nqn, iqn: row.iqn, aliases }
        })
        .collect())
}
