//! What a host may find after a loss of power: of each of its blocks the version that it last flushed, or any that it has
//! submitted since. NVM Express Base 2.1 §7.2 "Flush command", NVM Command Set 1.1 §3.3.6 "Write command" (FUA).

use std::fmt::{self, Display};
use std::ops::Range;

use anyhow::{Result, bail};

use crate::content::{Content, Place, describe};

/// A host's blocks on a volume. No other host writes them.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) host: &'static str,
    pub(crate) volume: u32,
    /// Block number of the first.
    pub(crate) first: u64,
    pub(crate) block_bytes: usize,
    blocks: Vec<Block>,
    writes: u32,
}

#[derive(Debug, Clone)]
struct Block {
    /// The durable version, then those that were submitted after it, in that order.
    versions: Vec<Content>,
    /// How many there were before the first of them.
    forgotten: u32,
    /// A command that touches it is under way. There is one at most, so that the order of versions is known.
    busy: bool,
    /// That command changes it to the last version.
    changing: bool,
    /// Something was flushed since the last loss of power.
    flushed: bool,
}

/// What was found after a loss of power.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Found {
    /// Blocks that were read.
    pub(crate) blocks: u64,
    /// Those of them that had been flushed since the loss before.
    pub(crate) flushed: u64,
    /// Those whose latest version was gone.
    pub(crate) reverted: u64,
}

impl std::ops::AddAssign for Found {
    fn add_assign(&mut self, other: Found) {
        self.blocks += other.blocks;
        self.flushed += other.flushed;
        self.reverted += other.reverted;
    }
}

/// A block is not what it may be.
#[derive(Debug)]
pub(crate) struct Lost(String);

impl Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Lost {}

/// Which version of each block a flush makes durable.
#[derive(Debug)]
pub(crate) struct Covered(Vec<u32>);

impl Model {
    /// Blocks that were never written.
    pub(crate) fn new(host: &'static str, volume: u32, blocks: Range<u64>, block_bytes: usize) -> Model {
        let mut model =
            Model { host, volume, first: blocks.start, block_bytes, blocks: Vec::new(), writes: 0 };
        model.grow(blocks.end - blocks.start);
        model
    }

    /// There are so many blocks now; the new ones were never written.
    pub(crate) fn grow(&mut self, count: u64) {
        let new = Block {
            versions: vec![Content::NOTHING],
            forgotten: 0,
            busy: false,
            changing: false,
            flushed: false,
        };
        self.blocks.resize(count as usize, new);
    }

    /// How many blocks there are.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// The number that the next write has.
    pub(crate) fn next_version(&mut self) -> u32 {
        self.writes += 1;
        self.writes
    }

    /// Where the block lies that is at `index` here.
    pub(crate) fn place(&self, index: usize) -> Place {
        Place { volume: self.volume, lba: self.first + index as u64 }
    }

    /// Whether no command is under way that touches any of them.
    pub(crate) fn is_idle(&self, range: Range<usize>) -> bool {
        self.blocks[range].iter().all(|block| !block.busy)
    }

    /// What they hold, while nothing changes them.
    pub(crate) fn current(&self, range: Range<usize>) -> Vec<Content> {
        self.blocks[range].iter().filter_map(|block| block.versions.last().copied()).collect()
    }

    /// A command that reads these blocks is submitted.
    pub(crate) fn start_reading(&mut self, range: Range<usize>) {
        self.blocks[range].iter_mut().for_each(|block| block.busy = true);
    }

    /// A command is submitted that changes these blocks from `start` on.
    pub(crate) fn start_changing(&mut self, start: usize, contents: &[Content]) {
        for (block, content) in self.blocks[start..].iter_mut().zip(contents) {
            block.busy = true;
            block.changing = true;
            block.versions.push(*content);
        }
    }

    /// The command on these blocks has completed; `durable`: what it wrote is on the medium.
    pub(crate) fn end(&mut self, range: Range<usize>, durable: bool) {
        for block in &mut self.blocks[range] {
            block.busy = false;
            block.changing = false;
            if durable {
                block.keep_from(block.last());
            }
        }
    }

    /// A flush is submitted.
    pub(crate) fn start_flush(&self) -> Covered {
        Covered(self.blocks.iter().map(|block| block.last() - u32::from(block.changing)).collect())
    }

    /// It has completed.
    pub(crate) fn end_flush(&mut self, covered: &Covered) {
        for (block, version) in self.blocks.iter_mut().zip(&covered.0) {
            block.keep_from(*version);
        }
    }

    /// Takes in what is there after a loss of power, from the block at `start` on: that is the only choice from now on.
    ///
    /// # Errors
    /// When something was lost, torn or parted from its tuple.
    pub(crate) fn take_in(&mut self, start: usize, wire: &[u8]) -> Result<Found> {
        let mut found = Found::default();
        let stride = self.block_bytes + crate::content::TUPLE_BYTES;
        for (index, wire) in (start..).zip(wire.chunks_exact(stride)) {
            let place = self.place(index);
            let block = &mut self.blocks[index];
            // Of two versions that look the same the later one is meant: nothing could tell them apart.
            let Some(at) = block.versions.iter().rposition(|version| version.is(place, wire)) else {
                let allowed: Vec<String> =
                    block.versions.iter().map(|version| format!("{version:?}")).collect();
                bail!(Lost(format!(
                    "host {}, volume {}, block {}: {}; it may be {} (the first was flushed)",
                    self.host,
                    self.volume,
                    place.lba,
                    describe(place, wire),
                    allowed.join(" or "),
                )));
            };
            found.blocks += 1;
            found.flushed += u64::from(block.flushed);
            found.reverted += u64::from(at + 1 < block.versions.len());
            block.versions = vec![block.versions[at]];
            (block.busy, block.changing, block.flushed) = (false, false, false);
        }
        Ok(found)
    }
}

impl Block {
    /// The number of the last version.
    fn last(&self) -> u32 {
        self.forgotten + (self.versions.len() - 1) as u32
    }

    /// Version `number` is durable.
    fn keep_from(&mut self, number: u32) {
        let older = number.saturating_sub(self.forgotten);
        self.versions.drain(..older as usize);
        self.forgotten += older;
        self.flushed = true;
    }
}
