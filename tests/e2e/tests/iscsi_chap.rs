//! CHAP and mutual CHAP with open-iscsi on Debian's stock kernels, the secrets set with the command-line tool: every algorithm,
//! wrong names and secrets, a secret that changes under a session; and secrets are nowhere to be read.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::{Appliance, Guest, Kernel, eventually};
use serde_json::{Value, json};

/// A bound for a hung guest; it boots once and logs in about thirty times.
const LIMIT: Duration = Duration::from_secs(900);
const SEEN_LIMIT: Duration = Duration::from_secs(30);

const USER: &str = "guest-user";
const TARGET_USER: &str = "holdfast-target";
const SECRET: &str = "correct-horse-battery";
const NEW_SECRET: &str = "staple-and-paper-clip";
const TARGET_SECRET: &str = "the-targets-own-proof";
const WRONG: &str = "nobody-told-me-this-1";
/// Logins that succeed: one and both ways with four algorithms, with all offered, and with the new secret.
const WORKED: u64 = 4 * 2 + 2;

#[test]
fn open_iscsi_on_6_1_proves_itself_and_asks_for_a_proof() -> Result<()> {
    prove(Kernel::V6_1)
}

#[test]
fn open_iscsi_on_6_12_proves_itself_and_asks_for_a_proof() -> Result<()> {
    prove(Kernel::V6_12)
}

fn prove(kernel: Kernel) -> Result<()> {
    let name = format!("iscsi_chap_{}", kernel.series());
    let appliance = Appliance::start(&name)?;
    appliance.share("disk", 64, 512)?;
    let initiator = format!("iqn.2026-11.io.example:{}", kernel.series());
    let files = tempfile::tempdir()?;
    let file = |name: &str, secret: &str| -> Result<String> {
        let path = files.path().join(name);
        fs::write(&path, format!("{secret}\n"))?;
        Ok(path.to_str().context("a path in UTF-8")?.to_owned())
    };
    let (own, new, target) = (file("own", SECRET)?, file("new", NEW_SECRET)?, file("target", TARGET_SECRET)?);
    let told = [
        appliance.cli(&[
            "host",
            "create",
            "guest",
            "--iqn",
            &initiator,
            "--chap-user",
            USER,
            "--chap-secret-file",
            &own,
            "--chap-mutual-user",
            TARGET_USER,
            "--chap-mutual-secret-file",
            &target,
        ])?,
        appliance.cli(&["grant", "set", "disk", "guest", "--view", "plain"])?,
    ];
    let mut guest = Guest::builder(kernel, &name, "iscsi_chap.sh")
        .limit(LIMIT)
        .variable("PORT", appliance.iscsi_port())
        .variable("IQN", "iqn.2026-11.io.holdfast:disk")
        .variable("INITIATOR", &initiator)
        .variable("USER_NAME", USER)
        .variable("TARGET_NAME", TARGET_USER)
        .variable("SECRET", SECRET)
        .variable("NEW_SECRET", NEW_SECRET)
        .variable("TARGET_SECRET", TARGET_SECRET)
        .variable("WRONG", WRONG)
        .start()?;
    guest.wait_phase("logged_in")?;
    let shown = eventually(SEEN_LIMIT, "the session in the API", || {
        let host = appliance.rest().get("/hosts/guest")?;
        let session = host.pointer("/sessions/0").context("no session")?;
        ensure!(session.get("authenticated") == Some(&json!(true)), "{session}");
        Ok(Some(host))
    })?;
    let names = json!({"user": USER, "mutual_user": TARGET_USER});
    ensure!(shown.pointer("/auth/chap") == Some(&names), "{shown}");
    let changed = appliance.cli(&["host", "set", "guest", "--chap-secret-file", &new])?;
    let still = appliance.rest().get("/hosts/guest")?;
    ensure!(still.get("sessions").and_then(Value::as_array).is_some_and(|all| all.len() == 1), "{still}");
    guest.go_on()?;
    let results = guest.finish()?;
    ensure!(results.number("worked")? == WORKED);
    let texts = told.into_iter().chain([changed, shown.to_string(), still.to_string(), appliance.log()?]);
    for text in texts {
        for secret in [SECRET, NEW_SECRET, TARGET_SECRET, WRONG] {
            ensure!(!text.contains(secret), "a secret can be read in: {text}");
        }
    }
    appliance.stop()
}
