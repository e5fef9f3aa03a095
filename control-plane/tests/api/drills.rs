//! Drills: only where they were allowed, only what can be, and as the target has them.

use holdfast_contract::DrillStage;
use serde_json::{Value, json};

use crate::plane::Bench;

const PATH: &str = "/api/v1/drills";

fn order(more: &Value) -> Option<Value> {
    let mut body = json!({ "volume": "v", "lba": 3, "stage": "target-memory", "bit": 7 });
    for (key, value) in more.as_object().unwrap() {
        body[key] = value.clone();
    }
    Some(body)
}

async fn furnished() -> Bench {
    let bench = Bench::with_drills().await;
    let plane = &bench.plane;
    plane
        .post("/api/v1/volumes", json!({ "name": "v", "pool": "ram", "size_bytes": 8192, "block_size": 512 }))
        .await;
    let disk = json!({ "name": "disk", "backing": { "kind": "block", "path": "/dev/x" } });
    plane.post("/api/v1/pools", disk).await;
    let wide = json!({ "name": "w", "pool": "disk", "size_bytes": 8192, "pi": { "guard": "crc64" } });
    plane.post("/api/v1/volumes", wide).await;
    plane
        .post(
            "/api/v1/volumes",
            json!({ "name": "bare", "pool": "ram", "size_bytes": 8192, "pi": { "type": 0 } }),
        )
        .await;
    bench
}

#[tokio::test]
async fn a_drill_is_armed_until_the_target_has_done_it() {
    let bench = furnished().await;
    let made = bench.plane.call("POST", PATH, order(&json!({}))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.body["id"].as_str().unwrap().to_owned();
    assert_eq!(made.body, json!({ "id": id, "state": "armed", "failure": null }));
    assert_eq!(made.headers["location"], format!("{PATH}/{id}"));
    let ordered = bench.target.script().drilled[0].clone();
    let volume = bench.target.last().volumes.iter().find(|volume| volume.name == "v").unwrap().id;
    assert_eq!((ordered.volume, ordered.lba, ordered.bit), (volume, 3, 7));
    assert_eq!(ordered.stage, DrillStage::TargetMemory);
    bench.target.script().observed.drills[0].done = true;
    bench.plane.until(&format!("{PATH}/{id}"), |drill| drill["state"] == "done").await;
    assert_eq!(bench.plane.call("GET", &format!("{PATH}/0000000000000000"), None).await.status, 404);
}

#[tokio::test]
async fn what_cannot_be_drilled_is_refused_at_its_field() {
    let bench = furnished().await;
    for (more, status, pointer) in [
        (json!({ "volume": "nope" }), 422, "/volume"),
        (json!({ "volume": 1 }), 400, "/volume"),
        (json!({ "lba": 16 }), 422, "/lba"),
        (json!({ "lba": -1 }), 422, "/lba"),
        (json!({ "bit": 8 * (512 + 8) }), 422, "/bit"),
        (json!({ "volume": "w", "lba": 0, "bit": 8 * (4096 + 16) }), 422, "/bit"),
        (json!({ "volume": "bare", "lba": 0, "bit": 8 * 4096 }), 422, "/bit"),
        (json!({ "stage": "host-memory" }), 422, "/stage"),
        (json!({ "stage": "media" }), 422, "/stage"),
        (json!({ "colour": "red" }), 400, "/colour"),
    ] {
        let answer = bench.plane.call("POST", PATH, order(&more)).await;
        assert_eq!(answer.status, status, "{more}: {}", answer.text);
        assert_eq!(answer.pointers(), [pointer], "{more}");
    }
    assert!(bench.target.script().drilled.is_empty());
    let media = json!({ "volume": "w", "lba": 1, "stage": "media", "bit": 8 * (4096 + 16) - 1 });
    assert_eq!(bench.plane.call("POST", PATH, order(&media)).await.status, 201);
}

#[tokio::test]
async fn drills_that_were_not_allowed_are_not_there() {
    let bench = Bench::new().await;
    for body in [order(&json!({})), Some(json!({}))] {
        let answer = bench.plane.call("POST", PATH, body).await;
        assert_eq!(answer.status, 404);
        assert!(answer.text.contains("--enable-drills"), "{}", answer.text);
    }
    assert_eq!(bench.plane.call("GET", &format!("{PATH}/0000000000000001"), None).await.status, 404);
}
