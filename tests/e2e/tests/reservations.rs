//! Reservations over kills, restarts and cores. SPC-4 §5.13.5.1 "Preserving persistent reservations and registrations through
//! power loss", §5.13.5.3 "Lost reservations".

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Backing, Plane, Setup, Share, eventually};
use holdfast_testkit::iscsi::{Done, Login, Medium, Op, Scsi, Session, status, test_unit_ready};
use serde_json::json;

/// For a target that starts, on a busy machine.
const TAKEN_LIMIT: Duration = Duration::from_secs(30);

const REGISTER: u8 = 0;
const RESERVE: u8 = 1;
const PREEMPT: u8 = 4;
const REPLACE_LOST: u8 = 8;
const WRITE_EXCLUSIVE: u8 = 1;
/// APTPL.
const LASTING: u8 = 1;

fn start(name: &str, backing: Backing) -> Result<(Appliance, Share)> {
    // Two cores, so that an initiator is on another one than the volume.
    let setup = Setup { arguments: &["--cores", "0,1"], backing: Some(backing), ..Setup::default() };
    let appliance = Appliance::start_as(name, setup)?;
    let share = appliance.share("kept", 64, 512)?;
    appliance.rest().patch("/subsystems/kept", &json!({"allow_any_host": true}))?;
    Ok((appliance, share))
}

/// A session of initiator `number`, always of the same port, which has been told what there is to tell.
fn open(appliance: &Appliance, number: u8) -> Result<Session> {
    let login = Login::new(&format!("iqn.2026-11.io.example:{number}"), "iqn.2026-11.io.holdfast:kept");
    eventually(TAKEN_LIMIT, "the target to take a session", || {
        let mut session = Session::open(("127.0.0.1", appliance.iscsi_port()), &login)?;
        while session.run(Scsi::new(0, test_unit_ready()))?.sense.is_some_and(|sense| sense.key == 6) {}
        Ok(Some(session))
    })
}

fn ask(session: &mut Session, action: u8, keys: [u64; 2], flags: u8) -> Result<Done> {
    let cdb = [0x5f, action, WRITE_EXCLUSIVE, 0, 0, 0, 0, 0, 24, 0];
    let [key, new] = keys.map(u64::to_be_bytes);
    let list = [&key[..], &new, &[0, 0, 0, 0, flags, 0, 0, 0]].concat();
    Ok(session.run(Scsi::write(0, cdb, list))?)
}

/// The key of the reservation, if there is one.
fn holder(session: &mut Session) -> Result<Option<u64>> {
    let data = session.run(Scsi::read(0, [0x5e, 1, 0, 0, 0, 0, 0, 0, 24, 0], 24))?.ok()?.data;
    Ok(data.get(8..16).and_then(|key| key.try_into().ok()).map(u64::from_be_bytes))
}

fn write(session: &mut Session) -> Result<u8> {
    let cdb = Medium::at(3, 1).cdb16(Op::Write);
    Ok(session.run(Scsi::write(0, cdb, vec![7; 512]))?.status)
}

/// Initiator 1 holds the volume, with key 5, and that is to last.
fn hold(appliance: &Appliance) -> Result<Session> {
    let mut session = open(appliance, 1)?;
    ask(&mut session, REGISTER, [0, 5], LASTING)?.ok()?;
    ask(&mut session, RESERVE, [5, 0], 0)?.ok()?;
    Ok(session)
}

fn is_held(appliance: &Appliance) -> Result<()> {
    let (mut one, mut two) = (open(appliance, 1)?, open(appliance, 2)?);
    ensure!(holder(&mut two)? == Some(5), "the reservation is gone");
    ensure!(write(&mut two)? == status::RESERVATION_CONFLICT, "a stranger writes");
    ensure!(write(&mut one)? == status::GOOD, "the holder does not write");
    Ok(())
}

fn kept_files(appliance: &Appliance) -> Result<Vec<PathBuf>> {
    let folder = appliance.state_folder().join("target/reservations");
    let entries = fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    entries.map(|entry| Ok(entry?.path())).collect()
}

#[test]
fn what_is_to_last_is_there_after_kills_and_what_is_not_is_gone() -> Result<()> {
    let (appliance, _) = start("reservations_last", Backing::Memory)?;
    for kill in 0..3 {
        // Answered, and killed at once.
        drop(if kill == 0 { hold(&appliance)? } else { open(&appliance, 1)? });
        appliance.kill(Plane::Data)?;
        is_held(&appliance)?;
    }
    // Somebody else takes over, and that lasts as well.
    let mut two = open(&appliance, 2)?;
    ask(&mut two, REGISTER, [0, 6], LASTING)?.ok()?;
    ask(&mut two, PREEMPT, [6, 5], 0)?.ok()?;
    appliance.kill(Plane::Data)?;
    ensure!(holder(&mut open(&appliance, 1)?)? == Some(6));
    // From here on it is not to last.
    let mut two = open(&appliance, 2)?;
    ask(&mut two, REGISTER, [6, 7], 0)?.ok()?;
    ensure!(holder(&mut two)? == Some(7));
    appliance.kill(Plane::Data)?;
    ensure!(holder(&mut open(&appliance, 1)?)?.is_none(), "it was not to last");
    ensure!(kept_files(&appliance)?.is_empty());
    appliance.stop()
}

#[test]
fn reservations_outlast_a_power_cut_and_go_with_their_volume() -> Result<()> {
    let (appliance, _) = start("reservations_power", Backing::File)?;
    let session = hold(&appliance)?;
    appliance.cut_power()?;
    drop(session);
    let appliance = appliance.power_up("reservations_power_2")?;
    is_held(&appliance)?;
    ensure!(kept_files(&appliance)?.len() == 1);
    appliance.rest().delete("/subsystems/kept/namespaces/1")?;
    appliance.rest().delete("/volumes/kept")?;
    eventually(TAKEN_LIMIT, "the file to go", || Ok(kept_files(&appliance)?.is_empty().then_some(())))?;
    appliance.stop()
}

#[test]
fn lost_reservations_keep_everybody_out_until_somebody_replaces_them() -> Result<()> {
    let (appliance, _) = start("reservations_lost", Backing::File)?;
    let session = hold(&appliance)?;
    appliance.cut_power()?;
    drop(session);
    for path in kept_files(&appliance)? {
        let mut bytes = fs::read(&path)?;
        if let Some(byte) = bytes.last_mut() {
            *byte ^= 1;
        }
        fs::write(&path, bytes)?;
    }
    let appliance = appliance.power_up("reservations_lost_2")?;
    let (mut one, mut two) = (open(&appliance, 1)?, open(&appliance, 2)?);
    let cdb = Medium::at(3, 1).cdb16(Op::Read);
    for session in [&mut one, &mut two] {
        session.run(Scsi::read(0, cdb.clone(), 512))?.fails_with(7, 0x44, 0x01)?;
        ask(session, REGISTER, [0, 5], 0)?.fails_with(7, 0x44, 0x01)?;
    }
    ask(&mut two, REPLACE_LOST, [0, 8], LASTING)?.ok()?;
    ensure!(write(&mut two)? == status::GOOD);
    ensure!(write(&mut one)? == status::RESERVATION_CONFLICT);
    ensure!(holder(&mut one)? == Some(8));
    appliance.stop()
}

#[test]
fn the_old_reserve_ends_with_its_session_at_once_on_whatever_core() -> Result<()> {
    let (appliance, _) = start("reservations_old", Backing::Memory)?;
    let reserve = [0x16, 0, 0, 0, 0, 0];
    for round in 0..4 {
        let (mut one, mut two) = (open(&appliance, 1)?, open(&appliance, 2)?);
        one.run(Scsi::new(0, reserve))?.ok()?;
        ensure!(two.run(Scsi::new(0, reserve))?.status == status::RESERVATION_CONFLICT);
        ensure!(one.logout(0)? == 0);
        two.run(Scsi::new(0, reserve))?.ok().with_context(|| format!("round {round}"))?;
    }
    appliance.stop()
}
