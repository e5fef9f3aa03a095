//! What is lost stays within bounds: those of the page that was damaged, and of the volume.

use super::*;

/// A map with some cells, on a medium, and its entry.
fn stored(shape: CellShape, cells: u64, filled: impl Iterator<Item = u64>) -> (Medium, Entry) {
    let (mut tree, mut medium) = (Tree::new(u64::MAX), Medium::default());
    tree.add(volume(0), shape, cells);
    for cell in filled {
        tree.set(volume(0), cell, &image_with(shape, DATA + cell, 0xff));
    }
    tree.begin_checkpoint();
    while let Some(page) = tree.next_to_write() {
        let pointer = medium.write(&tree.image_for_write(page, 1).unwrap().clone());
        tree.written_to(page, pointer);
    }
    let (height, root) = tree.written(volume(0));
    (medium, Entry { shape, cells, height, root })
}

/// The map as it is opened when pages of this level cannot be read.
fn opened(medium: &Medium, entry: &Entry, lost_level: u8) -> Tree {
    let mut tree = Tree::new(u64::MAX);
    tree.add(volume(0), entry.shape, entry.cells);
    let mut wanted: Vec<Wanted> = tree.want_root(volume(0), entry.height, entry.root).into_iter().collect();
    while let Some(next) = wanted.pop() {
        match next.level == lost_level {
            true => tree.lose(&next).unwrap(),
            false => tree.load(&next, &medium.pages[&next.at.slot], &mut wanted).unwrap(),
        }
    }
    tree
}

fn is_lost(tree: &Tree, shape: CellShape, cell: u64) -> bool {
    tree.get(volume(0), cell) == Some(lost_image(shape))
}

#[test]
fn part_of_a_lost_page_that_is_deallocated_is_holes() {
    for (shape, level) in SHAPES.into_iter().flat_map(|shape| [(shape, 0), (shape, 1)]) {
        let cells = 300 * shape.cells_per_leaf();
        let (medium, entry) = stored(shape, cells, (0..cells).step_by(7));
        let mut tree = opened(&medium, &entry, level);
        let gone = 50..2 * shape.cells_per_leaf() + 5;
        tree.trim(volume(0), gone.clone(), 1, &mut |_| panic!("what is lost has no slot"));
        for cell in 0..cells {
            let expected = !gone.contains(&cell);
            assert_eq!(is_lost(&tree, shape, cell), expected, "{shape:?} cell {cell} of level {level}");
            assert!(expected || tree.get(volume(0), cell).is_none());
        }
        tree.trim(volume(0), 0..cells, 2, &mut |_| ());
        while tree.has_detached() {
            tree.reap(10, &mut |_, _| panic!("what is lost has no slot"));
        }
        assert_eq!((tree.pages(), tree.cells_live()), (0, 0));
    }
}

#[test]
fn nothing_is_lost_behind_the_end_of_a_volume_that_grows() {
    for (shape, level) in SHAPES.into_iter().flat_map(|shape| [(shape, 0), (shape, 1), (shape, 2)]) {
        let cells = 260 * shape.cells_per_leaf() + 10;
        let (medium, entry) = stored(shape, cells, (0..cells).step_by(7));
        let mut tree = opened(&medium, &entry, level);
        tree.set(volume(0), cells - 1, &image_with(shape, DATA, 1));
        assert!(tree.live(volume(0)) <= cells, "{} of {cells}", tree.live(volume(0)));
        tree.grow(volume(0), cells * 1000);
        let behind = (cells..cells + 2000).chain((cells..cells * 1000).step_by(4001));
        for cell in behind {
            assert_eq!(tree.get(volume(0), cell), None, "{shape:?} cell {cell} of level {level}");
        }
        assert!((0..cells - 1).all(|cell| is_lost(&tree, shape, cell)));
    }
}

#[test]
fn what_a_page_says_behind_the_end_of_its_volume_does_not_count() {
    for shape in SHAPES {
        let cells = 300 * shape.cells_per_leaf();
        let (medium, entry) = stored(shape, cells, 0..cells);
        let shorter = Entry { cells: 256 * shape.cells_per_leaf() + 3, ..entry };
        let mut tree = opened(&medium, &shorter, u8::MAX);
        assert_eq!(tree.live(volume(0)), shorter.cells);
        tree.grow(volume(0), cells);
        assert!((shorter.cells..cells).all(|cell| tree.get(volume(0), cell).is_none()));
        tree.trim(volume(0), 0..cells, 1, &mut |_| ());
        assert_eq!(tree.cells_live(), 0);
    }
}
