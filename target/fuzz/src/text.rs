//! Text Requests of a discovery or a normal session: each has a defined answer, no part is longer than the initiator takes, and
//! nobody learns of a target that he may not use.
//!
//! The script: the kind of session, then for each request flags, and pieces of text or raw bytes.

use holdfast_block::SubsystemId;
use holdfast_iscsi::{Asker, NO_TAG, Params, TextPhase, TextRequest, TextStep};

use crate::input::Script;
use crate::portal::{PIECES, World};

/// Plays one input.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let world = World::new();
    let mut params = Params::default();
    let subsystem = script.coin().then(|| SubsystemId::new(1).unwrap());
    let local = "192.0.2.9:3260".parse().unwrap();
    let mut phase = TextPhase::new(Asker { initiator: "iqn.s".into(), local, portal: 0, subsystem });
    let mut ttt = NO_TAG;
    let mut told = Vec::new();
    while !script.is_over() {
        let flags = script.byte();
        let mut data = Vec::new();
        for _ in 0..flags & 7 {
            match script.byte() {
                piece @ 0..0xf0 => {
                    data.extend_from_slice(PIECES[usize::from(piece) % PIECES.len()].as_bytes())
                }
                raw => data.extend_from_slice(script.slice(usize::from(raw & 0xf))),
            }
        }
        let request = TextRequest {
            is_final: flags & 0x80 != 0,
            continues: flags & 0x40 != 0,
            itt: 1,
            ttt: if flags & 0x20 == 0 { ttt } else { u32::from(flags & 0x10) },
        };
        let room = usize::try_from(params.max_recv_initiator).unwrap();
        match phase.take(&world.directory, &world.exports, &mut params, request, &data) {
            TextStep::Answer(answer) => {
                assert!(answer.data.len() <= room, "more than the initiator takes");
                assert_eq!(answer.is_final, answer.ttt == NO_TAG, "a tag goes on with an exchange");
                assert!(!(answer.is_final && answer.continues));
                ttt = answer.ttt;
                told.extend_from_slice(&answer.data);
            }
            TextStep::Reject(_) => {
                ttt = NO_TAG;
                told.clear();
            }
        }
        let told = String::from_utf8_lossy(&told);
        assert!(!told.contains("TargetName=iqn.2026-11.io.holdfast:c"), "a target that is not for everybody");
        let another =
            told.split('\0').any(|pair| pair.starts_with("TargetName=iqn") && !pair.ends_with(":o"));
        assert!(subsystem.is_none() || !another, "another target than the session's");
    }
}
