//! How fast this machine computes guards: `cargo run --release -p holdfast-pi --example guards`.
//!
//! Each line is one way to do it, in GB/s for blocks of 512 and 4096 bytes. "Near" is data in the nearest
//! cache, "far" blocks at random places of 512 MiB. The portable way is crc-fast's, which stands behind all
//! guards where the machine has nothing better.

use std::hint::black_box;
use std::time::Instant;

use crc_fast::{CrcAlgorithm, checksum};
use holdfast_pi::{Guard, GuardKind, guard_of, guards_of, prefetch};

/// Bytes that stay near.
const NEAR: usize = 32 << 10;

/// Bytes that do not.
const FAR: usize = 512 << 20;

/// Blocks in a trial, and trials: the median counts, so that it does not matter if some are interrupted.
const TRIAL: usize = 128;
const TRIALS: usize = 1500;

/// Blocks given to [`guards_of`] at a time.
const TOGETHER: usize = 8;

fn main() {
    let mut memory: Vec<u8> = (0..FAR / 8 + 512).flat_map(|word| scramble(word).to_le_bytes()).collect();
    let mut copy = vec![1_u8; FAR + 4096];
    let (memory, copy) = (aligned(&mut memory), aligned(&mut copy));
    for block_len in [512, 4096] {
        let places = |span: usize| -> Vec<usize> {
            (0..TRIAL * TRIALS).map(|at| scramble_below(at, span / block_len) * block_len).collect()
        };
        let (near, far) = (places(NEAR), places(FAR));
        println!("{block_len}-byte blocks, GB/s{:>32}{:>8}", "near", "far");
        for (name, work) in ways() {
            let mut speed = |places: &[usize]| measure(places, block_len, memory, copy, work);
            println!("  {name:<44}{:>8.1}{:>8.1}", speed(&near), speed(&far));
        }
    }
}

/// What is done with the blocks at the given places.
type Work = fn(&[usize], usize, &[u8], &mut [u8]);

fn ways() -> [(&'static str, Work); 12] {
    [
        ("crc-fast CRC-16", |places, len, memory, _| {
            each(places, len, memory, |block| checksum(CrcAlgorithm::Crc16T10Dif, block));
        }),
        ("CRC-16", |places, len, memory, _| {
            each(places, len, memory, |block| guard_of(GuardKind::Crc16, block))
        }),
        ("CRC-16, several blocks at once", |places, len, memory, _| together(places, len, memory, false)),
        ("CRC-16, several at once, prefetched", |places, len, memory, _| together(places, len, memory, true)),
        ("CRC-16 in two pieces", |places, len, memory, _| {
            each(places, len, memory, |block| {
                let mut guard = Guard::new(GuardKind::Crc16);
                guard.update(part(block, 0, len / 3));
                guard.update(part(block, len / 3, len - len / 3));
                guard.take()
            });
        }),
        ("copy alone", |places, len, memory, copy| {
            copying(places, len, memory, copy, |block, to| {
                to.copy_from_slice(block);
                0
            });
        }),
        ("copy, then crc-fast CRC-16", |places, len, memory, copy| {
            copying(places, len, memory, copy, |block, to| {
                to.copy_from_slice(block);
                checksum(CrcAlgorithm::Crc16T10Dif, block)
            });
        }),
        ("copy, then CRC-16", |places, len, memory, copy| {
            copying(places, len, memory, copy, |block, to| {
                to.copy_from_slice(block);
                guard_of(GuardKind::Crc16, block)
            });
        }),
        ("copy and CRC-16", |places, len, memory, copy| {
            copy_and(GuardKind::Crc16, places, len, memory, copy)
        }),
        ("CRC-32C", |places, len, memory, _| {
            each(places, len, memory, |block| guard_of(GuardKind::Crc32c, block))
        }),
        ("copy and CRC-32C", |places, len, memory, copy| {
            copy_and(GuardKind::Crc32c, places, len, memory, copy)
        }),
        ("copy and CRC-64", |places, len, memory, copy| {
            copy_and(GuardKind::Crc64, places, len, memory, copy)
        }),
    ]
}

fn each(places: &[usize], len: usize, memory: &[u8], guard: impl Fn(&[u8]) -> u64) {
    for place in places {
        black_box(guard(part(memory, *place, len)));
    }
}

/// Groups of blocks; the next group's first lines may be asked for before this one is computed.
fn together(places: &[usize], len: usize, memory: &[u8], ahead: bool) {
    let mut groups = places.chunks(TOGETHER).peekable();
    while let Some(group) = groups.next() {
        if ahead && let Some(next) = groups.peek() {
            next.iter().for_each(|place| prefetch(part(memory, *place, len)));
        }
        let mut blocks: [&[u8]; TOGETHER] = [&[]; TOGETHER];
        let mut guards = [0; TOGETHER];
        blocks.iter_mut().zip(group).for_each(|(block, place)| *block = part(memory, *place, len));
        guards_of(GuardKind::Crc16, &blocks, &mut guards);
        black_box(guards);
    }
}

/// From one near buffer to the places, as a payload goes into slots.
fn copying(
    places: &[usize],
    len: usize,
    memory: &[u8],
    copy: &mut [u8],
    work: impl Fn(&[u8], &mut [u8]) -> u64,
) {
    for (number, place) in places.iter().enumerate() {
        let from = number * len % NEAR;
        let to = copy.get_mut(*place..*place + len).unwrap_or_default();
        black_box(work(part(memory, from, len), to));
    }
}

fn copy_and(kind: GuardKind, places: &[usize], len: usize, memory: &[u8], copy: &mut [u8]) {
    copying(places, len, memory, copy, |block, to| {
        let mut guard = Guard::new(kind);
        guard.copy(block, to);
        guard.take()
    });
}

/// From the first page boundary on, as slots lie.
fn aligned(bytes: &mut [u8]) -> &mut [u8] {
    let start = bytes.as_ptr().align_offset(4096);
    bytes.get_mut(start..).unwrap_or_default()
}

fn part(bytes: &[u8], at: usize, len: usize) -> &[u8] {
    bytes.get(at..at + len).unwrap_or_default()
}

/// GB/s of the median trial.
fn measure(places: &[usize], len: usize, memory: &[u8], copy: &mut [u8], work: Work) -> f64 {
    let mut times: Vec<f64> = Vec::with_capacity(TRIALS);
    for places in places.chunks(TRIAL) {
        let begin = Instant::now();
        work(black_box(places), len, black_box(memory), black_box(copy));
        times.push(begin.elapsed().as_secs_f64());
    }
    times.sort_unstable_by(f64::total_cmp);
    let median = times.get(times.len() / 2).copied().unwrap_or(f64::INFINITY);
    (TRIAL * len) as f64 / median / 1e9
}

fn scramble(number: usize) -> u64 {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ mixed >> 32
}

fn scramble_below(number: usize, limit: usize) -> usize {
    usize::try_from(scramble(number) % limit as u64).unwrap_or(0)
}
