//! Controllers that come, are configured, asked, reset, and go, over several connections.
//!
//! The script: steps of a kind, a connection and what the kind needs. Commands are well framed; their fields are near
//! what is valid, or anything.

use crate::input::Script;
use crate::wire::{self, Digests, ENABLED, Pdu, Sqe, connect, connect_data};
use crate::world::{BYSTANDER_SUBNQN, HOST, SUBNQN, World};

/// Most connections of one input.
const CONNECTIONS_MAX: usize = 6;
/// The bystander's connections come first.
const FIRST: usize = 2;
const DISCOVERY: &str = "nqn.2014-08.org.nvmexpress.discovery";

/// Opcodes that a discovery or I/O controller knows, and some that none does.
const OPCODES: [u8; 12] = [0x02, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18, 0x18, 0x00, 0x0d, 0x81, 0xff];
/// Values of CC: enabled, disabled, shut down, and with settings that nobody supports.
const CONFIGURATIONS: [u32; 8] =
    [ENABLED, 0, ENABLED | 0x4000, 0x0046_0000 | 0x8000, ENABLED | 0x10, 1, ENABLED | 0x80, 0xffff_ffff];

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    while !script.is_over() {
        let [kind, which] = script.array();
        if world.links.len() == FIRST || (kind % 16 == 0 && world.links.len() < FIRST + CONNECTIONS_MAX) {
            let at = world.accept();
            world.initialize(at, Digests { header: which & 1 != 0, data: which & 2 != 0 }, 0);
            continue;
        }
        let at = FIRST + usize::from(which) % (world.links.len() - FIRST);
        match kind % 16 {
            0..=3 => connect_somehow(&mut world, at, &mut script),
            4 | 5 => {
                let cc = if script.coin() { script.pick(&CONFIGURATIONS) } else { script.word() };
                send(&mut world, at, wire::configure(cc), &[]);
            }
            6 => {
                let [size, offset] = script.array();
                let sqe = Sqe::fabrics(4).dword(10, size.into()).dword(11, offset.into());
                send(&mut world, at, sqe, &[]);
            }
            7 => send(&mut world, at, Sqe::fabrics(script.byte()), &[]),
            8 => {
                let ms = u64::from(script.half());
                world.tick(ms);
            }
            9 => world.close(at),
            10 => abort(&mut world, at, &mut script),
            11 => solicited_write(&mut world, at, &mut script),
            12 => world.show(script.byte() | if which & 0x80 == 0 { 4 } else { 0 }),
            _ => any_command(&mut world, at, &mut script),
        }
        if kind & 0x80 == 0 {
            world.pump();
            answer(&mut world, at);
        }
    }
    world.pump();
    for at in FIRST..world.links.len() {
        world.links[at].answers();
    }
    world.finish();
}

fn send(world: &mut World, at: usize, sqe: Sqe, data: &[u8]) {
    let (_, capsule) = world.links[at].command(sqe, data);
    world.feed(at, &capsule);
}

/// Looks at what has come, and sends the data that an R2T asks for.
fn answer(world: &mut World, at: usize) {
    for pdu in world.links[at].answers() {
        if let Pdu::R2t { cid, ttag, length, .. } = pdu
            && length as usize <= 4096
        {
            let data = vec![0; length as usize];
            let pdu = wire::host_data(cid, ttag, 0, &data, true, world.links[at].digests);
            world.feed(at, &pdu);
        }
    }
    world.pump();
    world.links[at].answers();
}

fn connect_somehow(world: &mut World, at: usize, script: &mut Script<'_>) {
    let [what, qid, cntlid, changes] = script.array();
    let subnqn = [SUBNQN, SUBNQN, DISCOVERY, BYSTANDER_SUBNQN][usize::from(what % 4)];
    let cntlid = if qid % 4 == 0 { 0xffff } else { u16::from(cntlid % 8) };
    let mut sqe = connect(u16::from(qid % 4), 32, what >> 4).dword(12, u32::from(script.half()));
    let mut data = connect_data(cntlid, subnqn, HOST);
    // A few bytes of the command or its data are something else.
    for _ in 0..changes % 4 {
        let [place, value] = script.array();
        match changes & 0x80 {
            0 => data[usize::from(place) * 4 % 1024] = value,
            _ => sqe.0[40 + usize::from(place) % 24] = value,
        }
    }
    send(world, at, sqe, &data);
}

fn abort(world: &mut World, at: usize, script: &mut Script<'_>) {
    let [sqid, cid] = script.array();
    let sqe = Sqe::new(0x08, 0).dword(10, u32::from(sqid % 4) | (u32::from(cid) << 16));
    send(world, at, sqe, &[]);
}

/// A write whose data is asked for by R2T, so that there is something to abort.
fn solicited_write(world: &mut World, at: usize, script: &mut Script<'_>) {
    let blocks = u32::from(script.byte() % 8) + 1;
    let sqe = Sqe::ranged(0x01, 1, 0, blocks).transport(4104 * blocks as usize);
    send(world, at, sqe, &[]);
}

fn any_command(world: &mut World, at: usize, script: &mut Script<'_>) {
    let opcode = script.pick(&OPCODES);
    let nsid = script.pick(&[0, 1, 2, 3, u32::MAX]);
    let mut sqe = Sqe::new(opcode, nsid).transport(usize::from(script.half()));
    // An identifier and a length, a feature's value, an offset.
    let [identifier, length] = script.array();
    sqe = sqe.dword(10, u32::from(identifier) | (u32::from(length) << 16));
    for dword in [11, 12] {
        sqe = sqe.dword(dword, if script.coin() { script.byte().into() } else { script.word() });
    }
    if script.byte().is_multiple_of(8) {
        sqe.0[usize::from(script.byte()) % 64] = script.byte();
        // Room that is larger than what the link believes would only make its judgement milder.
    }
    send(world, at, sqe, &[]);
}
