//! What PERSISTENT RESERVE IN shows. SPC-4 §6.15.2 "READ KEYS service action", §6.15.3 "READ RESERVATION service action",
//! §6.15.4 "REPORT CAPABILITIES service action", §6.15.5 "READ FULL STATUS service action".

use holdfast_block::reservations::{Nexus as PortPair, Registrant, Report, ReservationType};

use super::list::code_of;
use super::transport_id;

/// TMV with ALLOW COMMANDS 011b: TEST UNIT READY passes all types, and MODE SENSE, RECEIVE COPY RESULTS and the like pass those
/// that only keep others from writing.
const ALLOWED: u8 = 0x80 | 0b011 << 4;

pub(super) fn put_keys(report: Report<'_>, out: &mut Vec<u8>) {
    with_header(report, out, |out| report.keys().for_each(|key| out.extend(key.get().to_be_bytes())));
}

pub(super) fn put_reservation(report: Report<'_>, out: &mut Vec<u8>) {
    with_header(report, out, |out| {
        let Some((key, kind)) = report.reservation() else { return };
        out.extend(key.map_or(0, |key| key.get()).to_be_bytes());
        // Obsolete, reserved, then scope and type, and obsolete again.
        out.extend([0, 0, 0, 0, 0, code_of(kind), 0, 0]);
    });
}

pub(super) fn put_capabilities(report: Report<'_>, out: &mut Vec<u8>) {
    let can = report.capabilities();
    let flags = [
        (can.replaces_lost, 7),
        (can.compatible_handling, 4),
        (can.specifies_initiator_ports, 3),
        (can.all_target_ports, 2),
        (can.can_last, 0),
    ];
    let flags = flags.into_iter().fold(0, |flags, (can, bit)| flags | u8::from(can) << bit);
    // PERSISTENT RESERVATION TYPE MASK: bit n of its first byte is type n, bit 0 of the second type 8.
    let mask = can.types.iter().fold(0_u16, |mask, kind| mask | 1 << code_of(*kind)).to_le_bytes();
    out.extend([0, 8, flags, ALLOWED | u8::from(can.lasting)]);
    out.extend(mask);
    out.extend([0, 0]);
}

pub(super) fn put_full_status(report: Report<'_>, out: &mut Vec<u8>) {
    with_header(report, out, |out| {
        report.registrants().for_each(|registrant| put_registrant(&registrant, out))
    });
}

fn put_registrant(registrant: &Registrant<'_>, out: &mut Vec<u8>) {
    let Registrant { nexus, key, holds } = *registrant;
    out.extend(key.get().to_be_bytes());
    // R_HOLDER, and scope and type of what it holds. Registrations are listed by port: ALL_TG_PT is zero.
    let (holder, kind) = holds.map_or((0, 0), |kind: ReservationType| (1, code_of(kind)));
    out.extend([0, 0, 0, 0, holder, kind, 0, 0, 0, 0]);
    let relative = match nexus {
        PortPair::Scsi { target, .. } => target.relative,
        PortPair::Nvme { .. } => 0,
    };
    out.extend(relative.to_be_bytes());
    let start = out.len();
    out.extend([0; 4]);
    transport_id::put(nexus, out);
    set_len(out, start);
}

/// PRGENERATION, and ADDITIONAL LENGTH of what is put.
fn with_header(report: Report<'_>, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    out.extend(report.generation().to_be_bytes());
    let start = out.len();
    out.extend([0; 4]);
    put(out);
    set_len(out, start);
}

/// Fills a length of four bytes in: of all that is behind it.
fn set_len(out: &mut [u8], at: usize) {
    let len = u32::try_from(out.len() - at - 4).unwrap_or(u32::MAX);
    if let Some(field) = out.get_mut(at..at + 4) {
        field.copy_from_slice(&len.to_be_bytes());
    }
}
