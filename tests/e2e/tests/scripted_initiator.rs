//! The scripted iSCSI initiator at a target that others wrote, so that a mistake in both sides' reading of RFC 7143 has a
//! chance to be found. Needs root and Debian's `tgt`.

use anyhow::{Result, ensure};
use holdfast_e2e::Tgt;
use holdfast_testkit::iscsi::{
    Algorithm, Chap, Login, Medium, Op, Scsi, Session, inquiry, read_capacity16, report_luns,
    test_unit_ready, text,
};

const INITIATOR: &str = "iqn.2026-11.io.example:scripted";
const BLOCK: usize = 4096;

fn login(tgt: &Tgt) -> Login {
    Login::new(INITIATOR, &tgt.iqn)
}

/// The first command of a nexus gets a unit attention.
fn open(tgt: &Tgt, login: &Login) -> Result<Session> {
    let mut session = Session::open(&tgt.portal, login)?;
    while session.run(Scsi::new(1, test_unit_ready()))?.ok().is_err() {}
    Ok(session)
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from((at / 512 * 7 + at + seed) % 251).unwrap_or(0)).collect()
}

#[test]
fn discovery_names_the_target_and_its_portal() -> Result<()> {
    let tgt = Tgt::start("discovery_names_the_target", 16, &[4096])?;
    let mut session = Session::open(&tgt.portal, &Login::discovery(INITIATOR))?;
    let targets = session.send_targets("All")?;
    assert_eq!(text::value(&targets, "TargetName"), Some(tgt.iqn.as_str()));
    assert_eq!(text::value(&targets, "TargetAddress"), Some(format!("{},1", tgt.portal).as_str()));
    Ok(())
}

#[test]
fn data_comes_back_however_it_went_out() -> Result<()> {
    let tgt = Tgt::start("data_comes_back", 16, &[4096])?;
    for (header, data) in [(false, false), (true, false), (false, true), (true, true)] {
        for (initial_r2t, immediate) in [("No", "Yes"), ("No", "No"), ("Yes", "Yes"), ("Yes", "No")] {
            let login = login(&tgt)
                .digests(header, data)
                .key("InitialR2T", initial_r2t)
                .key("ImmediateData", immediate);
            let mut session = open(&tgt, &login)?;
            // Less than the first burst, and many bursts.
            for (seed, blocks) in [(1, 2_u32), (2, 200)] {
                let sent = pattern(blocks as usize * BLOCK, seed);
                let here = Medium::at(100, blocks);
                session.run(Scsi::write(1, here.cdb16(Op::Write), sent.clone()))?.ok()?;
                let back = session.run(Scsi::read(1, here.cdb10(Op::Read), sent.len()))?.ok()?;
                ensure!(back.data == sent, "{header} {data} {initial_r2t} {immediate}: other data came back");
            }
            assert_eq!(session.ping(b"are you there")?, b"are you there");
            assert_eq!(session.logout(0)?, 0);
        }
    }
    Ok(())
}

#[test]
fn commands_run_beside_each_other_and_tell_what_is_left_over() -> Result<()> {
    use holdfast_testkit::iscsi::Residual;
    let tgt = Tgt::start("commands_run_beside_each_other", 16, &[4096])?;
    let mut session = open(&tgt, &login(&tgt))?;
    let cdb = Medium::at(0, 8).cdb10(Op::Read);
    let tags = (0..16)
        .map(|_| session.submit(Scsi::read(1, cdb.clone(), 8 * BLOCK)))
        .collect::<Result<Vec<_>, _>>()?;
    for tag in tags.into_iter().rev() {
        assert_eq!(session.wait(tag)?.ok()?.data.len(), 8 * BLOCK);
    }
    let more_room = session.run(Scsi::read(1, inquiry(36), 100))?.ok()?;
    assert_eq!((more_room.data.len(), more_room.residual), (36, Residual::Under(64)));
    let capacity = session.run(Scsi::read(1, read_capacity16(32), 32))?.ok()?;
    assert_eq!(capacity.data[..12], [0, 0, 0, 0, 0, 0, 0x0f, 0xff, 0, 0, 0x10, 0]);
    let luns = session.run(Scsi::read(0, report_luns(64), 64))?.ok()?;
    assert_eq!(luns.data[..4], [0, 0, 0, 16]);
    Ok(())
}

#[test]
fn an_address_beyond_the_end_is_refused_with_its_sense() -> Result<()> {
    let tgt = Tgt::start("an_address_beyond_the_end", 16, &[4096])?;
    let mut session = open(&tgt, &login(&tgt))?;
    let sense = session
        .run(Scsi::read(1, Medium::at(1 << 40, 1).cdb16(Op::Read), BLOCK))?
        .fails_with(0x5, 0x21, 0x00)?;
    assert!(!sense.deferred);
    session.run(Scsi::new(1, test_unit_ready()))?.ok()?;
    Ok(())
}

#[test]
fn chap_is_answered_both_ways_and_a_wrong_secret_is_noticed() -> Result<()> {
    let tgt = Tgt::start("chap_is_answered_both_ways", 16, &[4096])?;
    tgt.demand_chap(("in", "incoming-secret"), Some(("out", "outgoing-secret")))?;
    // MD5 alone: to this target 7 is SHA-1, which the IANA's registry gives to SHA-256.
    let chap = Chap::one_way("in", "incoming-secret").offer(&[Algorithm::Md5]);
    open(&tgt, &login(&tgt).chap(chap.clone()))?.logout(0)?;
    open(&tgt, &login(&tgt).chap(chap.clone().mutual("out", "outgoing-secret")))?.logout(0)?;
    let suspicious = Session::open(&tgt.portal, &login(&tgt).chap(chap.mutual("out", "something-else")));
    assert!(suspicious.is_err_and(|error| error.to_string().contains("CHAP_R")));
    let wrong = Chap::one_way("in", "another-secret").offer(&[Algorithm::Md5]);
    let refused = Session::open(&tgt.portal, &login(&tgt).chap(wrong)).err();
    assert!(refused.is_some_and(|error| error.login_status().is_some_and(|(class, _)| class == 2)));
    let refused = Session::open(&tgt.portal, &login(&tgt)).err();
    assert!(refused.is_some_and(|error| error.login_status().is_some_and(|(class, _)| class == 2)));
    Ok(())
}
