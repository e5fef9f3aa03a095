//! Connections that are cut in the midst of a tuple while a file system works over them: on one path, which comes again, and on two,
//! of which the other goes on. Contents and tuples stay right.

use anyhow::{Result, ensure};
use holdfast_e2e::interposer::{Act, Interposer, nvme::Nvme, nvme::Seen};
use holdfast_e2e::{Appliance, HostIdentity, View};
use holdfast_testkit::wire::{Pdu, opcode};

use super::{BLOCK_BYTES, DEBUG, Host, SIZE_MIB, STOCK, is_unharmed, nothing_inserted};

/// Cuts on one path, and then on each of two.
const CUTS: u32 = 3;

#[test]
fn nvme_hosts_keep_data_and_tuples_when_connections_are_cut_in_tuples() -> Result<()> {
    keep_data_and_tuples(STOCK, "hostile_paths")
}

/// A long stage of `tests/run`.
#[test]
fn nvme_hosts_keep_data_and_tuples_when_connections_are_cut_in_tuples_on_a_debug_kernel() -> Result<()> {
    keep_data_and_tuples(DEBUG, "hostile_paths_debug")
}

fn keep_data_and_tuples(host: Host, name: &str) -> Result<()> {
    let appliance = Appliance::start(name)?;
    let identity = HostIdentity::numbered(73);
    let share = appliance.share("cut", 2 * SIZE_MIB, BLOCK_BYTES)?;
    appliance.admit("victim", &identity, &share, View::Pi)?;
    let one = Interposer::<Nvme>::before(appliance.nvme_port())?;
    let other = Interposer::<Nvme>::before(appliance.nvme_port())?;
    let mut guest = host
        .guest(name, "hostile_paths.sh")?
        .host(&identity)
        .variable("PORT", one.port())
        .variable("OTHER_PORT", other.port())
        .variable("NQN", &share.nqn)
        .variable("UUID", &share.uuid)
        .variable("CUTS", CUTS)
        .start()?;
    for number in 1..=CUTS {
        guest.wait_phase(&format!("one-path-{number}"))?;
        cut_next(&one, number);
        guest.go_on()?;
    }
    for number in 1..=CUTS {
        guest.wait_phase(&format!("two-paths-{number}"))?;
        cut_next(if number.is_multiple_of(2) { &one } else { &other }, number);
        guest.go_on()?;
    }
    guest.wait_phase("one-is-gone")?;
    one.close();
    guest.go_on()?;
    let results = guest.finish()?;
    println!("{} rounds, {} resets", results.text("rounds")?, results.text("resets")?);
    ensure!(one.changed() + other.changed() >= u64::from(CUTS), "no connection was cut in a tuple");
    ensure!(results.number("resets")? >= u64::from(CUTS));
    ensure!(results.number("kernel_errors")? == 0);
    is_unharmed(&results)?;
    nothing_inserted(&appliance, &share)?;
    appliance.stop()
}

/// The next data in the way of a read or a write, in turn, is cut in its first tuple.
fn cut_next(path: &Interposer<Nvme>, number: u32) {
    path.set_for(1, move |seen| match (&seen.pdu, seen.io()) {
        (Pdu::H2cData(_), Some(opcode::WRITE)) if number.is_multiple_of(2) => cut_in_tuple(seen),
        (Pdu::C2hData(_), Some(opcode::READ)) if !number.is_multiple_of(2) => cut_in_tuple(seen),
        _ => Act::Pass,
    });
}

/// A header, a block, and half of its tuple.
fn cut_in_tuple(seen: &Seen) -> Act {
    Act::Cut(seen.frame(&seen.pdu).truncate(24 + 4096 + 4).as_bytes().to_vec())
}
