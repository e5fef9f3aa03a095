//! Hosts that nobody registered, and how they become part of one that somebody did.

use holdfast_contract::{
    CounterRow, DigestRow, DiscoveredHost, HostId, IoTotals, ObservedSession, PiTotals, Transport, VolumeId,
};
use serde_json::{Value, json};

use crate::plane::Bench;

const NQN: &str = "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6";
const IQN: &str = "iqn.1993-08.org.debian:01:abcdef";

fn id(raw: u64) -> HostId {
    HostId::new(raw).unwrap()
}

fn session(host: HostId, number: u64) -> ObservedSession {
    ObservedSession {
        id: number,
        host,
        transport: Transport::NvmeTcp,
        peer: "127.0.0.1:40000".to_owned(),
        subsystem: "s".to_owned(),
        authenticated: false,
        since: 1_700_000_000,
    }
}

fn discover(bench: &Bench, host: HostId, nqn: Option<&str>, iqn: Option<&str>) {
    let (nqn, iqn) = (nqn.map(str::to_owned), iqn.map(str::to_owned));
    let mut script = bench.target.script();
    script.observed.discovered_hosts.push(DiscoveredHost { id: host, nqn, iqn });
    script.observed.sessions.push(session(host, host.get()));
}

async fn the_host_with(bench: &Bench, query: &str) -> Value {
    let path = format!("/api/v1/hosts?{query}");
    let list = bench.plane.until(&path, |list| !list["items"].as_array().unwrap().is_empty()).await;
    list["items"][0].clone()
}

fn count(bench: &Bench, host: HostId, volume: VolumeId, blocks: u64) {
    bench.target.script().observed.counters.push(CounterRow {
        host,
        volume,
        write: PiTotals { blocks_inserted: blocks, ..PiTotals::default() },
        read: PiTotals::default(),
        io: IoTotals { write_ops: 1, write_bytes: blocks * 4096, ..IoTotals::default() },
    });
    bench.target.script().observed.digests.push(DigestRow { host, header: 1, data: 2 });
}

async fn volume(bench: &Bench, name: &str) -> VolumeId {
    let body = json!({ "name": name, "pool": "ram", "size_bytes": 1_048_576 });
    bench.plane.post("/api/v1/volumes", body).await;
    bench.target.last().volumes.iter().find(|volume| volume.name == name).unwrap().id
}

#[tokio::test]
async fn a_host_that_just_connects_is_recorded() {
    let bench = Bench::new().await;
    discover(&bench, id(7), Some(NQN), None);
    let host = the_host_with(&bench, &format!("nqn={NQN}")).await;
    assert_eq!(host["name"], auto_name(NQN));
    assert_eq!((&host["registered"], &host["policy"]["declared"]), (&json!(false), &json!("unknown")));
    assert_eq!(host["id"], "0000000000000007");
    assert_eq!(host["sessions"][0]["address"], "127.0.0.1:40000");
    assert_eq!(host["sessions"][0]["since"], "2023-11-14T22:13:20.000Z");
    let path = format!("/api/v1/hosts/{}", auto_name(NQN));
    bench.plane.until(&path, |_| bench.target.last().hosts.iter().any(|host| host.id == id(7))).await;
}

fn auto_name(identity: &str) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(identity.as_bytes());
    format!("host-{:02x}{:02x}{:02x}{:02x}", digest[0], digest[1], digest[2], digest[3])
}

#[tokio::test]
async fn a_taken_name_gets_a_number() {
    let bench = Bench::new().await;
    bench.plane.post("/api/v1/hosts", json!({ "name": auto_name(NQN) })).await;
    discover(&bench, id(7), Some(NQN), None);
    let host = the_host_with(&bench, &format!("nqn={NQN}")).await;
    assert_eq!(host["name"], format!("{}-2", auto_name(NQN)));
}

#[tokio::test]
async fn registering_a_recorded_identity_merges_its_history_in() {
    let mut bench = Bench::new().await;
    let v = volume(&bench, "v").await;
    discover(&bench, id(7), Some(NQN), None);
    discover(&bench, id(8), None, Some(IQN));
    count(&bench, id(7), v, 10);
    count(&bench, id(8), v, 5);
    the_host_with(&bench, &format!("nqn={NQN}")).await;
    the_host_with(&bench, &format!("iqn={IQN}")).await;
    let patch = json!({ "policy": { "declared": "stable-pages" } });
    let path = format!("/api/v1/hosts/{}", auto_name(NQN));
    assert_eq!(bench.plane.call("PATCH", &path, Some(patch)).await.status, 200);
    let host = bench.plane.post("/api/v1/hosts", json!({ "name": "db1", "nqn": NQN, "iqn": IQN })).await;
    assert_eq!(host["registered"], true);
    assert_eq!(host["sessions"].as_array().unwrap().len(), 2);
    assert_eq!(host["policy"]["declared"], "stable-pages");
    let history = host["policy"]["history"].as_array().unwrap();
    assert!(history.iter().any(|entry| entry["policy"] == "stable-pages"), "{history:?}");
    assert_eq!(bench.plane.call("GET", &path, None).await.status, 404);
    let told = bench.target.last().hosts;
    assert_eq!((told.len(), told[0].aliases.as_slice()), (1, [id(7), id(8)].as_slice()));
    let own: HostId = host["id"].as_str().unwrap().parse().unwrap();
    count(&bench, own, v, 1);
    let summed = |counters: &Value| counters["volumes"][0]["write"]["blocks_inserted"] == 16;
    let counters = bench.plane.until("/api/v1/hosts/db1/counters", summed).await;
    assert_eq!(counters["digest_errors"], json!({ "header": 3, "data": 6 }));
    let again = bench.plane.call("POST", "/api/v1/hosts", Some(json!({ "name": "db2", "nqn": NQN }))).await;
    assert_eq!((again.status, again.pointers()), (409, vec!["/nqn"]));
    // All of it is still there after a restart without the target.
    bench.plane.app.close().await;
    bench.stop_target();
    bench.restart_plane().await;
    let counters = bench.plane.get("/api/v1/hosts/db1/counters").await;
    assert!(summed(&counters), "{counters}");
    assert_eq!(bench.plane.get("/api/v1/hosts/db1").await["policy"]["observed"], "inserted");
}

#[tokio::test]
async fn a_recorded_host_may_be_registered_under_its_own_name() {
    let bench = Bench::new().await;
    discover(&bench, id(7), Some(NQN), None);
    the_host_with(&bench, &format!("nqn={NQN}")).await;
    let host = bench.plane.post("/api/v1/hosts", json!({ "name": auto_name(NQN), "nqn": NQN })).await;
    assert_eq!(host["registered"], true);
    assert_eq!(bench.target.last().hosts[0].aliases, [id(7)]);
}

#[tokio::test]
async fn an_identity_set_later_merges_too_and_brings_its_grants() {
    let bench = Bench::new().await;
    bench.plane.post("/api/v1/subsystems", json!({ "name": "s" })).await;
    discover(&bench, id(8), None, Some(IQN));
    let name = the_host_with(&bench, &format!("iqn={IQN}")).await["name"].as_str().unwrap().to_owned();
    let grant = bench
        .plane
        .call("PUT", &format!("/api/v1/subsystems/s/hosts/{name}"), Some(json!({ "view": "pi" })))
        .await;
    assert_eq!(grant.status, 201);
    bench.plane.post("/api/v1/hosts", json!({ "name": "db1", "nqn": NQN })).await;
    let host = bench.plane.call("PATCH", "/api/v1/hosts/db1", Some(json!({ "iqn": IQN }))).await;
    assert_eq!(host.status, 200, "{}", host.text);
    assert_eq!((&host.body["nqn"], &host.body["iqn"]), (&json!(NQN), &json!(IQN)));
    assert_eq!(bench.plane.get("/api/v1/subsystems/s/hosts/db1").await["view"], "pi");
    let own: HostId = host.body["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(bench.target.last().subsystems[0].grants[0].host, own);
}

#[tokio::test]
async fn a_host_registered_while_it_connected_owns_the_targets_record() {
    let bench = Bench::new().await;
    bench.plane.post("/api/v1/hosts", json!({ "name": "db1", "nqn": NQN })).await;
    discover(&bench, id(7), Some(NQN), None);
    let host = bench.plane.until("/api/v1/hosts/db1", |host| host["sessions"][0]["id"] == 7).await;
    assert_eq!(host["registered"], true);
    bench.plane.until("/api/v1/hosts/db1", |_| bench.target.last().hosts[0].aliases == [id(7)]).await;
    assert_eq!(bench.plane.get("/api/v1/hosts").await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_host_with_sessions_stays_and_a_deleted_one_does_not_come_back_by_itself() {
    let bench = Bench::new().await;
    discover(&bench, id(7), Some(NQN), None);
    let name = the_host_with(&bench, &format!("nqn={NQN}")).await["name"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/hosts/{name}");
    let busy = bench.plane.call("DELETE", &path, None).await;
    assert_eq!(busy.status, 409, "{}", busy.text);
    assert_eq!(bench.plane.call("PATCH", &path, Some(json!({ "nqn": null }))).await.status, 409);
    bench.target.script().observed.sessions.clear();
    let gone = bench.plane.call("DELETE", &path, None).await;
    assert_eq!(gone.status, 204, "{}", gone.text);
    // The target may still remember it.
    let nqn = Some(NQN.to_owned());
    bench.target.script().observed.discovered_hosts.push(DiscoveredHost { id: id(7), nqn, iqn: None });
    volume(&bench, "v").await;
    assert_eq!(bench.plane.call("GET", &path, None).await.status, 404);
    bench.target.script().observed.sessions.push(session(id(7), 1));
    the_host_with(&bench, &format!("nqn={NQN}")).await;
}

#[tokio::test]
async fn policies_leave_a_history() {
    let bench = Bench::new().await;
    let plane = &bench.plane;
    plane.post("/api/v1/hosts", json!({ "name": "h", "policy": { "declared": "stable-pages" } })).await;
    for (patch, declared) in [
        (json!({ "policy": { "declared": "bounce" } }), "bounce"),
        (json!({ "policy": {} }), "bounce"),
        (json!({ "policy": { "declared": null } }), "unknown"),
        (json!({ "policy": { "declared": "no-wait" } }), "no-wait"),
        (json!({ "policy": null }), "unknown"),
    ] {
        let answer = plane.call("PATCH", "/api/v1/hosts/h", Some(patch)).await;
        assert_eq!((answer.status, &answer.body["policy"]["declared"]), (200, &json!(declared)));
    }
    let host = plane.get("/api/v1/hosts/h").await;
    let history: Vec<&str> = host["policy"]["history"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["policy"].as_str().unwrap())
        .collect();
    assert_eq!(history, ["stable-pages", "bounce", "unknown", "no-wait", "unknown"]);
    assert_eq!(host["policy"]["reported"], Value::Null);
    assert_eq!(host["policy"]["observed"], "unknown");
}

#[tokio::test]
async fn counters_of_a_deleted_volume_vanish() {
    let bench = Bench::new().await;
    let v = volume(&bench, "v").await;
    let w = volume(&bench, "w").await;
    discover(&bench, id(7), Some(NQN), None);
    count(&bench, id(7), v, 10);
    count(&bench, id(7), w, 20);
    let name = the_host_with(&bench, &format!("nqn={NQN}")).await["name"].as_str().unwrap().to_owned();
    let path = format!("/api/v1/hosts/{name}/counters");
    bench.plane.until(&path, |counters| counters["volumes"].as_array().unwrap().len() == 2).await;
    assert_eq!(bench.plane.call("DELETE", "/api/v1/volumes/v", None).await.status, 204);
    let counters = bench.plane.get(&path).await;
    assert_eq!(counters["volumes"].as_array().unwrap().len(), 1);
    assert_eq!(counters["volumes"][0]["volume"], "w");
    assert_eq!(
        counters["volumes"][0]["write"],
        json!({
            "blocks_checked": 0, "blocks_escaped": 0, "blocks_unchecked": 0, "blocks_inserted": 20,
            "blocks_stripped": 0, "guard_errors": 0, "app_tag_errors": 0, "ref_tag_errors": 0,
            "storage_tag_errors": 0, "media_errors": 0
        })
    );
    assert_eq!(
        counters["volumes"][0]["io"],
        json!({ "read_ops": 0, "read_bytes": 0, "write_ops": 1, "write_bytes": 81920 })
    );
}
