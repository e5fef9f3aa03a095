//! Regions: ranges of mappings that sends may gather from, and that files are read into and written from, by number. A
//! region that is taken away stays mapped until the last send and request with it is over.

use crate::mapping::Region;

/// Names a registered region. It stays invalid for ever once the region is unregistered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RegionId {
    index: u32,
    generation: u32,
}

#[derive(Default)]
struct Slot {
    region: Option<Region>,
    generation: u32,
    /// Segments of sends in flight that read from the region, and requests of files with it.
    uses: usize,
    retiring: bool,
}

/// All regions of one reactor.
#[derive(Default)]
pub(crate) struct RegionTable {
    slots: Vec<Slot>,
}

impl RegionTable {
    pub(crate) fn register(&mut self, region: Region) -> RegionId {
        let free = self.slots.iter().position(|slot| slot.region.is_none());
        let index = free.unwrap_or_else(|| {
            self.slots.push(Slot::default());
            self.slots.len() - 1
        });
        let generation = self.slots.get_mut(index).map_or(0, |slot| {
            slot.region = Some(region);
            slot.generation
        });
        RegionId { index: u32::try_from(index).unwrap_or(u32::MAX), generation }
    }

    /// Whether the region existed. From now on new sends are refused; the mapping goes with the last use.
    pub(crate) fn unregister(&mut self, id: RegionId) -> bool {
        match self.slot(id) {
            Some(slot) if !slot.retiring => {
                slot.retiring = true;
                slot.free_if_unused();
                true
            }
            _ => false,
        }
    }

    /// Counts one more segment in flight. `false`, and nothing counted, if the region is gone or too short.
    pub(crate) fn acquire(&mut self, id: RegionId, offset: usize, len: usize) -> bool {
        match self.slot(id) {
            Some(slot) if !slot.retiring => {
                let fits = slot.region.as_ref().is_some_and(|region| region.pointer(offset, len).is_some());
                slot.uses += usize::from(fits);
                fits
            }
            _ => false,
        }
    }

    /// Takes back one [`RegionTable::acquire`].
    pub(crate) fn release(&mut self, id: RegionId) {
        let Some(slot) = self.slot(id) else {
            debug_assert!(false, "a region in use was freed");
            return;
        };
        debug_assert!(slot.uses > 0, "a region was released more often than acquired");
        slot.uses = slot.uses.saturating_sub(1);
        slot.free_if_unused();
    }

    /// Where the kernel finds `len` bytes at `offset`.
    pub(crate) fn pointer(&self, id: RegionId, offset: usize, len: usize) -> Option<*const u8> {
        let slot = self.slots.get(usize::try_from(id.index).ok()?)?;
        if slot.generation != id.generation {
            return None;
        }
        slot.region.as_ref()?.pointer(offset, len)
    }

    /// What keeps an acquired region mapped beyond this table.
    pub(crate) fn handle(&self, id: RegionId) -> Option<Region> {
        let slot = self.slots.get(usize::try_from(id.index).ok()?)?;
        if slot.generation == id.generation { slot.region.clone() } else { None }
    }

    fn slot(&mut self, id: RegionId) -> Option<&mut Slot> {
        let slot = self.slots.get_mut(usize::try_from(id.index).ok()?)?;
        (slot.generation == id.generation && slot.region.is_some()).then_some(slot)
    }
}

impl Slot {
    fn free_if_unused(&mut self) {
        if self.retiring && self.uses == 0 {
            self.region = None;
            self.retiring = false;
            self.generation = self.generation.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Mapping;

    #[test]
    fn region_in_use_outlives_its_registration() {
        let mut table = RegionTable::default();
        let mapping = Mapping::create("regions-in-use", 4096).unwrap();
        let id = table.register(mapping.region());
        assert!(table.acquire(id, 0, 4096));
        assert!(table.unregister(id));
        assert!(table.pointer(id, 0, 4096).is_some(), "the send in flight still finds it");
        assert!(!table.acquire(id, 0, 1), "a new send does not");
        table.release(id);
        assert!(table.pointer(id, 0, 4096).is_none());
        assert!(!table.unregister(id));
    }

    #[test]
    fn stale_region_id_never_names_its_successor() {
        let mut table = RegionTable::default();
        let mapping = Mapping::create("regions-stale", 4096).unwrap();
        let first = table.register(mapping.region());
        assert!(table.unregister(first));
        let second = table.register(mapping.region());
        assert_ne!(first, second);
        assert!(!table.acquire(first, 0, 1));
        assert!(table.acquire(second, 0, 1));
    }

    #[test]
    fn ranges_beyond_a_region_are_refused() {
        let mut table = RegionTable::default();
        let mapping = Mapping::create("regions-range", 4096).unwrap();
        let id = table.register(mapping.region());
        assert!(!table.acquire(id, 0, 4097));
        assert!(!table.acquire(id, 4096, 1));
        assert!(!table.acquire(id, usize::MAX, 2));
        assert!(table.acquire(id, 4095, 1));
    }
}
