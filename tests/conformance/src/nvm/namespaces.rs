//! Namespace Identifiers of I/O commands. NVM Express Base 2.1 §3.2.1.5 "NSID and Namespace Relationships"; NVM Command Set
//! 1.1 §3.3 "NVM Command Set Commands" (FFFFFFFFh).

use anyhow::{Context as _, Result};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Copy, Io, SourceRange};

use super::{BLOCK, session};
use crate::admin::{INACTIVE_NSID, nsid_beyond};
use crate::fields::{done, refused};
use crate::{Case, Lab};

const CLAUSE: &str = "Base 2.1 §3.2.1.5 \"NSID and Namespace Relationships\"";

macro_rules! of_each {
    ($($name:literal: $opcode:expr;)*) => {
        &[$(
            Case { id: concat!("nvm.nsid.", $name), clause: CLAUSE, run: |lab| nsids(lab, $opcode) },
        )*]
    };
}

/// Every command that names blocks.
pub(crate) const CASES: &[Case] = of_each! {
    "read": opcode::READ;
    "write": opcode::WRITE;
    "compare": opcode::COMPARE;
    "verify": opcode::VERIFY;
    "write-zeroes": opcode::WRITE_ZEROES;
    "write-uncorrectable": opcode::WRITE_UNCORRECTABLE;
    "dataset-management": opcode::DATASET_MANAGEMENT;
    "copy": opcode::COPY;
    "flush": opcode::FLUSH;
};

fn command(opcode: u8, nsid: u32) -> Command {
    let sqe = Io::at(0, 1).sqe(opcode, nsid);
    match opcode {
        opcode::READ => Command::reading(sqe, BLOCK),
        opcode::WRITE | opcode::COMPARE => Command::with_data(sqe, vec![9; BLOCK]),
        opcode::DATASET_MANAGEMENT => {
            Command::with_data(Sqe::new(opcode).with_nsid(nsid).cdw(11, 4), vec![0; 16])
        }
        opcode::COPY => {
            let copy = Copy::new(0, 8, &[SourceRange::at(0, 1)]);
            Command::with_data(copy.sqe(nsid), copy.data())
        }
        opcode::FLUSH => Command::bare(Sqe::new(opcode).with_nsid(nsid)),
        _ => Command::bare(sqe),
    }
}

/// 0 and what lies above NN are invalid, an NSID without a namespace is an invalid field; only Flush knows FFFFFFFFh.
fn nsids(lab: &mut Lab, opcode: u8) -> Result<()> {
    let mut session = session(lab)?;
    let beyond = nsid_beyond(&mut session)?;
    let broadcast = (opcode != opcode::FLUSH).then_some(u32::MAX);
    for nsid in [0, beyond, 0x8000_0000, u32::MAX - 1].into_iter().chain(broadcast) {
        let completion = session.io(1).run(command(opcode, nsid))?;
        refused(&completion, code::INVALID_NAMESPACE).with_context(|| format!("NSID {nsid:#x}"))?;
    }
    let completion = session.io(1).run(command(opcode, INACTIVE_NSID))?;
    refused(&completion, code::INVALID_FIELD).context("an inactive NSID")?;
    done(&session.io(1).read(1, &Io::at(0, 1), BLOCK)?)
}
