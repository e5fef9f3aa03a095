//! What happens, as it happens, for whoever listens.

use serde_json::{Value, json};
use tokio::sync::broadcast;

/// Events that a slow listener may fall behind before it is told to look anew.
const EVENTS_BUFFERED_MAX: usize = 1024;

/// Kinds of events: the names of the server-sent events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// A host was made, changed, connected or left.
    Host,
    /// A volume was made, changed or mapped.
    Volume,
    /// A pool was made, changed or removed.
    Pool,
    /// The target came, went, or listeners should read everything anew.
    Target,
    /// An incident is new or grew.
    Incident,
    /// Somebody should look.
    Alarm,
}

impl EventKind {
    /// The event's name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Volume => "volume",
            Self::Pool => "pool",
            Self::Target => "target",
            Self::Incident => "incident",
            Self::Alarm => "alarm",
        }
    }
}

/// One event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its name.
    pub kind: EventKind,
    /// Its data, a JSON object.
    pub data: Value,
}

impl Event {
    /// An object `name` of this kind had this `change`: `created`, `updated`, `deleted`, `imported`, `exported`, `sessions`, …
    pub fn object(kind: EventKind, name: &str, change: &str) -> Self {
        Self { kind, data: json!({ "name": name, "change": change }) }
    }

    /// The use of a pool has risen to a threshold, or fallen below one: the highest that is passed now, in percent, or 0.
    pub fn fill(pool: &str, threshold: u8, percent: u64) -> Self {
        let data = json!({ "name": pool, "change": "fill", "threshold": threshold, "percent": percent });
        Self { kind: EventKind::Pool, data }
    }

    /// The target is `up` or `away`, or listeners should `resync`.
    pub fn target(state: &str, detail: &str) -> Self {
        Self { kind: EventKind::Target, data: json!({ "state": state, "detail": detail }) }
    }

    /// Somebody should look at `subject`.
    pub fn alarm(subject: &str, detail: &str) -> Self {
        Self { kind: EventKind::Alarm, data: json!({ "subject": subject, "detail": detail }) }
    }
}

/// Hands events to every listener. Bounded; the sender never waits.
#[derive(Debug, Clone)]
pub struct Events {
    sender: broadcast::Sender<Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self { sender: broadcast::Sender::new(EVENTS_BUFFERED_MAX) }
    }

    /// Listens from now on.
    pub fn listen(&self) -> broadcast::Receiver<Event> {
        self.sender.subscribe()
    }

    pub(crate) fn send(&self, event: Event) {
        // An error means that nobody listens, which is fine.
        let _ = self.sender.send(event);
    }
}
