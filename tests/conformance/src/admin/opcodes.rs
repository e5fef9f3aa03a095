//! Commands that there are not. NVM Express Base 2.1 §3.1.3.4 "Command Support Requirements", §4.1.1 "Common Command Format".

use anyhow::Result;
use holdfast_testkit::wire::{Sqe, code};
use holdfast_testkit::{Command, Session};

use super::admin_session;
use crate::fields::{done, refused, refused_among};
use crate::{Case, Lab};

const SUPPORT: &str = "Base 2.1 §3.1.3.4 \"Command Support Requirements\"";
const FORMAT: &str = "Base 2.1 §4.1.1 \"Submission Queue Entry\" (Command Dword 0, FUSE)";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "admin.opcodes.queues", clause: SUPPORT, run: queues_are_not_made_by_command },
    Case { id: "admin.opcodes.reserved", clause: SUPPORT, run: reserved_opcodes_are_invalid },
    Case { id: "admin.opcodes.command-sets", clause: SUPPORT, run: opcodes_of_command_sets_are_invalid },
    Case { id: "admin.opcodes.vendor", clause: SUPPORT, run: vendor_opcodes_are_invalid },
    Case { id: "admin.opcodes.with-data", clause: SUPPORT, run: unknown_opcodes_with_data_are_invalid },
    Case { id: "admin.opcodes.fused", clause: FORMAT, run: admin_commands_do_not_fuse },
];

fn invalid(session: &mut Session, opcodes: impl IntoIterator<Item = u8>) -> Result<()> {
    for opcode in opcodes {
        refused(&session.admin().run(Command::bare(Sqe::new(opcode)))?, code::INVALID_OPCODE)?;
    }
    done(&session.admin().keep_alive()?)
}

/// Delete and Create I/O Submission and Completion Queue are prohibited on message-based transports.
fn queues_are_not_made_by_command(lab: &mut Lab) -> Result<()> {
    invalid(&mut admin_session(lab)?, [0x00, 0x01, 0x04, 0x05])
}

fn reserved_opcodes_are_invalid(lab: &mut Lab) -> Result<()> {
    let reserved = [0x03, 0x07, 0x0b, 0x0e, 0x0f, 0x12, 0x13, 0x16, 0x17, 0x1b, 0x1f];
    invalid(
        &mut admin_session(lab)?,
        reserved.into_iter().chain(0x26..=0x3c).chain(0x46..=0x7b).chain([0x7e]),
    )
}

/// 80h to BFh belong to I/O command sets; the NVM command set has Format NVM, Security, Sanitize and Get LBA Status.
fn opcodes_of_command_sets_are_invalid(lab: &mut Lab) -> Result<()> {
    invalid(&mut admin_session(lab)?, [0x83, 0x85].into_iter().chain(0x87..=0xbf))
}

fn vendor_opcodes_are_invalid(lab: &mut Lab) -> Result<()> {
    invalid(&mut admin_session(lab)?, 0xc0..=0xff)
}

/// Data in the capsule of an unknown command is part of that command and nothing more.
fn unknown_opcodes_with_data_are_invalid(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for opcode in [0xc1, 0x0d, 0xc2] {
        let command = Command::with_data(Sqe::new(opcode), vec![0xa5; 4096]);
        refused(&session.admin().run(command)?, code::INVALID_OPCODE)?;
        done(&session.admin().keep_alive()?)?;
    }
    Ok(())
}

fn admin_commands_do_not_fuse(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for fuse in [1, 2, 3] {
        let completion = session.admin().run(Command::bare(Sqe::new(0x18)).fused(fuse))?;
        refused_among(&completion, &[code::INVALID_FIELD, code::FUSED_MISSING])?;
    }
    done(&session.admin().keep_alive()?)
}
