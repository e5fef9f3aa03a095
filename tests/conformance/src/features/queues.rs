//! Number of Queues. NVM Express Base 2.1 §5.1.25.2.1 "Number of Queues (Feature Identifier 07h)".

use anyhow::{Result, ensure};
use holdfast_testkit::wire::code;
use holdfast_testkit::{Options, Property, Session};

use super::{Request, current, fid};
use crate::admin::admin_session;
use crate::check::same;
use crate::fields::{done, refused};
use crate::{Case, Lab};

const CLAUSE: &str = "Base 2.1 §5.1.25.2.1 \"Number of Queues (Feature Identifier 07h)\"";

/// The cases.
pub(crate) const CASES: &[Case] = &[
    Case { id: "features.number-of-queues.too-many", clause: CLAUSE, run: ffff_is_an_invalid_field },
    Case { id: "features.number-of-queues.granted", clause: CLAUSE, run: something_is_granted },
    Case { id: "features.number-of-queues.read-back", clause: CLAUSE, run: what_was_granted_is_read_back },
    Case { id: "features.number-of-queues.one", clause: CLAUSE, run: one_pair_is_enough },
    Case { id: "features.number-of-queues.usable", clause: CLAUSE, run: every_granted_queue_connects },
    Case { id: "features.number-of-queues.late", clause: CLAUSE, run: it_is_too_late_with_queues },
    Case { id: "features.number-of-queues.reset", clause: CLAUSE, run: a_reset_makes_room_again },
];

fn ask(session: &mut Session, submission: u16, completion: u16) -> Result<holdfast_testkit::Completion> {
    let value = u32::from(completion) << 16 | u32::from(submission);
    Request::new(fid::NUMBER_OF_QUEUES).value(value).set(session, &[])
}

fn ffff_is_an_invalid_field(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for (submission, completion) in [(0xffff, 0), (0, 0xffff), (0xffff, 0xffff)] {
        refused(&ask(&mut session, submission, completion)?, code::INVALID_FIELD)?;
    }
    Ok(())
}

fn something_is_granted(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for (submission, completion) in [(0, 0), (3, 3), (0, 7), (0xfffe, 0xfffe)] {
        let answer = ask(&mut session, submission, completion)?;
        done(&answer)?;
        let (granted, also) = (answer.cqe.dw0 & 0xffff, answer.cqe.dw0 >> 16);
        // A queue of fabrics is a pair.
        same("completion queues", also, granted)?;
        ensure!(granted < 0xffff, "{granted:#x} queues");
    }
    Ok(())
}

fn what_was_granted_is_read_back(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    for count in [0, 1, 6] {
        let granted = ask(&mut session, count, count)?.ok()?.cqe.dw0;
        same("Number of Queues", current(&mut session, fid::NUMBER_OF_QUEUES)?, granted)?;
    }
    Ok(())
}

fn one_pair_is_enough(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default().io_queues(1))?;
    done(&session.io(1).flush(1)?)
}

fn every_granted_queue_connects(lab: &mut Lab) -> Result<()> {
    let mut session = admin_session(lab)?;
    let granted = (ask(&mut session, 7, 7)?.ok()?.cqe.dw0 & 0xffff).min(7) + 1;
    for _ in 0..granted {
        done(&session.add_io_queue()?.flush(1)?)?;
    }
    Ok(())
}

fn it_is_too_late_with_queues(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    let before = current(&mut session, fid::NUMBER_OF_QUEUES)?;
    refused(&ask(&mut session, 1, 1)?, code::SEQUENCE_ERROR)?;
    same("Number of Queues", current(&mut session, fid::NUMBER_OF_QUEUES)?, before)
}

fn a_reset_makes_room_again(lab: &mut Lab) -> Result<()> {
    let mut session = lab.session(Options::default())?;
    session.admin().property_set(Property::Cc, 0x0046_0000)?.ok()?;
    session.admin().enable()?;
    done(&ask(&mut session, 3, 3)?)
}
