//! Identify, log pages, features.

use crate::host::{Host, code, put, sgl, sqe};
use crate::world::{
    BLOCKS, PI_HOST, PI_NSID, PLAIN_HOST, PLAIN_NSID, SUBNQN, World, exports_with, plain_volume,
};

fn identify(admin: &mut Host, world: &mut World, cns: u32, nsid: u32) -> Result<Vec<u8>, (u8, u8)> {
    let mut sqe = sqe(0x06, nsid);
    put(&mut sqe, 10, cns);
    sgl(&mut sqe, 0x5a, 0, 4096);
    let (status, _, data) = admin.run(world, sqe, &[]);
    if status == 0 { Ok(data) } else { Err(code(status)) }
}

fn log(admin: &mut Host, world: &mut World, lid: u32, offset: u32, len: u32) -> Result<Vec<u8>, (u8, u8)> {
    let mut sqe = sqe(0x02, u32::MAX);
    put(&mut sqe, 10, lid | ((len / 4 - 1) << 16));
    put(&mut sqe, 12, offset);
    sgl(&mut sqe, 0x5a, 0, len);
    let (status, _, data) = admin.run(world, sqe, &[]);
    if status == 0 { Ok(data) } else { Err(code(status)) }
}

fn get_feature(admin: &mut Host, world: &mut World, id: u32) -> (u16, u64) {
    let mut sqe = sqe(0x0a, 0);
    put(&mut sqe, 10, id);
    let (status, result, _) = admin.run(world, sqe, &[]);
    (status, result)
}

fn set_feature(admin: &mut Host, world: &mut World, id: u32, value: u32) -> (u16, u64) {
    let mut sqe = sqe(0x09, 0);
    put(&mut sqe, 10, id);
    put(&mut sqe, 11, value);
    let (status, result, _) = admin.run(world, sqe, &[]);
    (status, result)
}

fn half(data: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(data[at..at + 2].try_into().unwrap())
}

fn word(data: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(data[at..at + 4].try_into().unwrap())
}

fn long(data: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(data[at..at + 8].try_into().unwrap())
}

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
    assert_ne!(word(&data, 96) & (1 << 16), 0, "CTRATT.MEM");
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
    assert_eq!(identify(&mut admin, &mut world, 3, 9), Err((0, 0x0b)));
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
fn unknown_structures_and_short_buffers_are_refused() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    for cns in [0x04, 0x09, 0x10, 0x1c, 0xff] {
        assert_eq!(identify(&mut admin, &mut world, cns, 1), Err((0, 0x02)));
    }
    let mut short = sqe(0x06, 0);
    put(&mut short, 10, 1);
    sgl(&mut short, 0x5a, 0, 2048);
    assert_eq!(code(admin.run(&mut world, short, &[]).0), (0, 0x0f));
}

#[test]
fn log_pages_can_be_read_in_parts() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let whole = log(&mut admin, &mut world, 5, 0, 4096).unwrap();
    assert_eq!(word(&whole, 0x06 * 4), 1);
    assert_eq!(word(&whole, 1024 + 4), 3, "Write changes content");
    let part = log(&mut admin, &mut world, 5, 1024, 64).unwrap();
    assert_eq!(part, whole[1024..1088]);
    assert_eq!(log(&mut admin, &mut world, 5, 4100, 4), Err((0, 0x02)));
    assert_eq!(log(&mut admin, &mut world, 5, 2, 4), Err((0, 0x02)));
    assert_eq!(log(&mut admin, &mut world, 2, 0, 512).unwrap()[3], 100);
    assert_eq!(log(&mut admin, &mut world, 3, 0, 512).unwrap()[0], 1);
    assert_eq!(log(&mut admin, &mut world, 0, 0, 1024).unwrap()[8], 1);
    for lid in [0x06, 0x0c, 0x70, 0xff] {
        assert_eq!(log(&mut admin, &mut world, lid, 0, 16), Err((1, 0x09)));
    }
}

#[test]
fn a_discovery_controller_answers_for_discovery_alone() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, "nqn.2014-08.org.nvmexpress.discovery");
    let data = identify(&mut admin, &mut world, 1, 0).unwrap();
    assert_eq!((data[111], word(&data, 92), word(&data, 516)), (2, 1 << 31, 0));
    assert_eq!(identify(&mut admin, &mut world, 0, 1), Err((0, 0x02)));
    let page = log(&mut admin, &mut world, 0x70, 0, 3072).unwrap();
    assert_eq!((long(&page, 0), long(&page, 8)), (1, 2));
    assert_eq!((page[1024], page[1025], page[1026], page[2048 + 2]), (3, 1, 3, 2));
    assert_eq!(&page[2048 + 256..2048 + 256 + SUBNQN.len()], SUBNQN.as_bytes());
    assert_eq!(&page[2048 + 512..2048 + 522], b"127.0.0.1 ");
    assert_eq!(log(&mut admin, &mut world, 2, 0, 512), Err((1, 0x09)));
    assert_eq!(code(get_feature(&mut admin, &mut world, 7).0), (0, 0x02));
}

#[test]
fn queues_are_granted_before_they_are_connected() {
    let mut world = World::new();
    let (mut admin, cntlid) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    assert_eq!(set_feature(&mut admin, &mut world, 7, 0x03e7_03e7), (0, 0x003f_003f));
    assert_eq!(set_feature(&mut admin, &mut world, 7, 0x0001_0000), (0, 0x0001_0001));
    assert_eq!(get_feature(&mut admin, &mut world, 7), (0, 0x0001_0001));
    assert_eq!(code(set_feature(&mut admin, &mut world, 7, 0xffff).0), (0, 0x02));
    let mut io = Host::new(&world, 2);
    io.initialize(&mut world, false, false);
    let data = Host::connect_data(cntlid, SUBNQN, PLAIN_HOST);
    let (status, result, _) = io.run(&mut world, Host::connect_sqe(3, 31, 0), &data);
    assert_eq!((code(status), result), ((1, 0x82), 42));
    assert_eq!(io.run(&mut world, Host::connect_sqe(2, 31, 0), &data).0, 0);
    assert_eq!(code(set_feature(&mut admin, &mut world, 7, 1).0), (0, 0x0c));
}

#[test]
fn features_are_kept_until_reset() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    for (id, value) in [(0x01, 3), (0x04, 0x150), (0x05, 7), (0x06, 0), (0x0a, 1), (0x0b, 0x100)] {
        let default = get_feature(&mut admin, &mut world, id);
        assert_eq!(set_feature(&mut admin, &mut world, id, value), (0, 0));
        assert_eq!(get_feature(&mut admin, &mut world, id), (0, value.into()));
        assert_eq!(get_feature(&mut admin, &mut world, id | 0x100), default);
        assert_eq!(get_feature(&mut admin, &mut world, id | 0x300), (0, 4));
        assert_eq!(code(set_feature(&mut admin, &mut world, id | 0x8000_0000, value).0), (1, 0x0d));
    }
    admin.property_set(&mut world, 0x14, 0);
    admin.property_set(&mut world, 0x14, 0x0046_0001);
    assert_eq!(get_feature(&mut admin, &mut world, 0x06), (0, 1));
    assert_eq!(get_feature(&mut admin, &mut world, 0x0b), (0, 0));
    assert_eq!(code(set_feature(&mut admin, &mut world, 0x02, 1).0), (0, 0x02));
    assert_eq!(code(get_feature(&mut admin, &mut world, 0x08).0), (0, 0x02));
}

#[test]
fn a_write_cache_that_is_off_makes_writes_durable() {
    let mut world = World::new();
    let (mut admin, mut io) = Host::io(&mut world, PLAIN_HOST, false, false);
    let write = crate::host::ranged(1, PLAIN_NSID, 0, 1, 0);
    io.run(&mut world, write, &[0; 4096]);
    assert_eq!(set_feature(&mut admin, &mut world, 6, 0), (0, 0));
    io.run(&mut world, write, &[0; 4096]);
    let durable: Vec<bool> = world.port.log.iter().map(|command| command.force_unit_access).collect();
    assert_eq!(durable, [false, true]);
}

#[test]
fn the_host_identifier_comes_from_connect() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let mut get = sqe(0x0a, 0);
    put(&mut get, 10, 0x81);
    sgl(&mut get, 0x5a, 0, 16);
    assert_eq!(code(admin.run(&mut world, get, &[]).0), (0, 0x02), "only the extended one");
    put(&mut get, 11, 1);
    assert_eq!(admin.run(&mut world, get, &[]).2, [0x5a; 16]);
    assert_eq!(code(set_feature(&mut admin, &mut world, 0x81, 1).0), (0, 0x0c));
}

#[test]
fn host_behavior_is_taken_in_capsule_and_by_r2t() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let mut set = sqe(0x09, 0);
    put(&mut set, 10, 0x16);
    let mut data = vec![0; 512];
    data[2] = 1;
    assert_eq!(admin.run(&mut world, set, &data).0, 0);
    let mut get = sqe(0x0a, 0);
    put(&mut get, 10, 0x16);
    sgl(&mut get, 0x5a, 0, 512);
    assert_eq!(admin.run(&mut world, get, &[]).2, data);
    data[2] = 0;
    assert_eq!(admin.run_r2t(&mut world, set, &data, 512), 0);
    assert_eq!(admin.run(&mut world, get, &[]).2, data);
}

#[test]
fn unknown_and_impossible_commands_are_answered_exactly() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    for opcode in [0x00, 0x01, 0x04, 0x05, 0x0d, 0x10, 0x14, 0x80, 0xff] {
        assert_eq!(code(admin.run(&mut world, sqe(opcode, 0), &[]).0), (0, 0x01));
    }
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
        assert_eq!(host.connection.disposition(), holdfast_nvme::Disposition::CloseNow);
        host.close(&mut world);
    }
    assert_eq!(world.directory.controllers(), 0);
}
