//! Asynchronous events. NVM Express Base 2.1 §5.1.2 "Asynchronous Event Request command".

use std::time::Duration;

use anyhow::{Result, ensure};
use holdfast_testkit::{Completion, Session};

use crate::check::same;
use crate::fields::{done, le64};
use crate::{Case, admin};

mod notices;
mod requests;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[requests::CASES, notices::CASES];

/// Asynchronous Event Configuration: namespace notices, discovery log notices, temperature.
const NAMESPACES: u32 = 1 << 8;
const DISCOVERY: u32 = 1 << 31;
const TEMPERATURE: u32 = 1 << 1;

/// Something at the API that a host can see.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Watched {
    /// The namespace is there.
    Active(u32),
    /// The namespace is gone.
    Inactive(u32),
    /// The namespace has this size in blocks.
    Size(u32, u64),
}

/// Waits until a change has come as far as this controller.
pub(crate) fn change_is_seen(session: &mut Session, watched: Watched) -> Result<()> {
    let look = || {
        let seen = match watched {
            Watched::Active(nsid) => session.admin().active_namespaces(0)?.contains(&nsid),
            Watched::Inactive(nsid) => !session.admin().active_namespaces(0)?.contains(&nsid),
            Watched::Size(nsid, blocks) => le64(&admin::identify(session, 0x00, nsid, 0)?, 0)? == blocks,
        };
        Ok(seen.then_some(()))
    };
    holdfast_e2e::eventually(Duration::from_secs(20), &format!("{watched:?}"), look)
}

fn enable(session: &mut Session, events: u32) -> Result<()> {
    done(&session.admin().set_feature(0x0b, events)?)
}

/// Demands that a request ended with this event: type, information, log page.
fn tells(completion: &Completion, kind: u32, information: u32, lid: u32) -> Result<()> {
    done(completion)?;
    same("event", completion.cqe.dw0, lid << 16 | information << 8 | kind)
}

/// A notice that an attached namespace's attributes changed.
fn tells_of_namespaces(completion: &Completion) -> Result<()> {
    tells(completion, 2, 0x00, 0x04)
}

/// Demands that no request has ended: whatever was to come has come before the answer to another command.
fn nothing_comes(session: &mut Session) -> Result<()> {
    done(&session.admin().keep_alive()?)?;
    let ended = session.admin().poll()?;
    ensure!(ended.is_none(), "an event that nobody asked for: {ended:?}");
    Ok(())
}
