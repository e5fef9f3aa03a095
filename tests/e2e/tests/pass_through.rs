//! A guest sends tuples of its own by pass-through, on a kernel whose block layer cannot: they are stored byte for
//! byte, and checked when the command asks.

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_e2e::{Appliance, Guest, HostIdentity, Kernel, View, counter, eventually};
use serde_json::json;

const BLOCK_BYTES: usize = 4096;
const LBA: u32 = 1234;
const APPLICATION_TAG: u16 = 0xbeef;
const COUNTERS_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn tuple_of_a_guest_is_stored_byte_for_byte() -> Result<()> {
    let appliance = Appliance::start("pass_through")?;
    let host = HostIdentity::numbered(21);
    let share = appliance.share("raw", 64, 4096)?;
    appliance.admit("raw-host", &host, &share, View::Pi)?;

    let good = protected_block(0);
    let bad = protected_block(0x0100);
    let results = Guest::builder(Kernel::V6_1, "pass_through", "pass_through.sh")
        .host(&host)
        .variable("PORT", appliance.nvme_port())
        .variable("NQN", &share.nqn)
        .variable("UUID", &share.uuid)
        .variable("LBA", LBA)
        .variable("APPLICATION_TAG", APPLICATION_TAG)
        .file("good.bin", &good)
        .file("bad.bin", &bad)
        .start()?
        .finish()?;
    let tuple: String = good.iter().skip(BLOCK_BYTES).map(|byte| format!("{byte:02x}")).collect();
    ensure!(results.text("tuple")? == tuple, "{} instead of {tuple}", results.text("tuple")?);
    // DNR, More (the error log has an entry), status code type 2h, status code 82h: End-to-end Guard Check Error.
    ensure!(results.text("refused_status")? == "0x6282", "{}", results.text("refused_status")?);

    let seen = eventually(COUNTERS_LIMIT, "the guard error's counter", || {
        let counters = appliance.counters("raw-host", &share)?;
        ensure!(counter(&counters, "write", "guard_errors")? > 0, "{counters}");
        ensure!(counter(&counters, "write", "blocks_unchecked")? > 0, "{counters}");
        Ok(Some(counters))
    })?;
    ensure!(counter(&seen, "write", "guard_errors")? == 1, "{seen}");
    ensure!(counter(&seen, "write", "blocks_unchecked")? == 1, "{seen}");
    ensure!(counter(&seen, "write", "blocks_inserted")? == 0, "{seen}");
    let incidents = eventually(COUNTERS_LIMIT, "the incident", || {
        Ok(Some(appliance.rest().items("/incidents")?).filter(|found| !found.is_empty()))
    })?;
    ensure!(incidents.len() == 1, "{incidents:?}");
    for (field, value) in [
        ("host", json!("raw-host")),
        ("volume", json!("raw")),
        ("lba", json!(LBA)),
        ("tag", json!("guard")),
        ("count", json!(1)),
    ] {
        ensure!(
            incidents.iter().all(|incident| incident.get(field) == Some(&value)),
            "{field}: {incidents:?}"
        );
    }
    appliance.stop()
}

/// A block and its tuple: guard (XORed with `damage`), application tag, reference tag, all big-endian.
/// NVM Command Set 1.1 §5.3.1 "Protection Information Formats", 16-bit guard.
fn protected_block(damage: u16) -> Vec<u8> {
    let mut block: Vec<u8> = (0..BLOCK_BYTES).map(|at| (at * at / 7 % 251).to_le_bytes()[0]).collect();
    let guard = crc16_t10dif(&block) ^ damage;
    block.extend(guard.to_be_bytes());
    block.extend(APPLICATION_TAG.to_be_bytes());
    block.extend(LBA.to_be_bytes());
    block
}

/// Bit by bit, so that it shares nothing with the product's.
fn crc16_t10dif(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(crc ^ (u16::from(byte) << 8), |crc, _| {
            if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x8bb7 }
        })
    })
}

#[test]
fn the_guard_has_the_published_check_value() {
    assert_eq!(crc16_t10dif(b"123456789"), 0xd0db);
}
