//! The API's answers to bad input: the status and the JSON pointer that the contract names, in RFC 9457 "Problem Details for
//! HTTP APIs", and nothing half-done behind them.

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Answer, Appliance, Plane, eventually};
use holdfast_testkit::Options;
use serde_json::{Value, json};
use std::time::Duration;

const SEEN_LIMIT: Duration = Duration::from_secs(20);
const GIB: u64 = 1 << 30;
/// The first integer that JSON readers cannot tell from its neighbour.
const TOO_BIG: u64 = 1 << 53;

/// Demands this status, as a problem that points at the field. An empty list means that any pointer will do.
fn problem(what: &str, answer: &Answer, status: u16, pointers: &[&str]) -> Result<()> {
    let seen = || format!("{what}: {} {} {}", answer.status, answer.header("content-type"), answer.text);
    ensure!(answer.status == status, "{}, not {status}", seen());
    ensure!(answer.header("content-type") == "application/problem+json", "{}", seen());
    let body = answer.json()?;
    ensure!(body.get("status") == Some(&json!(status)), "{}", seen());
    for field in ["type", "title", "detail"] {
        ensure!(
            body.get(field).is_some_and(|text| text.as_str().is_some_and(|text| !text.is_empty())),
            "{}",
            seen()
        );
    }
    let errors = body.get("errors").and_then(Value::as_array).with_context(seen)?;
    let found = errors.iter().filter_map(|error| error.get("pointer").and_then(Value::as_str));
    let found: Vec<&str> = found.collect();
    ensure!(pointers.iter().all(|pointer| found.contains(pointer)), "{}, not at {pointers:?}", seen());
    let explained = |error: &Value| error.get("detail").is_some_and(|text| text.as_str() != Some(""));
    ensure!(errors.iter().all(explained), "{}", seen());
    Ok(())
}

fn post(appliance: &Appliance, path: &str, body: &Value) -> Result<Answer> {
    appliance.rest().exchange("POST", &format!("/api/v1{path}"), &body.to_string())
}

/// `base` with one member changed, or taken away by null.
fn with(base: &Value, name: &str, value: Value) -> Value {
    let mut changed = base.clone();
    if let Some(object) = changed.as_object_mut() {
        match value {
            Value::Null => object.remove(name),
            value => object.insert(name.to_owned(), value),
        };
    }
    changed
}

/// Bodies that break the grammar of names, and what all objects have in common.
const BAD_NAMES: [&str; 12] = ["", "A", "-a", ".a", "_a", "a b", "a/b", "a\u{e4}", "a\n", "..", "a:b", "%61"];

fn check_names(appliance: &Appliance, path: &str, good: &Value) -> Result<()> {
    for name in BAD_NAMES {
        let answer = post(appliance, path, &with(good, "name", json!(name)))?;
        problem(&format!("{path} named {name:?}"), &answer, 422, &["/name"])?;
    }
    let long = "a".repeat(64);
    problem("a name of 64", &post(appliance, path, &with(good, "name", json!(long)))?, 422, &["/name"])?;
    problem("no name", &post(appliance, path, &with(good, "name", Value::Null))?, 400, &["/name"])?;
    problem("a number for a name", &post(appliance, path, &with(good, "name", json!(7)))?, 400, &["/name"])?;
    problem(
        "an unknown field",
        &post(appliance, path, &with(good, "colour", json!("red")))?,
        400,
        &["/colour"],
    )?;
    for (text, what) in [
        ("", "nothing"),
        ("{", "half an object"),
        ("[]", "a list"),
        ("null", "null"),
        ("\"name\"", "a string"),
        ("{\"name\":\"a\",\"name\":\"b\"}", "a name twice"),
        ("{\"name\":\"a\u{0}\"}", "a raw control character"),
        ("name=a", "a form"),
    ] {
        let answer = appliance.rest().exchange("POST", &format!("/api/v1{path}"), text)?;
        problem(&format!("{path}: {what}"), &answer, 400, &[])?;
    }
    Ok(())
}

#[test]
fn bad_pools_are_refused_with_the_pointer_to_the_field() -> Result<()> {
    let appliance = Appliance::start("api_pools")?;
    let good = json!({"name": "p", "backing": {"kind": "memory", "size_bytes": 16 << 20}});
    check_names(&appliance, "/pools", &good)?;
    let backing = |value: Value| with(&good, "backing", value);
    let cases = [
        ("no backing", with(&good, "backing", Value::Null), 400, "/backing"),
        ("a word for a backing", backing(json!("memory")), 400, "/backing"),
        ("no kind", backing(json!({"size_bytes": GIB})), 400, "/backing/kind"),
        ("an unknown kind", backing(json!({"kind": "tape", "size_bytes": GIB})), 422, "/backing/kind"),
        (
            "a file without a place",
            backing(json!({"kind": "file", "path": "x", "size_bytes": GIB})),
            422,
            "/backing/path",
        ),
        ("no size", backing(json!({"kind": "memory"})), 400, "/backing/size_bytes"),
        (
            "text for a size",
            backing(json!({"kind": "memory", "size_bytes": "1GiB"})),
            400,
            "/backing/size_bytes",
        ),
        ("size 0", backing(json!({"kind": "memory", "size_bytes": 0})), 422, "/backing/size_bytes"),
        (
            "a negative size",
            backing(json!({"kind": "memory", "size_bytes": -4096})),
            422,
            "/backing/size_bytes",
        ),
        (
            "half a block",
            backing(json!({"kind": "memory", "size_bytes": (16 << 20) + 512})),
            422,
            "/backing/size_bytes",
        ),
        ("2^53", backing(json!({"kind": "memory", "size_bytes": TOO_BIG})), 422, "/backing/size_bytes"),
        (
            "an unknown field inside",
            backing(json!({"kind": "memory", "size_bytes": GIB, "x": 1})),
            400,
            "/backing/x",
        ),
        ("overcommit 0", with(&good, "overcommit", json!(0)), 422, "/overcommit"),
        ("text for overcommit", with(&good, "overcommit", json!("2")), 400, "/overcommit"),
    ];
    for (what, body, status, pointer) in cases {
        problem(what, &post(&appliance, "/pools", &body)?, status, &[pointer])?;
    }
    // More memory than can be: no pool, and none in the list.
    let vast = post(&appliance, "/pools", &backing(json!({"kind": "memory", "size_bytes": 1_u64 << 52})))?;
    let status = if vast.status == 507 { 507 } else { 422 };
    problem("4 PiB of memory", &vast, status, &["/backing/size_bytes"])?;
    ensure!(appliance.rest().items("/pools")?.len() == 1, "a refused pool is listed");
    problem("the pool", &appliance.rest().exchange("GET", "/api/v1/pools/p", "")?, 404, &[])?;
    // The same name is free for a right one, once.
    appliance.rest().post("/pools", &good)?;
    problem("a duplicate", &post(&appliance, "/pools", &good)?, 409, &["/name"])?;
    appliance.rest().post("/volumes", &json!({"name": "v", "pool": "p", "size_bytes": 8 << 20}))?;
    problem("a pool in use", &appliance.rest().exchange("DELETE", "/api/v1/pools/p", "")?, 409, &[])?;
    appliance.rest().delete("/volumes/v")?;
    appliance.rest().delete("/pools/p")?;
    appliance.stop()
}

#[test]
fn bad_volumes_are_refused_with_the_pointer_to_the_field() -> Result<()> {
    let appliance = Appliance::start("api_volumes")?;
    let good = json!({"name": "v", "pool": "ram", "size_bytes": 8 << 20});
    check_names(&appliance, "/volumes", &good)?;
    let size = |value: Value| with(&good, "size_bytes", value);
    let pi = |value: Value| with(&good, "pi", value);
    let cases = [
        ("no pool", with(&good, "pool", Value::Null), 400, "/pool"),
        ("an unknown pool", with(&good, "pool", json!("tank")), 422, "/pool"),
        ("a number for a pool", with(&good, "pool", json!(1)), 400, "/pool"),
        ("no size", size(Value::Null), 400, "/size_bytes"),
        ("text for a size", size(json!("8388608")), 400, "/size_bytes"),
        ("a size with a fraction", size(json!(8388608.5)), 400, "/size_bytes"),
        ("size 0", size(json!(0)), 422, "/size_bytes"),
        ("size -1", size(json!(-1)), 422, "/size_bytes"),
        ("an unaligned size", size(json!((8 << 20) + 512)), 422, "/size_bytes"),
        ("size 2^53", size(json!(TOO_BIG)), 422, "/size_bytes"),
        ("size 2^64 - 4096", size(json!(u64::MAX - 4095)), 422, "/size_bytes"),
        ("block size 1024", with(&good, "block_size", json!(1024)), 422, "/block_size"),
        ("block size 0", with(&good, "block_size", json!(0)), 422, "/block_size"),
        ("text for a block size", with(&good, "block_size", json!("512")), 400, "/block_size"),
        ("PI as a number", pi(json!(1)), 400, "/pi"),
        ("type 4", pi(json!({"type": 4})), 422, "/pi/type"),
        ("type -1", pi(json!({"type": -1})), 422, "/pi/type"),
        ("text for a type", pi(json!({"type": "1"})), 400, "/pi/type"),
        ("an unknown guard", pi(json!({"guard": "md5"})), 422, "/pi/guard"),
        ("an unknown field inside", pi(json!({"type": 1, "kind": 1})), 400, "/pi/kind"),
        (
            "storage tag with crc16",
            pi(json!({"guard": "crc16", "storage_tag_bits": 8})),
            422,
            "/pi/storage_tag_bits",
        ),
        (
            "crc32c with 8 bits",
            pi(json!({"guard": "crc32c", "storage_tag_bits": 8})),
            422,
            "/pi/storage_tag_bits",
        ),
        (
            "crc32c with 65 bits",
            pi(json!({"guard": "crc32c", "storage_tag_bits": 65})),
            422,
            "/pi/storage_tag_bits",
        ),
        (
            "crc64 with 49 bits",
            pi(json!({"guard": "crc64", "storage_tag_bits": 49})),
            422,
            "/pi/storage_tag_bits",
        ),
        ("a field that is answered only", with(&good, "uuid", json!("x")), 400, "/uuid"),
    ];
    for (what, body, status, pointer) in cases {
        problem(what, &post(&appliance, "/volumes", &body)?, status, &[pointer])?;
    }
    let narrow = with(&pi(json!({"guard": "crc64"})), "block_size", json!(512));
    problem("crc64 on 512", &post(&appliance, "/volumes", &narrow)?, 422, &[])?;
    problem(
        "2^70 bytes",
        &appliance.rest().exchange(
            "POST",
            "/api/v1/volumes",
            "{\"name\":\"v\",\"pool\":\"ram\",\"size_bytes\":1180591620717411303424}",
        )?,
        422,
        &["/size_bytes"],
    )?;
    problem("more than the pool", &post(&appliance, "/volumes", &size(json!(2 * GIB)))?, 507, &[])?;
    ensure!(appliance.rest().items("/volumes")?.is_empty(), "a refused volume is listed");
    appliance.stop()
}

#[test]
fn a_volume_only_grows_and_keeps_what_it_is() -> Result<()> {
    let appliance = Appliance::start("api_patch")?;
    let rest = appliance.rest();
    let made = rest.post("/volumes", &json!({"name": "v", "pool": "ram", "size_bytes": 8 << 20}))?;
    ensure!(made.pointer("/pi/type") == Some(&json!(1)), "{made}");
    let hex = |text: &str| text.chars().all(|digit| "0123456789abcdef-".contains(digit));
    let text = |field: &str| made.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    ensure!(
        text("uuid").len() == 36 && hex(&text("uuid")) && text("nguid").len() == 32 && hex(&text("nguid"))
    );
    let patch = |body: Value| rest.exchange("PATCH", "/api/v1/volumes/v", &body.to_string());
    let cases = [
        ("shrink", json!({"size_bytes": 4 << 20}), 422, "/size_bytes"),
        ("half a block more", json!({"size_bytes": (8 << 20) + 512}), 422, "/size_bytes"),
        ("text", json!({"size_bytes": "big"}), 400, "/size_bytes"),
        ("another name", json!({"name": "w"}), 422, "/name"),
        ("another pool", json!({"pool": "other"}), 422, "/pool"),
        ("another block size", json!({"block_size": 512}), 422, "/block_size"),
        ("another uuid", json!({"uuid": "00000000-0000-0000-0000-000000000000"}), 422, "/uuid"),
        ("an unknown field", json!({"colour": "red"}), 400, "/colour"),
    ];
    for (what, body, status, pointer) in cases {
        problem(what, &patch(body)?, status, &[pointer])?;
    }
    problem("other PI", &patch(json!({"pi": {"type": 2}}))?, 422, &[])?;
    problem("more than the pool", &patch(json!({"size_bytes": 2 * GIB}))?, 507, &[])?;
    // Both at once: nothing of it is done.
    problem("grow and rename", &patch(json!({"size_bytes": 16 << 20, "name": "w"}))?, 422, &["/name"])?;
    ensure!(rest.get("/volumes/v")? == made, "a refused change was made");
    let grown = patch(json!({"size_bytes": 16 << 20}))?;
    ensure!(grown.status == 200 && grown.json()?.get("size_bytes") == Some(&json!(16 << 20)), "{grown:?}");
    problem(
        "a duplicate",
        &post(&appliance, "/volumes", &json!({"name": "v", "pool": "ram", "size_bytes": 4096}))?,
        409,
        &["/name"],
    )?;
    appliance.stop()
}

#[test]
fn bad_subsystems_namespaces_hosts_and_grants_are_refused() -> Result<()> {
    let appliance = Appliance::start("api_exports")?;
    let rest = appliance.rest();
    check_names(&appliance, "/subsystems", &json!({"name": "s"}))?;
    check_names(&appliance, "/hosts", &json!({"name": "h"}))?;
    problem(
        "an IQN cannot hold _",
        &post(&appliance, "/subsystems", &json!({"name": "a_b"}))?,
        422,
        &["/name"],
    )?;
    rest.post("/subsystems", &json!({"name": "s"}))?;
    rest.post("/hosts", &json!({"name": "h", "nqn": "nqn.2026-11.io.example:h"}))?;
    rest.post("/volumes", &json!({"name": "v", "pool": "ram", "size_bytes": 8 << 20}))?;
    rest.post("/volumes", &json!({"name": "w", "pool": "ram", "size_bytes": 8 << 20}))?;
    let cases = [
        ("/subsystems", json!({"name": "s"}), 409, "/name"),
        ("/subsystems", json!({"name": "t", "nqn": "nqn.2026-11.io.holdfast:s"}), 409, "/nqn"),
        ("/subsystems", json!({"name": "t", "nqn": "x"}), 422, "/nqn"),
        (
            "/subsystems",
            json!({"name": "t", "nqn": format!("nqn.2026-11.io.x:{}", "y".repeat(223))}),
            422,
            "/nqn",
        ),
        ("/subsystems", json!({"name": "t", "nqn": "nqn.2014-08.org.nvmexpress.discovery"}), 422, "/nqn"),
        ("/subsystems", json!({"name": "t", "iqn": "x"}), 422, "/iqn"),
        ("/subsystems", json!({"name": "t", "allow_any_host": "yes"}), 400, "/allow_any_host"),
        ("/hosts", json!({"name": "h"}), 409, "/name"),
        ("/hosts", json!({"name": "i", "nqn": "nqn.2026-11.io.example:h"}), 409, "/nqn"),
        ("/hosts", json!({"name": "i", "nqn": "me"}), 422, "/nqn"),
        ("/hosts", json!({"name": "i", "iqn": "me"}), 422, "/iqn"),
        ("/hosts", json!({"name": "i", "nqn": 7}), 400, "/nqn"),
        ("/hosts", json!({"name": "i", "policy": {"declared": "perhaps"}}), 422, "/policy/declared"),
        ("/hosts", json!({"name": "i", "policy": {"reported": "none"}}), 400, "/policy/reported"),
        ("/subsystems/s/namespaces", json!({}), 400, "/volume"),
        ("/subsystems/s/namespaces", json!({"volume": "x"}), 422, "/volume"),
        ("/subsystems/s/namespaces", json!({"volume": "v", "nsid": 0}), 422, "/nsid"),
        ("/subsystems/s/namespaces", json!({"volume": "v", "nsid": 1025}), 422, "/nsid"),
        ("/subsystems/s/namespaces", json!({"volume": "v", "nsid": -1}), 422, "/nsid"),
        ("/subsystems/s/namespaces", json!({"volume": "v", "nsid": "1"}), 400, "/nsid"),
    ];
    for (path, body, status, pointer) in cases {
        problem(&format!("{path} {body}"), &post(&appliance, path, &body)?, status, &[pointer])?;
    }
    ensure!(rest.items("/subsystems")?.len() == 1 && rest.items("/hosts")?.len() == 1, "something is left");
    ensure!(
        rest.post("/subsystems/s/namespaces", &json!({"volume": "v", "nsid": 2}))?.get("nsid")
            == Some(&json!(2))
    );
    problem(
        "NSID in use",
        &post(&appliance, "/subsystems/s/namespaces", &json!({"volume": "w", "nsid": 2}))?,
        409,
        &["/nsid"],
    )?;
    ensure!(rest.post("/subsystems/s/namespaces", &json!({"volume": "w"}))?.get("nsid") == Some(&json!(1)));
    let put = |path: &str, body: Value| rest.exchange("PUT", &format!("/api/v1{path}"), &body.to_string());
    let grant = "/subsystems/s/hosts/h";
    problem("view", &put(grant, json!({"view": "side"}))?, 422, &["/view"])?;
    problem("view", &put(grant, json!({"view": 1}))?, 400, &["/view"])?;
    problem("enforce", &put(grant, json!({"enforce": "some"}))?, 422, &["/enforce"])?;
    problem("unknown", &put(grant, json!({"views": "pi"}))?, 400, &["/views"])?;
    problem("no host", &put("/subsystems/s/hosts/x", json!({}))?, 404, &[])?;
    problem("no subsystem", &put("/subsystems/x/hosts/h", json!({}))?, 404, &[])?;
    problem("no grant yet", &rest.exchange("GET", &format!("/api/v1{grant}"), "")?, 404, &[])?;
    ensure!(put(grant, json!({}))?.status == 201);
    ensure!(put(grant, json!({"view": "pi"}))?.status == 200);
    for (what, path) in [
        ("a mapped volume", "/volumes/v"),
        ("a subsystem with namespaces", "/subsystems/s"),
        ("a host with a grant", "/hosts/h"),
        ("a pool with volumes", "/pools/ram"),
    ] {
        problem(what, &rest.exchange("DELETE", &format!("/api/v1{path}"), "")?, 409, &[])?;
        rest.get(path)?;
    }
    appliance.stop()
}

#[test]
fn a_host_with_a_session_is_in_use() -> Result<()> {
    let appliance = Appliance::start("api_host_in_use")?;
    let share = appliance.share("disk", 8, 4096)?;
    appliance.rest().patch("/subsystems/disk", &json!({"allow_any_host": true}))?;
    let name = holdfast_e2e::host_nqn("h");
    appliance.rest().post("/hosts", &json!({"name": "h", "nqn": name}))?;
    let session =
        eventually(SEEN_LIMIT, "access", || Ok(Some(appliance.session("h", &share, Options::default())?)))?;
    let delete = || appliance.rest().exchange("DELETE", "/api/v1/hosts/h", "");
    problem("a host with a session", &delete()?, 409, &[])?;
    session.close()?;
    eventually(SEEN_LIMIT, "the end of the session", || Ok((delete()?.status == 204).then_some(())))?;
    appliance.stop()
}

#[test]
fn routes_methods_queries_and_bodies_that_do_not_exist_are_problems() -> Result<()> {
    let appliance = Appliance::start("api_routes")?;
    let before = appliance.process(Plane::Control)?;
    let rest = appliance.rest();
    for path in [
        "/pools/x",
        "/volumes/x",
        "/subsystems/x",
        "/hosts/x",
        "/hosts/x/counters",
        "/incidents/x",
        "/subsystems/x/namespaces",
        "/nothing",
        "/volumes/..%2f..",
        "/volumes/A",
    ] {
        problem(path, &rest.exchange("GET", &format!("/api/v1{path}"), "")?, 404, &[])?;
    }
    for path in ["/", "/nothing", "/api", "/api/v1", "/api/v2/volumes"] {
        if path != "/" {
            problem(path, &rest.exchange("GET", path, "")?, 404, &[])?;
        }
    }
    for (method, path, allowed) in [
        ("PUT", "/api/v1/volumes", "GET"),
        ("DELETE", "/api/v1/pools", "POST"),
        ("PATCH", "/api/v1/pools/ram", "DELETE"),
        ("POST", "/api/v1/hosts/h", "PATCH"),
        ("POST", "/api/v1/incidents", "GET"),
        ("POST", "/metrics", "GET"),
        ("DELETE", "/openapi.json", "GET"),
        ("POST", "/", "GET"),
    ] {
        let answer = rest.exchange(method, path, "{}")?;
        problem(&format!("{method} {path}"), &answer, 405, &[])?;
        ensure!(
            answer.header("allow").contains(allowed),
            "{method} {path}: allow {:?}",
            answer.header("allow")
        );
    }
    for (query, status, pointer) in [
        ("colour=red", 400, "/colour"),
        ("limit=x", 400, "/limit"),
        ("limit=0", 422, "/limit"),
        ("limit=-1", 422, "/limit"),
        ("limit=99999999999999999999999", 422, "/limit"),
        ("limit=1&limit=2", 400, "/limit"),
        ("after=%00%ff", 400, ""),
        ("after=nonsense!", 422, "/after"),
    ] {
        let answer = rest.exchange("GET", &format!("/api/v1/volumes?{query}"), "")?;
        let pointers: &[&str] = if pointer.is_empty() { &[] } else { &[pointer] };
        ensure!([400, 422].contains(&answer.status), "{query}: {answer:?}");
        problem(query, &answer, if query.starts_with("after") { answer.status } else { status }, pointers)?;
    }
    for path in ["/pools/ram", "/hosts", "/events", "/incidents"] {
        let answer = rest.exchange("GET", &format!("/api/v1{path}?colour=red"), "")?;
        problem(path, &answer, 400, &["/colour"])?;
    }
    let unknown_word = rest.exchange("GET", "/api/v1/incidents?tag=blue", "")?;
    problem("incidents of an unknown tag", &unknown_word, 422, &["/tag"])?;
    let long = format!("{{\"name\":\"{}\"}}", "a".repeat(1 << 20));
    problem("more than 1 MiB", &rest.exchange("POST", "/api/v1/hosts", &long)?, 413, &[])?;
    let deep = "[".repeat(200_000);
    problem("deep nesting", &rest.exchange("POST", "/api/v1/hosts", &deep)?, 400, &[])?;
    let form = rest.exchange_as("POST", "/api/v1/hosts", "text/plain", "{\"name\":\"a\"}")?;
    problem("not JSON by its own word", &form, 415, &[])?;
    ensure!(rest.items("/hosts")?.is_empty(), "something is left");
    ensure!(appliance.process(Plane::Control)?.pid == before.pid, "the control plane died");
    appliance.stop()
}
