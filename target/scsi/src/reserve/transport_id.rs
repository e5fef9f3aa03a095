//! Initiator ports in bytes. SPC-4 §7.6.4 "TransportID identifiers", §7.6.4.6 "TransportID for initiator ports using SCSI over
//! iSCSI".

use holdfast_block::reservations::{INITIATOR_NAME_LEN_MAX, InitiatorPort, Nexus as PortPair};

/// TPID FORMAT 00b: a name alone, for all ports of the initiator.
const DEVICE: u8 = 0x05;
/// TPID FORMAT 01b: one port, by its name and the session's ISID.
const PORT: u8 = 0x45;
/// PROTOCOL IDENTIFIER Fh: of no protocol that SCSI knows.
const OTHER: u8 = 0x0f;
/// What stands between the name and the ISID.
const SEPARATOR: &str = ",i,0x";
/// Before the name: format and protocol, reserved, ADDITIONAL LENGTH.
const HEADER_LEN: usize = 4;
/// Shortest ADDITIONAL LENGTH.
const NAME_LEN_MIN: usize = 20;

/// Whom a TransportID names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// One port.
    Port(InitiatorPort),
    /// All ports of the initiator of this name.
    Device(String),
}

/// Puts the TransportID of a nexus's initiator behind what `out` holds. That of an NVMe host holds its Host Identifier.
pub(super) fn put(nexus: &PortPair, out: &mut Vec<u8>) {
    match nexus {
        PortPair::Scsi { initiator, .. } => {
            let start = out.len();
            out.extend([PORT, 0, 0, 0]);
            out.extend(initiator.name().as_bytes());
            out.extend(SEPARATOR.as_bytes());
            out.extend(initiator.isid().iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
            // Ended by a zero, and padded.
            let name_len = out.len() - start - HEADER_LEN;
            let padded_len = (name_len + 1).next_multiple_of(4).max(NAME_LEN_MIN);
            out.resize(start + HEADER_LEN + padded_len, 0);
            let padded_len = u16::try_from(padded_len).unwrap_or(u16::MAX);
            if let Some(field) = out.get_mut(start + 2..start + HEADER_LEN) {
                field.copy_from_slice(&padded_len.to_be_bytes());
            }
        }
        PortPair::Nvme { host } => {
            out.extend([OTHER, 0, 0, 0, 0, 0, 0, 0]);
            out.extend(host);
        }
    }
}

/// Reads the TransportID at the begin of `bytes`; gives what follows it, too. `None`: it is none of iSCSI, or cut.
pub(super) fn read(bytes: &[u8]) -> Option<(Named, &[u8])> {
    let ([kind, _, high, low], rest) = bytes.split_first_chunk::<HEADER_LEN>()?;
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    if len < NAME_LEN_MIN || !len.is_multiple_of(4) {
        return None;
    }
    let (text, rest) = rest.split_at_checked(len)?;
    let end = text.iter().position(|byte| *byte == 0)?;
    let (text, padding) = text.split_at_checked(end)?;
    if padding.iter().any(|byte| *byte != 0) {
        return None;
    }
    // Names are compared as they are normalised: RFC 7143 §4.2.7.1 "iSCSI Name Properties".
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    let named = match *kind {
        PORT => {
            let (name, isid) = text.split_once(SEPARATOR)?;
            Named::Port(InitiatorPort::new(name, read_isid(isid)?)?)
        }
        DEVICE => {
            let fits = (1..=INITIATOR_NAME_LEN_MAX).contains(&text.len());
            Named::Device(fits.then_some(text)?)
        }
        _ => return None,
    };
    Some((named, rest))
}

/// Up to twelve hexadecimal digits.
fn read_isid(digits: &str) -> Option<[u8; 6]> {
    let fits = (1..=12).contains(&digits.len()) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let number = u64::from_str_radix(digits, 16).ok().filter(|_| fits)?;
    let [_, _, isid @ ..] = number.to_be_bytes();
    Some(isid)
}
