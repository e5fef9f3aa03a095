//! Copy between namespaces. NVM Command Set 1.1 §3.3.2.4 "Copy across Multiple Namespaces".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::pi::{PiFormat, Tags};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Completion, Copy, Io, Options, Session, SourceRange};

use super::{BLOCK, SMALL};
use crate::admin::{INACTIVE_NSID, nsid_beyond};
use crate::check::{pattern, status_among};
use crate::features::host_behavior;
use crate::fields::{bit, done, le16, refused, refused_among};
use crate::{Case, Format, Guard, Lab, View};

const ACROSS: &str = "NVM Command Set 1.1 §3.3.2.4 \"Copy across Multiple Namespaces\"";
const PROTECTION: &str = "NVM Command Set 1.1 §3.3.2.4.2 \"Handling of Protection Information\"";
const FORMATS: &str = "NVM Command Set 1.1 §3.3.2 \"Copy command\", descriptor formats 2h and 3h";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.copy.across", clause: ACROSS, run: blocks_go_from_one_namespace_to_another },
    Case { id: "nvm.copy.several-sources", clause: ACROSS, run: sources_may_lie_in_several_namespaces },
    Case { id: "nvm.copy.not-enabled", clause: FORMATS, run: formats_have_to_be_enabled },
    Case { id: "nvm.copy.overlap", clause: FORMATS, run: source_and_destination_do_not_overlap },
    Case { id: "nvm.copy.source-nsid", clause: FORMATS, run: the_source_has_to_exist },
    Case { id: "nvm.copy.block-sizes", clause: ACROSS, run: block_sizes_have_to_match },
    Case { id: "nvm.copy.fast-only", clause: FORMATS, run: fast_copy_is_done_or_not_possible },
    Case { id: "nvm.copy.strip", clause: PROTECTION, run: tuples_are_stripped },
    Case { id: "nvm.copy.insert", clause: PROTECTION, run: tuples_are_inserted },
    Case { id: "nvm.copy.types", clause: PROTECTION, run: other_types_do_not_match },
    Case { id: "nvm.copy.reserved-formats", clause: FORMATS, run: other_formats_are_invalid },
];

const UNPROTECTED: Format = Format::new(4096, 0, Guard::Crc16);
const ENABLED: &[(usize, u8)] = &[(2, 1), (4, 0x0c)];

/// Namespaces: 1 and 2 of the standard format, 3 without protection, 4 with small blocks, 5 of type 2.
fn several(lab: &mut Lab, view: View) -> Result<Option<Session>> {
    let share = lab.fresh_share(Format::STANDARD)?;
    for (nsid, format) in
        [(2, Format::STANDARD), (3, UNPROTECTED), (4, SMALL), (5, Format::new(4096, 2, Guard::Crc16))]
    {
        lab.add_namespace(&share, nsid, format)?;
    }
    let name = if view == View::Pi { "pi" } else { "plain" };
    let mut session = lab.open_as(name, &share, view, Options::default())?;
    if !bit(le16(&session.controller().raw, 534)?, 2) {
        return Ok(None);
    }
    done(&session.admin().run(host_behavior(ENABLED))?)?;
    Ok(Some(session))
}

fn copy(session: &mut Session, nsid: u32, to: u64, ranges: &[SourceRange]) -> Result<Completion> {
    Ok(session.io(1).copy(nsid, &Copy::new(2, to, ranges))?)
}

fn read(session: &mut Session, nsid: u32, slba: u64, blocks: usize) -> Result<Vec<u8>> {
    let at = Io::at(slba, u32::try_from(blocks)?);
    Ok(session.io(1).read(nsid, &at, blocks * BLOCK)?.ok()?.data)
}

fn blocks_go_from_one_namespace_to_another(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Plain)? else { return Ok(()) };
    let data = pattern(1, 8 * BLOCK);
    done(&session.io(1).write(1, &Io::at(0, 8), &data)?)?;
    done(&copy(&mut session, 2, 50, &[SourceRange::at(0, 8).of(1)])?)?;
    ensure!(read(&mut session, 2, 50, 8)? == data, "other blocks in the other namespace");
    // And within one.
    done(&copy(&mut session, 2, 100, &[SourceRange::at(50, 8).of(2)])?)?;
    ensure!(read(&mut session, 2, 100, 8)? == data, "other blocks in the same namespace");
    Ok(())
}

fn sources_may_lie_in_several_namespaces(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Plain)? else { return Ok(()) };
    let (one, two) = (pattern(2, 2 * BLOCK), pattern(3, 3 * BLOCK));
    done(&session.io(1).write(1, &Io::at(7, 2), &one)?)?;
    done(&session.io(1).write(2, &Io::at(9, 3), &two)?)?;
    done(&copy(&mut session, 3, 20, &[SourceRange::at(9, 3).of(2), SourceRange::at(7, 2).of(1)])?)?;
    ensure!(read(&mut session, 3, 20, 5)? == [two, one].concat(), "other blocks");
    Ok(())
}

fn formats_have_to_be_enabled(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Plain)? else { return Ok(()) };
    done(&session.admin().run(host_behavior(&[(2, 1)]))?)?;
    for format in [2, 3] {
        let command = Copy::new(format, 50, &[SourceRange::at(0, 1).of(1)]);
        refused(&session.io(1).copy(1, &command)?, code::INVALID_FIELD)?;
    }
    done(&session.io(1).copy(1, &Copy::new(0, 50, &[SourceRange::at(0, 1)]))?)
}

fn source_and_destination_do_not_overlap(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Plain)? else { return Ok(()) };
    let data = pattern(4, 32 * BLOCK);
    done(&session.io(1).write(1, &Io::at(0, 32), &data)?)?;
    for (to, from) in [(8, 8), (8, 15), (15, 8), (8, 1)] {
        let ranges = [SourceRange::at(40, 1).of(2), SourceRange::at(from, 8).of(1)];
        refused(&copy(&mut session, 1, to, &ranges)?, code::OVERLAPPING_RANGE)
            .with_context(|| format!("from {from} to {to}"))?;
        ensure!(read(&mut session, 1, 0, 32)? == data, "an overlapping copy wrote");
    }
    // The same LBAs of another namespace are other blocks.
    done(&copy(&mut session, 2, 8, &[SourceRange::at(8, 8).of(1)])?)
}

fn the_source_has_to_exist(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Plain)? else { return Ok(()) };
    let beyond = nsid_beyond(&mut session)?;
    for nsid in [0, u32::MAX, beyond] {
        let completion = copy(&mut session, 1, 50, &[SourceRange::at(0, 1).of(nsid)])?;
        refused(&completion, code::INVALID_NAMESPACE).with_context(|| format!("SNSID {nsid:#x}"))?;
    }
    let completion = copy(&mut session, 1, 50, &[SourceRange::at(0, 1).of(INACTIVE_NSID)])?;
    refused(&completion, code::INVALID_FIELD).context("an inactive SNSID")
}

fn block_sizes_have_to_match(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Plain)? else { return Ok(()) };
    for (to, from) in [(1, 4), (4, 1)] {
        let completion = copy(&mut session, to, 50, &[SourceRange::at(0, 1).of(from)])?;
        refused(&completion, code::INCOMPATIBLE_NAMESPACE)?;
    }
    // One that does not fit among others that do.
    let ranges = [SourceRange::at(0, 1).of(2), SourceRange::at(0, 1).of(4)];
    refused(&copy(&mut session, 1, 50, &ranges)?, code::INCOMPATIBLE_NAMESPACE)
}

/// FCO: Source Options bit 15.
fn fast_copy_is_done_or_not_possible(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Plain)? else { return Ok(()) };
    let all_fast = bit(session.controller().oncs, 10);
    let data = pattern(5, BLOCK);
    done(&session.io(1).write(1, &Io::at(0, 1), &data)?)?;
    let range = SourceRange { sopt: 1 << 15, ..SourceRange::at(0, 1).of(1) };
    let completion = copy(&mut session, 2, 50, &[range])?;
    status_among(&completion, &[code::SUCCESS, code::FAST_COPY_NOT_POSSIBLE])?;
    ensure!(!all_fast || completion.status().is_success(), "NVMAFC, and a copy is not fast");
    Ok(())
}

/// PRACT of PRINFOR takes the tuples away on the way to a namespace that has none.
fn tuples_are_stripped(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Pi)? else { return Ok(()) };
    let data = pattern(6, 4 * BLOCK);
    let blocks = PiFormat::CRC16.protect(&data, BLOCK, Tags::counting(10));
    done(&session.io(1).write(1, &Io::at(10, 4), &blocks)?)?;
    let ranges = [SourceRange::at(10, 4).of(1)];
    let kept = Copy::new(2, 30, &ranges);
    refused(&session.io(1).copy(3, &kept)?, code::INCOMPATIBLE_NAMESPACE)?;
    let stripped = Copy::new(2, 30, &ranges).prinfo(0b1100, 0);
    done(&session.io(1).copy(3, &stripped)?)?;
    ensure!(read(&mut session, 3, 30, 4)? == data, "other data");
    Ok(())
}

/// PRACT of PRINFOW makes tuples on the way from a namespace that has none.
fn tuples_are_inserted(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Pi)? else { return Ok(()) };
    let data = pattern(7, 4 * BLOCK);
    done(&session.io(1).write(3, &Io::at(10, 4), &data)?)?;
    let ranges = [SourceRange::at(10, 4).of(3)];
    let kept = Copy::new(2, 30, &ranges);
    refused(&session.io(1).copy(1, &kept)?, code::INCOMPATIBLE_NAMESPACE)?;
    let made = Copy::new(2, 30, &ranges).prinfo(0, 0b1000).app_tag(0x1234).tags(30);
    done(&session.io(1).copy(1, &made)?)?;
    let at = Io::at(30, 4).check_all().ref_tag(30).app_tag(0x1234);
    let found = session.io(1).read(1, &at, 4 * (BLOCK + 8))?;
    done(&found)?;
    let expected = PiFormat::CRC16.protect(&data, BLOCK, Tags::counting(30).app(0x1234));
    ensure!(found.data == expected, "other tuples");
    Ok(())
}

fn other_types_do_not_match(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Pi)? else { return Ok(()) };
    for (prinfor, prinfow) in [(0, 0), (0b1000, 0b1000)] {
        let command = Copy::new(2, 30, &[SourceRange::at(0, 1).of(5)]).prinfo(prinfor, prinfow).tags(30);
        refused(&session.io(1).copy(1, &command)?, code::INCOMPATIBLE_NAMESPACE)?;
    }
    let command = Copy::new(2, 30, &[SourceRange::at(0, 1).of(2)]).prinfo(0b1000, 0);
    refused_among(&session.io(1).copy(1, &command)?, &[code::INVALID_FIELD])
}

/// 4h is for memory namespaces, the rest is reserved.
fn other_formats_are_invalid(lab: &mut Lab) -> Result<()> {
    let Some(mut session) = several(lab, View::Plain)? else { return Ok(()) };
    for format in 4..16 {
        let command = Copy::new(format, 50, &[SourceRange::at(0, 1).of(1)]);
        refused(&session.io(1).copy(1, &command)?, code::INVALID_FIELD)?;
    }
    Ok(())
}
