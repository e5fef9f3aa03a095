//! What Identify and the Discovery log say, as far as a host acts on it.
//!
//! NVM Express Base 2.1 §5.1.13 "Identify command" (Identify Controller), §5.1.12.3.1 "Discovery Log Page";
//! NVM Command Set 1.1 §4.1.5.1 "NVM Command Set Identify Namespace Data Structure" and §4.1.5.3 "I/O Command
//! Set specific Identify Namespace Data Structure" (ELBAF).

use crate::Error;
use crate::pi::{GuardKind, PiFormat};
use crate::wire::{le16, le32, le64};

/// Bytes of every Identify data structure.
pub(crate) const IDENTIFY_LEN: usize = 4096;

/// Identify Controller (CNS 01h), raw and by field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControllerData {
    /// All 4096 bytes.
    pub raw: Vec<u8>,
    /// Serial number, without trailing blanks.
    pub serial_number: String,
    /// Model number, without trailing blanks.
    pub model_number: String,
    /// Maximum Data Transfer Size as a power of two of 4 KiB units; 0 for none.
    pub mdts: u8,
    /// Controller ID.
    pub cntlid: u16,
    /// Version, as in the VS property.
    pub version: u32,
    /// Controller Attributes.
    pub ctratt: u32,
    /// Maximum Outstanding Commands; 0 when not said.
    pub maxcmd: u16,
    /// Number of Namespaces.
    pub namespaces_max: u32,
    /// Optional NVM Command Support.
    pub oncs: u16,
    /// Asynchronous Event Request Limit, 0's based.
    pub aerl: u8,
    /// Keep Alive Support, granularity in units of 100 ms.
    pub kas: u16,
    /// I/O Queue Command Capsule Supported Size in 16-byte units.
    pub ioccsz: u32,
    /// I/O Queue Response Capsule Supported Size in 16-byte units.
    pub iorcsz: u32,
    /// In Capsule Data Offset in 16-byte units.
    pub icdoff: u16,
    /// NVM Subsystem NVMe Qualified Name.
    pub subnqn: String,
}

impl ControllerData {
    /// From the data structure.
    ///
    /// # Errors
    /// When it is not 4096 bytes.
    pub fn parse(raw: &[u8]) -> Result<Self, Error> {
        let data = sized(raw)?;
        let parsed = || {
            Some(Self {
                raw: raw.to_vec(),
                serial_number: text(data.get(4..24)?),
                model_number: text(data.get(24..64)?),
                mdts: *data.get(77)?,
                cntlid: le16(data, 78)?,
                version: le32(data, 80)?,
                ctratt: le32(data, 96)?,
                maxcmd: le16(data, 514)?,
                namespaces_max: le32(data, 516)?,
                oncs: le16(data, 520)?,
                aerl: *data.get(259)?,
                kas: le16(data, 320)?,
                ioccsz: le32(data, 1792)?,
                iorcsz: le32(data, 1796)?,
                icdoff: le16(data, 1800)?,
                subnqn: text(data.get(768..1024)?),
            })
        };
        parsed().ok_or_else(|| short(raw))
    }

    /// Bytes of data that fit an I/O command capsule.
    #[must_use]
    pub fn in_capsule_max(&self) -> usize {
        usize::try_from(self.ioccsz).unwrap_or(0).saturating_mul(16).saturating_sub(64)
    }

    /// The most data of one command in bytes, `None` without a limit.
    #[must_use]
    pub fn transfer_max(&self) -> Option<u64> {
        if self.mdts == 0 { None } else { 4096_u64.checked_shl(self.mdts.into()) }
    }
}

/// How a namespace is formatted, from Identify Namespace (CNS 00h) and, for its guard, CNS 05h.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceFormat {
    /// NSZE: size in logical blocks.
    pub blocks: u64,
    /// Bytes of data in a logical block.
    pub block_size: usize,
    /// Bytes of metadata of a logical block.
    pub metadata_size: usize,
    /// Metadata is interleaved with the data (FLBAS bit 4).
    pub interleaved: bool,
    /// DPS bits 2:0: protection type, 0 for none.
    pub pi_type: u8,
    /// DPS bit 3: the tuple is the first bytes of the metadata.
    pub pi_first: bool,
    /// The guard (16b unless CNS 05h says otherwise).
    pub guard: GuardKind,
    /// Storage Tag Size in bits.
    pub storage_tag_bits: u8,
}

impl NamespaceFormat {
    /// From Identify Namespace and the NVM command set's own structure, where the target has that.
    ///
    /// # Errors
    /// When a structure is not 4096 bytes, or the format in use cannot be.
    pub fn parse(namespace: &[u8], command_set: Option<&[u8]>) -> Result<Self, Error> {
        let data = sized(namespace)?;
        let flbas = data.get(26).copied().unwrap_or(0);
        let dps = data.get(29).copied().unwrap_or(0);
        let index = usize::from(flbas & 0x0f | (flbas >> 5 & 0x03) << 4);
        let lbaf = le32(data, index.saturating_mul(4).saturating_add(128)).ok_or_else(|| short(namespace))?;
        let [ms_low, ms_high, lbads, _] = lbaf.to_le_bytes();
        if !(9..=16).contains(&lbads) {
            return Err(Error::unexpected("LBADS between 9 and 16", lbads.to_string()));
        }
        let elbaf = match command_set {
            None => 0,
            Some(raw) => {
                le32(sized(raw)?, index.saturating_mul(4).saturating_add(12)).ok_or_else(|| short(raw))?
            }
        };
        let [sts_pif, pif_high, ..] = elbaf.to_le_bytes();
        let guard = match sts_pif >> 7 | (pif_high & 1) << 1 {
            0 => GuardKind::Crc16,
            1 => GuardKind::Crc32c,
            2 => GuardKind::Crc64,
            _ => return Err(Error::unexpected("PIF 0, 1 or 2", format!("ELBAF {elbaf:#010x}"))),
        };
        Ok(Self {
            blocks: le64(data, 0).ok_or_else(|| short(namespace))?,
            block_size: 1_usize << lbads,
            metadata_size: usize::from(u16::from_le_bytes([ms_low, ms_high])),
            interleaved: flbas & 0x10 != 0,
            pi_type: dps & 0x07,
            pi_first: dps & 0x08 != 0,
            guard,
            storage_tag_bits: sts_pif & 0x7f,
        })
    }

    /// The tuple format.
    #[must_use]
    pub fn pi(&self) -> PiFormat {
        PiFormat { guard: self.guard, storage_tag_bits: self.storage_tag_bits }
    }

    /// Bytes on the wire for `blocks` whole blocks; with PRACT=1 the target makes and takes away the tuple, so
    /// metadata that is nothing but the tuple does not travel.
    #[must_use]
    pub fn wire_len(&self, blocks: usize, pract: bool) -> usize {
        let stripped = pract && self.pi_type != 0 && self.metadata_size == self.pi().tuple_len();
        let metadata = if self.interleaved && !stripped { self.metadata_size } else { 0 };
        blocks.saturating_mul(self.block_size.saturating_add(metadata))
    }
}

/// The Discovery log page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryLog {
    /// GENCTR.
    pub generation: u64,
    /// The entries.
    pub entries: Vec<DiscoveryEntry>,
}

/// One entry of the Discovery log page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiscoveryEntry {
    /// Transport type; 3 is TCP.
    pub trtype: u8,
    /// Address family; 1 is IPv4, 2 is IPv6.
    pub adrfam: u8,
    /// Subsystem type; 2 is an NVM subsystem, 3 the current discovery subsystem.
    pub subtype: u8,
    /// Transport requirements.
    pub treq: u8,
    /// Port ID.
    pub portid: u16,
    /// Controller ID (FFFFh: dynamic).
    pub cntlid: u16,
    /// Admin Max SQ Size.
    pub asqsz: u16,
    /// Transport service identifier: the port.
    pub trsvcid: String,
    /// NVM Subsystem Qualified Name.
    pub subnqn: String,
    /// Transport address.
    pub traddr: String,
}

impl DiscoveryLog {
    /// Bytes of the header, and of each entry.
    pub const ENTRY_LEN: usize = 1024;

    /// From the whole log page.
    ///
    /// # Errors
    /// When it is shorter than NUMREC says.
    pub fn parse(raw: &[u8]) -> Result<Self, Error> {
        let header = || Some((le64(raw, 0)?, le64(raw, 8)?));
        let (generation, count) = header().ok_or_else(|| short(raw))?;
        let entries: Vec<_> = raw
            .chunks_exact(Self::ENTRY_LEN)
            .skip(1)
            .take(usize::try_from(count).unwrap_or(usize::MAX))
            .filter_map(DiscoveryEntry::parse)
            .collect();
        if u64::try_from(entries.len()) == Ok(count) {
            Ok(Self { generation, entries })
        } else {
            Err(Error::unexpected(format!("{count} discovery entries"), format!("{} bytes", raw.len())))
        }
    }
}

impl DiscoveryEntry {
    fn parse(raw: &[u8]) -> Option<Self> {
        let [trtype, adrfam, subtype, treq, ..] = *raw else { return None };
        Some(Self {
            trtype,
            adrfam,
            subtype,
            treq,
            portid: le16(raw, 4)?,
            cntlid: le16(raw, 6)?,
            asqsz: le16(raw, 8)?,
            trsvcid: text(raw.get(32..64)?),
            subnqn: text(raw.get(256..512)?),
            traddr: text(raw.get(512..768)?),
        })
    }
}

fn sized(raw: &[u8]) -> Result<&[u8], Error> {
    if raw.len() == IDENTIFY_LEN { Ok(raw) } else { Err(short(raw)) }
}

fn short(raw: &[u8]) -> Error {
    Error::unexpected("a whole data structure", format!("{} bytes", raw.len()))
}

/// Text up to the first NUL, without trailing blanks.
fn text(bytes: &[u8]) -> String {
    let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pi_view_is_read_from_flbas_lbaf_and_dps() {
        let mut raw = vec![0; IDENTIFY_LEN];
        raw[0..8].copy_from_slice(&25600_u64.to_le_bytes());
        raw[26] = 0x11;
        raw[29] = 1;
        raw[132..136].copy_from_slice(&[8, 0, 12, 0]);
        let format = NamespaceFormat::parse(&raw, None).unwrap();
        assert_eq!((format.blocks, format.block_size, format.metadata_size), (25600, 4096, 8));
        assert!(format.interleaved && format.pi_type == 1 && !format.pi_first);
        assert_eq!((format.wire_len(2, false), format.wire_len(2, true)), (8208, 8192));
    }

    #[test]
    fn the_guard_kind_is_read_from_elbaf() {
        let mut raw = vec![0; IDENTIFY_LEN];
        raw[128..132].copy_from_slice(&[16, 0, 12, 0]);
        let mut set = vec![0; IDENTIFY_LEN];
        set[12..16].copy_from_slice(&(2_u32 << 7 | 48).to_le_bytes());
        let format = NamespaceFormat::parse(&raw, Some(&set)).unwrap();
        assert_eq!((format.guard, format.storage_tag_bits), (GuardKind::Crc64, 48));
    }

    #[test]
    fn a_discovery_log_that_is_cut_short_is_refused() {
        let mut raw = vec![0; 2048];
        raw[8] = 2;
        assert!(DiscoveryLog::parse(&raw).is_err());
        raw[8] = 1;
        raw[1024..1027].copy_from_slice(&[3, 1, 2]);
        raw[1024 + 32..1024 + 36].copy_from_slice(b"4420");
        let log = DiscoveryLog::parse(&raw).unwrap();
        assert_eq!((log.entries[0].trtype, log.entries[0].trsvcid.as_str()), (3, "4420"));
    }
}
