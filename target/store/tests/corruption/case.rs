//! One change of one pool: the offline check names it, the pool opens or says why not, every block is what it should be or a
//! media error, and what is left goes on.

use holdfast_store::OpenPoolError;
use holdfast_store::disk::check::{CheckOptions, CheckReport, Problem, Severity, check};

use crate::disk::Disk;
use crate::expect::{Expected, damaged_of, expect, is_unsure};
use crate::pool::{CellState, EMPTY, LARGE, Pool, SMALL, What, blocks_of};
use crate::state::{Kind, State, Structure};

/// How it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Whole,
    PartsLost,
    /// Changes that were not known to be durable are gone: nothing tells them from those that never were.
    Older,
    Refused,
}

/// Looks at the pool on `disk`, in which nothing but `changed` was changed.
pub(crate) fn look(state: &State, disk: &Disk, changed: &[Structure]) -> Result<Outcome, String> {
    let slots: Vec<u64> = changed.iter().map(|structure| structure.slot).collect();
    let damaged = damaged_of(state, disk, &slots);
    let (expected, known) = expect(state, disk, &damaged);
    named(state, disk, changed, &damaged, known)?;
    let expected = match (expected, Pool::open(disk)) {
        (Expected::Opens(cells), Ok(pool)) => {
            compare_all(pool, &cells)?;
            cells
        }
        (Expected::Refused, Ok(_)) => return Err("it was opened".to_owned()),
        (Expected::Opens(_), Err(error)) => return Err(format!("it was not opened: {error}")),
        (Expected::Refused, Err(error)) => return refused(changed, error),
    };
    go_on(disk, expected.clone())?;
    let whole = |cell: &CellState| !cell.contains(&What::Lost);
    let (untouched, _) = expect(state, &Disk::new(state.image.clone()), &[]);
    Ok(match untouched {
        _ if !expected.values().all(whole) => Outcome::PartsLost,
        Expected::Opens(before) if before == expected => Outcome::Whole,
        Expected::Opens(_) | Expected::Refused => Outcome::Older,
    })
}

fn refused(changed: &[Structure], error: OpenPoolError) -> Result<Outcome, String> {
    let mut kinds = changed.iter().map(|structure| structure.kind);
    let fits = match error {
        OpenPoolError::JournalLost { number } => kinds.any(|kind| kind == Kind::Journal { number }),
        OpenPoolError::Table { .. } => kinds.any(|kind| matches!(kind, Kind::Table { .. })),
        OpenPoolError::Superblocks(..) | OpenPoolError::TwoPools => {
            kinds.any(|kind| kind == Kind::Superblock)
        }
        _ => false,
    };
    if fits { Ok(Outcome::Refused) } else { Err(format!("refused with the wrong words: {error}")) }
}

/// The check names what was changed, as badly as it is.
fn named(
    state: &State,
    disk: &Disk,
    changed: &[Structure],
    damaged: &[u64],
    known: u64,
) -> Result<(), String> {
    let report = check(disk, CheckOptions { data: true }, &mut |_| ()).map_err(|error| error.to_string())?;
    let silent = |structure: &&Structure| match structure.kind {
        Kind::Journal { number } => number > known,
        Kind::Data => is_unsure(state, structure.slot, known),
        _ => false,
    };
    let spoken: Vec<&Structure> = changed
        .iter()
        .filter(|structure| damaged.contains(&structure.slot))
        .filter(|structure| !silent(structure))
        .collect();
    let found = spoken.iter().any(|structure| is_named(&report, structure));
    match found || spoken.is_empty() {
        true => Ok(()),
        false => Err(format!("the check does not name it: {:?}", report.findings)),
    }
}

fn is_named(report: &CheckReport, structure: &Structure) -> bool {
    let fits = |severity: Severity| match structure.kind {
        Kind::Superblock | Kind::Table { .. } => severity == Severity::Warning,
        Kind::Map { .. } | Kind::Data => severity == Severity::Damage,
        Kind::Journal { .. } => severity == Severity::Fatal || severity == Severity::Warning,
    };
    report.findings.iter().any(|finding| {
        let whole = matches!(finding.problem, Problem::OlderCopy | Problem::TwoPools);
        let there = finding.slot == Some(structure.slot) && fits(finding.severity);
        there || (whole && structure.kind == Kind::Superblock)
    })
}

fn compare_all(
    mut pool: Pool<'_>,
    cells: &std::collections::BTreeMap<(u64, u64), CellState>,
) -> Result<(), String> {
    let volumes = pool.volumes();
    if !volumes.starts_with(&[LARGE, SMALL]) {
        return Err(format!("volumes {volumes:?}"));
    }
    cells.iter().try_for_each(|((volume, cell), state)| pool.compare(*volume, *cell, state))
}

/// Whole and damaged cells can be written, and what is written lasts.
fn go_on(disk: &Disk, mut cells: std::collections::BTreeMap<(u64, u64), CellState>) -> Result<(), String> {
    let mut pool = Pool::open(disk).map_err(|error| format!("the second time: {error}"))?;
    let lost = cells.iter().find(|(_, state)| state.contains(&What::Lost)).map(|(at, _)| *at);
    let whole =
        |of: u64| cells.iter().find(|((volume, _), state)| *volume == of && !state.contains(&What::Lost));
    let targets = [whole(LARGE).map(|(at, _)| *at), whole(SMALL).map(|(at, _)| *at), lost];
    for (volume, cell) in targets.into_iter().flatten() {
        let (first, blocks) = blocks_of(volume, cell);
        let whats = vec![What::Data(5000); blocks as usize];
        pool.write(volume, first, &whats)
            .map_err(|error| format!("volume {volume}, cell {cell}: {error}"))?;
        let mut state = EMPTY;
        state[..whats.len()].copy_from_slice(&whats);
        cells.insert((volume, cell), state);
    }
    pool.flush();
    drop(pool);
    compare_all(Pool::open(disk).map_err(|error| format!("the third time: {error}"))?, &cells)
        .map_err(|error| format!("after going on: {error}"))
}
