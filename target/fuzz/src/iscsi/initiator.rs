//! A session as its initiator keeps it.

use super::wire::{
    COMMAND, DATA_IN, DATA_OUT, Digests, F, LOGIN, LOGIN_RESPONSE, NO_TAG, Pdu, R, R2T, RESPONSE, W,
};
use super::world::World;

/// A session.
pub(crate) struct Initiator {
    /// Its connection.
    pub(crate) at: usize,
    /// CmdSN of the next request.
    pub(crate) cmd_sn: u32,
    next_itt: u32,
}

/// The only Login Request that a plain login needs.
pub(crate) fn login(initiator: &str, target: Option<&str>, keys: &[&str]) -> Pdu {
    let mut text = format!("InitiatorName={initiator}\0");
    match target {
        Some(target) => text += &format!("TargetName={target}\0"),
        None => text += "SessionType=Discovery\0",
    }
    keys.iter().for_each(|key| text += &format!("{key}\0"));
    Pdu::new(LOGIN).immediate().flags(0x87).bytes(8, &[0x80]).word(24, 1).data(text.as_bytes())
}

/// The digests that keys ask for.
pub(crate) fn digests(keys: &[&str]) -> Digests {
    Digests { header: keys.contains(&"HeaderDigest=CRC32C"), data: keys.contains(&"DataDigest=CRC32C") }
}

impl Initiator {
    /// Logs in, and takes what units have to tell.
    pub(crate) fn open(world: &mut World, initiator: &str, target: &str, keys: &[&str]) -> Initiator {
        let at = world.accept();
        world.feed(at, &login(initiator, Some(target), keys).encode(Digests::default()));
        world.pump();
        let answers = world.answers(at);
        assert!(matches!(&answers[..], [pdu] if pdu.opcode() == LOGIN_RESPONSE && pdu.bhs[36] == 0));
        world.links[at].digests = digests(keys);
        let mut initiator = Initiator { at, cmd_sn: 1, next_itt: 0 };
        for lun in [0, 1] {
            for _ in 0..4 {
                initiator.run(world, Pdu::new(COMMAND).flags(F | 1).bytes(9, &[lun]), &[]);
            }
        }
        initiator
    }

    /// Gives a request its tag and CmdSN.
    pub(crate) fn number(&mut self, pdu: Pdu) -> Pdu {
        self.next_itt += 1;
        let pdu = pdu.word(16, self.next_itt).word(24, self.cmd_sn);
        if pdu.bhs[0] & 0x40 == 0 {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
        pdu
    }

    /// Sends a command, and what it is asked for of `data`; its status, and the data that came.
    fn run(&mut self, world: &mut World, command: Pdu, data: &[u8]) -> Option<(u8, Vec<u8>)> {
        let command = self.number(command);
        let digests = world.links[self.at].digests;
        world.feed(self.at, &command.encode(digests));
        let mut received = Vec::new();
        loop {
            world.pump();
            let answers = world.answers(self.at);
            if answers.is_empty() {
                return None;
            }
            for pdu in answers.into_iter().filter(|pdu| pdu.tag() == command.tag()) {
                match pdu.opcode() {
                    R2T => {
                        let [offset, len] = [40, 44].map(|at| pdu.word_at(at) as usize);
                        let out = data_out(&pdu, 0, offset, true, &data[offset..offset + len]);
                        world.feed(self.at, &out.encode(digests));
                    }
                    DATA_IN => {
                        received.extend_from_slice(&pdu.data);
                        if pdu.bhs[1] & 1 != 0 {
                            return Some((pdu.bhs[3], received));
                        }
                    }
                    RESPONSE => return Some((pdu.bhs[3], received)),
                    other => panic!("opcode {other:#x} for a command"),
                }
            }
        }
    }

    /// Writes blocks that have to be written.
    pub(crate) fn write(&mut self, world: &mut World, lba: u32, blocks: u16, seed: u8) {
        let data = pattern(blocks, seed);
        let command = transfer(0x2a, lba, blocks, 512).bytes(1, &[F | W | 1]);
        let ended = self.run(world, command, &data).expect("the bystander is answered");
        assert_eq!(ended.0, 0, "the bystander writes");
    }

    /// Reads blocks that have to be as they were written.
    pub(crate) fn reads(&mut self, world: &mut World, lba: u32, blocks: u16, seed: u8) {
        let command = transfer(0x28, lba, blocks, 512);
        let (status, data) = self.run(world, command, &[]).expect("the bystander is answered");
        assert!(status == 0 && data == pattern(blocks, seed), "the bystander's data");
    }
}

/// A command of 10 bytes that moves blocks of so many bytes: a read, until its flags say otherwise.
pub(crate) fn transfer(opcode: u8, lba: u32, blocks: u16, block_len: u32) -> Pdu {
    let [a, b, c, d] = lba.to_be_bytes();
    let [high, low] = blocks.to_be_bytes();
    let protect = if block_len > 512 { 0x20 } else { 0 };
    Pdu::new(COMMAND)
        .flags(F | R | 1)
        .word(20, u32::from(blocks) * block_len)
        .bytes(32, &[opcode, protect, a, b, c, d, 0, high, low])
}

/// Data for an R2T.
pub(crate) fn data_out(r2t: &Pdu, sn: u32, offset: usize, last: bool, data: &[u8]) -> Pdu {
    Pdu::new(DATA_OUT)
        .flags(if last { F } else { 0 })
        .bytes(8, &r2t.bhs[8..16])
        .word(16, r2t.tag())
        .word(20, r2t.word_at(20))
        .word(36, sn)
        .word(40, offset as u32)
        .data(data)
}

/// Unsolicited data.
pub(crate) fn unsolicited(command: &Pdu, sn: u32, offset: usize, last: bool, data: &[u8]) -> Pdu {
    data_out(command, sn, offset, last, data).word(20, NO_TAG)
}

fn pattern(blocks: u16, seed: u8) -> Vec<u8> {
    (0..usize::from(blocks) * 512).map(|at| seed ^ (at as u8) ^ ((at / 512) as u8)).collect()
}
