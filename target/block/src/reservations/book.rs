//! Reservations as all cores see them: each volume's own core puts them here when it has changed them. It alone decides and
//! admits; the others find here what they report, and refuse early what it would refuse.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Reservations;
use crate::VolumeId;

/// The reservations of all volumes of all cores. Locked when they change and when somebody asks for them, never on the way of
/// an I/O, which looks at the number of changes alone.
#[derive(Debug, Default)]
pub struct ReservationBook {
    changes: AtomicU64,
    volumes: Mutex<HashMap<VolumeId, Arc<Reservations>>>,
}

impl ReservationBook {
    /// Changes so far, of whatever volume.
    pub fn changes(&self) -> u64 {
        self.changes.load(Ordering::Acquire)
    }

    /// The reservations of a volume: none if it never had any.
    pub fn of(&self, volume: VolumeId) -> Arc<Reservations> {
        self.lock().get(&volume).cloned().unwrap_or_default()
    }

    /// Puts the reservations of a volume here, or takes them away, and gives the number of changes.
    pub(crate) fn set(&self, volume: VolumeId, reservations: Option<Arc<Reservations>>) -> u64 {
        let mut volumes = self.lock();
        match reservations {
            Some(reservations) => drop(volumes.insert(volume, reservations)),
            None => drop(volumes.remove(&volume)),
        }
        self.changes.fetch_add(1, Ordering::Release) + 1
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<VolumeId, Arc<Reservations>>> {
        self.volumes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
