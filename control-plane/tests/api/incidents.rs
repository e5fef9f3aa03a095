//! Incidents come over exactly once, whatever breaks in between.

use holdfast_contract::{
    Confidence, Evidence, HostId, Incident, OperationWord, TagWord, Transport, Verdict, VolumeId,
};
use serde_json::{Value, json};

use crate::plane::{Bench, Plane};

fn incident(sequence: u64, host: HostId, volume: VolumeId) -> Incident {
    Incident {
        sequence,
        id: format!("incident-{sequence}"),
        first_time_ms: 1_900_000_000_000 + sequence,
        last_time_ms: 1_900_000_000_000 + sequence,
        count: 1,
        host,
        authenticated: false,
        transport: Transport::NvmeTcp,
        peer: "127.0.0.1:40000".to_owned(),
        session: "controller 1, queue 1".to_owned(),
        volume,
        lba: 5,
        blocks: 8,
        operation: OperationWord::Write,
        tag: TagWord::Guard,
        expected: Some("0x1234".to_owned()),
        actual: Some("0xabcd".to_owned()),
        writer: None,
        verdict: Verdict::Undetermined,
        confidence: Confidence::Low,
        reasons: vec!["the guard does not fit the data".to_owned()],
        evidence: Evidence { data: "00ff".to_owned(), ..Evidence::default() },
    }
}

/// A volume `v` and a host `h` that declares stable pages, by their identifiers.
async fn furnish(bench: &Bench) -> (HostId, VolumeId) {
    let v = json!({ "name": "v", "pool": "ram", "size_bytes": 1_048_576 });
    bench.plane.post("/api/v1/volumes", v).await;
    let h = json!({ "name": "h", "policy": { "declared": "stable-pages" } });
    bench.plane.post("/api/v1/hosts", h).await;
    let state = bench.target.last();
    (state.hosts[0].id, state.volumes[0].id)
}

async fn ids(plane: &Plane, query: &str) -> Vec<String> {
    let list = plane.get(&format!("/api/v1/incidents?{query}")).await;
    list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

fn has(number: usize) -> impl Fn(&Value) -> bool {
    move |list| list["items"].as_array().unwrap().len() == number
}

#[tokio::test]
async fn an_incident_is_shown_with_names_and_the_policy_of_its_time() {
    let bench = Bench::new().await;
    let (h, v) = furnish(&bench).await;
    bench.target.script().incidents = vec![Incident { writer: Some(h), ..incident(1, h, v) }];
    bench.plane.until("/api/v1/incidents", has(1)).await;
    let shown = bench.plane.get("/api/v1/incidents/incident-1").await;
    assert_eq!(
        shown,
        json!({
            "id": "incident-1", "first_time": "2030-03-17T17:46:40.001Z", "last_time": "2030-03-17T17:46:40.001Z",
            "count": 1, "host": "h", "authenticated": false, "transport": "nvme-tcp", "peer": "127.0.0.1:40000",
            "session": "controller 1, queue 1", "volume": "v", "lba": 5, "blocks": 8, "operation": "write",
            "tag": "guard", "expected": "0x1234", "actual": "0xabcd", "writer": "h", "verdict": "undetermined",
            "confidence": "low", "reasons": ["the guard does not fit the data"], "policy": "stable-pages",
            "evidence": { "data": "00ff", "tuple": "", "header_digest": false, "data_digest": false }
        })
    );
    assert_eq!(bench.plane.call("DELETE", "/api/v1/hosts/h", None).await.status, 204);
    assert_eq!(bench.plane.call("DELETE", "/api/v1/volumes/v", None).await.status, 204);
    let shown = bench.plane.get("/api/v1/incidents/incident-1").await;
    assert_eq!(
        (&shown["host"], &shown["volume"], &shown["writer"]),
        (&json!(null), &json!(null), &json!(null))
    );
}

#[tokio::test]
async fn the_agents_word_counts_more_than_what_was_declared_unless_it_does_not_know() {
    let bench = Bench::new().await;
    let (h, v) = furnish(&bench).await;
    for (number, (reported, policy)) in
        [("bounce", "bounce"), ("unknown", "stable-pages")].into_iter().enumerate()
    {
        let body = json!({ "kernel": "6.12", "policy": reported, "pi_transports": [], "devices": [], "evidence": {} });
        let answer = bench.plane.call("PUT", "/api/v1/hosts/h/report", Some(body)).await;
        assert!(matches!(answer.status, 200 | 201), "{answer:?}");
        bench.target.script().incidents.push(incident(number as u64 + 1, h, v));
        bench.plane.until("/api/v1/incidents", has(number + 1)).await;
        let shown = bench.plane.get(&format!("/api/v1/incidents/incident-{}", number + 1)).await;
        assert_eq!(shown["policy"], policy);
    }
}

#[tokio::test]
async fn filters_narrow_and_pages_follow_each_other() {
    let bench = Bench::new().await;
    let (h, v) = furnish(&bench).await;
    let gone = VolumeId::new(99).unwrap();
    bench.target.script().incidents = vec![
        incident(1, h, v),
        Incident { tag: TagWord::Ref, verdict: Verdict::Misdirected, ..incident(2, h, v) },
        incident(3, h, gone),
        incident(4, HostId::new(98).unwrap(), v),
    ];
    let plane = &bench.plane;
    plane.until("/api/v1/incidents", has(4)).await;
    assert_eq!(ids(plane, "").await, ["incident-4", "incident-3", "incident-2", "incident-1"]);
    assert_eq!(ids(plane, "host=h").await, ["incident-3", "incident-2", "incident-1"]);
    assert_eq!(ids(plane, "volume=v").await, ["incident-4", "incident-2", "incident-1"]);
    assert_eq!(ids(plane, "tag=ref").await, ["incident-2"]);
    assert_eq!(ids(plane, "verdict=misdirected&host=h&volume=v").await, ["incident-2"]);
    assert!(ids(plane, "host=nobody").await.is_empty());
    assert_eq!(ids(plane, "since=2030-03-17T17:46:40.003Z").await, ["incident-4", "incident-3"]);
    let first = plane.get("/api/v1/incidents?limit=3").await;
    let token = first["next"].as_str().unwrap();
    assert_eq!(ids(plane, &format!("limit=3&after={token}")).await, ["incident-1"]);
}

#[tokio::test]
async fn an_incident_that_grew_is_updated_in_place() {
    let bench = Bench::new().await;
    let (h, v) = furnish(&bench).await;
    bench.target.script().incidents = vec![incident(1, h, v)];
    bench.plane.until("/api/v1/incidents", has(1)).await;
    let grown = Incident {
        sequence: 2,
        count: 5,
        verdict: Verdict::HostRace,
        id: "incident-1".to_owned(),
        ..incident(1, h, v)
    };
    bench.target.script().incidents.push(grown);
    let list = bench.plane.until("/api/v1/incidents", |list| list["items"][0]["count"] == 5).await;
    assert!(has(1)(&list));
    assert_eq!(list["items"][0]["verdict"], "host-race");
}

#[tokio::test]
async fn incidents_come_exactly_once_over_lost_acknowledgements_and_restarts() {
    let mut bench = Bench::new().await;
    let (h, v) = furnish(&bench).await;
    {
        let mut script = bench.target.script();
        script.lose_acks = true;
        script.incidents = (1..=450).map(|sequence| incident(sequence, h, v)).collect();
    }
    bench.plane.until("/api/v1/incidents?limit=1000", has(450)).await;
    bench.restart_plane().await;
    bench.target.script().lose_acks = false;
    // Everything is acknowledged although nothing new came, and nothing is asked for again.
    bench.target.script().asked_after.clear();
    bench.plane.until("/api/v1/incidents?limit=1000", |_| bench.target.script().incidents.is_empty()).await;
    assert!(bench.target.script().asked_after.iter().all(|after| *after == 450));
    assert!(has(450)(&bench.plane.get("/api/v1/incidents?limit=1000").await));
    assert_eq!(bench.target.script().acked.last(), Some(&450));
}

#[tokio::test]
async fn a_target_that_lost_its_stream_is_read_from_the_beginning() {
    let mut bench = Bench::new().await;
    let (h, v) = furnish(&bench).await;
    bench.target.script().incidents = (1..=9).map(|sequence| incident(sequence, h, v)).collect();
    bench.plane.until("/api/v1/incidents", has(9)).await;
    bench.stop_target();
    {
        let mut script = bench.target.script();
        script.observed.boot_id = "boot-2".to_owned();
        // One is sent again, the other is new, and both have low sequences.
        let again = Incident { sequence: 1, ..incident(9, h, v) };
        let fresh = Incident { sequence: 2, id: "fresh".to_owned(), ..incident(10, h, v) };
        script.incidents = vec![again, fresh];
    }
    bench.start_target();
    let list = bench.plane.until("/api/v1/incidents", has(10)).await;
    assert_eq!(list["items"][0]["id"], "fresh");
    bench.plane.until("/api/v1/incidents", |_| bench.target.script().acked.last() == Some(&2)).await;
}

#[tokio::test]
async fn incidents_of_a_merged_record_are_the_hosts() {
    let bench = Bench::new().await;
    let (_, v) = furnish(&bench).await;
    let stranger = HostId::new(77).unwrap();
    let nqn = "nqn.2026-11.io.holdfast:stranger";
    {
        let mut script = bench.target.script();
        let discovered =
            holdfast_contract::DiscoveredHost { id: stranger, nqn: Some(nqn.to_owned()), iqn: None };
        script.observed.discovered_hosts.push(discovered);
        script.incidents = vec![incident(1, stranger, v)];
    }
    let list = bench.plane.until("/api/v1/incidents", |list| list["items"][0]["host"].is_string()).await;
    assert!(list["items"][0]["host"].as_str().unwrap().starts_with("host-"));
    bench.plane.post("/api/v1/hosts", json!({ "name": "known", "nqn": nqn })).await;
    assert_eq!(ids(&bench.plane, "host=known").await, ["incident-1"]);
    assert_eq!(bench.plane.get("/api/v1/incidents/incident-1").await["host"], "known");
}
