//! Layout version 1, written by hand after its description and not by the code under test: a pool that another
//! build has made must open.

use holdfast_pi::guard_of;

use super::*;

/// Offsets of `config()`'s areas, added up from the description.
const ENTRY: usize = 4096 + 2 * 128;
const MAP: usize = 4096 + 1024 * 128;
const SMALL_RECORDS: usize = MAP + 64 * 4096;
const SMALL_DATA: usize = SMALL_RECORDS + 2048 * 32;
const LARGE_RECORDS: usize = SMALL_DATA + 2048 * 512;
const LARGE_DATA: usize = LARGE_RECORDS + 512 * 32;
const END: usize = LARGE_DATA + 512 * 4096;

fn words(memory: &mut [u8], offset: usize, words: &[u64]) {
    for (place, word) in memory[offset..].chunks_mut(8).zip(words) {
        place.copy_from_slice(&word.to_ne_bytes());
    }
}

fn version_1() -> Vec<u8> {
    let mut memory = vec![0; END];
    let half = 512 << 10;
    words(&mut memory, 0, &[u64::from_be_bytes(*b"HFmempol"), 1, POOL, half, half, 64 * 4096]);
    let sum = guard_of(GuardKind::Crc64, &memory[8..48]);
    words(&mut memory, 48, &[sum, 0, 0, 1]);
    // Volume 9: 600 blocks of 4096 bytes, type 1, 16-bit guards; its map is 2 high and begins in page 5.
    memory[ENTRY + 16..ENTRY + 32].fill(0xaa);
    memory[ENTRY + 32..ENTRY + 48].fill(0xbb);
    words(&mut memory, ENTRY + 8, &[9]);
    words(&mut memory, ENTRY + 48, &[4096 | 1 << 16 | 16 << 24, 600, 6 << 8 | 2]);
    let seal = guard_of(GuardKind::Crc64, &memory[ENTRY + 8..ENTRY + 56]) | 1;
    words(&mut memory, ENTRY, &[seal]);
    // Its block 519 is word 7 of its second leaf, page 3; it lies in slot 9 and is of host 33.
    words(&mut memory, MAP + 5 * 4096 + 8, &[4]);
    words(&mut memory, MAP + 3 * 4096 + 7 * 8, &[10]);
    memory[LARGE_DATA + 9 * 4096..][..4096].fill(0xcc);
    let record = LARGE_RECORDS + 9 * 32;
    memory[record..record + 8].fill(0xdd);
    words(&mut memory, record + 16, &[33, 2 | 519 << 8 | 2 << 54]);
    memory
}

#[test]
fn a_pool_of_layout_version_1_opens() {
    assert_eq!(MemoryPool::<Vec<u8>>::layout_len(&config()), Ok(END));
    let mut stores = stores_of(MemoryPool::open(version_1()).unwrap());
    audit_all(&stores);
    let (pool, volume) = stores.volumes().next().unwrap();
    assert_eq!(pool, pool_id());
    let format = format(4096, 8);
    let (uuid, nguid) = ([0xaa; 16], [0xbb; 16]);
    let id = volume_id(9);
    assert_eq!(volume.spec, VolumeSpec { id, uuid, nguid, block_len: 4096, block_count: 600, format });
    assert_eq!(volume.usage.blocks_allocated, 1);
    let slots = pin(&mut stores, id, 518, 3);
    assert!(slots[0].is_hole() && slots[2].is_hole());
    assert_eq!(stores.data(id, slots[1]).unwrap(), [0xcc; 4096]);
    assert_eq!(stores.location(id, slots[1]).unwrap().offset, LARGE_DATA + 9 * 4096);
    let mut tuple = [0; 16];
    tuple[..8].fill(0xdd);
    let (provenance, writer) = (Provenance::HostGood, HostId::new(33));
    assert_eq!(stores.record(id, slots[1]), BlockRecord { tuple, provenance, writer });
}

#[test]
fn a_pool_is_made_as_layout_version_1() {
    let mut stores = stores_of(pool_in(&config()));
    let id = volume_id(9);
    let spec =
        VolumeSpec { uuid: [0xaa; 16], nguid: [0xbb; 16], format: format(4096, 8), ..spec(9, 4096, 600) };
    stores.create_volume(pool_id(), &spec).unwrap();
    publish_record(&mut stores, id);
    let made = stores.into_pool().medium.memory;
    let model = version_1();
    assert_eq!(made[..64], model[..64], "header");
    assert_eq!(made[4096 + 8..4096 + 64], model[ENTRY + 8..ENTRY + 64], "table entry");
    assert_eq!(made[LARGE_RECORDS..][..24], model[LARGE_RECORDS + 9 * 32..][..24], "record");
    assert_eq!(made.load_u64(LARGE_RECORDS + 24), Some(2 | 519 << 8), "address");
    assert_eq!(made[LARGE_DATA..][..4096], [0xcc; 4096]);
}

/// Block 519 as in [`version_1`].
fn publish_record(stores: &mut Stores<Vec<u8>>, id: VolumeId) {
    let mut slots = Vec::new();
    stores.reserve(id, Lba(0), BlockCount::new(1), &mut slots).unwrap();
    stores.data_mut(id, slots[0]).unwrap().fill(0xcc);
    let mut tuple = [0; 16];
    tuple[..8].fill(0xdd);
    let record = BlockRecord { tuple, provenance: Provenance::HostGood, writer: HostId::new(33) };
    stores.set_record(id, slots[0], &record);
    publish(stores, id, 519, slots).unwrap();
}
