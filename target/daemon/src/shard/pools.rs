//! The pools of a core, and the picture of what is exported from them.

use std::collections::HashMap;
use std::sync::Arc;

use holdfast_block::{Exports, PoolId, VolumeId};
use holdfast_daemon::device::PoolMap;
use holdfast_reactor::{Io, RegionId};
use holdfast_store::{PoolError, Stores};

use super::Shard;
use crate::pools::OpenPool;
use crate::router::{LocalService, VolumeHome};

impl Shard {
    /// Takes a pool in.
    pub(crate) fn add_pool(
        &mut self,
        io: &mut Io,
        id: PoolId,
        OpenPool { pool, region }: OpenPool,
    ) -> Result<(), PoolError> {
        let region = io.register_region(region);
        let added = self.region_place().and_then(|(place, number)| {
            self.router.local().store_mut().add_pool(number, pool)?;
            Ok(place)
        });
        match added {
            Ok(place) => {
                self.take_region_place(place, (id, region));
                Ok(())
            }
            Err(error) => {
                io.unregister_region(region);
                Err(error)
            }
        }
    }

    /// A free place among the regions, and the number that the store shall know it by.
    pub(super) fn region_place(&self) -> Result<(usize, u16), PoolError> {
        let place = self.regions.iter().position(Option::is_none).unwrap_or(self.regions.len());
        Ok((place, u16::try_from(place).map_err(|_| PoolError::TableFull)?))
    }

    /// Takes that place.
    pub(super) fn take_region_place(&mut self, place: usize, region: (PoolId, RegionId)) {
        if place == self.regions.len() {
            self.regions.push(None);
        }
        if let Some(entry) = self.regions.get_mut(place) {
            *entry = Some(region);
        }
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

    /// The block layer of this core.
    pub(crate) fn service(&mut self) -> &mut LocalService {
        self.router.local()
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
