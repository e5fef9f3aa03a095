//! Facts about where bytes are, by the offsets that FORMAT.md tells and by nothing else.

use super::*;

fn number(bytes: &[u8], offset: usize, len: usize) -> u64 {
    let mut word = [0; 8];
    word[..len].copy_from_slice(&bytes[offset..offset + len]);
    u64::from_le_bytes(word)
}

#[test]
fn checksum_is_the_one_of_the_catalogues() {
    assert_eq!(checksum_of(b"123456789"), 0xae8b_1486_0a79_9888);
}

#[test]
fn superblock_lies_as_documented() {
    let superblock = Superblock {
        features: Features { compatible: 1, read_only_compatible: 2, incompatible: 0 },
        clean: false,
        zeroed_through: 77,
        ..superblock()
    };
    let mut page = EMPTY;
    superblock.encode(1, &mut page);
    assert_eq!(&page[..8], b"HOLDFSTP");
    let words = [
        (8, 4, 1),
        (12, 4, 1),
        (16, 8, 1),
        (24, 8, 2),
        (32, 8, 0),
        (56, 8, 7),
        (128, 8, 16_384),
        (136, 8, 256),
        (144, 8, 64),
        (152, 8, 3),
        (160, 8, 11),
        (168, 8, 12),
        (176, 8, 13),
        (184, 4, 0),
        (192, 8, 400),
        (200, 8, 1),
        (208, 8, 401),
        (216, 8, 1),
        (224, 8, 0),
        (232, 8, 0),
        (240, 8, 77),
    ];
    for (offset, len, value) in words {
        assert_eq!(number(&page, offset, len), value, "offset {offset}");
    }
    assert_eq!(&page[40..56], b"0123456789abcdef");
    assert_eq!(page[64..73], *"größe\0\0".as_bytes());
    assert!(page[248..4088].iter().all(|byte| *byte == 0));
    let checksum = number(&page, 4088, 8);
    page[4088..].fill(0);
    assert_eq!(checksum, checksum_of(&page));
}

#[test]
fn pages_lie_as_documented() {
    let mut page = EMPTY;
    let header = PageHeader { kind: PageKind::Inner, level: 2, volume: 3, index: 4, generation: 5 };
    header.encode(&mut page);
    assert_eq!(&page[..4], b"HFPG");
    assert_eq!(page[4..8], [1, 4, 2, 0]);
    assert_eq!(
        [number(&page, 8, 4), number(&page, 12, 4), number(&page, 16, 8), number(&page, 24, 8)],
        [3, 0, 4, 5]
    );

    set_pointer(&mut page, 253, PagePointer { slot: 6, checksum: 7 });
    assert_eq!((number(&page, 4080, 8), number(&page, 4088, 8)), (6, 7));
    set_directory_entry(
        &mut page,
        1,
        [PagePointer { slot: 8, checksum: 9 }, PagePointer { slot: 10, checksum: 11 }],
    );
    assert_eq!([64, 72, 80, 88].map(|offset| number(&page, offset, 8)), [8, 9, 10, 11]);
    set_writer(&mut page, 507, 12);
    assert_eq!(number(&page, 4088, 8), 12);
    assert_eq!((VOLUME_PAGES, WRITER_PAGES), (69, 33));

    image_mut(&mut page, CellShape::Large, 126).fill(13);
    assert_eq!(page[4064..], [13; 32]);
    image_mut(&mut page, CellShape::Small, 38).fill(14);
    assert_eq!(page[3984..4088], [14; 104]);
    set_volume(&mut page, 14, Some(&volume_entry()));
    assert_eq!(number(&page, 32 + 14 * 256, 8), 0x99);
}

#[test]
fn volume_entry_lies_as_documented() {
    let entry = VolumeEntry { cells_live: 20, blocks_live: 20, ..volume_entry() }.encode();
    let words = [
        (0, 8, 0x99),
        (104, 4, 4096),
        (108, 1, 1),
        (109, 1, 3),
        (110, 1, 16),
        (111, 1, 2),
        (112, 8, 1000),
        (120, 8, 500),
        (128, 8, 0xfeed),
        (136, 8, 20),
        (144, 8, 20),
    ];
    for (offset, len, value) in words {
        assert_eq!(number(&entry, offset, len), value, "offset {offset}");
    }
    assert_eq!((entry[8..24].to_vec(), entry[24..40].to_vec()), (vec![3; 16], vec![4; 16]));
    assert_eq!(&entry[40..43], b"v1\0");
    assert!(entry[152..].iter().all(|byte| *byte == 0));
}

#[test]
fn images_lie_as_documented_and_their_checksum_is_of_these_bytes() {
    let mut large = vec![0; 32];
    let mut image = CellMut::new(CellShape::Large, &mut large).unwrap();
    image.set_slot(0x01_0203_0405);
    image.set_block(0, BlockState::HostBadGuard, 0x0607, &[8; 8]);
    image.set_checksum(9);
    assert_eq!(
        [number(&large, 0, 5), number(&large, 5, 1), number(&large, 6, 2), number(&large, 8, 8)],
        [0x01_0203_0405, 3, 0x0607, 9]
    );
    assert_eq!(large[16..], [[8; 8], [0; 8]].concat());

    let mut small = vec![0; 104];
    let mut image = CellMut::new(CellShape::Small, &mut small).unwrap();
    image.set_slot(5);
    image.set_checksum(6);
    image.set_block(7, BlockState::HostGood, 0x0102, &[7; 16]);
    assert_eq!([number(&small, 0, 5), number(&small, 8, 8)], [5, 6]);
    assert_eq!((&small[72..80], number(&small, 94, 2), small[103]), (&[7; 8][..], 0x0102, 2));

    for (shape, image) in [(CellShape::Large, large), (CellShape::Small, small)] {
        let sum = cell_checksum(1, 2, 3, CellRef::new(shape, &image).unwrap());
        let mut summed: Vec<u8> = [1_u64, 2, 3].iter().flat_map(|word| word.to_le_bytes()).collect();
        summed.extend_from_slice(&[0; 5]);
        summed.extend_from_slice(&image[5..8]);
        summed.extend_from_slice(&[0; 8]);
        summed.extend_from_slice(&image[16..]);
        assert_eq!(sum, checksum_of(&summed));
    }
}

#[test]
fn journal_lies_as_documented() {
    let (mut block, mut builder) = (EMPTY, JournalBuilder::new());
    let image = image_of(CellShape::Small, 1);
    let host = HostId::new(0x51).unwrap();
    assert!(builder.push_cell(&mut block, 2, 3, CellRef::new(CellShape::Small, &image).unwrap()));
    assert!(builder.push_trim(&mut block, 4, 5, 6));
    assert!(builder.push_volume(&mut block, 7, &volume_entry()));
    assert!(builder.push_delete(&mut block, 8, VolumeId::new(9).unwrap()));
    assert!(builder.push_writer(&mut block, 10, host));
    builder
        .finish(&mut block, &JournalStamp { pool_tag: TAG, number: 21, durable_through: 20, generation: 19 });
    assert_eq!(&block[..4], b"HFJB");
    let used = 16 + 104 + 16 + 8 + 16 + 256 + 16 + 8 + 16 + 16;
    let words =
        [(4, 2, 1), (6, 2, 5), (8, 8, TAG), (16, 8, 21), (24, 8, 20), (32, 8, 19), (40, 2, used), (42, 8, 0)];
    for (offset, len, value) in words {
        assert_eq!(number(&block, offset, len), value, "offset {offset}");
    }
    let head = |at: usize| {
        [(0, 1), (1, 1), (2, 2), (4, 4), (8, 8)].map(|(offset, len)| number(&block, at + offset, len))
    };
    assert_eq!((head(64), &block[80..184]), ([1, 9, 1, 2, 3], &image[..]));
    assert_eq!((head(184), number(&block, 200, 8)), ([2, 0, 1, 4, 5], 6));
    assert_eq!((head(208), &block[224..480]), ([3, 0, 1, 7, 0], &volume_entry().encode()[..]));
    assert_eq!((head(480), number(&block, 496, 8)), ([4, 0, 1, 8, 0], 9));
    assert_eq!((head(504), number(&block, 520, 8), number(&block, 528, 8)), ([5, 0, 1, 0, 0], 10, 0x51));
    assert!(block[536..].iter().all(|byte| *byte == 0));
    let checksum = number(&block, 56, 8);
    block[56..64].fill(0);
    assert_eq!(checksum, checksum_of(&block));
}
