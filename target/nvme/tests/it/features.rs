//! Features.

use crate::asking::{get_feature, half, log, set_feature};
use crate::host::{Host, Pdu, code, put, sgl, sqe};
use crate::world::{PI_NSID, PLAIN_HOST, PLAIN_NSID, SUBNQN, World};

/// Get or Set Features of a namespace.
fn feature_of(admin: &mut Host, world: &mut World, opcode: u8, nsid: u32, id: u32, value: u32) -> (u16, u64) {
    let mut sqe = sqe(opcode, nsid);
    put(&mut sqe, 10, id);
    put(&mut sqe, 11, value);
    sgl(&mut sqe, 0x5a, 0, 4096);
    let (status, result, _) = admin.run(world, sqe, &[]);
    (status, result)
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
    for (id, value) in [(0x01, 3), (0x04, 0x150), (0x06, 0), (0x0a, 1), (0x0b, 0x100)] {
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
fn features_that_are_not_there_are_invalid_fields() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let page = log(&mut admin, &mut world, 0x12, 0, 1024).unwrap();
    for id in 0..=0xff {
        let is_supported = page[id as usize * 4] & 1 != 0;
        let (status, result) = get_feature(&mut admin, &mut world, id | 0x300);
        assert_eq!(code(status), if is_supported { (0, 0) } else { (0, 0x02) }, "feature {id:#x}");
        if is_supported {
            assert_eq!(result & 1, 0, "nothing is saved");
            assert_eq!(
                code(get_feature(&mut admin, &mut world, id | 0x400).0),
                (0, 0x02),
                "a reserved selection"
            );
        } else {
            assert_eq!(code(set_feature(&mut admin, &mut world, id, 0).0), (0, 0x02));
        }
    }
}

#[test]
fn only_error_recovery_belongs_to_a_namespace() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let (get, set) = (0x0a, 0x09);
    for id in [0x01, 0x02, 0x04, 0x06, 0x07, 0x0a, 0x0b, 0x0f] {
        let (status, _) = feature_of(&mut admin, &mut world, set, PLAIN_NSID, id, 0);
        assert_eq!(code(status), (1, 0x0f), "feature {id:#x}");
        assert_eq!(feature_of(&mut admin, &mut world, get, PLAIN_NSID, id, 0).0, 0);
        assert_eq!(code(feature_of(&mut admin, &mut world, get, 5000, id, 0).0), (0, 0x0b));
        assert_eq!(code(feature_of(&mut admin, &mut world, set, 5000, id, 0).0), (0, 0x0b));
        let value = if id == 0x0f { 120_000 } else { 0 };
        assert_eq!(feature_of(&mut admin, &mut world, set, u32::MAX, id, value).0, 0);
    }
    assert_eq!(code(feature_of(&mut admin, &mut world, set, 0, 0x0f, 0).0), (0, 0x1a), "no timer");
    assert_eq!(feature_of(&mut admin, &mut world, get, 0, 0x305, 0), (0, 0b110));
    assert_eq!(feature_of(&mut admin, &mut world, set, PLAIN_NSID, 0x05, 9).0, 0);
    assert_eq!(feature_of(&mut admin, &mut world, get, PLAIN_NSID, 0x05, 0), (0, 9));
    assert_eq!(feature_of(&mut admin, &mut world, get, PI_NSID, 0x05, 0), (0, 0));
    assert_eq!(code(feature_of(&mut admin, &mut world, get, 77, 0x05, 0).0), (0, 0x02), "inactive");
    assert_eq!(code(feature_of(&mut admin, &mut world, set, 77, 0x05, 0).0), (0, 0x02), "inactive");
    assert_eq!(code(feature_of(&mut admin, &mut world, get, u32::MAX, 0x05, 0).0), (0, 0x0b));
    assert_eq!(feature_of(&mut admin, &mut world, set, u32::MAX, 0x05, 4).0, 0);
    assert_eq!(feature_of(&mut admin, &mut world, get, PLAIN_NSID, 0x05, 0), (0, 4), "all of them");
    assert_eq!(
        code(feature_of(&mut admin, &mut world, set, PLAIN_NSID, 0x05, 1 << 16).0),
        (0, 0x02),
        "DULBE"
    );
}

#[test]
fn a_timestamp_goes_on_from_where_it_was_set() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let mut get = sqe(0x0a, 0);
    put(&mut get, 10, 0x0e);
    sgl(&mut get, 0x5a, 0, 8);
    world.now_ms += 5;
    assert_eq!(admin.run(&mut world, get, &[]).2, [5, 0, 0, 0, 0, 0, 0, 0], "since the reset");
    let mut set = sqe(0x09, 0);
    put(&mut set, 10, 0x0e);
    assert_eq!(admin.run(&mut world, set, &[0xfe, 0, 0, 0, 0, 1, 0, 0]).0, 0);
    world.now_ms += 3;
    assert_eq!(admin.run(&mut world, get, &[]).2, [1, 1, 0, 0, 0, 1, 0b10, 0]);
}

#[test]
fn a_temperature_threshold_that_is_reached_is_a_critical_warning() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let temperature = half(&log(&mut admin, &mut world, 2, 0, 512).unwrap(), 1);
    let request = admin.submit(&mut world, sqe(0x0c, 0), &[]);
    assert_eq!(set_feature(&mut admin, &mut world, 0x0b, 0x02).0, 0);
    let mut set = sqe(0x09, 0);
    put(&mut set, 10, 0x04);
    put(&mut set, 11, temperature.into());
    admin.submit(&mut world, set, &[]);
    let answers = admin.pump(&mut world);
    let [
        Pdu::Response { status: 0, result: 0, .. },
        Pdu::Response { cid, status: 0, result: 0x0002_0101, .. },
    ] = answers[..]
    else {
        panic!("{answers:?}")
    };
    assert_eq!(cid, request);
    assert_eq!(log(&mut admin, &mut world, 2, 0, 512).unwrap()[0], 0b10);
    assert_eq!(set_feature(&mut admin, &mut world, 0x04, 0xffff).0, 0);
    assert_eq!(log(&mut admin, &mut world, 2, 0, 512).unwrap()[0], 0);
    assert_eq!(code(set_feature(&mut admin, &mut world, 0x04, 0x0001_0000).0), (0, 0x02), "no such sensor");
}

#[test]
fn a_warning_that_was_there_before_is_told_when_it_is_asked_for() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    assert_eq!(set_feature(&mut admin, &mut world, 0x04, 0).0, 0, "everything is over 0 K");
    assert_eq!(set_feature(&mut admin, &mut world, 0x0b, 0x02).0, 0);
    admin.submit(&mut world, sqe(0x0c, 0), &[]);
    let answers = admin.pump(&mut world);
    let [Pdu::Response { status: 0, result: 0x0002_0101, .. }] = answers[..] else { panic!("{answers:?}") };
}

#[test]
fn only_copy_formats_with_a_source_namespace_are_enabled() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let mut set = sqe(0x09, 0);
    put(&mut set, 10, 0x16);
    let mut data = vec![0; 512];
    for format in 0..16_usize {
        (data[4], data[5]) = (0, 0);
        data[4 + format / 8] = 1 << (format % 8);
        let expected = if matches!(format, 2 | 3) { (0, 0) } else { (0, 0x02) };
        assert_eq!(code(admin.run(&mut world, set, &data).0), expected, "format {format:x}h");
    }
}

#[test]
fn what_was_to_be_set_before_a_reset_is_not_set_after_it() {
    let mut world = World::new();
    let (mut admin, _) = Host::admin(&mut world, 1, PLAIN_HOST, SUBNQN);
    let mut behavior = [0; 512];
    behavior[2] = 1;
    let mut set = sqe(0x09, 0);
    put(&mut set, 10, 0x16);
    sgl(&mut set, 0x5a, 0, 512);
    let cid = admin.submit(&mut world, set, &[]);
    let asked = admin.pump(&mut world);
    let [Pdu::R2t { ttag, .. }] = asked[..] else { panic!("{asked:?}") };
    admin.property_set(&mut world, 0x14, 0);
    admin.property_set(&mut world, 0x14, 0x0046_0001);
    let late = admin.h2cdata(cid, ttag, 0, &behavior, true);
    admin.send(&mut world, &late);
    let answer = admin.pump(&mut world);
    let [Pdu::Response { cid: answered, status, .. }] = answer[..] else { panic!("{answer:?}") };
    assert_eq!((answered, code(status)), (cid, (0, 0x07)));
    let mut get = sqe(0x0a, 0);
    put(&mut get, 10, 0x16);
    sgl(&mut get, 0x5a, 0, 512);
    assert_eq!(admin.run(&mut world, get, &[]).2, [0; 512]);
}
