//! Keep Alive Timer and Host Identifier. NVM Express Base 2.1 §5.1.25.1.8 "Keep Alive Timer (Feature Identifier 0Fh)",
//! §5.1.25.1.28 "Host Identifier (Feature Identifier 81h)".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::{Sqe, code};
use holdfast_testkit::{Command, Options};

use super::{Request, current, fid, set};
use crate::admin::admin_session;
use crate::check::same;
use crate::fields::{refused, refused_among};
use crate::{Case, Lab};

const TIMER: &str = "Base 2.1 §5.1.25.1.8 \"Keep Alive Timer (Feature Identifier 0Fh)\"";
const HOST: &str = "Base 2.1 §5.1.25.1.28 \"Host Identifier (Feature Identifier 81h)\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "features.keep-alive-timer.connect", clause: TIMER, run: connect_sets_the_timer },
    Case { id: "features.keep-alive-timer.read-back", clause: TIMER, run: a_timer_is_read_back },
    Case { id: "features.keep-alive-timer.granularity", clause: TIMER, run: a_timer_is_rounded_up },
    Case { id: "features.host-identifier.connect", clause: HOST, run: the_identifier_is_that_of_connect },
    Case { id: "features.host-identifier.set", clause: HOST, run: the_identifier_cannot_be_set },
    Case { id: "features.host-identifier.narrow", clause: HOST, run: sixty_four_bits_are_refused },
];

fn connect_sets_the_timer(lab: &mut Lab) -> Result<()> {
    for kato in [0, 60_000, 120_000] {
        let mut session = lab.session(Options::default().io_queues(0).kato_ms(kato))?;
        same("KATO", current(&mut session, fid::KEEP_ALIVE_TIMER)?, kato)?;
    }
    Ok(())
}

fn a_timer_is_read_back(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for kato in [30_000, 600_000] {
        set(&mut session, fid::KEEP_ALIVE_TIMER, kato)?;
        same("KATO", current(&mut session, fid::KEEP_ALIVE_TIMER)?, kato)?;
    }
    Ok(())
}

/// KAS is in units of 100 ms; a timer is never shorter than what was asked for.
fn a_timer_is_rounded_up(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let unit = u32::from(session.controller().kas) * 100;
    for kato in [60_001, 60_000 + unit - 1, 90_050] {
        set(&mut session, fid::KEEP_ALIVE_TIMER, kato)?;
        let now = current(&mut session, fid::KEEP_ALIVE_TIMER)?;
        ensure!(now >= kato && now < kato + unit, "asked for {kato} ms, got {now} ms in units of {unit}");
        same("the rest", now % unit, 0)?;
    }
    Ok(())
}

fn the_identifier_is_that_of_connect(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let completion = Request::new(fid::HOST_IDENTIFIER).get(&mut session)?.ok()?;
    let expected = session.connect_command().hostid;
    same("the Host Identifier", completion.data.as_slice(), expected.as_slice())
}

fn the_identifier_cannot_be_set(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let other = Request::new(fid::HOST_IDENTIFIER).set(&mut session, &[0x5a; 16])?;
    refused(&other, code::SEQUENCE_ERROR)?;
    the_identifier_is_that_of_connect(lab)
}

/// EXHID must be set over fabrics.
fn sixty_four_bits_are_refused(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let narrow = Sqe::new(0x0a).cdw(10, 0x81);
    let completion = session.admin().run(Command::reading(narrow, 8))?;
    refused_among(&completion, &[code::INVALID_FIELD, code::HOST_ID_INCONSISTENT])
}
