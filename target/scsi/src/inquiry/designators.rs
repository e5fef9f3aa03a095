//! What names a logical unit and its port. SPC-4 §7.8.6 "Device Identification VPD page".
//!
//! A volume has the same names through every target, transport and view: they come from its NGUID and UUID.

use holdfast_block::VolumeInfo;

use super::VENDOR;
use crate::ports::{GROUP, RELATIVE_PORT};

/// CODE SET: binary, ASCII, UTF-8.
const BINARY: u8 = 1;
const ASCII: u8 = 2;
const UTF8: u8 = 3;
/// DESIGNATOR TYPE.
const T10_VENDOR: u8 = 0x1;
const EUI64: u8 = 0x2;
const NAA: u8 = 0x3;
const RELATIVE: u8 = 0x4;
const PORT_GROUP: u8 = 0x5;
const SCSI_NAME: u8 = 0x8;
/// PIV, and ASSOCIATION with the target port; with the target device.
const OF_PORT: u8 = 0x90;
const OF_TARGET: u8 = 0xa0;
/// PROTOCOL IDENTIFIER of iSCSI, in the high half of the first byte.
const ISCSI: u8 = 0x50;

/// What a unit is named by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Designated<'a> {
    pub(crate) volume: &'a VolumeInfo,
    /// The target's name.
    pub(crate) target: &'a str,
}

impl Designated<'_> {
    /// Puts all designators behind what `out` holds.
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        descriptor(out, BINARY, NAA, &naa(self.volume));
        descriptor(out, BINARY, EUI64, &self.volume.nguid);
        let mut serial = VENDOR.to_vec();
        serial.extend(serial_number(self.volume).bytes());
        descriptor(out, ASCII, T10_VENDOR, &serial);
        let [high, low] = RELATIVE_PORT.to_be_bytes();
        descriptor(out, ISCSI | BINARY, OF_PORT | RELATIVE, &[0, 0, high, low]);
        let [high, low] = GROUP.to_be_bytes();
        descriptor(out, ISCSI | BINARY, OF_PORT | PORT_GROUP, &[0, 0, high, low]);
        let port = format!("{},t,0x{GROUP:04x}", self.target);
        descriptor(out, ISCSI | UTF8, OF_PORT | SCSI_NAME, &name_string(&port));
        descriptor(out, ISCSI | UTF8, OF_TARGET | SCSI_NAME, &name_string(self.target));
    }
}

/// Whether this designator, of this code set and type, is one of the volume's.
pub(crate) fn is_named(volume: &VolumeInfo, (set, kind): (u8, u8), designator: &[u8]) -> bool {
    match (set, kind) {
        (BINARY, NAA) => designator == naa(volume),
        (BINARY, EUI64) => designator == volume.nguid,
        _ => false,
    }
}

/// NAA 3h, locally assigned: 60 bits of the NGUID, those that differ first.
pub(crate) fn naa(volume: &VolumeInfo) -> [u8; 8] {
    let [.., a, b, c, d, e, f, g, h] = volume.nguid;
    [0x30 | (a & 0x0f), b, c, d, e, f, g, h]
}

/// The UUID in hexadecimal digits.
pub(crate) fn serial_number(volume: &VolumeInfo) -> String {
    volume.uuid.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// §7.8.6.9 "SCSI name string designator format": ended and padded with zeroes to a multiple of four bytes.
fn name_string(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize((bytes.len() + 1).next_multiple_of(4), 0);
    bytes
}

fn descriptor(out: &mut Vec<u8>, set: u8, kind: u8, designator: &[u8]) {
    out.extend([set, kind, 0, u8::try_from(designator.len()).unwrap_or(u8::MAX)]);
    out.extend(designator);
}
