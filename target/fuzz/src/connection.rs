//! Any bytes on a connection that has got somewhere: to nothing, to ICResp, to an admin queue, to an I/O queue.
//!
//! The script: how far, digests and alignment; then pieces, each a length, what to do after it, and its bytes.

use crate::input::Script;
use crate::wire::{Digests, Sqe, configure, connect, connect_data};
use crate::world::{HOST, SUBNQN, World};

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let mut world = World::new();
    let [stage, options, alignment] = script.array();
    let digests = Digests { header: options & 1 != 0, data: options & 2 != 0 };
    let cattr = options & 4;
    let at = match stage % 4 {
        0 => world.accept(),
        1 => initialized(&mut world, digests, alignment % 32),
        2 => admin(&mut world, digests, cattr),
        _ => io(&mut world, digests, alignment % 32, cattr),
    };
    world.links[at].is_lost = true;
    while !script.is_over() {
        let [len, what] = script.array();
        let piece = script.slice(usize::from(len) * if what & 0x80 != 0 { 32 } else { 1 });
        world.feed(at, piece);
        match what % 8 {
            // The block layer goes on, and nothing is sent.
            1 => {
                world.deliver();
            }
            // A batch leaves, and does not arrive.
            2 => {
                world.send(at);
            }
            3 => world.tick(10_000),
            4 => {}
            5 => world.close(at),
            _ => world.pump(),
        }
    }
    world.pump();
    world.links[at].answers();
    world.finish();
}

/// A connection that has been answered its ICReq.
pub(crate) fn initialized(world: &mut World, digests: Digests, alignment: u8) -> usize {
    let at = world.accept();
    world.initialize(at, digests, alignment);
    at
}

/// The admin queue of an enabled controller.
pub(crate) fn admin(world: &mut World, digests: Digests, cattr: u8) -> usize {
    let at = initialized(world, digests, 0);
    command(world, at, connect(0, 32, cattr), &connect_data(0xffff, SUBNQN, HOST));
    command(world, at, configure(crate::wire::ENABLED), &[]);
    at
}

/// An I/O queue, of a controller with an admin queue of its own.
pub(crate) fn io(world: &mut World, digests: Digests, alignment: u8, cattr: u8) -> usize {
    admin(world, Digests::default(), 0);
    let at = initialized(world, digests, alignment);
    // The bystander's controller is the first, the player's the second.
    command(world, at, connect(1, 128, cattr), &connect_data(2, SUBNQN, HOST));
    at
}

fn command(world: &mut World, at: usize, sqe: Sqe, data: &[u8]) {
    let (_, capsule) = world.links[at].command(sqe, data);
    world.feed(at, &capsule);
    world.pump();
    world.links[at].answers();
    assert_eq!(world.links[at].outstanding(), 0, "a valid command is answered");
}
