//! Reading a journal block: nothing of it counts unless all of it can be.

use holdfast_block::{HostId, VolumeId};
use thiserror::Error;
use zerocopy::FromBytes;
use zerocopy::little_endian::U64;

use super::{JOURNAL_MAGIC, JOURNAL_VERSION, JournalStamp, RecordKind, WireHeader, WireRecord, set_header};
use crate::disk::format::{
    CellError, CellRef, CellShape, EntryError, NUMBERS_MAX, Page, VOLUME_ENTRY_LEN, VOLUME_PLACES,
    VolumeEntry, WRITER_PLACES, checksum_of,
};

/// The rule that a record does not keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RecordError {
    /// Fewer bytes than its head says, or fewer or more records than the header.
    #[error("the records do not fill what the header says")]
    Length,
    /// A kind that does not exist.
    #[error("kind {kind} with block length 2^{block_shift} does not exist")]
    Kind {
        /// The kind's number.
        kind: u8,
        /// The block length's exponent, 0 but for cells.
        block_shift: u8,
    },
    /// No cell, or some beyond 2^64.
    #[error("{cells} cells from cell {first_cell} on cannot be")]
    Cells {
        /// First.
        first_cell: u64,
        /// Count.
        cells: u64,
    },
    /// A place beyond the volume table.
    #[error("the volume table has no place {0}")]
    Volume(u32),
    /// An index beyond the writer table, or no host.
    #[error("host {host:016x} at {index} of the writer table cannot be")]
    Writer {
        /// The index.
        index: u64,
        /// The host's identifier.
        host: u64,
    },
    /// An image that cannot be.
    #[error("cell {cell}: {error}")]
    Cell {
        /// The cell.
        cell: u64,
        /// The rule.
        error: CellError,
    },
    /// A volume that cannot be, or none.
    #[error("{0}")]
    Entry(#[from] EntryError),
}

/// Why a block is none, or cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum JournalError {
    /// Not a block of a journal.
    #[error("there is no journal block")]
    Magic,
    /// A block of another pool.
    #[error("the journal block belongs to another pool")]
    Tag,
    /// Torn, or rotten.
    #[error("the journal block does not have its checksum")]
    Checksum,
    /// A block as it was written, in a format that this program does not know.
    #[error("the journal block has version {0}")]
    Version(u16),
    /// A block as it was written, but with a number or a promise that cannot be.
    #[error("journal block {number} cannot know block {durable_through} durable")]
    Number {
        /// The block's number.
        number: u64,
        /// What it says is durable.
        durable_through: u64,
    },
    /// A block as it was written, but with a record that cannot be.
    #[error("record {index} of journal block {number}: {error}")]
    Record {
        /// The block's number.
        number: u64,
        /// The record, from 0.
        index: u16,
        /// The rule.
        error: RecordError,
    },
}

impl JournalError {
    /// Whether a crash can leave this where the block should be: then the block is missing. Everything else was
    /// written as it is and means that the pool is damaged or of another program.
    pub fn is_missing(&self) -> bool {
        match self {
            JournalError::Magic | JournalError::Tag | JournalError::Checksum => true,
            JournalError::Version(_) | JournalError::Number { .. } | JournalError::Record { .. } => false,
        }
    }
}

/// A block whose checksum is right and whose every record can be.
#[derive(Debug, Clone, Copy)]
pub struct JournalBlock<'a> {
    stamp: JournalStamp,
    records: Records<'a>,
}

impl<'a> JournalBlock<'a> {
    /// Reads a block of the pool with this tag. Whether its number is the one that its place should have is for the
    /// caller to see: an older one means that the wanted block is missing.
    ///
    /// # Errors
    /// See [`JournalError`], above all [`JournalError::is_missing`].
    pub fn decode(block: &'a Page, pool_tag: u64) -> Result<JournalBlock<'a>, JournalError> {
        let (header, records) = WireHeader::ref_from_prefix(block).map_err(|_| JournalError::Magic)?;
        if header.magic != JOURNAL_MAGIC {
            return Err(JournalError::Magic);
        }
        if header.pool_tag != pool_tag {
            return Err(JournalError::Tag);
        }
        let mut unsealed = *block;
        set_header(&mut unsealed, WireHeader { checksum: 0.into(), ..*header });
        if checksum_of(&unsealed) != header.checksum.get() {
            return Err(JournalError::Checksum);
        }
        if header.version != JOURNAL_VERSION {
            return Err(JournalError::Version(header.version.get()));
        }
        let stamp = header.stamp();
        let JournalStamp { number, durable_through, .. } = stamp;
        if durable_through >= number || number >= NUMBERS_MAX {
            return Err(JournalError::Number { number, durable_through });
        }
        let too_long = JournalError::Record { number, index: 0, error: RecordError::Length };
        let records = records.get(..usize::from(header.used.get())).ok_or(too_long)?;
        let records = Records::new(header.records.get(), records);
        let mut rest = records;
        for index in 0..header.records.get() {
            rest.step().map_err(|error| JournalError::Record { number, index, error })?;
        }
        if !rest.bytes.is_empty() {
            let index = header.records.get();
            return Err(JournalError::Record { number, index, error: RecordError::Length });
        }
        Ok(JournalBlock { stamp, records })
    }

    /// What it says beside its records.
    pub fn stamp(&self) -> &JournalStamp {
        &self.stamp
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.stamp.number
    }

    /// Its records, in the order in which they take effect.
    pub fn records(&self) -> Records<'a> {
        self.records
    }
}

/// What a block tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record<'a> {
    /// Cells in a row are as their images say.
    Cells {
        /// The volume's place in the table.
        volume: u32,
        /// The first of them.
        first_cell: u64,
        /// The images' shape, which is the volume's.
        shape: CellShape,
        /// Image after image.
        images: &'a [u8],
    },
    /// Cells in a row are holes.
    Trim {
        /// The volume's place in the table.
        volume: u32,
        /// The first of them.
        first_cell: u64,
        /// How many, at least one.
        cells: u64,
    },
    /// A volume is as its entry says. Map and counts count only if the volume is new at its place.
    PutVolume {
        /// Its place in the table.
        volume: u32,
        /// The volume.
        entry: VolumeEntry,
    },
    /// A volume is no more.
    DeleteVolume {
        /// Its place in the table.
        volume: u32,
        /// Its identifier.
        id: VolumeId,
    },
    /// The index of a writer means this host.
    Writer {
        /// The index, below [`WRITER_PLACES`].
        index: u16,
        /// The host.
        host: HostId,
    },
}

impl<'a> Record<'a> {
    /// The place in the volume table that it speaks of.
    pub fn volume(&self) -> Option<u32> {
        match *self {
            Record::Cells { volume, .. }
            | Record::Trim { volume, .. }
            | Record::PutVolume { volume, .. }
            | Record::DeleteVolume { volume, .. } => Some(volume),
            Record::Writer { .. } => None,
        }
    }

    /// The cells of [`Record::Cells`] with their numbers; none of others.
    pub fn cells(&self) -> impl Iterator<Item = (u64, CellRef<'a>)> + use<'a> {
        let (first_cell, shape, images): (u64, CellShape, &'a [u8]) = match *self {
            Record::Cells { first_cell, shape, images, .. } => (first_cell, shape, images),
            Record::Trim { .. }
            | Record::PutVolume { .. }
            | Record::DeleteVolume { .. }
            | Record::Writer { .. } => (0, CellShape::Large, &[]),
        };
        let images =
            images.chunks_exact(shape.image_len()).filter_map(move |image| CellRef::new(shape, image));
        // A record never reaches beyond 2^64.
        (0..).zip(images).map(move |(index, image)| (first_cell.saturating_add(index), image))
    }
}

/// The records of a block, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Records<'a> {
    left: u16,
    bytes: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    fn next(&mut self) -> Option<Record<'a>> {
        self.left = self.left.checked_sub(1)?;
        // Every record was looked at when the block was read.
        self.step().ok()
    }
}

impl<'a> Records<'a> {
    /// So many records in these bytes.
    pub(super) fn new(left: u16, bytes: &'a [u8]) -> Records<'a> {
        Records { left, bytes }
    }

    fn step(&mut self) -> Result<Record<'a>, RecordError> {
        let (head, rest) = WireRecord::ref_from_prefix(self.bytes).map_err(|_| RecordError::Length)?;
        let kind = head.kind()?;
        let len = match kind {
            RecordKind::Cells(shape) => usize::from(head.count.get()) * shape.image_len(),
            RecordKind::Trim | RecordKind::DeleteVolume => size_of::<u64>(),
            RecordKind::PutVolume => VOLUME_ENTRY_LEN,
            RecordKind::Writer => 2 * size_of::<u64>(),
        };
        let (body, rest) = rest.split_at_checked(len).ok_or(RecordError::Length)?;
        self.bytes = rest;
        head.read(kind, body)
    }
}

impl WireRecord {
    fn kind(&self) -> Result<RecordKind, RecordError> {
        match (self.kind, self.block_shift) {
            (1, 9) => Ok(RecordKind::Cells(CellShape::Small)),
            (1, 12) => Ok(RecordKind::Cells(CellShape::Large)),
            (2, 0) => Ok(RecordKind::Trim),
            (3, 0) => Ok(RecordKind::PutVolume),
            (4, 0) => Ok(RecordKind::DeleteVolume),
            (5, 0) => Ok(RecordKind::Writer),
            (kind, block_shift) => Err(RecordError::Kind { kind, block_shift }),
        }
    }

    fn read<'a>(&self, kind: RecordKind, body: &'a [u8]) -> Result<Record<'a>, RecordError> {
        let (volume, first_cell) = (self.volume.get(), self.first_cell.get());
        if usize::try_from(volume).is_ok_and(|place| place >= VOLUME_PLACES) {
            return Err(RecordError::Volume(volume));
        }
        let cells_can_be = |cells: u64| match cells > 0 && first_cell.checked_add(cells).is_some() {
            true => Ok(cells),
            false => Err(RecordError::Cells { first_cell, cells }),
        };
        match kind {
            RecordKind::Cells(shape) => {
                cells_can_be(self.count.get().into())?;
                let record = Record::Cells { volume, first_cell, shape, images: body };
                for (cell, image) in record.cells() {
                    image.check().map_err(|error| RecordError::Cell { cell, error })?;
                }
                Ok(record)
            }
            RecordKind::Trim => Ok(Record::Trim { volume, first_cell, cells: cells_can_be(word(body, 0))? }),
            RecordKind::PutVolume => {
                let entry = VolumeEntry::decode(body)?.ok_or(EntryError::Empty)?;
                Ok(Record::PutVolume { volume, entry })
            }
            RecordKind::DeleteVolume => {
                let id = VolumeId::new(word(body, 0)).ok_or(EntryError::Empty)?;
                Ok(Record::DeleteVolume { volume, id })
            }
            RecordKind::Writer => {
                let (index, host) = (word(body, 0), word(body, 1));
                let place = u16::try_from(index).ok().filter(|place| usize::from(*place) < WRITER_PLACES);
                let (index, host) =
                    place.zip(HostId::new(host)).ok_or(RecordError::Writer { index, host })?;
                Ok(Record::Writer { index, host })
            }
        }
    }
}

/// Word `place` of a body; 0 beyond it.
fn word(body: &[u8], place: usize) -> u64 {
    let word = body.get(place * size_of::<u64>()..).and_then(|rest| U64::ref_from_prefix(rest).ok());
    word.map_or(0, |(word, _)| word.get())
}

impl WireHeader {
    fn stamp(&self) -> JournalStamp {
        JournalStamp {
            pool_tag: self.pool_tag.get(),
            number: self.number.get(),
            durable_through: self.durable_through.get(),
            generation: self.generation.get(),
        }
    }
}
