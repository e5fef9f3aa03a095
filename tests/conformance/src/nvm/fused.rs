//! Compare and Write as one, and pairs that are none. NVM Express Base 2.1 §3.4.2 "Fused Operation"; NVM Command Set 1.1
//! §2.1.3.1 "Compare and Write".

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Completion, Io, Options, Placement, Queue};

use super::{BLOCK, holds, session, size};
use crate::check::{pattern, status, status_among};
use crate::fields::{done, refused_among};
use crate::{Case, Lab};

const BASE: &str = "Base 2.1 §3.4.2 \"Fused Operation\"";
const PAIR: &str = "NVM Command Set 1.1 §2.1.3.1 \"Compare and Write\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "nvm.fused.equal", clause: PAIR, run: equal_blocks_are_replaced },
    Case { id: "nvm.fused.differs", clause: PAIR, run: other_blocks_stay },
    Case { id: "nvm.fused.lengths", clause: PAIR, run: pairs_of_every_length },
    Case { id: "nvm.fused.solicited", clause: PAIR, run: both_halves_may_wait_for_their_data },
    Case { id: "nvm.fused.mixed-placement", clause: PAIR, run: one_half_may_wait_for_its_data },
    Case { id: "nvm.fused.depth", clause: PAIR, run: many_pairs_at_once },
    Case { id: "nvm.fused.range", clause: PAIR, run: both_halves_name_the_same_blocks },
    Case { id: "nvm.fused.namespace", clause: PAIR, run: both_halves_name_the_same_namespace },
    Case { id: "nvm.fused.beyond", clause: PAIR, run: a_pair_beyond_the_end_fails },
    Case { id: "nvm.fused.lone-first", clause: BASE, run: a_first_half_without_a_second_is_aborted },
    Case { id: "nvm.fused.lone-second", clause: BASE, run: a_second_half_without_a_first_is_aborted },
    Case { id: "nvm.fused.two-firsts", clause: BASE, run: of_two_first_halves_the_first_is_aborted },
    Case { id: "nvm.fused.other-queue", clause: BASE, run: halves_on_two_queues_are_no_pair },
    Case { id: "nvm.fused.reversed", clause: BASE, run: write_then_compare_is_no_pair },
    Case { id: "nvm.fused.other-commands", clause: BASE, run: other_commands_do_not_fuse },
    Case { id: "nvm.fused.reserved", clause: BASE, run: both_bits_are_reserved },
    Case { id: "nvm.fused.works-on", clause: BASE, run: the_queue_works_on },
];

fn halves(slba: u64, expected: &[u8], new: &[u8]) -> Result<(Command, Command)> {
    let at = Io::at(slba, u32::try_from(expected.len() / BLOCK)?);
    Ok((
        Command::with_data(at.sqe(opcode::COMPARE, 1), expected.to_vec()),
        Command::with_data(at.sqe(opcode::WRITE, 1), new.to_vec()),
    ))
}

fn stored(io: &mut Queue, slba: u64, seed: u64, blocks: u32) -> Result<Vec<u8>> {
    let data = pattern(seed, usize::try_from(blocks)? * BLOCK);
    done(&io.write(1, &Io::at(slba, blocks), &data)?)?;
    Ok(data)
}

fn both_done((compare, write): &(Completion, Completion)) -> Result<()> {
    done(compare).context("Compare")?;
    done(write).context("Write")
}

fn equal_blocks_are_replaced(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let mut old = stored(io, 3000, 1, 1)?;
    for round in 2..20 {
        let new = pattern(round, BLOCK);
        both_done(&io.compare_and_write(1, &Io::at(3000, 1), &old, &new)?)?;
        holds(io, 3000, &new)?;
        old = new;
    }
    Ok(())
}

fn other_blocks_stay(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = stored(io, 3010, 30, 4)?;
    for block in [0, 3] {
        let mut expected = old.clone();
        if let Some(byte) = expected.get_mut(block * BLOCK + 5) {
            *byte ^= 1;
        }
        let (compare, write) =
            io.compare_and_write(1, &Io::at(3010, 4), &expected, &pattern(31, 4 * BLOCK))?;
        status(&compare, code::COMPARE_FAILURE)?;
        status(&write, code::FUSED_ABORTED)?;
        holds(io, 3010, &old)?;
    }
    Ok(())
}

fn pairs_of_every_length(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for blocks in [1, 2, 3, 8, 32] {
        let old = stored(io, 3020, 40, blocks)?;
        let new = pattern(41 + u64::from(blocks), old.len());
        both_done(&io.compare_and_write(1, &Io::at(3020, blocks), &old, &new)?)
            .with_context(|| format!("{blocks} blocks"))?;
        holds(io, 3020, &new)?;
    }
    Ok(())
}

fn both_halves_may_wait_for_their_data(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = stored(io, 3060, 50, 1)?;
    let new = pattern(51, BLOCK);
    let (compare, write) = halves(3060, &old, &new)?;
    both_done(&io.fused(compare.placed(Placement::Solicited), write.placed(Placement::Solicited))?)?;
    holds(io, 3060, &new)
}

fn one_half_may_wait_for_its_data(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for (first, second) in
        [(Placement::InCapsule, Placement::Solicited), (Placement::Solicited, Placement::InCapsule)]
    {
        let old = stored(io, 3062, 52, 1)?;
        let new = pattern(53, BLOCK);
        let (compare, write) = halves(3062, &old, &new)?;
        both_done(&io.fused(compare.placed(first), write.placed(second))?)?;
        holds(io, 3062, &new)?;
        let (compare, write) = halves(3062, &old, &pattern(54, BLOCK))?;
        let (compare, write) = io.fused(compare.placed(first), write.placed(second))?;
        status(&compare, code::COMPARE_FAILURE)?;
        status(&write, code::FUSED_ABORTED)?;
        holds(io, 3062, &new)?;
    }
    Ok(())
}

fn many_pairs_at_once(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let mut pairs = Vec::new();
    for index in 0..32 {
        stored(io, 3100 + index, 60 + index, 1)?;
    }
    for index in 0..32 {
        let (compare, write) =
            halves(3100 + index, &pattern(60 + index, BLOCK), &pattern(160 + index, BLOCK))?;
        pairs.push((io.submit(compare.fused(1))?, io.submit(write.fused(2))?));
    }
    for (compare, write) in pairs {
        done(&io.wait(compare)?)?;
        done(&io.wait(write)?)?;
    }
    for index in 0..32 {
        holds(io, 3100 + index, &pattern(160 + index, BLOCK))?;
    }
    Ok(())
}

/// If the ranges differ both commands should be aborted with Invalid Field in Command.
fn both_halves_name_the_same_blocks(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = stored(io, 3140, 70, 4)?;
    for (slba, blocks) in [(3141, 1), (3140, 2)] {
        let compare = Command::with_data(
            Io::at(3140, 1).sqe(opcode::COMPARE, 1),
            old.get(..BLOCK).unwrap_or_default().to_vec(),
        );
        let data = pattern(71, usize::try_from(blocks)? * BLOCK);
        let write = Command::with_data(Io::at(slba, blocks).sqe(opcode::WRITE, 1), data);
        let (compare, write) = io.fused(compare, write)?;
        refused_among(&compare, &[code::INVALID_FIELD]).context("Compare")?;
        refused_among(&write, &[code::INVALID_FIELD]).context("Write")?;
        holds(io, 3140, &old)?;
    }
    Ok(())
}

fn both_halves_name_the_same_namespace(lab: &mut Lab) -> Result<()> {
    let share = lab.fresh_share(crate::Format::STANDARD)?;
    lab.add_namespace(&share, 2, crate::Format::STANDARD)?;
    let mut session = lab.open_as("plain", &share, crate::View::Plain, Options::default())?;
    let io = session.io(1);
    let at = Io::at(0, 1);
    let compare = Command::with_data(at.sqe(opcode::COMPARE, 1), vec![0; BLOCK]);
    let write = Command::with_data(at.sqe(opcode::WRITE, 2), pattern(72, BLOCK));
    let (compare, write) = io.fused(compare, write)?;
    ensure!(!write.status().is_success(), "a Write to another namespace was done");
    status_among(&compare, &[code::INVALID_FIELD, code::FUSED_MISSING])?;
    status_among(&write, &[code::INVALID_FIELD, code::FUSED_MISSING, code::FUSED_ABORTED])?;
    let found = io.read(2, &at, BLOCK)?.ok()?.data;
    ensure!(found.iter().all(|byte| *byte == 0), "the other namespace was written");
    Ok(())
}

fn a_pair_beyond_the_end_fails(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let end = size(&mut session)?;
    let io = session.io(1);
    let (compare, write) =
        io.compare_and_write(1, &Io::at(end - 1, 2), &vec![0; 2 * BLOCK], &vec![1; 2 * BLOCK])?;
    status(&compare, code::LBA_OUT_OF_RANGE)?;
    status_among(&write, &[code::FUSED_ABORTED, code::LBA_OUT_OF_RANGE])
}

fn a_first_half_without_a_second_is_aborted(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = stored(io, 3150, 80, 1)?;
    let (compare, _) = halves(3150, &old, &old)?;
    for placement in [Placement::InCapsule, Placement::Solicited] {
        let lone = io.submit(compare.clone().fused(1).placed(placement))?;
        // The next command shows that there is no second half, and is done.
        done(&io.read(1, &Io::at(3150, 1), BLOCK)?)?;
        status(&io.wait(lone)?, code::FUSED_MISSING)?;
    }
    Ok(())
}

fn a_second_half_without_a_first_is_aborted(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = stored(io, 3160, 81, 1)?;
    for placement in [Placement::InCapsule, Placement::Solicited] {
        let (_, write) = halves(3160, &old, &pattern(82, BLOCK))?;
        status(&io.run(write.fused(2).placed(placement))?, code::FUSED_MISSING)?;
        holds(io, 3160, &old)?;
    }
    Ok(())
}

fn of_two_first_halves_the_first_is_aborted(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = stored(io, 3170, 83, 1)?;
    let new = pattern(84, BLOCK);
    let (compare, write) = halves(3170, &old, &new)?;
    let lone = io.submit(compare.clone().fused(1))?;
    let pair = io.fused(compare, write)?;
    both_done(&pair)?;
    status(&io.wait(lone)?, code::FUSED_MISSING)?;
    holds(io, 3170, &new)
}

fn halves_on_two_queues_are_no_pair(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(2))?;
    let old = stored(session.io(1), 3180, 85, 1)?;
    let (compare, write) = halves(3180, &old, &pattern(86, BLOCK))?;
    let lone = session.io(1).submit(compare.fused(1))?;
    status(&session.io(2).run(write.fused(2))?, code::FUSED_MISSING)?;
    holds(session.io(1), 3180, &old)?;
    status(&session.io(1).wait(lone)?, code::FUSED_MISSING)
}

fn write_then_compare_is_no_pair(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = stored(io, 3190, 87, 1)?;
    let (compare, write) = halves(3190, &old, &pattern(88, BLOCK))?;
    let (write, compare) = io.fused(write, compare)?;
    let refusals = [code::INVALID_FIELD, code::FUSED_MISSING, code::FUSED_ABORTED];
    status_among(&write, &refusals)?;
    status_among(&compare, &refusals)?;
    holds(io, 3190, &old)
}

fn other_commands_do_not_fuse(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = stored(io, 3200, 89, 1)?;
    let refusals = [code::INVALID_FIELD, code::FUSED_MISSING, code::FUSED_ABORTED];
    let at = Io::at(3200, 1);
    let read = || Command::reading(at.sqe(opcode::READ, 1), BLOCK);
    let zeroes = || Command::bare(at.sqe(opcode::WRITE_ZEROES, 1));
    let flush = || Command::bare(Sqe::new(opcode::FLUSH).with_nsid(1));
    let (compare, write) = halves(3200, &old, &pattern(90, BLOCK))?;
    for (first, second) in [(read(), write), (compare, zeroes()), (flush(), flush()), (zeroes(), read())] {
        let (first, second) = io.fused(first, second)?;
        status_among(&first, &refusals).context("the first command")?;
        status_among(&second, &refusals).context("the second command")?;
        holds(io, 3200, &old)?;
    }
    Ok(())
}

fn both_bits_are_reserved(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    let old = stored(io, 3210, 91, 1)?;
    let (compare, write) = halves(3210, &old, &pattern(92, BLOCK))?;
    refused_among(&io.run(compare.fused(3))?, &[code::INVALID_FIELD])?;
    refused_among(&io.run(write.fused(3))?, &[code::INVALID_FIELD])?;
    holds(io, 3210, &old)
}

fn the_queue_works_on(lab: &mut Lab) -> Result<()> {
    let mut session = session(lab)?;
    let io = session.io(1);
    for round in 0..20 {
        let old = stored(io, 3220, 93 + round, 1)?;
        let (compare, write) = halves(3220, &old, &old)?;
        let lone = io.submit(compare.fused(1))?;
        done(&io.flush(1)?)?;
        status(&io.wait(lone)?, code::FUSED_MISSING)?;
        status(&io.run(write.fused(2))?, code::FUSED_MISSING)?;
        holds(io, 3220, &old)?;
    }
    Ok(())
}
