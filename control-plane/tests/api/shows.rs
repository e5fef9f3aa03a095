//! What the plane shows beside its objects: lists in pages, events, metrics, its document, its page.

use axum::body::Body;
use axum::http::{Request, header};
use futures_util::StreamExt;
use holdfast_contract::{CounterRow, DurationRow, IoTotals, JournalState, MapMemory, PiTotals};
use serde_json::{Value, json};

use crate::plane::{Bench, PATIENCE};

#[tokio::test]
async fn lists_come_in_pages_of_names() {
    let bench = Bench::new().await;
    let plane = &bench.plane;
    plane.post("/api/v1/subsystems", json!({ "name": "s" })).await;
    for number in 0..5 {
        let name = format!("v{number}");
        plane.post("/api/v1/volumes", json!({ "name": name, "pool": "ram", "size_bytes": 4096 })).await;
        plane.post("/api/v1/subsystems/s/namespaces", json!({ "volume": name, "nsid": 10 - number })).await;
        plane.post("/api/v1/hosts", json!({ "name": format!("h{number}") })).await;
        plane.call("PUT", &format!("/api/v1/subsystems/s/hosts/h{number}"), None).await;
    }
    for (path, key, expected) in [
        ("/api/v1/volumes", "name", json!(["v0", "v1", "v2", "v3", "v4"])),
        ("/api/v1/hosts", "name", json!(["h0", "h1", "h2", "h3", "h4"])),
        ("/api/v1/subsystems/s/hosts", "host", json!(["h0", "h1", "h2", "h3", "h4"])),
        ("/api/v1/subsystems/s/namespaces", "nsid", json!([6, 7, 8, 9, 10])),
    ] {
        let mut found = Vec::new();
        let mut after = String::new();
        loop {
            let page = plane.get(&format!("{path}?limit=2{after}")).await;
            let items = page["items"].as_array().unwrap();
            assert!(items.len() <= 2);
            found.extend(items.iter().map(|item| item[key].clone()));
            match page["next"].as_str() {
                Some(token) => after = format!("&after={token}"),
                None => break,
            }
        }
        assert_eq!(Value::Array(found), expected, "{path}");
    }
}

/// Reads events until one is as it should be.
pub(crate) async fn event(stream: &mut axum::body::BodyDataStream, good: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let look = async {
        while let Some(chunk) = stream.next().await {
            text.push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                let event = event.to_owned();
                text = rest.to_owned();
                if good(&event) {
                    return event;
                }
            }
        }
        panic!("the stream ended")
    };
    tokio::time::timeout(PATIENCE, look).await.expect("an event")
}

#[tokio::test]
async fn events_tell_what_happens_and_end_with_the_process() {
    let bench = Bench::new().await;
    let request =
        Request::get("/api/v1/events").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    let response = bench.plane.send(request).await;
    assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
    let mut stream = response.into_body().into_data_stream();
    let first = event(&mut stream, |_| true).await;
    assert!(first.contains("event: target") && first.contains("\"state\":\"up\""), "{first}");
    bench.plane.post("/api/v1/volumes", json!({ "name": "v", "pool": "ram", "size_bytes": 4096 })).await;
    let made = event(&mut stream, |event| event.contains("event: volume")).await;
    assert!(made.contains("data: {\"change\":\"created\",\"name\":\"v\"}"), "{made}");
    bench.target.script().observed.incidents_dropped = 1;
    event(&mut stream, |event| event.contains("event: alarm")).await;
    bench.plane.stop();
    let rest = async { while stream.next().await.is_some() {} };
    tokio::time::timeout(PATIENCE, rest).await.expect("the stream ends");
}

#[tokio::test]
async fn more_streams_than_the_limit_are_refused() {
    let bench = Bench::new().await;
    let open = || async {
        let request =
            Request::get("/api/v1/events").header(header::HOST, "localhost").body(Body::empty()).unwrap();
        bench.plane.send(request).await
    };
    let mut streams = Vec::new();
    for _ in 0..holdfast_control_plane::app::EVENT_STREAMS_MAX {
        let response = open().await;
        assert_eq!(response.status(), 200);
        streams.push(response);
    }
    assert_eq!(open().await.status(), 503);
    streams.pop();
    assert_eq!(open().await.status(), 200);
}

#[tokio::test]
async fn metrics_carry_names_of_hosts_and_volumes() {
    let bench = Bench::new().await;
    bench.plane.post("/api/v1/volumes", json!({ "name": "v", "pool": "ram", "size_bytes": 4096 })).await;
    bench.plane.post("/api/v1/hosts", json!({ "name": "h" })).await;
    let disk = json!({ "name": "disk", "backing": { "kind": "block", "path": "/dev/x" } });
    bench.plane.post("/api/v1/pools", disk).await;
    let state = bench.target.last();
    {
        let mut script = bench.target.script();
        let disk = script.observed.pools.iter_mut().find(|pool| pool.capacity_bytes == 1 << 30).unwrap();
        disk.map = Some(MapMemory { bytes: 4096, budget_bytes: 8192 });
        disk.journal = Some(JournalState { blocks: 64, used: 3 });
        script.observed.resident_bytes = 123;
        script.observed.incidents_dropped = 4;
        script.observed.counters.push(CounterRow {
            host: state.hosts[0].id,
            volume: state.volumes[0].id,
            write: PiTotals { blocks_checked: 7, guard_errors: 2, ..PiTotals::default() },
            read: PiTotals::default(),
            io: IoTotals { write_ops: 3, write_bytes: 4096, ..IoTotals::default() },
        });
        script.observed.durations.push(DurationRow {
            operation: "write".to_owned(),
            bounds_us: vec![100, 1000],
            counts: vec![1, 2, 3],
            sum_us: 1_500_000,
        });
    }
    let seen = |counters: &Value| counters["volumes"][0]["io"]["write_ops"] == 3;
    bench.plane.until("/api/v1/hosts/h/counters", seen).await;
    let text = bench.plane.call("GET", "/metrics", None).await.text;
    for line in [
        "# TYPE holdfast_pi_blocks_checked counter",
        "holdfast_pi_blocks_checked_total{host=\"h\",volume=\"v\",operation=\"write\"} 7",
        "holdfast_pi_errors_total{host=\"h\",volume=\"v\",operation=\"write\",tag=\"guard\"} 2",
        "holdfast_pi_errors_total{host=\"h\",volume=\"v\",operation=\"read\",tag=\"media\"} 0",
        "holdfast_io_operations_total{host=\"h\",volume=\"v\",operation=\"write\"} 3",
        "holdfast_io_bytes_total{host=\"h\",volume=\"v\",operation=\"write\"} 4096",
        "holdfast_io_duration_seconds_bucket{le=\"0.0001\",operation=\"write\"} 1",
        "holdfast_io_duration_seconds_bucket{le=\"0.001\",operation=\"write\"} 3",
        "holdfast_io_duration_seconds_bucket{le=\"+Inf\",operation=\"write\"} 6",
        "holdfast_io_duration_seconds_sum{operation=\"write\"} 1.5",
        "holdfast_io_duration_seconds_count{operation=\"write\"} 6",
        "holdfast_incidents_dropped_total 4",
        "holdfast_target_up 1",
        "holdfast_target_resident_bytes 123",
        "holdfast_sessions{transport=\"nvme-tcp\"} 0",
        "holdfast_pool_capacity_bytes{pool=\"ram\"} 67108864",
        "holdfast_pool_health{pool=\"ram\",health=\"ok\"} 1",
        "holdfast_pool_health{pool=\"ram\",health=\"failed\"} 0",
        "# HELP holdfast_pool_map_bytes Memory that the map of the pool's volumes takes",
        "holdfast_pool_map_bytes{pool=\"disk\"} 4096",
        "holdfast_pool_map_budget_bytes{pool=\"disk\"} 8192",
        "holdfast_pool_journal_blocks{pool=\"disk\"} 64",
        "holdfast_pool_journal_used_blocks{pool=\"disk\"} 3",
        "# EOF",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn the_document_names_every_route_and_every_reference_exists() {
    let bench = Bench::new().await;
    let document = bench.plane.get("/openapi.json").await;
    let paths = document["paths"].as_object().unwrap();
    let mut routes: Vec<String> = paths
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{method} {path}"))
        })
        .collect();
    routes.sort();
    assert_eq!(
        routes,
        [
            "delete /api/v1/hosts/{name}",
            "delete /api/v1/hosts/{name}/token",
            "delete /api/v1/pools/{name}",
            "delete /api/v1/subsystems/{name}",
            "delete /api/v1/subsystems/{name}/hosts/{host}",
            "delete /api/v1/subsystems/{name}/namespaces/{nsid}",
            "delete /api/v1/volumes/{name}",
            "get /api/v1/drills/{id}",
            "get /api/v1/events",
            "get /api/v1/hosts",
            "get /api/v1/hosts/{name}",
            "get /api/v1/hosts/{name}/counters",
            "get /api/v1/hosts/{name}/report",
            "get /api/v1/hosts/{name}/token",
            "get /api/v1/incidents",
            "get /api/v1/incidents/{id}",
            "get /api/v1/pools",
            "get /api/v1/pools/{name}",
            "get /api/v1/subsystems",
            "get /api/v1/subsystems/{name}",
            "get /api/v1/subsystems/{name}/hosts",
            "get /api/v1/subsystems/{name}/hosts/{host}",
            "get /api/v1/subsystems/{name}/namespaces",
            "get /api/v1/volumes",
            "get /api/v1/volumes/{name}",
            "get /healthz",
            "get /metrics",
            "get /readyz",
            "patch /api/v1/hosts/{name}",
            "patch /api/v1/subsystems/{name}",
            "patch /api/v1/volumes/{name}",
            "post /api/v1/drills",
            "post /api/v1/hosts",
            "post /api/v1/hosts/{name}/token",
            "post /api/v1/pools",
            "post /api/v1/pools/{name}/export",
            "post /api/v1/subsystems",
            "post /api/v1/subsystems/{name}/namespaces",
            "post /api/v1/volumes",
            "put /api/v1/hosts/{name}/report",
            "put /api/v1/subsystems/{name}/hosts/{host}",
        ]
    );
    let text = document.to_string();
    for part in text.split("\"#/components/schemas/").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(document["components"]["schemas"].get(name).is_some(), "{name} is not in the document");
    }
    let schemas = &document["components"]["schemas"];
    assert_eq!(schemas["NewVolume"]["additionalProperties"], false);
    for kind in 0..3 {
        assert_eq!(schemas["NewBacking"]["oneOf"][kind]["additionalProperties"], false);
        assert_eq!(schemas["PoolBacking"]["oneOf"][kind]["additionalProperties"], false);
    }
}

#[tokio::test]
async fn the_page_needs_nothing_from_elsewhere() {
    let bench = Bench::new().await;
    let page = bench.plane.call("GET", "/", None).await;
    assert_eq!(page.headers[header::CONTENT_TYPE], "text/html; charset=utf-8");
    let policy = page.headers[header::CONTENT_SECURITY_POLICY].to_str().unwrap();
    assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    let modules = ["/ui/page.js", "/ui/pools.js"];
    for file in ["/ui/app.js", "/ui/style.css", "/ui/icon.svg"].into_iter().chain(modules) {
        assert!(page.text.contains(file) || modules.contains(&file));
        let answer = bench.plane.call("GET", file, None).await;
        assert_eq!(answer.status, 200);
        assert!(!answer.text.contains("https://"), "{file}");
    }
    assert!(!page.text.contains("http") && !page.text.contains("<style") && !page.text.contains("onclick"));
}
