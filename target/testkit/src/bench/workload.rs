//! Which command comes next, and what a command looks like on the wire.
//!
//! Everything that can be prepared is: headers are templates in which identifier, address and tags are filled
//! in; write data with its tuples lies ready for each slot, so that only reference tags change with the LBA.

use anyhow::{Result, bail, ensure};
use holdfast_testkit::NamespaceFormat;
use holdfast_testkit::pi::{GuardKind, PiFormat, Tags};
use holdfast_testkit::wire::{Sqe, opcode};

use crate::args::{Pattern, PiMode, RunArguments};

/// Read or write, or what makes a write durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Op {
    Read,
    Write,
    /// Follows a write, and counts with it as one.
    Flush,
}

/// What is fixed for the whole run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) nsid: u32,
    pub(crate) format: NamespaceFormat,
    pub(crate) pi: PiMode,
    /// Logical blocks of one command.
    pub(crate) io_blocks: usize,
    /// Bytes of data of one command, without metadata.
    pub(crate) io_data_bytes: usize,
    /// Bytes of one command on the wire.
    pub(crate) io_wire_bytes: usize,
    /// How many commands' worth of blocks the area has.
    pub(crate) units: u64,
    pub(crate) pattern: Pattern,
    pub(crate) read_percent: u8,
    pub(crate) seed: u64,
    pub(crate) verify: bool,
    /// A Flush follows each write.
    pub(crate) flush: bool,
}

impl Plan {
    /// Holds what was asked for against what the namespace is.
    pub(crate) fn new(args: &RunArguments, format: NamespaceFormat) -> Result<Self> {
        let io_data_bytes = usize::try_from(args.block_size.0)?;
        ensure!(
            io_data_bytes.is_multiple_of(format.block_size),
            "--block-size {io_data_bytes} is not a multiple of the namespace's blocks of {} bytes",
            format.block_size
        );
        let io_blocks = io_data_bytes / format.block_size;
        ensure!(io_blocks <= 65_536, "--block-size is more than the 65536 blocks of one command");
        let has_pi = format.pi_type != 0;
        match args.pi {
            PiMode::Off if format.metadata_size != 0 => {
                bail!(
                    "this view of the namespace has {} bytes of metadata a block: use --pi",
                    format.metadata_size
                )
            }
            PiMode::Pract | PiMode::EndToEnd if !has_pi => {
                bail!("this view of the namespace has no protection information: use --pi off")
            }
            PiMode::Pract | PiMode::EndToEnd if format.metadata_size != format.pi().tuple_len() => {
                bail!("metadata of {} bytes is more than the tuple", format.metadata_size)
            }
            PiMode::EndToEnd if !format.interleaved => bail!("metadata is not interleaved with the data"),
            PiMode::Off | PiMode::Pract | PiMode::EndToEnd => {}
        }
        ensure!(!args.verify || args.pi == PiMode::EndToEnd, "--verify needs --pi end-to-end");
        let namespace_bytes = format.blocks.saturating_mul(u64::try_from(format.block_size)?);
        let span = args.span.map_or(namespace_bytes, |span| span.0);
        ensure!(span <= namespace_bytes, "--span {span} is beyond the namespace's {namespace_bytes} bytes");
        let units = span / args.block_size.0;
        ensure!(units >= u64::from(args.queues), "the area is too small for one command on each queue");
        Ok(Self {
            nsid: args.nsid,
            format,
            pi: args.pi,
            io_blocks,
            io_data_bytes,
            io_wire_bytes: format.wire_len(io_blocks, args.pi == PiMode::Pract),
            units,
            pattern: args.pattern,
            read_percent: args.mix.0,
            seed: args.seed,
            verify: args.verify,
            flush: args.flush,
        })
    }

    /// The first block of unit `unit`.
    pub(crate) fn slba(&self, unit: u64) -> u64 {
        unit.saturating_mul(u64::try_from(self.io_blocks).unwrap_or(0))
    }

    /// The entry of a command, all but CID, SLBA and tags. `sgl_in_capsule` says where write data is.
    pub(crate) fn sqe(&self, op: Op, sgl_in_capsule: bool) -> Sqe {
        const PRACT: u32 = 1 << 29;
        const CHECK_GUARD: u32 = 1 << 28;
        const CHECK_REF: u32 = 1 << 26;
        let checks = if self.format.pi_type == 3 { CHECK_GUARD } else { CHECK_GUARD | CHECK_REF };
        let prinfo = match self.pi {
            PiMode::Off => 0,
            PiMode::Pract => PRACT | checks,
            PiMode::EndToEnd => checks,
        };
        let code = match op {
            Op::Read => opcode::READ,
            Op::Write => opcode::WRITE,
            Op::Flush => return Sqe::new(opcode::FLUSH).with_nsid(self.nsid),
        };
        let nlb = u32::try_from(self.io_blocks.saturating_sub(1)).unwrap_or(u32::MAX);
        let len = u32::try_from(self.io_wire_bytes).unwrap_or(u32::MAX);
        let sqe = Sqe::new(code).with_nsid(self.nsid).cdw(12, prinfo | nlb);
        if sgl_in_capsule && op == Op::Write { sqe.sgl_in_capsule(0, len) } else { sqe.sgl_transport(len) }
    }

    /// The reference tag that belongs to a block: its low LBA bits, or all ones for type 3.
    pub(crate) fn ref_tag(&self, lba: u64) -> u64 {
        let bits = u32::from(self.format.pi().ref_tag_bits());
        let mask = u64::MAX.checked_shr(64_u32.saturating_sub(bits)).unwrap_or(0);
        if self.format.pi_type == 3 { mask } else { lba & mask }
    }

    /// Write data of one slot: pseudo-random blocks, with tuples for LBA 0 where they travel.
    pub(crate) fn payload(&self, random: &mut Random) -> Vec<u8> {
        let mut data = Vec::with_capacity(self.io_data_bytes.saturating_add(8));
        while data.len() < self.io_data_bytes {
            data.extend_from_slice(&random.next().to_le_bytes());
        }
        data.truncate(self.io_data_bytes);
        if self.pi != PiMode::EndToEnd {
            return data;
        }
        let tags = if self.format.pi_type == 3 { Tags::constant(self.ref_tag(0)) } else { Tags::counting(0) };
        self.format.pi().protect(&data, self.format.block_size, tags)
    }

    /// Puts the reference tags of blocks from `slba` on into interleaved write data.
    pub(crate) fn stamp(&self, payload: &mut [u8], slba: u64) {
        if self.pi != PiMode::EndToEnd || self.format.pi_type == 3 {
            return;
        }
        let pi = self.format.pi();
        let stride = self.format.block_size.saturating_add(pi.tuple_len()).max(1);
        let tag_len = ref_field_len(pi);
        let mut lba = slba;
        for block in payload.chunks_exact_mut(stride) {
            let tag = self.ref_tag(lba).to_be_bytes();
            let at = block.len().saturating_sub(tag_len);
            if let (Some(field), Some(tag)) =
                (block.get_mut(at..), tag.get(8_usize.saturating_sub(tag_len)..))
            {
                field.copy_from_slice(tag);
            }
            lba = lba.wrapping_add(1);
        }
    }

    /// The first block of read data (from `slba` on) whose guard or reference tag is wrong. Tuples with
    /// application tag FFFFh (deallocated blocks have it) are not looked at.
    pub(crate) fn first_bad_block(&self, data: &[u8], slba: u64) -> Option<u64> {
        let pi = self.format.pi();
        let stride = self.format.block_size.saturating_add(pi.tuple_len()).max(1);
        let mut lba = slba;
        for block in data.chunks_exact(stride) {
            let (data, tuple) = block.split_at_checked(self.format.block_size)?;
            let Some(tuple) = pi.parse(tuple) else { return Some(lba) };
            let ref_ok = self.format.pi_type == 3 || tuple.ref_tag == self.ref_tag(lba);
            if tuple.app_tag != 0xffff && !(ref_ok && tuple.guard == fast_guard(pi, data)) {
                return Some(lba);
            }
            lba = lba.wrapping_add(1);
        }
        None
    }
}

/// Which unit a queue uses next, and whether to read or to write it.
#[derive(Debug)]
pub(crate) enum Feed {
    /// The measured load, without end.
    Load { random: Random, pattern: Pattern, read_percent: u8, first: u64, units: u64, at: u64 },
    /// Every unit from `at` to `end`, written once.
    Fill { at: u64, end: u64 },
}

impl Feed {
    /// No command at all.
    pub(crate) fn nothing() -> Self {
        Self::Fill { at: 0, end: 0 }
    }

    /// The measured load of queue `index` of `count`: random over the whole area, or sequential in a part of it.
    pub(crate) fn load(plan: &Plan, index: u64, count: u64) -> Self {
        let (first, units) = match plan.pattern {
            Pattern::Random => (0, plan.units),
            Pattern::Sequential => part(plan.units, index, count),
        };
        let random = Random::new(plan.seed.wrapping_add(index.wrapping_mul(0x5851_f42d_4c95_7f2d)));
        Self::Load { random, pattern: plan.pattern, read_percent: plan.read_percent, first, units, at: 0 }
    }

    /// This queue's part of the area, written once.
    pub(crate) fn fill(plan: &Plan, index: u64, count: u64) -> Self {
        let (first, units) = part(plan.units, index, count);
        Self::Fill { at: first, end: first.saturating_add(units) }
    }

    /// The next command; `None` when a fill has come to its end.
    pub(crate) fn next(&mut self) -> Option<(Op, u64)> {
        match self {
            Self::Fill { at, end } => {
                let unit = *at;
                *at = at.saturating_add(1);
                (unit < *end).then_some((Op::Write, unit))
            }
            Self::Load { random, pattern, read_percent, first, units, at } => {
                let unit = match pattern {
                    Pattern::Random => random.below(*units),
                    Pattern::Sequential => {
                        let unit = *at;
                        *at = if unit.saturating_add(1) >= *units { 0 } else { unit.saturating_add(1) };
                        unit
                    }
                };
                let read = match *read_percent {
                    0 => false,
                    100.. => true,
                    percent => random.below(100) < percent.into(),
                };
                Some((if read { Op::Read } else { Op::Write }, first.saturating_add(unit)))
            }
        }
    }
}

/// Part `index` of `count` of the area, as first unit and number of units.
fn part(units: u64, index: u64, count: u64) -> (u64, u64) {
    let each = units / count.max(1);
    let first = each.saturating_mul(index);
    let last = index.saturating_add(1) >= count;
    (first, if last { units.saturating_sub(first) } else { each })
}

/// SplitMix64: small, quick, and the same sequence for the same seed.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = self.0;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        value ^ (value >> 31)
    }

    /// A number below `bound` (0 for a bound of 0).
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        u64::try_from((u128::from(self.next()) * u128::from(bound)) >> 64).unwrap_or(0)
    }
}

/// Bytes of the tuple's tail that the reference tag may take: the format's space, at most 64 bits.
fn ref_field_len(pi: PiFormat) -> usize {
    match pi.guard {
        GuardKind::Crc16 => 4,
        GuardKind::Crc32c => 8,
        GuardKind::Crc64 => 6,
    }
}

fn fast_guard(pi: PiFormat, block: &[u8]) -> u64 {
    use crc_fast::{CrcAlgorithm, checksum};
    match pi.guard {
        GuardKind::Crc16 => checksum(CrcAlgorithm::Crc16T10Dif, block),
        GuardKind::Crc32c => checksum(CrcAlgorithm::Crc32Iscsi, block),
        GuardKind::Crc64 => checksum(CrcAlgorithm::Crc64Nvme, block),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::collections::BTreeSet;

    pub(crate) fn plan(pi: PiMode, pi_type: u8, guard: GuardKind) -> Plan {
        let metadata_size = match guard {
            GuardKind::Crc16 => 8,
            GuardKind::Crc32c | GuardKind::Crc64 => 16,
        };
        let format = NamespaceFormat {
            blocks: 1000,
            block_size: 4096,
            metadata_size,
            interleaved: true,
            pi_type,
            pi_first: false,
            guard,
            storage_tag_bits: if guard == GuardKind::Crc32c { 16 } else { 0 },
        };
        Plan {
            nsid: 1,
            format,
            pi,
            io_blocks: 2,
            io_data_bytes: 8192,
            io_wire_bytes: format.wire_len(2, pi == PiMode::Pract),
            units: 500,
            pattern: Pattern::Random,
            read_percent: 50,
            seed: 1,
            verify: false,
            flush: false,
        }
    }

    #[test]
    fn stamped_payload_verifies_at_its_address_and_nowhere_else() {
        for guard in [GuardKind::Crc16, GuardKind::Crc32c, GuardKind::Crc64] {
            let plan = plan(PiMode::EndToEnd, 1, guard);
            let mut payload = plan.payload(&mut Random::new(3));
            assert_eq!(payload.len(), plan.io_wire_bytes);
            plan.stamp(&mut payload, 0x1_0000_0004);
            assert_eq!(plan.first_bad_block(&payload, 0x1_0000_0004), None);
            assert_eq!(plan.first_bad_block(&payload, 7), Some(7));
        }
    }

    #[test]
    fn a_flipped_bit_is_found_in_its_block() {
        let plan = plan(PiMode::EndToEnd, 3, GuardKind::Crc16);
        let mut payload = plan.payload(&mut Random::new(3));
        payload[4096 + 8 + 100] ^= 4;
        assert_eq!(plan.first_bad_block(&payload, 40), Some(41));
    }

    #[test]
    fn a_fill_writes_every_unit_once() {
        let plan = plan(PiMode::Off, 0, GuardKind::Crc16);
        let mut units = Vec::new();
        for index in 0..3 {
            let mut feed = Feed::fill(&plan, index, 3);
            while let Some((op, unit)) = feed.next() {
                assert_eq!(op, Op::Write);
                units.push(unit);
            }
        }
        assert_eq!(units.len(), 500);
        assert_eq!(units.into_iter().collect::<BTreeSet<_>>(), (0..500).collect());
    }

    #[test]
    fn random_load_stays_in_the_area_and_mixes() {
        let mut feed = Feed::load(&plan(PiMode::Off, 0, GuardKind::Crc16), 0, 1);
        let commands: Vec<_> = (0..1000).filter_map(|_| feed.next()).collect();
        assert!(commands.iter().all(|(_, unit)| *unit < 500));
        let reads = commands.iter().filter(|(op, _)| *op == Op::Read).count();
        assert!((400..600).contains(&reads));
    }

    #[test]
    fn prinfo_follows_the_mode_and_the_type() {
        let dword = |pi, pi_type| plan(pi, pi_type, GuardKind::Crc16).sqe(Op::Read, true).dword(12);
        assert_eq!(dword(PiMode::Pract, 1), 0x3400_0001);
        assert_eq!(dword(PiMode::EndToEnd, 2), 0x1400_0001);
        assert_eq!(dword(PiMode::EndToEnd, 3), 0x1000_0001);
        assert_eq!(dword(PiMode::Off, 0), 1);
    }
}
