//! Any bytes in any cut: each cut has to give the same answers as the whole, to the byte.
//!
//! The script: digests, the lengths of the pieces, then the stream.

use crate::input::Script;
use crate::wire::{Digests, Pdu};
use crate::world::World;

/// Pieces are cut in turn to these many lengths.
const CUTS: usize = 4;

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let options = script.byte();
    let digests = Digests { header: options & 1 != 0, data: options & 2 != 0 };
    let initialized = options & 4 == 0;
    let cuts: [u8; CUTS] = script.array();
    let stream = script.remainder();
    let whole = play(stream, &[usize::MAX], initialized.then_some(digests));
    let pieces = play(stream, &cuts.map(|cut| usize::from(cut) + 1), initialized.then_some(digests));
    assert_eq!(whole, pieces, "another cut gives other answers");
}

/// What the target sends, and whether it then still listens. How much of the offending header a C2HTermReq quotes depends on
/// how much of it had come, and is left out.
fn play(stream: &[u8], cuts: &[usize], digests: Option<Digests>) -> (Vec<Pdu>, bool) {
    let mut world = World::new();
    let at = world.accept();
    if let Some(digests) = digests {
        world.initialize(at, digests, 0);
    }
    let mut rest = stream;
    for cut in cuts.iter().cycle() {
        let (piece, later) = rest.split_at(rest.len().min(*cut));
        world.feed(at, piece);
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    let open = world.is_open(at);
    world.pump();
    world.links[at].is_lost = true;
    let sent = world.links[at].answers();
    world.finish();
    (sent, open)
}
