//! What lasts over a restart, in bytes. SPC-4 5.13.5.1 "Preserving persistent reservations and registrations through power
//! loss".
//!
//! Little endian: `HFPR`, version (1), type (0 for no reservation), the holder's place (FFFFh for none), the number of
//! registrations (2 bytes), each registration, CRC-64 of all before. A registration is a key (8), a tag, and for an
//! NVMe host (2) its identifier (16), for a SCSI nexus (1) subsystem (8), relative port (2), ISID (6), the name's length
//! (1), the name. Registrations are in the order of their nexuses; PRgeneration and RESERVE (6) do not last.

use holdfast_pi::{GuardKind, guard_of};

use super::{
    Held, INITIATOR_NAME_LEN_MAX, InitiatorPort, Keep, Key, Nexus, REGISTRATIONS_MAX, Registration,
    ReservationType, Reservations, TargetPort,
};
use crate::SubsystemId;

const MAGIC: [u8; 4] = *b"HFPR";
const VERSION: u8 = 1;
const NO_HOLDER: u16 = 0xffff;
const SCSI: u8 = 1;
const NVME: u8 = 2;
const HEADER_LEN: usize = MAGIC.len() + 1 + 1 + 2 + 2;
const CHECKSUM_LEN: usize = 8;
const REGISTRATION_LEN_MAX: usize = 8 + 1 + 8 + 2 + 6 + 1 + INITIATOR_NAME_LEN_MAX;

/// Bytes of the longest value that is to be kept for a volume.
pub const KEPT_LEN_MAX: usize = HEADER_LEN + REGISTRATIONS_MAX * REGISTRATION_LEN_MAX + CHECKSUM_LEN;

/// Why what was kept cannot be taken up again. [`Reservations::lost`] says so to the hosts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// The bytes are not those that were written.
    #[error("what was kept of reservations is damaged")]
    Damaged,
    /// Written by a later release.
    #[error("what was kept of reservations is of version {0}, which is not known here")]
    Version(u8),
    /// The bytes are as they were written, and make no sense.
    #[error("what was kept of reservations contradicts itself")]
    Senseless,
}

impl Reservations {
    /// Takes up what was kept before a restart. What does not last is as after a power on.
    pub fn restore(kept: &[u8]) -> Result<Self, KeptError> {
        if kept.len() > KEPT_LEN_MAX {
            return Err(KeptError::Damaged);
        }
        let (body, checksum) = kept.split_last_chunk::<CHECKSUM_LEN>().ok_or(KeptError::Damaged)?;
        if guard_of(GuardKind::Crc64, body) != u64::from_le_bytes(*checksum) {
            return Err(KeptError::Damaged);
        }
        let mut reader = Reader(body);
        if reader.array() != Some(MAGIC) {
            return Err(KeptError::Damaged);
        }
        match reader.byte() {
            Some(VERSION) => reader.reservations().ok_or(KeptError::Senseless),
            Some(version) => Err(KeptError::Version(version)),
            None => Err(KeptError::Damaged),
        }
    }

    /// What has to be kept after this has taken the place of `before`.
    pub(super) fn to_keep_after(&self, before: &Reservations) -> Keep {
        let unchanged = self.lasting == before.lasting
            && self.lost == before.lost
            && (!self.lasting || (self.held == before.held && self.registrations == before.registrations));
        match (unchanged, self.lasting) {
            (true, _) => Keep::AsIs,
            (false, true) => Keep::Value(self.to_kept()),
            (false, false) => Keep::Nothing,
        }
    }

    fn to_kept(&self) -> Vec<u8> {
        let holder = self.held.as_ref().and_then(|held| held.holder.as_ref());
        let place = holder.and_then(|holder| self.place_of(holder).ok()).map_or(NO_HOLDER, to_u16);
        let mut bytes = Vec::with_capacity(HEADER_LEN + CHECKSUM_LEN + self.registrations.len() * 64);
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.push(self.held.as_ref().map_or(0, |held| code_of(held.kind)));
        bytes.extend_from_slice(&place.to_le_bytes());
        bytes.extend_from_slice(&to_u16(self.registrations.len()).to_le_bytes());
        for Registration { nexus, key } in &self.registrations {
            bytes.extend_from_slice(&key.get().to_le_bytes());
            put_nexus(&mut bytes, nexus);
        }
        let checksum = guard_of(GuardKind::Crc64, &bytes);
        bytes.extend_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

fn put_nexus(bytes: &mut Vec<u8>, nexus: &Nexus) {
    match nexus {
        Nexus::Scsi { initiator, target } => {
            bytes.push(SCSI);
            bytes.extend_from_slice(&target.subsystem.get().to_le_bytes());
            bytes.extend_from_slice(&target.relative.to_le_bytes());
            bytes.extend_from_slice(&initiator.isid());
            // Lossless: names are at most 223 bytes long.
            bytes.push(u8::try_from(initiator.name().len()).unwrap_or(u8::MAX));
            bytes.extend_from_slice(initiator.name().as_bytes());
        }
        Nexus::Nvme { host } => {
            bytes.push(NVME);
            bytes.extend_from_slice(host);
        }
    }
}

/// Lossless for places and numbers of registrations.
fn to_u16(number: usize) -> u16 {
    const { assert!(REGISTRATIONS_MAX < NO_HOLDER as usize) };
    u16::try_from(number).unwrap_or(NO_HOLDER)
}

fn code_of(kind: ReservationType) -> u8 {
    match kind {
        ReservationType::WriteExclusive => 1,
        ReservationType::ExclusiveAccess => 2,
        ReservationType::WriteExclusiveRegistrantsOnly => 3,
        ReservationType::ExclusiveAccessRegistrantsOnly => 4,
        ReservationType::WriteExclusiveAllRegistrants => 5,
        ReservationType::ExclusiveAccessAllRegistrants => 6,
    }
}

/// What has not been read yet.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn reservations(&mut self) -> Option<Reservations> {
        let code = self.byte()?;
        let place = u16::from_le_bytes(self.array()?);
        let count = usize::from(u16::from_le_bytes(self.array()?));
        if count > REGISTRATIONS_MAX {
            return None;
        }
        let registrations: Vec<_> = (0..count).map(|_| self.registration()).collect::<Option<_>>()?;
        let ordered = registrations.is_sorted_by(|one, next| one.nexus < next.nexus);
        if !ordered || !self.0.is_empty() {
            return None;
        }
        let holder = registrations.get(usize::from(place)).map(|holder| holder.nexus.clone());
        let kind = ReservationType::ALL.into_iter().find(|kind| code_of(*kind) == code);
        let held = match (kind, &holder) {
            (None, None) if code == 0 && place == NO_HOLDER => None,
            (Some(kind), None) if kind.is_all_registrants() && place == NO_HOLDER => Some(kind),
            (Some(kind), Some(_)) if !kind.is_all_registrants() => Some(kind),
            _ => return None,
        };
        if held.is_some() && registrations.is_empty() {
            return None;
        }
        let held = held.map(|kind| Held { kind, holder });
        Some(Reservations { lasting: true, registrations, held, ..Reservations::default() })
    }

    fn registration(&mut self) -> Option<Registration> {
        let key = Key::new(u64::from_le_bytes(self.array()?))?;
        let nexus = match self.byte()? {
            SCSI => {
                let subsystem = SubsystemId::new(u64::from_le_bytes(self.array()?))?;
                let relative = u16::from_le_bytes(self.array()?);
                let isid = self.array()?;
                let len = usize::from(self.byte()?);
                let name = std::str::from_utf8(self.bytes(len)?).ok()?;
                let initiator = InitiatorPort::new(name, isid)?;
                Nexus::Scsi { initiator, target: TargetPort { subsystem, relative } }
            }
            NVME => Nexus::Nvme { host: self.array()? },
            _ => return None,
        };
        Some(Registration { nexus, key })
    }

    fn byte(&mut self) -> Option<u8> {
        let [byte] = self.array()?;
        Some(byte)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*array)
    }

    fn bytes(&mut self, len: usize) -> Option<&[u8]> {
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }
}
