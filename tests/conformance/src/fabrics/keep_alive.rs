//! Keep Alive. NVMe Base 2.1 §3.9 "Keep Alive", §5.1.14 "Keep Alive command", §5.1.25.1.8 "Keep Alive Timer".
//!
//! Timeouts here are short; how long the ends take is bounded from above by the sockets' time limit alone.

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{ConnectCommand, Options, Property, Session};

use super::{admin_connect, tried};
use crate::{Case, Lab, check};

const TIMER: &str = "NVMe Base 2.1 §3.9.1 \"Keep Alive Timer Configuration\"";
const ACTIVATION: &str = "NVMe Base 2.1 §3.9.2 \"Keep Alive Timer Activation\"";
const COMMAND: &str = "NVMe Base 2.1 §3.9.3 \"Command Based Keep Alive\"";
const TRAFFIC: &str = "NVMe Base 2.1 §3.9.4 \"Traffic Based Keep Alive\"";
const CLEANUP: &str = "NVMe Base 2.1 §3.9.5 \"Keep Alive Timeout Cleanup\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case::new("fabrics.keep-alive.feature", TIMER, the_feature_tells_what_connect_said),
    Case::new("fabrics.keep-alive.rounding", TIMER, timeouts_are_rounded_up),
    Case::new("fabrics.keep-alive.set", TIMER, the_timeout_can_be_changed),
    Case::new("fabrics.keep-alive.set-zero", TIMER, it_cannot_be_switched_off),
    Case::new("fabrics.keep-alive.expires", CLEANUP, a_silent_host_loses_its_association),
    Case::new("fabrics.keep-alive.not-early", COMMAND, a_host_that_keeps_alive_stays),
    Case::new("fabrics.keep-alive.traffic", TRAFFIC, traffic_counts_where_it_is_said_to),
    Case::new("fabrics.keep-alive.shorter", TIMER, a_shorter_timeout_holds_at_once),
    Case::new("fabrics.keep-alive.returns", CLEANUP, a_host_may_come_back_after_it),
    Case::new("fabrics.keep-alive.disabled", ACTIVATION, a_disabled_controller_does_not_expire),
    Case::new("fabrics.keep-alive.shutdown", ACTIVATION, a_controller_that_was_shut_down_does_not_expire),
];

/// The shortest timeout of a controller with the granularity that this one has.
const SHORT_MS: u32 = 1_000;
/// Long enough for a timer of that length to have ended, also where the traffic of the last interval counts.
const OVER: Duration = Duration::from_millis(4_000);

fn granularity_ms(session: &Session) -> Result<u32> {
    let kas = u32::from(session.controller().kas);
    ensure!(kas > 0, "KAS is zero: Keep Alive is not supported");
    Ok(kas * 100)
}

fn the_feature_tells_what_connect_said(lab: &mut Lab) -> Result<()> {
    for kato_ms in [10_000, 30_000, 120_000] {
        let mut session = lab.session(Options::default().kato_ms(kato_ms))?;
        check::same("KATO", session.admin().get_feature(0x0f)?.ok()?.cqe.dw0, kato_ms)?;
    }
    Ok(())
}

fn timeouts_are_rounded_up(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let granularity = granularity_ms(&session)?;
    for kato_ms in [granularity * 20 + 1, granularity * 30 - 1, granularity * 40] {
        session.admin().set_feature(0x0f, kato_ms)?.ok()?;
        let got = session.admin().get_feature(0x0f)?.ok()?.cqe.dw0;
        check::same("KATO", got, kato_ms.next_multiple_of(granularity))
            .with_context(|| format!("{kato_ms} ms"))?;
    }
    Ok(())
}

fn the_timeout_can_be_changed(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for kato_ms in [60_000, 20_000, 300_000] {
        session.admin().set_feature(0x0f, kato_ms)?.ok()?;
        check::same("KATO", session.admin().get_feature(0x0f)?.ok()?.cqe.dw0, kato_ms)?;
    }
    Ok(())
}

fn it_cannot_be_switched_off(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().kato_ms(60_000))?;
    check::status(&session.admin().set_feature(0x0f, 0)?, code::KEEP_ALIVE_INVALID)?;
    check::same("KATO", session.admin().get_feature(0x0f)?.ok()?.cqe.dw0, 60_000)
}

fn a_silent_host_loses_its_association(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().kato_ms(SHORT_MS).io_queues(2))?;
    session.admin().connection().expect_close().context("the Admin Queue")?;
    for qid in [1, 2] {
        session.io(qid).connection().expect_close().with_context(|| format!("queue {qid}"))?;
    }
    Ok(())
}

fn a_host_that_keeps_alive_stays(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().kato_ms(SHORT_MS * 3))?;
    for _ in 0..20 {
        sleep(Duration::from_millis(300));
        session.admin().keep_alive()?.ok()?;
    }
    session.io(1).flush(1)?.ok()?;
    Ok(())
}

/// CTRATT bit 6 (TBKAS) says which.
fn traffic_counts_where_it_is_said_to(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().kato_ms(SHORT_MS * 3))?;
    let counts = session.controller().ctratt & 1 << 6 != 0;
    for _ in 0..30 {
        sleep(Duration::from_millis(300));
        match session.io(1).flush(1) {
            Ok(done) => {
                done.ok()?;
            }
            Err(error) => {
                ensure!(!counts, "cut off in spite of its traffic: {error}");
                return Ok(());
            }
        }
    }
    ensure!(counts, "traffic alone kept it alive, and CTRATT.TBKAS is clear");
    Ok(())
}

fn a_shorter_timeout_holds_at_once(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    session.admin().set_feature(0x0f, SHORT_MS)?.ok()?;
    session.admin().connection().expect_close()?;
    Ok(())
}

fn a_host_may_come_back_after_it(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().kato_ms(SHORT_MS))?;
    session.admin().connection().expect_close()?;
    let mut again = lab.session(Options::default())?;
    again.io(1).flush(1)?.ok()?;
    Ok(())
}

fn a_disabled_controller_does_not_expire(lab: &mut Lab) -> Result<()> {
    let (connect, _) = admin_connect(lab)?;
    let (mut queue, done) = tried(lab, &ConnectCommand { kato_ms: SHORT_MS, ..connect })?;
    done.ok()?;
    sleep(OVER);
    queue.property_get(Property::Csts)?.ok()?;
    queue.enable()?;
    queue.keep_alive()?.ok()?;
    queue.connection().expect_close().context("once it is enabled")?;
    Ok(())
}

fn a_controller_that_was_shut_down_does_not_expire(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().kato_ms(SHORT_MS * 2).io_queues(0))?;
    session.admin().shut_down()?;
    sleep(OVER + Duration::from_secs(1));
    session.admin().property_get(Property::Csts)?.ok()?;
    Ok(())
}
