//! iSCSI logins over two connections: whatever is sent, each request has a defined answer, nobody is taken for a host whose
//! secret he does not know, and of everything that ended nothing is left.
//!
//! The script: for each request the connection, flags, and pieces of text or raw bytes.

use holdfast_iscsi::{FullFeature, LoginHead, LoginPhase, LoginStep};

use crate::input::Script;
use crate::portal::{PIECES, World};

/// Longest data segment in either direction.
const DATA_LEN_MAX: usize = 8192;

/// A connection.
enum Link {
    Login(Box<LoginPhase>),
    Waits(Box<LoginPhase>),
    Serves(FullFeature),
}

fn fresh() -> Link {
    Link::Login(Box::new(LoginPhase::new("192.0.2.1:9".parse().unwrap())))
}

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let world = World::new();
    let mut links = [fresh(), fresh()];
    while !script.is_over() {
        let at = usize::from(script.byte() & 1);
        let link = std::mem::replace(&mut links[at], fresh());
        links[at] = play(&world, link, &mut script);
        links = links.map(|link| look(&world, link));
    }
    for link in links {
        if let Link::Serves(full) = link {
            world.directory.close(&full.member, &world.sessions);
        }
    }
    assert_eq!((world.directory.sessions(), world.sessions.list().len()), (0, 0), "sessions are left over");
}

/// One request, or the end of a connection that serves.
fn play(world: &World, link: Link, script: &mut Script<'_>) -> Link {
    let (head, data) = request(script);
    match link {
        Link::Login(mut login) => {
            let step = world.with(|cx| login.take(cx, &head, &data));
            follow(login, step, Some(&head))
        }
        Link::Waits(login) => Link::Waits(login),
        Link::Serves(full) => {
            world.directory.close(&full.member, &world.sessions);
            fresh()
        }
    }
}

/// What a connection does when the directory has changed.
fn look(world: &World, link: Link) -> Link {
    match link {
        Link::Serves(full) if full.member.is_ended() => {
            world.directory.close(&full.member, &world.sessions);
            fresh()
        }
        Link::Waits(mut login) => match world.with(|cx| login.resume(cx)) {
            Some(step) => follow(login, step, None),
            None => unreachable!("it waits"),
        },
        link => link,
    }
}

fn follow(login: Box<LoginPhase>, step: LoginStep, head: Option<&LoginHead>) -> Link {
    match step {
        LoginStep::Answer(answer) => {
            let head = head.unwrap();
            assert!(answer.data.len() <= DATA_LEN_MAX, "an answer that is too long");
            assert!(
                !answer.transit || head.transit && answer.nsg == head.nsg,
                "a stage that nobody asked for"
            );
            assert!(!head.continues || answer.data.is_empty(), "an answer to half a text");
            assert_eq!(answer.status.code(), (0, 0));
            Link::Login(login)
        }
        LoginStep::Wait => Link::Waits(login),
        LoginStep::Refused(answer) => {
            assert_ne!(answer.status.code().0, 0, "a refusal without a reason");
            fresh()
        }
        LoginStep::Done(answer, full) => {
            assert!(answer.tsih != 0 && answer.tsih == full.member.tsih);
            if let Some(session) = full.session() {
                assert!(!session.authenticated, "nobody here knows a secret");
                assert_ne!(session.host.get(), 1, "a session of a host that has proven nothing");
            }
            assert!(full.params.first_burst_len <= full.params.max_burst_len);
            Link::Serves(full)
        }
    }
}

fn request(script: &mut Script<'_>) -> (LoginHead, Vec<u8>) {
    let flags = script.byte();
    let odd = script.byte();
    let head = LoginHead {
        transit: flags & 0x80 != 0,
        continues: flags & 0x40 != 0,
        csg: flags >> 2 & 3,
        nsg: flags & 3,
        version_max: 0,
        version_min: u8::from(odd == 0xff),
        isid: [0, 2, 0x3d, 0, 0, odd & 1],
        tsih: u16::from(odd >> 4 & 3),
        itt: 1,
        cid: u16::from(odd >> 6 & 1),
    };
    let mut data = Vec::new();
    for _ in 0..flags >> 4 & 3 | script.byte() & 7 {
        match script.byte() {
            piece @ 0..0xf0 => data.extend_from_slice(PIECES[usize::from(piece) % PIECES.len()].as_bytes()),
            raw => data.extend_from_slice(script.slice(usize::from(raw & 0xf))),
        }
    }
    (head, data)
}
