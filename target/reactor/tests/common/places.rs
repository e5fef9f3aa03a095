//! Places to put a pool's file: small file systems and loop devices of a test's own, where this machine permits them.
//! Where it does not, a test says so and checks nothing.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `work` on a thread for which a file system of `size` bytes in memory is mounted at `folder`. What `work` opens
/// there can be used elsewhere. `None` where it cannot be mounted.
pub(crate) fn on_small_file_system<R: Send>(
    folder: &Path,
    size: &str,
    work: impl FnOnce() -> R + Send,
) -> Option<R> {
    let options = CString::new(format!("size={size}")).unwrap();
    on_mounted(folder, Path::new("none"), c"tmpfs", &options, work)
}

/// The same with a new file system of `kind` (ext4, xfs) on a loop device over a file of `bytes` in `folder`; `work` is
/// given where it is mounted.
pub(crate) fn on_file_system<R: Send>(
    folder: &Path,
    kind: &CStr,
    bytes: u64,
    work: impl FnOnce(&Path) -> R + Send,
) -> Option<R> {
    let device = Loop::new(&folder.join("image"), bytes, 512)?;
    let make = Command::new(format!("mkfs.{}", kind.to_str().unwrap())).arg("-q").arg(&device.path).output();
    if !make.is_ok_and(|made| made.status.success()) {
        return unavailable("mkfs");
    }
    let place = folder.join("mounted");
    std::fs::create_dir(&place).unwrap();
    on_mounted(&place, &device.path, kind, c"", || work(&place))
}

fn on_mounted<R: Send>(
    place: &Path,
    source: &Path,
    kind: &CStr,
    options: &CStr,
    work: impl FnOnce() -> R + Send,
) -> Option<R> {
    let text = |path: &Path| CString::new(path.as_os_str().as_bytes()).unwrap();
    let (at, from) = (text(place), text(source));
    let mount = |at: &CStr, flags, options: &CStr| {
        // SAFETY: all strings end with a zero and live until the call returns.
        unsafe { libc::mount(from.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, options.as_ptr().cast()) == 0 }
    };
    let alone = || {
        // SAFETY: it concerns the calling thread's view of mounts only.
        let apart = unsafe { libc::unshare(libc::CLONE_NEWNS) } == 0;
        apart && mount(c"/", libc::MS_PRIVATE | libc::MS_REC, c"") && mount(&at, 0, options)
    };
    let on_its_own = || if alone() { Some(work()) } else { unavailable("mount") };
    std::thread::scope(|scope| scope.spawn(on_its_own).join().unwrap())
}

/// A block device over a file, gone when dropped.
pub(crate) struct Loop {
    pub(crate) path: PathBuf,
}

impl Loop {
    /// Over a new file `image`, with logical blocks of `block_bytes`. `None` where there are no loop devices.
    pub(crate) fn new(image: &Path, bytes: u64, block_bytes: u32) -> Option<Loop> {
        std::fs::File::create_new(image).unwrap().set_len(bytes).unwrap();
        let block = format!("--sector-size={block_bytes}");
        let made = Command::new("losetup").args(["--find", "--show", &block]).arg(image).output();
        match made {
            Ok(made) if made.status.success() => {
                let path = String::from_utf8(made.stdout).unwrap();
                Some(Loop { path: path.trim_end().into() })
            }
            _ => unavailable("losetup"),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let freed = Command::new("losetup").arg("--detach").arg(&self.path).status();
        assert!(freed.is_ok_and(|status| status.success()));
    }
}

fn unavailable<T>(what: &str) -> Option<T> {
    println!("{what} is not possible here: not checked");
    None
}
