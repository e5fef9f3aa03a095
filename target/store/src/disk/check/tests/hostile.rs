//! Pools that somebody made to do harm: every checksum is right, everything else may be anything. A check ends, with
//! findings and without a panic, and so does an opening, which fails exactly where the check says that it must.

use proptest::prelude::*;

use super::super::super::format::*;
use super::super::*;
use super::pool::Pool;
use crate::disk::tests::Disk;
use crate::disk::{DiskLimits, DiskPool};

/// A page that is changed before its checksum is made, where, and to what.
#[derive(Debug, Clone)]
struct Change {
    page: &'static str,
    offset: usize,
    bytes: Vec<u8>,
}

fn change() -> impl Strategy<Value = Change> {
    let pages = ["large root", "small root", "large leaf", "small leaf", "volumes", "writers", "directory"];
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..40),
        prop::collection::vec(0_u8..4, 1..300),
        // Slot numbers that can be.
        (320_u16..2048).prop_map(|slot| slot.to_le_bytes().to_vec()),
    ];
    let offset = prop_oneof![0_usize..200, 0..SLOT_LEN, (0_usize..254).prop_map(|place| 32 + 16 * place)];
    (prop::sample::select(pages.to_vec()), offset, bytes).prop_map(|(page, offset, bytes)| Change {
        page,
        offset,
        bytes,
    })
}

/// Journal blocks: number, what is durable, and records of which only kind and shape are likely.
type Block = (u64, u64, Vec<(u8, u8, u16, u32, u64, Vec<u8>)>);

fn block() -> impl Strategy<Value = Block> {
    let volume = prop_oneof![Just(0_u32), Just(17), any::<u32>()];
    let cell = prop_oneof![0_u64..1100, any::<u64>()];
    let body = prop::collection::vec(prop_oneof![0_u8..3, any::<u8>()], 0..300);
    let shift = prop::sample::select(vec![0_u8, 9, 12]);
    let record = (0_u8..7, shift, 0_u16..5, volume, cell, body);
    (prop_oneof![1_u64..80, any::<u64>()], any::<u64>(), prop::collection::vec(record, 0..6))
}

/// The block's bytes with a right checksum.
fn journal_block((number, durable_through, records): &Block, pool_tag: u64) -> Page {
    let mut page = [0; SLOT_LEN];
    let mut at = 64;
    for (kind, shift, count, volume, cell, body) in records {
        let mut record = vec![*kind, *shift];
        record.extend_from_slice(&count.to_le_bytes());
        record.extend_from_slice(&volume.to_le_bytes());
        record.extend_from_slice(&cell.to_le_bytes());
        record.extend_from_slice(body);
        page[at..at + record.len()].copy_from_slice(&record);
        at += record.len();
    }
    page[..6].copy_from_slice(b"HFJB\x01\0");
    page[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_le_bytes());
    page[8..16].copy_from_slice(&pool_tag.to_le_bytes());
    page[16..24].copy_from_slice(&number.to_le_bytes());
    page[24..32].copy_from_slice(&(durable_through % number.max(&1)).to_le_bytes());
    page[40..42].copy_from_slice(&u16::try_from(at - 64).unwrap().to_le_bytes());
    let checksum = checksum_of(&page);
    page[56..64].copy_from_slice(&checksum.to_le_bytes());
    page
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn check_and_opening_end_and_agree_whatever_the_pool_is(
        change in change(),
        image in (prop::sample::select(vec![0_u32, 17]), 0_u64..2000, prop::collection::vec(0_u8..7, 104)),
        blocks in prop::collection::vec(block(), 0..6),
        numbers: [u64; 3],
        clean: bool,
    ) {
        let mut pool = Pool::with_volumes();
        let (place, cell, mut bytes) = image;
        bytes.truncate(pool.volumes[&place].shape.image_len());
        pool.set_image(place, cell, bytes);
        pool.tamper = Some((change.page, Box::new(move |page| {
            page.iter_mut().skip(change.offset).zip(&change.bytes).for_each(|(to, from)| *to = *from);
        })));
        pool.commit();
        pool.superblock.clean = clean;
        if numbers[0] % 4 == 0 {
            let mut sorted = numbers;
            sorted.sort_unstable();
            let [durable, start, next] = sorted;
            (pool.superblock.durable_through, pool.superblock.journal_start) = (durable, start);
            pool.superblock.next_number = next;
        }
        pool.write_superblocks();
        let tag = pool.superblock.journal_tag();
        for block in &blocks {
            let slot = pool.superblock.layout.journal_slot(block.0);
            *pool.page_mut(slot) = journal_block(block, tag);
        }
        let report = check(&pool.medium, CheckOptions { data: true }, &mut |_| ());
        let disk = Disk::new(pool.medium.bytes.len());
        disk.write_at(0, &pool.medium.bytes).unwrap();
        let limits = DiskLimits { map_bytes_max: 64 << 20 };
        let opened = DiskPool::open(&disk, vec![0; 2 << 20], limits, &mut |_| ());
        let fatal = report.as_ref().map_or(true, |report| report.worst == Some(Severity::Fatal));
        prop_assert_eq!(opened.is_err(), fatal, "{:?}; {:?}", opened.err(), report);
        if let Ok(report) = report {
            let extents = report.findings.iter().filter_map(|finding| finding.first_lba.zip(finding.block_count));
            for (first, count) in extents {
                prop_assert!(first.checked_add(count).is_some());
            }
        }
    }
}
