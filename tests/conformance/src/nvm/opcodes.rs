//! I/O commands that there are not. NVM Command Set 1.1 §3.3 "NVM Command Set Commands", figure "Opcodes for NVM Commands".

use anyhow::Result;
use holdfast_testkit::wire::{Sqe, code};
use holdfast_testkit::{Command, Io};

use super::{BLOCK, session};
use crate::check::pattern;
use crate::fields::{bit, done, refused};
use crate::{Case, Lab};

const CLAUSE: &str = "NVM Command Set 1.1 §3.3 \"NVM Command Set Commands\", opcodes";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.opcodes.reserved", clause: CLAUSE, run: reserved_opcodes_are_invalid },
    Case { id: "nvm.opcodes.vendor", clause: CLAUSE, run: vendor_opcodes_are_invalid },
    Case { id: "nvm.opcodes.reservations", clause: CLAUSE, run: reservations_are_invalid_without_their_bit },
    Case { id: "nvm.opcodes.with-data", clause: CLAUSE, run: data_of_unknown_commands_is_skipped },
];

fn invalid(lab: &mut Lab, opcodes: impl IntoIterator<Item = u8>) -> Result<()> {
    let mut session = session(lab)?;
    for opcode in opcodes {
        for nsid in [1, 0] {
            let command = Command::bare(Sqe::new(opcode).with_nsid(nsid));
            refused(&session.io(1).run(command)?, code::INVALID_OPCODE)?;
        }
    }
    done(&session.io(1).flush(1)?)
}

fn reserved_opcodes_are_invalid(lab: &mut Lab) -> Result<()> {
    let listed = [0x0d, 0x0e, 0x11, 0x15, 0x18, 0x19, 0x12, 0x1d, 0x7f];
    let known = [0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0c];
    invalid(lab, (0x00..=0x7f).filter(move |opcode| !listed.contains(opcode) && !known.contains(opcode)))
}

fn vendor_opcodes_are_invalid(lab: &mut Lab) -> Result<()> {
    invalid(lab, 0x80..=0xff)
}

fn reservations_are_invalid_without_their_bit(lab: &mut Lab) -> Result<()> {
    if bit(session(lab)?.controller().oncs, 5) {
        return Ok(());
    }
    invalid(lab, [0x0d, 0x0e, 0x11, 0x15])
}

/// What follows the data of an unknown command is the next command.
fn data_of_unknown_commands_is_skipped(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for len in [4, 512, BLOCK, 2 * BLOCK] {
        let command = Command::with_data(Sqe::new(0x81).with_nsid(1), pattern(1, len));
        refused(&io.run(command)?, code::INVALID_OPCODE)?;
        done(&io.read(1, &Io::at(0, 1), BLOCK)?)?;
    }
    Ok(())
}
