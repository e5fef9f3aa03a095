//! Errors that end the connection, each with its reason. NVMe/TCP 1.1 §3.4 "Error Processing" and §3.6.2.5.

use crate::host::{Host, Pdu, ranged, sgl};
use crate::world::{PLAIN_HOST, PLAIN_NSID, World};
use holdfast_block::Disposition;
use holdfast_nvme::H2cDataMax;

const FIELD: u16 = 1;
const SEQUENCE: u16 = 2;
const RANGE: u16 = 4;
const LIMIT: u16 = 5;
const PARAMETER: u16 = 6;

fn fresh(bytes: &[u8], fes: u16, fei: u32) {
    let mut world = World::new();
    let mut host = Host::new(&world, 1);
    host.send(&mut world, bytes);
    let quoted = host.expect_term(&mut world, fes, fei);
    assert_eq!(quoted, bytes[..quoted.len()]);
}

/// Sends a PDU made from a valid one on an I/O queue.
fn spoiled(spoil: impl Fn(&mut Vec<u8>), fes: u16, fei: u32) {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let mut sqe = ranged(0x01, PLAIN_NSID, 0, 1, 0);
    sgl(&mut sqe, 0x01, 0, 4096);
    let mut capsule = io.capsule(&sqe, &[0; 4096]);
    spoil(&mut capsule);
    io.send(&mut world, &capsule);
    io.expect_term(&mut world, fes, fei);
    assert_eq!(world.port.live_tickets(), 0);
}

/// A write of 16384 bytes whose R2T has come: the host, the command, the transfer tag.
fn asked(world: &mut World) -> (Host, Host, u16, u16) {
    let (admin, mut io) = Host::io(world, PLAIN_HOST, false, false);
    let mut sqe = ranged(0x01, PLAIN_NSID, 0, 64, 0);
    sgl(&mut sqe, 0x5a, 0, 1 << 18);
    let cid = io.submit(world, sqe, &[]);
    let answer = io.pump(world);
    let [Pdu::R2t { ttag, .. }] = answer[..] else { panic!("{answer:?}") };
    (admin, io, cid, ttag)
}

#[test]
fn a_command_before_icreq_is_a_sequence_error() {
    let mut pdu = vec![0; 72];
    (pdu[0], pdu[2], pdu[4]) = (4, 72, 72);
    fresh(&pdu, SEQUENCE, 0);
}

#[test]
fn a_second_icreq_is_a_sequence_error() {
    let mut world = World::new();
    let mut host = Host::new(&world, 1);
    host.initialize(&mut world, false, false);
    host.send(&mut world, &Host::icreq(0));
    host.expect_term(&mut world, SEQUENCE, 0);
}

#[test]
fn an_unknown_pdu_type_is_an_invalid_field() {
    for kind in [0x01, 0x03, 0x05, 0x07, 0x08, 0x09, 0x0a, 0xff] {
        let mut pdu = Host::icreq(0);
        pdu[0] = kind;
        fresh(&pdu, FIELD, 0);
    }
}

#[test]
fn icreq_fields_are_checked_lowest_first() {
    for (at, value, fes, fei) in [
        (2, 127, FIELD, 2),
        (4, 129, FIELD, 4),
        (8, 1, PARAMETER, 8),
        (9, 1, PARAMETER, 8),
        (10, 32, FIELD, 10),
    ] {
        let mut pdu = Host::icreq(0);
        pdu[at] = value;
        fresh(&pdu, fes, fei);
    }
    let mut pdu = Host::icreq(0);
    (pdu[2], pdu[4], pdu[10]) = (127, 129, 99);
    fresh(&pdu, FIELD, 2);
}

#[test]
fn reserved_fields_of_icreq_are_not_looked_at() {
    let mut world = World::new();
    let mut host = Host::new(&world, 1);
    let mut pdu = Host::icreq(0b1111_1101);
    (pdu[1], pdu[3]) = (0xff, 0xff);
    pdu[16..].fill(0xff);
    host.send(&mut world, &pdu);
    let answer = host.pump(&mut world);
    assert!(matches!(answer[..], [Pdu::IcResp { dgst: 1, .. }]), "{answer:?}");
}

#[test]
fn digest_flags_are_those_that_were_agreed() {
    spoiled(|pdu| pdu[1] = 1, FIELD, 1);
    spoiled(|pdu| pdu[1] = 2, FIELD, 1);
    for (hdgst, ddgst, flags) in [(true, false, 0), (true, false, 3), (false, true, 0), (false, true, 3)] {
        let mut world = World::new();
        let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, hdgst, ddgst);
        let mut sqe = ranged(0x01, PLAIN_NSID, 0, 1, 0);
        sgl(&mut sqe, 0x01, 0, 4096);
        let mut capsule = io.capsule(&sqe, &[0; 4096]);
        capsule[1] = flags;
        if hdgst {
            let digest = crate::host::crc(&capsule[..72]);
            capsule[72..76].copy_from_slice(&digest);
        }
        io.send(&mut world, &capsule);
        io.expect_term(&mut world, FIELD, 1);
    }
}

#[test]
fn reserved_flags_and_pdo_without_data_are_not_looked_at() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let mut flush = io.capsule(&crate::host::sqe(0x00, PLAIN_NSID), &[]);
    (flush[1], flush[3]) = (0xfc, 0x51);
    io.send(&mut world, &flush);
    let answer = io.pump(&mut world);
    assert!(matches!(answer[..], [Pdu::Response { status: 0, .. }]), "{answer:?}");
}

#[test]
fn a_data_digest_flag_without_data_says_nothing_where_digests_are_on() {
    for (ddgst, fine) in [(true, true), (false, false)] {
        let mut world = World::new();
        let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, ddgst);
        let mut flush = io.capsule(&crate::host::sqe(0x00, PLAIN_NSID), &[]);
        flush[1] = 2;
        io.send(&mut world, &flush);
        if fine {
            assert!(matches!(io.pump(&mut world)[..], [Pdu::Response { status: 0, .. }]));
        } else {
            io.expect_term(&mut world, FIELD, 1);
        }
    }
}

#[test]
fn data_may_start_at_any_later_dword() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let mut sqe = ranged(0x01, PLAIN_NSID, 0, 1, 0);
    sgl(&mut sqe, 0x01, 0, 4096);
    let mut capsule = io.capsule(&sqe, &[7; 4096]);
    capsule[3] = 128;
    capsule[4..8].copy_from_slice(&(128 + 4096_u32).to_le_bytes());
    capsule.splice(72..72, [0xee; 56]);
    io.send(&mut world, &capsule);
    assert!(matches!(io.pump(&mut world)[..], [Pdu::Response { status: 0, .. }]));
    let mut read = ranged(0x02, PLAIN_NSID, 0, 1, 0);
    sgl(&mut read, 0x5a, 0, 4096);
    assert_eq!(io.run(&mut world, read, &[]).2, [7; 4096]);
}

#[test]
fn a_wrong_header_length_is_invalid() {
    spoiled(|pdu| pdu[2] = 24, FIELD, 2);
}

#[test]
fn data_that_starts_inside_the_header_or_unaligned_is_invalid() {
    spoiled(|pdu| pdu[3] = 68, FIELD, 3);
    spoiled(|pdu| pdu[3] = 74, FIELD, 3);
    spoiled(|pdu| pdu[3] = 0, FIELD, 3);
}

#[test]
fn a_capsule_shorter_than_its_header_or_longer_than_allowed_is_invalid() {
    spoiled(|pdu| pdu[4..8].copy_from_slice(&72_u32.saturating_sub(1).to_le_bytes()), FIELD, 4);
    spoiled(|pdu| pdu[4..8].copy_from_slice(&(72 + 8192 + 1_u32).to_le_bytes()), FIELD, 4);
    spoiled(|pdu| pdu[4..8].copy_from_slice(&u32::MAX.to_le_bytes()), FIELD, 4);
}

#[test]
fn data_for_an_unknown_transfer_tag_is_an_invalid_field() {
    let mut world = World::new();
    let (_admin, mut io, cid, ttag) = asked(&mut world);
    let pdu = io.h2cdata(cid, ttag + 1, 0, &[0; 512], false);
    io.send(&mut world, &pdu);
    io.expect_term(&mut world, FIELD, 10);
}

#[test]
fn data_for_another_command_is_an_invalid_field() {
    let mut world = World::new();
    let (_admin, mut io, cid, ttag) = asked(&mut world);
    let pdu = io.h2cdata(cid + 1, ttag, 0, &[0; 512], false);
    io.send(&mut world, &pdu);
    io.expect_term(&mut world, FIELD, 8);
}

#[test]
fn data_that_nobody_asked_for_is_refused() {
    let mut world = World::new();
    let (_admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let pdu = io.h2cdata(1, 0, 0, &[0; 512], true);
    io.send(&mut world, &pdu);
    io.expect_term(&mut world, FIELD, 10);
}

#[test]
fn data_beyond_the_transfer_is_out_of_range() {
    for (offset, len) in [((1 << 18) - 4, 8), (1 << 18, 4), (u32::MAX - 3, 4)] {
        let mut world = World::new();
        let (_admin, mut io, cid, ttag) = asked(&mut world);
        let pdu = io.h2cdata(cid, ttag, offset, &vec![0; len], false);
        io.send(&mut world, &pdu);
        io.expect_term(&mut world, RANGE, 0);
    }
}

#[test]
fn data_out_of_order_is_a_sequence_error() {
    let mut world = World::new();
    let (_admin, mut io, cid, ttag) = asked(&mut world);
    let pdu = io.h2cdata(cid, ttag, 512, &[0; 512], false);
    io.send(&mut world, &pdu);
    io.expect_term(&mut world, SEQUENCE, 0);
}

#[test]
fn a_last_flag_in_the_middle_is_a_sequence_error() {
    let mut world = World::new();
    let (_admin, mut io, cid, ttag) = asked(&mut world);
    let pdu = io.h2cdata(cid, ttag, 0, &[0; 512], true);
    io.send(&mut world, &pdu);
    io.expect_term(&mut world, SEQUENCE, 0);
}

#[test]
fn more_than_maxh2cdata_exceeds_the_limit() {
    let mut world = World::new();
    let (_admin, mut io, cid, ttag) = asked(&mut world);
    let pdu = io.h2cdata(cid, ttag, 0, &vec![0; 128 * 1024 + 4], false);
    io.send(&mut world, &pdu);
    io.expect_term(&mut world, LIMIT, 0);
}

#[test]
fn a_smaller_maxh2cdata_is_told_and_held_to() {
    let smaller = H2cDataMax::new(4100).unwrap();
    let mut world = World::with_h2c_data_max(smaller);
    let mut host = Host::new(&world, 1);
    host.send(&mut world, &Host::icreq(0));
    assert_eq!(host.pump(&mut world), [Pdu::IcResp { dgst: 0, maxh2cdata: 4100 }]);
    for (len, is_fine) in [(4100, true), (4104, false)] {
        let mut world = World::with_h2c_data_max(smaller);
        let (_admin, mut io, cid, ttag) = asked(&mut world);
        let pdu = io.h2cdata(cid, ttag, 0, &vec![0; len], false);
        io.send(&mut world, &pdu);
        if is_fine {
            assert_eq!(io.pump(&mut world), []);
        } else {
            io.expect_term(&mut world, LIMIT, 0);
        }
    }
    let refused = [0, 4092, 4098, 128 * 1024 + 4, u32::MAX].map(H2cDataMax::new);
    assert_eq!(refused, [None; 5]);
}

#[test]
fn a_data_length_that_lies_is_an_invalid_field() {
    let mut world = World::new();
    let (_admin, mut io, cid, ttag) = asked(&mut world);
    let mut pdu = io.h2cdata(cid, ttag, 0, &[0; 512], false);
    pdu[16] = 4;
    io.send(&mut world, &pdu);
    io.expect_term(&mut world, FIELD, 16);
    io.close(&mut world);
    assert_eq!(world.port.live_tickets(), 0);
}

#[test]
fn data_offsets_and_lengths_are_dwords() {
    for (offset, len, fei) in [(2, 512, 12), (0, 510, 16), (1, 511, 12)] {
        let mut world = World::new();
        let (_admin, mut io, cid, ttag) = asked(&mut world);
        let pdu = io.h2cdata(cid, ttag, offset, &vec![0; len], false);
        io.send(&mut world, &pdu);
        io.expect_term(&mut world, FIELD, fei);
    }
}

#[test]
fn data_without_data_is_an_invalid_length() {
    let mut world = World::new();
    let (_admin, mut io, cid, ttag) = asked(&mut world);
    let pdu = io.h2cdata(cid, ttag, 0, &[], false);
    io.send(&mut world, &pdu);
    io.expect_term(&mut world, FIELD, 4);
}

#[test]
fn the_hosts_own_term_request_closes_without_an_answer() {
    for (plen, hlen, initialized) in [
        (24_u32, 24, true),
        (152, 24, true),
        (23, 24, true),
        (153, 24, true),
        (24, 25, true),
        (24, 24, false),
    ] {
        let mut world = World::new();
        let mut host = Host::new(&world, 1);
        if initialized {
            host.initialize(&mut world, false, false);
        }
        let mut pdu = vec![0; 152];
        (pdu[0], pdu[2]) = (2, hlen);
        pdu[4..8].copy_from_slice(&plen.to_le_bytes());
        host.send(&mut world, &pdu);
        assert!(host.pump(&mut world).is_empty());
        assert_eq!(host.connection.disposition(), Disposition::CloseNow);
    }
}

#[test]
fn more_commands_than_the_queue_holds_end_the_connection() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    world.port.stalled = true;
    let mut sqe = ranged(0x02, PLAIN_NSID, 0, 1, 0);
    sgl(&mut sqe, 0x5a, 0, 4096);
    for _ in 0..128 {
        io.submit(&mut world, sqe, &[]);
    }
    assert_eq!(io.connection.disposition(), Disposition::Open);
    io.submit(&mut world, sqe, &[]);
    io.expect_term(&mut world, SEQUENCE, 0);
    admin.connection.directory_changed(&mut world.context());
    assert_eq!(admin.connection.disposition(), Disposition::CloseNow, "the association ends with it");
    assert_eq!((world.directory.controllers(), world.sessions.list().len()), (0, 0));
    world.port.stalled = false;
    assert!(io.pump(&mut world).is_empty(), "nothing follows a C2HTermReq");
    io.close(&mut world);
    assert_eq!(world.port.live_tickets(), 0);
}
