//! Whole logins, by the fields and texts that initiators send.

use std::collections::{BTreeMap, HashMap};

use holdfast_block::{ChapSecrets, Grant, HostId, HostRecord, Portal, Subsystem, SubsystemId};
use proptest::prelude::*;
use sha2::Digest;

use super::*;

const OPEN: &str = "iqn.2026-11.io.holdfast:open";
const CLOSED: &str = "iqn.2026-11.io.holdfast:closed";
const STRANGER: &str = "iqn.2004-10.com.example:stranger";
const KNOWN: &str = "iqn.2004-10.com.example:known";
const PROVEN: &str = "iqn.2004-10.com.example:proven";

struct World {
    exports: Exports,
    directory: Directory,
    hosts: HostBook,
    sessions: SessionBook,
}

fn host(number: u64) -> HostId {
    HostId::new(number).unwrap()
}

impl World {
    fn new() -> World {
        let subsystem = |id: u64, iqn: &str, allow_any_host: bool| Subsystem {
            id: SubsystemId::new(id).unwrap(),
            name: iqn.into(),
            nqn: String::new(),
            iqn: iqn.into(),
            allow_any_host,
            namespaces: BTreeMap::new(),
            grants: HashMap::from([(host(1), Grant::ANY_HOST), (host(2), Grant::ANY_HOST)]),
        };
        let record = |number: u64, iqn: &str, chap: Option<ChapSecrets>| HostRecord {
            id: host(number),
            name: iqn.into(),
            nqn: None,
            iqn: Some(iqn.into()),
            chap: chap.map(Arc::new),
            aliases: vec![],
        };
        let mutual = Some(("holdfast".to_owned(), "our-own-secret".to_owned()));
        let secrets = ChapSecrets::new("joe".into(), "joes-own-secret".into(), mutual);
        let exports = Exports::new(
            1,
            vec![subsystem(1, OPEN, true), subsystem(2, CLOSED, false)],
            vec![record(1, KNOWN, None), record(2, PROVEN, Some(secrets))],
        );
        let portal = Portal { advertised: None, listening: "127.0.0.1:3260".parse().unwrap() };
        World {
            exports,
            directory: Directory::new(vec![portal]),
            hosts: HostBook::new(vec![], || HostId::new(99).unwrap()),
            sessions: SessionBook::default(),
        }
    }

    fn with<R>(&self, call: impl FnOnce(&mut LoginContext<'_>) -> R) -> R {
        let mut next = 0_u8;
        let mut random = |bytes: &mut [u8]| {
            for byte in bytes {
                next = next.wrapping_add(37);
                *byte = next;
            }
        };
        call(&mut LoginContext {
            unix_seconds: 7,
            exports: &self.exports,
            directory: &self.directory,
            hosts: &self.hosts,
            sessions: &self.sessions,
            random: &mut random,
        })
    }

    fn take(&self, login: &mut LoginPhase, head: LoginHead, text: &str) -> LoginStep {
        self.with(|cx| login.take(cx, &head, &nul(text)))
    }

    /// Logs in from the operational stage with one request.
    fn straight(&self, initiator: &str, target: &str, head: LoginHead) -> LoginStep {
        let text = format!("InitiatorName={initiator} TargetName={target}");
        self.take(&mut phase(), head, &text)
    }
}

fn phase() -> LoginPhase {
    LoginPhase::new("192.0.2.1:1000".parse().unwrap())
}

/// Pairs, apart by spaces, as they are sent.
fn nul(text: &str) -> Vec<u8> {
    text.split_whitespace().flat_map(|pair| [pair.as_bytes(), b"\0"].concat()).collect()
}

fn head(csg: u8, nsg: Option<u8>) -> LoginHead {
    LoginHead {
        transit: nsg.is_some(),
        continues: false,
        csg,
        nsg: nsg.unwrap_or(0),
        version_max: 0,
        version_min: 0,
        isid: [0, 2, 0x3d, 0, 0, 1],
        tsih: 0,
        itt: 9,
        cid: 3,
    }
}

fn straight() -> LoginHead {
    head(OPERATIONAL, Some(FULL_FEATURE))
}

fn shown(data: &[u8]) -> String {
    String::from_utf8(data.to_vec()).unwrap().replace('\0', " ").trim_end().to_owned()
}

fn answer(step: LoginStep) -> LoginAnswer {
    match step {
        LoginStep::Answer(answer) => {
            assert_eq!(answer.status, LoginStatus::Success);
            answer
        }
        other => panic!("{other:?}"),
    }
}

fn done(step: LoginStep) -> (LoginAnswer, FullFeature) {
    match step {
        LoginStep::Done(answer, full) => (answer, full),
        other => panic!("{other:?}"),
    }
}

fn refused(step: LoginStep) -> LoginStatus {
    match step {
        LoginStep::Refused(answer) => {
            assert!(!answer.transit && answer.data.is_empty());
            answer.status
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_login_goes_through_both_stages() {
    let world = World::new();
    let mut login = phase();
    let text = format!("InitiatorName={STRANGER} InitiatorAlias=x TargetName={OPEN} AuthMethod=CHAP,None");
    let first = answer(world.take(&mut login, head(SECURITY, Some(OPERATIONAL)), &text));
    assert_eq!(shown(&first.data), "TargetPortalGroupTag=1 AuthMethod=None");
    assert_eq!((first.transit, first.csg, first.nsg, first.tsih, first.itt), (true, 0, 1, 0, 9));
    let text = "FirstBurstLength=8192 HeaderDigest=CRC32C,None InitialR2T=No MaxRecvDataSegmentLength=65536 \
                X-own=1 MaxBurstLength=4096";
    let (last, full) = done(world.take(&mut login, straight(), text));
    assert_eq!(
        shown(&last.data),
        "HeaderDigest=CRC32C InitialR2T=No X-own=NotUnderstood MaxBurstLength=4096 FirstBurstLength=4096 \
         MaxRecvDataSegmentLength=262144"
    );
    assert_eq!((last.transit, last.csg, last.nsg), (true, 1, 3));
    assert!(last.tsih != 0 && last.tsih == full.member.tsih);
    let session = full.session().unwrap();
    assert_eq!(session.label, "isid 00023d000001");
    assert_eq!((session.host, session.authenticated, session.header_digest), (host(99), false, true));
    assert_eq!((full.params.max_recv_initiator, full.params.max_recv_target), (65_536, 262_144));
    assert!(!full.params.initial_r2t && full.params.header_digest && !full.params.data_digest);
}

#[test]
fn names_decide_who_comes_in() {
    let world = World::new();
    for (text, status) in [
        (String::new(), LoginStatus::MissingParameter),
        (format!("TargetName={OPEN}"), LoginStatus::MissingParameter),
        (format!("InitiatorName={STRANGER}"), LoginStatus::MissingParameter),
        (format!("InitiatorName=host TargetName={OPEN}"), LoginStatus::InitiatorError),
        (format!("InitiatorName={STRANGER} TargetName=iqn.none"), LoginStatus::NotFound),
        (format!("InitiatorName={STRANGER} TargetName={CLOSED}"), LoginStatus::AuthorizationFailure),
        (format!("InitiatorName={STRANGER} SessionType=Odd"), LoginStatus::SessionTypeNotSupported),
        (format!("InitiatorName={PROVEN} TargetName={OPEN}"), LoginStatus::AuthenticationFailure),
    ] {
        assert_eq!(refused(world.take(&mut phase(), straight(), &text)), status, "{text}");
    }
    assert_eq!(world.directory.sessions(), 0);
    assert!(world.hosts.discovered().is_empty() && world.sessions.list().is_empty());
    let (_, full) = done(world.straight(&KNOWN.to_uppercase(), &CLOSED.to_uppercase(), straight()));
    assert_eq!(full.session().unwrap().host, host(1));
}

#[test]
fn what_breaks_the_order_of_a_login_ends_it() {
    let names = format!("InitiatorName={STRANGER} TargetName={OPEN}");
    let with = |change: fn(&mut LoginHead)| {
        let mut head = straight();
        change(&mut head);
        head
    };
    for (head, extra) in [
        (with(|head| head.csg = 2), ""),
        (with(|head| head.csg = 3), ""),
        (with(|head| head.nsg = 0), ""),
        (with(|head| head.nsg = 1), ""),
        (with(|head| head.nsg = 2), ""),
        (with(|head| head.continues = true), ""),
        (straight(), "HeaderDigest=None HeaderDigest=None"),
        (straight(), "HeaderDigest"),
        (straight(), "AuthMethod=None"),
        (straight(), "SendTargets=All"),
        (straight(), "TargetAddress=1.2.3.4"),
        (straight(), "MaxRecvDataSegmentLength=0"),
        (straight(), "InitialR2T=Irrelevant"),
        (head(SECURITY, Some(FULL_FEATURE)), "HeaderDigest=None"),
        (head(SECURITY, Some(FULL_FEATURE)), "CHAP_A=5"),
    ] {
        let world = World::new();
        let step = world.take(&mut phase(), head, &format!("{names} {extra}"));
        assert_eq!(refused(step), LoginStatus::InitiatorError, "{head:?} {extra}");
    }
}

#[test]
fn the_stage_and_the_session_stay_the_same_between_requests() {
    let names = format!("InitiatorName={STRANGER} TargetName={OPEN}");
    let changes: [fn(&mut LoginHead); 4] =
        [|head| head.csg = SECURITY, |head| head.isid = [9; 6], |head| head.tsih = 1, |head| head.cid = 4];
    for change in changes {
        let world = World::new();
        let mut login = phase();
        answer(world.take(&mut login, head(OPERATIONAL, None), &names));
        let mut next = straight();
        change(&mut next);
        assert_eq!(refused(world.take(&mut login, next, "")), LoginStatus::InitiatorError);
    }
    let world = World::new();
    let mut login = phase();
    answer(world.take(&mut login, head(OPERATIONAL, None), &names));
    assert_eq!(
        refused(world.take(&mut login, straight(), &format!("InitiatorName={KNOWN}"))),
        LoginStatus::InitiatorError
    );
}

#[test]
fn only_version_zero_is_spoken() {
    let world = World::new();
    let newer = LoginHead { version_min: 1, version_max: 2, ..straight() };
    assert_eq!(refused(world.straight(STRANGER, OPEN, newer)), LoginStatus::UnsupportedVersion);
    let also = LoginHead { version_max: 2, ..straight() };
    done(world.straight(STRANGER, OPEN, also));
}

#[test]
fn text_may_be_cut_anywhere() {
    let text = nul(&format!("InitiatorName={STRANGER} TargetName={OPEN} HeaderDigest=CRC32C"));
    for cut in 0..text.len() {
        let world = World::new();
        let mut login = phase();
        let (first, second) = text.split_at(cut);
        let part = LoginHead { continues: true, ..head(OPERATIONAL, None) };
        let asked = answer(world.with(|cx| login.take(cx, &part, first)));
        assert!(asked.data.is_empty() && !asked.transit);
        let (last, full) = done(world.with(|cx| login.take(cx, &straight(), second)));
        assert!(full.params.header_digest);
        assert!(shown(&last.data).starts_with("TargetPortalGroupTag=1 HeaderDigest=CRC32C"));
    }
}

#[test]
fn a_login_has_a_bounded_length() {
    let world = World::new();
    let mut login = phase();
    let names = format!("InitiatorName={STRANGER} TargetName={OPEN}");
    answer(world.take(&mut login, head(OPERATIONAL, None), &names));
    for _ in 1..LOGIN_REQUESTS_MAX {
        answer(world.take(&mut login, head(OPERATIONAL, None), ""));
    }
    assert_eq!(refused(world.take(&mut login, straight(), "")), LoginStatus::InitiatorError);
    let mut login = phase();
    let part = LoginHead { continues: true, ..head(OPERATIONAL, None) };
    let filler = vec![b'A'; LOGIN_DATA_LEN_MAX];
    answer(world.with(|cx| login.take(cx, &part, &filler)));
    answer(world.with(|cx| login.take(cx, &part, &filler)));
    assert_eq!(refused(world.with(|cx| login.take(cx, &part, b"A"))), LoginStatus::InitiatorError);
}

#[test]
fn another_request_is_not_for_logins() {
    assert_eq!(refused(phase().other_request(1)), LoginStatus::InvalidDuringLogin);
    assert_eq!(LoginStatus::InvalidDuringLogin.code(), (2, 0x0b));
}

/// The value of a key in an answer.
fn value(answer: &LoginAnswer, key: &str) -> String {
    let text = shown(&answer.data);
    let pair = text.split(' ').find_map(|pair| pair.strip_prefix(&format!("{key}=")));
    pair.unwrap_or_else(|| panic!("no {key} in {text}")).to_owned()
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.strip_prefix("0x").unwrap().as_bytes();
    digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

/// SHA-256 response as an initiator makes it.
fn response(id: &str, secret: &str, challenge: &[u8]) -> String {
    let id = id.parse::<u8>().unwrap();
    let digest = sha2::Sha256::digest([&[id], secret.as_bytes(), challenge].concat());
    format!("0x{}", digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>())
}

/// Comes as far as the challenge.
fn challenged(world: &World, login: &mut LoginPhase, target: &str) -> (String, Vec<u8>) {
    let text = format!("InitiatorName={PROVEN} {target} AuthMethod=CHAP,None");
    let first = answer(world.take(login, head(SECURITY, Some(OPERATIONAL)), &text));
    assert_eq!((first.transit, value(&first, "AuthMethod").as_str()), (false, "CHAP"));
    let second = answer(world.take(login, head(SECURITY, Some(OPERATIONAL)), "CHAP_A=7,5"));
    assert_eq!((second.transit, value(&second, "CHAP_A").as_str()), (false, "7"));
    (value(&second, "CHAP_I"), bytes(&value(&second, "CHAP_C")))
}

#[test]
fn a_host_with_a_secret_proves_itself() {
    let world = World::new();
    let mut login = phase();
    let (id, challenge) = challenged(&world, &mut login, &format!("TargetName={CLOSED}"));
    let text = format!("CHAP_N=joe CHAP_R={}", response(&id, "joes-own-secret", &challenge));
    assert!(answer(world.take(&mut login, head(SECURITY, Some(OPERATIONAL)), &text)).transit);
    let (_, full) = done(world.take(&mut login, straight(), ""));
    assert!(full.session().unwrap().authenticated);
}

#[test]
fn both_sides_prove_themselves() {
    let world = World::new();
    let mut login = phase();
    let (id, challenge) = challenged(&world, &mut login, &format!("TargetName={CLOSED}"));
    let proof = response(&id, "joes-own-secret", &challenge);
    let text = format!("CHAP_N=joe CHAP_R={proof} CHAP_I=5 CHAP_C=0x0102");
    let step = world.take(&mut login, head(SECURITY, Some(FULL_FEATURE)), &text);
    let (last, _) = done(step);
    assert_eq!(value(&last, "CHAP_N"), "holdfast");
    assert_eq!(value(&last, "CHAP_R"), response("5", "our-own-secret", &[1, 2]));
}

#[test]
fn whoever_proves_nothing_learns_nothing() {
    let good = |id: &str, challenge: &[u8]| response(id, "joes-own-secret", challenge);
    let texts: [fn(&str, &str) -> String; 7] = [
        |_, _| "CHAP_N=joe CHAP_R=0x00".into(),
        |proof, _| format!("CHAP_N=jim CHAP_R={proof}"),
        |proof, _| format!("CHAP_R={proof}"),
        |_, _| "CHAP_N=joe CHAP_R=junk".into(),
        |proof, reflected| format!("CHAP_N=joe CHAP_R={proof} CHAP_I=1 CHAP_C={reflected}"),
        |proof, _| format!("CHAP_N=joe CHAP_R={proof} CHAP_I=1"),
        |_, _| String::new(),
    ];
    for text in texts {
        let world = World::new();
        let mut login = phase();
        let (id, challenge) = challenged(&world, &mut login, &format!("TargetName={OPEN}"));
        let reflected: String = challenge.iter().map(|byte| format!("{byte:02x}")).collect();
        let text = text(&good(&id, &challenge), &format!("0x{reflected}"));
        let step = world.take(&mut login, head(SECURITY, Some(OPERATIONAL)), &text);
        assert_eq!(refused(step), LoginStatus::AuthenticationFailure, "{text}");
    }
}

#[test]
fn nobody_passes_by_authentication() {
    let names = format!("InitiatorName={PROVEN} TargetName={OPEN}");
    for text in ["", "AuthMethod=None", "AuthMethod=KRB5", "AuthMethod="] {
        let world = World::new();
        let step = world.take(&mut phase(), head(SECURITY, Some(FULL_FEATURE)), &format!("{names} {text}"));
        assert_eq!(refused(step), LoginStatus::AuthenticationFailure, "{text}");
    }
    let world = World::new();
    let step = world.take(
        &mut phase(),
        head(SECURITY, Some(OPERATIONAL)),
        &format!("InitiatorName={STRANGER} TargetName={OPEN} AuthMethod=CHAP"),
    );
    assert_eq!(refused(step), LoginStatus::AuthenticationFailure);
    // In the middle of it, the stage cannot be left.
    let mut login = phase();
    challenged(&world, &mut login, &format!("TargetName={OPEN}"));
    assert_eq!(refused(world.take(&mut login, straight(), "")), LoginStatus::InitiatorError);
}

#[test]
fn discovery_takes_a_proof_where_it_is_offered() {
    let world = World::new();
    let mut login = phase();
    challenged(&world, &mut login, "SessionType=Discovery");
    let text = format!("InitiatorName={PROVEN} SessionType=Discovery AuthMethod=None");
    let (last, full) = done(world.take(&mut phase(), head(SECURITY, Some(FULL_FEATURE)), &text));
    assert_eq!(shown(&last.data), "AuthMethod=None");
    assert!(full.session().is_none() && last.tsih != 0);
    assert!(world.hosts.discovered().is_empty());
}

#[test]
fn a_session_is_reinstated_once_the_older_one_has_ended() {
    let world = World::new();
    let (_, old) = done(world.straight(STRANGER, OPEN, straight()));
    let mut login = phase();
    let text = format!("InitiatorName={STRANGER} TargetName={OPEN}");
    assert!(matches!(world.take(&mut login, straight(), &text), LoginStep::Wait));
    assert!(old.member.is_ended());
    assert!(matches!(world.with(|cx| login.resume(cx)), Some(LoginStep::Wait)));
    world.directory.close(&old.member, &world.sessions);
    let (_, new) = done(world.with(|cx| login.resume(cx)).unwrap());
    assert!(!new.member.is_ended());
    assert_eq!((world.directory.sessions(), world.sessions.list().len()), (1, 1));
    // Another ISID, or another target, is another session.
    done(world.straight(STRANGER, OPEN, LoginHead { isid: [1; 6], ..straight() }));
    assert!(!new.member.is_ended());
}

#[test]
fn a_known_session_takes_its_connection_anew() {
    let world = World::new();
    let (_, old) = done(world.straight(STRANGER, OPEN, straight()));
    let tsih = old.member.tsih;
    let unknown = LoginHead { tsih: tsih + 1, ..straight() };
    assert_eq!(refused(world.straight(STRANGER, OPEN, unknown)), LoginStatus::SessionDoesNotExist);
    assert_eq!(
        refused(world.straight(KNOWN, OPEN, LoginHead { tsih, ..straight() })),
        LoginStatus::SessionDoesNotExist
    );
    let second = LoginHead { tsih, cid: 4, ..straight() };
    assert_eq!(refused(world.straight(STRANGER, OPEN, second)), LoginStatus::TooManyConnections);
    assert!(!old.member.is_ended());
    let mut login = phase();
    let text = format!("InitiatorName={STRANGER} TargetName={OPEN}");
    let again = LoginHead { tsih, ..straight() };
    assert!(matches!(world.take(&mut login, again, &text), LoginStep::Wait));
    world.directory.close(&old.member, &world.sessions);
    let (last, _) = done(world.with(|cx| login.resume(cx)).unwrap());
    assert_eq!(last.tsih, tsih);
}

proptest! {
    #[test]
    fn any_requests_get_a_defined_answer(
        requests in proptest::collection::vec(
            (any::<[u8; 2]>(), any::<bool>(), proptest::sample::subsequence(PIECES.to_vec(), 0..6), any::<u8>()),
            1..12,
        ),
    ) {
        let world = World::new();
        let mut login = phase();
        for ([flags, version], sane, pieces, cut) in requests {
            let head = LoginHead {
                transit: flags & 0x80 != 0,
                continues: flags & 0x40 != 0 && !sane,
                csg: if sane { login.stage } else { flags >> 2 & 3 },
                nsg: flags & 3,
                version_min: u8::from(!sane && version > 250),
                ..head(0, None)
            };
            let mut text = nul(&pieces.join(" "));
            if !sane {
                text.truncate(usize::from(cut));
            }
            match world.with(|cx| login.take(cx, &head, &text)) {
                LoginStep::Answer(answer) => {
                    prop_assert!(answer.data.len() <= LOGIN_DATA_LEN_MAX);
                    prop_assert!(!answer.transit || (head.transit && answer.nsg == head.nsg));
                    prop_assert!(!head.continues || answer.data.is_empty());
                }
                LoginStep::Done(_, full) => {
                    prop_assert_eq!(world.directory.sessions(), 1);
                    let proven = full.session().is_some_and(|session| session.host == host(2));
                    prop_assert!(!proven, "nobody here knows a secret");
                    return Ok(());
                }
                LoginStep::Refused(answer) => {
                    prop_assert_ne!(answer.status.code().0, 0);
                    prop_assert_eq!(world.directory.sessions(), 0);
                    return Ok(());
                }
                LoginStep::Wait => prop_assert!(false, "there is nobody to wait for"),
            }
        }
    }
}

const PIECES: [&str; 16] = [
    "InitiatorName=iqn.2004-10.com.example:stranger",
    "InitiatorName=iqn.2004-10.com.example:proven",
    "TargetName=iqn.2026-11.io.holdfast:open",
    "TargetName=iqn.2026-11.io.holdfast:closed",
    "SessionType=Discovery",
    "AuthMethod=CHAP,None",
    "AuthMethod=None",
    "CHAP_A=5,7",
    "CHAP_N=joe",
    "CHAP_R=0x00112233445566778899aabbccddeeff",
    "HeaderDigest=CRC32C,None",
    "InitialR2T=No",
    "FirstBurstLength=1024",
    "MaxRecvDataSegmentLength=4096",
    "X-odd=1",
    "SendTargets=All",
];
