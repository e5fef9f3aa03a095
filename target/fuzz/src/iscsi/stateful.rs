//! A valid session, bent: PDUs changed, dropped, doubled, swapped, cut, sent late, with task management between them.
//!
//! The script: the keys of the login; then one step for each PDU of the session, in order, that says what becomes of it. A
//! script that is over leaves the rest of the session as it is, so that the empty script is the valid session.

use std::collections::HashMap;

use crate::input::Script;

use super::initiator::{Initiator, data_out, transfer, unsolicited};
use super::wire::{DATA_IN, Digests, F, LOGOUT, MANAGE, NO_TAG, NOP_OUT, Pdu, R, R2T, RESPONSE, W, seal};
use super::world::{INITIATOR, TARGET, World};

/// Most PDUs that a script may add to the session.
const EXTRA_MAX: usize = 32;

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    let options = script.byte();
    let mut keys = vec!["MaxBurstLength=2048", "FirstBurstLength=1024"];
    for (bit, key) in [
        "HeaderDigest=CRC32C",
        "DataDigest=CRC32C",
        "InitialR2T=No",
        "ImmediateData=No",
        "MaxOutstandingR2T=3",
    ]
    .into_iter()
    .enumerate()
    {
        keys.extend((options >> bit & 1 != 0).then_some(key));
    }
    let initiator = Initiator::open(&mut world, INITIATOR, TARGET, &keys);
    let (eager, with) = (options & 4 != 0, options & 8 == 0);
    let mut player = Player {
        world,
        script,
        initiator,
        eager,
        with,
        open: HashMap::new(),
        kept: Vec::new(),
        extra: 0,
        bent: false,
        lost: false,
    };
    for command in session() {
        player.command(command);
    }
    player.kept();
    player.go_on();
    assert!(
        player.bent || player.open.is_empty(),
        "commands of a valid session were not answered: {:?}",
        player.open
    );
    player.world.finish();
}

/// The commands of the session: opcode, LUN, LBA, blocks and the length of each.
fn session() -> Vec<(u8, u8, u32, u16, u32)> {
    vec![
        (0x2a, 0, 0, 1, 512),
        (0x28, 0, 0, 1, 512),
        (0x2a, 0, 4, 12, 512),
        (0x12, 0, 0, 36, 1),
        (0x2a, 0, 0, 4, 520),
        (0x28, 0, 0, 4, 520),
        (0x35, 0, 0, 0, 512),
        (0x2a, 1, 0, 9, 512),
        (0x28, 1, 0, 32, 512),
        (0x2e, 0, 16, 3, 512),
        (0x42, 0, 0, 24, 1),
        (0x28, 0, 0, 64, 512),
        (0x28, 0, 300, 1, 512),
    ]
}

/// What is known of a command.
#[derive(Debug)]
struct Open {
    out: usize,
    came: usize,
}

struct Player<'a> {
    world: World,
    script: Script<'a>,
    initiator: Initiator,
    /// Unsolicited Data-Out was agreed.
    eager: bool,
    /// Immediate data was agreed.
    with: bool,
    /// By tag.
    open: HashMap<u32, Open>,
    /// PDUs that were kept back.
    kept: Vec<Vec<u8>>,
    extra: usize,
    /// Whether anything was not as a well-behaved initiator does it.
    bent: bool,
    /// Nobody knows any more what commands the target has seen.
    lost: bool,
}

impl Player<'_> {
    fn command(&mut self, (opcode, lun, lba, blocks, block_len): (u8, u8, u32, u16, u32)) {
        let writes = matches!(opcode, 0x2a | 0x2e | 0x42);
        let mut pdu = transfer(opcode, lba, blocks, block_len).bytes(9, &[lun]);
        match opcode {
            0x12 => pdu = pdu.bytes(32, &[0x12, 0, 0, 0, 36, 0, 0, 0, 0]),
            0x42 => pdu = pdu.bytes(32, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24]),
            0x35 => pdu = pdu.flags(F | 1),
            _ => {}
        }
        let len = usize::from(blocks) * block_len as usize;
        // FirstBurstLength.
        let first = len.min(1024);
        let with = if writes && self.with { first / 2 } else { 0 };
        let more = writes && self.eager && first > with;
        if writes {
            pdu = pdu.flags(if more { 0 } else { F } | W | 1);
        } else if opcode != 0x35 {
            pdu = pdu.flags(F | R | 1);
        }
        let pdu = self.initiator.number(pdu.data(&vec![0; with]));
        self.open.insert(pdu.tag(), Open { out: if writes { len } else { 0 }, came: 0 });
        let digests = self.digests();
        self.bend(pdu.encode(digests));
        if more {
            let rest = unsolicited(&pdu, 0, with, true, &vec![0; first - with]);
            self.bend(rest.encode(digests));
        }
        self.go_on();
    }

    fn digests(&self) -> Digests {
        self.world.links[self.initiator.at].digests
    }

    /// Lets the target work, and sends the data that it asks for.
    fn go_on(&mut self) {
        for _ in 0..8 {
            self.world.pump();
            let mut asked = false;
            for pdu in self.world.answers(self.initiator.at) {
                if pdu.opcode() == R2T {
                    asked = true;
                    self.transfer(&pdu);
                }
                self.judge(&pdu);
            }
            if !asked {
                return;
            }
        }
    }

    /// Each command has at most one end, and no more data than it wants.
    fn judge(&mut self, pdu: &Pdu) {
        let ends = match pdu.opcode() {
            RESPONSE => true,
            DATA_IN => pdu.bhs[1] & 1 != 0,
            _ => false,
        };
        let is_of_command = ends || pdu.opcode() == DATA_IN;
        if !is_of_command || self.lost {
            return;
        }
        let open = self.open.get_mut(&pdu.tag()).expect("an answer to a command that is open");
        if pdu.opcode() == DATA_IN {
            assert_eq!(open.came, pdu.word_at(40) as usize, "Data-In in order");
            open.came += pdu.data.len();
        }
        if ends {
            self.open.remove(&pdu.tag());
        }
    }

    /// The data of an R2T, in two PDUs.
    fn transfer(&mut self, r2t: &Pdu) {
        let [offset, len] = [40, 44].map(|at| r2t.word_at(at) as usize);
        assert!((1..=2048).contains(&len), "an R2T of {len} bytes");
        if let Some(open) = self.open.get(&r2t.tag()).filter(|_| !self.lost) {
            assert!(offset + len <= open.out, "an R2T for {offset}+{len} of {}", open.out);
        }
        let half = (len / 2).next_multiple_of(4).min(len);
        let digests = self.digests();
        self.bend(data_out(r2t, 0, offset, half == len, &vec![0; half]).encode(digests));
        if half < len {
            self.bend(data_out(r2t, 1, offset + half, true, &vec![0; len - half]).encode(digests));
        }
    }

    /// Sends a PDU, or does something else with it.
    fn bend(&mut self, mut pdu: Vec<u8>) {
        let what = if self.extra < EXTRA_MAX { self.script.byte() } else { 0 };
        self.bent |= what % 16 != 0;
        self.lost |= matches!(what % 16, 2 | 4 | 8 | 9 | 10 | 15);
        match what % 16 {
            2 => {
                self.extra += 1;
                self.feed(&pdu.clone());
            }
            3 => return self.kept.push(pdu),
            4 => {
                let len = pdu.len() * usize::from(self.script.byte()) / 256;
                pdu.truncate(len);
            }
            5 => self.manage(),
            6 => {
                self.feed(&pdu);
                return self.manage();
            }
            7 => self.kept(),
            8 | 9 => {
                let [at, value] = self.script.array();
                pdu[usize::from(at) % 48] = value;
                let digests = self.digests();
                seal(&mut pdu, digests);
            }
            10 => {
                let at = usize::from(self.script.half()) % pdu.len();
                pdu[at] ^= 1 << (what >> 5);
            }
            11 => {
                self.world.send(self.initiator.at);
            }
            12 => self.world.tick(u64::from(self.script.half())),
            13 => {
                let ping = self.initiator.number(Pdu::new(NOP_OUT).word(20, NO_TAG).data(b"ping"));
                let digests = self.digests();
                self.feed(&ping.encode(digests));
            }
            14 => {
                let shown = self.script.byte();
                self.world.show(shown | 4);
            }
            15 if what & 0x10 != 0 => self.world.close(self.initiator.at),
            15 => {
                let logout = self.initiator.number(Pdu::new(LOGOUT));
                let digests = self.digests();
                self.feed(&logout.encode(digests));
            }
            _ => {}
        }
        if what % 16 != 1 {
            self.feed(&pdu);
        }
    }

    fn feed(&mut self, pdu: &[u8]) {
        let (head, tail) = pdu.split_at(pdu.len() / 2);
        self.world.feed(self.initiator.at, head);
        self.world.feed(self.initiator.at, tail);
    }

    /// Sends what was kept back.
    fn kept(&mut self) {
        for pdu in std::mem::take(&mut self.kept) {
            self.feed(&pdu);
        }
    }

    /// Aborts one of the last commands, or all of a unit.
    fn manage(&mut self) {
        let [function, back] = self.script.array();
        let number = self.initiator.cmd_sn.wrapping_sub(u32::from(back % 8));
        let referenced = number.wrapping_add(u32::from(back >> 6));
        let pdu = Pdu::new(MANAGE)
            .flags(F | [1, 1, 2, 4, 5, 6][usize::from(function % 6)])
            .word(20, referenced)
            .word(32, number)
            .immediate();
        let pdu = self.initiator.number(pdu);
        let digests = self.digests();
        self.feed(&pdu.encode(digests));
    }
}
