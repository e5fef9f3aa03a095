//! Pools that fill up: what is told on the way, what is refused when they are full, and that everything else goes on, also over
//! the end of the target: reads, overwrites, deallocation, deleting, and the recovery itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Events, Share, eventually, host_nqn};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Session};
use serde_json::{Value, json};

const SEEN_LIMIT: Duration = Duration::from_secs(30);
const MIB: u64 = 1 << 20;
/// Blocks of one write, and their bytes.
const RUN: u64 = 16;
const RUN_BYTES: usize = 16 << 12;

/// An appliance with a volume in memory for another host, and a thin volume in a small pool, four times its size.
struct Thin {
    appliance: Appliance,
    other: Share,
    share: Share,
    /// Of the pool, in bytes.
    capacity: u64,
}

impl Thin {
    fn start(name: &str, pool_bytes: u64) -> Result<Thin> {
        let appliance = Appliance::start(name)?;
        let other = appliance.share("other", 8, 4096)?;
        appliance.admit_scripted("other", &other, "plain", "any")?;
        let capacity = appliance.make_pool("small", pool_bytes, 4.0)?;
        let share = appliance.share_of("small", "thin", (4 * capacity) >> 20, 4096)?;
        appliance.admit_scripted("host", &share, "plain", "any")?;
        Ok(Thin { appliance, other, share, capacity })
    }

    fn host(&self) -> Result<Session> {
        self.appliance.connect(&host_nqn("host"), &self.share)
    }

    /// Runs of blocks that find room.
    fn runs(&self) -> u64 {
        self.capacity / (RUN << 12)
    }

    /// Waits until so many runs are in use, in the pool and in its volume.
    fn uses(&self, runs: u64) -> Result<()> {
        let bytes = json!(runs * (RUN << 12));
        eventually(SEEN_LIMIT, &format!("{bytes} bytes in use"), || {
            for path in ["/pools/small", "/volumes/thin"] {
                let object = self.appliance.rest().get(path)?;
                ensure!(object.get("allocated_bytes") == Some(&bytes), "{object}");
            }
            Ok(Some(()))
        })
    }

    /// Waits until this threshold is told; `Null` for none.
    fn has_passed(&self, threshold: &Value) -> Result<()> {
        eventually(SEEN_LIMIT, &format!("the threshold {threshold}"), || {
            let pool = self.appliance.rest().get("/pools/small")?;
            Ok((pool.get("threshold_percent") == Some(threshold)).then_some(()))
        })
    }
}

fn write(session: &mut Session, run: u64, fill: u8) -> Result<()> {
    session.io(1).write(1, &Io::at(run * RUN, 16), &[fill; RUN_BYTES])?.ok()?;
    Ok(())
}

fn expect(session: &mut Session, run: u64, fill: u8) -> Result<()> {
    let back = session.io(1).read(1, &Io::at(run * RUN, 16), RUN_BYTES)?.ok()?.data;
    ensure!(back == [fill; RUN_BYTES], "blocks from {} on are not {fill}", run * RUN);
    Ok(())
}

/// Demands that new blocks are refused as they have to be, and that nothing of them is stored.
fn is_full(session: &mut Session, run: u64) -> Result<()> {
    let refused = session.io(1).write(1, &Io::at(run * RUN, 16), &[0xee; RUN_BYTES])?.status();
    ensure!(refused.pair() == code::CAPACITY_EXCEEDED && refused.dnr, "{refused}");
    expect(session, run, 0).context("of a refused write")
}

#[test]
fn a_full_thin_pool_refuses_new_blocks_and_serves_what_it_has() -> Result<()> {
    let thin = Thin::start("full_thin", 8 * MIB)?;
    let rest = thin.appliance.rest();
    let promised = thin.capacity * 4;
    let more = json!({"name": "more", "pool": "small", "size_bytes": promised % MIB + 4096});
    let answer = rest.exchange("POST", "/api/v1/volumes", &more.to_string())?;
    ensure!(answer.status == 507, "nearly all of {promised} bytes are promised: {}", answer.text);
    let mut session = thin.host()?;
    let runs = thin.runs();
    for run in 0..runs {
        write(&mut session, run, 5).with_context(|| format!("run {run} of {runs}"))?;
    }
    is_full(&mut session, runs)?;
    for round in 6..9 {
        for run in 0..runs {
            expect(&mut session, run, round - 1)?;
            write(&mut session, run, round)?;
        }
    }
    is_full(&mut session, 2 * runs)?;
    session.io(1).flush(1)?.ok()?;
    session.close()?;
    thin.uses(runs)?;
    thin.appliance.works_for("other", &thin.other, 8)?;

    // A full pool comes back full, and can be written and emptied as before.
    let thin = Thin { appliance: thin.appliance.interrupt("full_thin_again")?, ..thin };
    let mut session = thin.host()?;
    for run in 0..runs {
        expect(&mut session, run, 8)?;
        write(&mut session, run, 9)?;
    }
    is_full(&mut session, runs)?;
    session.io(1).write_zeroes(1, &Io::at(0, 16).deallocate())?.ok()?;
    expect(&mut session, 0, 0)?;
    write(&mut session, 3 * runs, 7)?;
    is_full(&mut session, 0)?;
    thin.uses(runs)?;
    expect(&mut session, 3 * runs, 7)?;
    session.close()?;

    // What a deleted volume held is room for another.
    let rest = thin.appliance.rest();
    rest.delete("/subsystems/thin/namespaces/1")?;
    rest.delete("/volumes/thin")?;
    let next = thin.appliance.share_of("small", "next", thin.capacity >> 20, 4096)?;
    thin.appliance.rest().put("/subsystems/next/hosts/host", &json!({"view": "plain"}))?;
    let mut session = thin.appliance.connect(&host_nqn("host"), &next)?;
    for run in 0..(thin.capacity >> 20) * 16 {
        write(&mut session, run, 3).with_context(|| format!("run {run} of the next volume"))?;
    }
    session.close()?;
    thin.appliance.stop()
}

/// Waits for the event of a threshold, and for its alarm if it was passed on the way up.
fn told(events: &mut Events, threshold: u64, rising: bool) -> Result<()> {
    let of_pool = |name: &str, data: &Value, field: &str| {
        name == if field == "name" { "pool" } else { "alarm" } && data.get(field) == Some(&json!("small"))
    };
    let (mut event, mut alarm) = (false, !rising);
    while !(event && alarm) {
        let (name, data) = events.next_event().with_context(|| format!("no event of {threshold} %"))?;
        event |= of_pool(&name, &data, "name") && data.get("threshold") == Some(&json!(threshold));
        alarm |= of_pool(&name, &data, "subject")
            && data
                .get("detail")
                .is_some_and(|detail| detail.to_string().contains(" % of the pool's capacity"));
    }
    Ok(())
}

#[test]
fn each_threshold_is_told_once_on_the_way_up_and_left_on_the_way_down() -> Result<()> {
    let thin = Thin::start("full_thresholds", 16 * MIB)?;
    let mut events = thin.appliance.rest().events()?;
    let mut session = thin.host()?;
    thin.has_passed(&Value::Null)?;
    let mut run = 0;
    for percent in [80, 90, 95] {
        while run * 100 < (percent + 1) * thin.runs() {
            write(&mut session, run, 5)?;
            run += 1;
        }
        told(&mut events, percent, true)?;
        thin.has_passed(&json!(percent))?;
    }
    session.close()?;
    let thin = Thin { appliance: thin.appliance.interrupt("full_thresholds_again")?, ..thin };
    thin.has_passed(&json!(95))?;
    let mut events = thin.appliance.rest().events()?;
    let mut session = thin.host()?;
    for percent in [90, 80, 0] {
        while run * 100 > (percent.max(70) + 2) * thin.runs() {
            run -= 1;
            session.io(1).write_zeroes(1, &Io::at(run * RUN, 16).deallocate())?.ok()?;
        }
        told(&mut events, percent, false)?;
        let threshold = if percent == 0 { Value::Null } else { json!(percent) };
        thin.has_passed(&threshold)?;
    }
    session.close()?;
    thin.appliance.stop()
}
