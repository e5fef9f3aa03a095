//! Commands of many blocks: tuples lie anywhere in the PDUs that carry them, and each is checked. NVM Command Set 1.1
//! §5.3.2 "PRACT Bit", §5.3.3 "Control of Protection Information Checking - PRCHK".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::{Command, Options, Placement};

use super::{BAD_APP, BAD_GUARD, Host, over_formats};
use crate::check::status;
use crate::fields::{done, refused};
use crate::{Case, Format, Lab, View};

const CLAUSE: &str = "NVM Command Set 1.1 §5.3.2 \"PRACT Bit\"";

/// Good and bad blocks among many that are written.
pub(crate) const WRITES: &[Case] =
    &over_formats!("protection.long.write", CLAUSE, any_block_of_a_long_write_is_checked);
/// Good and bad blocks among many that are read.
pub(crate) const READS: &[Case] =
    &over_formats!("protection.long.read", CLAUSE, any_block_of_a_long_read_is_checked);
/// As long as a transfer may be, with digests.
pub(crate) const LONGEST: &[Case] =
    &over_formats!("protection.long.digests", CLAUSE, the_longest_transfer_with_digests);

const LBA: u64 = 1024;
const BLOCKS: u32 = 200;
const BAD_BLOCKS: [usize; 5] = [0, 31, 32, 126, 199];

fn any_block_of_a_long_write_is_checked(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let old = host.blocks(141, LBA, BLOCKS);
    let io = host.checked(LBA, BLOCKS);
    done(&host.io().write(1, &io, &old)?)?;
    for index in BAD_BLOCKS {
        for fault in [BAD_GUARD, BAD_APP] {
            let mut new = host.blocks(142, LBA, BLOCKS);
            host.bend(&mut new, index, fault.bend)?;
            let write = Command::with_data(io.sqe(0x01, 1), new).placed(Placement::Solicited);
            refused(&host.io().run(write)?, fault.status).with_context(|| format!("block {index}"))?;
        }
    }
    host.holds(LBA, &old)
}

fn any_block_of_a_long_read_is_checked(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let (io, len) = (host.checked(LBA, BLOCKS), host.len(BLOCKS));
    for index in BAD_BLOCKS {
        let mut blocks = host.blocks(143, LBA, BLOCKS);
        host.bend(&mut blocks, index, BAD_GUARD.bend)?;
        host.store(LBA, &blocks)?;
        status(&host.io().read(1, &io, len)?, BAD_GUARD.status).with_context(|| format!("block {index}"))?;
        host.holds(LBA, &blocks)?;
    }
    let blocks = host.blocks(144, LBA, BLOCKS);
    host.store(LBA, &blocks)?;
    let bare = host.data_of(&blocks);
    let completion = host.io().read(1, &io.pract(), bare.len())?;
    done(&completion)?;
    ensure!(completion.data == bare, "other data without tuples");
    Ok(())
}

/// MDTS counts no metadata: with tuples the longest transfer is longer.
fn the_longest_transfer_with_digests(lab: &mut Lab, format: Format) -> Result<()> {
    let session = lab.open(format, View::Pi, Options::default().digests(true, true))?;
    let most = session.controller().transfer_max().context("MDTS 0")?;
    let mut host = Host::on(session, format)?;
    let blocks = u32::try_from(most)? / format.block_size;
    let data = host.blocks(145, LBA, blocks);
    let (io, len) = (host.checked(LBA, blocks), host.len(blocks));
    done(&host.io().write(1, &io, &data)?)?;
    let completion = host.io().read(1, &io, len)?;
    done(&completion)?;
    ensure!(completion.data == data, "other blocks");
    Ok(())
}
