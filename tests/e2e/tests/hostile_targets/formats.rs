//! What a misbehaving NVMe target says of its namespace. NVM Command Set 1.1 §4.1.5.1 "Identify Namespace data structure" (CNS 00h) and
//! §4.1.5.3 "I/O Command Set Specific Identify Namespace data structure" (CNS 05h), whose ELBAF has the guard's size.

use holdfast_e2e::interposer::Act;
use holdfast_e2e::interposer::nvme::Seen;
use holdfast_testkit::wire::{DataPdu, Pdu, opcode};

/// One lie.
pub(crate) struct Format {
    pub(crate) name: &'static str,
    /// Whether a disk may come of it that has any room at all.
    pub(crate) usable: bool,
    change: fn(u32, &mut [u8]),
}

const IDENTIFY_NAMESPACE: u32 = 0x00;
const IDENTIFY_CONTROLLER: u32 = 0x01;
const IDENTIFY_NVM: u32 = 0x05;
const NSZE: usize = 0;
const FLBAS: usize = 26;
const DPS: usize = 29;
const LBAF: usize = 128;
/// Within an entry of LBAF: Metadata Size in two bytes, then LBA Data Size as a power of two.
const MS: usize = 0;
const LBADS: usize = 2;
/// CTRATT, and in it ELBAS (bit 15): ELBAF is to be looked at.
const CTRATT: usize = 96;
const CTRATT_ELBAS: u8 = 0x80;
/// An entry of ELBAF: Storage Tag Size in bits 6:0, Protection Information Format in bits 8:7.
const ELBAF: usize = 12;

/// All of them.
pub(crate) const FORMATS: [Format; 19] = [
    Format { name: "type-2", usable: true, change: |cns, data| protection(cns, data, 2) },
    Format { name: "type-3", usable: true, change: |cns, data| protection(cns, data, 3) },
    Format { name: "type-5", usable: true, change: |cns, data| protection(cns, data, 5) },
    Format { name: "type-7", usable: true, change: |cns, data| protection(cns, data, 7) },
    Format { name: "tuple-first", usable: true, change: |cns, data| protection(cns, data, 9) },
    Format { name: "guard-of-32-bits", usable: false, change: |cns, data| guard(cns, data, 0x80 | 16) },
    Format { name: "guard-of-64-bits", usable: true, change: |cns, data| guard(cns, data, 0x100) },
    Format { name: "guard-unknown", usable: false, change: |cns, data| guard(cns, data, 0x180) },
    Format { name: "storage-tag", usable: false, change: |cns, data| guard(cns, data, 16) },
    Format { name: "metadata-of-4", usable: false, change: |cns, data| metadata(cns, data, 4) },
    Format { name: "metadata-of-16", usable: true, change: |cns, data| metadata(cns, data, 16) },
    Format { name: "metadata-of-64", usable: true, change: |cns, data| metadata(cns, data, 64) },
    Format { name: "metadata-of-65535", usable: false, change: |cns, data| metadata(cns, data, 65535) },
    Format { name: "no-metadata", usable: true, change: |cns, data| metadata(cns, data, 0) },
    Format {
        name: "separate-metadata",
        usable: true,
        change: |cns, data| at_namespace(cns, data, FLBAS, |byte| byte & 0x0f),
    },
    Format { name: "blocks-of-1", usable: false, change: |cns, data| block(cns, data, 0) },
    Format { name: "blocks-of-512", usable: true, change: |cns, data| block(cns, data, 9) },
    Format { name: "blocks-of-64k", usable: false, change: |cns, data| block(cns, data, 16) },
    Format { name: "no-blocks", usable: false, change: |cns, data| blocks(cns, data, 0) },
];

impl Format {
    /// The rule that tells this lie.
    pub(crate) fn rule(&self) -> impl FnMut(&Seen) -> Act + Send + 'static {
        let change = self.change;
        move |seen| match (&seen.pdu, seen.admin(), seen.command) {
            (Pdu::C2hData(data), Some(opcode::IDENTIFY), Some(command)) => {
                let cns = command.dword(10) & 0xff;
                let mut content = data.data.clone();
                change(cns, &mut content);
                if content == data.data {
                    return Act::Pass;
                }
                Act::Send(seen.bytes(&Pdu::C2hData(DataPdu { data: content, ..data.clone() })))
            }
            _ => Act::Pass,
        }
    }
}

fn at_namespace(cns: u32, data: &mut [u8], at: usize, change: fn(u8) -> u8) {
    if let (IDENTIFY_NAMESPACE, Some(byte)) = (cns, data.get_mut(at)) {
        *byte = change(*byte);
    }
}

fn protection(cns: u32, data: &mut [u8], dps: u8) {
    put(cns == IDENTIFY_NAMESPACE, data, DPS, &[dps]);
}

/// The entry of the format in use.
fn entry(data: &[u8]) -> usize {
    data.get(FLBAS).map_or(0, |flbas| usize::from(flbas & 0x0f))
}

fn metadata(cns: u32, data: &mut [u8], bytes: u16) {
    let at = LBAF + 4 * entry(data) + MS;
    put(cns == IDENTIFY_NAMESPACE, data, at, &bytes.to_le_bytes());
}

fn block(cns: u32, data: &mut [u8], exponent: u8) {
    let at = LBAF + 4 * entry(data) + LBADS;
    put(cns == IDENTIFY_NAMESPACE, data, at, &[exponent]);
}

fn blocks(cns: u32, data: &mut [u8], count: u64) {
    put(cns == IDENTIFY_NAMESPACE, data, NSZE, &count.to_le_bytes());
}

/// Every format's guard: this data structure does not say which is in use.
fn guard(cns: u32, data: &mut [u8], elbaf: u32) {
    let elbas = data.get(CTRATT + 1).map_or(0, |byte| byte | CTRATT_ELBAS);
    put(cns == IDENTIFY_CONTROLLER, data, CTRATT + 1, &[elbas]);
    for index in 0..16 {
        put(cns == IDENTIFY_NVM, data, ELBAF + 4 * index, &elbaf.to_le_bytes());
    }
    if elbaf & 0x180 == 0x100 {
        // A tuple with a guard of 64 bits has 16 bytes.
        metadata(cns, data, 16);
    }
}

fn put(here: bool, data: &mut [u8], at: usize, value: &[u8]) {
    if !here {
        return;
    }
    if let Some(field) = data.get_mut(at..at + value.len()) {
        field.copy_from_slice(value);
    }
}
