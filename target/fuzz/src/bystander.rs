//! Another host at work on the same core, whose data and connections have to be as it left them.

use crate::link::Link;
use crate::wire::{self, Digests, ENABLED, Pdu, Sqe, connect, connect_data};
use crate::world::{BYSTANDER, BYSTANDER_SUBNQN, World};

/// Its two connections.
pub(crate) struct Bystander {
    admin: usize,
    io: usize,
}

const NSID: u32 = 1;
const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
const KEEP_ALIVE: u8 = 0x18;
/// Blocks that are written in the capsule, and by R2T.
const SMALL: usize = 1;
const LARGE: usize = 4;
const BLOCK: usize = 4096;

impl Bystander {
    /// Connects, and writes what it will look for.
    pub(crate) fn new(world: &mut World) -> Bystander {
        let admin = world.accept();
        world.initialize(admin, Digests::default(), 0);
        let data = connect_data(0xffff, BYSTANDER_SUBNQN, BYSTANDER);
        let cntlid = run(world, admin, connect(0, 32, 0), &data);
        run(world, admin, wire::configure(ENABLED), &[]);
        let io = world.accept();
        world.initialize(io, Digests { header: true, data: true }, 0);
        run(world, io, connect(1, 128, 0), &connect_data(cntlid as u16, BYSTANDER_SUBNQN, BYSTANDER));
        let bystander = Bystander { admin, io };
        bystander.write(world, 0, SMALL, 1);
        bystander.write(world, 8, LARGE, 2);
        bystander
    }

    /// Everything is as it was, and goes on.
    pub(crate) fn check(&self, world: &mut World) {
        run(world, self.admin, Sqe::new(KEEP_ALIVE, 0), &[]);
        for (lba, blocks, byte) in [(0, SMALL, 1), (8, LARGE, 2)] {
            assert_eq!(self.read(world, lba, blocks), pattern(blocks, byte), "the bystander's data");
        }
        self.write(world, 0, LARGE, 3);
        assert_eq!(self.read(world, 0, LARGE), pattern(LARGE, 3), "the bystander's new data");
    }

    fn write(&self, world: &mut World, lba: u32, blocks: usize, byte: u8) {
        let data = pattern(blocks, byte);
        let sqe = Sqe::ranged(WRITE, NSID, lba, blocks as u32);
        if blocks == SMALL {
            run(world, self.io, sqe.in_capsule(data.len()), &data);
            return;
        }
        let link = &mut world.links[self.io];
        let (_, capsule) = link.command(sqe.transport(data.len()), &[]);
        world.feed(self.io, &capsule);
        world.pump();
        let link = &mut world.links[self.io];
        let answers = link.answers();
        let [Pdu::R2t { cid, ttag, .. }] = answers[..] else { panic!("the bystander's R2T: {answers:?}") };
        let pdu = wire::host_data(cid, ttag, 0, &data, true, link.digests);
        world.feed(self.io, &pdu);
        world.pump();
        succeeded(&mut world.links[self.io]);
    }

    fn read(&self, world: &mut World, lba: u32, blocks: usize) -> Vec<u8> {
        let sqe = Sqe::ranged(READ, NSID, lba, blocks as u32).transport(blocks * BLOCK);
        let (_, capsule) = world.links[self.io].command(sqe, &[]);
        world.feed(self.io, &capsule);
        world.pump();
        succeeded(&mut world.links[self.io]).1
    }
}

fn pattern(blocks: usize, byte: u8) -> Vec<u8> {
    (0..blocks * BLOCK).map(|at| byte ^ (at as u8) ^ ((at / BLOCK) as u8)).collect()
}

/// A command that has to succeed; Dword 0 of its completion.
fn run(world: &mut World, at: usize, sqe: Sqe, data: &[u8]) -> u32 {
    let (_, capsule) = world.links[at].command(sqe, data);
    world.feed(at, &capsule);
    world.pump();
    succeeded(&mut world.links[at]).0
}

/// The completion of the only command that was sent, and the data that came before it.
fn succeeded(link: &mut Link) -> (u32, Vec<u8>) {
    let mut received = Vec::new();
    for pdu in link.answers() {
        match pdu {
            Pdu::Data { data, .. } => received.extend(data),
            Pdu::Response { status: 0, result, .. } => return (result as u32, received),
            other => panic!("the bystander was told {other:?}"),
        }
    }
    panic!("the bystander was told nothing");
}
