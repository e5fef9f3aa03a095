//! A scripted host at work until the power goes, and the reader that looks at what is left.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::{Sqe, code, opcode};
use holdfast_testkit::{Command, Completion, Io, Queue, Session};

use crate::content::{Content, Random, TUPLE_BYTES, app_tag};
use crate::model::{Covered, Found, Model};

/// The namespace of every volume.
const NSID: u32 = 1;
/// Commands that a host has under way at most: one of these in each round.
const DEPTHS: [usize; 4] = [1, 4, 16, 32];
/// Bytes of data that one command moves at most.
const COMMAND_BYTES_MAX: usize = 128 << 10;
/// Bytes of data that the reader asks for at once.
const READER_BYTES: usize = 512 << 10;
/// Tries to find blocks that nothing else touches.
const TRIES: usize = 8;

/// A command under way.
#[derive(Debug)]
enum Pending {
    Change { range: Range<usize>, durable: bool },
    Read { range: Range<usize>, expected: Vec<Content> },
    Compare { range: Range<usize>, equal: bool },
    Flush(Covered),
}

/// Works on the blocks of `model` until the power goes, which `cut` says, or so many commands have been carried out; tells
/// `done` of each.
///
/// # Errors
/// When something else than the power fails, or a block does not read as it was written.
pub(crate) fn work(
    model: &mut Model,
    session: &mut Session,
    random: &mut Random,
    cut: &AtomicBool,
    done: &Sender<()>,
    commands: u64,
) -> Result<()> {
    let depth = DEPTHS[random.below(DEPTHS.len() as u64) as usize];
    let queue = session.io(1);
    let mut pending = BTreeMap::new();
    let mut left = commands;
    while left > 0 || !pending.is_empty() {
        match turn(model, queue, random, depth, &mut pending, &mut left) {
            Err(error) if is_end(&error) && cut.load(Ordering::SeqCst) => return Ok(()),
            Err(error) => return Err(error.context(format!("host {}", model.host))),
            Ok(()) => {
                // Nobody listens any more once enough has been done.
                let _ = done.send(());
            }
        }
    }
    Ok(())
}

/// Whether the connection has ended; nothing else may be wrong with it.
fn is_end(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<holdfast_testkit::Error>();
    error.is_some_and(holdfast_testkit::Error::is_closed)
}

fn turn(
    model: &mut Model,
    queue: &mut Queue,
    random: &mut Random,
    depth: usize,
    pending: &mut BTreeMap<u16, Pending>,
    left: &mut u64,
) -> Result<()> {
    while pending.len() < depth && *left > 0 {
        let Some((command, entry)) = choose(model, random) else { break };
        // It counts as submitted even if only half of it gets out.
        *left -= 1;
        let cid = queue.submit(command)?;
        pending.insert(cid, entry);
    }
    let (cid, completion) = queue.wait_any()?;
    let entry = pending.remove(&cid).context("a completion of no command")?;
    end(model, entry, &completion)
}

/// The next command, if there are blocks for it.
fn choose(model: &mut Model, random: &mut Random) -> Option<(Command, Pending)> {
    if random.one_in(24) {
        let flush = Command::bare(Sqe::new(opcode::FLUSH).with_nsid(NSID));
        return Some((flush, Pending::Flush(model.start_flush())));
    }
    let range = (0..TRIES).map(|_| pick(model, random)).find(|range| model.is_idle(range.clone()))?;
    Some(match random.below(100) {
        0..60 => write(model, range, random.one_in(12)),
        60..66 => write_zeroes(model, range, random.one_in(6)),
        66..70 => clear(model, range, random.one_in(2)),
        70..95 => read(model, range),
        _ => compare(model, range, random.one_in(4)),
    })
}

/// A few blocks anywhere: mostly few, now and then as many as a command may have.
fn pick(model: &Model, random: &mut Random) -> Range<usize> {
    let most = (COMMAND_BYTES_MAX / model.block_bytes).min(model.len());
    let most = [1, 2, 9, most][random.below(4) as usize].min(most);
    let count = 1 + random.below(most as u64) as usize;
    let start = random.below((model.len() - count + 1) as u64) as usize;
    start..start + count
}

fn at(model: &Model, range: &Range<usize>) -> Io {
    let place = model.place(range.start);
    Io::at(place.lba, range.len() as u32).ref_tag(place.lba as u32)
}

fn write(model: &mut Model, range: Range<usize>, fua: bool) -> (Command, Pending) {
    let version = model.next_version();
    let stride = model.block_bytes + TUPLE_BYTES;
    let mut wire = vec![0; stride * range.len()];
    let blocks = range.clone().zip(wire.chunks_exact_mut(stride));
    let contents: Vec<Content> =
        blocks.map(|(index, wire)| Content::write(model.place(index), version, wire)).collect();
    model.start_changing(range.start, &contents);
    let io = at(model, &range).check_all().app_tag(app_tag(version));
    let io = if fua { io.fua() } else { io };
    let command = Command::with_data(io.sqe(opcode::WRITE, NSID), wire);
    (command, Pending::Change { range, durable: fua })
}

fn write_zeroes(model: &mut Model, range: Range<usize>, fua: bool) -> (Command, Pending) {
    let version = model.next_version();
    let contents: Vec<Content> =
        range.clone().map(|index| Content::zeroes(model.place(index), version)).collect();
    model.start_changing(range.start, &contents);
    let io = at(model, &range).pract().app_tag(app_tag(version));
    let io = if fua { io.fua() } else { io };
    (Command::bare(io.sqe(opcode::WRITE_ZEROES, NSID)), Pending::Change { range, durable: fua })
}

/// Deallocates, by Dataset Management or by Write Zeroes.
fn clear(model: &mut Model, range: Range<usize>, by_zeroes: bool) -> (Command, Pending) {
    model.start_changing(range.start, &vec![Content::NOTHING; range.len()]);
    let command = if by_zeroes {
        Command::bare(at(model, &range).deallocate().sqe(opcode::WRITE_ZEROES, NSID))
    } else {
        let mut list = vec![0; 4];
        list.extend_from_slice(&(range.len() as u32).to_le_bytes());
        list.extend_from_slice(&model.place(range.start).lba.to_le_bytes());
        let sqe = Sqe::new(opcode::DATASET_MANAGEMENT).with_nsid(NSID).cdw(10, 0).cdw(11, 1 << 2);
        Command::with_data(sqe, list)
    };
    (command, Pending::Change { range, durable: false })
}

fn read(model: &mut Model, range: Range<usize>) -> (Command, Pending) {
    let expected = model.current(range.clone());
    model.start_reading(range.clone());
    let len = (model.block_bytes + TUPLE_BYTES) * range.len();
    let io = at(model, &range).check_guard().check_ref();
    (Command::reading(io.sqe(opcode::READ, NSID), len), Pending::Read { range, expected })
}

fn compare(model: &mut Model, range: Range<usize>, spoil: bool) -> (Command, Pending) {
    let stride = model.block_bytes + TUPLE_BYTES;
    let mut wire = vec![0; stride * range.len()];
    let contents = model.current(range.clone());
    for ((index, content), wire) in range.clone().zip(contents).zip(wire.chunks_exact_mut(stride)) {
        content.render(model.place(index), wire);
    }
    if spoil {
        wire[0] ^= 1;
    }
    model.start_reading(range.clone());
    let command = Command::with_data(at(model, &range).sqe(opcode::COMPARE, NSID), wire);
    (command, Pending::Compare { range, equal: !spoil })
}

fn end(model: &mut Model, entry: Pending, completion: &Completion) -> Result<()> {
    let status = completion.status();
    match entry {
        Pending::Change { range, durable } => {
            ensure!(status.is_success(), "a change of {range:?}: {status}");
            model.end(range, durable);
        }
        Pending::Read { range, expected } => {
            ensure!(status.is_success(), "a read of {range:?}: {status}");
            let stride = model.block_bytes + TUPLE_BYTES;
            ensure!(
                completion.data.len() == stride * range.len(),
                "{range:?}: {} bytes",
                completion.data.len()
            );
            let blocks = range.clone().zip(expected).zip(completion.data.chunks_exact(stride));
            for ((index, content), wire) in blocks {
                let place = model.place(index);
                let seen = || crate::content::describe(place, wire);
                ensure!(content.is(place, wire), "{place:?} reads {}, and is {content:?}", seen());
            }
            model.end(range, false);
        }
        Pending::Compare { range, equal } => {
            let right = if equal { status.is_success() } else { status.pair() == code::COMPARE_FAILURE };
            ensure!(right, "a Compare of {range:?} with what is there ({equal}): {status}");
            model.end(range, false);
        }
        Pending::Flush(covered) => {
            ensure!(status.is_success(), "a flush: {status}");
            model.end_flush(&covered);
        }
    }
    Ok(())
}

/// Reads all blocks of `model` after a loss of power; `None` while the volume is not ready.
///
/// # Errors
/// When something was lost, or cannot be read.
pub(crate) fn look(model: &mut Model, session: &mut Session) -> Result<Option<Found>> {
    let mut found = Found::default();
    let step = READER_BYTES / model.block_bytes;
    let mut start = 0;
    while start < model.len() {
        let range = start..(start + step).min(model.len());
        let io = at(model, &range).check_guard().check_ref();
        let completion = session.io(1).read(NSID, &io, (model.block_bytes + TUPLE_BYTES) * range.len())?;
        let status = completion.status();
        if start == 0 && status.pair() == code::NAMESPACE_NOT_READY {
            return Ok(None);
        }
        let (host, volume) = (model.host, model.volume);
        ensure!(
            status.is_success(),
            "host {host}, volume {volume}, blocks {range:?}: cannot be read: {status}"
        );
        found += model.take_in(start, &completion.data)?;
        start = range.end;
    }
    Ok(Some(found))
}
