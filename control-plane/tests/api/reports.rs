//! What agents report: the view that it decides, the history, and the alarms when it does not fit what is seen.

use axum::body::Body;
use axum::http::{Request, header};
use holdfast_contract::{CounterRow, HostId, IoTotals, PiTotals, ViewSetting, VolumeId};
use serde_json::{Value, json};

use crate::plane::Bench;
use crate::shows::event;

const REPORT: &str = "/api/v1/hosts/db1/report";

fn report(policy: &str, transports: &[&str]) -> Value {
    json!({ "kernel": "6.12.117", "policy": policy, "pi_transports": transports, "devices": [], "evidence": {} })
}

async fn bench_with_host() -> Bench {
    let bench = Bench::new().await;
    bench.plane.post("/api/v1/hosts", json!({ "name": "db1" })).await;
    bench
}

async fn put(bench: &Bench, body: Value) -> u16 {
    bench.plane.call("PUT", REPORT, Some(body)).await.status
}

async fn own_id(bench: &Bench) -> HostId {
    let host = bench.plane.get("/api/v1/hosts/db1").await;
    host["id"].as_str().unwrap().parse().unwrap()
}

async fn count(bench: &Bench, write: PiTotals) {
    let host = own_id(bench).await;
    let io = IoTotals { write_ops: 1, ..IoTotals::default() };
    let volume = VolumeId::new(1).unwrap();
    let row = CounterRow { host, volume, write, read: PiTotals::default(), io };
    bench.target.script().observed.counters = vec![row];
}

fn alarms(host: &Value) -> Vec<(&str, Option<&str>)> {
    let alarms = host["policy"]["alarms"].as_array().unwrap();
    alarms.iter().map(|alarm| (alarm["kind"].as_str().unwrap(), alarm["hole"].as_str())).collect()
}

#[tokio::test]
async fn a_report_is_new_then_replaced_and_shown() {
    let bench = bench_with_host().await;
    assert_eq!(bench.plane.call("GET", REPORT, None).await.status, 404);
    assert_eq!(put(&bench, report("stable-pages", &["nvme-tcp", "nvme-tcp"])).await, 201);
    assert_eq!(put(&bench, report("bounce", &["nvme-tcp", "nvme-tcp"])).await, 200);
    assert_eq!(put(&bench, report("bounce", &["nvme-tcp"])).await, 200);
    let shown = bench.plane.get(REPORT).await;
    assert_eq!((&shown["kernel"], &shown["pi_transports"]), (&json!("6.12.117"), &json!(["nvme-tcp"])));
    let host = bench.plane.get("/api/v1/hosts/db1").await;
    assert_eq!(host["policy"]["reported"], "bounce");
    let history = host["policy"]["history"].as_array().unwrap();
    let said: Vec<_> = history.iter().map(|one| (one["kind"].clone(), one["policy"].clone())).collect();
    let expected = [("declared", "unknown"), ("reported", "stable-pages"), ("reported", "bounce")];
    assert_eq!(said, expected.map(|(kind, policy)| (json!(kind), json!(policy))));
}

#[tokio::test]
async fn a_bad_report_is_refused_with_a_pointer_and_changes_nothing() {
    let bench = bench_with_host().await;
    for (body, status, pointer) in [
        (json!({ "pi_transports": [] }), 400, "/policy"),
        (json!({ "policy": "none", "x": 1 }), 400, "/x"),
        (json!({ "policy": "none", "devices": {} }), 400, "/devices"),
        (json!({ "policy": "none", "devices": [1] }), 400, "/devices/0"),
        (json!({ "policy": "none", "evidence": [] }), 400, "/evidence"),
        (json!({ "policy": "none", "pi_transports": [1] }), 400, "/pi_transports/0"),
        (json!({ "policy": "none", "pi_transports": ["fc"] }), 422, "/pi_transports/0"),
        (json!({ "policy": "hope" }), 422, "/policy"),
        (json!({ "policy": "none", "kernel": "6".repeat(257) }), 422, "/kernel"),
    ] {
        let answer = bench.plane.call("PUT", REPORT, Some(body.clone())).await;
        assert_eq!((answer.status, answer.pointers()), (status, vec![pointer]), "{body}");
        answer.assert_problem();
    }
    assert_eq!(bench.plane.call("GET", REPORT, None).await.status, 404);
    let nobody = bench.plane.call("PUT", "/api/v1/hosts/x/report", Some(report("none", &[]))).await;
    assert_eq!(nobody.status, 404);
}

#[tokio::test]
async fn an_open_view_follows_the_report_by_transport() {
    let bench = bench_with_host().await;
    bench.plane.post("/api/v1/subsystems", json!({ "name": "granted" })).await;
    bench.plane.post("/api/v1/subsystems", json!({ "name": "open", "allow_any_host": true })).await;
    let grant = "/api/v1/subsystems/granted/hosts/db1";
    assert_eq!(bench.plane.call("PUT", grant, Some(json!({}))).await.status, 201);
    let views = |subsystem: &str| {
        let state = bench.target.last();
        let found = state.subsystems.iter().find(|one| one.name == subsystem).unwrap();
        found.grants.iter().map(|grant| (grant.nvme_view, grant.iscsi_view)).collect::<Vec<_>>()
    };
    assert_eq!(views("granted"), [(ViewSetting::Plain, ViewSetting::Plain)]);
    assert_eq!(views("open"), []);
    put(&bench, report("stable-pages", &["nvme-tcp"])).await;
    assert_eq!(views("granted"), [(ViewSetting::Pi, ViewSetting::Plain)]);
    assert_eq!(views("open"), [(ViewSetting::Pi, ViewSetting::Plain)]);
    assert_eq!(bench.plane.call("PUT", grant, Some(json!({ "view": "plain" }))).await.status, 200);
    assert_eq!(views("granted"), [(ViewSetting::Plain, ViewSetting::Plain)]);
    put(&bench, report("none", &[])).await;
    assert_eq!(views("open"), []);
}

#[tokio::test]
async fn guard_errors_under_a_policy_that_prevents_them_name_its_hole() {
    let mut bench = bench_with_host().await;
    count(&bench, PiTotals { blocks_checked: 9, guard_errors: 1, ..PiTotals::default() }).await;
    let host = "/api/v1/hosts/db1";
    bench.plane.until(host, |host| host["policy"]["observed"] == "end-to-end").await;
    let mut body = report("stable-pages", &["nvme-tcp"]);
    body["devices"] = json!([{ "name": "nvme0n1", "holes": [{ "hole": "ext4-no-journal" }] }]);
    put(&bench, body).await;
    assert!(alarms(&bench.plane.get(host).await).is_empty(), "what was before the claim does not count");
    let request =
        Request::get("/api/v1/events").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    let mut stream = bench.plane.send(request).await.into_body().into_data_stream();
    count(&bench, PiTotals { blocks_checked: 9, guard_errors: 2, ..PiTotals::default() }).await;
    let shown = bench.plane.until(host, |host| !alarms(host).is_empty()).await;
    assert_eq!(alarms(&shown), [("guard-errors", Some("ext4-no-journal"))]);
    let alarm = event(&mut stream, |event| event.contains("event: alarm")).await;
    assert!(alarm.contains("\"subject\":\"db1\"") && alarm.contains("ext4-no-journal"), "{alarm}");
    let kinds: Vec<_> =
        shown["policy"]["history"].as_array().unwrap().iter().map(|one| &one["kind"]).collect();
    assert_eq!(kinds, ["declared", "observed", "reported"]);
    bench.restart_plane().await;
    assert_eq!(bench.plane.get(host).await["policy"]["alarms"], shown["policy"]["alarms"]);
    // Speaking anew settles it, until the next error.
    let patch = json!({ "policy": { "declared": "stable-pages" } });
    bench.plane.in_sync().await;
    assert_eq!(bench.plane.call("PATCH", host, Some(patch)).await.status, 200);
    bench.plane.until(host, |host| alarms(host).is_empty()).await;
}

#[tokio::test]
async fn claims_that_do_not_fit_are_alarms_until_they_fit() {
    let bench = bench_with_host().await;
    let host = "/api/v1/hosts/db1";
    let patch = json!({ "policy": { "declared": "bounce" } });
    assert_eq!(bench.plane.call("PATCH", host, Some(patch)).await.status, 200);
    put(&bench, report("stable-pages", &[])).await;
    assert_eq!(alarms(&bench.plane.get(host).await), [("claims-differ", None)]);
    count(&bench, PiTotals { blocks_inserted: 4, ..PiTotals::default() }).await;
    let shown = bench.plane.until(host, |host| alarms(host).len() == 2).await;
    assert_eq!(alarms(&shown), [("claims-differ", None), ("not-seen", None)]);
    let patch = json!({ "policy": { "declared": "none" } });
    assert_eq!(bench.plane.call("PATCH", host, Some(patch)).await.status, 200);
    put(&bench, report("none", &[])).await;
    assert!(alarms(&bench.plane.get(host).await).is_empty());
}

async fn put_with(bench: &Bench, authorization: Option<&str>) -> (u16, Option<String>) {
    let mut request = Request::put(REPORT)
        .header(header::HOST, "localhost")
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(shown) = authorization {
        request = request.header(header::AUTHORIZATION, shown);
    }
    let body = Body::from(report("none", &[]).to_string());
    let response = bench.plane.send(request.body(body).unwrap()).await;
    let asks =
        response.headers().get(header::WWW_AUTHENTICATE).map(|value| value.to_str().unwrap().to_owned());
    (response.status().as_u16(), asks)
}

#[tokio::test]
async fn a_host_with_a_token_takes_reports_with_that_token_alone() {
    const TOKEN: &str = "/api/v1/hosts/db1/token";
    let mut bench = bench_with_host().await;
    assert_eq!(bench.plane.call("GET", TOKEN, None).await.status, 404);
    assert_eq!(put_with(&bench, None).await.0, 201);
    let refused = (401, Some("Bearer".to_owned()));
    assert_eq!(put_with(&bench, Some("Bearer something")).await, refused, "a token that nobody made");
    let made = bench.plane.post(TOKEN, json!({})).await;
    let token = made["token"].as_str().unwrap();
    assert_eq!(bench.plane.get(TOKEN).await, json!({ "created": made["created"] }), "shown once");
    let (bearer, basic) = (format!("Bearer {token}"), format!("Basic {token}"));
    let (longer, shorter) = (format!("{bearer}x"), &bearer[..bearer.len() - 1]);
    for wrong in
        [None, Some("Bearer"), Some("Bearer "), Some(""), Some(&*basic), Some(&*longer), Some(shorter)]
    {
        assert_eq!(put_with(&bench, wrong).await, refused, "{wrong:?}");
    }
    bench.restart_plane().await;
    assert_eq!(put_with(&bench, Some(&bearer.replace("Bearer", "bearer"))).await, (200, None));
    // Another host's token is not this host's.
    bench.plane.post("/api/v1/hosts", json!({ "name": "db2" })).await;
    let other = bench.plane.post("/api/v1/hosts/db2/token", json!({})).await;
    let other = format!("Bearer {}", other["token"].as_str().unwrap());
    assert_eq!(put_with(&bench, Some(&other)).await, refused);
    // A new one takes the old one's place; none at all is needed once it is gone.
    let second = bench.plane.post(TOKEN, json!({})).await;
    assert_eq!(put_with(&bench, Some(&bearer)).await, refused);
    let second = format!("Bearer {}", second["token"].as_str().unwrap());
    assert_eq!(put_with(&bench, Some(&second)).await.0, 200);
    assert_eq!(bench.plane.call("DELETE", TOKEN, None).await.status, 204);
    assert_eq!(bench.plane.call("DELETE", TOKEN, None).await.status, 404);
    assert_eq!(put_with(&bench, None).await.0, 200);
}
