//! The admin side's view of a core: closures that run on its reactor's thread, between two turns, and answer.

use std::net::TcpStream;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::time::Duration;

use holdfast_block::{AttachRequest, VolumeId};
use holdfast_reactor::{Io, MailSender};

use crate::guests::{RemoteCommand, RemoteReply};
use crate::router::RemoteRequest;
use crate::shard::Shard;

/// Messages that may wait for one core from one sender.
pub(crate) const MAIL_MAX: usize = 4096;

/// How long the admin side waits for a core: far more than any turn takes. A core that does not answer is a bug.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Something to do on a core.
pub(crate) type Call = Box<dyn FnOnce(&mut Shard, &mut Io) + Send>;

/// What a core is sent.
pub(crate) enum Mail {
    /// Something to do, from the admin side.
    Call(Call),
    /// A connection that shall live on this core, and the listener that took it.
    Connection(u32, TcpStream),
    /// A controller ended on another core.
    DirectoryChanged,
    /// A command for a volume that lives on this core.
    Command(Box<RemoteCommand>),
    /// The end of a command that this core sent to another.
    Reply(Box<RemoteReply>),
    /// A request for a change of reservations of a volume that lives on this core.
    Request(Box<RemoteRequest>),
    /// An order to keep reservations has been carried out, or could not be.
    Kept {
        /// Whose.
        volume: VolumeId,
        /// Which order.
        number: u64,
        /// It is durable.
        done: bool,
    },
    /// A session on another core has given a volume up that lives on this one.
    Detached {
        /// Which session.
        session: u64,
        /// Which volume.
        volume: VolumeId,
    },
    /// A reset of a volume that lives on this core, as far as reservations care.
    EndLegacyReservation(Box<AttachRequest>),
}

/// A core did not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("core {0} does not answer")]
pub(crate) struct CoreGone(pub usize);

/// The admin side's end of a core's mailbox.
pub(crate) struct CoreHandle {
    index: usize,
    sender: MailSender<Mail>,
}

impl CoreHandle {
    /// The core that runs as number `index` behind `sender`.
    pub(crate) fn new(index: usize, sender: MailSender<Mail>) -> Self {
        CoreHandle { index, sender }
    }

    /// Runs `work` on the core and waits for its answer.
    pub(crate) fn call<R: Send + 'static>(
        &mut self,
        work: impl FnOnce(&mut Shard, &mut Io) -> R + Send + 'static,
    ) -> Result<R, CoreGone> {
        let (answer, wait) = sync_channel(1);
        let call = Mail::Call(Box::new(move |shard: &mut Shard, io: &mut Io| {
            // Nobody waits any more only if the admin side gave up on this core.
            let _unheard = answer.send(work(shard, io));
        }));
        self.sender.send(call).map_err(|_| CoreGone(self.index))?;
        wait.recv_timeout(ANSWER_MAX).map_err(|error| match error {
            RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected => CoreGone(self.index),
        })
    }
}
