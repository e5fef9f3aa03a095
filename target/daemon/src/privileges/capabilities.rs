//! Capabilities, thread by thread. capabilities(7).

use std::io;

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
}
