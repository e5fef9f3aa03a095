//! Loop devices and file systems of a test's own, where this user may make them.

use std::{
    ffi::OsStr,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

/// That this user may make devices and mount file systems.
///
/// # Errors
/// When not.
pub fn demand_root() -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "tests on devices and file systems of their own have to be run as root"
    );
    Ok(())
}

/// A block device over a file, gone when dropped.
pub struct Loop {
    path: PathBuf,
}

impl Loop {
    /// Over `file`, with logical blocks of `block_bytes`.
    ///
    /// # Errors
    /// When there are no loop devices, or this user may not make one.
    pub fn over(file: &Path, block_bytes: u32) -> Result<Loop> {
        let block = format!("--sector-size={block_bytes}");
        let options = ["--find", "--show", "--direct-io=on", &block].map(OsStr::new);
        let path = run("losetup", options.into_iter().chain([file.as_os_str()]))?;
        Ok(Loop { path: path.trim_end().into() })
    }

    /// Over a new file of `bytes`, which takes no room before it is written.
    ///
    /// # Errors
    /// As [`Loop::over`].
    pub fn new(file: &Path, bytes: u64, block_bytes: u32) -> Result<Loop> {
        File::create_new(file)?.set_len(bytes)?;
        Loop::over(file, block_bytes)
    }

    /// The device.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if let Err(error) = run("losetup", [OsStr::new("--detach"), self.path.as_os_str()]) {
            eprintln!("{error:#}");
        }
    }
}

/// A new file system, mounted until this is dropped.
pub struct Mounted {
    place: PathBuf,
    device: Loop,
}

impl Mounted {
    /// Of `kind` (ext4, xfs) and `bytes`, over a file in `folder`.
    ///
    /// # Errors
    /// When it cannot be made or mounted.
    pub fn new(folder: &Path, kind: &str, bytes: u64) -> Result<Mounted> {
        let device = Loop::new(&folder.join(format!("{kind}.image")), bytes, 512)?;
        run(&format!("mkfs.{kind}"), [OsStr::new("-q"), device.path().as_os_str()])?;
        let place = folder.join(kind);
        fs::create_dir(&place)?;
        run("mount", [OsStr::new("-t"), OsStr::new(kind), device.path().as_os_str(), place.as_os_str()])?;
        Ok(Mounted { place, device })
    }

    /// Where it is mounted.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// The device that it lies on.
    #[must_use]
    pub fn device(&self) -> &Path {
        self.device.path()
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run("umount", [self.place.as_os_str()]) {
            eprintln!("{error:#}");
        }
    }
}

/// Runs a program of the system; gives what it prints.
fn run<'a>(program: &str, arguments: impl IntoIterator<Item = &'a OsStr>) -> Result<String> {
    let output = Command::new(program).args(arguments).output().with_context(|| program.to_owned())?;
    ensure!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
