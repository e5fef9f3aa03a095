//! Namespace Identifiers of I/O commands. NVM Express Base 2.1 §3.2.1.5 "NSID and Namespace Relationships"; NVM Command Set
//! 1.1 §3.3 "NVM Command Set Commands" (FFFFFFFFh).

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Copy, Io, Options, Placement, SourceRange};

use super::{BLOCK, session};
use crate::admin::{INACTIVE_NSID, nsid_beyond};
use crate::events::{Watched, change_is_seen};
use crate::fields::{done, refused};
use crate::{Case, Format, Lab, View};

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

/// A namespace that goes while commands are under way, and the commands.
pub(crate) const GONE: &[Case] = &[
    Case { id: "nvm.nsid.deleted-waiting", clause: CLAUSE, run: a_waiting_write_ends },
    Case { id: "nvm.nsid.deleted-busy", clause: CLAUSE, run: commands_of_a_deleted_namespace_end },
];

/// Answers its R2T after the namespace has gone: the command ends, one way or the other, and the queue goes on.
fn a_waiting_write_ends(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default())?;
    let io = session.io(1);
    io.hold_r2ts(true);
    let write = Command::with_data(Io::at(0, 8).sqe(opcode::WRITE, 2), vec![3; 8 * BLOCK]);
    let cid = io.submit(write.placed(Placement::Solicited))?;
    let r2t = io.next_r2t()?;
    lab.rest().delete(&format!("/subsystems/{}/namespaces/2", share.name))?;
    change_is_seen(&mut session, Watched::Inactive(2))?;
    let io = session.io(1);
    if io.in_flight().any(|waiting| waiting == cid) {
        io.answer_r2t(&r2t)?;
    }
    io.wait(cid)?;
    io.hold_r2ts(false);
    refused(&io.read(2, &Io::at(0, 1), BLOCK)?, code::INVALID_FIELD)?;
    done(&io.read(1, &Io::at(0, 1), BLOCK)?)
}

/// Every command that was sent is answered: those of before with success or an error, those of after with Invalid Field.
fn commands_of_a_deleted_namespace_end(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(Format::STANDARD)?;
    lab.add_namespace(&share, 2, Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, View::Plain, Options::default())?;
    lab.rest().delete(&format!("/subsystems/{}/namespaces/2", share.name))?;
    let mut rounds = 0;
    loop {
        let io = session.io(1);
        let cids = (0..32)
            .map(|at| {
                let sqe = Io::at(at, 1).sqe(if at % 2 == 0 { opcode::WRITE } else { opcode::READ }, 2);
                io.submit(if at % 2 == 0 {
                    Command::with_data(sqe, vec![4; BLOCK])
                } else {
                    Command::reading(sqe, BLOCK)
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut gone = true;
        for cid in cids {
            gone &= io.wait(cid)?.status().pair() == code::INVALID_FIELD;
        }
        rounds += 1;
        if gone {
            break;
        }
        ensure!(rounds < 100_000, "the namespace stays");
    }
    done(&session.io(1).read(1, &Io::at(0, 1), BLOCK)?)
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
