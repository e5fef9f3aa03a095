//! Well-framed I/O commands with any fields: each is answered once, and no read brings more than its buffer takes.
//!
//! The script: digests, flow control; then commands, with the data that they bring in their capsule or are asked for.

use crate::connection;
use crate::input::Script;
use crate::wire::{self, Digests, Pdu, Sqe};
use crate::world::{LARGE_NSID, SMALL_NSID, World};

/// Those of the NVM command set, and one that is not.
const OPCODES: [u8; 12] = [0x00, 0x01, 0x02, 0x04, 0x05, 0x08, 0x09, 0x0c, 0x19, 0x01, 0x02, 0x7e];
/// Most commands of one input.
const COMMANDS_MAX: usize = 64;
/// Most bytes that one H2CData brings.
const PIECE_MAX: usize = 128 << 10;

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    let options = script.byte();
    let digests = Digests { header: options & 1 != 0, data: options & 2 != 0 };
    let at = connection::io(&mut world, digests, options >> 3, options & 4);
    for _ in 0..COMMANDS_MAX {
        if script.is_over() || !world.is_open(at) {
            break;
        }
        let (sqe, data) = command(&mut script);
        let (_, capsule) = world.links[at].command(sqe, &data);
        let damage = script.byte();
        let mut capsule = capsule;
        if damage == 1
            && digests.data
            && !data.is_empty()
            && let Some(last) = capsule.last_mut()
        {
            *last ^= 1;
        }
        world.feed(at, &capsule);
        if damage & 2 == 0 {
            settle(&mut world, at, &mut script);
        }
    }
    // The first half of a pair waits for the next command, so that there has to be one.
    let (_, flush) = world.links[at].command(Sqe::new(0x00, LARGE_NSID), &[]);
    world.feed(at, &flush);
    settle(&mut world, at, &mut script);
    assert!(!world.is_open(at) || world.links[at].outstanding() == 0, "a command was never answered");
    world.finish();
}

/// A command, and what is behind it in its capsule.
fn command(script: &mut Script<'_>) -> (Sqe, Vec<u8>) {
    let [opcode, place, blocks, control, fill] = script.array();
    let nsid = match place >> 6 {
        0 | 1 => LARGE_NSID,
        2 => SMALL_NSID,
        _ => script.pick(&[0, 3, u32::MAX, SMALL_NSID]),
    };
    let block_len = if nsid == SMALL_NSID { 520 } else { 4104 };
    let blocks = u32::from(blocks % 32) + 1;
    // Alone, or one of a pair.
    let fuse = [0, 1, 2, 0][usize::from(opcode >> 6)];
    let opcode = OPCODES[usize::from(opcode & 0x3f) % OPCODES.len()];
    let mut sqe = Sqe::ranged(opcode, nsid, u32::from(place & 0x3f), blocks);
    let mut len = block_len * blocks as usize;
    match opcode {
        0x09 => {
            sqe = sqe.dword(10, blocks - 1).dword(11, 4);
            len = 16 * blocks as usize;
        }
        0x19 => len = 32,
        _ => sqe = sqe.dword(12, (blocks - 1) | (u32::from(control & 0xfd) << 24)),
    }
    sqe.0[1] |= fuse;
    sqe = if script.coin() && len <= 8192 { sqe.in_capsule(len) } else { sqe.transport(len) };
    // Any one byte may be something else, but for the CID, which tells answers apart.
    let [at, value] = script.array();
    if at >> 6 == 1 {
        // A buffer that is a little too short or too long.
        let near = len.saturating_add_signed(isize::from(i8::from_le_bytes([value])));
        sqe.0[32..36].copy_from_slice(&(near as u32).to_le_bytes());
    } else if at & 0x80 != 0 {
        let at = usize::from(at % 64);
        if !(2..4).contains(&at) {
            sqe.0[at] = value;
        }
    }
    let in_capsule = opcode & 1 != 0 && sqe.0[39] == wire::SGL_IN_CAPSULE;
    (sqe, if in_capsule { payload(len, fill) } else { Vec::new() })
}

/// Data of a command: ranges of Dataset Management and Copy come out as small ones.
fn payload(len: usize, fill: u8) -> Vec<u8> {
    (0..len).map(|at| if at % 16 == 4 || at % 16 == 8 { fill } else { 0 }).collect()
}

/// Answers R2Ts until nothing moves.
fn settle(world: &mut World, at: usize, script: &mut Script<'_>) {
    loop {
        world.pump();
        let mut asked = false;
        for pdu in world.links[at].answers() {
            if let Pdu::R2t { cid, ttag, length, .. } = pdu {
                asked = true;
                let data = payload(length as usize, script.byte());
                for (number, piece) in data.chunks(PIECE_MAX).enumerate() {
                    let offset = number * PIECE_MAX;
                    let last = offset + piece.len() == data.len();
                    let digests = world.links[at].digests;
                    let pdu = wire::host_data(cid, ttag, offset as u32, piece, last, digests);
                    world.feed(at, &pdu);
                }
            }
        }
        if !asked {
            return;
        }
    }
}
