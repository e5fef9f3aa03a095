//! The conclusion for people.

use std::fmt::Write;

use crate::decide::{Conclusion, Verdict};
use crate::facts::{Device, Journal};

/// Everything, in lines.
pub(crate) fn text(conclusion: &Conclusion) -> String {
    let facts = &conclusion.facts;
    let mut text = String::new();
    let transports: Vec<&str> = conclusion.pi_transports.iter().map(|transport| transport.as_str()).collect();
    let tuples = if transports.is_empty() { "over no transport".to_owned() } else { transports.join(", ") };
    let mut line = |name: &str, value: &str| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<15}{value}");
    };
    line("kernel", facts.release.as_deref().unwrap_or("unknown"));
    line("policy", conclusion.policy);
    line("because", &conclusion.reason);
    line("sends tuples", &tuples);
    for module in &facts.modules {
        let version = module.version.as_deref().unwrap_or("no version: a stock module");
        line("module", &format!("{}: {version}", module.name));
    }
    for (device, verdict) in facts.devices.iter().zip(&conclusion.devices) {
        text.push('\n');
        push_device(&mut text, device, verdict);
    }
    text
}

fn push_device(text: &mut String, device: &Device, verdict: &Verdict) {
    let head = device.head.as_ref().map(|head| format!(", a path of {head}")).unwrap_or_default();
    let _ = writeln!(text, "{} ({}{head})", device.name, device.transport.as_str());
    let mut line = |name: &str, value: &str| {
        let _ = writeln!(text, "  {name:<15}{value}");
    };
    line("policy", verdict.policy);
    line("because", &verdict.reason);
    match &device.integrity {
        None => line("integrity", "no profile"),
        Some(integrity) => {
            let format = integrity.format.as_deref().unwrap_or("unknown");
            let flags = [flag(integrity.write_generate), flag(integrity.read_verify)];
            let [generate, verify] = flags;
            line("integrity", &format!("{format}, write_generate {generate}, read_verify {verify}"));
        }
    }
    if let Some(stats) = device.integrity.as_ref().and_then(|integrity| integrity.stats.as_ref()) {
        line("stats", &stats.replace('\n', ", "));
    }
    line("stable writes", flag(device.stable_writes));
    line("data digest", flag(device.data_digest));
    for one in &device.file_systems {
        let journal = match &one.journal {
            Journal::NotAsked => String::new(),
            Journal::Unknown => ", journal unknown".to_owned(),
            Journal::Absent => ", no journal".to_owned(),
            Journal::Present(None) => ", journal".to_owned(),
            Journal::Present(Some(mode)) => format!(", journal, data={mode}"),
        };
        line("file system", &format!("{} at {}{journal}", one.kind, one.mounted_at));
    }
    if !device.holders.is_empty() {
        line("used by", &device.holders.join(", "));
    }
    for hole in &verdict.holes {
        line("HOLE", &format!("{}: {}", hole.hole, hole.problem));
        line("", &format!("{}.", hole.advice));
    }
}

fn flag(flag: Option<bool>) -> &'static str {
    match flag {
        None => "unknown",
        Some(false) => "off",
        Some(true) => "on",
    }
}
