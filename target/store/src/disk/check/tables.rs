//! The directory and both tables, each page in two copies.

use holdfast_block::{HostId, VolumeId};

use super::super::format::{
    DIRECTORY_ENTRIES, Page, PageHeader, PageKind, PagePointer, Superblock, VOLUME_PAGES, VOLUME_PLACES,
    VOLUMES_PER_PAGE, VolumeEntry, WRITER_PAGES, WRITER_PLACES, WRITERS_PER_PAGE, directory_entry,
    verify_page, volume, writer,
};
use super::Check;
use super::report::{Problem, Structure};

/// What the tables say; after a replay, what they would say then.
pub(super) struct Tables {
    /// Volumes by place.
    pub(super) volumes: Vec<Option<VolumeEntry>>,
    /// Places whose entry cannot be known.
    pub(super) unknown: Vec<bool>,
    hosts: Vec<Option<HostId>>,
    /// Pages of writers that cannot be known.
    hosts_unknown: Vec<bool>,
}

impl Tables {
    /// Reads the tables of a checkpoint.
    pub(super) fn read(check: &mut Check<'_>, superblock: &Superblock) -> Tables {
        let mut tables = Tables {
            volumes: vec![None; VOLUME_PLACES],
            unknown: vec![false; VOLUME_PLACES],
            hosts: vec![None; WRITER_PLACES],
            hosts_unknown: vec![false; WRITER_PAGES],
        };
        let of_directory = PageHeader::of_table(PageKind::Directory, 0, 0);
        let directory = match read_copies(check, Structure::Directory, superblock.directory, &of_directory) {
            Copies::None => return tables,
            Copies::Lost => {
                tables.unknown.fill(true);
                tables.hosts_unknown.fill(true);
                return tables;
            }
            Copies::Page(page) => page,
        };
        for (entry, index) in (0..DIRECTORY_ENTRIES).zip(0_u64..) {
            let copies = directory_entry(&directory, entry);
            if entry < VOLUME_PAGES {
                let header = PageHeader::of_table(PageKind::Volumes, index, 0);
                let page = read_copies(check, Structure::VolumeTable, copies, &header);
                tables.take_volumes(check, entry, &page);
            } else if entry < VOLUME_PAGES + WRITER_PAGES {
                let index = index - VOLUME_PAGES as u64;
                let header = PageHeader::of_table(PageKind::Writers, index, 0);
                let page = read_copies(check, Structure::WriterTable, copies, &header);
                tables.take_writers(entry - VOLUME_PAGES, &page);
            }
        }
        tables
    }

    fn take_volumes(&mut self, check: &mut Check<'_>, page_index: usize, copies: &Copies) {
        let first = page_index * VOLUMES_PER_PAGE;
        for place in 0..VOLUMES_PER_PAGE {
            let read = match copies {
                Copies::None => continue,
                Copies::Page(page) => volume(page, place),
                Copies::Lost => {
                    self.unknown.get_mut(first + place).into_iter().for_each(|unknown| *unknown = true);
                    continue;
                }
            };
            let number = first + place;
            let found = match read {
                Ok(None) => continue,
                Err(error) => Err(error.to_string()),
                Ok(Some(entry)) if number >= VOLUME_PLACES => {
                    Err(format!("volume {} has no place", entry.id))
                }
                Ok(Some(entry)) if self.find(entry.id).is_some() => {
                    Err(format!("volume {} is there twice", entry.id))
                }
                Ok(Some(entry)) => Ok(entry),
            };
            match found {
                Ok(entry) => {
                    self.volumes.get_mut(number).into_iter().for_each(|volume| *volume = Some(entry))
                }
                Err(what) => {
                    self.unknown.get_mut(number).into_iter().for_each(|unknown| *unknown = true);
                    let what = format!("place {number}: {what}");
                    check.findings.add(Structure::VolumeTable, Problem::VolumeImpossible, None, what);
                }
            }
        }
    }

    fn take_writers(&mut self, page_index: usize, copies: &Copies) {
        let page = match copies {
            Copies::None => return,
            Copies::Page(page) => page,
            Copies::Lost => {
                self.hosts_unknown.get_mut(page_index).into_iter().for_each(|unknown| *unknown = true);
                return;
            }
        };
        let places = self.hosts.iter_mut().skip(page_index * WRITERS_PER_PAGE);
        for (host, place) in places.zip(0..WRITERS_PER_PAGE) {
            *host = HostId::new(writer(page, place));
        }
    }

    /// A volume by its identifier.
    fn find(&self, id: VolumeId) -> Option<usize> {
        self.volumes.iter().position(|volume| volume.as_ref().is_some_and(|volume| volume.id == id))
    }

    /// The volume at a place.
    pub(super) fn volume(&self, place: u32) -> Option<&VolumeEntry> {
        self.volumes.get(usize::try_from(place).ok()?)?.as_ref()
    }

    /// Whether a place's entry was lost.
    pub(super) fn is_unknown(&self, place: u32) -> bool {
        usize::try_from(place).ok().and_then(|place| self.unknown.get(place)).is_some_and(|unknown| *unknown)
    }

    pub(super) fn set_volume(&mut self, place: u32, entry: Option<VolumeEntry>) {
        let place = usize::try_from(place).ok().and_then(|place| self.volumes.get_mut(place));
        place.into_iter().for_each(|volume| *volume = entry);
    }

    pub(super) fn set_host(&mut self, index: u16, host: HostId) {
        self.hosts.get_mut(usize::from(index)).into_iter().for_each(|place| *place = Some(host));
    }

    /// Whether a writer's index means a host, or may do so: what was lost accuses nobody.
    pub(super) fn knows_writer(&self, index: u16) -> bool {
        let index = usize::from(index);
        let lost = self.hosts_unknown.get(index / WRITERS_PER_PAGE).is_some_and(|unknown| *unknown);
        lost || self.hosts.get(index).is_some_and(Option::is_some)
    }
}

/// What two pointers to copies of one page lead to.
enum Copies {
    None,
    Page(Box<Page>),
    Lost,
}

fn read_copies(
    check: &mut Check<'_>,
    structure: Structure,
    copies: [PagePointer; 2],
    expected: &PageHeader,
) -> Copies {
    if copies.iter().all(|pointer| pointer.is_none()) {
        return Copies::None;
    }
    let mut kept: Option<Box<Page>> = None;
    for (pointer, copy) in copies.into_iter().zip(0..) {
        let name = |what: String| format!("page {} copy {copy}: {what}", expected.index);
        if !check.layout.is_data(pointer.slot) {
            let what = name(format!("slot {} cannot hold it", pointer.slot));
            check.findings.add(structure, Problem::CopyDamaged, Some(pointer.slot), what);
            continue;
        }
        check.looked_at.table_pages += 1;
        if check.claim(pointer.slot).is_err() {
            let what = name("another structure has this slot, too".to_owned());
            check.findings.add(structure, Problem::SlotTwice, Some(pointer.slot), what);
        }
        let page = match check.slot(pointer.slot) {
            Ok(page) => page,
            Err(error) => {
                let what = name(error.to_string());
                check.findings.add(structure, Problem::CopyUnreadable, Some(pointer.slot), what);
                continue;
            }
        };
        let verdict = verify_page(&page, pointer.checksum, expected).map(|_| ());
        match (verdict, &kept) {
            (Err(error), _) => {
                check.findings.add(
                    structure,
                    Problem::CopyDamaged,
                    Some(pointer.slot),
                    name(error.to_string()),
                );
            }
            (Ok(()), Some(first)) if **first != page => {
                let what = name("differs from the other copy".to_owned());
                check.findings.add(structure, Problem::CopiesContradict, Some(pointer.slot), what);
            }
            (Ok(()), Some(_)) => {}
            (Ok(()), None) => kept = Some(Box::new(page)),
        }
    }
    match kept {
        Some(page) => Copies::Page(page),
        None => {
            let what = format!("page {}: no copy is right", expected.index);
            check.findings.add(structure, Problem::CopiesLost, None, what);
            Copies::Lost
        }
    }
}
