use super::*;
use crate::facts::{FileSystem, LoopDevice};

fn profile(format: &str) -> Integrity {
    Integrity {
        format: Some(format.to_owned()),
        write_generate: Some(true),
        read_verify: Some(true),
        interval_bytes: Some(4096),
        write_policy: None,
        stats: None,
    }
}

/// A path device whose kernel makes tuples and lets writers wait.
fn device() -> Device {
    Device {
        name: "nvme0c0n1".to_owned(),
        head: Some("nvme0n1".to_owned()),
        transport: Transport::NvmeTcp,
        sectors: Some(2048),
        metadata_bytes: Some(8),
        integrity: Some(profile("T10-DIF-TYPE1-CRC")),
        stable_writes: Some(true),
        dma_alignment: Some(4095),
        data_digest: None,
        holders: Vec::new(),
        file_systems: Vec::new(),
        loops: Vec::new(),
    }
}

fn with(change: impl FnOnce(&mut Device)) -> Device {
    let mut device = device();
    change(&mut device);
    device
}

fn profile_of(device: &mut Device) -> &mut Integrity {
    device.integrity.as_mut().unwrap()
}

fn conclusion(release: Option<&str>, devices: Vec<Device>) -> Conclusion {
    conclude(Facts { release: release.map(str::to_owned), modules: Vec::new(), devices })
}

fn policy_on(release: &str, device: Device) -> &'static str {
    conclusion(Some(release), vec![device]).policy
}

fn holes_of(device: Device) -> Vec<&'static str> {
    let conclusion = conclusion(Some("6.12.117"), vec![device]);
    conclusion.devices[0].holes.iter().map(|hole| hole.hole).collect()
}

#[test]
fn policy_is_what_the_kernel_says() {
    assert_eq!(policy_on("6.12.117", device()), "stable-pages");
    assert_eq!(policy_on("6.1.0-56-amd64", with(|device| device.stable_writes = Some(false))), "no-wait");
    assert_eq!(policy_on("6.12.117", with(|device| device.stable_writes = Some(false))), "stable-pages");
    assert_eq!(policy_on("6.12.117", with(|device| device.integrity = None)), "none");
    assert_eq!(policy_on("6.12.117", with(|device| device.integrity = Some(profile("none")))), "none");
    assert_eq!(policy_on("6.12.117", with(|device| device.integrity = Some(profile("nop")))), "none");
    let off = with(|device| profile_of(device).write_generate = Some(false));
    assert_eq!(policy_on("6.12.117", off), "none");
    for word in ["no-wait", "stable-pages", "bounce", "bounce-direct", "direct-io-only", "none"] {
        let chosen = with(|device| profile_of(device).write_policy = Some(word.to_owned()));
        assert_eq!(policy_on("6.12.117", chosen), word);
    }
}

#[test]
fn what_the_kernel_does_not_say_is_unknown() {
    let off = || with(|device| device.stable_writes = Some(false));
    assert_eq!(policy_on("7.3.0", off()), UNKNOWN, "a release that nobody looked into");
    assert_eq!(policy_on("hand-made", device()), UNKNOWN);
    assert_eq!(conclusion(None, vec![device()]).policy, UNKNOWN);
    assert_eq!(policy_on("6.1.0", with(|device| device.stable_writes = None)), UNKNOWN);
    assert_eq!(policy_on("6.1.0", with(|device| profile_of(device).format = None)), UNKNOWN);
    assert_eq!(policy_on("6.1.0", with(|device| profile_of(device).write_generate = None)), UNKNOWN);
    let later = with(|device| profile_of(device).write_policy = Some("hold-breath".to_owned()));
    assert_eq!(policy_on("6.12.117", later), UNKNOWN);
    assert_eq!(conclusion(Some("6.12.117"), Vec::new()).policy, UNKNOWN);
}

#[test]
fn the_host_is_as_strong_as_its_weakest_device_and_unknown_outweighs_all() {
    let chosen = |word: &str| with(|device| profile_of(device).write_policy = Some(word.to_owned()));
    let overall = |devices| conclusion(Some("6.12.117"), devices).policy;
    assert_eq!(overall(vec![chosen("bounce"), device()]), "stable-pages");
    assert_eq!(overall(vec![chosen("bounce"), chosen("no-wait"), device()]), "no-wait");
    assert_eq!(overall(vec![chosen("bounce"), chosen("of-tomorrow")]), UNKNOWN);
}

#[test]
fn holes_are_named_where_they_apply() {
    let file_system = |journal| FileSystem {
        kind: "ext4".to_owned(),
        mounted_at: "/mnt".to_owned(),
        device: "nvme0n1".to_owned(),
        journal,
    };
    let looped = |direct_io| LoopDevice { name: "loop0".to_owned(), file: "/mnt/f".to_owned(), direct_io };
    let always = "direct-io-buffer-changed";
    assert_eq!(holes_of(device()), [always]);
    let absent = with(|device| device.file_systems = vec![file_system(Journal::Absent)]);
    assert_eq!(holes_of(absent), ["ext4-no-journal", always]);
    for journal in [Journal::Present(None), Journal::Unknown, Journal::NotAsked] {
        assert_eq!(holes_of(with(|device| device.file_systems = vec![file_system(journal)])), [always]);
    }
    assert_eq!(holes_of(with(|device| device.loops = vec![looped(Some(true))])), ["loop-direct-io", always]);
    assert_eq!(holes_of(with(|device| device.loops = vec![looped(Some(false)), looped(None)])), [always]);
    assert_eq!(holes_of(with(|device| device.dma_alignment = Some(511))), [always, "misaligned-direct-io"]);
    let copies = with(|device| profile_of(device).write_policy = Some("bounce".to_owned()));
    assert!(holes_of(copies).is_empty());
    let digest = |device: &mut Device| {
        device.integrity = None;
        device.data_digest = Some(true);
    };
    assert!(holes_of(with(digest)).is_empty());
    let racing = with(|device| {
        digest(device);
        device.stable_writes = Some(false);
    });
    assert_eq!(holes_of(racing), ["digest-without-stable-pages"]);
    let none = with(|device| {
        device.integrity = None;
        device.sectors = Some(0);
    });
    assert_eq!(holes_of(none), ["capacity-zero"]);
}

#[test]
fn transports_with_tuples_are_told_by_devices_and_by_modules_of_ours() {
    let able = |devices, version: Option<&str>, pi| {
        let version = version.map(str::to_owned);
        let modules = vec![Module { name: "iscsi_tcp", transport: Transport::Iscsi, version, pi }];
        conclude(Facts { release: None, modules, devices }).pi_transports
    };
    assert_eq!(able(vec![device()], None, None), [Transport::NvmeTcp]);
    assert_eq!(able(Vec::new(), Some("1.0"), None), []);
    assert_eq!(able(Vec::new(), Some("holdfast-1"), Some(true)), [Transport::Iscsi]);
    assert_eq!(able(Vec::new(), Some("holdfast-1"), Some(false)), []);
    assert_eq!(able(vec![with(|device| device.integrity = None)], None, None), []);
}
