//! How many bytes a command with tuples moves. NVM Command Set 1.1 §5.2.3 "Metadata Handling", §5.3.2 "PRACT Bit"; NVM
//! Express Base 2.1 §4.3.2 "Scatter Gather List (SGL)".

use anyhow::{Context as _, Result};
use holdfast_testkit::wire::{code, opcode};
use holdfast_testkit::{Command, Io};

use super::{BLOCKS, Host, over_formats};
use crate::fields::{refused, refused_among};
use crate::{Case, Format, Lab};

const METADATA: &str = "NVM Command Set 1.1 §5.2.3 \"Metadata Handling\"";
const PRACT: &str = "NVM Command Set 1.1 §5.3.2 \"PRACT Bit\"";

/// PRACT=0 and a buffer for data only.
pub(crate) const SHORT: &[Case] =
    &over_formats!("protection.lengths.no-metadata", METADATA, data_alone_is_too_short);
/// PRACT=1 and a buffer that is too short for the data.
pub(crate) const BARE: &[Case] = &over_formats!("protection.lengths.pract", PRACT, pract_needs_all_data);

const LBA: u64 = 352;

fn refuse(host: &mut Host, io: &Io, len: usize) -> Result<()> {
    let transport = u32::try_from(len)?;
    let sqe = io.sqe(opcode::READ, 1).sgl_transport(transport);
    let read = host.io().run(Command::reading(sqe, len).keep_sgl())?;
    refused(&read, code::DATA_SGL_LENGTH_INVALID).context("Read")?;
    let compare = host.io().compare(1, io, &vec![0; len])?;
    let refusals = [code::DATA_SGL_LENGTH_INVALID, code::INVALID_FIELD, code::INVALID_PROTECTION_INFORMATION];
    refused_among(&compare, &refusals).context("Compare")?;
    let write = host.io().write(1, io, &vec![0; len])?;
    refused(&write, code::DATA_SGL_LENGTH_INVALID).context("Write")
}

fn data_alone_is_too_short(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let old = host.blocks(101, LBA, BLOCKS);
    host.store(LBA, &old)?;
    let data = host.block() * usize::try_from(BLOCKS)?;
    let io = host.at(LBA, BLOCKS);
    for len in [data, host.len(BLOCKS) - 8, host.block()] {
        refuse(&mut host, &io, len)?;
    }
    host.holds(LBA, &old)
}

fn pract_needs_all_data(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let old = host.blocks(102, LBA, BLOCKS);
    host.store(LBA, &old)?;
    let data = host.block() * usize::try_from(BLOCKS)?;
    let io = host.at(LBA, BLOCKS).pract();
    for len in [data - 4, data - host.block()] {
        refuse(&mut host, &io, len)?;
    }
    host.holds(LBA, &old)
}
