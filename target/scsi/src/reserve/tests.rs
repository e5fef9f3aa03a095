//! Parameter lists and TransportIDs, byte by byte.

use holdfast_block::SubsystemId;
use holdfast_block::reservations::{InitiatorPort, Key, Nexus as PortPair, Request, TargetPort};

use super::list::Asked;
use super::transport_id::{self, Named};
use crate::sense::Sense;

const NAME: &str = "iqn.2026-11.example:host";

fn target() -> TargetPort {
    TargetPort { subsystem: SubsystemId::new(1).unwrap(), relative: 1 }
}

fn port(name: &str) -> InitiatorPort {
    InitiatorPort::new(name, [0, 2, 0x3d, 0xab, 0, 1]).unwrap()
}

fn id(name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    transport_id::put(&PortPair::Scsi { initiator: port(name), target: target() }, &mut out);
    out
}

fn list(key: u64, new: u64, rest: &[u8]) -> Vec<u8> {
    [&key.to_be_bytes(), &new.to_be_bytes(), rest].concat()
}

fn read(action: u16, bytes: &[u8]) -> Result<Request, Sense> {
    let known = |name: &str| if name == NAME { vec![port("a"), port("b")] } else { Vec::new() };
    let asked = Asked::read((action, 0, 1), u32::try_from(bytes.len()).unwrap())?;
    asked.list(bytes, target(), &known).map(|list| list.request)
}

#[test]
fn a_transport_id_is_a_name_and_an_isid_ended_and_padded_with_zeroes() {
    for len in 1..=223 {
        let name: String = std::iter::repeat_n('x', len).collect();
        let bytes = id(&name);
        assert_eq!(bytes[..2], [0x45, 0]);
        let padded = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        assert_eq!(padded + 4, bytes.len());
        assert!(padded >= 20 && padded.is_multiple_of(4) && *bytes.last().unwrap() == 0);
        assert!(bytes[4..].starts_with(format!("{name},i,0x00023dab0001\0").as_bytes()));
        assert_eq!(transport_id::read(&bytes), Some((Named::Port(port(&name)), &[][..])));
    }
}

#[test]
fn what_is_no_transport_id_of_iscsi_is_refused() {
    let good = id(NAME);
    for cut in 0..good.len() {
        assert_eq!(transport_id::read(&good[..cut]), None);
    }
    for (at, byte) in [(0, 0x00), (0, 0x85), (2, 1), (3, good[3] - 1), (3, 16), (good.len() - 1, b'x')] {
        let mut bad = good.clone();
        bad[at] = byte;
        assert_eq!(transport_id::read(&bad), None, "byte {at}");
    }
    let digits = good[4..].iter().position(|byte| *byte == b',').unwrap() + 9;
    for wrong in [b'g', b'+', b' '] {
        let mut bad = good.clone();
        bad[digits] = wrong;
        assert_eq!(transport_id::read(&bad), None);
    }
    let upper: Vec<u8> = [good[..4].to_vec(), good[4..].to_ascii_uppercase()].concat();
    let upper = String::from_utf8(upper[4..].to_vec()).unwrap().replace(",I,0X", ",i,0x");
    let upper = [&good[..4], upper.as_bytes()].concat();
    assert_eq!(transport_id::read(&upper).unwrap().0, Named::Port(port(NAME)), "names know no case");
}

#[test]
fn an_nvme_host_is_shown_by_its_identifier() {
    let mut out = Vec::new();
    transport_id::put(&PortPair::Nvme { host: [7; 16] }, &mut out);
    assert_eq!(out, [&[0x0f, 0, 0, 0, 0, 0, 0, 0][..], &[7; 16]].concat());
}

#[test]
fn a_list_has_24_bytes_unless_it_says_that_it_has_more() {
    let plain = list(1, 2, &[0; 8]);
    assert!(matches!(
        read(0, &plain),
        Ok(Request::Register { key, new, lasting: Some(false), .. })
            if key == Key::new(1) && new == Key::new(2)
    ));
    for action in 0..=8 {
        for len in [0, 8, 23, 25] {
            let bytes = vec![0; len];
            assert_eq!(
                read(action, &bytes),
                Err(if action == 7 && len == 25 {
                    Sense::invalid_in_parameters(20, None)
                } else {
                    Sense::PARAMETER_LIST_LENGTH
                }),
                "{action} with {len}"
            );
        }
    }
    let longer = list(1, 2, &[0; 12]);
    assert_eq!(read(0, &longer), Err(Sense::PARAMETER_LIST_LENGTH), "SPEC_I_PT is zero");
    let short = Asked::read((0, 0, 0), 24).unwrap().list(&plain[..20], target(), &|_| Vec::new());
    assert_eq!(short, Err(Sense::PARAMETER_LIST_LENGTH), "the initiator sends less than it announced");
}

#[test]
fn flags_are_those_of_registering() {
    let flags = list(1, 2, &[0, 0, 0, 0, 0x05, 0, 0, 0]);
    let Ok(Request::Register { lasting, reach, .. }) = read(0, &flags) else { panic!() };
    assert_eq!((lasting, reach.all_ports, reach.initiators), (Some(true), vec![target()], None));
    let Ok(Request::RegisterAndIgnore { lasting, all_ports, .. }) = read(6, &flags) else { panic!() };
    assert_eq!((lasting, all_ports), (Some(true), vec![target()]));
    let specified = list(1, 2, &[0, 0, 0, 0, 0x08, 0, 0, 0]);
    for action in [1, 2, 3, 4, 5, 6] {
        assert_eq!(read(action, &specified), Err(Sense::invalid_in_parameters(20, Some(3))));
    }
    assert_eq!(read(0, &specified), Err(Sense::PARAMETER_LIST_LENGTH), "and no length behind it");
}

#[test]
fn initiator_ports_are_read_one_after_the_other() {
    let ids = [id("x"), id("y")].concat();
    let head = [0, 0, 0, 0, 0x08, 0, 0, 0];
    let len = u32::try_from(ids.len()).unwrap().to_be_bytes();
    let bytes = list(0, 2, &[&head, &len[..], &ids].concat());
    let Ok(Request::Register { reach, .. }) = read(0, &bytes) else { panic!() };
    assert_eq!(reach.initiators, Some(vec![port("x"), port("y")]));
    let asked = Asked::read((0, 0, 0), u32::try_from(bytes.len()).unwrap()).unwrap();
    let places = asked.list(&bytes, target(), &|_| Vec::new()).unwrap().places;
    assert_eq!(places, [28, 28 + u16::try_from(id("x").len()).unwrap()]);
    // A length that cuts a TransportID, and one that is not that of what follows.
    let mut cut = bytes.clone();
    cut.truncate(bytes.len() - 4);
    cut[27] -= 4;
    let second = 28 + u16::try_from(id("x").len()).unwrap();
    assert_eq!(read(0, &cut), Err(Sense::invalid_in_parameters(second, None)));
    let mut wrong = bytes.clone();
    wrong[27] += 4;
    assert_eq!(read(0, &wrong), Err(Sense::invalid_in_parameters(24, None)));
}

#[test]
fn a_name_alone_is_for_all_ports_of_the_initiator_that_have_been_here() {
    let mut name = NAME.as_bytes().to_vec();
    name.resize((name.len() + 1).next_multiple_of(4), 0);
    let header = [0x05, 0, 0, u8::try_from(name.len()).unwrap()];
    let ids = [&header[..], &name].concat();
    let len = u32::try_from(ids.len()).unwrap().to_be_bytes();
    let bytes = list(0, 2, &[&[0, 0, 0, 0, 0x08, 0, 0, 0], &len[..], &ids].concat());
    let Ok(Request::Register { reach, .. }) = read(0, &bytes) else { panic!() };
    assert_eq!(reach.initiators, Some(vec![port("a"), port("b")]));
    // For one who moves a reservation it names nobody.
    let bytes = list(1, 2, &[&[0, 0, 0, 1], &len[..], &ids].concat());
    assert_eq!(read(7, &bytes), Err(Sense::invalid_in_parameters(24, None)));
}

#[test]
fn who_moves_a_reservation_names_one_port_at_this_target() {
    let ids = id("x");
    let len = u32::try_from(ids.len()).unwrap().to_be_bytes();
    let moves =
        |flags: u8, relative: u8, ids: &[u8]| list(1, 2, &[&[0, flags, 0, relative], &len[..], ids].concat());
    let Ok(Request::Move { to, leave, lasting, .. }) = read(7, &moves(3, 1, &ids)) else { panic!() };
    assert_eq!(to, PortPair::Scsi { initiator: port("x"), target: target() });
    assert_eq!((leave, lasting), (true, Some(true)));
    assert_eq!(read(7, &moves(0, 2, &ids)), Err(Sense::invalid_in_parameters(18, None)));
    let longer = [&ids[..], &[0; 4]].concat();
    assert_eq!(read(7, &moves(0, 1, &longer)), Err(Sense::invalid_in_parameters(20, None)));
}

#[test]
fn scope_and_type_are_judged_where_they_mean_something() {
    for action in 0..=9 {
        let typed = matches!(action, 1 | 2 | 8);
        let len = if action == 7 { 48 } else { 24 };
        for kind in 0..16 {
            let asked = Asked::read((action, 0, kind), len).map(drop);
            let expected = match (action, typed, kind) {
                (9, ..) => Err(Sense::invalid_in_cdb(1, Some(4))),
                (_, true, 0 | 2 | 4 | 9..) => Err(Sense::invalid_in_cdb(2, Some(3))),
                _ => Ok(()),
            };
            assert_eq!(asked, expected, "{action} of type {kind}");
        }
        let scoped = Asked::read((action, 1, 1), len).map(drop);
        assert_eq!(scoped.is_err(), typed || action == 9);
    }
}
