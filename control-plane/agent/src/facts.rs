//! What the kernel says of the devices that lead to a target over TCP, of file systems on them, and of itself.

mod mounts;

use serde::Serialize;

use crate::root::Root;
pub(crate) use mounts::{FileSystem, Journal, LoopDevice};

/// Modules that put protection information on the wire when they are patched, and the transport that each serves.
const PI_MODULES: [(&str, Transport); 2] =
    [("nvme_tcp", Transport::NvmeTcp), ("iscsi_tcp", Transport::Iscsi)];

/// Nothing of the kernel can be read.
#[derive(Debug, thiserror::Error)]
#[error("there is no sys/block to read below {0}; is it a Linux host's root?")]
pub(crate) struct NoKernel(String);

/// Everything that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Release of the running kernel.
    pub(crate) release: Option<String>,
    /// Modules that matter, as far as they are loaded.
    pub(crate) modules: Vec<Module>,
    /// Path devices, sorted by name.
    pub(crate) devices: Vec<Device>,
}

/// Over what a device is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Transport {
    /// NVMe over TCP.
    NvmeTcp,
    /// iSCSI.
    Iscsi,
}

impl Transport {
    /// The API's word.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::NvmeTcp => "nvme-tcp",
            Self::Iscsi => "iscsi",
        }
    }
}

/// A module of the kernel, loaded or built in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Module {
    /// Its name.
    pub(crate) name: &'static str,
    /// The transport that it serves.
    pub(crate) transport: Transport,
    /// `version`: only modules of ours have one there.
    pub(crate) version: Option<String>,
    /// Parameter `pi`: whether it puts tuples on the wire.
    pub(crate) pi: Option<bool>,
}

/// One path to a namespace or logical unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Device {
    /// Name of the path device.
    pub(crate) name: String,
    /// The device above it that joins paths, where there is one.
    pub(crate) head: Option<String>,
    /// Over what.
    pub(crate) transport: Transport,
    /// Capacity in units of 512 bytes.
    pub(crate) sectors: Option<u64>,
    /// Bytes of metadata behind each block, where the kernel says so.
    pub(crate) metadata_bytes: Option<u64>,
    /// Its integrity profile; none where the kernel has no such folder.
    pub(crate) integrity: Option<Integrity>,
    /// Whether writers wait for pages under writeback.
    pub(crate) stable_writes: Option<bool>,
    /// Mask that addresses and lengths of direct I/O must respect.
    pub(crate) dma_alignment: Option<u64>,
    /// Whether data digests are on.
    pub(crate) data_digest: Option<bool>,
    /// Devices stacked upon it.
    pub(crate) holders: Vec<String>,
    /// File systems mounted from it or its partitions.
    pub(crate) file_systems: Vec<FileSystem>,
    /// Loop devices whose files lie on it.
    pub(crate) loops: Vec<LoopDevice>,
}

/// The folder `integrity` of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Integrity {
    /// Format of the tuples, `none` or `nop` where the kernel cannot make them.
    pub(crate) format: Option<String>,
    /// Whether the kernel makes tuples for writes.
    pub(crate) write_generate: Option<bool>,
    /// Whether it checks those of reads.
    pub(crate) read_verify: Option<bool>,
    /// Bytes that one tuple covers.
    pub(crate) interval_bytes: Option<u64>,
    /// What a patched kernel does about pages in flight.
    pub(crate) write_policy: Option<String>,
    /// What a patched kernel counted.
    pub(crate) stats: Option<String>,
}

impl Integrity {
    /// Whether tuples hold a checksum; unknown where the format cannot be read.
    pub(crate) fn has_checksum(&self) -> Option<bool> {
        let format = self.format.as_deref()?;
        Some(format.contains("-DIF-") || format.starts_with("T10-DIF") || format.starts_with("EXT-DIF"))
    }
}

/// Reads everything.
pub(crate) fn read(root: &Root) -> Result<Facts, NoKernel> {
    if !root.exists("sys/block") {
        return Err(NoKernel(
            root.real(".").map_or_else(|| "the root".to_owned(), |at| at.display().to_string()),
        ));
    }
    let mounts = mounts::read(root);
    let names = root.names("sys/block");
    let mut devices: Vec<Device> =
        names.iter().filter_map(|name| nvme(root, name).or_else(|| scsi(root, name))).collect();
    for device in &mut devices {
        let numbers = mounts::numbers(root, device.head.as_deref().unwrap_or(&device.name));
        device.file_systems = mounts.on(&numbers);
        device.loops = mounts.loops_on(root, &numbers);
    }
    Ok(Facts { release: root.text("proc/sys/kernel/osrelease"), modules: modules(root), devices })
}

fn modules(root: &Root) -> Vec<Module> {
    PI_MODULES
        .into_iter()
        .filter(|(name, _)| root.exists(&format!("sys/module/{name}")))
        .map(|(name, transport)| Module {
            name,
            transport,
            version: root.text(&format!("sys/module/{name}/version")),
            pi: root.flag(&format!("sys/module/{name}/parameters/pi")),
        })
        .collect()
}

/// A namespace reached over TCP. `nvme0c1n1` is a path of the head `nvme0n1` over the controller `nvme1`; without native
/// multipath `nvme1n1` is the path itself, and then its `device` is a controller.
fn nvme(root: &Root, name: &str) -> Option<Device> {
    let (subsystem, rest) = digits(name.strip_prefix("nvme")?)?;
    let (controller, head, rest) = match rest.strip_prefix('c') {
        Some(rest) => {
            let (controller, rest) = digits(rest)?;
            (controller, true, rest)
        }
        None => (subsystem, false, rest),
    };
    let (namespace, "") = digits(rest.strip_prefix('n')?)? else { return None };
    if !head && !root.exists(&format!("sys/block/{name}/device/transport")) {
        return None;
    }
    let transport = match head {
        true => root.text(&format!("sys/class/nvme/nvme{controller}/transport")),
        false => root.text(&format!("sys/block/{name}/device/transport")),
    };
    if transport.as_deref() != Some("tcp") {
        return None;
    }
    let head = head.then(|| format!("nvme{subsystem}n{namespace}"));
    // Stock kernels do not tell whether digests are on.
    Some(device(root, name, head, Transport::NvmeTcp, None))
}

/// A logical unit reached over iSCSI: its place in the tree names the session.
fn scsi(root: &Root, name: &str) -> Option<Device> {
    if !name.starts_with("sd") {
        return None;
    }
    let place = root.real(&format!("sys/block/{name}/device"))?;
    let session = place.iter().find_map(|part| {
        let (number, "") = digits(part.to_str()?.strip_prefix("session")?)? else { return None };
        Some(number.to_owned())
    })?;
    let digest = root.flag(&format!("sys/class/iscsi_connection/connection{session}:0/data_digest"));
    Some(device(root, name, None, Transport::Iscsi, digest))
}

fn device(
    root: &Root,
    name: &str,
    head: Option<String>,
    transport: Transport,
    data_digest: Option<bool>,
) -> Device {
    let at = |file: &str| format!("sys/block/{name}/{file}");
    Device {
        sectors: root.number(&at("size")),
        metadata_bytes: root.number(&at("metadata_bytes")),
        integrity: integrity(root, &at("integrity")),
        stable_writes: root.flag(&at("queue/stable_writes")),
        dma_alignment: root.number(&at("queue/dma_alignment")),
        holders: root.names(&format!("sys/block/{}/holders", head.as_deref().unwrap_or(name))),
        name: name.to_owned(),
        head,
        transport,
        data_digest,
        file_systems: Vec::new(),
        loops: Vec::new(),
    }
}

fn integrity(root: &Root, folder: &str) -> Option<Integrity> {
    if !root.exists(folder) {
        return None;
    }
    let at = |file: &str| format!("{folder}/{file}");
    Some(Integrity {
        format: root.text(&at("format")),
        write_generate: root.flag(&at("write_generate")),
        read_verify: root.flag(&at("read_verify")),
        interval_bytes: root.number(&at("protection_interval_bytes")),
        write_policy: root.text(&at("write_policy")),
        stats: root.text(&at("stats")),
    })
}

/// Splits the digits at the beginning off; at least one.
fn digits(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, rest) = text.split_at_checked(end)?;
    (!number.is_empty()).then_some((number, rest))
}
