//! A stock Linux 6.12 with the modules of `kernel-patches/dkms` writes blocks that a test can make, too: over NVMe/TCP and iSCSI, with
//! digests and without, past the page cache and through it, in pieces of 4 KiB, 64 KiB and 1 MiB. The guest reads them back; then a
//! scripted host reads data and tuples, unchecked by the target, and every byte is held against what the guest's kernel must have sent.
//!
//! `HOLDFAST_COMPARE_MIB` says how much is written in all; `tests/run e2e-long` compares 10 GiB.

#![allow(clippy::indexing_slicing, reason = "tests may fail by panicking")]

use std::env;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use holdfast_e2e::{
    Appliance, Guest, GuestBuilder, HostIdentity, Kernel, Setup, Share, View, counter, eventually,
};
use holdfast_testkit::{Io, Options};
use tempfile::TempDir;

const HOST: &str = "writer";
const READER: &str = "reader";
/// What is written in all, where that is a test among others.
const MIB: u64 = 252;
/// There are three wires, one for each test: NVMe/TCP twice, and iSCSI.
const WIRES: u64 = 3;
/// Direct writes of single blocks are far more work for a guest than all others: this much less is written by them.
const SMALL_SHARE: u64 = 10;
/// Not at the beginning of anything larger than a block.
const FIRST: u64 = 37;
const BLOCK: usize = 4096;
const TUPLE: usize = 8;
/// Blocks of one Read of the scripted host: the longest transfer.
const READ_BLOCKS: u64 = 256;
/// For ten gigabytes under emulation, on a machine that has other things to do.
const GUEST_LIMIT: Duration = Duration::from_secs(3 * 3600);
/// The contract: counters are visible within 2 seconds. The rest is for a busy machine.
const COUNTERS_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn nvme_tcp_carries_what_the_host_computed() -> Result<()> {
    carries("compare_nvme", &[], over_nvme)
}

/// A multiple of dwords, as it has to be, that cuts blocks and tuples.
#[test]
fn nvme_tcp_carries_what_the_host_computed_in_pdus_of_4100_bytes() -> Result<()> {
    carries("compare_nvme_4100", &[("HOLDFAST_MAXH2CDATA", "4100")], over_nvme)
}

#[test]
fn iscsi_tcp_carries_what_the_host_computed() -> Result<()> {
    carries("compare_iscsi", &[], |appliance, share, guest| {
        appliance.admit_initiator(HOST, share, "pi", "any")?;
        Ok(guest.over_iscsi(appliance, share, HOST))
    })
}

fn over_nvme(appliance: &Appliance, share: &Share, guest: GuestBuilder) -> Result<GuestBuilder> {
    let host = HostIdentity::numbered(62);
    appliance.admit(HOST, &host, share, View::Pi)?;
    Ok(guest.host(&host).over_nvme(appliance, share))
}

fn carries(
    name: &str,
    environment: &[(&str, &str)],
    admitted: impl FnOnce(&Appliance, &Share, GuestBuilder) -> Result<GuestBuilder>,
) -> Result<()> {
    let begun = Instant::now();
    let cells = cells()?;
    let most = cells.iter().map(|cell| cell.blocks).max().unwrap_or(0);
    let appliance = Appliance::start_as(name, Setup { environment, ..Setup::default() })?;
    let share = appliance.share("compared", (FIRST + most).div_ceil(256), 4096)?;
    appliance.admit_scripted(READER, &share, "pi", "any")?;
    let guest = Guest::builder(Kernel::V6_12, name, "tuples_compare.sh").patched_modules();
    let guest = guest.file("pattern", &pattern_program()?).limit(GUEST_LIMIT);
    let mut guest = admitted(&appliance, &share, guest.variable("FIRST", FIRST))?.start()?;
    guest.wait_phase("ready")?;
    for (seed, Cell { wire, way, piece, blocks }) in (1..).zip(&cells) {
        let cell = format!("{wire} {way} {piece} {seed} {blocks}");
        guest.go_on_with(&cell)?;
        guest.wait_phase("ready")?;
        compare_volume(&appliance, &share, seed, *blocks).context(cell)?;
    }
    guest.go_on_with("end")?;
    let results = guest.finish()?;
    ensure!(results.text("format")? == "T10-DIF-TYPE1-CRC", "{}", results.text("format")?);
    ensure!(results.number("kernel_errors")? == 0);
    let compared = cells.iter().map(|cell| cell.blocks).sum();
    came_with_tuples(&appliance, &share, compared)?;
    let seconds = begun.elapsed().as_secs();
    println!("{name}: {compared} blocks ({} MiB), data and tuples, in {seconds} s", compared / 256);
    appliance.stop()
}

/// One way of writing.
struct Cell {
    wire: &'static str,
    way: &'static str,
    piece: u64,
    blocks: u64,
}

/// What is done over one wire.
fn cells() -> Result<Vec<Cell>> {
    let mib = match env::var("HOLDFAST_COMPARE_MIB") {
        Err(env::VarError::NotPresent) => MIB,
        number => number?.parse().context("HOLDFAST_COMPARE_MIB")?,
    };
    let mut cells = Vec::new();
    for wire in ["bare", "digests"] {
        for way in ["direct", "buffered"] {
            for piece in [4096, 65536, 1 << 20] {
                let share = if way == "direct" && piece == 4096 { 1 } else { SMALL_SHARE };
                cells.push(Cell { wire, way, piece, blocks: share });
            }
        }
    }
    let shares: u64 = cells.iter().map(|cell| cell.blocks).sum();
    for cell in &mut cells {
        cell.blocks = (mib * 256 * cell.blocks).div_ceil(WIRES * shares);
    }
    Ok(cells)
}

fn pattern_program() -> Result<Vec<u8>> {
    let folder = TempDir::new()?;
    let path = folder.path().join("pattern");
    holdfast_wac::build_pattern(&path)?;
    Ok(std::fs::read(path)?)
}

/// Each block is, with its tuple, as the guest's kernel must have sent it.
fn compare_volume(appliance: &Appliance, share: &Share, seed: u64, blocks: u64) -> Result<()> {
    let mut session = appliance.session(READER, share, Options::default())?;
    let mut lba = FIRST;
    while lba < FIRST + blocks {
        let count = READ_BLOCKS.min(FIRST + blocks - lba);
        let wire_len = usize::try_from(count)? * (BLOCK + TUPLE);
        // Neither PRACT nor PRCHK: what is stored, as it is stored.
        let read = session.io(1).read(1, &Io::at(lba, u32::try_from(count)?), wire_len)?.ok()?;
        compare(&read.data, seed, lba, count)?;
        lba += count;
    }
    Ok(session.close()?)
}

/// Nothing was made or left unchecked by the target, and nobody is blamed for anything.
fn came_with_tuples(appliance: &Appliance, share: &Share, blocks: u64) -> Result<()> {
    let counters = eventually(COUNTERS_LIMIT, &format!("{blocks} checked blocks"), || {
        let counters = appliance.counters(HOST, share)?;
        Ok((counter(&counters, "write", "blocks_checked")? >= blocks).then_some(counters))
    })?;
    for name in ["blocks_inserted", "blocks_escaped", "blocks_unchecked", "guard_errors", "ref_tag_errors"] {
        ensure!(counter(&counters, "write", name)? == 0, "{name}: {counters}");
    }
    let incidents = appliance.rest().items("/incidents")?;
    ensure!(incidents.is_empty(), "{incidents:?}");
    Ok(())
}

/// Blocks from `lba` on, as they travel, hold the pattern of `seed` and what Linux puts into tuples of type 1.
fn compare(wire: &[u8], seed: u64, lba: u64, count: u64) -> Result<()> {
    let blocks = wire.chunks(BLOCK + TUPLE);
    ensure!(u64::try_from(wire.len())? == count * 4104, "{} bytes", wire.len());
    let mut expected = Vec::with_capacity(BLOCK + TUPLE);
    for (lba, block) in (lba..).zip(blocks) {
        pattern(seed, lba, &mut expected);
        let guard = guard(&expected);
        expected.extend(guard.to_be_bytes());
        // The application tag.
        expected.extend([0, 0]);
        expected.extend(&lba.to_be_bytes()[4..]);
        if block != expected {
            let at = block.iter().zip(&expected).position(|(found, wanted)| found != wanted).unwrap_or(0);
            anyhow::bail!(
                "block {lba} differs at byte {at}; its tuple is {:02x?}, and should be {:02x?}",
                &block[BLOCK..],
                &expected[BLOCK..]
            );
        }
    }
    Ok(())
}

/// What `pattern` (`tests/wac/pattern.c`) puts into a block.
fn pattern(seed: u64, block: u64, data: &mut Vec<u8>) {
    let mut x = ((seed << 40 ^ block) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    data.clear();
    for _ in 0..BLOCK / 8 {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        data.extend(x.to_le_bytes());
    }
}

/// The guard of a block, CRC-16/T10-DIF: polynomial 8BB7h, most significant bit first, from 0.
fn guard(data: &[u8]) -> u16 {
    let mut crc: u16 = 0;
    for byte in data {
        let [high, low] = crc.to_be_bytes();
        crc = u16::from_be_bytes([low, 0]) ^ GUARD_TABLE[usize::from(high ^ byte)];
    }
    crc
}

const GUARD_TABLE: [u16; 256] = {
    let mut table = [0; 256];
    let mut index: u16 = 0;
    while index < 256 {
        let mut crc = index << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x8bb7 };
            bit += 1;
        }
        table[index as usize] = crc;
        index += 1;
    }
    table
};

#[test]
fn the_guard_is_that_of_the_standard() {
    // The check value of CRC-16/T10-DIF in the catalogue of parametrised CRC algorithms; and SBC-4's block of zeroes.
    assert_eq!(guard(b"123456789"), 0xd0db);
    assert_eq!(guard(&[0; 4096]), 0);
}

#[test]
fn a_comparison_finds_each_changed_byte_and_each_misplaced_or_older_block() -> Result<()> {
    let (lba, seed) = (0x1_0000_0007, 5);
    let block = |seed: u64, lba: u64| {
        let mut block = Vec::new();
        pattern(seed, lba, &mut block);
        let tags = [&[0, 0][..], &lba.to_be_bytes()[4..]].concat();
        block.extend([&guard(&block).to_be_bytes()[..], &tags].concat());
        block
    };
    let good = [block(seed, lba), block(seed, lba + 1)].concat();
    compare(&good, seed, lba, 2)?;
    for at in [0, 4095, 4096, 4097, 4098, 4099, 4100, 4103, 4104, 8207] {
        let mut changed = good.clone();
        changed[at] ^= 0x10;
        assert!(compare(&changed, seed, lba, 2).is_err(), "{at}");
    }
    for wrong in [
        [block(seed, lba), block(seed, lba)].concat(),
        [block(seed, lba + 1), block(seed, lba)].concat(),
        [block(seed - 1, lba), block(seed, lba + 1)].concat(),
        block(seed, lba),
    ] {
        assert!(compare(&wrong, seed, lba, 2).is_err());
    }
    // The whole way, as a host would have sent it with another block's tuple or another application tag.
    let mut swapped = good.clone();
    swapped.copy_within(8200..8208, 4096);
    assert!(compare(&swapped, seed, lba, 2).is_err());
    Ok(())
}
