//! Compare. NVM Command Set 1.1 §3.3.1 "Compare command".

use anyhow::{Context as _, Result};
use holdfast_testkit::wire::{code, opcode};
use holdfast_testkit::{Command, Io, Placement};

use super::{BLOCK, holds, session, small_session};
use crate::check::{pattern, same, status};
use crate::fields::done;
use crate::{Case, Lab};

const CLAUSE: &str = "NVM Command Set 1.1 §3.3.1 \"Compare command\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.compare.equal", clause: CLAUSE, run: equal_blocks_compare },
    Case { id: "nvm.compare.every-byte", clause: CLAUSE, run: any_byte_counts },
    Case { id: "nvm.compare.every-block", clause: CLAUSE, run: any_block_counts },
    Case { id: "nvm.compare.small-blocks", clause: CLAUSE, run: small_blocks_compare },
    Case { id: "nvm.compare.unwritten", clause: CLAUSE, run: unwritten_blocks_are_zeroes },
    Case { id: "nvm.compare.changes-nothing", clause: CLAUSE, run: nothing_is_written },
    Case { id: "nvm.compare.solicited", clause: CLAUSE, run: data_may_come_on_an_r2t },
    Case { id: "nvm.compare.large", clause: CLAUSE, run: a_whole_transfer_compares },
];

fn equal_blocks_compare(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for blocks in [1, 2, 7, 32] {
        let data = pattern(u64::from(blocks), usize::try_from(blocks)? * BLOCK);
        done(&io.write(1, &Io::at(2600, blocks), &data)?)?;
        let completion = io.compare(1, &Io::at(2600, blocks), &data)?;
        done(&completion)?;
        same("bytes of data", completion.data.len(), 0)?;
    }
    Ok(())
}

/// Data that differs in one bit of one byte.
fn bent(data: &[u8], at: usize) -> Vec<u8> {
    let mut other = data.to_vec();
    if let Some(byte) = other.get_mut(at) {
        *byte ^= 0x10;
    }
    other
}

fn any_byte_counts(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = pattern(41, BLOCK);
    done(&io.write(1, &Io::at(2640, 1), &data)?)?;
    for at in [0, 1, 63, 64, 511, 512, 2048, BLOCK - 1] {
        let completion = io.compare(1, &Io::at(2640, 1), &bent(&data, at))?;
        status(&completion, code::COMPARE_FAILURE).with_context(|| format!("byte {at}"))?;
    }
    Ok(())
}

fn any_block_counts(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = pattern(42, 16 * BLOCK);
    done(&io.write(1, &Io::at(2650, 16), &data)?)?;
    for block in 0..16 {
        let completion = io.compare(1, &Io::at(2650, 16), &bent(&data, block * BLOCK + 100))?;
        status(&completion, code::COMPARE_FAILURE).with_context(|| format!("block {block}"))?;
    }
    done(&io.compare(1, &Io::at(2650, 16), &data)?)
}

fn small_blocks_compare(lab: &mut Lab) -> Result<()> {
    let mut session = small_session(lab)?;
    let io = session.io(1);
    let data = pattern(43, 24 * 512);
    done(&io.write(1, &Io::at(333, 24), &data)?)?;
    done(&io.compare(1, &Io::at(333, 24), &data)?)?;
    for block in [0, 11, 23] {
        let completion = io.compare(1, &Io::at(333, 24), &bent(&data, block * 512 + 511))?;
        status(&completion, code::COMPARE_FAILURE).with_context(|| format!("block {block}"))?;
    }
    Ok(())
}

fn unwritten_blocks_are_zeroes(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    done(&io.write_zeroes(1, &Io::at(2680, 4).deallocate())?)?;
    done(&io.compare(1, &Io::at(2680, 4), &vec![0; 4 * BLOCK])?)?;
    status(&io.compare(1, &Io::at(2680, 4), &bent(&vec![0; 4 * BLOCK], 9000))?, code::COMPARE_FAILURE)
}

fn nothing_is_written(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = pattern(44, 8 * BLOCK);
    done(&io.write(1, &Io::at(2690, 8), &data)?)?;
    status(&io.compare(1, &Io::at(2690, 8), &pattern(45, 8 * BLOCK))?, code::COMPARE_FAILURE)?;
    holds(io, 2690, &data)
}

fn data_may_come_on_an_r2t(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = pattern(46, BLOCK);
    done(&io.write(1, &Io::at(2700, 1), &data)?)?;
    for placement in [Placement::Solicited, Placement::InCapsule] {
        let sqe = Io::at(2700, 1).sqe(opcode::COMPARE, 1);
        done(&io.run(Command::with_data(sqe, data.clone()).placed(placement))?)?;
        let other = Command::with_data(sqe, bent(&data, 4000)).placed(placement);
        status(&io.run(other)?, code::COMPARE_FAILURE)?;
    }
    Ok(())
}

fn a_whole_transfer_compares(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let data = pattern(47, 256 * BLOCK);
    done(&io.write(1, &Io::at(2710, 256), &data)?)?;
    done(&io.compare(1, &Io::at(2710, 256), &data)?)?;
    status(&io.compare(1, &Io::at(2710, 256), &bent(&data, 256 * BLOCK - 1))?, code::COMPARE_FAILURE)
}
