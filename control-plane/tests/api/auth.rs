//! What hosts prove themselves with: checked, kept, told to the target, and in no answer.

use serde_json::{Value, json};

use crate::plane::Bench;

const SECRET: &str = "twelve-and-more";
const MUTUAL: &str = "another-secret!";

async fn host(bench: &Bench, chap: Value) -> Value {
    bench.plane.post("/api/v1/hosts", json!({ "name": "h", "auth": { "chap": chap } })).await
}

fn shown(answer: &Value) -> String {
    let text = answer.to_string();
    assert!(!text.contains(SECRET) && !text.contains(MUTUAL), "{text}");
    answer["auth"].to_string()
}

#[tokio::test]
async fn secrets_reach_the_target_and_no_answer() {
    let bench = Bench::new().await;
    let chap = json!({ "user": "u", "secret": SECRET, "mutual_user": "t", "mutual_secret": MUTUAL });
    let created = host(&bench, chap).await;
    assert_eq!(shown(&created), r#"{"chap":{"mutual_user":"t","user":"u"}}"#);
    shown(&bench.plane.get("/api/v1/hosts/h").await);
    shown(&bench.plane.get("/api/v1/hosts").await["items"][0]);
    let told = bench.target.last().hosts[0].chap.clone().unwrap();
    let mutual = told.mutual.unwrap();
    assert_eq!((told.user.as_str(), told.secret.reveal()), ("u", SECRET));
    assert_eq!((mutual.user.as_str(), mutual.secret.reveal()), ("t", MUTUAL));
}

#[tokio::test]
async fn a_patch_changes_what_it_names() {
    let mut bench = Bench::new().await;
    host(&bench, json!({ "user": "u", "secret": SECRET, "mutual_user": "t", "mutual_secret": MUTUAL })).await;
    let patch = |body: Value| ("PATCH", "/api/v1/hosts/h", Some(body));
    let (method, path, body) = patch(json!({ "auth": { "chap": { "user": "v" } } }));
    assert_eq!(bench.plane.call(method, path, body).await.status, 200);
    let told = bench.target.last().hosts[0].chap.clone().unwrap();
    assert_eq!((told.user.as_str(), told.secret.reveal()), ("v", SECRET));
    assert!(told.mutual.is_some());
    let (method, path, body) =
        patch(json!({ "auth": { "chap": { "mutual_user": null, "mutual_secret": null } } }));
    assert_eq!(bench.plane.call(method, path, body).await.status, 200);
    assert!(bench.target.last().hosts[0].chap.clone().unwrap().mutual.is_none());
    // As it was read, with something else changed.
    let mut read = bench.plane.get("/api/v1/hosts/h").await;
    read["iqn"] = json!("iqn.2026-11.com.example:h");
    assert_eq!(bench.plane.call("PATCH", "/api/v1/hosts/h", Some(read)).await.status, 200);
    bench.restart_plane().await;
    assert_eq!(
        shown(&bench.plane.get("/api/v1/hosts/h").await),
        r#"{"chap":{"mutual_user":null,"user":"v"}}"#
    );
    for body in [json!({ "auth": { "chap": null } }), json!({ "auth": null })] {
        assert_eq!(bench.plane.call("PATCH", "/api/v1/hosts/h", Some(body)).await.status, 200);
        assert!(bench.target.last().hosts[0].chap.is_none());
        assert_eq!(shown(&bench.plane.get("/api/v1/hosts/h").await), r#"{"chap":null}"#);
    }
}

#[tokio::test]
async fn what_cannot_be_names_its_field_and_changes_nothing() {
    let bench = Bench::new().await;
    let cases = [
        (json!({ "user": "u" }), 400, "/auth/chap/secret"),
        (json!({ "secret": SECRET }), 400, "/auth/chap/user"),
        (json!({ "user": 1, "secret": SECRET }), 400, "/auth/chap/user"),
        (json!({ "user": "u", "secret": SECRET, "realm": "x" }), 400, "/auth/chap/realm"),
        (json!({ "user": "", "secret": SECRET }), 422, "/auth/chap/user"),
        (json!({ "user": "u".repeat(256), "secret": SECRET }), 422, "/auth/chap/user"),
        (json!({ "user": "u", "secret": "elevenbytes" }), 422, "/auth/chap/secret"),
        (json!({ "user": "u", "secret": "tab\tin the middle" }), 422, "/auth/chap/secret"),
        (json!({ "user": "u", "secret": SECRET, "mutual_user": "t" }), 422, "/auth/chap/mutual_secret"),
        (json!({ "user": "u", "secret": SECRET, "mutual_secret": MUTUAL }), 422, "/auth/chap/mutual_user"),
        (
            json!({ "user": "u", "secret": SECRET, "mutual_user": "t", "mutual_secret": SECRET }),
            422,
            "/auth/chap/mutual_secret",
        ),
    ];
    for (chap, status, pointer) in cases {
        let body = json!({ "name": "h", "auth": { "chap": chap } });
        let answer = bench.plane.call("POST", "/api/v1/hosts", Some(body)).await;
        assert_eq!((answer.status, answer.pointers()), (status, vec![pointer]), "{chap}");
        answer.assert_problem();
        assert!(!answer.body.to_string().contains(SECRET));
    }
    assert_eq!(bench.plane.get("/api/v1/hosts").await["items"], json!([]));
    bench.plane.post("/api/v1/hosts", json!({ "name": "h" })).await;
    let body = json!({ "auth": { "chap": { "user": "u" } }, "policy": { "declared": "bounce" } });
    let answer = bench.plane.call("PATCH", "/api/v1/hosts/h", Some(body)).await;
    assert_eq!((answer.status, answer.pointers()), (422, vec!["/auth/chap/secret"]));
    assert_eq!(bench.plane.get("/api/v1/hosts/h").await["policy"]["declared"], "unknown");
}
