//! Peers that send what they like: a defined answer, no panic, nothing left behind.

use proptest::prelude::*;

use crate::host::{Host, put, ranged, sgl, sqe};
use crate::world::{PI_HOST, PI_NSID, PLAIN_HOST, PLAIN_NSID, SUBNQN, World};

/// What a well-behaved host sends on an I/O queue of this CNTLID, up to its first R2T.
fn session(hdgst: bool, ddgst: bool) -> Vec<u8> {
    let world = World::new();
    let mut host = Host::new(&world, 2);
    let mut bytes = Host::icreq(u8::from(hdgst) | (u8::from(ddgst) << 1));
    (host.hdgst, host.ddgst) = (hdgst, ddgst);
    let mut connect = Host::connect_sqe(1, 127, 0);
    sgl(&mut connect, 0x01, 0, 1024);
    bytes.extend(host.capsule(&connect, &Host::connect_data(1, SUBNQN, PI_HOST)));
    let mut cid = 0_u16;
    let mut add = |host: &Host, mut sqe: [u8; 64], data: &[u8]| {
        cid += 1;
        sqe[2..4].copy_from_slice(&cid.to_le_bytes());
        bytes.extend(host.capsule(&sqe, data));
    };
    let mut write = ranged(0x01, PLAIN_NSID, 1, 1, 0);
    sgl(&mut write, 0x01, 0, 4096);
    add(&host, write, &[3; 4096]);
    let mut dsm = sqe(0x09, PLAIN_NSID);
    put(&mut dsm, 11, 4);
    sgl(&mut dsm, 0x01, 0, 16);
    add(&host, dsm, &[0; 16]);
    let mut read = ranged(0x02, PI_NSID, 0, 4, 0);
    sgl(&mut read, 0x5a, 0, 2080);
    add(&host, read, &[]);
    add(&host, sqe(0x00, u32::MAX), &[]);
    let mut large = ranged(0x01, PLAIN_NSID, 0, 4, 0);
    sgl(&mut large, 0x5a, 0, 16384);
    add(&host, large, &[]);
    for piece in 0..4_u32 {
        bytes.extend(host.h2cdata(5, 0, piece * 4096, &[4; 4096], piece == 3));
    }
    bytes
}

/// Plays bytes in pieces; afterwards everything has been given back, and another connection still works.
fn play(bytes: &[u8], pieces: &[usize]) {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PI_HOST, SUBNQN);
    let mut host = Host::new(&world, 2);
    let mut rest = bytes;
    for piece in pieces.iter().cycle() {
        let (now, later) = rest.split_at(rest.len().min(*piece));
        rest = later;
        host.offer(&mut world, now);
        drain(&mut host, &mut world);
        if rest.is_empty() {
            break;
        }
    }
    host.close(&mut world);
    assert_eq!((world.port.live_tickets(), world.port.live_attachments()), (0, 0));
    assert_eq!(admin.run(&mut world, sqe(0x18, 0), &[]).0, 0);
}

/// Lets the target work without looking at what it says.
fn drain(host: &mut Host, world: &mut World) {
    struct Nowhere;
    impl holdfast_block::TransmitSink for Nowhere {
        fn inline(&mut self, _: &[u8]) {}
        fn region(&mut self, _: u16, _: usize, _: usize) {}
        fn zeroes(&mut self, _: usize) {}
    }
    use holdfast_block::BlockPort;
    loop {
        while let Some(completion) = world.port.next_completion() {
            host.connection.complete(&mut world.context(), completion);
        }
        if !host.connection.poll_transmit(&mut world.context(), &mut Nowhere) {
            return;
        }
        host.connection.transmitted(&mut world.context());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn random_bytes_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 1..2000),
        pieces in prop::collection::vec(1_usize..600, 1..5),
        initialized in any::<bool>(),
    ) {
        let mut stream = if initialized { Host::icreq(0) } else { Vec::new() };
        stream.extend(bytes);
        play(&stream, &pieces);
    }

    #[test]
    fn mutated_sessions_never_panic(
        digests in (any::<bool>(), any::<bool>()),
        mutations in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        pieces in prop::collection::vec(1_usize..9000, 1..5),
    ) {
        let mut stream = session(digests.0, digests.1);
        for (at, value) in mutations {
            let at = at.index(stream.len());
            stream[at] = value;
        }
        if let Some(cut) = cut {
            stream.truncate(cut.index(stream.len()) + 1);
        }
        play(&stream, &pieces);
    }

    #[test]
    fn random_commands_are_always_answered_or_end_the_connection(
        fields in prop::collection::vec(any::<u8>(), 64),
        opcode in prop::sample::select(vec![0_u8, 1, 2, 5, 6, 8, 9, 0x0a, 0x0c, 0x18, 0x7f]),
        on_admin in any::<bool>(),
        nsid in prop::sample::select(vec![0_u32, 1, 2, 3, u32::MAX]),
        identifier in prop::sample::select(vec![0x01_u8, 0x5a, 0x00]),
        data in prop::collection::vec(any::<u8>(), 0..4200),
    ) {
        let mut world = World::new();
        let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
        let mut sqe: [u8; 64] = fields.try_into().unwrap();
        (sqe[0], sqe[1], sqe[39]) = (opcode, 0x40, identifier);
        sqe[4..8].copy_from_slice(&nsid.to_le_bytes());
        let host = if on_admin { &mut admin } else { &mut io };
        let capsule = host.capsule(&sqe, &data);
        host.send(&mut world, &capsule);
        drain(host, &mut world);
        admin.close(&mut world);
        io.close(&mut world);
        prop_assert_eq!((world.port.live_tickets(), world.port.live_attachments()), (0, 0));
    }
}
