//! Keep Alive. NVM Express Base 2.1 §5.1.14 "Keep Alive command", §3.9 "Keep Alive".

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use holdfast_testkit::wire::{Sqe, code};
use holdfast_testkit::{Command, Options};

use super::admin_session;
use crate::check::{same, status_among};
use crate::fields::done;
use crate::{Case, Lab};

const COMMAND: &str = "Base 2.1 §5.1.14 \"Keep Alive command\"";
const TIMER: &str = "Base 2.1 §3.9 \"Keep Alive\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "admin.keep-alive.succeeds", clause: COMMAND, run: keep_alive_succeeds },
    Case { id: "admin.keep-alive.without-timer", clause: COMMAND, run: it_succeeds_without_a_timer },
    Case { id: "admin.keep-alive.expires", clause: TIMER, run: the_association_ends_when_the_timer_does },
    Case { id: "admin.keep-alive.keeps", clause: TIMER, run: keep_alive_starts_the_timer_anew },
    Case { id: "admin.keep-alive.off", clause: TIMER, run: a_timer_that_is_set_to_zero_is_off },
];

fn keep_alive_succeeds(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for _ in 0..50 {
        let completion = session.admin().keep_alive()?;
        done(&completion)?;
        same("DW0", completion.cqe.dw0, 0)?;
    }
    Ok(())
}

fn it_succeeds_without_a_timer(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(0).kato_ms(0))?;
    done(&session.admin().keep_alive()?)
}

/// The shortest timer that the controller has, in milliseconds.
fn granularity(lab: &mut Lab) -> Result<u32> {
    Ok(u32::from(admin_session(lab)?.controller().kas) * 100)
}

/// Neither before its time nor long after it: at most twice KATO, says the clause, and then some for a busy machine.
fn the_association_ends_when_the_timer_does(lab: &mut Lab) -> Result<()> {
    let kato = granularity(lab)?;
    let begin = Instant::now();
    let mut session = lab.session(Options::default().kato_ms(kato))?;
    session.io(1).connection().expect_close()?;
    session.admin().connection().expect_close()?;
    let lasted = begin.elapsed();
    ensure!(lasted >= Duration::from_millis(kato.into()), "ended after {lasted:?}, KATO {kato} ms");
    Ok(())
}

/// A host that keeps alive in time is kept. A machine that stops this process for longer than the timer says nothing
/// about the target, so such an attempt is made anew.
fn keep_alive_starts_the_timer_anew(lab: &mut Lab) -> Result<()> {
    let kato = Duration::from_millis(granularity(lab)?.into());
    let mut attempt = 0;
    loop {
        let (kept, gap) = keep_for(lab, kato)?;
        attempt += 1;
        if kept.is_ok() || gap < kato / 2 || attempt == 5 {
            return kept;
        }
    }
}

/// Keeps alive for three times the timer; gives how that went and the longest time between two answers.
fn keep_for(lab: &mut Lab, kato: Duration) -> Result<(Result<()>, Duration)> {
    let kato_ms = u32::try_from(kato.as_millis())?;
    let mut session = lab.session(Options::default().io_queues(0).kato_ms(kato_ms))?;
    let (begin, mut last, mut gap) = (Instant::now(), Instant::now(), Duration::ZERO);
    while begin.elapsed() < kato * 3 {
        let kept = session.admin().keep_alive();
        gap = gap.max(last.elapsed());
        last = Instant::now();
        match kept {
            Ok(completion) => done(&completion)?,
            Err(error) => return Ok((Err(error.into()), gap)),
        }
        std::thread::sleep(kato / 20);
    }
    Ok((Ok(()), gap))
}

fn a_timer_that_is_set_to_zero_is_off(lab: &mut Lab) -> Result<()> {
    let kato = granularity(lab)?;
    let mut session = lab.session(Options::default().io_queues(0).kato_ms(kato))?;
    let completion = session.admin().run(Command::bare(Sqe::new(0x09).cdw(10, 0x0f).cdw(11, 0)))?;
    // A transport may insist on the timer.
    status_among(&completion, &[code::SUCCESS, code::KEEP_ALIVE_INVALID])?;
    if completion.status().is_success() {
        std::thread::sleep(Duration::from_millis(u64::from(kato) * 2));
        done(&session.admin().keep_alive()?)?;
    }
    Ok(())
}
