//! The pools of a core, and the picture of what is exported from them.

use std::collections::HashMap;
use std::sync::Arc;

use holdfast_block::{Exports, PoolId, VolumeId};
use holdfast_reactor::Io;
use holdfast_store::{PoolError, Stores};

use super::Shard;
use crate::pools::{OpenPool, PoolMap};
use crate::router::VolumeHome;

impl Shard {
    /// Takes a pool in.
    pub(crate) fn add_pool(
        &mut self,
        io: &mut Io,
        id: PoolId,
        OpenPool { pool, region }: OpenPool,
    ) -> Result<(), PoolError> {
        let region = io.register_region(region);
        let place = self.regions.iter().position(Option::is_none).unwrap_or(self.regions.len());
        let number = u16::try_from(place).map_err(|_| PoolError::TableFull)?;
        if let Err(error) = self.router.local().store_mut().add_pool(number, pool) {
            io.unregister_region(region);
            return Err(error);
        }
        if place == self.regions.len() {
            self.regions.push(None);
        }
        if let Some(entry) = self.regions.get_mut(place) {
            *entry = Some((id, region));
        }
        Ok(())
    }

    /// Lets a pool without volumes go.
    pub(crate) fn remove_pool(&mut self, io: &mut Io, id: PoolId) -> Result<(), PoolError> {
        self.router.local().store_mut().remove_pool(id)?;
        for entry in &mut self.regions {
            if let Some((_, region)) = entry.take_if(|(pool, _)| *pool == id) {
                io.unregister_region(region);
            }
        }
        Ok(())
    }

    /// The pools that live here.
    pub(crate) fn stores(&mut self) -> &mut Stores<PoolMap> {
        self.router.local().store_mut()
    }

    /// Takes up a new picture: where volumes live, and who may see what. Connections are told.
    pub(crate) fn set_exports(
        &mut self,
        io: &mut Io,
        exports: Arc<Exports>,
        homes: Arc<HashMap<VolumeId, VolumeHome>>,
    ) {
        self.router.set_homes(homes);
        self.exports = exports;
        self.for_each_connection(|connection, cx| {
            connection.exports_changed(cx);
            true
        });
        self.serving = true;
        for (listener, stream) in std::mem::take(&mut self.early) {
            self.adopt(io, listener, stream);
        }
    }
}
