//! The rest of the API's outer contract: pages of lists, events, metrics, the OpenAPI document, the page at `/`, and the
//! command-line tool as a client of it all.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use holdfast_e2e::{Appliance, Share, eventually};
use holdfast_testkit::pi::{PiFormat, Tags};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Io, Options};
use serde_json::{Value, json};

const SEEN_LIMIT: Duration = Duration::from_secs(20);

#[test]
fn lists_come_in_pages_that_miss_nothing_and_repeat_nothing() -> Result<()> {
    let appliance = Appliance::start("api_pages")?;
    let rest = appliance.rest();
    let names: Vec<String> = (0..25).map(|index| format!("v{index:02}")).collect();
    for name in &names {
        rest.post("/volumes", &json!({"name": name, "pool": "ram", "size_bytes": 4096}))?;
    }
    for limit in [1, 7, 25, 1000] {
        let mut seen = Vec::new();
        let mut path = format!("/volumes?limit={limit}");
        loop {
            let page = rest.get(&path)?;
            let items = page.get("items").and_then(Value::as_array).context("items")?;
            ensure!(!items.is_empty() && items.len() <= limit, "{} items, limit {limit}", items.len());
            seen.extend(items.iter().filter_map(|item| item.get("name")?.as_str().map(str::to_owned)));
            match page.get("next").context("next")? {
                Value::Null => break,
                Value::String(token) => path = format!("/volumes?limit={limit}&after={token}"),
                other => bail!("next: {other}"),
            }
            // What goes on meanwhile does not disturb the order.
            rest.patch("/volumes/v00", &json!({"size_bytes": 8192}))?;
        }
        ensure!(seen == names, "limit {limit}: {seen:?}");
    }
    ensure!(rest.get("/hosts?limit=1")? == json!({"items": [], "next": null}));
    appliance.stop()
}

#[test]
fn hosts_are_found_by_their_identities() -> Result<()> {
    let appliance = Appliance::start("api_hosts")?;
    let rest = appliance.rest();
    let nqn = "nqn.2026-11.io.example:web1";
    let iqn = "iqn.2026-11.io.example:web1";
    rest.post("/hosts", &json!({"name": "web1", "nqn": nqn, "iqn": iqn}))?;
    rest.post("/hosts", &json!({"name": "web2", "policy": {"declared": "bounce"}}))?;
    for query in [format!("nqn={nqn}"), format!("iqn={iqn}")] {
        let found = rest.items(&format!("/hosts?{query}"))?;
        ensure!(
            found.len() == 1 && found.iter().all(|host| host.get("name") == Some(&json!("web1"))),
            "{found:?}"
        );
    }
    ensure!(rest.items("/hosts?nqn=nqn.2026-11.io.example:web3")?.is_empty());
    let host = rest.get("/hosts/web2")?;
    ensure!(host.pointer("/policy/declared") == Some(&json!("bounce")), "{host}");
    ensure!(host.pointer("/policy/observed") == Some(&json!("unknown")), "{host}");
    ensure!(host.pointer("/policy/history").is_some_and(Value::is_array), "{host}");
    ensure!(host.get("sessions") == Some(&json!([])) && host.get("coverage").is_some(), "{host}");
    // RFC 7396: null takes a member away.
    let host = rest.patch("/hosts/web1", &json!({"iqn": null}))?;
    ensure!(host.get("nqn") == Some(&json!(nqn)) && host.get("iqn") == Some(&Value::Null), "{host}");
    ensure!(rest.items(&format!("/hosts?iqn={iqn}"))?.is_empty());
    appliance.stop()
}

/// Writes well, then with a bent guard: something to count, and an incident.
fn misbehave(appliance: &Appliance, share: &Share) -> Result<()> {
    let mut session = appliance.session("h", share, Options::default())?;
    let mut blocks = PiFormat::CRC16.protect(&[7; 4096], 4096, Tags::counting(3));
    let io = Io::at(3, 1).check_all().ref_tag(3);
    session.io(1).write(1, &io, &blocks)?.ok()?;
    session.io(1).read(1, &io, blocks.len())?.ok()?;
    holdfast_testkit::pi::flip_tuple_bit(&mut blocks, 4096, 8, 0, 3);
    let refused = session.io(1).write(1, &io, &blocks)?.status();
    ensure!(refused.pair() == code::GUARD_CHECK, "{refused}");
    Ok(session.close()?)
}

#[test]
fn events_are_streamed_under_the_names_of_the_contract() -> Result<()> {
    let appliance = Appliance::start("api_events")?;
    let mut events = appliance.rest().events()?;
    let rest = appliance.rest();
    rest.post("/pools", &json!({"name": "p", "backing": {"kind": "memory", "size_bytes": 16 << 20}}))?;
    let share = appliance.share("disk", 8, 4096)?;
    appliance.admit_scripted("h", &share, "pi", "any")?;
    misbehave(&appliance, &share)?;
    let mut missing: BTreeSet<&str> = ["target", "pool", "volume", "host", "incident"].into();
    while !missing.is_empty() {
        let (name, _) = events.next_event().with_context(|| format!("no events {missing:?}"))?;
        let known = ["host", "volume", "pool", "target", "incident", "alarm"];
        ensure!(known.contains(&name.as_str()), "an event named {name}");
        missing.remove(name.as_str());
    }
    appliance.stop()
}

#[test]
fn metrics_name_what_the_contract_names_and_can_be_read() -> Result<()> {
    let appliance = Appliance::start("api_metrics")?;
    let share = appliance.share("disk", 8, 4096)?;
    appliance.admit_scripted("h", &share, "pi", "any")?;
    misbehave(&appliance, &share)?;
    let wanted = [
        "holdfast_pi_blocks_checked_total{",
        "holdfast_pi_errors_total{",
        "holdfast_io_operations_total",
        "holdfast_io_bytes_total",
        "holdfast_io_duration_seconds_bucket{",
        "holdfast_incidents_dropped_total",
    ];
    let text = eventually(SEEN_LIMIT, "all metrics", || {
        let text = appliance.rest().exchange("GET", "/metrics", "")?.text;
        let missing: Vec<_> = wanted.iter().filter(|name| !text.contains(*name)).collect();
        ensure!(missing.is_empty(), "no {missing:?} in {text}");
        let error =
            text.lines().find(|line| line.starts_with("holdfast_pi_errors_total{") && line.ends_with(" 1"));
        Ok(error.is_some().then_some(text))
    })?;
    let error =
        text.lines().find(|line| line.starts_with("holdfast_pi_errors_total{") && line.ends_with(" 1"));
    let error = error.context("an error")?;
    for label in ["host=\"h\"", "volume=\"disk\"", "operation=\"write\"", "tag=\"guard\""] {
        ensure!(error.contains(label), "no {label} in {error}");
    }
    ensure!(text.ends_with("# EOF\n"), "OpenMetrics ends with # EOF");
    let mut families = BTreeSet::new();
    let mut samples = BTreeSet::new();
    for line in text.lines() {
        if let Some(words) = line.strip_prefix("# TYPE ") {
            ensure!(families.insert(words.split(' ').next().context("a name")?), "twice: {line}");
        } else if !line.starts_with('#') {
            let (series, value) = line.rsplit_once(' ').with_context(|| line.to_owned())?;
            value.parse::<f64>().with_context(|| line.to_owned())?;
            ensure!(samples.insert(series), "twice: {line}");
            let name = series.split('{').next().unwrap_or_default();
            let of_family = |family: &&&str| name.starts_with(**family);
            ensure!(families.iter().any(|family| of_family(&family)), "a sample of no family: {line}");
        }
    }
    appliance.stop()
}

#[test]
fn the_open_api_document_lists_every_route() -> Result<()> {
    let appliance = Appliance::start("api_openapi")?;
    let rest = appliance.rest();
    let document = rest.exchange("GET", "/openapi.json", "")?;
    ensure!(document.header("content-type").starts_with("application/json"), "{:?}", document.headers);
    let document = document.json()?;
    ensure!(document.get("openapi").and_then(Value::as_str).is_some_and(|text| text.starts_with("3.")));
    let routes = [
        ("/api/v1/pools", "get post"),
        ("/api/v1/pools/{name}", "get delete"),
        ("/api/v1/volumes", "get post"),
        ("/api/v1/volumes/{name}", "get patch delete"),
        ("/api/v1/subsystems", "get post"),
        ("/api/v1/subsystems/{name}", "get patch delete"),
        ("/api/v1/subsystems/{name}/namespaces", "get post"),
        ("/api/v1/subsystems/{name}/namespaces/{nsid}", "delete"),
        ("/api/v1/subsystems/{name}/hosts/{host}", "get put delete"),
        ("/api/v1/hosts", "get post"),
        ("/api/v1/hosts/{name}", "get patch delete"),
        ("/api/v1/hosts/{name}/counters", "get"),
        ("/api/v1/incidents", "get"),
        ("/api/v1/incidents/{id}", "get"),
        ("/api/v1/events", "get"),
        ("/metrics", "get"),
        ("/healthz", "get"),
        ("/readyz", "get"),
    ];
    let paths = document.get("paths").and_then(Value::as_object).context("paths")?;
    for (route, methods) in routes {
        let known = paths.get(route).and_then(Value::as_object).with_context(|| format!("no {route}"))?;
        for method in methods.split(' ') {
            let operation = known.get(method).with_context(|| format!("no {method} {route}"))?;
            let responses = operation.get("responses").and_then(Value::as_object);
            ensure!(responses.is_some_and(|responses| !responses.is_empty()), "{method} {route}");
        }
    }
    references_resolve(&document, &document)?;
    for path in ["/healthz", "/readyz"] {
        ensure!(rest.exchange("GET", path, "")?.status == 200, "{path}");
    }
    appliance.stop()
}

fn references_resolve(document: &Value, part: &Value) -> Result<()> {
    match part {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                let pointer = reference.strip_prefix('#').with_context(|| reference.to_owned())?;
                ensure!(document.pointer(pointer).is_some(), "{reference} leads nowhere");
            }
            members.values().try_for_each(|member| references_resolve(document, member))
        }
        Value::Array(items) => items.iter().try_for_each(|item| references_resolve(document, item)),
        _ => Ok(()),
    }
}

#[test]
fn the_page_is_served_with_a_policy_that_lets_nothing_foreign_in() -> Result<()> {
    let appliance = Appliance::start("api_page")?;
    let page = appliance.rest().exchange("GET", "/", "")?;
    ensure!(page.status == 200 && page.header("content-type").starts_with("text/html"), "{page:?}");
    let policy = page.header("content-security-policy");
    ensure!(policy.contains("default-src 'none'") || policy.contains("default-src 'self'"), "{policy}");
    ensure!(!policy.contains("unsafe") && !policy.contains("http") && !policy.contains('*'), "{policy}");
    ensure!(page.header("x-content-type-options") == "nosniff", "{page:?}");
    // Whatever it loads is here, and nothing is written into it that the policy would forbid.
    ensure!(!page.text.contains("://") && !page.text.contains(" style=") && !page.text.contains(" onclick="));
    let mut loaded = 0;
    for attribute in ["src=\"", "href=\""] {
        for piece in page.text.split(attribute).skip(1) {
            let path = piece.split('"').next().unwrap_or_default();
            if path.starts_with('/') {
                let file = appliance.rest().exchange("GET", path, "")?;
                ensure!(file.status == 200 && !file.text.is_empty(), "{path}: {}", file.status);
                loaded += 1;
            }
        }
    }
    ensure!(loaded > 0, "the page loads nothing");
    appliance.stop()
}

#[test]
fn the_command_line_tool_shows_what_the_api_answers() -> Result<()> {
    let appliance = Appliance::start("api_cli")?;
    let rest = appliance.rest();
    let run = |line: &str| -> Result<Value> {
        let arguments: Vec<&str> = line.split(' ').chain(["--output", "json"]).collect();
        let said = appliance.cli(&arguments)?;
        serde_json::from_str(&said).with_context(|| format!("holdfast {line}: {said}"))
    };
    let made = [
        ("pool create p --memory 64MiB", "/pools/p"),
        ("volume create v --size 16MiB --pool p --block-size 512 --pi-type 3", "/volumes/v"),
        ("subsystem create s", "/subsystems/s"),
        ("host create h --nqn nqn.2026-11.io.example:h --policy stable-pages", "/hosts/h"),
        ("grant set s h --view pi", "/subsystems/s/hosts/h"),
    ];
    for (line, path) in made {
        let said = run(line)?;
        let answered = rest.get(path)?;
        ensure!(said == answered, "holdfast {line}: {said}, not {answered}");
    }
    ensure!(run("namespace add s v --nsid 9")?.get("nsid") == Some(&json!(9)));
    for (line, path) in [
        ("pool show p", "/pools/p"),
        ("volume show v", "/volumes/v"),
        ("subsystem show s", "/subsystems/s"),
        ("host show h", "/hosts/h"),
        ("grant show s h", "/subsystems/s/hosts/h"),
        ("host counters h", "/hosts/h/counters"),
    ] {
        ensure!(run(line)? == rest.get(path)?, "holdfast {line}");
    }
    for (line, path) in [
        ("pool list", "/pools"),
        ("volume list", "/volumes"),
        ("host list", "/hosts"),
        ("incident list", "/incidents"),
        ("namespace list s", "/subsystems/s/namespaces"),
        ("grant list s", "/subsystems/s/hosts"),
    ] {
        let said = run(line)?;
        let said = said.get("items").and_then(Value::as_array).or(said.as_array()).cloned();
        ensure!(said == Some(rest.items(path)?), "holdfast {line}: {said:?}");
    }
    let refused =
        appliance.cli(&["volume", "create", "v", "--size", "16MiB"]).err().context("a duplicate")?;
    ensure!(refused.to_string().contains('v'), "{refused}");
    for line in
        ["namespace remove s 9", "grant remove s h", "volume delete v", "pool delete p", "host delete h"]
    {
        appliance.cli(&line.split(' ').collect::<Vec<_>>())?;
    }
    ensure!(rest.items("/volumes")?.is_empty() && rest.items("/hosts")?.is_empty());
    appliance.stop()
}

#[test]
fn of_many_askers_for_one_name_exactly_one_gets_it() -> Result<()> {
    let appliance = Appliance::start("api_race")?;
    let rest = appliance.rest();
    rest.post("/subsystems", &json!({"name": "s"}))?;
    for index in 0..8 {
        rest.post("/volumes", &json!({"name": format!("w{index}"), "pool": "ram", "size_bytes": 4096}))?;
    }
    let same = |_| json!({"name": "v", "pool": "ram", "size_bytes": 4096});
    let nearly_all = |index| json!({"name": format!("x{index}"), "pool": "ram", "size_bytes": 900 << 20});
    let mapped = |index| json!({"volume": format!("w{index}"), "nsid": 5});
    /// The path, the body of each asker, and what all askers but one are answered.
    type Race<'a> = (&'a str, &'a dyn Fn(usize) -> Value, u16);
    let races: [Race<'_>; 3] = [
        ("/api/v1/volumes", &same, 409),
        ("/api/v1/volumes", &nearly_all, 507),
        ("/api/v1/subsystems/s/namespaces", &mapped, 409),
    ];
    for (path, body, refusal) in races {
        let bodies: Vec<String> = (0..8).map(|index| body(index).to_string()).collect();
        let statuses = std::thread::scope(|scope| {
            let ask = |body: String| scope.spawn(move || Ok(rest.exchange("POST", path, &body)?.status));
            let askers: Vec<_> = bodies.into_iter().map(ask).collect();
            let answers =
                askers.into_iter().map(|asker| asker.join().map_err(|_| anyhow::anyhow!("panicked"))?);
            answers.collect::<Result<Vec<u16>>>()
        })?;
        let made = statuses.iter().filter(|status| **status == 201).count();
        let refused = statuses.iter().filter(|status| **status == refusal).count();
        ensure!((made, refused) == (1, 7), "{path}: {statuses:?}");
    }
    ensure!(rest.items("/volumes")?.len() == 8 + 2 && rest.items("/subsystems/s/namespaces")?.len() == 1);
    appliance.stop()
}
