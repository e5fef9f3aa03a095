//! What most cases demand, said in one word each.

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_testkit::wire::{Frame, TermReq, code};
use holdfast_testkit::{Completion, Connection, Error};

/// The most bytes of a header that a TermReq may quote. NVMe/TCP 1.1 §3.6.2.4 "H2CTermReq", §3.6.2.5 "C2HTermReq".
const QUOTE_MAX: usize = 128;

/// Demands a C2HTermReq with this FES (and FEI, where the specification fixes it) that quotes the header of `sent`, and
/// then the end of the connection.
///
/// # Errors
/// When something else comes.
pub fn term_req(connection: &mut Connection, sent: &Frame, fes: u16, fei: Option<u32>) -> Result<TermReq> {
    let term = connection.expect_term_req().context("waiting for a C2HTermReq")?;
    ensure!(term.fes == fes, "{term}, not FES {fes:#x}");
    ensure!(fei.is_none_or(|fei| term.fei == fei), "{term}, not FEI {fei:#x?}");
    let quoted = term.header.len();
    ensure!((8..=QUOTE_MAX).contains(&quoted), "{quoted} bytes of the header are quoted");
    ensure!(sent.as_bytes().starts_with(&term.header), "quoted {:02x?}, which was not sent", term.header);
    connection.expect_close().context("after the C2HTermReq")?;
    Ok(term)
}

/// Demands that the target closes without another PDU.
///
/// # Errors
/// When one comes, or the connection stays.
pub fn closed_silently(connection: &mut Connection) -> Result<()> {
    match connection.recv() {
        Err(Error::Closed { .. }) => Ok(()),
        Ok(pdu) => bail!("{} before the close", pdu.name()),
        Err(other) => Err(other).context("waiting for the close"),
    }
}

/// Demands this status (type and code).
///
/// # Errors
/// When it is another one.
pub fn status(completion: &Completion, expected: (u8, u8)) -> Result<()> {
    let name = code::name(expected).unwrap_or("");
    let (sct, sc) = expected;
    ensure!(
        completion.status().pair() == expected,
        "ended with {}, not {sct:x}h/{sc:02x}h {name}",
        completion.status()
    );
    Ok(())
}

/// Demands one of these statuses, where the specification leaves a choice.
///
/// # Errors
/// When it is none of them.
pub fn status_among(completion: &Completion, expected: &[(u8, u8)]) -> Result<()> {
    ensure!(
        expected.contains(&completion.status().pair()),
        "ended with {}, not one of {expected:02x?}",
        completion.status()
    );
    Ok(())
}

/// Demands that two values are the same, naming what they are.
///
/// # Errors
/// When they are not.
pub fn same<T: PartialEq + std::fmt::Debug>(what: &str, got: T, expected: T) -> Result<()> {
    ensure!(got == expected, "{what}: {got:x?}, not {expected:x?}");
    Ok(())
}

/// `len` bytes that tell where they are and which run of them they belong to.
#[must_use]
pub fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len.next_multiple_of(8));
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}
