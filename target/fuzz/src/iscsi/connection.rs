//! Requests of any kind with any fields, well framed, and any bytes between them, on a connection that has got somewhere.
//!
//! The script: how far, and the keys of the login; then steps, each a PDU or something that happens around it.

use crate::input::Script;

use super::initiator::{Initiator, digests, login, transfer};
use super::wire::{DATA_OUT, F, LOGOUT, MANAGE, NO_TAG, NOP_OUT, Pdu, R2T, TEXT};
use super::world::{INITIATOR, TARGET, World};

const KEYS: [&str; 8] = [
    "HeaderDigest=CRC32C",
    "DataDigest=CRC32C",
    "InitialR2T=No",
    "ImmediateData=No",
    "FirstBurstLength=1024",
    "MaxBurstLength=2048",
    "MaxOutstandingR2T=4",
    "MaxRecvDataSegmentLength=700",
];

/// Most steps of a script.
const STEPS_MAX: usize = 200;

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    let [stage, chosen] = script.array();
    let keys: Vec<&str> = (0..8).filter(|bit| chosen >> bit & 1 != 0).map(|bit| KEYS[bit]).collect();
    let mut player = match stage % 4 {
        0 => {
            let at = world.accept();
            Player { world, script, at, cmd_sn: 1, r2ts: Vec::new() }
        }
        1 => {
            let at = world.accept();
            world.feed(at, &login(INITIATOR, None, &keys[..0]).encode(Default::default()));
            world.pump();
            world.answers(at);
            Player { world, script, at, cmd_sn: 1, r2ts: Vec::new() }
        }
        _ => {
            let initiator = Initiator::open(&mut world, INITIATOR, TARGET, &keys);
            world.links[initiator.at].digests = digests(&keys);
            Player { world, script, at: initiator.at, cmd_sn: initiator.cmd_sn, r2ts: Vec::new() }
        }
    };
    for _ in 0..STEPS_MAX {
        if player.script.is_over() {
            break;
        }
        player.step();
    }
    player.world.pump();
    player.world.finish();
}

struct Player<'a> {
    world: World,
    script: Script<'a>,
    at: usize,
    cmd_sn: u32,
    /// R2Ts that came.
    r2ts: Vec<Pdu>,
}

impl Player<'_> {
    fn step(&mut self) {
        let what = self.script.byte();
        match what % 24 {
            0 => {
                let len = usize::from(self.script.byte());
                let bytes = self.script.slice(len).to_vec();
                self.world.feed(self.at, &bytes);
            }
            1..=8 => self.command(what),
            9..=12 => self.data_out(what),
            13 => self.request(NOP_OUT, what),
            14 => self.request(TEXT, what),
            15 => self.manage(what),
            16 => self.request(self.any_opcode(what), what),
            17 => self.world.tick(u64::from(self.script.half())),
            18 => {
                self.world.deliver();
            }
            19 => {
                self.world.send(self.at);
            }
            20 => {
                let shown = self.script.byte();
                self.world.show(shown);
            }
            21 => match what / 24 {
                0 => self.world.close(self.at),
                1 => self.request(LOGOUT, what),
                2 => self.world.shut_down(self.at),
                _ => self.another(),
            },
            _ => {
                self.world.pump();
                let answers = self.world.answers(self.at);
                self.r2ts.extend(answers.into_iter().filter(|pdu| pdu.opcode() == R2T));
            }
        }
    }

    fn any_opcode(&self, what: u8) -> u8 {
        [0x03, 0x07, 0x10, 0x1c, 0x1f, 0x21, 0x3f, 0x05, 0x02, 0x01][usize::from(what / 24)]
    }

    /// A login that takes the session's place.
    fn another(&mut self) {
        let at = self.world.accept();
        self.world.feed(at, &login(INITIATOR, Some(TARGET), &[]).encode(Default::default()));
        self.world.pump();
        if self.world.answers(at).first().is_some_and(|pdu| pdu.bhs[36] == 0) {
            self.at = at;
            self.cmd_sn = 1;
            self.r2ts.clear();
        }
    }

    /// A SCSI command: blocks that move, or any CDB at all.
    fn command(&mut self, what: u8) {
        let [flags, itt, lun, blocks, lba, options] = self.script.array();
        let block_len = if options & 1 == 0 { 512 } else { 520 };
        let opcode = [0x28, 0x2a, 0x2e, 0x2f, 0x41, 0x42, 0x89, 0x2a][usize::from(what % 8)];
        let mut pdu = transfer(opcode, lba.into(), u16::from(blocks % 16), block_len);
        if options & 2 != 0 {
            let cdb: [u8; 16] = self.script.array();
            pdu = pdu.bytes(32, &cdb).word(20, u32::from(blocks) * 64);
        }
        let data_len = match options >> 2 & 3 {
            0 => 0,
            1 => usize::from(blocks % 16) * block_len as usize,
            2 => 512,
            _ => usize::from(lba) * 8,
        };
        // Reads and writes with the right direction, more often than not.
        let direction = if opcode == 0x28 { 0x40 } else { 0x20 };
        let flags = if options & 0x10 == 0 { F | direction | (flags & 3) } else { flags };
        let flags = if options & 0x20 == 0 { flags } else { flags & !F };
        let pdu =
            pdu.flags(flags).bytes(9, &[lun % 4]).word(16, u32::from(itt % 32)).data(&vec![lba; data_len]);
        self.numbered(pdu, options);
    }

    fn data_out(&mut self, what: u8) {
        let [itt, sn, offset, len, options] = self.script.array();
        let mut pdu = Pdu::new(DATA_OUT)
            .word(16, u32::from(itt % 32))
            .word(20, NO_TAG)
            .word(36, u32::from(sn % 8))
            .word(40, u32::from(offset) * 256);
        let mut len = usize::from(len) * 16;
        if what & 1 != 0 && !self.r2ts.is_empty() {
            let at = usize::from(itt) % self.r2ts.len();
            let r2t = if options & 4 != 0 { self.r2ts.remove(at) } else { self.r2ts[at].clone() };
            pdu = pdu.bytes(8, &r2t.bhs[8..24]);
            if options & 8 == 0 {
                pdu = pdu.word(36, 0).word(40, r2t.word_at(40));
                len = r2t.word_at(44) as usize;
            }
        }
        let flags = if options & 1 == 0 { F } else { 0 };
        self.send(&pdu.flags(flags).data(&vec![sn; len]), options & 2 != 0);
    }

    fn manage(&mut self, what: u8) {
        let [function, lun, itt, number, options] = self.script.array();
        let pdu = Pdu::new(MANAGE)
            .flags(F | (function % 12))
            .bytes(9, &[lun % 4])
            .word(16, u32::from(what) + 1000)
            .word(20, u32::from(itt % 32))
            .word(32, self.cmd_sn.wrapping_add(u32::from(number)).wrapping_sub(128));
        self.numbered(if options & 1 == 0 { pdu.immediate() } else { pdu }, options);
    }

    fn request(&mut self, opcode: u8, what: u8) {
        let [flags, itt, ttt, len, options] = self.script.array();
        let text: &[u8] = match options >> 5 {
            0 => b"SendTargets=All\0",
            1 => b"SendTargets=\0",
            2 => b"MaxRecvDataSegmentLength=512\0",
            _ => &[0x41; 256][..usize::from(len)],
        };
        let pdu = Pdu::new(opcode)
            .flags(flags)
            .word(16, if itt == 0 { NO_TAG } else { u32::from(itt % 32) })
            .word(20, if ttt & 1 == 0 { NO_TAG } else { u32::from(ttt) })
            .data(text);
        self.numbered(if what & 1 == 0 { pdu.immediate() } else { pdu }, options);
    }

    /// Sends a request with the next number, or one near it.
    fn numbered(&mut self, pdu: Pdu, options: u8) {
        let immediate = pdu.bhs[0] & 0x40 != 0;
        let ahead = if options & 0x40 == 0 { 0 } else { u32::from(self.script.byte()).wrapping_sub(8) };
        let pdu = pdu.word(24, self.cmd_sn.wrapping_add(ahead));
        if !immediate && ahead == 0 && pdu.opcode() != 0x03 {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
        self.send(&pdu, options & 0x80 != 0);
    }

    /// Sends a PDU, perhaps damaged.
    fn send(&mut self, pdu: &Pdu, damaged: bool) {
        let mut bytes = pdu.encode(self.world.links[self.at].digests);
        if damaged && bytes.len() > 60 {
            let last = bytes.len() - 6;
            bytes[last] ^= 1;
        }
        self.world.feed(self.at, &bytes);
    }
}
