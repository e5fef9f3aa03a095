//! A session as its initiator keeps it: numbers, tags, whole commands.

use crate::wire::{
    COMMAND, DATA_IN, DATA_OUT, Digests, F, LOGIN, LOGIN_RESPONSE, NO_TAG, Pdu, R, R2T, RESPONSE, W,
};
use crate::world::{INITIATOR, TARGET, World};

/// A session, or a discovery session.
pub(crate) struct Initiator {
    /// Its connection.
    pub(crate) at: usize,
    /// CmdSN of the next request.
    pub(crate) cmd_sn: u32,
    /// StatSN of the next status.
    pub(crate) stat_sn: u32,
    next_itt: u32,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) status: u8,
    /// Key, code, qualifier.
    pub(crate) sense: Option<(u8, u8, u8)>,
    pub(crate) data: Vec<u8>,
    /// Overflow and underflow bits.
    pub(crate) residual_flags: u8,
    pub(crate) residual: u32,
    pub(crate) exp_data_sn: u32,
}

/// The first login request: both stages at once.
pub(crate) fn login_request(initiator: &str, target: Option<&str>, isid: u8, keys: &[&str]) -> Pdu {
    let mut text = format!("InitiatorName={initiator}\0");
    match target {
        Some(target) => text += &format!("TargetName={target}\0SessionType=Normal\0"),
        None => text += "SessionType=Discovery\0",
    }
    for key in keys {
        text += &format!("{key}\0");
    }
    // Operational to full feature phase.
    Pdu::new(LOGIN)
        .immediate()
        .flags(0x87)
        .bytes(8, &[0x80, 0, 0, 0, 0, isid])
        .itt(0x4c4f)
        .word(24, 100)
        .word(28, 7000)
        .data(text.as_bytes())
}

impl Initiator {
    /// A session of [`INITIATOR`] with these keys beside.
    pub(crate) fn open(world: &mut World, keys: &[&str]) -> Initiator {
        Initiator::open_as(world, INITIATOR, 1, keys)
    }

    /// The same with a long enough data segment and all unit attentions told.
    pub(crate) fn ready(world: &mut World, keys: &[&str]) -> Initiator {
        let mut initiator = Initiator::open(world, keys);
        initiator.settle(world);
        initiator
    }

    pub(crate) fn open_as(world: &mut World, name: &str, isid: u8, keys: &[&str]) -> Initiator {
        Initiator::log_in(world, &login_request(name, Some(TARGET), isid, keys), keys)
    }

    pub(crate) fn discover(world: &mut World) -> Initiator {
        Initiator::log_in(world, &login_request(INITIATOR, None, 1, &[]), &[])
    }

    fn log_in(world: &mut World, request: &Pdu, keys: &[&str]) -> Initiator {
        let at = world.accept();
        let answer = world.ask(at, request);
        assert_eq!(
            (answer.opcode(), answer.bhs[1], answer.bhs[36]),
            (LOGIN_RESPONSE, 0x87, 0),
            "{answer:02x?}"
        );
        world.links[at].digests = Digests {
            header: keys.contains(&"HeaderDigest=CRC32C"),
            data: keys.contains(&"DataDigest=CRC32C"),
        };
        Initiator { at, cmd_sn: 100, stat_sn: answer.stat_sn().wrapping_add(1), next_itt: 1 }
    }

    /// Takes the unit attentions of both LUNs.
    pub(crate) fn settle(&mut self, world: &mut World) {
        for lun in [0, 1] {
            while self.run(world, self.command(F, 0, &[0]).lun(lun)).status != 0 {}
        }
    }

    pub(crate) fn tag(&mut self) -> u32 {
        self.next_itt += 1;
        self.next_itt
    }

    /// A command without its numbers.
    pub(crate) fn command(&self, flags: u8, expected: usize, cdb: &[u8]) -> Pdu {
        Pdu::new(COMMAND).flags(flags | 1).word(20, expected as u32).bytes(32, cdb)
    }

    pub(crate) fn read(&self, lba: u32, blocks: u16) -> Pdu {
        self.command(F | R, usize::from(blocks) * 512, &cdb10(0x28, lba, blocks))
    }

    pub(crate) fn write(&self, lba: u32, blocks: u16) -> Pdu {
        self.command(F | W, usize::from(blocks) * 512, &cdb10(0x2a, lba, blocks))
    }

    /// Gives a request its tag, CmdSN and ExpStatSN.
    pub(crate) fn number(&mut self, pdu: Pdu) -> Pdu {
        let itt = self.tag();
        let pdu = pdu.itt(itt).word(24, self.cmd_sn).word(28, self.stat_sn);
        if pdu.bhs[0] & 0x40 == 0 {
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
        pdu
    }

    /// Numbers and sends a request; its tag.
    pub(crate) fn send(&mut self, world: &mut World, pdu: Pdu) -> u32 {
        let pdu = self.number(pdu);
        world.send(self.at, &pdu);
        pdu.tag()
    }

    /// What came; numbers of status are checked.
    pub(crate) fn answers(&mut self, world: &mut World) -> Vec<Pdu> {
        let answers = world.answers(self.at);
        for pdu in &answers {
            self.check(pdu);
        }
        answers
    }

    /// The only PDU that came.
    pub(crate) fn answer(&mut self, world: &mut World) -> Pdu {
        let mut answers = self.answers(world);
        assert_eq!(answers.len(), 1, "one PDU: {answers:02x?}");
        answers.remove(0)
    }

    /// Sends a request; the only PDU that comes.
    pub(crate) fn ask(&mut self, world: &mut World, pdu: Pdu) -> Pdu {
        self.send(world, pdu);
        self.answer(world)
    }

    /// Numbers a request, sends it and takes its answers to the end.
    pub(crate) fn run(&mut self, world: &mut World, pdu: Pdu) -> Done {
        let tag = self.send(world, pdu);
        let answers = self.answers(world);
        done(&answers, tag).unwrap_or_else(|| panic!("no end of {tag}: {answers:02x?}"))
    }

    /// Every status has the next StatSN, and everything tells the window.
    pub(crate) fn check(&mut self, pdu: &Pdu) {
        let carries = match pdu.opcode() {
            DATA_IN => pdu.bhs[1] & 1 != 0,
            R2T => false,
            crate::wire::NOP_IN => pdu.tag() != NO_TAG,
            _ => true,
        };
        let expected = match (carries, pdu.opcode()) {
            (false, DATA_IN) => 0,
            _ => self.stat_sn,
        };
        assert_eq!(pdu.stat_sn(), expected, "StatSN of {pdu:02x?}");
        if carries {
            self.stat_sn = self.stat_sn.wrapping_add(1);
        }
        let window = pdu.max_cmd_sn().wrapping_sub(pdu.exp_cmd_sn()) as i32;
        assert!((-1..=127).contains(&window), "the window of {pdu:02x?}");
    }

    /// Data for an R2T, or unsolicited with `ttt` all ones.
    pub(crate) fn data_out(
        &self,
        itt: u32,
        ttt: u32,
        sn: u32,
        offset: usize,
        last: bool,
        data: &[u8],
    ) -> Pdu {
        Pdu::new(DATA_OUT)
            .flags(if last { F } else { 0 })
            .itt(itt)
            .word(20, ttt)
            .word(28, self.stat_sn)
            .word(36, sn)
            .word(40, offset as u32)
            .data(data)
    }
}

/// How the command with this tag ended, if it did. Data-In have to be in order.
pub(crate) fn done(answers: &[Pdu], tag: u32) -> Option<Done> {
    let mut data = Vec::new();
    let mut sn = 0;
    for pdu in answers.iter().filter(|pdu| pdu.tag() == tag) {
        match pdu.opcode() {
            DATA_IN => {
                assert_eq!((pdu.word_at(36), pdu.word_at(40)), (sn, data.len() as u32), "DataSN, offset");
                assert_eq!(pdu.ttt(), NO_TAG, "no answer to Data-In is asked for");
                sn += 1;
                data.extend_from_slice(&pdu.data);
                if pdu.bhs[1] & 1 != 0 {
                    assert!(pdu.bhs[1] & F != 0, "S comes with F");
                    let (residual_flags, residual) = (pdu.bhs[1] & 6, pdu.word_at(44));
                    return Some(Done {
                        status: pdu.bhs[3],
                        sense: None,
                        data,
                        residual_flags,
                        residual,
                        exp_data_sn: sn,
                    });
                }
            }
            RESPONSE => {
                assert_eq!((pdu.bhs[1] & 0x81, pdu.bhs[2]), (F, 0), "completed at target");
                let sense = (!pdu.data.is_empty()).then(|| {
                    let len = usize::from(u16::from_be_bytes([pdu.data[0], pdu.data[1]]));
                    assert_eq!(len + 2, pdu.data.len(), "SenseLength");
                    (pdu.data[4] & 0xf, pdu.data[14], pdu.data[15])
                });
                return Some(Done {
                    status: pdu.bhs[3],
                    sense,
                    data,
                    residual_flags: pdu.bhs[1] & 0x1e,
                    residual: pdu.word_at(44),
                    exp_data_sn: pdu.word_at(36),
                });
            }
            _ => {}
        }
    }
    None
}

/// A CDB of 10 bytes with an LBA and a number of blocks.
pub(crate) fn cdb10(opcode: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let [a, b, c, d] = lba.to_be_bytes();
    let [high, low] = blocks.to_be_bytes();
    [opcode, 0, a, b, c, d, 0, high, low, 0]
}

/// Bytes that differ from block to block.
pub(crate) fn pattern(blocks: usize, seed: u8) -> Vec<u8> {
    (0..blocks * 512).map(|at| seed ^ (at as u8) ^ ((at / 512) as u8)).collect()
}
