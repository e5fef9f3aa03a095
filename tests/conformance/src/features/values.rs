//! Features that are a value in DW0. NVM Express Base 2.1 §5.1.25.1 "Common Feature Specific Information"; NVM Command Set
//! 1.1 §4.1.3 "Get Features & Set Features Commands".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Options, Property, Session};

use super::{Request, current, fid, set};
use crate::admin::{admin_session, identify};
use crate::check::{pattern, same, status_among};
use crate::fields::{bit, byte, done, refused, refused_among};
use crate::{Case, Lab};

const ARBITRATION: &str = "Base 2.1 §5.1.25.1.1 \"Arbitration (Feature Identifier 01h)\"";
const POWER: &str = "Base 2.1 §5.1.25.1.2 \"Power Management (Feature Identifier 02h)\"";
const TEMPERATURE: &str = "Base 2.1 §5.1.25.1.3 \"Temperature Threshold (Feature Identifier 04h)\"";
const CACHE: &str = "Base 2.1 §5.1.25.1.4 \"Volatile Write Cache (Feature Identifier 06h)\"";
const EVENTS: &str = "Base 2.1 §5.1.25.1.5 \"Asynchronous Event Configuration (Feature Identifier 0Bh)\"";
const RECOVERY: &str = "NVM Command Set 1.1 §4.1.3.2 \"Error Recovery (Feature Identifier 05h)\"";
const ATOMICITY: &str = "NVM Command Set 1.1 §4.1.3.3 \"Write Atomicity Normal (Feature Identifier 0Ah)\"";
const VALUES: &str = "Base 2.1 §4.4 \"Feature Values\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "features.arbitration.read-back", clause: ARBITRATION, run: arbitration_is_read_back },
    Case { id: "features.power-management.state-0", clause: POWER, run: power_state_0_is_taken },
    Case { id: "features.power-management.beyond", clause: POWER, run: power_states_beyond_npss_are_refused },
    Case {
        id: "features.temperature-threshold.read-back",
        clause: TEMPERATURE,
        run: thresholds_are_read_back,
    },
    Case { id: "features.temperature-threshold.defaults", clause: TEMPERATURE, run: defaults_never_trip },
    Case { id: "features.temperature-threshold.reserved", clause: TEMPERATURE, run: reserved_selectors },
    Case {
        id: "features.temperature-threshold.sensors",
        clause: TEMPERATURE,
        run: sensors_that_are_not_there,
    },
    Case { id: "features.error-recovery.read-back", clause: RECOVERY, run: time_limits_are_read_back },
    Case { id: "features.error-recovery.dulbe", clause: RECOVERY, run: dulbe_needs_support },
    Case { id: "features.volatile-write-cache.off", clause: CACHE, run: writes_work_without_the_cache },
    Case { id: "features.volatile-write-cache.flush", clause: CACHE, run: flush_works_without_the_cache },
    Case { id: "features.volatile-write-cache.own", clause: CACHE, run: the_switch_is_read_back },
    Case { id: "features.write-atomicity.read-back", clause: ATOMICITY, run: disable_normal_is_read_back },
    Case { id: "features.async-events.read-back", clause: EVENTS, run: the_configuration_is_read_back },
    Case { id: "features.async-events.own", clause: EVENTS, run: each_controller_has_its_own },
    Case { id: "features.values.reset", clause: VALUES, run: a_reset_brings_the_defaults },
    Case { id: "features.values.own", clause: VALUES, run: controllers_do_not_share_values },
];

fn arbitration_is_read_back(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for value in [0x0102_0303, 0xffff_ff07, 0x0000_0000] {
        set(&mut session, fid::ARBITRATION, value)?;
        same("Arbitration", current(&mut session, fid::ARBITRATION)?, value)?;
    }
    Ok(())
}

fn power_state_0_is_taken(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    set(&mut session, fid::POWER_MANAGEMENT, 0)?;
    same("power state", current(&mut session, fid::POWER_MANAGEMENT)? & 0x1f, 0)
}

fn power_states_beyond_npss_are_refused(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let highest = u32::from(byte(&session.controller().raw, 263)?);
    for state in (highest + 1)..32 {
        let request = Request::new(fid::POWER_MANAGEMENT).value(state);
        refused(&request.set(&mut session, &[])?, code::INVALID_FIELD)?;
    }
    Ok(())
}

/// CDW11 of Temperature Threshold: threshold in 15:0, TMPSEL in 19:16, THSEL in 21:20.
const UNDER: u32 = 1 << 20;
const ALL_SENSORS: u32 = 0xf << 16;

fn threshold(session: &mut Session, selectors: u32) -> Result<u32> {
    let completion = Request::new(fid::TEMPERATURE_THRESHOLD).value(selectors).get(session)?;
    done(&completion)?;
    Ok(completion.cqe.dw0 & 0xffff)
}

fn thresholds_are_read_back(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    set(&mut session, fid::TEMPERATURE_THRESHOLD, 0x0170)?;
    set(&mut session, fid::TEMPERATURE_THRESHOLD, UNDER | 0x0101)?;
    same("over temperature", threshold(&mut session, 0)?, 0x0170)?;
    same("under temperature", threshold(&mut session, UNDER)?, 0x0101)?;
    set(&mut session, fid::TEMPERATURE_THRESHOLD, ALL_SENSORS | 0x0180)?;
    same("over temperature after all were set", threshold(&mut session, 0)?, 0x0180)
}

/// The default over threshold is WCTEMP, or a value that is never reached; the default under threshold is 0.
fn defaults_never_trip(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let smart = session.admin().get_log_page(0x02, u32::MAX, 0, 512)?.ok()?.data;
    let temperature = u32::from(crate::fields::le16(&smart, 1)?);
    let (over, under) = (threshold(&mut session, 0)?, threshold(&mut session, UNDER)?);
    ensure!(over > temperature && under <= temperature, "{under} to {over} K at {temperature} K");
    same("Critical Warning, temperature", bit(byte(&smart, 0)?, 1), false)
}

fn reserved_selectors(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let reserved_threshold = [2 << 20, 3 << 20];
    let reserved_sensor = (9..=14).map(|sensor| sensor << 16);
    for selectors in reserved_threshold.into_iter().chain(reserved_sensor) {
        let request = Request::new(fid::TEMPERATURE_THRESHOLD).value(selectors | 0x0170);
        refused(&request.set(&mut session, &[])?, code::INVALID_FIELD)?;
        refused(&request.get(&mut session)?, code::INVALID_FIELD)?;
    }
    Ok(())
}

/// Sensors that SMART / Health reports as 0 are not implemented.
fn sensors_that_are_not_there(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let smart = session.admin().get_log_page(0x02, u32::MAX, 0, 512)?.ok()?.data;
    for sensor in 1..=8_u32 {
        let reported = crate::fields::le16(&smart, 198 + usize::try_from(sensor)? * 2)?;
        let request = Request::new(fid::TEMPERATURE_THRESHOLD).value(sensor << 16 | 0x0170);
        let completion = request.set(&mut session, &[])?;
        if reported == 0 {
            refused(&completion, code::INVALID_FIELD)?;
        } else {
            done(&completion)?;
        }
    }
    Ok(())
}

fn time_limits_are_read_back(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for limit in [1, 0xffff, 0] {
        done(&Request::new(fid::ERROR_RECOVERY).nsid(1).value(limit).set(&mut session, &[])?)?;
        let now = Request::new(fid::ERROR_RECOVERY).nsid(1).get(&mut session)?;
        done(&now)?;
        same("TLER", now.cqe.dw0, limit)?;
    }
    Ok(())
}

/// NSFEAT bit 2 (DAE) says whether reads of deallocated blocks can be made to fail.
fn dulbe_needs_support(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let supported = bit(byte(&identify(&mut session, 0x00, 1, 0)?, 24)?, 2);
    let request = Request::new(fid::ERROR_RECOVERY).nsid(1).value(1 << 16);
    let completion = request.set(&mut session, &[])?;
    if !supported {
        return refused(&completion, code::INVALID_FIELD);
    }
    done(&completion)?;
    let io = session.io(1);
    done(&io.deallocate(1, &[holdfast_testkit::DeallocateRange { slba: 64, blocks: 1 }])?)?;
    status_among(&io.read(1, &Io::at(64, 1), 4096)?, &[(2, 0x87)])
}

fn writes_work_without_the_cache(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    for enabled in [0, 1, 0] {
        set(&mut session, fid::VOLATILE_WRITE_CACHE, enabled)?;
        let data = pattern(u64::from(enabled) + 7, 8 * 4096);
        let io = session.io(1);
        done(&io.write(1, &Io::at(70, 8), &data)?)?;
        ensure!(io.read(1, &Io::at(70, 8), data.len())?.ok()?.data == data, "other data, WCE {enabled}");
    }
    Ok(())
}

fn flush_works_without_the_cache(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    set(&mut session, fid::VOLATILE_WRITE_CACHE, 0)?;
    done(&session.io(1).flush(1)?)
}

fn the_switch_is_read_back(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for enabled in [0, 1, 0, 1] {
        set(&mut session, fid::VOLATILE_WRITE_CACHE, enabled)?;
        same("WCE", current(&mut session, fid::VOLATILE_WRITE_CACHE)?, enabled)?;
    }
    Ok(())
}

fn disable_normal_is_read_back(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for disabled in [1, 0] {
        set(&mut session, fid::WRITE_ATOMICITY, disabled)?;
        same("DN", current(&mut session, fid::WRITE_ATOMICITY)?, disabled)?;
    }
    Ok(())
}

/// What can be enabled is what OAES offers, and the critical warnings of SMART / Health in bits 7:0.
fn the_configuration_is_read_back(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let offered = crate::fields::le32(&session.controller().raw, 92)?;
    for value in [offered & !0xff, 1 << 8, 0] {
        set(&mut session, fid::ASYNC_EVENTS, value)?;
        same("configuration", current(&mut session, fid::ASYNC_EVENTS)?, value)?;
    }
    // Reliability, spare, temperature, read-only: SMART critical warnings have their own bits.
    set(&mut session, fid::ASYNC_EVENTS, 0b1_1111)?;
    same("critical warnings", current(&mut session, fid::ASYNC_EVENTS)? & 0b1_1111, 0b1_1111)
}

fn each_controller_has_its_own(lab: &mut Lab) -> Result<()> {
    let (mut one, mut other) = (admin_session(lab)?, admin_session(lab)?);
    set(&mut one, fid::ASYNC_EVENTS, 1 << 8)?;
    same("the other controller's configuration", current(&mut other, fid::ASYNC_EVENTS)?, 0)
}

/// Features that have a plain value which can be changed, with another value.
const CHANGEABLE: [(u8, u32); 5] = [
    (fid::ARBITRATION, 0x0405_0602),
    (fid::VOLATILE_WRITE_CACHE, 0),
    (fid::WRITE_ATOMICITY, 1),
    (fid::ASYNC_EVENTS, 1 << 8),
    (fid::TEMPERATURE_THRESHOLD, 0x0168),
];

fn a_reset_brings_the_defaults(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for (fid, value) in CHANGEABLE {
        set(&mut session, fid, value)?;
    }
    session.admin().property_set(Property::Cc, 0x0046_0000)?.ok()?;
    session.admin().enable()?;
    for (fid, value) in CHANGEABLE {
        let default = Request::new(fid).select(1).get(&mut session)?.ok()?.cqe.dw0;
        let now = current(&mut session, fid)?;
        same(&format!("feature {fid:02x}h after a reset"), now, default)?;
        ensure!(now != value, "feature {fid:02x}h: the test's value is the default");
    }
    Ok(())
}

fn controllers_do_not_share_values(lab: &mut Lab) -> Result<()> {
    let (mut one, mut other) = (admin_session(lab)?, admin_session(lab)?);
    for (fid, value) in CHANGEABLE {
        let before = current(&mut other, fid)?;
        set(&mut one, fid, value)?;
        same(&format!("feature {fid:02x}h of another controller"), current(&mut other, fid)?, before)?;
    }
    refused_among(&Request::new(0).get(&mut one)?, &[code::INVALID_FIELD])
}
