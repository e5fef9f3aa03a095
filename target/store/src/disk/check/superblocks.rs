//! Both copies of the superblock, and which of them counts: the newer one that is right.

use super::super::format::{SLOT_LEN, Superblock, SuperblockError};
use super::super::io::{Device, DiskError};
use super::read_slot;
use super::report::{CheckError, Findings, LookedAt, Problem, Structure};

/// What a copy's place holds.
enum Copy {
    Right(Superblock),
    Wrong(SuperblockError),
    Unreadable(DiskError),
}

/// The superblock that counts; `None`, with findings, if neither copy is right.
pub(super) fn read(
    device: &dyn Device,
    findings: &mut Findings,
    looked_at: &mut LookedAt,
) -> Result<Option<Superblock>, CheckError> {
    let [first_slot, second_slot] = Superblock::SLOTS;
    let copies = [(0, read_copy(device, 0, first_slot)), (1, read_copy(device, 1, second_slot))];
    if device.len() < SLOT_LEN as u64 {
        return Err(CheckError::NotAPool);
    }
    looked_at.superblocks = 2;
    refuse(&copies)?;
    let right = |copy: &Copy| match copy {
        Copy::Right(superblock) => Some(*superblock),
        Copy::Wrong(_) | Copy::Unreadable(_) => None,
    };
    for ((place, copy), slot) in copies.iter().zip(Superblock::SLOTS) {
        let found = match copy {
            Copy::Right(_) => continue,
            Copy::Wrong(error) => (Problem::CopyDamaged, error.to_string()),
            Copy::Unreadable(error) => (Problem::CopyUnreadable, error.to_string()),
        };
        findings.add(Structure::Superblock, found.0, Some(slot), format!("copy {place}: {}", found.1));
    }
    let [(_, first), (_, second)] = &copies;
    let superblock = match (right(first), right(second)) {
        (None, None) => {
            findings.add(
                Structure::Superblock,
                Problem::CopiesLost,
                Some(0),
                "neither copy of the superblock is right",
            );
            return Ok(None);
        }
        (Some(only), None) | (None, Some(only)) => only,
        (Some(first), Some(second)) => {
            compare(&first, &second, findings);
            if second.generation > first.generation { second } else { first }
        }
    };
    look_at(&superblock, device, findings);
    Ok(Some(superblock))
}

fn read_copy(device: &dyn Device, copy: u32, slot: u64) -> Copy {
    match read_slot(device, slot) {
        Err(error) => Copy::Unreadable(error),
        Ok(page) => match Superblock::decode(copy, &page) {
            Ok(superblock) => Copy::Right(superblock),
            Err(error) => Copy::Wrong(error),
        },
    }
}

/// Where nothing is a pool, or a pool of another program, a check has nothing to say.
fn refuse(copies: &[(u32, Copy); 2]) -> Result<(), CheckError> {
    let [(_, first), (_, second)] = copies;
    match (first, second) {
        (Copy::Unreadable(error), Copy::Unreadable(_)) => Err(CheckError::Device(*error)),
        (
            Copy::Wrong(SuperblockError::Magic) | Copy::Unreadable(_),
            Copy::Wrong(SuperblockError::Magic) | Copy::Unreadable(_),
        ) => Err(CheckError::NotAPool),
        (Copy::Right(_), _) | (_, Copy::Right(_)) => Ok(()),
        (Copy::Wrong(error @ (SuperblockError::Version(_) | SuperblockError::Features(_))), _)
        | (_, Copy::Wrong(error @ (SuperblockError::Version(_) | SuperblockError::Features(_)))) => {
            Err(CheckError::Unsupported(*error))
        }
        (Copy::Wrong(_), Copy::Wrong(_) | Copy::Unreadable(_)) | (Copy::Unreadable(_), Copy::Wrong(_)) => {
            Ok(())
        }
    }
}

fn compare(first: &Superblock, second: &Superblock, findings: &mut Findings) {
    // The journal may have gone on between the copies.
    let Superblock { next_number, durable_through, .. } = *first;
    let aligned = Superblock { next_number, durable_through, ..*second };
    let generations = format!("generation {} and generation {}", first.generation, second.generation);
    if first.uuid != second.uuid || first.id != second.id {
        findings.add(Structure::Superblock, Problem::TwoPools, None, "the copies are of two pools");
    } else if first.generation != second.generation {
        findings.add(Structure::Superblock, Problem::OlderCopy, None, generations);
    } else if *first != aligned {
        findings.add(
            Structure::Superblock,
            Problem::CopiesContradict,
            None,
            "the copies say different things",
        );
    }
}

fn look_at(superblock: &Superblock, device: &dyn Device, findings: &mut Findings) {
    let (bytes, needed) = (device.len(), superblock.layout.slots().saturating_mul(SLOT_LEN as u64));
    if bytes < needed {
        let what = format!("the device has {bytes} bytes, the pool needs {needed}");
        findings.add(Structure::Superblock, Problem::DeviceTooShort, None, what);
    }
    let features = superblock.features;
    if features.compatible != 0 || features.unknown_read_only() != 0 {
        let what =
            format!("compatible {:#x}, read-only {:#x}", features.compatible, features.read_only_compatible);
        findings.add(Structure::Superblock, Problem::UnknownFeatures, None, what);
    }
}
