//! What a policy costs: how much of a load is done under it, relative to what is done without tuples in the same round of the same boot.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::GUEST_LIMIT;
use crate::cells::{Boot, Policy};
use crate::host::Host;

/// The policies that are compared, the one that the others are compared with first. Without waiting, writes fail.
pub(crate) const POLICIES: [Policy; 5] =
    [Policy::None, Policy::StablePages, Policy::BounceDirect, Policy::Bounce, Policy::DirectIoOnly];
/// What a load is called, and what it is.
pub(crate) const LOADS: [(&str, &str); 4] = [
    ("A", "`wac -C A`: 64 threads rewrite a file of 64 KiB"),
    ("sequential", "32 MiB through the page cache, then fsync, again and again"),
    ("sequential-direct", "the same with O_DIRECT, in pieces of 1 MiB"),
    ("random-direct", "4 KiB at random places with O_DIRECT, 4 threads"),
];
const ROUNDS: usize = 5;
const TIME: Duration = Duration::from_secs(3);

/// Ratios to [`Policy::None`], by load and policy: the middle one of all rounds, the lowest and the highest.
pub(crate) type Ratios = BTreeMap<(String, Policy), [f64; 3]>;

/// Measures, and notes each value in `file`, unless that is there.
pub(crate) fn measure(boot: Boot, file: &Path) -> Result<()> {
    if file.exists() {
        println!("{boot}: costs are noted");
        return Ok(());
    }
    let mut host = Host::start(boot, &format!("cost_{}_{}", boot.system, boot.transport), GUEST_LIMIT)?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        for (load, _) in LOADS {
            // Each begins once, or nearly so: what comes first in a round has another machine than what comes last.
            let mut order = POLICIES;
            order.rotate_left(round % POLICIES.len());
            for policy in order {
                let per_second = host.cost(policy, load, TIME)?;
                println!("{boot}, round {round}: {load} under {policy}: {} KiB/s", per_second / 1024);
                rounds.push(
                    json!({"round": round, "load": load, "policy": policy.word(), "per_second": per_second}),
                );
            }
        }
    }
    host.end()?;
    let noted = json!({
        "release": boot.system.kernel().release()?,
        "date": jiff::Timestamp::now().strftime("%Y-%m-%d").to_string(),
        "seconds": TIME.as_secs(),
        "values": rounds,
    });
    Ok(fs::write(file, noted.to_string())?)
}

/// What is noted in a file.
pub(crate) fn ratios(noted: &Value) -> Result<Ratios> {
    let values = noted.get("values").and_then(Value::as_array).context("no values")?;
    let mut rounds: BTreeMap<(u64, &str), BTreeMap<Policy, f64>> = BTreeMap::new();
    for value in values {
        let number =
            |name: &str| value.get(name).and_then(Value::as_u64).with_context(|| format!("no {name}"));
        let text = |name: &str| value.get(name).and_then(Value::as_str).with_context(|| format!("no {name}"));
        let policy = Policy::of(text("policy")?).context("policy")?;
        #[expect(clippy::cast_precision_loss, reason = "bytes in a second")]
        let per_second = number("per_second")? as f64;
        rounds.entry((number("round")?, text("load")?)).or_default().insert(policy, per_second);
    }
    let mut all: BTreeMap<(String, Policy), Vec<f64>> = BTreeMap::new();
    for ((_, load), of_policy) in rounds {
        let none = of_policy
            .get(&Policy::None)
            .copied()
            .filter(|&none| none > 0.0)
            .context("no value to compare with")?;
        for (policy, value) in of_policy {
            all.entry((load.to_owned(), policy)).or_default().push(value / none);
        }
    }
    Ok(all.into_iter().map(|(key, ratios)| (key, middle(ratios))).collect())
}

fn middle(mut ratios: Vec<f64>) -> [f64; 3] {
    ratios.sort_by(f64::total_cmp);
    let at = |place: usize| ratios.get(place).copied().unwrap_or(f64::NAN);
    [at(ratios.len() / 2), at(0), at(ratios.len().saturating_sub(1))]
}

#[test]
fn ratios_are_those_of_the_same_round() -> Result<()> {
    let value = |round: u64, policy: Policy, per_second: u64| json!({"round": round, "load": "A", "policy": policy.word(), "per_second": per_second});
    let mut values = Vec::new();
    for (round, none, bounce) in [(0, 100, 50), (1, 10, 9), (2, 1000, 700)] {
        values.extend([value(round, Policy::Bounce, bounce), value(round, Policy::None, none)]);
    }
    let ratios = ratios(&json!({"values": values}))?;
    assert_eq!(ratios[&("A".to_owned(), Policy::Bounce)], [0.7, 0.5, 0.9]);
    assert_eq!(ratios[&("A".to_owned(), Policy::None)], [1.0; 3]);
    Ok(())
}
