//! A valid session, bent: PDUs changed, dropped, doubled, swapped, cut, sent late, with Aborts from the admin queue between them.
//!
//! The script: digests and flow control; then one step for each PDU of the session, in order, that says what becomes of
//! it. A script that is over leaves the rest of the session as it is, so that the empty script is the valid session.

use crate::connection;
use crate::input::Script;
use crate::wire::{self, Digests, Pdu, Sqe};
use crate::world::{LARGE_NSID, SMALL_NSID, World};

/// Most PDUs that a script may add to the session.
const EXTRA_MAX: usize = 32;

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    let options = script.byte();
    let digests = Digests { header: options & 1 != 0, data: options & 2 != 0 };
    let io = connection::io(&mut world, digests, (options >> 3) % 32, options & 4);
    let mut player = Player { world, script, admin: io - 1, io, kept: Vec::new(), extra: 0, bent: false };
    for command in session() {
        player.command(command);
    }
    player.kept();
    let Player { mut world, bent, .. } = player;
    world.pump();
    world.links[io].answers();
    let left = world.links[io].outstanding();
    assert!(bent || left == 0, "{left} commands of a valid session were not answered");
    world.finish();
}

/// The commands of the session: opcode, NSID, LBA, blocks, and whether data goes in the capsule.
fn session() -> Vec<(u8, u32, u32, u32, bool)> {
    vec![
        (0x01, LARGE_NSID, 0, 1, true),
        (0x02, LARGE_NSID, 0, 1, false),
        (0x01, LARGE_NSID, 4, 8, false),
        (0x05, SMALL_NSID, 0, 8, false),
        (0x01, SMALL_NSID, 0, 8, true),
        (0x00, LARGE_NSID, 0, 1, false),
        (0x09, LARGE_NSID, 0, 4, true),
        (0x02, SMALL_NSID, 0, 32, false),
        (0x01, LARGE_NSID, 0, 16, false),
        (0x08, LARGE_NSID, 0, 4, false),
        (0x02, LARGE_NSID, 0, 32, false),
    ]
}

struct Player<'a> {
    world: World,
    script: Script<'a>,
    admin: usize,
    io: usize,
    /// PDUs that were kept back.
    kept: Vec<Vec<u8>>,
    extra: usize,
    /// Whether anything was not as a well-behaved host does it.
    bent: bool,
}

impl Player<'_> {
    fn command(&mut self, (opcode, nsid, lba, blocks, in_capsule): (u8, u32, u32, u32, bool)) {
        let block_len = if nsid == SMALL_NSID { 520 } else { 4104 };
        let len = if opcode == 0x09 { 16 * blocks as usize } else { block_len * blocks as usize };
        let sqe = match opcode {
            0x09 => Sqe::new(opcode, nsid).dword(10, blocks - 1).dword(11, 4),
            _ => Sqe::ranged(opcode, nsid, lba, blocks),
        };
        let data = if in_capsule { vec![7; len] } else { Vec::new() };
        let data = if opcode == 0x09 { vec![0; len] } else { data };
        let sqe = if in_capsule { sqe.in_capsule(len) } else { sqe.transport(len) };
        let (_, capsule) = self.world.links[self.io].command(sqe, &data);
        self.bend(capsule);
        self.go_on();
    }

    /// Lets the target work, and sends the data that it asks for.
    fn go_on(&mut self) {
        for _ in 0..4 {
            self.world.pump();
            let answers = self.world.links[self.io].answers();
            let mut asked = false;
            for pdu in answers {
                if let Pdu::R2t { cid, ttag, length, .. } = pdu {
                    asked = true;
                    self.transfer(cid, ttag, length as usize);
                }
            }
            if !asked {
                return;
            }
        }
    }

    /// The data of an R2T, in two PDUs.
    fn transfer(&mut self, cid: u16, ttag: u16, len: usize) {
        let digests = self.world.links[self.io].digests;
        let data = vec![9; len];
        let half = (len / 2).next_multiple_of(4).min(len);
        let (first, second) = data.split_at(half);
        self.bend(wire::host_data(cid, ttag, 0, first, second.is_empty(), digests));
        if !second.is_empty() {
            self.bend(wire::host_data(cid, ttag, half as u32, second, true, digests));
        }
    }

    /// Sends a PDU, or does something else with it.
    fn bend(&mut self, mut pdu: Vec<u8>) {
        let what = if self.extra < EXTRA_MAX { self.script.byte() } else { 0 };
        self.bent |= what % 16 != 0;
        // From here on nobody knows what commands the target has seen.
        self.world.links[self.io].is_lost |= matches!(what % 16, 2 | 4 | 8 | 9 | 10);
        match what % 16 {
            1 => {}
            2 => {
                self.extra += 1;
                self.feed(&pdu.clone());
            }
            3 => return self.kept.push(pdu),
            4 => {
                let len = pdu.len() * usize::from(self.script.byte()) / 256;
                pdu.truncate(len);
            }
            5 => self.abort(),
            6 => {
                self.feed(&pdu);
                return self.abort();
            }
            7 => self.kept(),
            8 | 9 => {
                let [at, value] = self.script.array();
                let len = pdu.len();
                pdu[usize::from(at) % len.min(80)] = value;
                wire::seal(&mut pdu, self.world.links[self.io].digests);
            }
            10 => {
                let at = usize::from(self.script.half()) % pdu.len();
                pdu[at] ^= 1 << (what >> 5);
            }
            11 => {
                self.world.send(self.io);
            }
            12 => self.world.tick(u64::from(self.script.half())),
            13 => {
                let (sqe, data) = (Sqe::fabrics(self.script.byte() % 16), []);
                let (_, capsule) = self.world.links[self.io].command(sqe, &data);
                self.feed(&capsule);
            }
            14 => {
                let cc = self.script.pick(&[0, wire::ENABLED, wire::ENABLED | 0x4000]);
                self.admin_command(wire::configure(cc));
            }
            15 => self.world.close(if self.script.coin() { self.io } else { self.admin }),
            _ => {}
        }
        if what % 16 != 1 {
            self.feed(&pdu);
        }
    }

    fn feed(&mut self, pdu: &[u8]) {
        let cut = pdu.len() / 2;
        let (head, tail) = pdu.split_at(cut);
        self.world.feed(self.io, head);
        self.world.feed(self.io, tail);
    }

    /// Sends what was kept back.
    fn kept(&mut self) {
        for pdu in std::mem::take(&mut self.kept) {
            self.feed(&pdu);
        }
    }

    /// Aborts one of the last commands.
    fn abort(&mut self) {
        let cid = self.script.byte();
        self.admin_command(Sqe::new(0x08, 0).dword(10, 1 | (u32::from(cid % 24) << 16)));
        self.world.pump();
        self.world.links[self.admin].answers();
    }

    fn admin_command(&mut self, sqe: Sqe) {
        let (_, capsule) = self.world.links[self.admin].command(sqe, &[]);
        self.world.feed(self.admin, &capsule);
    }
}
