//! Commands of every kind, with any CDB and any parameter list behind them, on units with tuples of types 1 and 2: each has one
//! end, with as much data as it may have.
//!
//! The script: the view; then commands, each an operation code, what is changed of a plain CDB, and the lengths of both buffers.

use crate::input::Script;

use super::initiator::{Initiator, data_out};
use super::wire::{COMMAND, DATA_IN, F, NO_TAG, Pdu, R, R2T, RESPONSE, W};
use super::world::{INITIATOR, TARGET, World};

/// Every operation code that there is, and some that there are not.
const OPCODES: [u8; 54] = [
    0x00, 0x03, 0x04, 0x08, 0x0a, 0x12, 0x15, 0x16, 0x17, 0x1a, 0x1b, 0x1d, 0x1e, 0x25, 0x28, 0x2a, 0x2e,
    0x2f, 0x34, 0x35, 0x37, 0x3b, 0x3c, 0x41, 0x42, 0x48, 0x4c, 0x4d, 0x55, 0x5a, 0x5e, 0x5f, 0x7f, 0x83,
    0x84, 0x88, 0x89, 0x8a, 0x8b, 0x8e, 0x8f, 0x90, 0x91, 0x93, 0x9e, 0x9f, 0xa0, 0xa3, 0xa4, 0xa8, 0xaa,
    0xb7, 0xc0, 0xff,
];

/// Those that only ever bring data, and those that only ever take some.
const BRINGING: [u8; 15] =
    [0x03, 0x08, 0x12, 0x1a, 0x25, 0x28, 0x37, 0x3c, 0x4d, 0x5a, 0x5e, 0x84, 0x88, 0xa0, 0xa8];
const TAKING: [u8; 19] = [
    0x04, 0x0a, 0x15, 0x1d, 0x2a, 0x2e, 0x2f, 0x3b, 0x41, 0x42, 0x55, 0x5f, 0x83, 0x89, 0x8a, 0x8b, 0x8e,
    0x93, 0xaa,
];

/// Most commands of a script: each may move a whole volume.
const COMMANDS_MAX: usize = 48;

/// Longest buffer of the initiator.
const BUFFER_MAX: u32 = 1 << 16;

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    let immediate = script.coin();
    let keys =
        ["MaxRecvDataSegmentLength=65536", if immediate { "ImmediateData=Yes" } else { "ImmediateData=No" }];
    let mut initiator = Initiator::open(&mut world, INITIATOR, TARGET, &keys);
    for _ in 0..COMMANDS_MAX {
        if script.is_over() {
            break;
        }
        command(&mut world, &mut initiator, &mut script, immediate);
    }
    world.finish();
}

fn command(world: &mut World, initiator: &mut Initiator, script: &mut Script<'_>, immediate: bool) {
    let (opcode, options) = (script.pick(&OPCODES), script.byte());
    let mut cdb = [0; 32];
    cdb[0] = opcode;
    // A service action where there are any, and short fields here and there.
    for _ in 0..options & 7 {
        let [at, value] = script.array();
        cdb[1 + usize::from(at) % 31] = value;
    }
    if opcode == 0x7f {
        cdb[7] = 24;
    }
    let [lun, out, room, seed] = script.array();
    let out_len = u32::from(out) * if options & 0x40 == 0 { 8 } else { 520 };
    let room = u32::from(room) * if options & 0x80 == 0 { 8 } else { 520 };
    let (out_len, room) = (out_len.min(BUFFER_MAX), room.min(BUFFER_MAX));
    let writes = options & 0x20 != 0;
    let list: Vec<u8> = match options >> 3 & 3 {
        0 => vec![0; out_len as usize],
        1 => vec![seed; out_len as usize],
        _ => {
            let head = script.slice(usize::from(seed));
            (0..out_len as usize).map(|at| head.get(at).copied().unwrap_or(0)).collect()
        }
    };
    let expected = if writes { out_len } else { room };
    let with = if writes && immediate { list.len().min(512) } else { 0 };
    let mut pdu = Pdu::new(COMMAND)
        .flags(F | if writes { W } else { R } | 1)
        .bytes(9, &[lun % 3])
        .word(20, expected)
        .bytes(32, &cdb[..16])
        .data(&list[..with]);
    if opcode == 0x7f {
        pdu = pdu.extended(&cdb[16..]);
    }
    let pdu = initiator.number(pdu);
    world.feed(initiator.at, &pdu.encode(world.links[initiator.at].digests));
    let allocation = match opcode {
        0x12 => Some(u32::from_be_bytes([0, 0, cdb[3], cdb[4]])),
        0x03 | 0x1a => Some(cdb[4].into()),
        0x4d | 0x5a | 0x5e => Some(u32::from_be_bytes([0, 0, cdb[7], cdb[8]])),
        0xa0 | 0xa3 => Some(u32::from_be_bytes([cdb[6], cdb[7], cdb[8], cdb[9]])),
        _ => None,
    };
    let most = allocation.map_or(room, |len| len.min(room));
    finish(world, initiator, &pdu, &list, if writes { 0 } else { most });
}

/// Serves a command to its end, which has to come.
fn finish(world: &mut World, initiator: &Initiator, command: &Pdu, list: &[u8], most: u32) {
    let mut came = 0;
    loop {
        world.pump();
        let answers = world.answers(initiator.at);
        assert!(!answers.is_empty(), "no end of {:02x?}", command.bhs);
        for pdu in answers {
            assert_eq!(pdu.tag(), command.tag(), "an answer to nothing: {:02x?}", pdu.bhs);
            match pdu.opcode() {
                R2T => {
                    let [offset, len] = [40, 44].map(|at| pdu.word_at(at) as usize);
                    let out = data_out(&pdu, 0, offset, true, &list[offset..offset + len]);
                    world.feed(initiator.at, &out.encode(world.links[initiator.at].digests));
                }
                DATA_IN => {
                    assert_eq!((pdu.word_at(40), pdu.word_at(20)), (came, NO_TAG), "Data-In in order");
                    came += pdu.data.len() as u32;
                    assert!(came <= most, "{came} bytes, not {most}, for {:02x?}", command.bhs);
                    if pdu.bhs[1] & 1 != 0 {
                        return judge_residual(command, pdu.bhs[1], pdu.word_at(44), came);
                    }
                }
                RESPONSE => {
                    judge_sense(&pdu);
                    if pdu.bhs[3] != 2 {
                        assert!(matches!(pdu.bhs[3], 0 | 4 | 8 | 0x18), "status {:#x}", pdu.bhs[3]);
                    }
                    return judge_residual(command, pdu.bhs[1], pdu.word_at(44), came);
                }
                other => panic!("opcode {other:#x} for a command"),
            }
        }
    }
}

/// Underflow and overflow exclude each other, what was read and not read makes the whole, and of a buffer that is no use to the
/// command nothing is used (RFC 7143, 11.4.5.2).
fn judge_residual(command: &Pdu, flags: u8, residual: u32, came: u32) {
    let expected = command.word_at(20);
    match flags & 6 {
        0 => assert_eq!(residual, 0, "a residual without a bit"),
        2 => assert!(residual > 0 && residual <= expected, "an underflow of {residual}"),
        4 => assert!(residual > 0, "an overflow of nothing"),
        _ => panic!("overflow and underflow"),
    }
    let useless: &[u8] = if command.bhs[1] & W != 0 { &BRINGING } else { &TAKING };
    if expected > 0 && useless.contains(&command.bhs[32]) {
        assert_eq!((flags & 6, residual), (2, expected), "a buffer the wrong way round");
    }
    if command.bhs[1] & R != 0 && flags & 2 != 0 {
        assert!(came + residual >= expected, "{came} bytes came, {residual} are missing of {expected}");
    }
}

/// With CHECK CONDITION, and only then, there is sense data, in one of both formats.
fn judge_sense(pdu: &Pdu) {
    assert_eq!(pdu.data.is_empty(), pdu.bhs[3] != 2, "sense data with status {:#x}", pdu.bhs[3]);
    if !pdu.data.is_empty() {
        let len = usize::from(u16::from_be_bytes([pdu.data[0], pdu.data[1]]));
        assert_eq!(len + 2, pdu.data.len(), "SenseLength");
        let (code, additional) = (pdu.data[2] & 0x7f, usize::from(pdu.data[9]));
        assert!(matches!(code, 0x70 | 0x72), "response code {code:#x}");
        assert_eq!(additional + 8, len, "ADDITIONAL SENSE LENGTH");
    }
}
