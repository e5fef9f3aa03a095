//! iSCSI when things go wrong: peers that connect and say nothing, a target that is killed under load, and reservations that
//! have to outlive it.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Backing, Plane, Setup, Share, eventually, settle};
use holdfast_testkit::iscsi::{Medium, Op, Scsi, Session, status};

const BLOCK: usize = 4096;
/// Connections on which nothing is ever sent.
const SILENT: usize = 500;
/// Commands that have to get through while those are there.
const COMMANDS: u64 = 200;
/// For a target that has been killed.
const BACK_LIMIT: Duration = Duration::from_secs(60);
const KILLS: u8 = 3;
const WRITES_BEFORE_A_KILL: usize = 400;

fn write(session: &mut Session, lba: u64, fill: u8) -> Result<()> {
    session.run(Scsi::write(0, Medium::at(lba, 1).cdb16(Op::Write), vec![fill; BLOCK]))?.ok()?;
    Ok(())
}

fn read(session: &mut Session, lba: u64) -> Result<Vec<u8>> {
    Ok(session.run(Scsi::read(0, Medium::at(lba, 1).cdb16(Op::Read), BLOCK))?.ok()?.data)
}

#[test]
fn five_hundred_silent_connections_delay_no_one() -> Result<()> {
    let appliance = Appliance::start("iscsi_storm")?;
    let share = appliance.share("busy", 16, 4096)?;
    for name in ["busy", "late"] {
        appliance.admit_initiator(name, &share, "plain", "any")?;
    }
    let mut session = appliance.log_in("busy", &share)?;
    let done = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let load = {
        let (done, stop) = (Arc::clone(&done), Arc::clone(&stop));
        thread::spawn(move || -> Result<Session> {
            while !stop.load(Ordering::Relaxed) {
                let number = done.fetch_add(1, Ordering::Relaxed);
                write(&mut session, number % 64, number.to_le_bytes()[0] | 1)?;
                ensure!(read(&mut session, number % 64)?.first() == Some(&(number.to_le_bytes()[0] | 1)));
            }
            Ok(session)
        })
    };
    let before = appliance.process(Plane::Data)?;
    let mut silent = Vec::new();
    while silent.len() < SILENT {
        // A connection that is refused or closed at once delays nobody either.
        if let Ok(stream) = TcpStream::connect(appliance.iscsi()) {
            silent.push(stream);
        }
    }
    let mark = done.load(Ordering::Relaxed);
    eventually(BACK_LIMIT, "commands beside silent connections", || {
        Ok((done.load(Ordering::Relaxed) >= mark + COMMANDS).then_some(()))
    })?;
    // Somebody new gets in while they are all there.
    let mut newcomer = appliance.log_in("late", &share).context("a new session beside silent connections")?;
    write(&mut newcomer, 100, 9)?;
    ensure!(read(&mut newcomer, 100)? == [9; BLOCK]);
    stop.store(true, Ordering::Relaxed);
    let session = load.join().map_err(|_| anyhow::anyhow!("the load failed"))??;
    drop(silent);
    eventually(BACK_LIMIT, "the descriptors to be given back", || {
        let now = appliance.process(Plane::Data)?;
        ensure!(now.pid == before.pid, "the target has died");
        Ok((now.descriptors <= before.descriptors + 8).then_some(()))
    })?;
    newcomer.logout(0)?;
    session.logout(0)?;
    appliance.stop()
}

#[test]
fn what_was_acknowledged_is_there_after_kills_of_the_target_under_load() -> Result<()> {
    let appliance = Appliance::start("iscsi_kills")?;
    let share = appliance.share("loaded", 64, 4096)?;
    appliance.admit_initiator("loader", &share, "plain", "any")?;
    let mut acknowledged = vec![0_u8; 256];
    for kill in 1..=KILLS {
        let mut session = appliance.log_in("loader", &share)?;
        for (lba, fill) in acknowledged.iter().enumerate().filter(|(_, fill)| **fill != 0) {
            let found = read(&mut session, u64::try_from(lba)?)?;
            // What was under way at the kill may have been stored, or not.
            ensure!(
                found == [*fill; BLOCK] || found == [kill - 1; BLOCK],
                "block {lba} after kill {}",
                kill - 1
            );
        }
        let killer = thread::scope(|scope| -> Result<()> {
            let target = &appliance;
            let (loaded, wait) = channel::<()>();
            let killed = scope.spawn(move || {
                wait.recv()?;
                target.kill(Plane::Data)
            });
            for (count, lba) in (0..acknowledged.len()).cycle().enumerate() {
                match write(&mut session, u64::try_from(lba)?, kill) {
                    Ok(()) => acknowledged[lba] = kill,
                    Err(_) => break,
                }
                if count == WRITES_BEFORE_A_KILL {
                    loaded.send(())?;
                }
            }
            killed.join().map_err(|_| anyhow::anyhow!("the killer failed"))?
        });
        killer?;
    }
    let mut session = appliance.log_in("loader", &share)?;
    for (lba, fill) in acknowledged.iter().enumerate().filter(|(_, fill)| **fill != 0) {
        let found = read(&mut session, u64::try_from(lba)?)?;
        ensure!(found == [*fill; BLOCK] || found == [KILLS; BLOCK], "block {lba} at the end");
    }
    session.logout(0)?;
    appliance.stop()
}

/// PERSISTENT RESERVE OUT. SPC-4 §6.16; with the basic parameter list.
fn reserve_out(session: &mut Session, action: u8, kind: u8, keys: (u64, u64), aptpl: bool) -> Result<u8> {
    let cdb = [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0];
    let list =
        [&keys.0.to_be_bytes()[..], &keys.1.to_be_bytes(), &[0, 0, 0, 0, u8::from(aptpl), 0, 0, 0]].concat();
    Ok(session.run(Scsi::write(0, cdb, list))?.status)
}

/// PERSISTENT RESERVE IN. SPC-4 §6.15.
fn reserve_in(session: &mut Session, action: u8) -> Result<Vec<u8>> {
    Ok(session.run(Scsi::read(0, [0x5e, action, 0, 0, 0, 0, 0, 4, 0, 0], 1024))?.ok()?.data)
}

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const READ_KEYS: u8 = 0;
const READ_RESERVATION: u8 = 1;
const WRITE_EXCLUSIVE: u8 = 1;
const KEY: u64 = 0x1122_3344_5566_7788;

/// The key that holds a reservation and its type, where there is one.
fn holder(data: &[u8]) -> Option<(u64, u8)> {
    let (_, rest) = data.split_at_checked(8)?;
    let key = u64::from_be_bytes(*rest.first_chunk()?);
    Some((key, rest.get(13)? & 0x0f))
}

fn a_reservation_lasts(
    appliance: Appliance,
    name: &str,
    again: impl Fn(Appliance) -> Result<Appliance>,
) -> Result<()> {
    let share: Share = appliance.share("kept", 16, 4096)?;
    appliance.admit_initiator("owner", &share, "plain", "any")?;
    appliance.admit_initiator("other", &share, "plain", "any")?;
    let mut owner = appliance.log_in("owner", &share)?;
    ensure!(reserve_out(&mut owner, REGISTER, 0, (0, KEY), true)? == status::GOOD, "REGISTER with APTPL");
    ensure!(reserve_out(&mut owner, RESERVE, WRITE_EXCLUSIVE, (KEY, 0), false)? == status::GOOD, "RESERVE");
    write(&mut owner, 5, 7)?;
    let mut other = appliance.log_in("other", &share)?;
    let refused = other.run(Scsi::write(0, Medium::at(5, 1).cdb10(Op::Write), vec![1; BLOCK]))?;
    ensure!(refused.status == status::RESERVATION_CONFLICT, "{name}: before");
    drop((owner, other));

    let appliance = again(appliance)?;
    let mut other = appliance.log_in("other", &share)?;
    let keys = reserve_in(&mut other, READ_KEYS)?;
    ensure!(keys.get(8..16) == Some(&KEY.to_be_bytes()), "{name}: the registration is gone: {keys:02x?}");
    let found = holder(&reserve_in(&mut other, READ_RESERVATION)?);
    ensure!(found == Some((KEY, WRITE_EXCLUSIVE)), "{name}: {found:x?}");
    let refused = other.run(Scsi::write(0, Medium::at(5, 1).cdb10(Op::Write), vec![1; BLOCK]))?;
    ensure!(refused.status == status::RESERVATION_CONFLICT, "{name}: after");
    ensure!(read(&mut other, 5)? == [7; BLOCK], "Write Exclusive lets others read");
    // The owner is who it was: by its name and ISID.
    let mut owner = appliance.log_in("owner", &share)?;
    settle(&mut owner, 0)?;
    write(&mut owner, 5, 8)?;
    ensure!(reserve_out(&mut owner, REGISTER, 0, (KEY, 0), false)? == status::GOOD, "unregistering");
    settle(&mut other, 0)?;
    write(&mut other, 5, 9)?;
    appliance.stop()
}

#[test]
fn a_reservation_that_is_to_last_outlives_a_kill_of_the_target() -> Result<()> {
    let appliance = Appliance::start("iscsi_aptpl_kill")?;
    a_reservation_lasts(appliance, "kill", |appliance| {
        appliance.kill(Plane::Data)?;
        Ok(appliance)
    })
}

#[test]
fn a_reservation_that_is_to_last_outlives_a_restart_of_the_appliance() -> Result<()> {
    let setup = Setup { backing: Some(Backing::File), ..Setup::default() };
    let appliance = Appliance::start_as("iscsi_aptpl_restart", setup)?;
    a_reservation_lasts(appliance, "restart", |appliance| appliance.restart("iscsi_aptpl_restarted"))
}

#[test]
fn a_reservation_that_is_not_to_last_ends_with_the_target() -> Result<()> {
    let appliance = Appliance::start("iscsi_no_aptpl")?;
    let share = appliance.share("free", 16, 4096)?;
    appliance.admit_initiator("owner", &share, "plain", "any")?;
    let mut owner = appliance.log_in("owner", &share)?;
    ensure!(reserve_out(&mut owner, REGISTER, 0, (0, KEY), false)? == status::GOOD);
    ensure!(reserve_out(&mut owner, RESERVE, WRITE_EXCLUSIVE, (KEY, 0), false)? == status::GOOD);
    appliance.kill(Plane::Data)?;
    let mut owner = appliance.log_in("owner", &share)?;
    let keys = reserve_in(&mut owner, READ_KEYS)?;
    ensure!(keys.get(4..8) == Some(&[0; 4]), "{keys:02x?}");
    appliance.stop()
}
