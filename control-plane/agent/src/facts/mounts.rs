//! File systems that are mounted, whether they have a journal, and loop devices over files of theirs.

use serde::Serialize;

use crate::root::Root;

/// A mounted file system.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FileSystem {
    /// Its kind, `ext4` say.
    pub(crate) kind: String,
    /// Where it is mounted first.
    pub(crate) mounted_at: String,
    /// The device that it lies on.
    pub(crate) device: String,
    /// For ext2, ext3 and ext4, whether it has a journal, and which data goes through it.
    pub(crate) journal: Journal,
}

/// What is known of a journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Journal {
    /// A kind of file system that is not asked for one.
    NotAsked,
    /// The kernel does not say.
    Unknown,
    /// There is none.
    Absent,
    /// There is one; `data=` where the kernel says so.
    Present(Option<String>),
}

/// A loop device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct LoopDevice {
    /// Its name.
    pub(crate) name: String,
    /// The file behind it.
    pub(crate) file: String,
    /// Whether it reads and writes the file by direct I/O.
    pub(crate) direct_io: Option<bool>,
}

/// Everything that is mounted.
#[derive(Debug)]
pub(super) struct Mounts {
    mounted: Vec<Mounted>,
}

#[derive(Debug)]
struct Mounted {
    numbers: String,
    file_system: FileSystem,
}

/// Reads the mount table of the first process, or of this one where that is not to be had.
pub(super) fn read(root: &Root) -> Mounts {
    let table = root.text("proc/1/mountinfo").or_else(|| root.text("proc/self/mountinfo"));
    let mounted = table.unwrap_or_default().lines().filter_map(|line| mounted(root, line)).collect();
    Mounts { mounted }
}

impl Mounts {
    /// File systems on devices with these numbers, each once.
    pub(super) fn on(&self, numbers: &[String]) -> Vec<FileSystem> {
        let mut found: Vec<FileSystem> = Vec::new();
        for one in self.mounted.iter().filter(|one| numbers.contains(&one.numbers)) {
            if found.iter().all(|known| known.device != one.file_system.device) {
                found.push(one.file_system.clone());
            }
        }
        found
    }

    /// Loop devices over files on devices with these numbers.
    pub(super) fn loops_on(&self, root: &Root, numbers: &[String]) -> Vec<LoopDevice> {
        let names = root.names("sys/block").into_iter().filter(|name| name.starts_with("loop"));
        names
            .filter_map(|name| {
                let file = root.text(&format!("sys/block/{name}/loop/backing_file"))?;
                let below = |one: &&Mounted| is_below(&file, &one.file_system.mounted_at);
                let deepest =
                    self.mounted.iter().filter(below).max_by_key(|one| one.file_system.mounted_at.len())?;
                let direct_io = root.flag(&format!("sys/block/{name}/loop/dio"));
                numbers.contains(&deepest.numbers).then_some(LoopDevice { name, file, direct_io })
            })
            .collect()
    }
}

/// `major:minor` of a device and its partitions.
pub(super) fn numbers(root: &Root, device: &str) -> Vec<String> {
    let folder = format!("sys/block/{device}");
    let partitions = root.names(&folder).into_iter().filter(|name| name.starts_with(device));
    let places = partitions.map(|name| format!("{folder}/{name}/dev"));
    std::iter::once(format!("{folder}/dev")).chain(places).filter_map(|place| root.text(&place)).collect()
}

/// A line of `mountinfo`: `ID PARENT MAJOR:MINOR ROOT POINT OPTIONS … - KIND SOURCE SUPER_OPTIONS`.
fn mounted(root: &Root, line: &str) -> Option<Mounted> {
    let (left, right) = line.split_once(" - ")?;
    let mut left = left.split(' ').skip(2);
    let (numbers, point) = (left.next()?.to_owned(), left.nth(1)?);
    let mut right = right.split(' ');
    let (kind, source) = (right.next()?.to_owned(), right.next()?);
    let device = source.rsplit('/').next()?.to_owned();
    let journal = journal(root, &kind, &device);
    Some(Mounted { numbers, file_system: FileSystem { kind, mounted_at: unescape(point), device, journal } })
}

/// The ext4 driver names the journal's thread, `<none>` without a journal; ext2 and ext3 are its business, too.
fn journal(root: &Root, kind: &str, device: &str) -> Journal {
    if !matches!(kind, "ext2" | "ext3" | "ext4") {
        return Journal::NotAsked;
    }
    match root.text(&format!("sys/fs/ext4/{device}/journal_task")).as_deref() {
        Some("<none>") => Journal::Absent,
        Some(_) => {
            let options = root.text(&format!("proc/fs/ext4/{device}/options")).unwrap_or_default();
            Journal::Present(options.lines().find_map(|line| line.strip_prefix("data=")).map(str::to_owned))
        }
        None => Journal::Unknown,
    }
}

/// Blanks and the like stand as three octal digits behind a backslash.
fn unescape(text: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(text.to_owned(), |text, (escape, plain)| text.replace(escape, plain))
}

fn is_below(file: &str, folder: &str) -> bool {
    match file.strip_prefix(folder) {
        Some(rest) => folder == "/" || rest.starts_with('/'),
        None => false,
    }
}
