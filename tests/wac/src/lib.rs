//! `wac` (`wac.c` beside this folder) provokes writes after checksums. It is C, linked statically, so that it is small enough for a
//! guest and needs nothing there; this builds it with the machine's compiler. Beside it, and built alike, is `pattern`, which fills
//! disks with blocks that somebody else can make, too.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What the compiler is told: warnings are errors, and nothing of this machine is needed where it runs.
const FLAGS: [&str; 8] =
    ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-static", "-pthread"];

/// Builds `wac` at `out`.
///
/// # Errors
/// There is no C compiler (`cc`), or it refuses.
pub fn build(out: &Path) -> Result<()> {
    compile("wac.c", out)
}

/// Builds `pattern` at `out`.
///
/// # Errors
/// There is no C compiler (`cc`), or it refuses.
pub fn build_pattern(out: &Path) -> Result<()> {
    compile("pattern.c", out)
}

fn compile(source: &str, out: &Path) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let status = Command::new("cc").args(FLAGS).arg("-o").arg(out).arg(source).status().context("cc")?;
    ensure!(status.success(), "cc ended with {status}");
    Ok(())
}
