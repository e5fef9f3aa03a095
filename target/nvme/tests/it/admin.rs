//! Identify, and what all of admin has in common.

use crate::asking::{get_feature, half, identify, log, long, word};
use crate::host::{Host, code, put, sgl, sqe};
use crate::world::{
    BLOCKS, PI_HOST, PI_NSID, PLAIN_HOST, PLAIN_NSID, SUBNQN, WIDE_NSID, World, exports, exports_with,
    plain_volume, wide_volume,
};

#[test]
fn the_controller_says_what_hosts_over_fabrics_insist_on() {
    let mut world = World::new();
    let (mut admin, cntlid) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let data = identify(&mut admin, &mut world, 1, 0).unwrap();
    assert_eq!(&data[4..24], b"HF0000000000000005  ");
    assert_eq!(half(&data, 78), cntlid);
    assert_eq!((data[77], data[111]), (8, 1));
    assert_ne!(half(&data, 320), 0, "KAS");
    assert_eq!(half(&data, 514), 256, "MAXCMD");
    assert_eq!(word(&data, 536) & 0b11, 1, "SGLS");
    assert_eq!(word(&data, 1792) * 16, 64 + 8192, "IOCCSZ");
    assert_eq!((word(&data, 1796), half(&data, 1800), data[1803]), (1, 0, 1));
    assert_eq!(&data[768..768 + SUBNQN.len()], SUBNQN.as_bytes());
    assert_eq!(word(&data, 516), 1024);
    assert_eq!(word(&data, 96), (1 << 16) | (1 << 15) | 1, "CTRATT: MEM, ELBAS, HIDS; no TBKAS");
    assert_eq!((word(&data, 80), data[76], data[253]), (0x0002_0100, 0b10, 1), "VER, CMIC, NVMSR");
    assert_eq!(half(&data, 256), 0, "OACS: nothing optional");
    assert_eq!((data[258], data[259], data[262]), (3, 3, 63), "ACL, AERL, ELPE");
    assert_eq!((data[260], data[261]), (0b11, 0b0011_0110), "FRMW, LPA");
    assert_eq!((data[512], data[513], data[525]), (0x66, 0x44, 0b111), "SQES, CQES, VWC");
    assert_eq!((word(&data, 540), half(&data, 1804), data[1802]), (1024, 1, 0), "MNAN, OFCS, FCATT");
}

#[test]
fn a_plain_view_has_no_metadata() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let data = identify(&mut admin, &mut world, 0, PI_NSID).unwrap();
    assert_eq!((long(&data, 0), long(&data, 8), long(&data, 16)), (BLOCKS, BLOCKS, 0));
    assert_eq!((data[26], data[27], data[28], data[29]), (0, 0, 0, 0));
    assert_eq!((half(&data, 128), data[130]), (0, 9));
    assert_eq!(data[104..120], [0x22; 16]);
}

#[test]
fn a_pi_view_has_interleaved_metadata() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PI_HOST, SUBNQN);
    let data = identify(&mut admin, &mut world, 0, PI_NSID).unwrap();
    assert_eq!((data[26], data[27], data[28], data[29]), (0x10, 1, 0x11, 1));
    assert_eq!((half(&data, 128), data[130]), (8, 9));
    let data = identify(&mut admin, &mut world, 0, PLAIN_NSID).unwrap();
    assert_eq!((data[26], data[29], half(&data, 128), data[130]), (0, 0, 0, 12));
    let data = identify(&mut admin, &mut world, 5, PI_NSID).unwrap();
    assert_eq!((long(&data, 0), word(&data, 12)), (0, 0));
}

#[test]
fn namespaces_are_listed_and_described() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    for cns in [2, 7] {
        let data = identify(&mut admin, &mut world, cns, 0).unwrap();
        assert_eq!((word(&data, 0), word(&data, 4), word(&data, 8)), (1, 2, 0));
    }
    let data = identify(&mut admin, &mut world, 2, 1).unwrap();
    assert_eq!((word(&data, 0), word(&data, 4)), (2, 0));
    assert_eq!(identify(&mut admin, &mut world, 2, 0xffff_fffe), Err((0, 0x0b)));
    let data = identify(&mut admin, &mut world, 3, 1).unwrap();
    assert_eq!((data[0], data[1], data[20], data[21], data[40], data[41]), (2, 16, 3, 16, 4, 1));
    assert_eq!((data[4], data[24], data[44], data[45]), (0x22, 0x11, 0, 0));
    assert_eq!(identify(&mut admin, &mut world, 3, 9), Err((0, 0x02)), "inactive");
    assert_eq!(identify(&mut admin, &mut world, 3, u32::MAX - 1), Err((0, 0x0b)));
    assert_eq!(identify(&mut admin, &mut world, 8, 1).unwrap()[14], 1);
}

#[test]
fn namespaces_that_are_not_there_are_zero_and_impossible_ones_errors() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    for cns in [0, 5, 8] {
        assert_eq!(identify(&mut admin, &mut world, cns, 1024), Ok(vec![0; 4096]));
        for nsid in [0, 1025, u32::MAX] {
            assert_eq!(identify(&mut admin, &mut world, cns, nsid), Err((0, 0x0b)));
        }
    }
}

#[test]
fn what_is_allocated_is_what_is_active() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PI_HOST, SUBNQN);
    for (allocated, active) in [(0x10, 0x02), (0x11, 0x00), (0x1a, 0x07), (0x1b, 0x05), (0x1f, 0x08)] {
        let of_allocated = identify(&mut admin, &mut world, allocated, PI_NSID).unwrap();
        assert_eq!(of_allocated, identify(&mut admin, &mut world, active, PI_NSID).unwrap());
        assert_eq!(identify(&mut admin, &mut world, allocated, u32::MAX), Err((0, 0x0b)));
    }
}

#[test]
fn controllers_of_the_subsystem_are_listed_from_the_one_given() {
    let mut world = World::new();
    let (mut admin, first) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let (_other, second) = Host::admin(&mut world, 2, PI_HOST, SUBNQN);
    let (_discovery, _) = Host::admin(&mut world, 3, PI_HOST, "nqn.2014-08.org.nvmexpress.discovery");
    for (cns, nsid) in [(0x13, 0), (0x12, PLAIN_NSID)] {
        let data = identify(&mut admin, &mut world, cns, nsid).unwrap();
        assert_eq!((half(&data, 0), half(&data, 2), half(&data, 4), half(&data, 6)), (2, first, second, 0));
        let from = u32::from(second) << 16;
        let data = identify(&mut admin, &mut world, cns | from, nsid).unwrap();
        assert_eq!((half(&data, 0), half(&data, 2)), (1, second));
    }
    assert_eq!(identify(&mut admin, &mut world, 0x12, 99), Err((0, 0x02)), "inactive");
    assert_eq!(identify(&mut admin, &mut world, 0x12, u32::MAX), Err((0, 0x02)));
}

#[test]
fn the_nvm_command_set_is_the_only_one() {
    let mut world = World::new();
    let (mut admin, cntlid) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    for controller in [0xffff, cntlid] {
        let data = identify(&mut admin, &mut world, 0x1c | (u32::from(controller) << 16), 0).unwrap();
        assert_eq!((long(&data, 0), long(&data, 8)), (1, 0));
    }
    assert_eq!(identify(&mut admin, &mut world, 0x1c | 0x7777_0000, 0), Err((0, 0x02)), "no such controller");
    for cns in [0x05, 0x06, 0x07, 0x1a, 0x1b] {
        let mut other = sqe(0x06, PLAIN_NSID);
        put(&mut other, 10, cns);
        put(&mut other, 11, 0x02 << 24);
        sgl(&mut other, 0x5a, 0, 4096);
        assert_eq!(code(admin.run(&mut world, other, &[]).0), (0, 0x02));
    }
}

#[test]
fn extended_formats_say_what_their_tuples_hold() {
    let mut world = World::new();
    world.exports = exports(2, true, &[(WIDE_NSID, wide_volume())]);
    let (mut admin, _) = Host::admin(&mut world, 1, PI_HOST, SUBNQN);
    let data = identify(&mut admin, &mut world, 0x05, WIDE_NSID).unwrap();
    assert_eq!((long(&data, 0), data[8], word(&data, 12)), (0xffff, 0b101, (1 << 7) | 16));
    let data = identify(&mut admin, &mut world, 0x00, WIDE_NSID).unwrap();
    assert_eq!((half(&data, 128), data[130]), (16, 12));
}

#[test]
fn unknown_structures_and_short_buffers_are_refused() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let known =
        [0x00, 0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x08, 0x10, 0x11, 0x12, 0x13, 0x1a, 0x1b, 0x1c, 0x1f];
    for cns in 0..=0xff {
        let own_controller = 0xffff << 16;
        let answer = identify(&mut admin, &mut world, cns | own_controller, 1);
        assert_eq!(answer.err(), if known.contains(&cns) { None } else { Some((0, 0x02)) }, "CNS {cns:#x}");
    }
    let mut short = sqe(0x06, 0);
    put(&mut short, 10, 1);
    sgl(&mut short, 0x5a, 0, 2048);
    assert_eq!(code(admin.run(&mut world, short, &[]).0), (0, 0x0f));
}

#[test]
fn a_discovery_controller_answers_for_discovery_alone() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, "nqn.2014-08.org.nvmexpress.discovery");
    let data = identify(&mut admin, &mut world, 1, 0).unwrap();
    assert_eq!((data[111], word(&data, 92), word(&data, 516)), (2, 1 << 31, 0));
    assert_eq!((half(&data, 256), half(&data, 520), data[260], data[525]), (0, 0, 0, 0));
    assert_ne!(half(&data, 320), 0, "KAS");
    assert_eq!(identify(&mut admin, &mut world, 0, 1), Err((0, 0x02)));
    let page = log(&mut admin, &mut world, 0x70, 0, 3072).unwrap();
    assert_eq!((long(&page, 0), long(&page, 8)), (1, 2));
    assert_eq!((page[1024], page[1025], page[1026], page[2048 + 2]), (3, 1, 3, 2));
    assert_eq!(&page[2048 + 256..2048 + 256 + SUBNQN.len()], SUBNQN.as_bytes());
    assert_eq!(&page[2048 + 512..2048 + 522], b"127.0.0.1 ");
    assert_eq!(log(&mut admin, &mut world, 2, 0, 512), Err((1, 0x09)));
    assert_eq!(code(get_feature(&mut admin, &mut world, 7).0), (0, 0x02));
}

/// Commands that a page of effects calls supported.
fn supported(effects: &[u8]) -> usize {
    effects.chunks(4).filter(|entry| entry[0] & 1 != 0).count()
}

#[test]
fn unknown_and_impossible_commands_are_answered_exactly() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let (mut discovery, _) = Host::admin(&mut world, 2, PLAIN_HOST, "nqn.2014-08.org.nvmexpress.discovery");
    let effects = log(&mut admin, &mut world, 5, 0, 1024).unwrap();
    let of_discovery = [0x02, 0x06, 0x09, 0x0a, 0x0c, 0x18, 0x7f];
    for opcode in 0..=0xff_u8 {
        if word(&effects, usize::from(opcode) * 4) & 1 == 0 {
            assert_eq!(code(admin.run(&mut world, sqe(opcode, 0), &[]).0), (0, 0x01), "opcode {opcode:#x}");
        }
        if !of_discovery.contains(&opcode) {
            assert_eq!(
                code(discovery.run(&mut world, sqe(opcode, 0), &[]).0),
                (0, 0x01),
                "opcode {opcode:#x}"
            );
        }
    }
    assert_eq!([0x02, 0x06, 0x08, 0x09, 0x0a, 0x0c, 0x18, 0x7f].len(), supported(&effects), "and no others");
    let mut fused = sqe(0x18, 0);
    fused[1] = 0x41;
    assert_eq!(code(admin.run(&mut world, fused, &[]).0), (0, 0x02));
    let mut prp = sqe(0x18, 0);
    prp[1] = 0;
    assert_eq!(code(admin.run(&mut world, prp, &[]).0), (0, 0x02));
    let (status, result, _) = admin.run(&mut world, sqe(0x08, 0), &[]);
    assert_eq!((status, result), (0, 1), "there was nothing to abort");
}

#[test]
fn a_host_whose_grant_is_taken_away_loses_its_controller() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    world.exports =
        exports_with(2, false, holdfast_block::Enforce::Any, &[(PLAIN_NSID, plain_volume(BLOCKS))]);
    for host in [&mut io, &mut admin] {
        host.connection.exports_changed(&mut world.context());
        assert_eq!(host.connection.disposition(), holdfast_block::Disposition::CloseNow);
        host.close(&mut world);
    }
    assert_eq!(world.directory.controllers(), 0);
}
