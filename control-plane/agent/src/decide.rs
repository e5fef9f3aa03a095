//! From what the kernel says to a policy for each path device, the reasons for it, and the holes that it leaves. What the
//! kernel does not say leads to `unknown`.

use serde::Serialize;

use crate::facts::{Device, Facts, Integrity, Journal, Module, Transport};

/// Policies: the words of the API, from the weakest promise to the strongest.
const POLICIES: [&str; 9] = [
    "no-wait",
    "none",
    "application",
    "direct-io-only",
    "retry",
    "stable-pages",
    "shadow-pages",
    "bounce-direct",
    "bounce",
];
/// Where the kernel does not say enough.
pub(crate) const UNKNOWN: &str = "unknown";
/// A profile with a checksum makes writers wait, whatever `queue/stable_writes` says, from this release on.
const ALWAYS_STABLE_FROM: (u64, u64) = (6, 12);
/// The release in which that switch alone decides.
const SWITCH_DECIDES: (u64, u64) = (6, 1);

/// What is concluded of the host.
#[derive(Debug, Clone)]
pub(crate) struct Conclusion {
    /// Everything that was read.
    pub(crate) facts: Facts,
    /// The weakest policy of all devices.
    pub(crate) policy: &'static str,
    /// Why.
    pub(crate) reason: String,
    /// Transports over which this kernel puts tuples on the wire.
    pub(crate) pi_transports: Vec<Transport>,
    /// By device, in the order of the facts.
    pub(crate) devices: Vec<Verdict>,
}

/// What is concluded of one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// A word of the API.
    pub(crate) policy: &'static str,
    /// Why.
    pub(crate) reason: String,
    /// What it does not cover.
    pub(crate) holes: Vec<Hole>,
}

/// Something that a device's policy does not cover, or that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Hole {
    /// Its name.
    pub(crate) hole: &'static str,
    /// What goes wrong.
    pub(crate) problem: String,
    /// What to do.
    pub(crate) advice: &'static str,
}

/// Concludes.
pub(crate) fn conclude(facts: Facts) -> Conclusion {
    let release = facts.release.as_deref().and_then(release);
    let devices: Vec<Verdict> = facts
        .devices
        .iter()
        .map(|device| {
            let (policy, reason) = policy(device, release);
            Verdict { policy, reason, holes: holes(device, policy) }
        })
        .collect();
    let (policy, reason) = overall(&devices, &facts);
    let pi_transports = [Transport::NvmeTcp, Transport::Iscsi]
        .into_iter()
        .filter(|transport| sends_tuples(*transport, &facts))
        .collect();
    Conclusion { facts, policy, reason, pi_transports, devices }
}

fn overall(devices: &[Verdict], facts: &Facts) -> (&'static str, String) {
    let rank = |verdict: &&Verdict| POLICIES.iter().position(|policy| *policy == verdict.policy);
    if devices.is_empty() {
        return (UNKNOWN, "no device leads to a target over TCP".to_owned());
    }
    let Some((weakest, name)) = devices
        .iter()
        .zip(&facts.devices)
        .min_by_key(|(verdict, _)| rank(verdict))
        .map(|(verdict, device)| (verdict, &device.name))
    else {
        return (UNKNOWN, String::new());
    };
    if devices.iter().all(|verdict| verdict.policy == weakest.policy) {
        return (weakest.policy, format!("all path devices have it; {name}: {}", weakest.reason));
    }
    (weakest.policy, format!("the weakest of the path devices is {name}: {}", weakest.reason))
}

/// A device of this transport has a profile with a checksum, which stock kernels never make over TCP; or the transport's
/// module says that it is one of ours and switched on.
fn sends_tuples(transport: Transport, facts: &Facts) -> bool {
    let profile = |device: &Device| {
        device.transport == transport
            && device.integrity.as_ref().and_then(Integrity::has_checksum) == Some(true)
    };
    let module = |module: &Module| {
        let ours = module.version.as_deref().is_some_and(|version| version.contains("holdfast"));
        module.transport == transport && ours && module.pi != Some(false)
    };
    facts.devices.iter().any(profile) || facts.modules.iter().any(module)
}

fn policy(device: &Device, release: Option<(u64, u64)>) -> (&'static str, String) {
    let Some(integrity) = &device.integrity else {
        return ("none", "the kernel has no integrity profile for it".to_owned());
    };
    match integrity.has_checksum() {
        None => return (UNKNOWN, "integrity/format cannot be read".to_owned()),
        Some(false) => {
            let format = integrity.format.as_deref().unwrap_or_default();
            return ("none", format!("integrity/format is {format}: the kernel makes no tuples"));
        }
        Some(true) => {}
    }
    match integrity.write_generate {
        None => return (UNKNOWN, "integrity/write_generate cannot be read".to_owned()),
        Some(false) => return ("none", "integrity/write_generate is off".to_owned()),
        Some(true) => {}
    }
    if let Some(word) = &integrity.write_policy {
        return match POLICIES.iter().find(|policy| *policy == word) {
            Some(policy) => (policy, format!("integrity/write_policy is {word}")),
            None => (UNKNOWN, format!("integrity/write_policy is {word}, which this agent does not know")),
        };
    }
    waiting(device, release)
}

/// A kernel that makes tuples and has no choice of ours: do writers wait?
fn waiting(device: &Device, release: Option<(u64, u64)>) -> (&'static str, String) {
    let Some(release) = release else {
        return (UNKNOWN, "tuples are made, but the kernel's release cannot be read".to_owned());
    };
    match device.stable_writes {
        None => (UNKNOWN, "tuples are made, but queue/stable_writes cannot be read".to_owned()),
        Some(true) => ("stable-pages", "tuples are made, and queue/stable_writes is on".to_owned()),
        Some(false) if release == ALWAYS_STABLE_FROM => (
            "stable-pages",
            "tuples are made, and this kernel makes writers wait whenever they hold a checksum".to_owned(),
        ),
        Some(false) if release == SWITCH_DECIDES => {
            ("no-wait", "tuples are made, and queue/stable_writes is off".to_owned())
        }
        Some(false) => (
            UNKNOWN,
            "tuples are made and queue/stable_writes is off; what that means in this release is not known"
                .to_owned(),
        ),
    }
}

fn holes(device: &Device, policy: &str) -> Vec<Hole> {
    let tuples = policy != "none" && policy != UNKNOWN;
    let waits = matches!(policy, "stable-pages" | "bounce-direct" | "no-wait");
    // Without tuples, only data digests make a stock kernel hold pages still.
    let digests = !tuples && (device.data_digest == Some(true) || device.stable_writes == Some(true));
    let mut holes = Vec::new();
    for one in &device.file_systems {
        if (waits || digests) && one.journal == Journal::Absent {
            holes.push(Hole {
                hole: "ext4-no-journal",
                problem: format!(
                    "{} at {} has no journal and changes metadata while it is being written",
                    one.kind, one.mounted_at
                ),
                advice: "give it a journal (tune2fs -j, unmounted), or set integrity/write_policy to bounce",
            });
        }
    }
    for one in device.loops.iter().filter(|one| tuples && one.direct_io == Some(true)) {
        holes.push(Hole {
            hole: "loop-direct-io",
            problem: format!("{} passes pages of another file system on to {}", one.name, one.file),
            advice: "switch it off with losetup --direct-io=off, or set integrity/write_policy to bounce",
        });
    }
    if matches!(policy, "stable-pages" | "no-wait") {
        holes.push(Hole {
            hole: "direct-io-buffer-changed",
            problem: "a buffer of direct I/O that its application changes in flight fails its guard check".to_owned(),
            advice: "set integrity/write_policy to bounce-direct where the kernel has it, or mend the application",
        });
    }
    if policy == "no-wait" {
        holes.push(Hole {
            hole: "writers-do-not-wait",
            problem: "whatever is written again while it is in flight fails its guard check".to_owned(),
            advice: "set integrity/write_policy or queue/stable_writes, then mount the file systems anew",
        });
    }
    holes.extend(misaligned(device).filter(|_| tuples));
    if device.data_digest == Some(true) && device.stable_writes == Some(false) && !tuples {
        holes.push(Hole {
            hole: "digest-without-stable-pages",
            problem:
                "data digests are on, and writers do not wait: a page that changes in flight fails its digest"
                    .to_owned(),
            advice: "set queue/stable_writes to 1, then mount the file systems anew",
        });
    }
    if device.sectors == Some(0) && device.metadata_bytes.is_some_and(|bytes| bytes > 0) {
        holes.push(Hole {
            hole: "capacity-zero",
            problem: "this kernel cannot use blocks with metadata over TCP and shows none of the capacity"
                .to_owned(),
            advice: "set the grant's view to plain and connect anew, or install the patched modules",
        });
    }
    holes
}

fn misaligned(device: &Device) -> impl Iterator<Item = Hole> {
    let interval = device.integrity.as_ref().and_then(|integrity| integrity.interval_bytes);
    let open =
        interval.zip(device.dma_alignment).filter(|(interval, mask)| *interval > 0 && *mask < interval - 1);
    open.map(|(interval, mask)| Hole {
        hole: "misaligned-direct-io",
        problem: format!(
            "buffers aligned to {} bytes are let through, tuples are made for whole blocks of {interval}",
            mask.saturating_add(1)
        ),
        advice: "align buffers of direct I/O to the block size, or install the patched kernel",
    })
    .into_iter()
}

/// `6.12.117-…` is (6, 12).
fn release(text: &str) -> Option<(u64, u64)> {
    let mut parts = text.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests;
