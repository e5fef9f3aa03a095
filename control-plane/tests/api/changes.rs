//! How a change reaches the target and the disk together, or neither.

use std::time::Duration;

use axum::http::{Request, header};
use holdfast_contract::{
    FaultCause, GuardSetting, ObjectFault, ObjectKind, PiSettings, PoolHealth, ViewSetting,
};
use serde_json::{Value, json};

use crate::plane::{Bench, PATIENCE, RAM_POOL_BYTES};
use crate::scripted_target::OnApply;

fn volume(name: &str) -> serde_json::Value {
    json!({ "name": name, "pool": "ram", "size_bytes": 1_048_576 })
}

fn fault(cause: FaultCause) -> ObjectFault {
    ObjectFault::new(ObjectKind::Volume, "v", "because").because(cause)
}

#[tokio::test]
async fn first_start_makes_the_memory_pool_once() {
    let mut bench = Bench::new().await;
    let pool = bench.plane.get("/api/v1/pools/ram").await;
    assert_eq!(
        pool,
        json!({
            "name": "ram", "backing": { "kind": "memory", "size_bytes": RAM_POOL_BYTES }, "overcommit": 1.0,
            "capacity_bytes": RAM_POOL_BYTES, "allocated_bytes": 8192, "promised_bytes": 0, "health": "ok",
            "uuid": null, "threshold_percent": null, "reason": null, "progress": null, "map": null, "journal": null
        })
    );
    assert_eq!(bench.plane.call("DELETE", "/api/v1/pools/ram", None).await.status, 204);
    bench.restart_plane().await;
    bench.plane.in_sync().await;
    assert_eq!(bench.plane.call("GET", "/api/v1/pools/ram", None).await.status, 404);
}

#[tokio::test]
async fn a_change_reaches_the_target_whole() {
    let bench = Bench::new().await;
    let plane = &bench.plane;
    let v = json!({ "name": "v", "pool": "ram", "size_bytes": 8192, "pi": { "guard": "crc32c", "type": 2 } });
    let made = plane.post("/api/v1/volumes", v).await;
    assert_eq!(made["pi"], json!({ "type": 2, "guard": "crc32c", "storage_tag_bits": 16 }));
    assert_eq!((&made["block_size"], &made["allocated_bytes"]), (&json!(4096), &json!(4096)));
    plane.post("/api/v1/subsystems", json!({ "name": "s" })).await;
    let mapped = plane.post("/api/v1/subsystems/s/namespaces", json!({ "volume": "v" })).await;
    assert_eq!(mapped, json!({ "nsid": 1, "volume": "v" }));
    let nqn = "nqn.2026-11.io.holdfast:h";
    plane.post("/api/v1/hosts", json!({ "name": "h", "nqn": nqn })).await;
    for (body, view) in [
        (json!({}), ViewSetting::Plain),
        (json!({ "view": "pi" }), ViewSetting::Pi),
        (json!({ "enforce": "require-pi" }), ViewSetting::Pi),
    ] {
        plane.call("PUT", "/api/v1/subsystems/s/hosts/h", Some(body)).await;
        assert_eq!(bench.target.last().subsystems[0].grants[0].nvme_view, view);
    }
    let state = bench.target.last();
    let pi = PiSettings { pi_type: 2, guard: GuardSetting::Crc32c, storage_tag_bits: 16 };
    assert_eq!(state.volumes[0].pi, Some(pi));
    assert_eq!(state.volumes[0].uuid, made["uuid"].as_str().unwrap());
    assert_eq!(state.subsystems[0].namespaces[0].volume, state.volumes[0].id);
    assert_eq!(state.hosts[0].nqn.as_deref(), Some(nqn));
    assert_eq!(state.subsystems[0].nqn, "nqn.2026-11.io.holdfast:s");
    assert!(state.volumes[0].provisioned, "the target's report was taken in and applied");
}

#[tokio::test]
async fn revisions_grow_with_every_apply() {
    let bench = Bench::new().await;
    for name in ["a", "b", "c"] {
        bench.plane.post("/api/v1/volumes", volume(name)).await;
    }
    let revisions: Vec<u64> = bench.target.script().applied.iter().map(|state| state.revision).collect();
    assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "{revisions:?}");
}

#[tokio::test]
async fn a_target_that_is_ahead_is_caught_up_with() {
    let bench = Bench::new().await;
    bench.target.script().observed.revision += 1000;
    bench.plane.post("/api/v1/volumes", volume("v")).await;
    assert!(bench.target.last().revision > 1000);
}

#[tokio::test]
async fn a_refused_change_leaves_nothing_behind() {
    let bench = Bench::new().await;
    for (cause, status) in
        [(FaultCause::NoRoom, 507), (FaultCause::Invalid, 422), (FaultCause::Conflict, 409)]
    {
        bench.target.script().on_apply = OnApply::Refuse(fault(cause));
        let answer = bench.plane.call("POST", "/api/v1/volumes", Some(volume("v"))).await;
        assert_eq!(answer.status, status);
        answer.assert_problem();
        assert!(answer.text.contains("because"), "{}", answer.text);
        assert_eq!(bench.plane.call("GET", "/api/v1/volumes/v", None).await.status, 404);
    }
    bench.target.script().on_apply = OnApply::Apply;
    bench.plane.post("/api/v1/volumes", volume("v")).await;
    assert_eq!(bench.target.last().volumes.len(), 1);
}

/// A pool that fails while a volume in it grows: the target has taken up the state by then.
#[tokio::test]
async fn a_change_that_is_refused_half_way_is_answered_at_once_and_taken_back() {
    let bench = Bench::new().await;
    bench.plane.post("/api/v1/volumes", volume("v")).await;
    bench.plane.in_sync().await;
    let before = bench.target.script().applied.len();
    let size_bytes = bench.target.last().volumes[0].size_bytes;
    bench.target.script().on_apply = OnApply::RefuseHalfWay(fault(FaultCause::Invalid));
    let larger = json!({"size_bytes": 2 * size_bytes});
    let answer = bench.plane.call("PATCH", "/api/v1/volumes/v", Some(larger)).await;
    assert_eq!(answer.status, 422, "{answer:?}");
    let again = |_: &Value| bench.target.script().applied.len() == before + 2;
    let kept = bench.plane.until("/api/v1/volumes/v", again).await;
    assert_eq!(kept["size_bytes"], size_bytes);
    let sizes: Vec<u64> =
        bench.target.script().applied[before..].iter().map(|state| state.volumes[0].size_bytes).collect();
    assert_eq!(sizes, [2 * size_bytes, size_bytes]);
}

#[tokio::test]
async fn a_plane_killed_between_apply_and_commit_returns_the_target_to_what_is_kept() {
    let mut bench = Bench::new().await;
    bench.target.script().on_apply = OnApply::ApplyAndHang;
    let request = Request::post("/api/v1/volumes")
        .header(header::HOST, "127.0.0.1")
        .header(header::CONTENT_TYPE, "application/json")
        .body(volume("v").to_string().into())
        .unwrap();
    tokio::select! {
        answer = bench.plane.send(request) => panic!("{answer:?}"),
        () = bench.target.hung() => {}
    }
    let abandoned = bench.target.last();
    assert_eq!(abandoned.volumes.len(), 1);
    bench.target.script().on_apply = OnApply::Apply;
    bench.restart_plane().await;
    bench.plane.in_sync().await;
    let state = bench.target.last();
    assert!(state.volumes.is_empty());
    assert!(state.revision > abandoned.revision);
    assert_eq!(bench.plane.call("GET", "/api/v1/volumes/v", None).await.status, 404);
    bench.plane.post("/api/v1/volumes", volume("v")).await;
}

#[tokio::test]
async fn a_deletion_that_is_cut_off_is_finished() {
    let mut bench = Bench::new().await;
    bench.plane.post("/api/v1/volumes", volume("v")).await;
    bench.plane.post("/api/v1/volumes", volume("w")).await;
    bench.target.script().on_apply = OnApply::ApplyAndHang;
    let request = Request::delete("/api/v1/volumes/v").header(header::HOST, "127.0.0.1");
    tokio::select! {
        answer = bench.plane.send(request.body(String::new().into()).unwrap()) => panic!("{answer:?}"),
        () = bench.target.hung() => {}
    }
    bench.target.script().on_apply = OnApply::Apply;
    bench.restart_plane().await;
    bench.plane.in_sync().await;
    assert_eq!(bench.plane.call("GET", "/api/v1/volumes/v", None).await.status, 404);
    assert_eq!(bench.target.last().volumes.len(), 1);
    bench.plane.get("/api/v1/volumes/w").await;
}

#[tokio::test]
async fn a_deletion_that_is_refused_is_not_made_up_for_later() {
    let mut bench = Bench::new().await;
    bench.plane.post("/api/v1/volumes", volume("v")).await;
    bench.target.script().on_apply = OnApply::Refuse(fault(FaultCause::Invalid));
    assert_eq!(bench.plane.call("DELETE", "/api/v1/volumes/v", None).await.status, 422);
    bench.target.script().on_apply = OnApply::Apply;
    bench.restart_plane().await;
    bench.plane.in_sync().await;
    bench.plane.get("/api/v1/volumes/v").await;
}

#[tokio::test]
async fn a_change_waits_for_a_target_that_comes_back() {
    let mut bench = Bench::new().await;
    bench.stop_target();
    let mut sync = bench.plane.app.sync();
    let away = sync.wait_for(|sync| *sync != holdfast_control_plane::app::Sync::InSync);
    tokio::time::timeout(PATIENCE, away).await.unwrap().unwrap();
    let answer = {
        let posted = bench.plane.call("POST", "/api/v1/volumes", Some(volume("v")));
        tokio::pin!(posted);
        // It has to be under way before the target returns.
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut posted).await.is_err());
        let running = bench.target.start(&bench.folder.path().join("target.sock"));
        let answer = posted.await;
        bench.running = Some(running);
        answer
    };
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(bench.target.last().volumes.len(), 1);
}

#[tokio::test]
async fn a_change_without_a_target_is_refused_after_ten_seconds_and_leaves_nothing_behind() {
    let mut bench = Bench::new().await;
    bench.stop_target();
    let answer = bench.plane.call("POST", "/api/v1/volumes", Some(volume("v"))).await;
    assert_eq!(answer.status, 503);
    answer.assert_problem();
    let ready = bench.plane.call("GET", "/readyz", None).await;
    assert_eq!(ready.status, 503);
    ready.assert_problem();
    assert_eq!(bench.plane.call("GET", "/healthz", None).await.status, 200);
    assert_eq!(bench.plane.get("/api/v1/pools/ram").await["health"], "degraded");
    bench.start_target();
    bench.plane.in_sync().await;
    assert!(bench.target.last().volumes.is_empty());
    assert_eq!(bench.plane.call("GET", "/api/v1/volumes/v", None).await.status, 404);
}

#[tokio::test]
async fn what_does_not_concern_the_target_needs_no_target() {
    let mut bench = Bench::new().await;
    bench.plane.post("/api/v1/hosts", json!({ "name": "h" })).await;
    bench.stop_target();
    let patch = json!({ "policy": { "declared": "bounce" } });
    let answer = bench.plane.call("PATCH", "/api/v1/hosts/h", Some(patch)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["policy"]["declared"], "bounce");
}

#[tokio::test]
async fn a_plane_serves_while_the_target_never_was() {
    let folder = tempfile::tempdir().unwrap();
    let plane = crate::plane::Plane::start(folder.path()).await;
    assert_eq!(plane.get("/api/v1/pools").await["items"][0]["name"], "ram");
    assert_eq!(plane.call("GET", "/readyz", None).await.status, 503);
    assert_eq!(plane.call("POST", "/api/v1/volumes", Some(json!({}))).await.status, 400);
}

#[tokio::test]
async fn a_restarted_target_is_brought_up_to_date() {
    let mut bench = Bench::new().await;
    bench.plane.post("/api/v1/volumes", volume("v")).await;
    bench.stop_target();
    {
        // It comes back as new, knowing nothing.
        let mut script = bench.target.script();
        script.observed =
            holdfast_contract::ObservedState { boot_id: "boot-2".to_owned(), ..Default::default() };
        script.applied.clear();
    }
    bench.start_target();
    bench.plane.until("/api/v1/volumes/v", |_| bench.target.last().volumes.len() == 1).await;
    bench.plane.in_sync().await;
}

#[tokio::test]
async fn a_volume_whose_contents_were_lost_takes_over_the_targets_identifiers() {
    let bench = Bench::new().await;
    let before = bench.plane.post("/api/v1/volumes", volume("v")).await;
    let nguid = "0123456789abcdef0123456789abcdef";
    {
        let mut script = bench.target.script();
        script.observed.volumes[0].uuid = "11111111-2222-4333-8444-555555555555".to_owned();
        script.observed.volumes[0].nguid = nguid.to_owned();
    }
    let after = bench.plane.until("/api/v1/volumes/v", |volume| volume["nguid"] == nguid).await;
    assert_ne!(before["uuid"], after["uuid"]);
    bench.plane.until("/api/v1/volumes/v", |_| bench.target.last().volumes[0].nguid == nguid).await;
}

#[tokio::test]
async fn a_pools_promise_holds() {
    let bench = Bench::new().await;
    let plane = &bench.plane;
    let body =
        json!({ "name": "p", "backing": { "kind": "memory", "size_bytes": 1 << 20 }, "overcommit": 1.5 });
    plane.post("/api/v1/pools", body).await;
    let sized = |name: &str, bytes: u64| json!({ "name": name, "pool": "p", "size_bytes": bytes });
    plane.post("/api/v1/volumes", sized("a", 1 << 20)).await;
    plane.post("/api/v1/volumes", sized("b", 1 << 18)).await;
    let too_much = plane.call("POST", "/api/v1/volumes", Some(sized("c", (1 << 18) + 4096))).await;
    assert_eq!(too_much.status, 507);
    let grow = |bytes: u64| Some(json!({ "size_bytes": bytes }));
    assert_eq!(plane.call("PATCH", "/api/v1/volumes/b", grow((1 << 19) + 4096)).await.status, 507);
    assert_eq!(plane.call("PATCH", "/api/v1/volumes/b", grow(1 << 19)).await.status, 200);
    assert_eq!(plane.get("/api/v1/pools/p").await["promised_bytes"], 3 << 19);
    assert_eq!(bench.target.last().volumes.iter().map(|v| v.size_bytes).max(), Some(1 << 20));
}

#[tokio::test]
async fn what_the_target_refuses_is_told_and_healed_by_a_change() {
    let mut bench = Bench::new().await;
    bench.plane.post("/api/v1/volumes", volume("v")).await;
    bench.stop_target();
    bench.target.script().on_apply = OnApply::Refuse(fault(FaultCause::Invalid));
    bench.start_target();
    let mut sync = bench.plane.app.sync();
    let refused = sync.wait_for(|sync| {
        matches!(sync, holdfast_control_plane::app::Sync::Waiting { reason } if reason.contains("because"))
    });
    tokio::time::timeout(PATIENCE, refused).await.unwrap().unwrap();
    let ready = bench.plane.call("GET", "/readyz", None).await;
    assert!(ready.status == 503 && ready.text.contains("because"), "{}", ready.text);
    bench.target.script().on_apply = OnApply::Apply;
    assert_eq!(bench.plane.call("DELETE", "/api/v1/volumes/v", None).await.status, 204);
    bench.plane.in_sync().await;
}

#[tokio::test]
async fn a_target_that_hangs_up_on_every_change_changes_nothing() {
    let bench = Bench::new().await;
    bench.target.script().on_apply = OnApply::HangUp;
    let answer = bench.plane.call("POST", "/api/v1/volumes", Some(volume("v"))).await;
    assert_eq!(answer.status, 503, "{}", answer.text);
    bench.target.script().on_apply = OnApply::Apply;
    bench.plane.in_sync().await;
    assert!(bench.target.last().volumes.is_empty());
}

#[tokio::test]
async fn a_pool_that_fails_is_shown_so() {
    let bench = Bench::new().await;
    bench.target.script().observed.pools[0].health = PoolHealth::Failed;
    bench.plane.until("/api/v1/pools/ram", |pool| pool["health"] == "failed").await;
}
