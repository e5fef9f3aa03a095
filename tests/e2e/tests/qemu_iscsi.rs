//! QEMU's own initiator: disk images in and out by `qemu-img convert`, and single commands by `qemu-io`, over `iscsi://`. Needs
//! Debian's `qemu-utils` and `qemu-block-extra`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use holdfast_e2e::Appliance;
use serde_json::json;
use tempfile::TempDir;

const SIZE_MIB: u64 = 64;

fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("{program}: run tests/e2e/prepare"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {text}{errors}");
    Ok(text)
}

/// An appliance, and the URL of a volume of so long blocks.
fn volume(name: &str, block_size: u64) -> Result<(Appliance, String)> {
    let appliance = Appliance::start(name)?;
    appliance.share("image", SIZE_MIB, block_size)?;
    appliance.rest().patch("/subsystems/image", &json!({"allow_any_host": true}))?;
    let url = format!("iscsi://127.0.0.1:{}/iqn.2026-11.io.holdfast:image/0", appliance.iscsi_port());
    Ok((appliance, url))
}

/// Bytes that repeat nowhere soon, with long runs of zeroes between them, as an image has them.
fn contents() -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let words = (0..(SIZE_MIB << 20) / 8).map(|word| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        if (word >> 15) % 3 == 0 { state } else { 0 }
    });
    words.flat_map(u64::to_le_bytes).collect()
}

fn an_image_goes_in_and_comes_out(block_size: u64) -> Result<()> {
    let (appliance, url) = volume(&format!("qemu_image_{block_size}"), block_size)?;
    let folder = TempDir::new()?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (raw, compact, back) = (path("in.raw"), path("in.qcow2"), path("out.raw"));
    let bytes = contents();
    fs::write(&raw, &bytes)?;
    run("qemu-img", &["convert", "-f", "raw", "-O", "qcow2", &raw, &compact])?;
    let told = run("qemu-img", &["info", "--output=json", "-f", "raw", &url])?;
    ensure!(told.contains(&format!("\"virtual-size\": {}", SIZE_MIB << 20)), "{told}");
    for round in 0..2 {
        // The second time it is written over itself.
        run("qemu-img", &["convert", "-n", "-f", "qcow2", "-O", "raw", &compact, &url])?;
        run("qemu-img", &["convert", "-f", "raw", "-O", "raw", &url, &back])?;
        ensure!(fs::read(&back)? == bytes, "round {round}: another image came back");
    }
    run("qemu-img", &["compare", "-f", "qcow2", "-F", "raw", &compact, &url])?;
    ensure!(appliance.rest().items("/incidents")?.is_empty(), "nobody is to be accused");
    appliance.stop()
}

#[test]
fn an_image_goes_in_and_comes_out_the_same_on_blocks_of_512_bytes() -> Result<()> {
    an_image_goes_in_and_comes_out(512)
}

#[test]
fn an_image_goes_in_and_comes_out_the_same_on_blocks_of_4096_bytes() -> Result<()> {
    an_image_goes_in_and_comes_out(4096)
}

#[test]
fn single_commands_of_qemu_io_do_what_they_say() -> Result<()> {
    let (appliance, url) = volume("qemu_io", 512)?;
    let io = |commands: &[&str]| {
        let arguments = ["-f", "raw", "-d", "unmap"].into_iter();
        let arguments =
            arguments.chain(commands.iter().flat_map(|command| ["-c", command])).chain([url.as_str()]);
        let text = run("qemu-io", &arguments.collect::<Vec<_>>())?;
        ensure!(!text.contains("failed") && !text.contains("error"), "{text}");
        Ok(text)
    };
    io(&["write -P 0xab 1M 2M", "read -P 0xab 1M 2M", "flush"])?;
    io(&["write -f -P 0xcd 512 1024", "read -P 0xcd 512 1024", "read -P 0 0 512"])?;
    io(&["write -z 1M 64k", "read -P 0 1M 64k", "read -P 0xab 1088k 64k"])?;
    io(&["write -z -u 2M 64k", "discard 2112k 64k", "read -P 0 2M 128k"])?;
    // Many at once, of a length that cuts bursts.
    io(&[
        "aio_write -P 0x11 4M 3M",
        "aio_write -P 0x22 7M 3M",
        "aio_flush",
        "read -P 0x11 4M 3M",
        "read -P 0x22 7M 3M",
    ])?;
    let map = run("qemu-img", &["map", "--output=json", "-f", "raw", &url])?;
    ensure!(map.contains("\"zero\": true") && map.contains("\"zero\": false"), "{map}");
    appliance.stop()
}
