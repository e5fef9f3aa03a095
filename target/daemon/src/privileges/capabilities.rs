//! Capabilities, thread by thread. capabilities(7).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use rustix::io::Errno;
use rustix::thread::{
    CapabilitySet, CapabilitySets, clear_ambient_capability_set, remove_capability_from_bounding_set,
    set_capabilities, set_no_new_privs,
};

/// Leaves the calling thread without any capability, and without a way to one: the sets are empty, and no program that it
/// executes gains privileges. Threads that it starts afterwards are the same.
///
/// The bounding set needs `CAP_SETPCAP` to be emptied. A process without it keeps what is there, to no effect: the set
/// limits only what executing a program may give, which is nothing.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    empty_bounding_set()?;
    clear_ambient_capability_set()?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?;
    Ok(set_no_new_privs(true)?)
}

/// A folder that the target cannot write to.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// It was possible only with capabilities: as root in somebody else's folder.
    #[error(
        "{folder} belongs to user {owner}, and the target, which runs as user {me}, has no power over the files of \
         others: run it as user {owner}, or give the folder to user {me}"
    )]
    NotOurs {
        /// Which folder.
        folder: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who asks.
        me: u32,
    },
    /// Anything else.
    #[error("{folder}: {source}")]
    Io {
        /// Which folder.
        folder: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

/// Demands that the calling thread can write to `folder` with the privileges that it has left.
pub(crate) fn demand_writable(folder: &Path) -> Result<(), FolderError> {
    match rustix::fs::access(folder, Access::WRITE_OK | Access::EXEC_OK) {
        Ok(()) => Ok(()),
        Err(Errno::ACCESS) => Err(not_ours(folder)),
        Err(error) => Err(FolderError::Io { folder: folder.to_owned(), source: error.into() }),
    }
}

/// Says whose `folder` is; or, if even that cannot be seen, whose the folder is that hides it.
fn not_ours(folder: &Path) -> FolderError {
    let seen = folder.ancestors().find_map(|above| Some((above, above.metadata().ok()?.uid())));
    let me = rustix::process::geteuid().as_raw();
    match seen {
        Some((folder, owner)) => FolderError::NotOurs { folder: folder.to_owned(), owner, me },
        None => FolderError::Io { folder: folder.to_owned(), source: Errno::ACCESS.into() },
    }
}

fn empty_bounding_set() -> io::Result<()> {
    for number in 0..u64::BITS {
        match remove_capability_from_bounding_set(CapabilitySet::from_bits_retain(1 << number)) {
            Ok(()) => {}
            // Beyond the last capability that the kernel knows; or not permitted.
            Err(Errno::INVAL | Errno::PERM) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_thread_and_its_children_are_left_without_capabilities() {
        let status = std::thread::spawn(|| {
            drop_capabilities().unwrap();
            // Again, without what the first time needed.
            drop_capabilities().unwrap();
            std::thread::spawn(|| std::fs::read_to_string("/proc/thread-self/status").unwrap())
                .join()
                .unwrap()
        });
        let status = status.join().unwrap();
        let value = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim();
        for set in ["CapInh:", "CapPrm:", "CapEff:", "CapAmb:"] {
            assert_eq!(value(set), "0000000000000000", "{set}");
        }
        assert_eq!(value("NoNewPrivs:"), "1");
        if rustix::process::geteuid().is_root() {
            assert_eq!(value("CapBnd:"), "0000000000000000");
        }
    }

    #[test]
    fn root_without_capabilities_is_told_whose_folder_it_is() {
        if !rustix::process::geteuid().is_root() {
            return;
        }
        let (ours, others) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::fs::set_permissions(others.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(others.path(), Some(65534), None).unwrap();
        std::fs::create_dir(others.path().join("inside")).unwrap();
        demand_writable(others.path()).unwrap();
        let told = std::thread::scope(|scope| {
            let confined = scope.spawn(|| {
                drop_capabilities().unwrap();
                demand_writable(ours.path()).unwrap();
                // Its owner alone may look into it.
                let inside = demand_writable(&others.path().join("inside")).unwrap_err().to_string();
                [demand_writable(others.path()).unwrap_err().to_string(), inside]
            });
            confined.join().unwrap()
        });
        let expected = format!(
            "{} belongs to user 65534, and the target, which runs as user 0",
            others.path().display()
        );
        assert!(told.iter().all(|text| text.starts_with(&expected)), "{told:?}");
    }
}
