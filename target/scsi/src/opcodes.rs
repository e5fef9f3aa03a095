//! REPORT SUPPORTED OPERATION CODES and REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS. SPC-4 §6.35 and §6.36.

use crate::cdb::{ROWS, Row};
use crate::sense::Sense;

const VARIABLE: u8 = 0x7f;

/// SERVACTV and CTDP of a command descriptor.
const SERVACTV: u8 = 0x01;
const CTDP: u8 = 0x02;
/// CTDP of the parameter data about one command.
const ONE_CTDP: u8 = 0x80;
/// SUPPORT: not supported; supported as the standard says.
const NOT_SUPPORTED: u8 = 0b001;
const SUPPORTED: u8 = 0b011;

/// Which of the commands a logical unit has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offered {
    /// Those of 32 bytes, which only protection type 2 knows.
    pub variable_length: bool,
}

impl Offered {
    /// Whether the logical unit has this command.
    pub fn has(self, row: &Row) -> bool {
        self.variable_length || row.opcode != VARIABLE
    }
}

/// Puts the answer to REPORT SUPPORTED OPERATION CODES behind what `out` holds; the fields are the CDB's. It still has to be
/// cut to the allocation length.
///
/// # Errors
/// INVALID FIELD IN CDB: REPORTING OPTIONS is reserved, or does not fit a command that has, or has no, service actions.
pub fn report(
    offered: Offered,
    timeouts: bool,
    options: u8,
    opcode: u8,
    action: u16,
    out: &mut Vec<u8>,
) -> Result<(), Sense> {
    let mut known = ROWS.iter().filter(|row| offered.has(row) && row.opcode == opcode).peekable();
    let has_actions = known.peek().map(|row| row.service_action.is_some());
    let row = match (options, has_actions) {
        (0, _) => {
            report_all(offered, timeouts, out);
            return Ok(());
        }
        (1, Some(true)) | (2, Some(false)) => return Err(Sense::invalid_in_cdb(2, Some(2))),
        (1, _) => known.next(),
        (2, _) => known.find(|row| row.service_action == Some(action)),
        (3, _) => known.find(|row| row.service_action.unwrap_or(0) == action),
        _ => return Err(Sense::invalid_in_cdb(2, Some(2))),
    };
    report_one(row, timeouts, out);
    Ok(())
}

/// §6.35.2 "All_commands parameter data format".
fn report_all(offered: Offered, timeouts: bool, out: &mut Vec<u8>) {
    let descriptor_len: u32 = if timeouts { 20 } else { 8 };
    let count = ROWS.iter().filter(|row| offered.has(row)).count();
    let len = u32::try_from(count).unwrap_or(u32::MAX).saturating_mul(descriptor_len);
    out.extend(len.to_be_bytes());
    for row in ROWS.iter().filter(|row| offered.has(row)) {
        let actions = if row.service_action.is_some() { SERVACTV } else { 0 };
        let described = if timeouts { CTDP } else { 0 };
        out.extend([row.opcode, 0]);
        out.extend(row.service_action.unwrap_or(0).to_be_bytes());
        out.extend([0, actions | described]);
        out.extend(cdb_len(row).to_be_bytes());
        if timeouts {
            out.extend(NO_TIMEOUTS);
        }
    }
}

/// §6.35.3 "One_command parameter data format".
fn report_one(row: Option<&Row>, timeouts: bool, out: &mut Vec<u8>) {
    let Some(row) = row else {
        out.extend([0, NOT_SUPPORTED, 0, 0]);
        return;
    };
    out.extend([0, SUPPORTED | if timeouts { ONE_CTDP } else { 0 }]);
    out.extend(cdb_len(row).to_be_bytes());
    let [high, low] = row.service_action.unwrap_or(0).to_be_bytes();
    for (at, usage) in row.usage.iter().enumerate() {
        out.push(match (row.opcode, at) {
            (opcode, 0) => opcode,
            (VARIABLE, 8) => high,
            (VARIABLE, 9) => low,
            // The code of a service action lies in the place that the map leaves free for it.
            (VARIABLE, _) => *usage,
            (_, 1) => usage | low,
            _ => *usage,
        });
    }
    if timeouts {
        out.extend(NO_TIMEOUTS);
    }
}

/// §6.35.4 "Command timeouts descriptor": its length, and zeroes, since no time is promised.
const NO_TIMEOUTS: [u8; 12] = [0, 0x0a, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

fn cdb_len(row: &Row) -> u16 {
    u16::try_from(row.usage.len()).unwrap_or(u16::MAX)
}

/// Puts the answer to REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS behind what `out` holds: ABORT TASK, ABORT TASK SET, CLEAR TASK
/// SET, LOGICAL UNIT RESET, TARGET RESET; no CLEAR ACA, no wakeup, no query. `extended`: REPD.
pub fn report_task_management(extended: bool, out: &mut Vec<u8>) {
    let functions = 0x80 | 0x40 | 0x10 | 0x08 | 0x02;
    if extended {
        // Its ADDITIONAL LENGTH, then a descriptor's worth of timeouts that are not given.
        out.extend([functions, 0, 0, 0x0c]);
        out.extend([0; 12]);
    } else {
        out.extend([functions, 0, 0, 0]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Offered = Offered { variable_length: true };
    const WITHOUT: Offered = Offered { variable_length: false };

    fn answer(options: u8, opcode: u8, action: u16, timeouts: bool) -> Result<Vec<u8>, Sense> {
        let mut out = Vec::new();
        report(ALL, timeouts, options, opcode, action, &mut out).map(|()| out)
    }

    #[test]
    fn all_commands_are_listed_in_the_length_that_the_header_says() {
        for (offered, timeouts, each) in [(ALL, false, 8), (ALL, true, 20), (WITHOUT, true, 20)] {
            let mut out = Vec::new();
            report(offered, timeouts, 0, 0, 0, &mut out).unwrap();
            let len = u32::from_be_bytes(out[..4].try_into().unwrap());
            assert_eq!(usize::try_from(len).unwrap(), out.len() - 4);
            let listed: Vec<u8> = out[4..].chunks(each).map(|descriptor| descriptor[0]).collect();
            assert_eq!(listed.contains(&0x7f), offered.variable_length);
            assert_eq!(listed.len(), ROWS.len() - if offered.variable_length { 0 } else { 5 });
        }
    }

    #[test]
    fn one_command_shows_its_operation_code_service_action_and_map() {
        let read = [0, 3, 0, 10, 0x28, 0xf8, 255, 255, 255, 255, 0, 255, 255, 4];
        assert_eq!(answer(1, 0x28, 0, false).unwrap(), read);
        let groups = [0, 3, 0, 12, 0xa3, 0xea, 0, 0, 0, 0, 255, 255, 255, 255, 0, 4];
        assert_eq!(answer(2, 0xa3, 0x0a, false).unwrap(), groups);
        let timed = answer(3, 0x00, 0, true).unwrap();
        assert_eq!(timed[..10], [0, 0x83, 0, 6, 0, 0, 0, 0, 0, 4]);
        assert_eq!(timed[10..], NO_TIMEOUTS);
        assert_eq!(answer(2, 0x7f, 0x0b, false).unwrap()[11..15], [255, 0, 0x0b, 0xf8]);
    }

    #[test]
    fn what_is_not_there_is_not_supported() {
        for (options, opcode, action) in [(1, 0xff, 0), (2, 0xff, 1), (2, 0x9e, 0x11), (3, 0x28, 1)] {
            assert_eq!(answer(options, opcode, action, true).unwrap(), [0, 1, 0, 0]);
        }
    }

    #[test]
    fn options_have_to_fit_the_command() {
        for (options, opcode) in [(1, 0x9e), (2, 0x28), (4, 0x28)] {
            assert_eq!(answer(options, opcode, 0x10, false), Err(Sense::invalid_in_cdb(2, Some(2))));
        }
    }

    #[test]
    fn task_management_functions_are_those_that_are_there() {
        let mut out = Vec::new();
        report_task_management(false, &mut out);
        assert_eq!(out, [0xda, 0, 0, 0]);
        out.clear();
        report_task_management(true, &mut out);
        assert_eq!(out, [0xda, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
