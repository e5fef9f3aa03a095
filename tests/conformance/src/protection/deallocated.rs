//! Blocks that are deallocated or were never written, seen with tuples. NVM Command Set 1.1 §3.3.3.2.1 "Deallocated or
//! Unwritten Logical Blocks".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::DeallocateRange;

use super::zeroes::is_deallocated;
use super::{BLOCKS, Host, over_formats};
use crate::admin::identify;
use crate::fields::{bit, byte, done};
use crate::{Case, Format, Lab, View};

const CLAUSE: &str = "NVM Command Set 1.1 §3.3.3.2.1 \"Deallocated or Unwritten Logical Blocks\"";

/// Deallocated by Dataset Management.
pub(crate) const DEALLOCATED: &[Case] =
    &over_formats!("protection.deallocated.tuples", CLAUSE, deallocated_blocks_have_escaping_tuples);
/// Among blocks that are there.
pub(crate) const MIXED: &[Case] =
    &over_formats!("protection.deallocated.mixed", CLAUSE, holes_among_blocks_escape);
/// Never written.
pub(crate) const UNWRITTEN: &[Case] =
    &over_formats!("protection.unwritten.tuples", CLAUSE, unwritten_blocks_have_the_same);

const LBA: u64 = 288;

/// Zeroes and tuples that escape, of the guard that DLFEAT announces, readable with every check.
fn reads_as_deallocated(host: &mut Host, lba: u64) -> Result<()> {
    let features = byte(&identify(&mut host.session, 0x00, 1, 0)?, 33)?;
    let found = host.stored(lba, BLOCKS)?;
    ensure!(host.data_of(&found).iter().all(|byte| *byte == 0), "data is not zero");
    let zero_guard = host.pi.guard_of(&vec![0; host.block()]);
    for index in 0..usize::try_from(BLOCKS)? {
        let tuple = host.tuple(&found, index)?;
        ensure!(is_deallocated(host, &tuple), "block {index} has {tuple:x?}");
        ensure!(
            (tuple.guard == zero_guard) == bit(features, 4),
            "DLFEAT {features:#x}, guard {:x}",
            tuple.guard
        );
    }
    let (io, len) = (host.checked(lba, BLOCKS), host.len(BLOCKS));
    let bare = host.data_of(&found).len();
    done(&host.io().read(1, &io, len)?).context("read with checks")?;
    done(&host.io().read(1, &io.pract(), bare)?).context("stripped with checks")?;
    done(&host.io().verify(1, &io)?).context("verified with checks")
}

fn deallocated_blocks_have_escaping_tuples(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let old = host.blocks(81, LBA, BLOCKS + 2);
    host.store(LBA, &old)?;
    done(&host.io().deallocate(1, &[DeallocateRange { slba: LBA, blocks: BLOCKS }])?)?;
    reads_as_deallocated(&mut host, LBA)?;
    let behind = host.stored(LBA + u64::from(BLOCKS), 2)?;
    ensure!(old.ends_with(&behind), "blocks behind the range changed");
    // Written again they are as written.
    let new = host.blocks(82, LBA, BLOCKS);
    host.store(LBA, &new)?;
    host.holds(LBA, &new)
}

/// Checks of a range go past its holes and no further.
fn holes_among_blocks_escape(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let mut blocks = host.blocks(83, LBA, BLOCKS);
    let holes = [DeallocateRange { slba: LBA + 1, blocks: 2 }, DeallocateRange { slba: LBA + 6, blocks: 1 }];
    let (io, len) = (host.checked(LBA, BLOCKS), host.len(BLOCKS));
    host.store(LBA, &blocks)?;
    done(&host.io().deallocate(1, &holes)?)?;
    let found = host.io().read(1, &io, len)?;
    done(&found)?;
    for index in 0..usize::try_from(BLOCKS)? {
        let stride = index * host.stride()..(index + 1) * host.stride();
        let is_hole = matches!(index, 1 | 2 | 6);
        let same = found.data.get(stride.clone()) == blocks.get(stride);
        ensure!(same != is_hole, "block {index} is another one");
        ensure!(
            !is_hole || is_deallocated(&host, &host.tuple(&found.data, index)?),
            "hole {index} has a tuple"
        );
    }
    done(&host.io().verify(1, &io)?)?;
    // A bad block behind the holes is found.
    host.bend(&mut blocks, 7, super::BAD_GUARD.bend)?;
    host.store(LBA, &blocks)?;
    done(&host.io().deallocate(1, &holes)?)?;
    crate::check::status(&host.io().read(1, &io, len)?, super::BAD_GUARD.status)
}

fn unwritten_blocks_have_the_same(lab: &mut Lab, format: Format) -> Result<()> {
    let share = lab.fresh_share(format)?;
    let session = lab.open_as("pi", &share, View::Pi, holdfast_testkit::Options::default())?;
    let mut host = Host::on(session, format)?;
    reads_as_deallocated(&mut host, 0)?;
    reads_as_deallocated(&mut host, 1000)
}
