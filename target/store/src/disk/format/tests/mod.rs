//! Facts about the format: what is written is read again, what is damaged is refused, and no bytes are a panic.

mod offsets;

use holdfast_block::{HostId, PoolId, VolumeId};
use holdfast_pi::{GuardKind, PiFormat, PiType};
use proptest::prelude::*;

use super::*;

const EMPTY: Page = [0; SLOT_LEN];
const TAG: u64 = 0x1122_3344_5566_7788;

fn superblock() -> Superblock {
    Superblock {
        features: Features::default(),
        uuid: *b"0123456789abcdef",
        id: PoolId::new(7).unwrap(),
        name: Name::new("größe").unwrap(),
        layout: Layout::of(64 << 20).unwrap(),
        generation: 3,
        journal_start: 11,
        durable_through: 12,
        next_number: 13,
        clean: true,
        directory: [PagePointer { slot: 400, checksum: 1 }, PagePointer { slot: 401, checksum: 1 }],
        allocation: PagePointer::NONE,
        zeroed_through: 1000,
    }
}

fn volume_entry() -> VolumeEntry {
    VolumeEntry {
        id: VolumeId::new(0x99).unwrap(),
        uuid: [3; 16],
        nguid: [4; 16],
        name: Name::new("v1").unwrap(),
        shape: CellShape::Large,
        block_count: 1000,
        format: Some(PiFormat::new(PiType::Type1, GuardKind::Crc64, 4096, 16).unwrap()),
        height: 2,
        root: PagePointer { slot: 500, checksum: 0xfeed },
        cells_live: 10,
        blocks_live: 10,
    }
}

/// A cell with a slot whose every block is filled.
fn image_of(shape: CellShape, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; shape.image_len()];
    let mut cell = CellMut::new(shape, &mut bytes).unwrap();
    cell.set_slot(seed & 0xff_ffff_ffff | 1);
    cell.set_checksum(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    for sector in 0..cell.as_ref().sectors() {
        let tuple: Vec<u8> = (0..).take(shape.tuple_len()).map(|byte| byte ^ seed.to_le_bytes()[0]).collect();
        cell.set_block(sector, BlockState::HostGood, u16::try_from(sector).unwrap() + 5, &tuple);
    }
    bytes
}

#[test]
fn superblock_is_read_as_it_was_written() {
    let mut page = EMPTY;
    for copy in [0, 1] {
        superblock().encode(copy, &mut page);
        assert_eq!(&page[..8], b"HOLDFSTP");
        assert_eq!(Superblock::decode(copy, &page), Ok(superblock()));
        assert_eq!(
            Superblock::decode(1 - copy, &page),
            Err(SuperblockError::Copy { expected: 1 - copy, found: copy })
        );
    }
    assert_eq!(superblock().journal_tag().to_le_bytes(), *b"01234567");
}

#[test]
fn every_changed_byte_of_a_superblock_is_noticed() {
    let mut page = EMPTY;
    superblock().encode(0, &mut page);
    for at in 0..SLOT_LEN {
        page[at] ^= 0x10;
        assert!(Superblock::decode(0, &page).is_err(), "byte {at}");
        page[at] ^= 0x10;
    }
    assert!(Superblock::decode(0, &page).is_ok());
}

#[test]
fn superblock_that_cannot_be_is_refused_by_its_rule() {
    type Change = fn(&mut Superblock);
    let decoded = |change: Change| {
        let (mut changed, mut page) = (superblock(), EMPTY);
        change(&mut changed);
        changed.encode(0, &mut page);
        Superblock::decode(0, &page)
    };
    assert_eq!(decoded(|block| block.features.incompatible = 4), Err(SuperblockError::Features(4)));
    assert!(decoded(|block| block.features.read_only_compatible = 4).is_ok());
    assert!(decoded(|block| block.features.compatible = 4).is_ok());
    let numbers = |start, next, durable| Err(SuperblockError::Numbers { start, next, durable });
    assert_eq!(decoded(|block| block.journal_start = 14), numbers(14, 13, 12));
    assert_eq!(decoded(|block| block.journal_start = 0), numbers(0, 13, 12));
    assert_eq!(decoded(|block| block.durable_through = 13), numbers(11, 13, 13));
    assert_eq!(decoded(|block| block.next_number = NUMBERS_MAX), numbers(11, NUMBERS_MAX, 12));
    assert_eq!(decoded(|block| block.generation = NUMBERS_MAX), numbers(11, 13, 12));
    assert_eq!(decoded(|block| block.directory[1].slot = 300), Err(SuperblockError::Pointer(300)));
    assert_eq!(decoded(|block| block.directory[0].slot = 1 << 50), Err(SuperblockError::Pointer(1 << 50)));
}

#[test]
fn layout_follows_the_device() {
    for mib in [8, 9, 64, 1000, 5000, 1 << 20, 1 << 31] {
        let layout = Layout::of(mib << 20).unwrap();
        assert_eq!(layout.slots(), mib * 256);
        assert_eq!(layout.journal_slots(), (layout.slots() / 256).clamp(64, 65_536));
        assert_eq!(layout.data_first(), 256 + layout.journal_slots());
        assert_eq!(layout.journal_slot(layout.journal_slots() + 3), 259);
        assert!(layout.is_data(layout.data_first()) && layout.is_data(layout.slots() - 1));
        assert!(!layout.is_data(layout.data_first() - 1) && !layout.is_data(layout.slots()));
    }
    assert_eq!(Layout::of((8 << 20) - 1), Err(LayoutError::Slots(2047)));
    assert!(Layout::of(u64::MAX).is_err());
    assert!(Layout::from_superblock(4096, 255, 64).is_err());
    assert!(Layout::from_superblock(4096, 256, 63).is_err());
    assert!(Layout::from_superblock(4096, 256, 4096).is_err());
}

#[test]
fn every_changed_byte_of_a_page_is_noticed() {
    let header = PageHeader::of_map(3, 1, 9, 77);
    let mut page = EMPTY;
    header.encode(&mut page);
    for place in 0..CHILDREN_PER_PAGE {
        set_pointer(&mut page, place, PagePointer { slot: 300 + place as u64, checksum: place as u64 });
    }
    let checksum = page_checksum(&page);
    assert_eq!(verify_page(&page, checksum, &PageHeader { generation: 0, ..header }), Ok(header));
    for at in 0..SLOT_LEN {
        page[at] ^= 1;
        assert_eq!(verify_page(&page, checksum, &header), Err(PageError::Checksum), "byte {at}");
        page[at] ^= 1;
    }
    for (place, byte) in [(4, 2), (5, 9), (6, 3), (8, 4), (16, 1)] {
        let mut other = page;
        other[place] = byte;
        let error = verify_page(&other, page_checksum(&other), &header).unwrap_err();
        assert_ne!(error, PageError::Checksum, "byte {place}");
    }
    assert_eq!(verify_page(&EMPTY, page_checksum(&EMPTY), &header), Err(PageError::Magic));
}

#[test]
fn contents_of_pages_do_not_overlap() {
    let header = PageHeader::of_table(PageKind::Volumes, 4, 1);
    let mut page = EMPTY;
    header.encode(&mut page);
    for place in 0..VOLUMES_PER_PAGE + 1 {
        let entry = VolumeEntry { block_count: 100 + place as u64, ..volume_entry() };
        set_volume(&mut page, place, Some(&entry));
    }
    assert_eq!(PageHeader::decode(&page), Ok(header));
    for place in 0..VOLUMES_PER_PAGE {
        assert_eq!(volume(&page, place).unwrap().unwrap().block_count, 100 + place as u64);
    }
    set_volume(&mut page, 3, None);
    assert_eq!((volume(&page, 3), volume(&page, VOLUMES_PER_PAGE)), (Ok(None), Ok(None)));

    (0..WRITERS_PER_PAGE + 1).for_each(|place| set_writer(&mut page, place, 5 + place as u64));
    assert_eq!(PageHeader::decode(&page), Ok(header));
    assert!((0..WRITERS_PER_PAGE).all(|place| writer(&page, place) == 5 + place as u64));
    assert_eq!(writer(&page, WRITERS_PER_PAGE), 0);

    for shape in [CellShape::Large, CellShape::Small] {
        for place in 0..usize::try_from(shape.cells_per_leaf()).unwrap() {
            image_mut(&mut page, shape, place).copy_from_slice(&image_of(shape, place as u64));
        }
        assert_eq!(PageHeader::decode(&page), Ok(header));
        for place in 0..usize::try_from(shape.cells_per_leaf()).unwrap() {
            assert_eq!(image(&page, shape, place), image_of(shape, place as u64));
        }
        assert!(image(&page, shape, usize::try_from(shape.cells_per_leaf()).unwrap()).is_empty());
    }

    let copies = [PagePointer { slot: 1, checksum: 2 }, PagePointer { slot: 3, checksum: 4 }];
    set_directory_entry(&mut page, DIRECTORY_ENTRIES - 1, copies);
    assert_eq!(directory_entry(&page, DIRECTORY_ENTRIES - 1), copies);
    assert_eq!(directory_entry(&page, DIRECTORY_ENTRIES), [PagePointer::NONE; 2]);
}

#[test]
fn map_of_every_volume_has_a_height() {
    for shape in [CellShape::Large, CellShape::Small] {
        assert_eq!(shape.span(0), Some(shape.cells_per_leaf()));
        assert_eq!(shape.span(2), Some(shape.cells_per_leaf() * 254 * 254));
        assert_eq!(shape.height_for(1), Some(1));
        assert_eq!(shape.height_for(shape.cells_per_leaf() + 1), Some(2));
        assert_eq!(shape.height_for(shape.cells_of(BLOCKS_MAX)), Some(HEIGHT_MAX));
        assert_eq!(shape.span(MAP_LEVEL_MAX + 1), None);
    }
}

#[test]
fn volume_entry_that_cannot_be_is_refused_by_its_rule() {
    let bytes = volume_entry().encode();
    assert_eq!(VolumeEntry::decode(&bytes), Ok(Some(volume_entry())));
    let with = |at: usize, byte: u8| {
        let mut bytes = bytes;
        bytes[at] = byte;
        VolumeEntry::decode(&bytes).unwrap_err()
    };
    assert_eq!(with(104, 1), EntryError::BlockLen(4097));
    assert_eq!(with(108, 4), EntryError::Protection { pi_type: 4, guard: 3, storage_tag_bits: 16 });
    assert_eq!(with(110, 49), EntryError::Protection { pi_type: 1, guard: 3, storage_tag_bits: 49 });
    assert_eq!(with(111, 0), EntryError::Root { height: 0, root: 500 });
    assert_eq!(with(111, 7), EntryError::Root { height: 7, root: 500 });
    assert_eq!(with(40, 0xff), EntryError::Name);
    assert_eq!(with(60, b'x'), EntryError::Name);
    assert_eq!(with(119, 1), EntryError::BlockCount(1000 | 1 << 56));
    assert_eq!(with(136, 9), EntryError::Live { cells: 9, blocks: 10 });
    assert_eq!(VolumeEntry::decode(&[0; VOLUME_ENTRY_LEN]), Ok(None));
    assert_eq!(VolumeEntry::decode(&bytes[1..]), Err(EntryError::Empty));
}

#[test]
fn names_are_text_of_64_bytes() {
    let longest = "ä".repeat(32);
    assert_eq!(Name::new(&longest).unwrap().as_str(), longest);
    assert_eq!(Name::EMPTY.as_str(), "");
    assert!(Name::new(&format!("{longest}x")).is_none());
    assert!(Name::new("a\0b").is_none() && Name::new("a\n").is_none());
}

#[test]
fn image_that_cannot_be_is_refused_by_its_rule() {
    for shape in [CellShape::Large, CellShape::Small] {
        let check = |change: &dyn Fn(&mut CellMut<'_>)| {
            let mut bytes = image_of(shape, 0x1234);
            let mut cell = CellMut::new(shape, &mut bytes).unwrap();
            change(&mut cell);
            cell.as_ref().check()
        };
        assert_eq!(check(&|_| ()), Ok(()));
        assert_eq!(check(&|cell| cell.clear()), Ok(()));
        assert_eq!(check(&|cell| cell.set_slot(0)), Err(CellError::NoSlot));
        let all =
            |state| move |cell: &mut CellMut<'_>| (0..8).for_each(|at| cell.set_block(at, state, 0, &[]));
        assert_eq!(check(&all(BlockState::Uncorrectable)), Err(CellError::IdleSlot));
        assert_eq!(
            check(&|cell| {
                all(BlockState::Lost)(cell);
                cell.set_slot(0);
            }),
            Err(CellError::IdleSlot)
        );
        assert_eq!(
            check(&|cell| {
                all(BlockState::Lost)(cell);
                cell.set_slot(0);
                cell.set_checksum(0);
            }),
            Ok(())
        );
        let hole = |cell: &mut CellMut<'_>| cell.set_block(0, BlockState::Hole, 1, &[]);
        assert_eq!(check(&hole), Err(CellError::HoleNotEmpty { sector: 0 }));
        assert_eq!(check(&|cell| cell.set_block(9, BlockState::Hole, 1, &[])), Ok(()), "no such block");
        assert!(CellRef::new(shape, &[0; 33]).is_none());
    }
    let mut bytes = image_of(CellShape::Small, 1);
    bytes[103] = 6;
    let cell = CellRef::new(CellShape::Small, &bytes).unwrap();
    assert_eq!(cell.check(), Err(CellError::State { sector: 7, state: 6 }));
    assert_eq!((cell.state(7), cell.blocks_live()), (BlockState::Lost, 8));
}

#[test]
fn checksum_of_a_cell_binds_everything_but_its_slot() {
    for shape in [CellShape::Large, CellShape::Small] {
        let bytes = image_of(shape, 0x55);
        let sum = |bytes: &[u8], crc, volume, cell| {
            cell_checksum(crc, volume, cell, CellRef::new(shape, bytes).unwrap())
        };
        let right = sum(&bytes, 1, 2, 3);
        assert_ne!(sum(&bytes, 9, 2, 3), right);
        assert_ne!(sum(&bytes, 1, 9, 3), right);
        assert_ne!(sum(&bytes, 1, 2, 9), right);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 0x80;
            let of_place = at < 5 || (8..16).contains(&at);
            assert_eq!(sum(&changed, 1, 2, 3) == right, of_place, "byte {at}");
        }
    }
}

#[test]
fn cells_in_a_row_share_a_record_until_the_block_is_full() {
    for (shape, most) in [(CellShape::Large, 125), (CellShape::Small, 38)] {
        let (mut block, mut builder) = (EMPTY, JournalBuilder::new());
        assert_eq!(builder.cells_free(1, 100, shape), most);
        for index in 0..most as u64 {
            let image = image_of(shape, index);
            assert!(builder.push_cell(&mut block, 1, 100 + index, CellRef::new(shape, &image).unwrap()));
        }
        assert!(builder.add_cell(&mut block, 1, 100 + most as u64, shape).is_none());
        let stamp = JournalStamp { pool_tag: TAG, number: 9, durable_through: 8, generation: 2 };
        builder.finish(&mut block, &stamp);
        let read = JournalBlock::decode(&block, TAG).unwrap();
        assert_eq!(*read.stamp(), stamp);
        let records: Vec<Record<'_>> = read.records().collect();
        assert_eq!(records.len(), 1);
        let cells: Vec<_> = records[0].cells().collect();
        assert_eq!(cells.len(), most);
        for (index, (cell, image)) in (0..).zip(cells) {
            assert_eq!((cell, image.bytes()), (100 + index, image_of(shape, index).as_slice()));
        }
    }
}

#[test]
fn every_kind_of_record_is_read_as_it_was_written() {
    let (mut block, mut builder) = ([0xee; SLOT_LEN], JournalBuilder::new());
    let (large, small) = (image_of(CellShape::Large, 1), image_of(CellShape::Small, 2));
    let large = CellRef::new(CellShape::Large, &large).unwrap();
    let small = CellRef::new(CellShape::Small, &small).unwrap();
    let entry = volume_entry();
    let host = HostId::new(77).unwrap();
    assert!(builder.is_empty());
    assert!(builder.push_volume(&mut block, 1023, &entry));
    assert!(builder.push_writer(&mut block, 16_383, host));
    assert!(builder.push_cell(&mut block, 1, 5, large));
    assert!(builder.push_cell(&mut block, 1, 6, large));
    assert!(builder.push_cell(&mut block, 2, 7, small));
    assert!(builder.push_cell(&mut block, 2, 9, small));
    assert!(builder.push_trim(&mut block, 1, 4, 1 << 40));
    assert!(builder.push_cell(&mut block, 2, 10, small));
    assert!(builder.push_delete(&mut block, 1, entry.id));
    let stamp = JournalStamp { pool_tag: TAG, number: 1, durable_through: 0, generation: 0 };
    builder.finish(&mut block, &stamp);
    let two = [large.bytes(), large.bytes()].concat();
    let of_small =
        |first_cell| Record::Cells { volume: 2, first_cell, shape: CellShape::Small, images: small.bytes() };
    let expected = [
        Record::PutVolume { volume: 1023, entry },
        Record::Writer { index: 16_383, host },
        Record::Cells { volume: 1, first_cell: 5, shape: CellShape::Large, images: &two },
        of_small(7),
        of_small(9),
        Record::Trim { volume: 1, first_cell: 4, cells: 1 << 40 },
        of_small(10),
        Record::DeleteVolume { volume: 1, id: entry.id },
    ];
    assert!(JournalBlock::decode(&block, TAG).unwrap().records().eq(expected));

    let stamp = JournalStamp { number: 2, ..stamp };
    builder.finish(&mut block, &stamp);
    assert_eq!(JournalBlock::decode(&block, TAG).unwrap().number(), 2, "sealed anew");
}

#[test]
fn every_changed_byte_of_a_journal_block_is_a_missing_block() {
    let (mut block, mut builder) = (EMPTY, JournalBuilder::new());
    assert!(builder.push_trim(&mut block, 1, 4, 5));
    builder.finish(&mut block, &JournalStamp { pool_tag: TAG, number: 1, durable_through: 0, generation: 0 });
    assert_eq!(JournalBlock::decode(&block, TAG + 1).unwrap_err(), JournalError::Tag);
    for at in 0..SLOT_LEN {
        block[at] ^= 4;
        assert!(JournalBlock::decode(&block, TAG).is_err_and(|error| error.is_missing()), "byte {at}");
        block[at] ^= 4;
    }
}

#[test]
fn record_that_cannot_be_is_damage() {
    let sealed = |push: &dyn Fn(&mut JournalBuilder, &mut Page) -> bool| {
        let (mut block, mut builder) = (EMPTY, JournalBuilder::new());
        assert!(push(&mut builder, &mut block));
        builder.finish(
            &mut block,
            &JournalStamp { pool_tag: TAG, number: 5, durable_through: 4, generation: 0 },
        );
        let error = JournalBlock::decode(&block, TAG).unwrap_err();
        assert!(!error.is_missing());
        match error {
            JournalError::Record { number: 5, index: 0, error } => error,
            other => panic!("{other}"),
        }
    };
    let writer = sealed(&|builder, block| builder.push_writer(block, 16_384, HostId::new(1).unwrap()));
    assert_eq!(writer, RecordError::Writer { index: 16_384, host: 1 });
    assert_eq!(sealed(&|builder, block| builder.push_trim(block, 1024, 0, 1)), RecordError::Volume(1024));
    let none = RecordError::Cells { first_cell: 3, cells: 0 };
    assert_eq!(sealed(&|builder, block| builder.push_trim(block, 0, 3, 0)), none);
    let beyond = RecordError::Cells { first_cell: u64::MAX, cells: 1 };
    assert_eq!(sealed(&|builder, block| builder.push_trim(block, 0, u64::MAX, 1)), beyond);
    let idle = sealed(&|builder, block| {
        builder.add_cell(block, 0, 8, CellShape::Large).is_some_and(|mut image| {
            image.set_slot(4);
            true
        })
    });
    assert_eq!(idle, RecordError::Cell { cell: 8, error: CellError::IdleSlot });
}

fn resealed(mut block: Page) -> Page {
    block[..4].copy_from_slice(b"HFJB");
    block[8..16].copy_from_slice(&TAG.to_le_bytes());
    block[56..64].fill(0);
    let checksum = checksum_of(&block);
    block[56..64].copy_from_slice(&checksum.to_le_bytes());
    block
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_never_a_panic(
        bytes in prop::collection::vec(any::<u8>(), SLOT_LEN),
        records in 0_u16..6,
        used in 0_u16..200,
        kinds in prop::collection::vec((0_u8..7, prop::sample::select(vec![0_u8, 9, 12])), 4),
    ) {
        let mut page: Page = bytes.try_into().unwrap();
        let _ = Superblock::decode(0, &page);
        let _ = PageHeader::decode(&page);
        page[..8].copy_from_slice(&POOL_MAGIC);
        page[4088..].fill(0);
        let checksum = checksum_of(&page);
        page[4088..].copy_from_slice(&checksum.to_le_bytes());
        prop_assert!(Superblock::decode(0, &page).is_err());
        for place in 0..300 {
            let _ = (pointer(&page, place), volume(&page, place), writer(&page, place));
            for shape in [CellShape::Large, CellShape::Small] {
                if let Some(cell) = CellRef::new(shape, image(&page, shape, place)) {
                    let _ = (cell.check(), cell.slot(), cell.blocks_live(), cell_checksum(1, 2, 3, cell));
                }
            }
        }
        page[4..8].copy_from_slice(&[1, 0, records.to_le_bytes()[0], 0]);
        page[16..32].copy_from_slice(&[[9, 0, 0, 0, 0, 0, 0, 0], [0; 8]].concat());
        page[40..42].copy_from_slice(&used.to_le_bytes());
        for (index, (kind, shift)) in kinds.into_iter().enumerate() {
            page[64 + 24 * index..][..8].copy_from_slice(&[kind, shift, 1, 0, 1, 0, 0, 0]);
        }
        if let Ok(block) = JournalBlock::decode(&resealed(page), TAG) {
            prop_assert_eq!(block.records().count(), usize::from(records));
        }
    }

    #[test]
    fn image_is_read_as_it_was_written(
        large: bool, slot in 0_u64..1 << 40, checksum: u64, blocks in prop::collection::vec((0_u8..6, any::<u16>(), any::<[u8; 16]>()), 8),
    ) {
        let shape = if large { CellShape::Large } else { CellShape::Small };
        let mut bytes = vec![0; shape.image_len()];
        let mut cell = CellMut::new(shape, &mut bytes).unwrap();
        cell.set_slot(slot);
        cell.set_checksum(checksum);
        for (sector, (state, writer, tuple)) in blocks.iter().enumerate() {
            cell.set_block(sector, BlockState::from_number(*state).unwrap(), *writer, tuple);
        }
        let cell = cell.as_ref();
        prop_assert_eq!((cell.slot(), cell.checksum()), (slot, checksum));
        for (sector, (state, writer, tuple)) in blocks.iter().enumerate().take(cell.sectors()) {
            prop_assert_eq!(cell.state(sector).number(), *state);
            prop_assert_eq!(cell.writer(sector), *writer);
            prop_assert_eq!(cell.tuple(sector), &tuple[..shape.tuple_len()]);
        }
    }

    #[test]
    fn volume_entry_is_read_as_it_was_written(
        id in 1_u64.., uuid: [u8; 16], nguid: [u8; 16], name in "[a-zé]{0,20}", small: bool, block_count in 1..=BLOCKS_MAX,
        pi in 0_u8..4, height in 0..=HEIGHT_MAX, slot in 1_u64.., checksum: u64,
    ) {
        let shape = if small { CellShape::Small } else { CellShape::Large };
        let entry = VolumeEntry {
            id: VolumeId::new(id).unwrap(),
            uuid,
            nguid,
            name: Name::new(&name).unwrap(),
            shape,
            block_count,
            format: PiType::from_number(pi)
                .map(|pi| PiFormat::new(pi, GuardKind::Crc16, shape.block_len(), 0).unwrap()),
            height,
            root: if height == 0 { PagePointer::NONE } else { PagePointer { slot, checksum } },
            cells_live: shape.cells_of(block_count),
            blocks_live: block_count,
        };
        prop_assert_eq!(VolumeEntry::decode(&entry.encode()), Ok(Some(entry)));
    }
}
