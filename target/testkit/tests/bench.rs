//! `holdfast-bench` as a program, against the scripted peer.

#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "the peer's own numbers are small")]
mod support;

use std::process::{Command, Output};

use holdfast_testkit::pi::PiFormat;
use serde_json::Value;
use support::{BLOCK, BLOCKS, Manner, Peer, SUBNQN};

fn bench(task: &str, peer: &Peer, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast-bench"));
    command.args([task, "--target", &peer.addr.to_string(), "--subsystem", SUBNQN, "--format", "json"]);
    command.args(arguments).output().expect("the program starts")
}

fn report(output: &Output) -> Value {
    let parsed = serde_json::from_slice(&output.stdout);
    assert!(parsed.is_ok(), "{}", String::from_utf8_lossy(&output.stderr));
    parsed.unwrap_or_default()
}

#[test]
fn every_pi_mode_runs_clean_with_and_without_digests() {
    let quick =
        ["--seconds", "1", "--warmup", "0", "--mix", "50/50", "--queues", "2", "--depth", "8", "--fill"];
    for (pi_type, pi) in [(0, "off"), (1, "pract"), (1, "end-to-end"), (3, "end-to-end")] {
        for digests in [&[][..], &["--header-digest", "--data-digest", "--threads", "2"][..]] {
            let peer = Peer::start(Manner { pi_type, cpda: 3, c2h_len: 3000, ..Manner::default() });
            let verify: &[&str] = if pi == "end-to-end" { &["--verify"] } else { &[] };
            let output = bench("run", &peer, &[&quick[..], &["--pi", pi], digests, verify].concat());
            let report = report(&output);
            assert!(output.status.success(), "{report:#}");
            assert!(report["reads"]["operations"].as_u64() > Some(0), "{report:#}");
            assert!(report["writes"]["operations"].as_u64() > Some(0), "{report:#}");
            assert_eq!(report["bad_blocks"], 0);
        }
    }
}

#[test]
fn a_fill_leaves_right_tuples_in_every_block() {
    let peer = Peer::start(Manner { pi_type: 1, success_flag: true, in_capsule: 0, ..Manner::default() });
    let arguments = [
        "--seconds",
        "1",
        "--warmup",
        "0",
        "--pi",
        "end-to-end",
        "--fill",
        "--block-size",
        "16KiB",
        "--verify",
    ];
    assert!(bench("run", &peer, &arguments).status.success());
    for lba in 0..BLOCKS {
        let stored = peer.stored(lba);
        let tuple = PiFormat::CRC16.tuple_at(&stored, BLOCK, 0).unwrap();
        assert_eq!(tuple.ref_tag, u64::try_from(lba).unwrap());
        assert_eq!(PiFormat::CRC16.first_bad_guard(&stored, BLOCK), None);
    }
}

#[test]
fn wrong_data_is_reported_and_fails_the_run() {
    let peer = Peer::start(Manner { pi_type: 1, bend_reads: true, ..Manner::default() });
    let arguments = ["--seconds", "1", "--warmup", "0", "--pi", "end-to-end", "--fill", "--verify"];
    let output = bench("run", &peer, &arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(report(&output)["bad_blocks"].as_u64() > Some(0));
}

#[test]
fn processor_time_of_the_target_is_divided_by_the_commands() {
    let peer = Peer::start(Manner::default());
    let pid = std::process::id().to_string();
    let output = bench("run", &peer, &["--seconds", "1", "--warmup", "0", "--target-pid", &pid]);
    assert!(report(&output)["target_cpu_us_per_io"].as_f64() > Some(0.0));
}

#[test]
fn modes_that_the_namespace_cannot_are_refused_with_a_clear_line() {
    let peer = Peer::start(Manner::default());
    let output = bench("run", &peer, &["--pi", "end-to-end"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("no protection information"));
    assert_eq!(bench("run", &peer, &["--mix", "70/40"]).status.code(), Some(2));
}

#[test]
fn idle_hosts_are_kept_alive_and_measured() {
    let peer = Peer::start(Manner::default());
    let pid = std::process::id().to_string();
    let arguments =
        ["--hosts", "8", "--seconds", "1", "--settle", "0", "--keep-alive", "1", "--target-pid", &pid];
    let output = bench("idle", &peer, &arguments);
    let report = report(&output);
    assert!(output.status.success(), "{report:#}");
    assert!(report["keep_alives"].as_u64() > Some(0));
    assert!(report["total_resident"]["anonymous_kib"].as_u64() > Some(0));
}
