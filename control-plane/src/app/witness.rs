//! Holds what is said of a host's policy against what is seen: the operator's declaration, the agent's report, and the
//! counters since these two were last changed. What does not fit is an alarm until it fits again.

use std::collections::HashMap;

use holdfast_contract::{CounterRow, HostId};

use super::counters::Seen;
use super::events::Event;
use super::hosts::Owners;
use super::reports::Report;
use super::telemetry::Numbers;
use super::words::{AlarmKind, ObservedPolicy, Policy};
use crate::clock::now_ms;
use crate::db::hosts::HostRow;
use crate::db::reports::{AlarmRow, WatchRow};
use crate::db::{Conn, hosts, reports, stored};
use crate::error::Result;

/// What is wrong with a host's claims.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    kind: AlarmKind,
    /// The hole of the policy that fits.
    hole: Option<String>,
    detail: String,
}

/// Looks at every host, keeps what changed and answers what listeners should hear.
pub(crate) async fn review(conn: &mut Conn, numbers: &Numbers) -> Result<Vec<Event>> {
    let owners = Owners::load(conn).await?;
    let mut rows: HashMap<HostId, Vec<&CounterRow>> = HashMap::new();
    for row in &numbers.counters {
        rows.entry(owners.owner(row.host)).or_default().push(row);
    }
    let (reported, watches) = (reports::all(conn).await?, reports::watches(conn).await?);
    let mut alarms = reports::all_alarms(conn).await?;
    let mut events = Vec::new();
    for host in hosts::all(conn).await? {
        let report = reported.get(&host.id).map(Report::from_row).transpose()?;
        let seen = Seen::of(rows.get(&host.id).map(Vec::as_slice).unwrap_or_default());
        let watch = watched(conn, &host, report.as_ref(), seen, watches.get(&host.id)).await?;
        let since = seen.since(&Seen::begun(&watch));
        let found = findings(stored(&host.policy)?, report.as_ref(), since);
        let before = alarms.remove(&host.id).unwrap_or_default();
        let now = merge(&before, found);
        for alarm in now.iter().filter(|alarm| before.iter().all(|old| old.kind != alarm.kind)) {
            tracing::warn!(host = host.name, kind = alarm.kind, detail = alarm.detail, "claims do not hold");
            events.push(Event::alarm(&host.name, &alarm.detail));
        }
        if now != before {
            reports::set_alarms(conn, host.id, &now).await?;
        }
    }
    Ok(events)
}

/// The watch over a host's claims, begun anew where they changed; notes what is observed in the history.
async fn watched(
    conn: &mut Conn,
    host: &HostRow,
    report: Option<&Report>,
    seen: Seen,
    before: Option<&WatchRow>,
) -> Result<WatchRow> {
    let reported = report.map(|report| report.policy.as_str().to_owned());
    let observed = seen.policy().as_str().to_owned();
    let same = before.filter(|watch| watch.declared == host.policy && watch.reported == reported);
    let watch = match same {
        Some(watch) => WatchRow { observed, ..watch.clone() },
        None => WatchRow {
            host_id: host.id,
            declared: host.policy.clone(),
            reported,
            observed,
            by_host: seen.by_host,
            by_target: seen.by_target,
            operations: seen.operations,
            guard_errors: seen.guard_errors,
        },
    };
    if before == Some(&watch) {
        return Ok(watch);
    }
    reports::set_watch(conn, &watch).await?;
    let last = hosts::last_policy(conn, host.id, "observed").await?;
    let unsaid = last.is_none() && watch.observed == ObservedPolicy::Unknown.as_str();
    if !unsaid && last.as_deref() != Some(watch.observed.as_str()) {
        hosts::add_policy(conn, host.id, now_ms(), "observed", &watch.observed).await?;
    }
    Ok(watch)
}

/// Alarms that go on keep their time; of those only what they say may change.
fn merge(before: &[AlarmRow], found: Vec<Finding>) -> Vec<AlarmRow> {
    let mut alarms: Vec<AlarmRow> = found
        .into_iter()
        .map(|finding| {
            let kind = finding.kind.as_str();
            let since_ms = before.iter().find(|old| old.kind == kind).map_or_else(now_ms, |old| old.since_ms);
            AlarmRow { kind: kind.to_owned(), since_ms, hole: finding.hole, detail: finding.detail }
        })
        .collect();
    alarms.sort_by(|a, b| a.kind.cmp(&b.kind));
    alarms
}

/// What does not fit: the claims with each other, the claims with what was seen since they began.
fn findings(declared: Policy, report: Option<&Report>, seen: Seen) -> Vec<Finding> {
    let mut found = Vec::new();
    let reported = report.map_or(Policy::Unknown, |report| report.policy);
    if declared != Policy::Unknown && reported != Policy::Unknown && declared != reported {
        let detail =
            format!("declared is {}, the host's agent reports {}", declared.as_str(), reported.as_str());
        found.push(Finding { kind: AlarmKind::ClaimsDiffer, hole: None, detail });
    }
    // The host's own word counts more than what somebody said of it.
    let (witness, claim) =
        if reported == Policy::Unknown { ("declared", declared) } else { ("reported", reported) };
    let observed = seen.policy();
    match observed {
        ObservedPolicy::Inserted if sends_all(claim) => found.push(Finding {
            kind: AlarmKind::NotSeen,
            hole: None,
            detail: format!(
                "{witness} is {}, but no tuple of the host was on the wire: the target inserted and stripped all of \
                 them",
                claim.as_str()
            ),
        }),
        ObservedPolicy::EndToEnd | ObservedPolicy::Mixed if claim == Policy::None => found.push(Finding {
            kind: AlarmKind::SeenUnclaimed,
            hole: None,
            detail: format!("{witness} is none, but the host puts tuples on the wire"),
        }),
        _ => {}
    }
    if let Some((hole, why)) = hole_of(claim, report).filter(|_| seen.guard_errors > 0) {
        found.push(Finding {
            kind: AlarmKind::GuardErrors,
            hole: Some(hole.to_owned()),
            detail: format!(
                "{witness} is {}, but the host causes guard errors ({hole}): {why}",
                claim.as_str()
            ),
        });
    }
    found
}

/// Policies under which the kernel makes a tuple for every block.
fn sends_all(policy: Policy) -> bool {
    match policy {
        Policy::StablePages
        | Policy::Bounce
        | Policy::BounceDirect
        | Policy::ShadowPages
        | Policy::Retry
        | Policy::NoWait => true,
        Policy::None | Policy::DirectIoOnly | Policy::Application | Policy::Unknown => false,
    }
}

/// Name of the hole where a policy that has none is claimed.
const NO_KNOWN_HOLE: &str = "no-known-hole";

/// For a policy that promises to prevent guard errors, the hole through which they come most likely, and what to do.
fn hole_of(claim: Policy, report: Option<&Report>) -> Option<(&'static str, &'static str)> {
    let found = report.map(Report::holes).unwrap_or_default();
    let named = |hole: &(&str, &str)| found.contains(&hole.0);
    let metadata = (
        "ext4-no-journal",
        "a file system without a journal changes its metadata while it is being written; give it a journal, or set \
         bounce",
    );
    let direct = (
        "direct-io-buffer-changed",
        "an application changes the buffer of a direct write in flight, which waiting for pages does not prevent; set \
         bounce-direct, or mend the application",
    );
    let loops =
        ("loop-direct-io", "a loop device passes pages of another file system on; switch its direct I/O off");
    let none = (
        NO_KNOWN_HOLE,
        "none of this policy's holes fits; see whether the policy is in force on every path, and look at the incidents \
         for faulty memory",
    );
    match claim {
        Policy::StablePages => Some([metadata, loops].into_iter().find(named).unwrap_or(direct)),
        Policy::BounceDirect => Some([metadata, loops].into_iter().find(named).unwrap_or(metadata)),
        Policy::Bounce => Some(none),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const QUIET: Seen = Seen { by_host: 0, by_target: 0, operations: 0, guard_errors: 0 };

    fn report(policy: Policy, holes: &[&str]) -> Report {
        let holes: Vec<_> = holes.iter().map(|hole| json!({ "hole": hole })).collect();
        let device = json!({ "holes": holes }).as_object().unwrap().clone();
        Report {
            time: String::new(),
            kernel: None,
            policy,
            pi_transports: Vec::new(),
            devices: vec![device],
            evidence: serde_json::Map::new(),
        }
    }

    fn kinds(found: &[Finding]) -> Vec<(AlarmKind, Option<&str>)> {
        found.iter().map(|finding| (finding.kind, finding.hole.as_deref())).collect()
    }

    #[test]
    fn claims_that_differ_are_found_and_unknown_claims_nothing() {
        let found = |declared, reported| findings(declared, Some(&report(reported, &[])), QUIET);
        let differ = found(Policy::Bounce, Policy::StablePages);
        assert_eq!(kinds(&differ), [(AlarmKind::ClaimsDiffer, None)]);
        assert!(found(Policy::Bounce, Policy::Bounce).is_empty());
        assert!(found(Policy::Unknown, Policy::Bounce).is_empty());
        assert!(found(Policy::Bounce, Policy::Unknown).is_empty());
    }

    #[test]
    fn claims_are_held_against_what_was_seen() {
        let inserted = Seen { by_target: 8, operations: 1, ..QUIET };
        let own = Seen { by_host: 8, operations: 1, ..QUIET };
        assert_eq!(kinds(&findings(Policy::StablePages, None, inserted)), [(AlarmKind::NotSeen, None)]);
        assert!(findings(Policy::StablePages, None, own).is_empty());
        assert!(findings(Policy::DirectIoOnly, None, inserted).is_empty());
        assert_eq!(kinds(&findings(Policy::None, None, own)), [(AlarmKind::SeenUnclaimed, None)]);
        assert!(findings(Policy::None, None, inserted).is_empty());
        assert!(findings(Policy::Unknown, None, inserted).is_empty());
    }

    #[test]
    fn guard_errors_name_the_hole_that_fits() {
        let racing = Seen { by_host: 8, operations: 1, guard_errors: 1, ..QUIET };
        let hole = |policy, holes: &[&str]| {
            let found = findings(Policy::Unknown, Some(&report(policy, holes)), racing);
            found.into_iter().find(|one| one.kind == AlarmKind::GuardErrors).and_then(|one| one.hole)
        };
        let named = |hole: &str| Some(hole.to_owned());
        assert_eq!(hole(Policy::StablePages, &[]), named("direct-io-buffer-changed"));
        assert_eq!(hole(Policy::StablePages, &["ext4-no-journal"]), named("ext4-no-journal"));
        assert_eq!(hole(Policy::BounceDirect, &["loop-direct-io"]), named("loop-direct-io"));
        assert_eq!(hole(Policy::BounceDirect, &[]), named("ext4-no-journal"));
        assert_eq!(hole(Policy::Bounce, &[]), named(NO_KNOWN_HOLE));
        assert_eq!(hole(Policy::NoWait, &[]), None, "nobody promised anything");
    }

    #[test]
    fn an_alarm_that_goes_on_keeps_its_time() {
        let found = || findings(Policy::Bounce, Some(&report(Policy::StablePages, &[])), QUIET);
        let mut first = merge(&[], found());
        first[0].since_ms = 5;
        assert_eq!(merge(&first, found()), first);
        assert!(merge(&first, Vec::new()).is_empty());
    }
}
