//! Blocks with tuples of a host's own: written at one time, and demanded as they were at another.

use anyhow::{Result, ensure};
use holdfast_testkit::pi::{PiFormat, Tags};
use holdfast_testkit::{Io, Session};

/// Blocks of the sample, from block 0 on.
pub const BLOCKS: u32 = 16;
/// Bytes of a block.
pub const BLOCK_BYTES: usize = 4096;
/// Bytes of a block with its tuple.
pub const WIRE_BYTES: usize = BLOCK_BYTES + 8;

/// The sample number `seed` as it travels.
#[must_use]
pub fn wire(seed: u8) -> Vec<u8> {
    let data = [seed; BLOCK_BYTES].repeat(BLOCKS as usize);
    PiFormat::default().protect(&data, BLOCK_BYTES, Tags::counting(0))
}

/// Where it lies, with every check that type 1 has.
#[must_use]
pub fn checked() -> Io {
    Io::at(0, BLOCKS).check_guard().check_ref().ref_tag(0)
}

/// Writes a sample.
///
/// # Errors
/// When it is refused.
pub fn write(session: &mut Session, seed: u8) -> Result<()> {
    session.io(1).write(1, &checked(), &wire(seed))?.ok()?;
    Ok(())
}

/// What is there instead, checked by the target.
///
/// # Errors
/// When it cannot be read.
pub fn read(session: &mut Session) -> Result<Vec<u8>> {
    Ok(session.io(1).read(1, &checked(), WIRE_BYTES * BLOCKS as usize)?.ok()?.data)
}

/// Demands a sample, with the tuples that it was written with.
///
/// # Errors
/// When it is not there.
pub fn expect(session: &mut Session, seed: u8) -> Result<()> {
    let found = read(session)?;
    let first: Vec<u8> = found.chunks(WIRE_BYTES).filter_map(|block| block.first().copied()).collect();
    ensure!(found == wire(seed), "not sample {seed}: blocks that begin with {first:?}");
    Ok(())
}
