//! Bits of tags that count, and tags that wrap. NVM Command Set 1.1 §5.3.3 "Control of Protection Information Checking -
//! PRCHK" (LBATM, LBSTM, computed reference tag), §5.3.1.4.1 "Storage Tag Field and Logical Block Reference Tag Field".

use anyhow::{Context as _, Result};
use holdfast_testkit::pi::Tags;

use super::{APP_TAG, BAD_APP, BAD_REF, BAD_STORAGE, BLOCKS, Host, STORAGE_TAG, over_formats};
use crate::admin::identify;
use crate::check::{pattern, same};
use crate::fields::{bit, done, le64, refused};
use crate::{Case, Format, Lab};

const LBATM: &str =
    "NVM Command Set 1.1 §5.3.3 \"Control of Protection Information Checking - PRCHK\", LBATM";
const LBSTM: &str =
    "NVM Command Set 1.1 §5.3.3 \"Control of Protection Information Checking - PRCHK\", LBSTM";
const ROLLS: &str =
    "NVM Command Set 1.1 §5.3.3 \"Control of Protection Information Checking - PRCHK\", roll-over";

/// LBATM and ELBATM.
pub(crate) const APP: &[Case] =
    &over_formats!("protection.mask.app", LBATM, only_unmasked_bits_of_the_app_tag_count);
/// LBSTM.
pub(crate) const STORAGE: &[Case] =
    &over_formats!("protection.mask.storage", LBSTM, every_unmasked_storage_bit_counts);
/// Computed reference tags.
pub(crate) const WRAP: &[Case] =
    &over_formats!("protection.mask.ref-wraps", ROLLS, reference_tags_count_and_wrap);

const LBA: u64 = 160;

fn only_unmasked_bits_of_the_app_tag_count(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let blocks = host.blocks(41, LBA, BLOCKS);
    host.store(LBA, &blocks)?;
    let len = host.len(BLOCKS);
    for flipped in 0..16_u32 {
        let expected = APP_TAG ^ 1 << flipped;
        for (mask, counts) in [(0xffff, true), (1 << flipped, true), (!(1_u16 << flipped), false), (0, false)]
        {
            let io = host.at(LBA, BLOCKS).check_app().app_tag_masked(expected, mask);
            let (write, read) = (host.io().write(1, &io, &blocks)?, host.io().read(1, &io, len)?);
            let what = || format!("bit {flipped} differs, mask {mask:#06x}");
            if counts {
                refused(&write, BAD_APP.status).with_context(what)?;
                crate::check::status(&read, BAD_APP.status).with_context(what)?;
            } else {
                done(&write).with_context(what)?;
                done(&read).with_context(what)?;
            }
        }
    }
    Ok(())
}

/// The namespace's LBSTM names the bits of the storage tag that are compared.
fn every_unmasked_storage_bit_counts(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let mask = le64(&identify(&mut host.session, 0x05, 1, 0)?, 0)?;
    let blocks = host.blocks(42, LBA, 1);
    host.store(LBA, &blocks)?;
    let len = host.len(1);
    for flipped in 0..u32::from(format.storage_tag_bits) {
        let space = host.pi.space(STORAGE_TAG ^ 1 << flipped, host.ref_tag(LBA));
        let io = host.at(LBA, 1).storage_and_ref(space).check_storage();
        let (write, read) = (host.io().write(1, &io, &blocks)?, host.io().read(1, &io, len)?);
        if bit(mask, flipped) {
            refused(&write, BAD_STORAGE.status).with_context(|| format!("bit {flipped}"))?;
            crate::check::status(&read, BAD_STORAGE.status).with_context(|| format!("bit {flipped}"))?;
        } else {
            done(&write).and(done(&read)).with_context(|| format!("masked bit {flipped}"))?;
        }
    }
    // Bits of the dwords that the format does not use are ignored.
    if format.guard != crate::Guard::Crc32c {
        let used = host.pi.space(STORAGE_TAG, host.ref_tag(LBA));
        let width = if format.guard == crate::Guard::Crc16 { 32 } else { 48 };
        let io = host.checked(LBA, 1).storage_and_ref(used | u128::MAX << width);
        done(&host.io().read(1, &io, len)?).context("bits beyond the tags")?;
    }
    Ok(())
}

/// Types 1 and 2 count on from block to block; type 2 may begin anywhere and rolls over to 0; type 3 stays.
fn reference_tags_count_and_wrap(lab: &mut Lab, format: Format) -> Result<()> {
    let mut host = Host::open(lab, format)?;
    let data = pattern(43, host.block() * usize::try_from(BLOCKS)?);
    let first = if format.pi_type == 1 { LBA } else { u64::MAX - 2 };
    let space = host.pi.space(STORAGE_TAG, first);
    let io = host.at(LBA, BLOCKS).storage_and_ref(space);
    done(&host.io().write(1, &io.pract(), &data)?)?;
    let found = host.stored(LBA, BLOCKS)?;
    for index in 0..BLOCKS {
        let step = if format.pi_type == 3 { 0 } else { index };
        let expected = u64::try_from(host.pi.space(0, first.wrapping_add(step.into())))?;
        same(
            &format!("reference tag {index}"),
            host.tuple(&found, usize::try_from(index)?)?.ref_tag,
            expected,
        )?;
    }
    if !host.checks_ref() {
        return Ok(());
    }
    let len = host.len(BLOCKS);
    done(&host.io().read(1, &io.check_ref(), len)?).context("checked")?;
    let counting = Tags::counting(first).app(APP_TAG).storage(STORAGE_TAG);
    let mut blocks = host.pi.protect(&data, host.block(), counting);
    done(&host.io().write(1, &io.check_ref(), &blocks)?).context("written with checks")?;
    host.bend(&mut blocks, 5, BAD_REF.bend)?;
    refused(&host.io().write(1, &io.check_ref(), &blocks)?, BAD_REF.status)
}
