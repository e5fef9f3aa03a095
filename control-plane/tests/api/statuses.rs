//! Every status of every route, and the pointer to what is wrong.

use axum::body::Body;
use axum::http::{Request, header};
use serde_json::{Value, json};

use crate::plane::Bench;

/// What is there before each table: pool `ram` (64 MiB), volumes `v1` (mapped) and `v2`, subsystems `s1` and `s2`, hosts
/// `h1` (granted) and `h2`.
async fn furnished() -> Bench {
    let bench = Bench::new().await;
    let plane = &bench.plane;
    for name in ["v1", "v2"] {
        plane.post("/api/v1/volumes", json!({ "name": name, "pool": "ram", "size_bytes": 1_048_576 })).await;
    }
    for name in ["s1", "s2"] {
        plane.post("/api/v1/subsystems", json!({ "name": name })).await;
    }
    plane.post("/api/v1/subsystems/s1/namespaces", json!({ "volume": "v1" })).await;
    let h1 =
        json!({ "name": "h1", "nqn": "nqn.2026-11.io.holdfast:h1", "iqn": "iqn.2026-11.io.holdfast:h1" });
    plane.post("/api/v1/hosts", h1).await;
    plane.post("/api/v1/hosts", json!({ "name": "h2" })).await;
    assert_eq!(plane.call("PUT", "/api/v1/subsystems/s1/hosts/h1", Some(json!({}))).await.status, 201);
    bench
}

type Case = (&'static str, &'static str, Option<Value>, u16, &'static [&'static str]);

async fn check(bench: &Bench, cases: Vec<Case>) {
    for (method, path, body, status, pointers) in cases {
        let answer = bench.plane.call(method, path, body.clone()).await;
        let case = format!("{method} {path} {body:?}: {}", answer.text);
        assert_eq!(answer.status, status, "{case}");
        if status >= 400 {
            answer.assert_problem();
            assert_eq!(answer.pointers(), pointers, "{case}");
        }
    }
}

#[tokio::test]
async fn pools_answer_each_status() {
    let bench = furnished().await;
    let memory = |name: &str, size: Value| {
        Some(json!({ "name": name, "backing": { "kind": "memory", "size_bytes": size } }))
    };
    let path = "/api/v1/pools";
    check(
        &bench,
        vec![
            ("POST", path, memory("p1", json!(1 << 20)), 201, &[]),
            ("POST", path, memory("p2", json!(1_048_576.0)), 201, &[]),
            ("POST", path, memory("p1", json!(1 << 20)), 409, &["/name"]),
            ("POST", path, memory("P", json!(1 << 20)), 422, &["/name"]),
            ("POST", path, memory("p3", json!(0)), 422, &["/backing/size_bytes"]),
            ("POST", path, memory("p3", json!(-4096)), 422, &["/backing/size_bytes"]),
            ("POST", path, memory("p3", json!((1 << 20) + 512)), 422, &["/backing/size_bytes"]),
            ("POST", path, memory("p3", json!(1_u64 << 53)), 422, &["/backing/size_bytes"]),
            ("POST", path, memory("p3", json!("1")), 400, &["/backing/size_bytes"]),
            ("POST", path, memory("p3", json!(1.5)), 400, &["/backing/size_bytes"]),
            ("POST", path, Some(json!({ "name": "p3" })), 400, &["/backing"]),
            ("POST", path, Some(json!({ "name": "p3", "backing": 1 })), 400, &["/backing"]),
            ("POST", path, Some(json!({ "name": "p3", "backing": {} })), 400, &["/backing/kind"]),
            ("POST", path, Some(json!({ "name": "p3", "backing": { "kind": "tape" } })), 422, &["/backing/kind"]),
            ("POST", path, Some(json!({ "name": "p3", "backing": { "kind": "memory", "size_bytes": 1 << 20, "path": "/x" } })), 400, &["/backing/path"]),
            ("POST", path, Some(json!({ "name": "p3", "backing": { "kind": "memory", "size_bytes": 1 << 20 }, "overcommit": 0.5 })), 422, &["/overcommit"]),
            ("POST", path, Some(json!({ "name": "p3", "backing": { "kind": "memory", "size_bytes": 1 << 20 }, "overcommit": "2" })), 400, &["/overcommit"]),
            ("POST", path, Some(json!({ "x/y": 1 })), 400, &["/x~1y", "/name", "/backing"]),
            ("POST", path, Some(json!([])), 400, &[""]),
            ("GET", path, None, 200, &[]),
            ("GET", "/api/v1/pools?limit=0", None, 422, &["/limit"]),
            ("GET", "/api/v1/pools?limit=1001", None, 422, &["/limit"]),
            ("GET", "/api/v1/pools?limit=ten", None, 400, &["/limit"]),
            ("GET", "/api/v1/pools?limit=1&limit=2", None, 400, &["/limit"]),
            ("GET", "/api/v1/pools?after=%25", None, 422, &["/after"]),
            ("GET", "/api/v1/pools?colour=red", None, 400, &["/colour"]),
            ("GET", "/api/v1/pools/p1", None, 200, &[]),
            ("GET", "/api/v1/pools/p1?x=1", None, 400, &["/x"]),
            ("GET", "/api/v1/pools/nope", None, 404, &[]),
            ("GET", "/api/v1/pools/%ff", None, 404, &[]),
            ("PATCH", "/api/v1/pools/p1", Some(json!({})), 405, &[]),
            ("DELETE", "/api/v1/pools/nope", None, 404, &[]),
            ("DELETE", "/api/v1/pools/ram", None, 409, &[""]),
            ("DELETE", "/api/v1/pools/p1", None, 204, &[]),
            ("GET", "/api/v1/pools/p1", None, 404, &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn volumes_answer_each_status() {
    let bench = furnished().await;
    let path = "/api/v1/volumes";
    let with = |more: Value| {
        let mut body = json!({ "name": "w", "pool": "ram", "size_bytes": 8192 });
        for (key, value) in more.as_object().unwrap() {
            body[key] = value.clone();
        }
        Some(body)
    };
    check(
        &bench,
        vec![
            ("POST", path, with(json!({ "name": "v1" })), 409, &["/name"]),
            ("POST", path, with(json!({ "name": "a b" })), 422, &["/name"]),
            ("POST", path, with(json!({ "name": 1 })), 400, &["/name"]),
            ("POST", path, with(json!({ "pool": "nope" })), 422, &["/pool"]),
            ("POST", path, with(json!({ "pool": null })), 400, &["/pool"]),
            ("POST", path, with(json!({ "size_bytes": 0 })), 422, &["/size_bytes"]),
            ("POST", path, with(json!({ "size_bytes": 4097 })), 422, &["/size_bytes"]),
            ("POST", path, with(json!({ "size_bytes": 9_007_199_254_740_992_u64 })), 422, &["/size_bytes"]),
            ("POST", path, with(json!({ "size_bytes": 1_u64 << 40 })), 507, &["/size_bytes"]),
            ("POST", path, with(json!({ "block_size": 1024 })), 422, &["/block_size"]),
            ("POST", path, with(json!({ "block_size": "512" })), 400, &["/block_size"]),
            ("POST", path, with(json!({ "pi": null })), 400, &["/pi"]),
            ("POST", path, with(json!({ "pi": { "type": 4 } })), 422, &["/pi/type"]),
            ("POST", path, with(json!({ "pi": { "type": 256 } })), 422, &["/pi/type"]),
            ("POST", path, with(json!({ "pi": { "typ": 1 } })), 400, &["/pi/typ"]),
            ("POST", path, with(json!({ "pi": { "guard": "md5" } })), 422, &["/pi/guard"]),
            (
                "POST",
                path,
                with(json!({ "pi": { "guard": "crc64" }, "block_size": 512 })),
                422,
                &["/pi/guard"],
            ),
            ("POST", path, with(json!({ "pi": { "storage_tag_bits": 8 } })), 422, &["/pi/storage_tag_bits"]),
            (
                "POST",
                path,
                with(json!({ "pi": { "guard": "crc32c", "storage_tag_bits": 8 } })),
                422,
                &["/pi/storage_tag_bits"],
            ),
            ("POST", path, with(json!({ "colour": "red" })), 400, &["/colour"]),
            ("POST", path, Some(json!({ "name": "w" })), 400, &["/pool", "/size_bytes"]),
            ("POST", path, with(json!({ "pi": { "guard": "crc32c" } })), 201, &[]),
            ("GET", path, None, 200, &[]),
            ("GET", "/api/v1/volumes?name=w", None, 400, &["/name"]),
            ("GET", "/api/v1/volumes/w", None, 200, &[]),
            ("GET", "/api/v1/volumes/nope", None, 404, &[]),
            ("PATCH", "/api/v1/volumes/nope", Some(json!({ "size_bytes": 4096 })), 404, &[]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "size_bytes": 16384 })), 200, &[]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({})), 200, &[]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "size_bytes": 8192 })), 422, &["/size_bytes"]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "size_bytes": 16385 })), 422, &["/size_bytes"]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "size_bytes": null })), 422, &["/size_bytes"]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "size_bytes": "16384" })), 400, &["/size_bytes"]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "size_bytes": 1_u64 << 40 })), 507, &["/size_bytes"]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "name": "x" })), 422, &["/name"]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "name": "w", "pool": "ram" })), 200, &[]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "block_size": 512 })), 422, &["/block_size"]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "pi": { "type": 2 } })), 422, &["/pi/type"]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "uuid": "x" })), 422, &["/uuid"]),
            ("PATCH", "/api/v1/volumes/w", Some(json!({ "colour": "red" })), 400, &["/colour"]),
            ("PUT", "/api/v1/volumes/w", Some(json!({})), 405, &[]),
            ("DELETE", "/api/v1/volumes/v1", None, 409, &[""]),
            ("DELETE", "/api/v1/volumes/nope", None, 404, &[]),
            ("DELETE", "/api/v1/volumes/w", None, 204, &[]),
            ("DELETE", "/api/v1/volumes/w", None, 404, &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn subsystems_and_namespaces_answer_each_status() {
    let bench = furnished().await;
    let path = "/api/v1/subsystems";
    let spaces = "/api/v1/subsystems/s1/namespaces";
    check(
        &bench,
        vec![
            ("POST", path, Some(json!({ "name": "s1" })), 409, &["/name"]),
            ("POST", path, Some(json!({ "name": "s_3" })), 422, &["/name"]),
            ("POST", path, Some(json!({})), 400, &["/name"]),
            (
                "POST",
                path,
                Some(json!({ "name": "s3", "nqn": "nqn.2026-11.io.holdfast:s1" })),
                409,
                &["/nqn"],
            ),
            (
                "POST",
                path,
                Some(json!({ "name": "s3", "iqn": "iqn.2026-11.io.holdfast:s1" })),
                409,
                &["/iqn"],
            ),
            (
                "POST",
                path,
                Some(json!({ "name": "s3", "nqn": "nqn.2014-08.org.nvmexpress.discovery" })),
                422,
                &["/nqn"],
            ),
            ("POST", path, Some(json!({ "name": "s3", "iqn": "iqn.2026-11.IO:x" })), 422, &["/iqn"]),
            ("POST", path, Some(json!({ "name": "s3", "nqn": 1 })), 400, &["/nqn"]),
            ("POST", path, Some(json!({ "name": "s3", "allow_any_host": "yes" })), 400, &["/allow_any_host"]),
            ("POST", path, Some(json!({ "name": "s3", "hosts": [] })), 400, &["/hosts"]),
            ("POST", path, Some(json!({ "name": "s3" })), 201, &[]),
            ("GET", path, None, 200, &[]),
            ("GET", "/api/v1/subsystems/s3", None, 200, &[]),
            ("GET", "/api/v1/subsystems/nope", None, 404, &[]),
            ("PATCH", "/api/v1/subsystems/s3", Some(json!({ "allow_any_host": true })), 200, &[]),
            (
                "PATCH",
                "/api/v1/subsystems/s3",
                Some(json!({ "allow_any_host": 1 })),
                400,
                &["/allow_any_host"],
            ),
            (
                "PATCH",
                "/api/v1/subsystems/s3",
                Some(json!({ "nqn": "nqn.2026-11.io.holdfast:x" })),
                422,
                &["/nqn"],
            ),
            ("PATCH", "/api/v1/subsystems/s3", Some(json!({ "x": 1 })), 400, &["/x"]),
            ("PATCH", "/api/v1/subsystems/nope", Some(json!({})), 404, &[]),
            ("POST", spaces, Some(json!({ "volume": "v1" })), 409, &["/volume"]),
            ("POST", spaces, Some(json!({ "volume": "v2", "nsid": 1 })), 409, &["/nsid"]),
            ("POST", spaces, Some(json!({ "volume": "v2", "nsid": 0 })), 422, &["/nsid"]),
            ("POST", spaces, Some(json!({ "volume": "v2", "nsid": 1025 })), 422, &["/nsid"]),
            ("POST", spaces, Some(json!({ "volume": "nope" })), 422, &["/volume"]),
            ("POST", spaces, Some(json!({ "volume": 1 })), 400, &["/volume"]),
            ("POST", spaces, Some(json!({ "nsid": 2 })), 400, &["/volume"]),
            ("POST", spaces, Some(json!({ "volume": "v2", "lun": 0 })), 400, &["/lun"]),
            ("POST", "/api/v1/subsystems/nope/namespaces", Some(json!({ "volume": "v1" })), 404, &[]),
            ("POST", spaces, Some(json!({ "volume": "v2", "nsid": 1024 })), 201, &[]),
            ("POST", "/api/v1/subsystems/s2/namespaces", Some(json!({ "volume": "v1" })), 201, &[]),
            ("GET", spaces, None, 200, &[]),
            ("GET", "/api/v1/subsystems/nope/namespaces", None, 404, &[]),
            ("DELETE", "/api/v1/subsystems/s1", None, 409, &[""]),
            ("DELETE", "/api/v1/subsystems/s1/namespaces/7", None, 404, &[]),
            ("DELETE", "/api/v1/subsystems/s1/namespaces/x", None, 404, &[]),
            ("DELETE", "/api/v1/subsystems/s1/namespaces/01", None, 404, &[]),
            ("DELETE", "/api/v1/subsystems/s1/namespaces/1024", None, 204, &[]),
            ("DELETE", "/api/v1/subsystems/s1/namespaces/1", None, 204, &[]),
            ("DELETE", "/api/v1/subsystems/s1", None, 204, &[]),
            ("DELETE", "/api/v1/subsystems/s1", None, 404, &[]),
            ("DELETE", "/api/v1/hosts/h1", None, 204, &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn hosts_and_grants_answer_each_status() {
    let bench = furnished().await;
    let path = "/api/v1/hosts";
    let grant = "/api/v1/subsystems/s2/hosts/h1";
    check(
        &bench,
        vec![
            ("POST", path, Some(json!({ "name": "h1" })), 409, &["/name"]),
            (
                "POST",
                path,
                Some(json!({ "name": "h3", "nqn": "nqn.2026-11.io.holdfast:h1" })),
                409,
                &["/nqn"],
            ),
            (
                "POST",
                path,
                Some(json!({ "name": "h3", "iqn": "iqn.2026-11.io.holdfast:h1" })),
                409,
                &["/iqn"],
            ),
            ("POST", path, Some(json!({ "name": "h3", "nqn": "x" })), 422, &["/nqn"]),
            (
                "POST",
                path,
                Some(json!({ "name": "h3", "policy": { "declared": "maybe" } })),
                422,
                &["/policy/declared"],
            ),
            (
                "POST",
                path,
                Some(json!({ "name": "h3", "policy": { "reported": "bounce" } })),
                400,
                &["/policy/reported"],
            ),
            ("POST", path, Some(json!({ "name": "h3", "policy": "bounce" })), 400, &["/policy"]),
            ("POST", path, Some(json!({ "name": "h3", "auth": { "token": "x" } })), 400, &["/auth/token"]),
            ("POST", path, Some(json!({ "nqn": null })), 400, &["/name"]),
            (
                "POST",
                path,
                Some(json!({ "name": "h3", "nqn": null, "policy": { "declared": "bounce" } })),
                201,
                &[],
            ),
            ("GET", path, None, 200, &[]),
            ("GET", "/api/v1/hosts?nqn=nqn.2026-11.io.holdfast:h1", None, 200, &[]),
            ("GET", "/api/v1/hosts?name=h1", None, 400, &["/name"]),
            ("GET", "/api/v1/hosts/h3", None, 200, &[]),
            ("GET", "/api/v1/hosts/nope", None, 404, &[]),
            ("GET", "/api/v1/hosts/h3/counters", None, 200, &[]),
            ("GET", "/api/v1/hosts/nope/counters", None, 404, &[]),
            ("PUT", "/api/v1/hosts/h3/report", Some(json!({})), 400, &["/policy"]),
            ("PATCH", "/api/v1/hosts/h3", Some(json!({ "nqn": "nqn.2026-11.io.holdfast:h3" })), 200, &[]),
            (
                "PATCH",
                "/api/v1/hosts/h3",
                Some(json!({ "nqn": "nqn.2026-11.io.holdfast:h1" })),
                409,
                &["/nqn"],
            ),
            ("PATCH", "/api/v1/hosts/h3", Some(json!({ "nqn": null })), 200, &[]),
            ("PATCH", "/api/v1/hosts/h3", Some(json!({ "nqn": 5 })), 400, &["/nqn"]),
            ("PATCH", "/api/v1/hosts/h3", Some(json!({ "name": "h4" })), 422, &["/name"]),
            (
                "PATCH",
                "/api/v1/hosts/h3",
                Some(json!({ "policy": { "declared": "x" } })),
                422,
                &["/policy/declared"],
            ),
            (
                "PATCH",
                "/api/v1/hosts/h3",
                Some(json!({ "policy": { "observed": "mixed" } })),
                422,
                &["/policy/observed"],
            ),
            ("PATCH", "/api/v1/hosts/h3", Some(json!({ "policy": null, "colour": 1 })), 400, &["/colour"]),
            ("PATCH", "/api/v1/hosts/h3", Some(json!({ "auth": {} })), 200, &[]),
            ("PATCH", "/api/v1/hosts/h3", Some(json!({ "auth": 1 })), 400, &["/auth"]),
            ("PATCH", "/api/v1/hosts/nope", Some(json!({})), 404, &[]),
            ("PUT", grant, Some(json!({ "view": "pi", "enforce": "require-pi" })), 201, &[]),
            ("PUT", grant, None, 200, &[]),
            ("PUT", grant, Some(Value::Null), 200, &[]),
            ("PUT", grant, Some(json!({ "view": "plain", "enforce": "require-pi" })), 422, &["/enforce"]),
            ("PUT", grant, Some(json!({ "view": "PI" })), 422, &["/view"]),
            ("PUT", grant, Some(json!({ "view": 1 })), 400, &["/view"]),
            ("PUT", grant, Some(json!({ "mode": 1 })), 400, &["/mode"]),
            ("PUT", "/api/v1/subsystems/nope/hosts/h1", Some(json!({})), 404, &[]),
            ("PUT", "/api/v1/subsystems/s2/hosts/nope", Some(json!({})), 404, &[]),
            ("GET", grant, None, 200, &[]),
            ("GET", "/api/v1/subsystems/s2/hosts", None, 200, &[]),
            ("GET", "/api/v1/subsystems/nope/hosts", None, 404, &[]),
            ("GET", "/api/v1/subsystems/s2/hosts/h2", None, 404, &[]),
            ("DELETE", "/api/v1/hosts/h1", None, 409, &[""]),
            ("DELETE", grant, None, 204, &[]),
            ("DELETE", grant, None, 404, &[]),
            ("DELETE", "/api/v1/subsystems/s1/hosts/h1", None, 204, &[]),
            ("DELETE", "/api/v1/hosts/h1", None, 204, &[]),
            ("DELETE", "/api/v1/hosts/h1", None, 404, &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn incidents_events_and_the_rest_answer_each_status() {
    let bench = furnished().await;
    check(
        &bench,
        vec![
            ("GET", "/api/v1/incidents", None, 200, &[]),
            ("GET", "/api/v1/incidents?host=nope&volume=nope", None, 200, &[]),
            (
                "GET",
                "/api/v1/incidents?tag=guard&verdict=misdirected&since=2026-11-22T18:30:00Z",
                None,
                200,
                &[],
            ),
            ("GET", "/api/v1/incidents?tag=x", None, 422, &["/tag"]),
            ("GET", "/api/v1/incidents?verdict=x", None, 422, &["/verdict"]),
            ("GET", "/api/v1/incidents?since=yesterday", None, 422, &["/since"]),
            ("GET", "/api/v1/incidents?blame=me", None, 400, &["/blame"]),
            ("GET", "/api/v1/incidents/nope", None, 404, &[]),
            ("POST", "/api/v1/incidents", Some(json!({})), 405, &[]),
            ("GET", "/api/v1/events?x=1", None, 400, &["/x"]),
            ("POST", "/api/v1/drills", Some(json!({})), 404, &[]),
            ("GET", "/api/v1", None, 404, &[]),
            ("GET", "/nope", None, 404, &[]),
            ("POST", "/metrics", Some(json!({})), 405, &[]),
            ("GET", "/healthz", None, 200, &[]),
            ("GET", "/readyz", None, 200, &[]),
            ("GET", "/metrics", None, 200, &[]),
            ("GET", "/openapi.json", None, 200, &[]),
            ("GET", "/", None, 200, &[]),
            ("GET", "/ui/app.js", None, 200, &[]),
            ("DELETE", "/", None, 405, &[]),
        ],
    )
    .await;
}

fn raw(method: &str, path: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Body::from(body)).unwrap()
}

#[tokio::test]
async fn bodies_that_are_no_json_are_refused() {
    let bench = Bench::new().await;
    let host = ("host", "localhost:8080");
    let json_type = ("content-type", "application/json");
    for (headers, body, status) in [
        (vec![host, json_type], b"{".to_vec(), 400),
        (vec![host, json_type], Vec::new(), 400),
        (vec![host, json_type], b"{\"name\":\"\xff\"}".to_vec(), 400),
        (vec![host, json_type], b"{\"name\":\"a\",\"name\":\"b\"}".to_vec(), 400),
        (vec![host, json_type], vec![b'['; 100_000], 400),
        (vec![host, json_type], vec![b' '; (1 << 20) + 1], 413),
        (vec![host, ("content-type", "text/plain")], b"{}".to_vec(), 415),
    ] {
        let answer = bench.plane.ask(raw("POST", "/api/v1/hosts", &headers, body)).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        answer.assert_problem();
    }
    let typed = raw(
        "POST",
        "/api/v1/hosts",
        &[host, ("content-type", "application/json; charset=utf-8")],
        b"{\"name\":\"a\"}".to_vec(),
    );
    assert_eq!(bench.plane.ask(typed).await.status, 201);
}

#[tokio::test]
async fn strangers_are_refused() {
    let bench = Bench::new().await;
    for (method, headers, status) in [
        ("GET", vec![("host", "evil.example")], 403),
        ("GET", vec![], 403),
        ("GET", vec![("host", "127.0.0.1:1")], 200),
        ("POST", vec![("host", "127.0.0.1:1"), ("origin", "http://evil.example")], 403),
        ("POST", vec![("host", "127.0.0.1:1"), ("sec-fetch-site", "cross-site")], 403),
        (
            "POST",
            vec![
                ("host", "127.0.0.1:1"),
                ("origin", "http://127.0.0.1:1"),
                ("sec-fetch-site", "same-origin"),
            ],
            400,
        ),
    ] {
        let answer = bench.plane.ask(raw(method, "/api/v1/hosts", &headers, Vec::new())).await;
        assert_eq!(answer.status, status, "{method} {headers:?}");
    }
}

#[tokio::test]
async fn methods_that_do_not_exist_are_told_which_do() {
    let bench = Bench::new().await;
    let answer = bench.plane.call("PUT", "/api/v1/pools", Some(json!({}))).await;
    assert_eq!(answer.status, 405);
    let allow = answer.headers[header::ALLOW].to_str().unwrap();
    for method in ["GET", "POST"] {
        assert!(allow.contains(method), "{allow}");
    }
}
