//! What a misbehaving iSCSI target says of its logical unit. SBC-4 §5.20.2 "READ CAPACITY (16) parameter data"; SPC-5 §6.7.2 "Standard INQUIRY
//! data".

use holdfast_e2e::interposer::iscsi::Seen;
use holdfast_e2e::interposer::{Act, Side};
use holdfast_testkit::iscsi::opcode;

/// One lie.
pub(crate) struct Lie {
    pub(crate) name: &'static str,
    change: fn(u8, &mut [u8]),
}

const INQUIRY: u8 = 0x12;
/// SERVICE ACTION IN (16), of which READ CAPACITY (16) is one.
const READ_CAPACITY: u8 = 0x9e;
/// Of READ CAPACITY (16): the block length, P_TYPE in bits 3:1 and PROT_EN in bit 0, P_I_EXPONENT in bits 7:4.
const BLOCK_LENGTH: usize = 8;
const PROTECTION: usize = 12;
const EXPONENT: usize = 13;
/// Of standard INQUIRY: PROTECT in bit 0.
const PROTECT: usize = 5;

/// All of them.
pub(crate) const LIES: [Lie; 7] = [
    Lie { name: "type-2", change: |code, data| put(code == READ_CAPACITY, data, PROTECTION, &[0b0011]) },
    Lie { name: "type-3", change: |code, data| put(code == READ_CAPACITY, data, PROTECTION, &[0b0101]) },
    Lie { name: "type-8", change: |code, data| put(code == READ_CAPACITY, data, PROTECTION, &[0b1111]) },
    Lie { name: "intervals", change: |code, data| put(code == READ_CAPACITY, data, EXPONENT, &[0x30]) },
    Lie { name: "not-protected", change: |code, data| put(code == INQUIRY, data, PROTECT, &[0]) },
    Lie {
        name: "blocks-of-512",
        change: |code, data| put(code == READ_CAPACITY, data, BLOCK_LENGTH, &[0, 0, 2, 0]),
    },
    Lie {
        name: "blocks-of-520",
        change: |code, data| put(code == READ_CAPACITY, data, BLOCK_LENGTH, &[0, 0, 2, 8]),
    },
];

impl Lie {
    /// The rule that tells this lie.
    pub(crate) fn rule(&self) -> impl FnMut(&Seen) -> Act + Send + 'static {
        let change = self.change;
        move |seen| {
            let (Side::Target, opcode::DATA_IN, Some(code)) =
                (seen.from, seen.pdu.opcode(), seen.operation())
            else {
                return Act::Pass;
            };
            // With EVPD set it is another page.
            if code == INQUIRY && seen.cdb.is_some_and(|[_, flags, ..]| flags & 1 != 0) {
                return Act::Pass;
            }
            let mut pdu = seen.pdu.clone();
            change(code, &mut pdu.data);
            if pdu == seen.pdu { Act::Pass } else { Act::Send(seen.bytes(&pdu)) }
        }
    }
}

fn put(here: bool, data: &mut [u8], at: usize, value: &[u8]) {
    if here && let Some(field) = data.get_mut(at..at + value.len()) {
        field.copy_from_slice(value);
    }
}
