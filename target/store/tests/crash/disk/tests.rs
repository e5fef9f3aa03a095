//! The simulated device keeps what a real one keeps, and no more.

use std::rc::Rc;

use super::*;

fn write(disk: &SimDisk, slot: u64, byte: u8, memory: &mut Vec<u8>) {
    memory[..SLOT].fill(byte);
    let parts = vec![Part { offset: 0, len: SLOT }];
    disk.submit(DiskOp::Write { token: DiskToken::from_raw(1), offset: slot * SLOT as u64, parts }, memory);
}

fn done(disk: &SimDisk, memory: &mut Vec<u8>) -> Result<(), DiskError> {
    let done = disk.complete(memory).unwrap();
    assert_eq!(disk.violation(), None);
    done.result
}

fn flush(disk: &SimDisk) {
    disk.submit(DiskOp::Flush { token: DiskToken::from_raw(2) }, &Vec::new());
}

fn first_byte(disk: &SimDisk, slot: u64) -> u8 {
    disk.slot(slot)[0]
}

/// What a crash leaves of slot 3, over many seeds: how often only old, only new, or both.
fn outcomes(sector: usize, prepare: impl Fn(&SimDisk, &mut Vec<u8>)) -> [usize; 3] {
    let mut counts = [0; 3];
    for seed in 0..300 {
        let disk = SimDisk::new(8, sector, seed);
        let mut memory = vec![0; SLOT];
        prepare(&disk, &mut memory);
        disk.crash();
        let slot = disk.slot(3);
        let new = slot.iter().filter(|byte| **byte == 2).count();
        counts[if new == 0 {
            0
        } else if new == SLOT {
            1
        } else {
            2
        }] += 1;
    }
    counts
}

#[test]
fn flushed_write_survives_every_crash() {
    let counts = outcomes(512, |disk, memory| {
        write(disk, 3, 2, memory);
        done(disk, memory).unwrap();
        flush(disk);
        done(disk, memory).unwrap();
    });
    assert_eq!(counts, [0, 300, 0]);
}

#[test]
fn reported_but_unflushed_write_may_be_lost_or_torn() {
    let reported = |disk: &SimDisk, memory: &mut Vec<u8>| {
        write(disk, 3, 2, memory);
        done(disk, memory).unwrap();
    };
    assert!(outcomes(512, reported).iter().all(|count| *count > 20));
    let [old, new, torn] = outcomes(4096, reported);
    assert!(old > 20 && new > 20 && torn == 0, "a sector is never torn");
}

#[test]
fn flush_does_not_cover_what_was_reported_after_it_began() {
    let counts = outcomes(512, |disk, memory| {
        flush(disk);
        write(disk, 3, 2, memory);
        done(disk, memory).unwrap();
        done(disk, memory).unwrap();
    });
    assert!(counts.iter().all(|count| *count > 10), "{counts:?}");
}

#[test]
fn write_in_flight_may_have_arrived() {
    let counts = outcomes(512, |disk, memory| write(disk, 3, 2, memory));
    assert!(counts.iter().all(|count| *count > 20), "{counts:?}");
}

#[test]
fn earlier_of_two_unflushed_versions_may_be_the_one_that_is_left() {
    let mut earlier = 0;
    for seed in 0..300 {
        let disk = SimDisk::new(8, 4096, seed);
        let mut memory = vec![0; SLOT];
        for byte in [1, 2] {
            write(&disk, 3, byte, &mut memory);
            done(&disk, &mut memory).unwrap();
        }
        disk.crash();
        earlier += usize::from(first_byte(&disk, 3) == 1);
    }
    assert!(earlier > 20);
}

#[test]
fn operations_end_in_any_order() {
    let mut reordered = 0;
    for seed in 0..100 {
        let disk = SimDisk::new(8, 512, seed);
        let mut memory = vec![0; SLOT];
        for token in 0..4 {
            let parts = vec![Part { offset: 0, len: SLOT }];
            let offset = token * SLOT as u64;
            disk.submit(DiskOp::Write { token: DiskToken::from_raw(token), offset, parts }, &memory);
        }
        let order: Vec<u64> = (0..4).map(|_| disk.complete(&mut memory).unwrap().token.raw()).collect();
        reordered += usize::from(order != [0, 1, 2, 3]);
    }
    assert!(reordered > 50);
}

#[test]
fn what_is_altered_on_its_way_or_written_while_it_is_read_is_noticed() {
    let disk = SimDisk::new(8, 512, 1);
    let mut memory = vec![0; SLOT];
    write(&disk, 3, 2, &mut memory);
    memory[5] = 9;
    disk.complete(&mut memory);
    assert!(disk.violation().is_some());
    let parts = vec![Part { offset: 0, len: SLOT }];
    disk.submit(DiskOp::Read { token: DiskToken::from_raw(4), offset: 3 * SLOT as u64, parts }, &memory);
    write(&disk, 3, 1, &mut memory);
    assert!(disk.violation().is_some());
}

#[test]
fn power_fails_in_the_middle_of_a_blocking_operation() {
    let disk = SimDisk::new(8, 512, 1);
    disk.lose_power_after(Some(2));
    assert_eq!(disk.write_at(0, &[1; SLOT]), Ok(()));
    assert_eq!(disk.flush(), Err(DiskError::Gone));
    assert_eq!(disk.read_at(0, &mut [0; SLOT]), Err(DiskError::Gone));
    assert!(disk.is_dark());
    disk.crash();
    assert_eq!(disk.read_at(0, &mut [0; SLOT]), Ok(()));
}

#[test]
fn faults_do_what_they_say() {
    let disk = SimDisk::new(8, 512, 1);
    let mut memory = vec![0; SLOT];
    disk.overwrite(3, Rc::new([7; SLOT]));
    disk.set_faults(Faults { write_lost: 1000, ..Faults::default() });
    write(&disk, 3, 2, &mut memory);
    assert_eq!((done(&disk, &mut memory), first_byte(&disk, 3)), (Ok(()), 7));
    disk.set_faults(Faults { write_elsewhere: 1000, only: 5..6, ..Faults::default() });
    write(&disk, 5, 2, &mut memory);
    assert_eq!((done(&disk, &mut memory), first_byte(&disk, 5)), (Ok(()), 2));
    disk.set_faults(Faults { write_error: 1000, ..Faults::default() });
    write(&disk, 4, 2, &mut memory);
    assert_eq!(done(&disk, &mut memory), Err(DiskError::Io));
    disk.set_faults(Faults { flush_error: 1000, ..Faults::default() });
    flush(&disk);
    assert_eq!(done(&disk, &mut memory), Err(DiskError::Io));
    disk.set_faults(Faults { unreadable: [3].into(), ..Faults::default() });
    assert_eq!(disk.read_at(3 * SLOT as u64, &mut [0; SLOT]), Err(DiskError::Io));
    disk.set_faults(Faults { gone: true, ..Faults::default() });
    assert_eq!(disk.read_at(2 * SLOT as u64, &mut [0; SLOT]), Err(DiskError::Gone));
}
