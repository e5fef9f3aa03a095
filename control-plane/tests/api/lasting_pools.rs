//! Pools in files and on devices: ordered, taken up, imported, exported, destroyed, filled.

use axum::body::Body;
use axum::http::{Request, header};
use holdfast_contract::{
    Backing, FaultCause, FoundPool, FoundVolume, GuardSetting, ObjectFault, ObjectKind, ObservedPool,
    PiSettings, PoolHealth, PoolId, Progress, VolumeId,
};
use serde_json::{Value, json};

use crate::plane::{Answer, Bench};
use crate::scripted_target::{OnApply, OnPrepare};
use crate::shows::event;

const MIB: u64 = 1 << 20;
const PATH: &str = "/srv/holdfast/pool";

fn file(name: &str) -> Value {
    json!({ "name": name, "backing": { "kind": "file", "path": PATH, "size_bytes": 64 * MIB } })
}

fn import(name: &str) -> Value {
    json!({ "name": name, "backing": { "kind": "file", "path": PATH, "import": true } })
}

async fn post(bench: &Bench, body: Value) -> Answer {
    bench.plane.call("POST", "/api/v1/pools", Some(body)).await
}

/// A pool that was made elsewhere, with one volume.
fn found() -> FoundPool {
    FoundPool {
        id: PoolId::new(77).unwrap(),
        name: "elsewhere".to_owned(),
        uuid: "11111111-2222-4333-8444-555555555555".to_owned(),
        size_bytes: 64 * MIB,
        capacity_bytes: 32 * MIB,
        allocated_bytes: 4096,
        volumes: vec![FoundVolume {
            id: VolumeId::new(78).unwrap(),
            name: "v".to_owned(),
            size_bytes: 8 * MIB,
            block_size: 4096,
            pi: Some(PiSettings { pi_type: 2, guard: GuardSetting::Crc64, storage_tag_bits: 16 }),
            uuid: "99999999-2222-4333-8444-555555555555".to_owned(),
            nguid: "0123456789abcdef0123456789abcdef".to_owned(),
            allocated_bytes: 4096,
        }],
    }
}

#[tokio::test]
async fn a_pool_in_a_file_is_made_before_it_is_named() {
    let bench = Bench::new().await;
    let made = bench.plane.post("/api/v1/pools", file("p")).await;
    let ordered = bench.target.script().ordered[0].clone();
    let backing = json!({ "kind": "file", "path": PATH, "size_bytes": 64 * MIB, "import": false });
    assert_eq!(made["backing"], backing);
    assert_eq!((&made["capacity_bytes"], &made["health"]), (&json!(32 * MIB), &json!("ok")));
    assert_eq!(made["uuid"], ordered.uuid);
    let state = bench.target.last();
    let pool = state.pools.iter().find(|pool| pool.name == "p").unwrap();
    assert_eq!((pool.id, pool.uuid.as_ref()), (ordered.ticket, Some(&ordered.uuid)));
    assert_eq!(pool.backing, ordered.backing);
    assert!(state.destroyed.is_empty() && bench.target.script().abandoned.is_empty());
    // Its promise is that of its capacity.
    let volume = |bytes: u64| Some(json!({ "name": "v", "pool": "p", "size_bytes": bytes }));
    let answer = bench.plane.call("POST", "/api/v1/volumes", volume(32 * MIB + 4096)).await;
    assert_eq!(answer.status, 507);
    assert_eq!(bench.plane.call("POST", "/api/v1/volumes", volume(32 * MIB)).await.status, 201);
}

#[tokio::test]
async fn what_cannot_be_a_place_is_refused_before_the_target_is_asked() {
    let bench = Bench::new().await;
    bench.target.script().on_prepare = OnPrepare::Refuse(ObjectFault::new(ObjectKind::Pool, "", "asked"));
    let file = |path: Value, size: Value| json!({ "kind": "file", "path": path, "size_bytes": size });
    let good = json!(64 * MIB);
    for (backing, status, pointer) in [
        (json!({ "kind": "file", "size_bytes": good }), 400, "/backing/path"),
        (json!({ "kind": "file", "path": PATH }), 400, "/backing/size_bytes"),
        (json!({ "kind": "file", "path": PATH, "import": "yes" }), 400, "/backing/import"),
        (file(json!(7), good.clone()), 400, "/backing/path"),
        (file(json!(""), good.clone()), 422, "/backing/path"),
        (file(json!("srv/pool"), good.clone()), 422, "/backing/path"),
        (file(json!("/srv/../pool"), good.clone()), 422, "/backing/path"),
        (file(json!("/srv/pool/"), good.clone()), 422, "/backing/path"),
        (file(json!("/srv/po\u{0}ol"), good.clone()), 422, "/backing/path"),
        (file(json!(PATH), json!("1")), 400, "/backing/size_bytes"),
        (file(json!(PATH), json!(8 * MIB - 4096)), 422, "/backing/size_bytes"),
        (file(json!(PATH), json!(8 * MIB + 512)), 422, "/backing/size_bytes"),
        (json!({ "kind": "file", "path": PATH, "size_bytes": good, "x": 1 }), 400, "/backing/x"),
        (json!({ "kind": "block" }), 400, "/backing/path"),
        (json!({ "kind": "block", "path": "sda" }), 422, "/backing/path"),
        (json!({ "kind": "block", "path": "/dev/sda", "size_bytes": good }), 400, "/backing/size_bytes"),
    ] {
        let answer = post(&bench, json!({ "name": "p", "backing": backing })).await;
        assert_eq!(answer.status, status, "{backing}: {}", answer.text);
        answer.assert_problem();
        assert_eq!(answer.pointers(), [pointer], "{backing}");
    }
    assert!(!bench.plane.get("/api/v1/pools").await.to_string().contains("\"p\""));
}

#[tokio::test]
async fn what_the_target_says_against_a_place_is_told_at_the_field_and_leaves_nothing() {
    let bench = Bench::new().await;
    for (cause, status) in
        [(FaultCause::Invalid, 422), (FaultCause::Conflict, 409), (FaultCause::NoRoom, 507)]
    {
        let fault =
            ObjectFault::new(ObjectKind::Pool, "p", "it is a folder").because(cause).at("/backing/path");
        bench.target.script().on_prepare = OnPrepare::Refuse(fault);
        let answer = post(&bench, file("p")).await;
        assert_eq!(answer.status, status, "{}", answer.text);
        answer.assert_problem();
        assert_eq!(answer.pointers(), ["/backing/path"]);
        assert!(answer.text.contains("it is a folder"), "{}", answer.text);
        assert_eq!(bench.plane.call("GET", "/api/v1/pools/p", None).await.status, 404);
    }
    assert_eq!(bench.target.script().abandoned.len(), 3);
    assert!(bench.target.last().destroyed.is_empty(), "the target has said that nothing is left");
    bench.target.script().on_prepare = OnPrepare::Make;
    assert_eq!(post(&bench, file("p")).await.status, 201);
    let again = post(&bench, file("q")).await;
    assert_eq!((again.status, again.pointers()), (409, vec!["/backing/path"]));
}

#[tokio::test]
async fn a_pool_that_the_change_did_not_take_up_is_given_up() {
    let bench = Bench::new().await;
    bench.target.script().on_apply = OnApply::Refuse(ObjectFault::new(ObjectKind::State, "state", "because"));
    assert_eq!(post(&bench, file("p")).await.status, 422);
    let ordered = bench.target.script().ordered[0].ticket;
    assert_eq!(bench.target.script().abandoned, [ordered]);
}

#[tokio::test]
async fn an_order_that_a_killed_plane_left_is_destroyed() {
    let mut bench = Bench::new().await;
    bench.target.script().on_prepare = OnPrepare::Hang;
    let request = Request::post("/api/v1/pools")
        .header(header::HOST, "127.0.0.1")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Body::from(file("p").to_string()))
        .unwrap();
    tokio::select! {
        answer = bench.plane.send(request) => panic!("{answer:?}"),
        () = bench.target.hung() => {}
    }
    bench.target.script().on_prepare = OnPrepare::Make;
    bench.restart_plane().await;
    bench.plane.in_sync().await;
    let destroyed = || {
        bench.target.script().applied.iter().any(|state| {
            state.destroyed.iter().any(|pool| pool.name == "p" && pool.backing.path() == Some(PATH))
        })
    };
    assert!(destroyed());
    bench.plane.until("/api/v1/pools", |_| bench.target.last().destroyed.is_empty()).await;
    assert_eq!(post(&bench, file("p")).await.status, 201);
}

#[tokio::test]
async fn an_imported_pool_keeps_all_identifiers() {
    let bench = Bench::new().await;
    bench.target.script().on_prepare = OnPrepare::Find(found());
    let pool = bench.plane.post("/api/v1/pools", import("here")).await;
    assert_eq!(pool["name"], "here");
    assert_eq!(pool["uuid"], found().uuid);
    assert_eq!(
        pool["backing"],
        json!({ "kind": "file", "path": PATH, "size_bytes": 64 * MIB, "import": true })
    );
    assert_eq!(pool["promised_bytes"], 8 * MIB);
    let volume = bench.plane.get("/api/v1/volumes/v").await;
    let kept = &found().volumes[0];
    assert_eq!((&volume["uuid"], &volume["nguid"]), (&json!(kept.uuid), &json!(kept.nguid)));
    assert_eq!(volume["pi"], json!({ "type": 2, "guard": "crc64", "storage_tag_bits": 16 }));
    assert_eq!(volume["pool"], "here");
    let state = bench.target.last();
    assert!(state.volumes[0].provisioned, "what was found is never made anew");
    assert_eq!((state.volumes[0].id, state.volumes[0].pool), (kept.id, found().id));
}

#[tokio::test]
async fn a_duplicate_of_an_import_is_named() {
    let bench = Bench::new().await;
    bench.target.script().on_prepare = OnPrepare::Find(found());
    bench.plane.post("/api/v1/pools", import("first")).await;
    let elsewhere = |name: &str| json!({ "name": name, "backing": { "kind": "file", "path": "/srv/copy", "import": true } });
    for (change, body, pointer, named) in [
        ((0, 0, "v", ""), elsewhere("first"), "/name", "first"),
        ((0, 0, "v", ""), elsewhere("second"), "/backing/path", "pool first is the same pool"),
        ((5, 0, "v", "5"), elsewhere("second"), "/backing/path", "a volume v"),
        (
            (5, 0, "w", "5"),
            elsewhere("second"),
            "/backing/path",
            "its volume w has an identifier of the volume v",
        ),
        (
            (5, 9, "w", "5"),
            elsewhere("second"),
            "/backing/path",
            "its volume w has an identifier of the volume v",
        ),
    ] {
        let mut copy = found();
        let (pool, volume, name, uuid) = change;
        copy.id = PoolId::new(77 + pool).unwrap();
        copy.uuid = format!("{uuid}{}", &copy.uuid[uuid.len()..]);
        copy.volumes[0].id = VolumeId::new(78 + volume).unwrap();
        copy.volumes[0].name = name.to_owned();
        bench.target.script().on_prepare = OnPrepare::Find(copy);
        let answer = post(&bench, body).await;
        assert_eq!(answer.status, 409, "{}", answer.text);
        assert_eq!(answer.pointers(), [pointer]);
        assert!(answer.text.contains(named), "{}", answer.text);
    }
    // The first was refused by its name before the target was asked.
    assert_eq!(bench.target.script().abandoned.len(), 4);
    assert_eq!(bench.plane.get("/api/v1/volumes").await["items"].as_array().unwrap().len(), 1);
    assert_eq!(bench.target.last().pools.len(), 2);
}

#[tokio::test]
async fn an_import_keeps_the_rule_for_promises_and_names() {
    let bench = Bench::new().await;
    let mut wide = found();
    wide.volumes[0].size_bytes = 48 * MIB;
    bench.target.script().on_prepare = OnPrepare::Find(wide);
    let answer = post(&bench, import("p")).await;
    assert_eq!((answer.status, answer.pointers()), (507, vec!["/overcommit"]));
    assert!(answer.text.contains("overcommit of 1.5 or more"), "{}", answer.text);
    let mut body = import("p");
    body["overcommit"] = json!(1.5);
    assert_eq!(post(&bench, body).await.status, 201);
    assert_eq!(bench.plane.call("POST", "/api/v1/pools/p/export", None).await.status, 200);
    let mut odd = found();
    odd.volumes[0].name = "V 1".to_owned();
    bench.target.script().on_prepare = OnPrepare::Find(odd);
    let answer = post(&bench, import("p")).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/backing/path"]));
}

#[tokio::test]
async fn an_exported_pool_is_forgotten_and_not_destroyed() {
    let bench = Bench::new().await;
    let plane = &bench.plane;
    let made = plane.post("/api/v1/pools", file("p")).await;
    plane.post("/api/v1/volumes", json!({ "name": "v", "pool": "p", "size_bytes": MIB })).await;
    plane.post("/api/v1/subsystems", json!({ "name": "s" })).await;
    plane.post("/api/v1/subsystems/s/namespaces", json!({ "volume": "v" })).await;
    let export = "/api/v1/pools/p/export";
    let mapped = plane.call("POST", export, None).await;
    assert_eq!(mapped.status, 409);
    assert!(mapped.text.contains("the volume v of the pool p is mapped in s"), "{}", mapped.text);
    assert_eq!(plane.call("POST", "/api/v1/pools/ram/export", None).await.status, 422);
    assert_eq!(plane.call("POST", "/api/v1/pools/nope/export", None).await.status, 404);
    assert_eq!(plane.call("POST", export, Some(json!({ "x": 1 }))).await.status, 400);
    assert_eq!(plane.call("DELETE", "/api/v1/subsystems/s/namespaces/1", None).await.status, 204);
    let exported = plane.call("POST", export, None).await;
    assert_eq!(exported.status, 200, "{}", exported.text);
    let told = json!({
        "name": "p", "uuid": made["uuid"], "backing": made["backing"], "volumes": ["v"], "closed": true
    });
    assert_eq!(exported.body, told);
    for gone in ["/api/v1/pools/p", "/api/v1/volumes/v"] {
        assert_eq!(plane.call("GET", gone, None).await.status, 404);
    }
    let applied = bench.target.script().applied.clone();
    assert!(applied.iter().all(|state| state.destroyed.is_empty()));
    assert!(applied.last().unwrap().volumes.is_empty());
}

#[tokio::test]
async fn a_deleted_pool_is_destroyed_until_the_target_has_let_go_of_it() {
    let bench = Bench::new().await;
    let plane = &bench.plane;
    plane.post("/api/v1/pools", file("p")).await;
    plane.post("/api/v1/volumes", json!({ "name": "v", "pool": "p", "size_bytes": MIB })).await;
    assert_eq!(plane.call("DELETE", "/api/v1/pools/p", None).await.status, 409);
    assert_eq!(plane.call("DELETE", "/api/v1/volumes/v", None).await.status, 204);
    assert_eq!(plane.call("DELETE", "/api/v1/pools/p", None).await.status, 204);
    let destroyed = |state: &holdfast_contract::DesiredState| state.destroyed.len();
    assert_eq!(bench.target.script().applied.iter().map(destroyed).max(), Some(1));
    plane.until("/api/v1/pools", |_| bench.target.last().destroyed.is_empty()).await;
    let Some(Backing::File { path, .. }) = bench
        .target
        .script()
        .applied
        .iter()
        .find_map(|state| state.destroyed.first().map(|pool| pool.backing.clone()))
    else {
        panic!("a file was to be destroyed")
    };
    assert_eq!(path, PATH);
}

#[tokio::test]
async fn each_threshold_is_told_once() {
    let mut bench = Bench::new().await;
    bench.plane.post("/api/v1/pools", file("p")).await;
    let request =
        Request::get("/api/v1/events").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    let mut stream = bench.plane.send(request).await.into_body().into_data_stream();
    let fill = |bench: &Bench, percent: u64| {
        let mut script = bench.target.script();
        let pool = script.observed.pools.iter_mut().find(|pool| pool.capacity_bytes == 32 * MIB).unwrap();
        pool.allocated_bytes = (pool.capacity_bytes * percent).div_ceil(100);
    };
    let at = |threshold: Value| move |pool: &Value| pool["threshold_percent"] == threshold;
    let path = "/api/v1/pools/p";
    // An alarm for each on the way up; the pool's own event both ways.
    for (percent, threshold, alarms) in
        [(81, 80, true), (79, 80, false), (90, 90, true), (77, 0, false), (96, 95, true)]
    {
        fill(&bench, percent);
        let shown = if threshold == 0 { Value::Null } else { json!(threshold) };
        bench.plane.until(path, |pool| pool["allocated_bytes"] == (32 * MIB * percent).div_ceil(100)).await;
        bench.plane.until(path, at(shown)).await;
        if percent == 79 {
            continue;
        }
        let told =
            event(&mut stream, |event| event.contains("event: pool") || event.contains("event: alarm")).await;
        assert!(told.contains("event: pool"), "{told}");
        let expected =
            format!("{{\"change\":\"fill\",\"name\":\"p\",\"percent\":{percent},\"threshold\":{threshold}}}");
        assert!(told.contains(&expected), "{told} is not {expected}");
        if alarms {
            let told =
                event(&mut stream, |event| event.contains("event: pool") || event.contains("event: alarm"))
                    .await;
            assert!(told.contains("event: alarm") && told.contains(&format!("{percent} %")), "{told}");
        }
    }
    // Nobody is told again by the next run of the plane.
    bench.restart_plane().await;
    bench.plane.in_sync().await;
    assert_eq!(bench.plane.get(path).await["threshold_percent"], 95);
}

#[tokio::test]
async fn a_pool_that_is_opened_or_failed_says_so_and_why() {
    let bench = Bench::new().await;
    bench.plane.post("/api/v1/pools", file("p")).await;
    let change = |health, reason: &str, progress| {
        let mut script = bench.target.script();
        let pool = script.observed.pools.iter_mut().find(|pool| pool.capacity_bytes != 64 * MIB).unwrap();
        let reason = Some(reason.to_owned());
        *pool = ObservedPool { health, reason, progress, ..ObservedPool::serving(pool.id, 0, 0) };
    };
    let path = "/api/v1/pools/p";
    change(PoolHealth::Degraded, "recovering", Some(Progress { done: 3, total: 9 }));
    let opening = bench.plane.until(path, |pool| pool["reason"] == "recovering").await;
    assert_eq!(
        (&opening["health"], &opening["progress"]),
        (&json!("degraded"), &json!({ "done": 3, "total": 9 }))
    );
    // What it was when it was seen last.
    assert_eq!((&opening["capacity_bytes"], &opening["allocated_bytes"]), (&json!(32 * MIB), &json!(8192)));
    change(PoolHealth::Failed, "no such file", None);
    bench.plane.until(path, |pool| pool["health"] == "failed" && pool["reason"] == "no such file").await;
}
