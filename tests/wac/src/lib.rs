//! `wac` (`wac.c` beside this folder) provokes writes after checksums. It is C, linked statically, so that it is small enough for a
//! guest and needs nothing there; this builds it with the machine's compiler.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What the compiler is told: warnings are errors, and nothing of this machine is needed where it runs.
const FLAGS: [&str; 8] =
    ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Wconversion", "-Werror", "-static", "-pthread"];

/// Builds the program at `out`.
///
/// # Errors
/// There is no C compiler (`cc`), or it refuses.
pub fn build(out: &Path) -> Result<()> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("wac.c");
    let status = Command::new("cc").args(FLAGS).arg("-o").arg(out).arg(source).status().context("cc")?;
    ensure!(status.success(), "cc ended with {status}");
    Ok(())
}
