//! Who has a file or device that is in use: for people, who want to know whom to stop.

use std::fmt;

use rustix::fs::{Stat, major, minor};

/// Who has a backing, as far as this process can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Holder {
    /// A process that locked it, another target for one.
    Process {
        /// Its number.
        pid: u32,
        /// The name of its program, if it can be seen.
        name: Option<String>,
    },
    /// It is mounted.
    Mount {
        /// Where.
        place: String,
    },
    /// It cannot be seen.
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holder::Process { pid, name: Some(name) } => write!(f, "process {pid} ({name})"),
            Holder::Process { pid, name: None } => write!(f, "process {pid}"),
            Holder::Mount { place } => write!(f, "the system: it is mounted at {place}"),
            Holder::Unknown => write!(f, "another program, or as a part of a volume group, RAID or the like"),
        }
    }
}

impl Holder {
    /// Looks for who has the file or device of `stat`.
    pub(crate) fn find(stat: &Stat) -> Holder {
        let locks = std::fs::read_to_string("/proc/locks").unwrap_or_default();
        if let Some(pid) = locker(&locks, stat) {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok();
            return Holder::Process { pid, name: name.map(|name| name.trim_end().to_owned()) };
        }
        let mounts = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        match mounted_at(&mounts, stat) {
            Some(place) => Holder::Mount { place },
            None => Holder::Unknown,
        }
    }
}

/// The process that holds a flock(2) on the file, by the lines of `/proc/locks`:
/// `1: FLOCK  ADVISORY  WRITE 1234 08:02:5678 0 EOF`, device numbers in hexadecimal.
fn locker(locks: &str, stat: &Stat) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{}", major(stat.st_dev), minor(stat.st_dev), stat.st_ino);
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        match words.as_slice() {
            [_, "FLOCK", _, _, pid, place, ..] if *place == file => pid.parse().ok(),
            _ => None,
        }
    })
}

/// Where the block device is mounted, by the lines of `/proc/thread-self/mountinfo`: the third word is the device, the fifth
/// the place.
fn mounted_at(mounts: &str, stat: &Stat) -> Option<String> {
    let device = format!("{}:{}", major(stat.st_rdev), minor(stat.st_rdev));
    mounts.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(2);
        let of = words.next()?;
        let place = words.nth(1)?;
        (of == device).then(|| place.to_owned())
    })
}
