//! Programs of an appliance whose target makes mistakes on request: what `HOLDFAST_MUTANT` names.

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context, Result, ensure};

use crate::places::root;

/// Builds the target once more, with the feature `mutants`, into a folder of its own, and gives a folder with it and the other
/// programs.
///
/// # Errors
/// When it cannot be built, or the others are not built.
pub fn breakable_programs() -> Result<PathBuf> {
    let folder = root().join("build/mutants");
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .current_dir(root())
        .args(["build", "--quiet", "-p", "holdfast-daemon", "--features", "mutants", "--target-dir"])
        .arg(&folder)
        .status()?;
    ensure!(status.success(), "cargo build: {status}");
    let programs = folder.join("bin");
    fs::create_dir_all(&programs)?;
    let this = env::current_exe()?;
    let built = this.ancestors().nth(2).context("the programs' folder")?;
    let from = [folder.join("debug"), built.to_owned(), built.to_owned()];
    for (name, from) in ["holdfast-target", "holdfast", "holdfast-control-plane"].into_iter().zip(from) {
        // Never into a file that a process may still run.
        let new = programs.join(format!("{name}.new"));
        fs::copy(from.join(name), &new).with_context(|| format!("{name} in {}", from.display()))?;
        fs::rename(&new, programs.join(name))?;
    }
    Ok(programs)
}
