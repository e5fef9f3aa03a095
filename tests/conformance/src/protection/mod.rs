//! Protection information on the wire. NVM Command Set 1.1 §5.3 "End-to-end Data Protection".
//!
//! Most rules hold for every format, so most cases are a rule on a [`Format`]: [`over_formats`] makes one of each.

use anyhow::{Context as _, Result, ensure};
use holdfast_testkit::pi::{self, PiFormat, Tags, Tuple};
use holdfast_testkit::{Io, Options, Queue, Session};

use crate::check::pattern;
use crate::fields::done;
use crate::{Case, Format, Guard, Lab, View};

mod compare;
mod copy;
mod deallocated;
mod escapes;
mod fused;
mod insert;
mod lengths;
mod long;
mod masks;
mod read;
mod rules;
mod verify;
mod views;
mod write;
mod zeroes;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[
    write::AS_SENT,
    write::CHECKED,
    write::GUARD,
    write::APP,
    write::REF,
    write::STORAGE,
    write::FIRST,
    read::GUARD,
    read::APP,
    read::REF,
    read::STORAGE,
    read::UNCHECKED,
    read::STRIPPED,
    insert::TUPLES,
    insert::UNCHECKED,
    insert::CASES,
    escapes::WRITES,
    escapes::READS,
    escapes::ALMOST,
    masks::APP,
    masks::STORAGE,
    masks::WRAP,
    compare::DATA,
    compare::HOST,
    compare::STORED,
    verify::GOOD,
    verify::BAD,
    zeroes::BARE,
    zeroes::MADE,
    zeroes::CASES,
    deallocated::DEALLOCATED,
    deallocated::MIXED,
    deallocated::UNWRITTEN,
    rules::REFERENCE,
    rules::STRIPPED,
    rules::CASES,
    lengths::SHORT,
    lengths::BARE,
    long::WRITES,
    long::READS,
    long::LONGEST,
    fused::DATA,
    fused::COMPARE,
    fused::WRITE,
    views::FROM_PLAIN,
    views::FROM_PI,
    views::BAD,
    views::CASES,
    copy::PASSED,
    copy::REPLACED,
    copy::CHECKED,
    copy::RANGES,
    copy::STORAGE,
    copy::CASES,
];

/// 512-byte blocks, 16-bit guards.
pub(crate) const fn small(pi_type: u8) -> Format {
    Format::new(512, pi_type, Guard::Crc16)
}

/// 4096-byte blocks, 16-bit guards.
pub(crate) const fn large(pi_type: u8) -> Format {
    Format::new(4096, pi_type, Guard::Crc16)
}

/// 32-bit guards.
pub(crate) const fn crc32c(pi_type: u8, storage_tag_bits: u8) -> Format {
    Format::new(4096, pi_type, Guard::Crc32c).storage_tag(storage_tag_bits)
}

/// 64-bit guards.
pub(crate) const fn crc64(pi_type: u8, storage_tag_bits: u8) -> Format {
    Format::new(4096, pi_type, Guard::Crc64).storage_tag(storage_tag_bits)
}

/// One case of each format: all types with both block sizes, and the wider guards with storage tags of several widths,
/// down to reference tags of 16 bits and of none.
macro_rules! over_formats {
    ($fact:literal, $clause:expr, $run:expr) => {{
        use $crate::protection::{crc32c, crc64, large, small};
        [
            Case { id: concat!($fact, ".t1-512"), clause: $clause, run: |lab| $run(lab, small(1)) },
            Case { id: concat!($fact, ".t2-512"), clause: $clause, run: |lab| $run(lab, small(2)) },
            Case { id: concat!($fact, ".t3-512"), clause: $clause, run: |lab| $run(lab, small(3)) },
            Case { id: concat!($fact, ".t1-4096"), clause: $clause, run: |lab| $run(lab, large(1)) },
            Case { id: concat!($fact, ".t2-4096"), clause: $clause, run: |lab| $run(lab, large(2)) },
            Case { id: concat!($fact, ".t3-4096"), clause: $clause, run: |lab| $run(lab, large(3)) },
            Case {
                id: concat!($fact, ".t1-crc32c-s16"),
                clause: $clause,
                run: |lab| $run(lab, crc32c(1, 16)),
            },
            Case {
                id: concat!($fact, ".t2-crc32c-s37"),
                clause: $clause,
                run: |lab| $run(lab, crc32c(2, 37)),
            },
            Case {
                id: concat!($fact, ".t3-crc32c-s64"),
                clause: $clause,
                run: |lab| $run(lab, crc32c(3, 64)),
            },
            Case { id: concat!($fact, ".t1-crc64-s0"), clause: $clause, run: |lab| $run(lab, crc64(1, 0)) },
            Case { id: concat!($fact, ".t2-crc64-s20"), clause: $clause, run: |lab| $run(lab, crc64(2, 20)) },
            Case { id: concat!($fact, ".t3-crc64-s24"), clause: $clause, run: |lab| $run(lab, crc64(3, 24)) },
            Case { id: concat!($fact, ".t1-crc64-s48"), clause: $clause, run: |lab| $run(lab, crc64(1, 48)) },
        ]
    }};
}

pub(crate) use over_formats;

/// The tags that a host here gives its blocks, cut to the format's widths.
const APP_TAG: u16 = 0x5a3c;
const STORAGE_TAG: u64 = 0xd1c2_b3a4_9586_7768;
const REF_TAG: u64 = 0x0102_0304_0506_0708;
/// Blocks of a command of several: one is bad in turn, the first, one in the middle, and the last.
const BLOCKS: u32 = 8;
const BAD_BLOCKS: [usize; 3] = [0, 3, 7];

/// A host that sees a volume of one format with its tuples.
pub(crate) struct Host {
    session: Session,
    format: Format,
    pi: PiFormat,
}

impl Host {
    /// Opens the PI view of the shared volume, LBAFEE on.
    pub(crate) fn open(lab: &mut Lab, format: Format) -> Result<Host> {
        let session = lab.open(format, View::Pi, Options::default())?;
        Host::on(session, format)
    }

    /// Takes a session of the PI view.
    pub(crate) fn on(mut session: Session, format: Format) -> Result<Host> {
        done(&session.admin().run(crate::features::host_behavior(&[(2, 1), (4, 0x0c)]))?)?;
        let found = session.namespace_format(1)?;
        ensure!(found.pi_type == format.pi_type && found.interleaved, "{found:?} is not {format:?}");
        Ok(Host { session, format, pi: found.pi() })
    }

    fn io(&mut self) -> &mut Queue {
        self.session.io(1)
    }

    fn block(&self) -> usize {
        self.format.block_len()
    }

    /// Bytes of a block with its tuple.
    fn stride(&self) -> usize {
        self.block() + self.pi.tuple_len()
    }

    /// Bytes on the wire for `blocks` blocks with tuples.
    fn len(&self, blocks: u32) -> usize {
        usize::try_from(blocks).unwrap_or(0) * self.stride()
    }

    fn has_storage_tag(&self) -> bool {
        self.pi.storage_tag_bits > 0
    }

    /// Reference tags are compared: there are some, and the type is not 3.
    fn checks_ref(&self) -> bool {
        self.format.pi_type != 3 && self.pi.ref_tag_bits() > 0
    }

    /// The reference tag of the first block at `lba`: the LBA for type 1, the host's own for the others.
    fn ref_tag(&self, lba: u64) -> u64 {
        let space = self.pi.space(0, if self.format.pi_type == 1 { lba } else { REF_TAG });
        u64::try_from(space).unwrap_or(u64::MAX)
    }

    fn tags(&self, lba: u64) -> Tags {
        let first = self.ref_tag(lba);
        let tags = if self.format.pi_type == 3 { Tags::constant(first) } else { Tags::counting(first) };
        tags.app(APP_TAG).storage(STORAGE_TAG)
    }

    /// A command that carries this host's tags, and checks nothing.
    fn at(&self, lba: u64, blocks: u32) -> Io {
        let space = self.pi.space(STORAGE_TAG, self.ref_tag(lba));
        Io::at(lba, blocks).storage_and_ref(space).app_tag(APP_TAG)
    }

    /// The same, and checks all that the format has.
    fn checked(&self, lba: u64, blocks: u32) -> Io {
        let io = self.at(lba, blocks).check_guard().check_app().check_storage();
        if self.checks_ref() { io.check_ref() } else { io }
    }

    /// Good blocks with this host's tags.
    fn blocks(&self, seed: u64, lba: u64, blocks: u32) -> Vec<u8> {
        let data = pattern(seed, self.block() * usize::try_from(blocks).unwrap_or(0));
        self.pi.protect(&data, self.block(), self.tags(lba))
    }

    /// The data of blocks with tuples.
    fn data_of(&self, blocks: &[u8]) -> Vec<u8> {
        pi::deinterleave(blocks, self.block(), self.pi.tuple_len()).0
    }

    /// Writes without checks; whatever the tuples are.
    fn store(&mut self, lba: u64, blocks: &[u8]) -> Result<()> {
        let count = u32::try_from(blocks.len() / self.stride())?;
        let io = self.at(lba, count);
        done(&self.io().write(1, &io, blocks)?).context("a write without checks")
    }

    /// Reads without checks.
    fn stored(&mut self, lba: u64, blocks: u32) -> Result<Vec<u8>> {
        let (io, len) = (Io::at(lba, blocks), self.len(blocks));
        let completion = self.io().read(1, &io, len)?;
        done(&completion).context("a read without checks")?;
        ensure!(completion.data.len() == len, "{} of {len} bytes", completion.data.len());
        Ok(completion.data)
    }

    /// Demands that these blocks are stored.
    fn holds(&mut self, lba: u64, expected: &[u8]) -> Result<()> {
        let blocks = u32::try_from(expected.len() / self.stride())?;
        let found = self.stored(lba, blocks)?;
        let differs =
            found.chunks(self.stride()).zip(expected.chunks(self.stride())).position(|(a, b)| a != b);
        ensure!(differs.is_none(), "block {} (from LBA {lba} on) is another one", differs.unwrap_or(0));
        Ok(())
    }

    fn tuple(&self, blocks: &[u8], index: usize) -> Result<Tuple> {
        self.pi.tuple_at(blocks, self.block(), index).with_context(|| format!("no tuple {index}"))
    }

    /// Changes one tuple.
    fn bend(&self, blocks: &mut [u8], index: usize, change: impl Fn(&mut Tuple)) -> Result<()> {
        let mut tuple = self.tuple(blocks, index)?;
        change(&mut tuple);
        let start = index * self.stride() + self.block();
        let bytes = self.pi.encode(&tuple);
        let place = blocks.get_mut(start..start + bytes.len()).context("no such block")?;
        place.copy_from_slice(&bytes);
        Ok(())
    }
}

/// How to make a tuple bad, and the status that says so.
#[derive(Debug, Clone, Copy)]
struct Fault {
    bend: fn(&mut Tuple),
    status: (u8, u8),
}

const BAD_GUARD: Fault =
    Fault { bend: |tuple| tuple.guard ^= 1, status: holdfast_testkit::wire::code::GUARD_CHECK };
const BAD_APP: Fault =
    Fault { bend: |tuple| tuple.app_tag ^= 0x0100, status: holdfast_testkit::wire::code::APP_TAG_CHECK };
const BAD_REF: Fault =
    Fault { bend: |tuple| tuple.ref_tag ^= 0x10, status: holdfast_testkit::wire::code::REF_TAG_CHECK };
const BAD_STORAGE: Fault = Fault {
    bend: |tuple| tuple.storage_tag ^= 0x20,
    status: holdfast_testkit::wire::code::STORAGE_TAG_CHECK,
};
