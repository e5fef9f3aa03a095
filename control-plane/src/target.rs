//! The conversation with the target: one task owns the Unix socket, says Hello, and carries the calls of everybody
//! else one after the other, as the contract wants it. A broken conversation is begun anew until it holds.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use holdfast_contract::{
    Hello, MESSAGE_BYTES_MAX, ObservedState, PROTOCOL_VERSION, Request, Response, decode_line, encode_line,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};

/// Longest wait for the answer to anything but `Apply`.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for the answer to `Apply`, which may have memory to map and sessions to end.
const APPLY_TIMEOUT: Duration = Duration::from_secs(20);
/// Pause between attempts to reach the target: short, since the first seconds of a restart matter most.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// Calls that may wait for their turn. Callers are the reconciler and one change at a time.
const CALLS_WAITING_MAX: usize = 16;

/// Why a call brought no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The conversation broke or had not begun. Whether the request was carried out is not known.
    #[error("{0}")]
    Lost(String),
}

/// Whether the target can be spoken to.
#[derive(Debug, Clone)]
pub enum Link {
    /// It cannot.
    Down {
        /// Why, for people.
        reason: String,
    },
    /// It can.
    Up {
        /// Differs for every conversation.
        generation: u64,
        /// Revision that the target had applied when the conversation began.
        revision: u64,
    },
}

struct Call {
    request: Request,
    reply: oneshot::Sender<Result<Response, CallError>>,
}

/// A way to call the target. Cheap to clone.
#[derive(Debug, Clone)]
pub struct TargetHandle {
    calls: mpsc::Sender<Call>,
    link: watch::Receiver<Link>,
}

impl TargetHandle {
    /// Starts the task that speaks to the target at `socket`. It ends with the last handle.
    pub fn spawn(socket: PathBuf) -> Self {
        let (calls, queue) = mpsc::channel(CALLS_WAITING_MAX);
        let (link_out, link) = watch::channel(Link::Down { reason: "not reached yet".to_owned() });
        tokio::spawn(Talker { socket, queue, link: link_out, generation: 0 }.run());
        Self { calls, link }
    }

    /// The state of the conversation, to read or to wait on.
    pub fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// The link once it is up: (generation, revision at its begin). The reason it is down if it is not by `deadline`.
    pub async fn up(&self, deadline: Instant) -> Result<(u64, u64), String> {
        let mut link = self.link.clone();
        loop {
            let reason = match &*link.borrow_and_update() {
                Link::Up { generation, revision } => return Ok((*generation, *revision)),
                Link::Down { reason } => reason.clone(),
            };
            match timeout_at(deadline, link.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(reason),
            }
        }
    }

    /// Asks, and waits for the answer.
    pub async fn call(&self, request: Request) -> Result<Response, CallError> {
        let gone = || CallError::Lost("shutting down".to_owned());
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call { request, reply }).await.map_err(|_| gone())?;
        answer.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Asks how the target is.
    pub async fn observe(&self) -> Result<Arc<ObservedState>, CallError> {
        match self.call(Request::Observe).await? {
            Response::Observed(observed) => Ok(Arc::from(observed)),
            other => Err(CallError::Lost(format!("the target cannot be observed: {other:?}"))),
        }
    }
}

struct Talker {
    socket: PathBuf,
    queue: mpsc::Receiver<Call>,
    link: watch::Sender<Link>,
    generation: u64,
}

impl Talker {
    async fn run(mut self) {
        loop {
            let reason = match self.connect_or_refuse_calls().await {
                None => return,
                Some(Err(reason)) => reason,
                Some(Ok((mut conversation, revision))) => {
                    self.generation += 1;
                    tracing::info!(generation = self.generation, revision, "target reached");
                    let _ = self.link.send(Link::Up { generation: self.generation, revision });
                    match self.carry_calls(&mut conversation).await {
                        None => return,
                        Some(reason) => reason,
                    }
                }
            };
            self.note_down(reason);
            if !self.pause().await {
                return;
            }
        }
    }

    /// Tries once to begin a conversation; calls that come meanwhile are refused. `None` when nobody can call any more.
    async fn connect_or_refuse_calls(&mut self) -> Option<Result<(Conversation, u64), String>> {
        let begin = Conversation::begin(self.socket.clone());
        tokio::pin!(begin);
        loop {
            tokio::select! {
                begun = &mut begin => return Some(begun),
                call = self.queue.recv() => refuse(call?),
            }
        }
    }

    /// Carries calls until the conversation breaks: why it did. `None` when nobody can call any more.
    async fn carry_calls(&mut self, conversation: &mut Conversation) -> Option<String> {
        loop {
            let call = self.queue.recv().await?;
            match conversation.ask(&call.request).await {
                Ok(response) => {
                    let _ = call.reply.send(Ok(response));
                }
                Err(reason) => {
                    // The link is down before the caller knows, so that it waits for a new one.
                    self.note_down(reason.clone());
                    let _ = call.reply.send(Err(CallError::Lost(reason.clone())));
                    return Some(reason);
                }
            }
        }
    }

    fn note_down(&self, reason: String) {
        let changed = self.link.send_if_modified(|link| {
            let same = matches!(link, Link::Down { reason: old } if *old == reason);
            if !same {
                *link = Link::Down { reason: reason.clone() };
            }
            !same
        });
        if changed {
            tracing::warn!(reason, "target away");
        }
    }

    /// `false` when nobody can call any more.
    async fn pause(&mut self) -> bool {
        let over = sleep(RECONNECT_PAUSE);
        tokio::pin!(over);
        loop {
            tokio::select! {
                () = &mut over => return true,
                call = self.queue.recv() => match call {
                    Some(call) => refuse(call),
                    None => return false,
                },
            }
        }
    }
}

fn refuse(call: Call) {
    let _ = call.reply.send(Err(CallError::Lost("the target is not reached".to_owned())));
}

struct Conversation {
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Conversation {
    /// Connects, agrees on the version, and learns the revision in force.
    async fn begin(socket: PathBuf) -> Result<(Self, u64), String> {
        let stream = UnixStream::connect(&socket)
            .await
            .map_err(|error| format!("cannot connect to {}: {error}", socket.display()))?;
        let (reader, writer) = stream.into_split();
        let mut this = Self { reader: BufReader::new(reader), writer };
        let program = concat!("holdfast-control-plane ", env!("CARGO_PKG_VERSION")).to_owned();
        match this.ask(&Request::Hello(Hello { version: PROTOCOL_VERSION, program })).await? {
            Response::Hello(hello) if hello.version == PROTOCOL_VERSION => {}
            Response::Hello(hello) => {
                return Err(format!(
                    "{} speaks version {}, this program version {PROTOCOL_VERSION}",
                    hello.program, hello.version
                ));
            }
            other => return Err(format!("the target refused the conversation: {other:?}")),
        }
        match this.ask(&Request::Observe).await? {
            Response::Observed(observed) => Ok((this, observed.revision)),
            other => Err(format!("the target cannot be observed: {other:?}")),
        }
    }

    async fn ask(&mut self, request: &Request) -> Result<Response, String> {
        let patience = if matches!(request, Request::Apply(_)) { APPLY_TIMEOUT } else { ANSWER_TIMEOUT };
        timeout(patience, self.exchange(request))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {} seconds", patience.as_secs())))
    }

    async fn exchange(&mut self, request: &Request) -> Result<Response, String> {
        let line = encode_line(request).map_err(|error| error.to_string())?;
        self.writer.write_all(&line).await.map_err(|error| format!("connection lost: {error}"))?;
        let answer = self.read_line().await?;
        let response = decode_line(&answer).map_err(|error| error.to_string())?;
        if answers(request, &response) {
            Ok(response)
        } else {
            Err("the target answered out of turn".to_owned())
        }
    }

    /// One line, its end not included; never more than [`MESSAGE_BYTES_MAX`] in memory.
    async fn read_line(&mut self) -> Result<Vec<u8>, String> {
        let mut line = Vec::new();
        loop {
            let available =
                self.reader.fill_buf().await.map_err(|error| format!("connection lost: {error}"))?;
            if available.is_empty() {
                return Err("connection closed by the target".to_owned());
            }
            let (part, ended) = match available.iter().position(|byte| *byte == b'\n') {
                Some(end) => (available.get(..end).unwrap_or_default(), true),
                None => (available, false),
            };
            line.extend_from_slice(part);
            let used = part.len() + usize::from(ended);
            self.reader.consume(used);
            if line.len() > MESSAGE_BYTES_MAX {
                return Err(format!("the answer is longer than {MESSAGE_BYTES_MAX} bytes"));
            }
            if ended {
                return Ok(line);
            }
        }
    }
}

/// Whether a response belongs to a request. One that does not means that the two sides lost step.
fn answers(request: &Request, response: &Response) -> bool {
    match (request, response) {
        (Request::Hello(_), Response::Hello(_))
        | (Request::Apply(_), Response::Applied(_) | Response::Refused(_))
        | (Request::Observe, Response::Observed(_))
        | (Request::Incidents { .. }, Response::Incidents(_))
        | (Request::AckIncidents { .. }, Response::Acked)
        | (Request::Prepare(_), Response::Preparing(_) | Response::Prepared(_) | Response::Refused(_))
        | (Request::Abandon { .. }, Response::Abandoned)
        | (Request::Drill(_), Response::Drilled | Response::Refused(_))
        | (_, Response::Error { .. }) => true,
        (
            _,
            Response::Hello(_)
            | Response::Applied(_)
            | Response::Refused(_)
            | Response::Observed(_)
            | Response::Incidents(_)
            | Response::Acked
            | Response::Preparing(_)
            | Response::Prepared(_)
            | Response::Abandoned
            | Response::Drilled,
        ) => false,
    }
}
