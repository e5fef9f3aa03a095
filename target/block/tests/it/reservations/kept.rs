//! What lasts over a restart: comes back as it was, or is refused.

use holdfast_block::reservations::{KEPT_LEN_MAX, KeptError, REGISTRATIONS_MAX};
use holdfast_pi::{GuardKind, guard_of};

use super::*;

use ReservationType::WriteExclusiveRegistrantsOnly;

fn lasting(own: u64, new: u64, last: bool) -> Request {
    Request::Register { key: key(own), new: key(new), lasting: Some(last), reach: Reach::default() }
}

/// Registrants of both kinds, kept, with a reservation if any.
fn kept(kind: Option<ReservationType>) -> (Reservations, Vec<u8>) {
    let mut state = Reservations::default();
    let nvme = Nexus::Nvme { host: [7; 16] };
    done(&mut state, &nvme, &register(0, 7));
    done(&mut state, &scsi(2), &register(0, 12));
    let mut keep = apply(&mut state, &scsi(1), &lasting(0, 11, true)).unwrap().1;
    if let Some(kind) = kind {
        keep = apply(&mut state, &scsi(1), &reserve(11, kind)).unwrap().1;
    }
    let Keep::Value(bytes) = keep else { panic!("what lasts has to be kept: {keep:?}") };
    (state, bytes)
}

/// With the checksum that fits.
fn sealed(body: &[u8]) -> Vec<u8> {
    let mut bytes = body.to_vec();
    bytes.extend_from_slice(&guard_of(GuardKind::Crc64, body).to_le_bytes());
    bytes
}

fn shown(state: &Reservations) -> Vec<(Nexus, u64, Option<ReservationType>)> {
    let registrants = state.report().unwrap().registrants();
    registrants.map(|found| (found.nexus.clone(), found.key.get(), found.holds)).collect()
}

#[test]
fn what_was_kept_comes_back_and_counts_from_zero() {
    for kind in ReservationType::ALL.into_iter().map(Some).chain([None]) {
        let (state, bytes) = kept(kind);
        let back = Reservations::restore(&bytes).unwrap();
        assert_eq!(shown(&back), shown(&state));
        assert_eq!(back.report().unwrap().reservation(), state.report().unwrap().reservation());
        assert!(back.report().unwrap().capabilities().lasting);
        assert_eq!((generation(&state), generation(&back)), (3, 0));
    }
}

#[test]
fn every_damaged_byte_and_every_missing_end_is_refused() {
    let (_, bytes) = kept(Some(WriteExclusiveRegistrantsOnly));
    for at in 0..bytes.len() {
        assert_eq!(Reservations::restore(&bytes[..at]), Err(KeptError::Damaged), "cut at {at}");
        for bit in 0..8 {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << bit;
            assert_eq!(Reservations::restore(&damaged), Err(KeptError::Damaged), "bit {bit} of byte {at}");
        }
    }
    let mut longer = bytes.clone();
    longer.push(0);
    assert_eq!(Reservations::restore(&longer), Err(KeptError::Damaged));
    assert_eq!(Reservations::restore(&vec![0; KEPT_LEN_MAX + 1]), Err(KeptError::Damaged));
}

#[test]
fn nothing_comes_back_of_bytes_that_make_no_sense_whatever_their_checksum() {
    let (_, bytes) = kept(Some(WriteExclusiveRegistrantsOnly));
    let body = &bytes[..bytes.len() - 8];
    for at in 0..body.len() {
        let cut = Reservations::restore(&sealed(&body[..at]));
        assert!(cut.is_err(), "cut at {at}: {cut:?}");
        for value in 0..=255 {
            let mut other = body.to_vec();
            other[at] = value;
            let Ok(mut state) = Reservations::restore(&sealed(&other)) else { continue };
            // What is taken up can be worked with and written down again.
            let from = shown(&state).first().map(|(nexus, ..)| nexus.clone()).unwrap();
            let ignoring =
                Request::RegisterAndIgnore { new: key(99), lasting: Some(true), all_ports: Vec::new() };
            if let Keep::Value(again) = apply(&mut state, &from, &ignoring).unwrap().1 {
                assert_eq!(shown(&Reservations::restore(&again).unwrap()), shown(&state));
            }
        }
    }
    let mut later = body.to_vec();
    later[4] = 2;
    assert_eq!(Reservations::restore(&sealed(&later)), Err(KeptError::Version(2)));
    let mut typeless = body.to_vec();
    typeless[5] = 9;
    assert_eq!(Reservations::restore(&sealed(&typeless)), Err(KeptError::Senseless));
    let mut nobodys = body.to_vec();
    nobodys[6..8].copy_from_slice(&3_u16.to_le_bytes());
    assert_eq!(Reservations::restore(&sealed(&nobodys)), Err(KeptError::Senseless));
}

#[test]
fn the_longest_value_is_as_long_as_the_bound_says() {
    let long = |number: u16| {
        let name = format!("{number:0>223}");
        let initiator = InitiatorPort::new(&name, [0; 6]).unwrap();
        Nexus::Scsi { initiator, target: port(1) }
    };
    assert_eq!(InitiatorPort::new(&"n".repeat(224), [0; 6]), None);
    assert_eq!(InitiatorPort::new("", [0; 6]), None);
    let mut state = Reservations::default();
    let mut last = Keep::AsIs;
    for number in 0..u16::try_from(REGISTRATIONS_MAX).unwrap() {
        last = apply(&mut state, &long(number), &lasting(0, 1, true)).unwrap().1;
    }
    let Keep::Value(bytes) = last else { panic!("{last:?}") };
    assert_eq!(bytes.len(), KEPT_LEN_MAX);
    assert_eq!(shown(&Reservations::restore(&bytes).unwrap()), shown(&state));
}

#[test]
fn only_what_changes_what_lasts_has_to_be_kept() {
    let mut state = Reservations::default();
    let mut keep = |number, request: &Request| apply(&mut state, &scsi(number), request).unwrap().1;
    let we = ReservationType::WriteExclusive;
    assert_eq!(keep(1, &register(0, 11)), Keep::AsIs, "nothing lasts yet");
    assert!(matches!(keep(2, &lasting(0, 12, true)), Keep::Value(_)), "all of it lasts from here on");
    assert!(matches!(keep(1, &reserve(11, we)), Keep::Value(_)));
    assert_eq!(keep(1, &reserve(11, we)), Keep::AsIs);
    assert_eq!(keep(1, &register(11, 11)), Keep::AsIs, "the same key again");
    assert!(
        matches!(keep(1, &Request::Clear { key: key(11) }), Keep::Value(_)),
        "cleared, and lasting still"
    );
    assert_eq!(keep(1, &lasting(0, 11, false)), Keep::Nothing);
    assert_eq!(keep(1, &reserve(11, we)), Keep::AsIs);
}
