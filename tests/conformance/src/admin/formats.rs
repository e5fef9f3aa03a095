//! How each format of a volume is told, in both views. NVM Command Set 1.1 §4.1.5.1 "NVM Command Set Identify Namespace
//! Data Structure (CNS 00h)", §4.1.5.3 "I/O Command Set specific Identify Namespace Data Structure (CNS 05h)", §5.3.1
//! "Protection Information Formats".

use anyhow::{Result, ensure};
use holdfast_testkit::Options;

use super::identify;
use crate::check::same;
use crate::fields::{bit, byte, done, le16, le32, le64};
use crate::protection::over_formats;
use crate::{Case, Format, Guard, Lab, View};

const CLAUSE: &str = "NVM Command Set 1.1 §5.3.1 \"Protection Information Formats\"";
const PLAIN: &str =
    "NVM Command Set 1.1 §4.1.5.1 \"NVM Command Set Identify Namespace Data Structure (CNS 00h)\"";

/// The PI view of every format.
pub(crate) const PI_VIEWS: &[Case] = &over_formats!("admin.formats.pi", CLAUSE, pi_view);
/// The plain view of every format.
pub(crate) const PLAIN_VIEWS: &[Case] = &over_formats!("admin.formats.plain", PLAIN, plain_view);
/// Volumes without protection information.
pub(crate) const CASES: &[Case] = &[
    Case { id: "admin.formats.unprotected-512", clause: PLAIN, run: |lab| plain_view(lab, unprotected(512)) },
    Case {
        id: "admin.formats.unprotected-4096",
        clause: PLAIN,
        run: |lab| plain_view(lab, unprotected(4096)),
    },
    Case { id: "admin.formats.elbas", clause: CLAUSE, run: extended_formats_need_elbas },
];

const fn unprotected(block_size: u32) -> Format {
    Format::new(block_size, 0, Guard::Crc16)
}

/// The format in use: LBAF, its index, and all of CNS 00h.
fn namespace(lab: &mut Lab, format: Format, view: View) -> Result<(Vec<u8>, Vec<u8>, usize)> {
    let mut session = lab.open(format, view, Options::default().io_queues(0))?;
    // Host Behavior Support: LBAFEE, for formats that need it.
    done(&session.admin().run(crate::features::host_behavior(&[(2, 1)]))?)?;
    let data = identify(&mut session, 0x00, 1, 0)?;
    let specific = identify(&mut session, 0x05, 1, 0)?;
    let flbas = byte(&data, 26)?;
    Ok((data, specific, usize::from(flbas & 0x0f | (flbas >> 5 & 0b11) << 4)))
}

fn pi_view(lab: &mut Lab, format: Format) -> Result<()> {
    let (data, specific, index) = namespace(lab, format, View::Pi)?;
    let (tuple, pif) = match format.guard {
        Guard::Crc16 => (8, 0b00),
        Guard::Crc32c => (16, 0b01),
        Guard::Crc64 => (16, 0b10),
    };
    let lbaf = 128 + index * 4;
    same("MS", le16(&data, lbaf)?, tuple)?;
    same("LBADS", 1_u32 << byte(&data, lbaf + 2)?, format.block_size)?;
    ensure!(bit(byte(&data, 26)?, 4), "FLBAS bit 4 is clear: metadata is not interleaved");
    ensure!(bit(byte(&data, 27)?, 0), "MC bit 0 is clear");
    same("DPS", byte(&data, 29)?, format.pi_type)?;
    let capabilities = byte(&data, 28)?;
    ensure!(bit(capabilities, u32::from(format.pi_type) - 1), "DPC {capabilities:#x} without the type");
    ensure!(bit(capabilities, 4) && !bit(capabilities, 3), "DPC {capabilities:#x}: tuples come last");
    let elbaf = le32(&specific, 12 + index * 4)?;
    same("STS", elbaf & 0x7f, format.storage_tag_bits.into())?;
    same("PIF", elbaf >> 7 & 0b11, pif)?;
    let mask = le64(&specific, 0)?;
    let all = if format.storage_tag_bits >= 64 { u64::MAX } else { (1 << format.storage_tag_bits) - 1 };
    ensure!(mask & !all == 0, "LBSTM {mask:#x} beyond {} bits", format.storage_tag_bits);
    Ok(())
}

fn plain_view(lab: &mut Lab, format: Format) -> Result<()> {
    let (data, specific, index) = namespace(lab, format, View::Plain)?;
    let lbaf = 128 + index * 4;
    same("MS", le16(&data, lbaf)?, 0)?;
    same("LBADS", 1_u32 << byte(&data, lbaf + 2)?, format.block_size)?;
    same("DPS", byte(&data, 29)?, 0)?;
    same("FLBAS bit 4", bit(byte(&data, 26)?, 4), false)?;
    same("ELBAF", le32(&specific, 12 + index * 4)?, 0)
}

/// CTRATT.ELBAS: only with it are there 32- and 64-bit guards and storage tags.
fn extended_formats_need_elbas(lab: &mut Lab) -> Result<()> {
    let format = Format::new(4096, 1, Guard::Crc64);
    let session = lab.open(format, View::Pi, Options::default().io_queues(0))?;
    ensure!(bit(session.controller().ctratt, 15), "CTRATT without ELBAS, and a 64-bit guard");
    Ok(())
}
