//! Where things lie: the prepared kernels, the guests' scripts, the built programs, the logs.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

/// A kernel that `tests/e2e/prepare` makes ready to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// Debian 12's own kernel.
    V6_1,
    /// The 6.12 kernel that Debian 12 offers beside it, and that Debian 13 runs.
    V6_12,
    /// The same sources with all of `kernel-patches/6.1`, everything built in: `tests/e2e/prepare kernel 6.1`.
    Patched6_1,
    /// As that, of 6.12.
    Patched6_12,
    /// As that, with everything that finds mistakes, and several times slower: `tests/e2e/prepare debug-kernel 6.12`.
    Debug6_12,
}

impl Kernel {
    /// The series as a folder and as part of a test's name: `6.1`.
    pub fn series(self) -> &'static str {
        match self {
            Kernel::V6_1 | Kernel::Patched6_1 => "6.1",
            Kernel::V6_12 | Kernel::Patched6_12 | Kernel::Debug6_12 => "6.12",
        }
    }

    /// Where `tests/e2e/prepare` puts it.
    fn folder(self) -> &'static str {
        match self {
            Kernel::V6_1 | Kernel::V6_12 => self.series(),
            Kernel::Patched6_1 => "6.1-patched",
            Kernel::Patched6_12 => "6.12-patched",
            Kernel::Debug6_12 => "6.12-debug",
        }
    }

    /// The uncompressed kernel image.
    ///
    /// # Errors
    /// When the kernel was not prepared.
    pub(crate) fn image(self) -> Result<PathBuf> {
        self.prepared("vmlinux")
    }

    /// The guests' file system, to which a job is appended.
    ///
    /// # Errors
    /// When the kernel was not prepared.
    pub(crate) fn initramfs(self) -> Result<PathBuf> {
        self.prepared("initramfs.cpio")
    }

    /// What makes of that file system one with the modules of `kernel-patches/dkms`.
    ///
    /// # Errors
    /// When there are none for this kernel, or they were not built.
    pub(crate) fn patched_modules(self) -> Result<PathBuf> {
        self.prepared("modules.cpio")
    }

    /// What `uname -r` answers in a guest of this kernel.
    ///
    /// # Errors
    /// When the kernel was not prepared.
    pub fn release(self) -> Result<String> {
        Ok(fs::read_to_string(self.prepared("release")?)?.trim().to_owned())
    }

    fn prepared(self, file: &str) -> Result<PathBuf> {
        let path = cache().join(self.folder()).join(file);
        ensure!(path.is_file(), "{} is missing: run tests/e2e/prepare", path.display());
        Ok(path)
    }
}

/// The repository's root.
pub(crate) fn root() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here)
}

/// What `tests/e2e/prepare` fills; the variable is the same there.
fn cache() -> PathBuf {
    env::var_os("HOLDFAST_E2E_CACHE").map_or_else(|| root().join("build/e2e"), PathBuf::from)
}

/// A file of `tests/e2e/guest`.
pub(crate) fn guest_script(name: &str) -> Result<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest").join(name);
    fs::read(&path).with_context(|| format!("guest script {}", path.display()))
}

/// The log file `NAME` (emptied), in a folder that outlives the test.
pub(crate) fn log_file(name: &str) -> Result<PathBuf> {
    let folder = root().join("build/e2e/logs");
    fs::create_dir_all(&folder)?;
    let path = folder.join(name);
    fs::write(&path, "")?;
    Ok(path)
}

/// A new folder for files of pools: beside the build, on a file system that lasts. The system's own place for such folders may
/// be in memory.
///
/// # Errors
/// When it cannot be made.
pub fn pool_folder() -> Result<TempDir> {
    let folder = root().join("build/e2e/pools");
    fs::create_dir_all(&folder)?;
    Ok(tempfile::tempdir_in(folder)?)
}

/// `holdfast-agent` as initiator hosts get it.
///
/// # Errors
/// When it was not built.
pub fn static_agent() -> Result<Vec<u8>> {
    let path = root().join("build/agent/holdfast-agent");
    fs::read(&path).with_context(|| format!("{}: run control-plane/agent/build", path.display()))
}

/// A program of this workspace: in `folder` if one is given, in `HOLDFAST_BIN_DIR` if that is set, otherwise where this
/// very program was built (Cargo puts a test in `PROFILE/deps` and programs in `PROFILE`).
///
/// # Errors
/// When it is not there: a test never runs without it.
pub(crate) fn program(folder: Option<&Path>, name: &str) -> Result<PathBuf> {
    let folder = match (folder, env::var_os("HOLDFAST_BIN_DIR")) {
        (Some(folder), _) => folder.to_owned(),
        (None, Some(folder)) => PathBuf::from(folder),
        (None, None) => {
            let this = env::current_exe()?;
            let mut folders = this.ancestors().skip(1).filter(|folder| !folder.ends_with("deps"));
            folders.next().with_context(|| format!("{} lies in no folder", this.display()))?.to_owned()
        }
    };
    let path = folder.join(name);
    ensure!(path.is_file(), "{} is missing: run cargo build --workspace --bins", path.display());
    Ok(path)
}
