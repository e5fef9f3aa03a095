//! What the worlds of both front ends stand on: the block layer over a memory pool, and the way from there to a host.

use std::sync::Arc;

use holdfast_block::attribution::{FaultReport, FaultSink};
use holdfast_block::{CounterBook, PoolId, Service, ServiceLimits, TransmitSink, VolumeInfo};
use holdfast_store::{MemoryPool, PoolConfig, Stores, VolumeSpec};

const POOL_BYTES: u64 = 1 << 20;
const IN_FLIGHT_BYTES: u64 = 1 << 20;
const MAP_BYTES: u64 = 1 << 20;

/// The block layer.
pub(crate) type Port = Service<Stores<Vec<u8>>, Nobody>;

/// Takes reports of failed checks, of which there are many.
pub(crate) struct Nobody;

impl FaultSink for Nobody {
    fn report(&mut self, _: FaultReport) {}
}

fn pool() -> PoolId {
    PoolId::new(1).unwrap()
}

/// A block layer with these volumes in one pool, and its counters.
pub(crate) fn port(volumes: &[VolumeInfo]) -> (Port, Arc<CounterBook>) {
    let config = PoolConfig {
        in_flight_bytes: IN_FLIGHT_BYTES,
        map_bytes: MAP_BYTES,
        ..PoolConfig::new(pool(), POOL_BYTES)
    };
    let memory = vec![0; MemoryPool::<Vec<u8>>::layout_len(&config).unwrap()];
    let mut stores = Stores::new();
    stores.add_pool(0, MemoryPool::create(memory, &config).unwrap()).unwrap();
    for info in volumes {
        let VolumeInfo { id, block_len, block_count, format, uuid, nguid } = *info;
        let spec = VolumeSpec { id, uuid, nguid, block_len, block_count, format };
        stores.create_volume(pool(), &spec).unwrap();
    }
    let counters = Arc::new(CounterBook::default());
    (Service::new(stores, Nobody, Arc::clone(&counters), ServiceLimits::default()), counters)
}

enum Piece {
    Inline(Vec<u8>),
    Region { offset: usize, len: usize },
    Zeroes(usize),
}

/// A batch, to be put together when the pool's memory can be looked at.
#[derive(Default)]
pub(crate) struct Batch(Vec<Piece>);

impl TransmitSink for Batch {
    fn inline(&mut self, bytes: &[u8]) {
        self.0.push(Piece::Inline(bytes.to_vec()));
    }
    fn region(&mut self, region: u16, offset: usize, len: usize) {
        assert_eq!(region, 0, "there is one pool");
        self.0.push(Piece::Region { offset, len });
    }
    fn zeroes(&mut self, len: usize) {
        self.0.push(Piece::Zeroes(len));
    }
}

impl Batch {
    /// Puts it behind what has come before.
    pub(crate) fn arrive(self, port: &Port, inbox: &mut Vec<u8>) {
        let memory = port.store().pool(pool()).unwrap().memory();
        for piece in self.0 {
            match piece {
                Piece::Inline(bytes) => inbox.extend_from_slice(&bytes),
                Piece::Region { offset, len } => inbox.extend_from_slice(&memory[offset..offset + len]),
                Piece::Zeroes(len) => inbox.resize(inbox.len() + len, 0),
            }
        }
    }
}
