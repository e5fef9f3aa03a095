//! The state directory: made when missing, locked by one `up`, and reachable by paths short enough for Unix
//! sockets.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use super::error::UpError;

/// Bytes of a Unix socket's path without the closing NUL. unix(7): `sun_path` has 108.
const SOCKET_PATH_MAX_BYTES: usize = 107;

/// The longest name of a socket in the state directory, with the slash in front.
const LONGEST_SOCKET_NAME: &str = "/notify-control.sock";

/// The file whose lock says that an `up` runs here; it holds that process's id.
const LOCK_FILE: &str = "up.lock";

/// A locked state directory.
#[derive(Debug)]
pub(crate) struct StateDir {
    path: PathBuf,
    sockets: PathBuf,
    short_way: Option<PathBuf>,
    _lock: File,
}

impl StateDir {
    /// Opens or makes the directory and takes its lock. A directory that is made, or found empty, becomes
    /// private (0700).
    ///
    /// # Errors
    /// It cannot be made or used, everybody may write to it, another `up` holds it, or no short path to it can be made.
    pub(crate) fn open(path: &Path) -> Result<Self, UpError> {
        let failed = |what| move |source| UpError::State { path: path.to_owned(), what, source };
        match DirBuilder::new().recursive(false).mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => tighten(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                DirBuilder::new()
                    .recursive(true)
                    .mode(0o700)
                    .create(path)
                    .map_err(failed("cannot make it"))?;
            }
            other => other.map_err(failed("cannot make it"))?,
        }
        let path = fs::canonicalize(path).map_err(failed("cannot resolve it"))?;
        let lock = lock(&path)?;
        let mut dir = Self { sockets: path.clone(), path, short_way: None, _lock: lock };
        if dir.path.as_os_str().len() + LONGEST_SOCKET_NAME.len() > SOCKET_PATH_MAX_BYTES {
            dir.make_short_way(&std::env::temp_dir())?;
        }
        Ok(dir)
    }

    /// Its absolute path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a socket in it, short enough for the kernel.
    pub(crate) fn socket(&self, name: &str) -> PathBuf {
        self.sockets.join(name)
    }

    /// A private folder in `temp` that holds a symbolic link to the directory. Its name comes from the
    /// directory's identity, so that a run that was killed leaves nothing that the next one does not use
    /// again.
    fn make_short_way(&mut self, temp: &Path) -> Result<(), UpError> {
        let uid = rustix::process::geteuid().as_raw();
        let failed = |link: &Path| {
            let (path, link) = (self.path.clone(), link.to_owned());
            move |source| UpError::SocketPath { path, link, source }
        };
        let meta = fs::metadata(&self.path).map_err(failed(temp))?;
        let folder = temp.join(format!("holdfast-{uid}-{:x}-{:x}", meta.dev(), meta.ino()));
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(failed(&folder)(error)),
            _ => {}
        }
        let found = fs::symlink_metadata(&folder).map_err(failed(&folder))?;
        if !found.is_dir() || found.uid() != uid || found.mode() & 0o077 != 0 {
            let reason = io::Error::other("it exists and belongs to somebody else");
            return Err(failed(&folder)(reason));
        }
        let link = folder.join("s");
        match fs::remove_file(&link) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&link)(error)),
            _ => {}
        }
        symlink(&self.path, &link).map_err(failed(&link))?;
        if link.as_os_str().as_bytes().len() + LONGEST_SOCKET_NAME.len() > SOCKET_PATH_MAX_BYTES {
            let reason = io::Error::other("it is too long itself; set TMPDIR to a short path");
            return Err(failed(&link)(reason));
        }
        self.sockets = link;
        self.short_way = Some(folder);
        Ok(())
    }
}

impl Drop for StateDir {
    fn drop(&mut self) {
        if let Some(folder) = &self.short_way {
            // A leftover does no harm: the next run uses it again.
            let _ = fs::remove_file(folder.join("s"));
            let _ = fs::remove_dir(folder);
        }
    }
}

/// Makes an existing directory private if it is empty, and refuses one that everybody may write to. One that
/// is in use for something is left as it is: all files made in it are private anyway.
fn tighten(path: &Path) -> Result<(), UpError> {
    let failed = |what| move |source| UpError::State { path: path.to_owned(), what, source };
    let mut entries = fs::read_dir(path).map_err(failed("cannot read it"))?;
    let mode = fs::metadata(path).map_err(failed("cannot read it"))?.permissions().mode();
    if mode & 0o077 != 0 && entries.next().is_none() {
        return fs::set_permissions(path, fs::Permissions::from_mode(0o700))
            .map_err(failed("cannot make it private"));
    }
    if mode & 0o002 != 0 { Err(UpError::StateWorldWritable(path.to_owned())) } else { Ok(()) }
}

/// Takes the lock, which the kernel gives back when this process ends, however it ends.
fn lock(path: &Path) -> Result<File, UpError> {
    let failed = |what| move |source| UpError::State { path: path.to_owned(), what, source };
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path.join(LOCK_FILE))
        .map_err(failed("cannot open up.lock in it"))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::AGAIN) => {
            let mut pid = String::new();
            let readable = file.read_to_string(&mut pid).is_ok() && !pid.trim().is_empty();
            let pid = if readable { pid.trim().to_owned() } else { "unknown".to_owned() };
            return Err(UpError::StateInUse { path: path.to_owned(), pid });
        }
        Err(error) => return Err(failed("cannot lock up.lock in it")(error.into())),
    }
    file.set_len(0)
        .and_then(|()| file.rewind())
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(failed("cannot write up.lock in it"))?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn directory_is_made_private_with_its_parents() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let dir = StateDir::open(&path).unwrap();
        assert_eq!(mode(&path), 0o700);
        assert_eq!(dir.socket("x.sock"), dir.path().join("x.sock"));
    }

    #[test]
    fn empty_directory_becomes_private_and_used_one_is_left_alone() {
        let temp = tempfile::tempdir().unwrap();
        for (name, file, before, after) in [("e", None, 0o755, 0o700), ("u", Some("f"), 0o755, 0o755)] {
            let path = temp.path().join(name);
            fs::create_dir(&path).unwrap();
            if let Some(file) = file {
                fs::write(path.join(file), "").unwrap();
            }
            fs::set_permissions(&path, fs::Permissions::from_mode(before)).unwrap();
            StateDir::open(&path).unwrap();
            assert_eq!(mode(&path), after, "{name}");
        }
    }

    #[test]
    fn directory_that_everybody_writes_to_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("f"), "").unwrap();
        fs::set_permissions(temp.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        assert!(matches!(StateDir::open(temp.path()), Err(UpError::StateWorldWritable(_))));
    }

    #[test]
    fn second_lock_names_the_first_holder() {
        let temp = tempfile::tempdir().unwrap();
        let first = StateDir::open(temp.path()).unwrap();
        let error = StateDir::open(temp.path()).unwrap_err().to_string();
        assert!(error.ends_with(&format!("(pid {})", std::process::id())), "{error}");
        drop(first);
        StateDir::open(temp.path()).unwrap();
    }

    #[test]
    fn file_in_its_place_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        fs::write(&path, "").unwrap();
        assert!(matches!(StateDir::open(&path), Err(UpError::State { .. })));
    }

    #[test]
    fn long_path_gets_a_short_way_that_goes_with_it() {
        let temp = tempfile::tempdir().unwrap();
        let dir = StateDir::open(&temp.path().join("x".repeat(120))).unwrap();
        let socket = dir.socket("notify-control.sock");
        assert!(socket.as_os_str().len() <= SOCKET_PATH_MAX_BYTES, "{}", socket.display());
        std::os::unix::net::UnixDatagram::bind(&socket).unwrap();
        assert!(dir.path().join("notify-control.sock").exists());
        let folder = dir.short_way.clone().unwrap();
        assert_eq!(mode(&folder), 0o700);
        drop(dir);
        assert!(!folder.exists());
    }
}
