//! The archive that carries a job into a guest: `newc` cpio, the format that the kernel unpacks from an initramfs.
//! Linux `Documentation/driver-api/early-userspace/buffer-format.rst`, "initramfs buffer format".
//!
//! The kernel unpacks archives that follow each other in one initramfs, each on a four-byte boundary, and later
//! files replace earlier ones. So a job needs neither a disk nor a network to come in.

use std::io::{self, Write};

/// `S_IFDIR` and `S_IFREG`, with the permissions that guests need (everything runs as root).
const DIRECTORY_MODE: u32 = 0o040_755;
const FILE_MODE: u32 = 0o100_755;
/// Names and contents start on four-byte boundaries.
const ALIGNMENT: usize = 4;

/// Writes one archive; [`Archive::finish`] ends it.
pub(crate) struct Archive<W> {
    out: W,
    inode: u32,
}

impl<W: Write> Archive<W> {
    /// `out` stands on a four-byte boundary.
    pub(crate) fn new(out: W) -> Archive<W> {
        Archive { out, inode: 0 }
    }

    /// A directory; its parents must be there already.
    pub(crate) fn directory(&mut self, name: &str) -> io::Result<()> {
        self.entry(name, DIRECTORY_MODE, &[])
    }

    /// A file; its directory must be there already.
    pub(crate) fn file(&mut self, name: &str, content: &[u8]) -> io::Result<()> {
        self.entry(name, FILE_MODE, content)
    }

    /// The end mark. An archive without it is unpacked too, but what follows it would not be.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.entry("TRAILER!!!", 0, &[])?;
        self.out.flush()
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> io::Result<()> {
        let size = u32::try_from(content.len()).map_err(io::Error::other)?;
        let name_size = u32::try_from(name.len().saturating_add(1)).map_err(io::Error::other)?;
        self.inode = self.inode.saturating_add(1);
        let (inode, links, zero) = (self.inode, 1u32, 0u32);
        // Magic, inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name's size, check.
        let header = format!(
            "070701{inode:08x}{mode:08x}{zero:08x}{zero:08x}{links:08x}{zero:08x}{size:08x}\
             {zero:08x}{zero:08x}{zero:08x}{zero:08x}{name_size:08x}{zero:08x}"
        );
        self.out.write_all(header.as_bytes())?;
        self.out.write_all(name.as_bytes())?;
        self.out.write_all(&[0])?;
        self.pad(header.len() + name.len() + 1)?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, written: usize) -> io::Result<()> {
        let missing = written.next_multiple_of(ALIGNMENT) - written;
        self.out.write_all([0u8; ALIGNMENT].get(..missing).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_aligned_and_end_with_the_trailer() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.directory("job").unwrap();
        archive.file("job/a", b"hello").unwrap();
        archive.finish().unwrap();
        assert_eq!(bytes.len() % ALIGNMENT, 0);
        let starts: Vec<usize> = (0..bytes.len() - 5).filter(|&at| &bytes[at..at + 6] == b"070701").collect();
        assert_eq!(starts.len(), 3);
        assert!(starts.iter().all(|at| at % ALIGNMENT == 0));
        // 110 bytes of header, "job/a" and its NUL are 116; the content follows at once.
        assert_eq!(&bytes[starts[1] + 116..starts[1] + 121], b"hello");
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
