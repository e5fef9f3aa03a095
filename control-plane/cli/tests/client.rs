//! The client against a scripted API: what it asks for, what it prints, how it fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test may fail loudly")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output};
use std::thread::JoinHandle;

/// A request as it arrived: method and target, content type, body.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    line: String,
    content_type: String,
    body: String,
}

/// Answers one connection after the other with the next of `answers` (status, body), and gives back what was
/// asked.
fn serve(answers: Vec<(u16, &'static str)>) -> (String, JoinHandle<Vec<Asked>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let answer = |(status, body): (u16, &str)| {
            let (mut stream, _) = listener.accept().unwrap();
            let asked = read_request(&stream);
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
            )
            .unwrap();
            asked
        };
        answers.into_iter().map(answer).collect()
    });
    (url, server)
}

fn read_request(stream: &TcpStream) -> Asked {
    let mut reader = BufReader::new(stream);
    let mut next = || {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    };
    let line = next().trim_end_matches(" HTTP/1.1").to_owned();
    let (mut length, mut content_type) = (0, String::new());
    loop {
        let header = next().to_ascii_lowercase();
        match header.split_once(": ") {
            Some(("content-length", value)) => length = value.parse().unwrap(),
            Some(("content-type", value)) => content_type = value.to_owned(),
            Some(_) => {}
            None => break,
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    Asked { line, content_type, body: String::from_utf8(body).unwrap() }
}

fn holdfast(url: &str, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_holdfast")).args(args).env("HOLDFAST_API", url).output().unwrap()
}

/// Runs one command against one answer; gives back the request, the exit status, standard output and standard
/// error.
fn exchange(args: &[&str], answer: (u16, &'static str)) -> (Asked, i32, String, String) {
    let (url, server) = serve(vec![answer]);
    let output = holdfast(&url, args);
    let asked = server.join().unwrap().pop().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (asked, output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

#[test]
fn commands_send_what_the_api_expects() {
    let cases: &[(&[&str], &str, &str)] = &[
        (
            &["volume", "create", "v1", "--size", "10GiB"],
            "POST /api/v1/volumes",
            r#"{"name":"v1","pool":"ram","size_bytes":10737418240}"#,
        ),
        (
            &[
                "volume",
                "create",
                "v",
                "--size",
                "4096",
                "--pool",
                "p",
                "--block-size",
                "512",
                "--pi-type",
                "3",
            ],
            "POST /api/v1/volumes",
            r#"{"block_size":512,"name":"v","pi":{"type":3},"pool":"p","size_bytes":4096}"#,
        ),
        (&["volume", "grow", "v1", "20GiB"], "PATCH /api/v1/volumes/v1", r#"{"size_bytes":21474836480}"#),
        (
            &["volume", "set", "v1", "--size", "20GiB"],
            "PATCH /api/v1/volumes/v1",
            r#"{"size_bytes":21474836480}"#,
        ),
        (&["volume", "show", "a/b"], "GET /api/v1/volumes/a%2Fb", ""),
        (
            &["pool", "create", "p", "--memory", "1MiB", "--overcommit", "1.5"],
            "POST /api/v1/pools",
            r#"{"backing":{"kind":"memory","size_bytes":1048576},"name":"p","overcommit":1.5}"#,
        ),
        (
            &["pool", "create", "p", "--file", "/srv/p", "--size", "1GiB"],
            "POST /api/v1/pools",
            r#"{"backing":{"kind":"file","path":"/srv/p","size_bytes":1073741824},"name":"p"}"#,
        ),
        (
            &["pool", "create", "p", "--file", "/srv/p", "--import"],
            "POST /api/v1/pools",
            r#"{"backing":{"import":true,"kind":"file","path":"/srv/p"},"name":"p"}"#,
        ),
        (
            &["pool", "create", "p", "--block", "/dev/x", "--overcommit", "2"],
            "POST /api/v1/pools",
            r#"{"backing":{"kind":"block","path":"/dev/x"},"name":"p","overcommit":2.0}"#,
        ),
        (
            &["pool", "create", "p", "--block", "/dev/x", "--import"],
            "POST /api/v1/pools",
            r#"{"backing":{"import":true,"kind":"block","path":"/dev/x"},"name":"p"}"#,
        ),
        (&["pool", "export", "p"], "POST /api/v1/pools/p/export", ""),
        (&["subsystem", "create", "s1"], "POST /api/v1/subsystems", r#"{"name":"s1"}"#),
        (
            &["subsystem", "create", "s1", "--nqn", "nqn.x", "--allow-any-host"],
            "POST /api/v1/subsystems",
            r#"{"allow_any_host":true,"name":"s1","nqn":"nqn.x"}"#,
        ),
        (
            &["subsystem", "set", "s1", "--allow-any-host", "false"],
            "PATCH /api/v1/subsystems/s1",
            r#"{"allow_any_host":false}"#,
        ),
        (&["namespace", "add", "s1", "v1"], "POST /api/v1/subsystems/s1/namespaces", r#"{"volume":"v1"}"#),
        (
            &["namespace", "add", "s1", "v1", "--nsid", "7"],
            "POST /api/v1/subsystems/s1/namespaces",
            r#"{"nsid":7,"volume":"v1"}"#,
        ),
        (&["namespace", "remove", "s1", "7"], "DELETE /api/v1/subsystems/s1/namespaces/7", ""),
        (
            &["host", "create", "h", "--nqn", "nqn.h", "--policy", "bounce"],
            "POST /api/v1/hosts",
            r#"{"name":"h","nqn":"nqn.h","policy":{"declared":"bounce"}}"#,
        ),
        (
            &["host", "set", "h", "--no-iqn", "--nqn", "n"],
            "PATCH /api/v1/hosts/h",
            r#"{"iqn":null,"nqn":"n"}"#,
        ),
        (&["host", "delete", "h"], "DELETE /api/v1/hosts/h", ""),
        (
            &["grant", "set", "s1", "h", "--enforce", "require-pi"],
            "PUT /api/v1/subsystems/s1/hosts/h",
            r#"{"enforce":"require-pi","view":"auto"}"#,
        ),
        (&["grant", "show", "s1", "h"], "GET /api/v1/subsystems/s1/hosts/h", ""),
        (&["grant", "remove", "s1", "h"], "DELETE /api/v1/subsystems/s1/hosts/h", ""),
        (
            &["drill", "create", "v", "--lba", "8", "--stage", "media", "--bit", "3"],
            "POST /api/v1/drills",
            r#"{"bit":3,"lba":8,"stage":"media","volume":"v"}"#,
        ),
        (&["drill", "show", "42"], "GET /api/v1/drills/42", ""),
        (&["incident", "show", "42"], "GET /api/v1/incidents/42", ""),
        (&["openapi"], "GET /openapi.json", ""),
    ];
    for (args, line, body) in cases {
        let (asked, status, _, stderr) = exchange(args, (200, "{}"));
        assert_eq!(
            (asked.line.as_str(), asked.body.as_str(), status),
            (*line, *body, 0),
            "{args:?} {stderr}"
        );
        let content_type = match line.split(' ').next() {
            _ if body.is_empty() => "",
            Some("PATCH") => "application/merge-patch+json",
            _ => "application/json",
        };
        assert_eq!(asked.content_type, content_type, "{args:?}");
    }
}

#[test]
fn list_filters_go_into_the_query() {
    let empty = (200, r#"{"items":[],"next":null}"#);
    let args =
        ["incident", "list", "--host", "web1", "--tag", "guard", "--since", "2026-11-22T00:00:00+01:00"];
    let (asked, status, stdout, _) = exchange(&args, empty);
    let line = "GET /api/v1/incidents?host=web1&tag=guard&since=2026-11-22T00%3A00%3A00%2B01%3A00";
    assert_eq!((asked.line.as_str(), status), (line, 0));
    assert_eq!(stdout, "ID  LAST  COUNT  HOST  VOLUME  LBA  OPERATION  TAG  VERDICT  WRITER\n");
    let (asked, ..) = exchange(&["host", "list", "--nqn", "nqn.a:b"], empty);
    assert_eq!(asked.line, "GET /api/v1/hosts?nqn=nqn.a%3Ab");
}

const PAGES: [(u16, &str); 2] = [
    (200, r#"{"items":[{"name":"b","size_bytes":1073741824, "z":1.0}],"next":"t/1"}"#),
    (200, r#"{"items":[{"name":"a","size_bytes":512}],"next":null}"#),
];

#[test]
fn lists_are_followed_over_all_pages() {
    let (url, server) = serve(PAGES.to_vec());
    let output = holdfast(&url, &["volume", "list"]);
    let asked: Vec<String> = server.join().unwrap().into_iter().map(|asked| asked.line).collect();
    assert_eq!(asked, ["GET /api/v1/volumes", "GET /api/v1/volumes?after=t%2F1"]);
    let lines: Vec<String> = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    assert_eq!(
        lines,
        [
            "NAME  POOL   SIZE  BLOCK  PI  GUARD  ALLOCATED  UUID",
            "b     -     1 GiB      -   -  -              -  -",
            "a     -     512 B      -   -  -              -  -",
        ]
    );
}

#[test]
fn json_is_the_apis_own() {
    let (url, server) = serve(PAGES.to_vec());
    let output = holdfast(&url, &["volume", "list", "--output", "json"]);
    server.join().unwrap();
    let expected = "{\"items\":[{\"name\":\"b\",\"size_bytes\":1073741824, \"z\":1.0},\
                    {\"name\":\"a\",\"size_bytes\":512}],\"next\":null}\n";
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    let body = r#"{"zebra":1,"apple":{"b":2,"a":1e3}}"#;
    let (_, _, stdout, _) = exchange(&["--output", "json", "volume", "show", "v1"], (200, body));
    assert_eq!(stdout, format!("{body}\n"));
}

#[test]
fn limit_stops_at_the_page_that_fills_it() {
    let (url, server) = serve(vec![PAGES[0]]);
    let output = holdfast(&url, &["incident", "list", "--limit", "1", "--output", "json"]);
    server.join().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.ends_with("],\"next\":\"t/1\"}\n"), "{text}");
}

#[test]
fn refusal_is_one_line_for_each_pointer() {
    let body = r#"{"title":"Unprocessable Content","status":422,"errors":[
        {"pointer":"/size_bytes","detail":"must be a multiple of 4096"},{"pointer":"/pool","detail":"no pool x"}]}"#;
    let (_, status, stdout, stderr) = exchange(&["volume", "create", "v1", "--size", "5000"], (422, body));
    assert_eq!((status, stdout.as_str()), (1, ""));
    let lines: Vec<&str> = stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    assert!(
        lines[0].starts_with("holdfast: cannot create volume v1: --size: must be a multiple of 4096 (422); ")
    );
    assert!(lines[1].starts_with("holdfast: cannot create volume v1: --pool: no pool x (422); "));
}

#[test]
fn unreachable_api_is_said_with_what_to_do() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}");
    let output = holdfast("http://ignored.invalid", &["host", "list", "--api", &url]);
    assert_eq!(output.status.code(), Some(1));
    let expected = format!(
        "holdfast: cannot list hosts: no answer from {url} (connection refused); is `holdfast up` running? \
         Another address is given with --api URL or HOLDFAST_API\n"
    );
    assert_eq!(String::from_utf8(output.stderr).unwrap(), expected);
}

#[test]
fn answers_that_are_no_api_are_said_to_be_none() {
    let (_, status, _, stderr) = exchange(&["volume", "list"], (200, "<html>"));
    assert_eq!(status, 1);
    assert!(stderr.contains("is it a Holdfast API?"), "{stderr}");
}

#[test]
fn deletion_is_confirmed_and_silent_in_json() {
    let (_, status, stdout, _) = exchange(&["volume", "delete", "v1"], (204, ""));
    assert_eq!((status, stdout.as_str()), (0, "volume v1 deleted\n"));
    let (_, status, stdout, _) = exchange(&["volume", "delete", "v1", "--output", "json"], (204, ""));
    assert_eq!((status, stdout.as_str()), (0, ""));
}

#[test]
fn counters_have_a_line_for_each_direction() {
    let body = r#"{"volumes":[{"volume":"v1","write":{"blocks_checked":3,"blocks_escaped":0,"blocks_unchecked":0,
        "blocks_inserted":12,"blocks_stripped":0,"guard_errors":1,"app_tag_errors":0,"ref_tag_errors":0,
        "storage_tag_errors":0,"media_errors":0},"read":{"blocks_checked":5},"io":{"read_ops":1}}],
        "digest_errors":{"header":0,"data":2}}"#;
    let (asked, status, stdout, _) = exchange(&["host", "counters", "web1"], (200, body));
    assert_eq!((asked.line.as_str(), status), ("GET /api/v1/hosts/web1/counters", 0));
    let lines: Vec<&str> = stdout.lines().collect();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(lines[1]), ["v1", "write", "3", "0", "0", "12", "0", "1", "0", "0", "0", "0"]);
    assert_eq!(words(lines[2])[..4], ["v1", "read", "5", "-"]);
    assert_eq!(lines[3], "digest errors: header 0, data 2");
}

#[test]
fn events_are_printed_as_they_come() {
    let stream =
        "event: volume\ndata: {\"name\":\"v1\"}\n\n: keep-alive\n\nevent: incident\ndata: {\"id\":1}\n\n";
    let args = ["event", "watch", "--kind", "incident", "--count", "1", "--output", "json"];
    let (asked, status, stdout, _) = exchange(&args, (200, stream));
    assert_eq!((asked.line.as_str(), status), ("GET /api/v1/events", 0));
    assert_eq!(stdout, "{\"event\":\"incident\",\"data\":{\"id\":1}}\n");
    let (_, status, stdout, stderr) = exchange(&["event", "watch"], (200, stream));
    assert_eq!((status, stdout.as_str()), (1, "volume    {\"name\":\"v1\"}\nincident  {\"id\":1}\n"));
    assert!(stderr.contains("the event stream ended"), "{stderr}");
}

#[test]
fn status_sums_up() {
    let empty = (200, r#"{"items":[],"next":null}"#);
    let pools = r#"{"items":[{"name":"ram","health":"ok","allocated_bytes":1048576,"capacity_bytes":1073741824}],"next":null}"#;
    let hosts = r#"{"items":[{"name":"a","sessions":[{}]},{"name":"b","sessions":[]}],"next":null}"#;
    let answers = vec![(503, "{}"), (200, pools), empty, empty, (200, hosts), empty];
    let (url, server) = serve(answers.clone());
    let output = holdfast(&url, &["status"]);
    server.join().unwrap();
    let expected = format!(
        "api         {url} (not ready)\npool        ram: ok, 1 MiB of 1 GiB allocated\nvolumes     0\n\
         subsystems  0\nhosts       2 (1 connected)\nincidents   0\n"
    );
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    let (url, server) = serve(answers);
    let output = holdfast(&url, &["status", "--output", "json"]);
    server.join().unwrap();
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&json["ready"], &json["hosts"]["items"][0]["name"]), (&false.into(), &"a".into()));
}

#[test]
fn wrong_usage_ends_with_status_2() {
    let cases: &[&[&str]] = &[
        &[],
        &["volume"],
        &["volume", "create", "v1"],
        &["volume", "create", "v1", "--size", "10GB"],
        &["pool", "create", "p"],
        &["pool", "create", "p", "--file", "/p"],
        &["pool", "create", "p", "--size", "1GiB"],
        &["pool", "create", "p", "--memory", "1GiB", "--file", "/p"],
        &["pool", "create", "p", "--memory", "1GiB", "--size", "1GiB"],
        &["pool", "create", "p", "--memory", "1GiB", "--import"],
        &["pool", "create", "p", "--block", "/b", "--size", "1GiB"],
        &["pool", "create", "p", "--block", "/b", "--file", "/p", "--size", "1GiB"],
        &["pool", "create", "p", "--import"],
        &["host", "set", "h"],
        &["host", "set", "h", "--nqn", "n", "--no-nqn"],
        &["grant", "set", "s", "h", "--view", "all"],
        &["--output", "yaml", "status"],
        &["--api", "https://x", "status"],
        &["--api", "http://x", "up"],
    ];
    for args in cases {
        let output = Command::new(env!("CARGO_BIN_EXE_holdfast")).args(*args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    let output = holdfast("ftp://x", &["status"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "holdfast: HOLDFAST_API: write http://HOST:PORT\n");
}
