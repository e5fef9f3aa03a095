//! A pool's memory for payloads.

use holdfast_reactor::Mapping;
use holdfast_store::PoolMemory;

/// A mapping that the reactor can read from and write to.
pub(crate) struct Arena(pub Mapping);

impl PoolMemory for Arena {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn slice(&self, offset: usize, len: usize) -> Option<&[u8]> {
        self.0.slice(offset, len)
    }

    fn slice_mut(&mut self, offset: usize, len: usize) -> Option<&mut [u8]> {
        self.0.slice_mut(offset, len)
    }

    fn load_u64(&self, offset: usize) -> Option<u64> {
        self.0.load_u64(offset)
    }

    fn publish_u64(&mut self, offset: usize, value: u64) -> Option<()> {
        self.0.publish_u64(offset, value)
    }

    fn punch(&mut self, _offset: usize, _len: usize) {}
}
