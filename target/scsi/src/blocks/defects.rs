//! READ DEFECT DATA. SBC-4 §5 "READ DEFECT DATA (10) command" and "READ DEFECT DATA (12) command".
//!
//! What a pool lies on looks after its own defects, so that both lists are empty, in every format.

use crate::sense::Sense;

/// REQ_PLIST, REQ_GLIST and DEFECT LIST FORMAT; PLISTV, GLISTV and the format of the answer are in the same bits.
const ASKED: u8 = 0x1f;
const FORMAT: u8 = 0x07;

/// Answers either of them: `asked` is the byte with the request, which `at` points at.
///
/// # Errors
/// INVALID FIELD IN CDB: a reserved format.
pub(crate) fn put(long: bool, asked: u8, out: &mut Vec<u8>) -> Result<(), Sense> {
    if asked & FORMAT == FORMAT {
        return Err(Sense::invalid_in_cdb(if long { 1 } else { 2 }, Some(2)));
    }
    out.extend([0, asked & ASKED]);
    // The list's length; of the longer answer a generation code before it.
    out.extend_from_slice(if long { &[0; 6] } else { &[0; 2] });
    Ok(())
}
