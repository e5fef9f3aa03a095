//! Fields of data structures by their offset, and statuses with Do Not Retry.

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::{Completion, wire};

use crate::check;

/// The bytes of a field.
pub(crate) fn part(raw: &[u8], at: usize, len: usize) -> Result<&[u8]> {
    let end = at.checked_add(len).context("a field's end")?;
    raw.get(at..end).with_context(|| format!("no bytes {at}..{end} in {} bytes", raw.len()))
}

/// One byte.
pub(crate) fn byte(raw: &[u8], at: usize) -> Result<u8> {
    raw.get(at).copied().with_context(|| format!("no byte {at}"))
}

/// 16 bits, little-endian.
pub(crate) fn le16(raw: &[u8], at: usize) -> Result<u16> {
    wire::le16(raw, at).with_context(|| format!("no word at {at}"))
}

/// 32 bits, little-endian.
pub(crate) fn le32(raw: &[u8], at: usize) -> Result<u32> {
    wire::le32(raw, at).with_context(|| format!("no dword at {at}"))
}

/// 64 bits, little-endian.
pub(crate) fn le64(raw: &[u8], at: usize) -> Result<u64> {
    wire::le64(raw, at).with_context(|| format!("no qword at {at}"))
}

/// 128 bits, little-endian.
pub(crate) fn le128(raw: &[u8], at: usize) -> Result<u128> {
    let bytes = part(raw, at, 16)?.first_chunk().copied().context("16 bytes")?;
    Ok(u128::from_le_bytes(bytes))
}

/// Whether bit `bit` is set.
pub(crate) fn bit(value: impl Into<u64>, bit: u32) -> bool {
    value.into() >> bit & 1 == 1
}

/// Demands that these bytes are zero.
pub(crate) fn zero(what: &str, raw: &[u8], at: usize, len: usize) -> Result<()> {
    let bytes = part(raw, at, len)?;
    let found = bytes.iter().position(|byte| *byte != 0);
    ensure!(found.is_none(), "{what}: byte {} is not zero", at.saturating_add(found.unwrap_or(0)));
    Ok(())
}

/// Demands this status with Do Not Retry: the same command would fail again.
pub(crate) fn refused(completion: &Completion, expected: (u8, u8)) -> Result<()> {
    check::status(completion, expected)?;
    ensure!(completion.status().dnr, "{} without Do Not Retry", completion.status());
    Ok(())
}

/// Demands one of these statuses with Do Not Retry.
pub(crate) fn refused_among(completion: &Completion, expected: &[(u8, u8)]) -> Result<()> {
    check::status_among(completion, expected)?;
    ensure!(completion.status().dnr, "{} without Do Not Retry", completion.status());
    Ok(())
}

/// Demands success.
pub(crate) fn done(completion: &Completion) -> Result<()> {
    check::status(completion, wire::code::SUCCESS)
}
