//! Any bytes in any cut: each cut has to give the same answers as the whole, to the byte.
//!
//! The script: digests and whether there is a session; the lengths of the pieces; then the stream.

use crate::input::Script;

use super::initiator::Initiator;
use super::wire::Pdu;
use super::world::{INITIATOR, TARGET, World};

/// Pieces are cut in turn to these many lengths.
const CUTS: usize = 4;

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let options = script.byte();
    let cuts: [u8; CUTS] = script.array();
    let stream = script.remainder();
    let whole = play(stream, &[usize::MAX], options);
    let pieces = play(stream, &cuts.map(|cut| usize::from(cut) + 1), options);
    assert_eq!(whole, pieces, "another cut gives other answers");
}

/// What the target sends, and whether it then still listens.
fn play(stream: &[u8], cuts: &[usize], options: u8) -> (Vec<Pdu>, bool) {
    let mut world = World::new();
    let mut keys = vec!["InitialR2T=No"];
    keys.extend((options & 1 != 0).then_some("HeaderDigest=CRC32C"));
    keys.extend((options & 2 != 0).then_some("DataDigest=CRC32C"));
    let at = match options & 4 {
        0 => Initiator::open(&mut world, INITIATOR, TARGET, &keys).at,
        _ => world.accept(),
    };
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
    let sent = world.answers(at);
    world.finish();
    (sent, open)
}
