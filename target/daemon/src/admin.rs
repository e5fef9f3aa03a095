//! The Unix socket on which the control plane is served: one request, one response, in turn.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use holdfast_contract::{
    Hello, MESSAGE_BYTES_MAX, PROTOCOL_VERSION, Request, Response, decode_line, encode_line,
};

use crate::keeper::{SharedSpool, lock};
use crate::target::Target;

/// Conversations at one time: a control plane, its successor after a restart, and a curious person.
const CONVERSATIONS_MAX: usize = 8;

/// The target, shared by the conversations. Taken out when the target stops.
pub(crate) type SharedTarget = Arc<Mutex<Option<Target>>>;

/// Makes the socket; one that an earlier run left is replaced. Only its owner may connect.
pub(crate) fn bind(path: &Path) -> std::io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until the process ends.
pub(crate) fn serve(listener: &UnixListener, target: &SharedTarget, spool: &SharedSpool) {
    let here = Arc::new(());
    for stream in listener.incoming() {
        let stream = match stream {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "the admin socket refused a connection");
                std::thread::sleep(std::time::Duration::from_millis(100));
                continue;
            }
        };
        if Arc::strong_count(&here) > CONVERSATIONS_MAX {
            tracing::warn!("too many conversations on the admin socket");
            continue;
        }
        let (target, spool, here) = (Arc::clone(target), Arc::clone(spool), Arc::clone(&here));
        let spawned = std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let _counted = here;
            if let Err(error) = converse(&stream, &target, &spool) {
                tracing::debug!(%error, "a conversation on the admin socket ended");
            }
        });
        if let Err(error) = spawned {
            tracing::error!(%error, "no thread for the admin socket");
        }
    }
}

fn converse(stream: &UnixStream, target: &SharedTarget, spool: &SharedSpool) -> anyhow::Result<()> {
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    let mut greeted = false;
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(MESSAGE_BYTES_MAX).unwrap_or(u64::MAX);
        reader.by_ref().take(limit).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        let response = match decode_line::<Request>(&line) {
            Ok(Request::Hello(hello)) => greet(&hello, &mut greeted),
            Ok(_) if !greeted => Response::Error { detail: "say hello first".to_owned() },
            Ok(request) => answer(request, target, spool),
            Err(error) => Response::Error { detail: error.to_string() },
        };
        writer.write_all(&encode_line(&response)?)?;
    }
}

fn greet(hello: &Hello, greeted: &mut bool) -> Response {
    if hello.version != PROTOCOL_VERSION {
        let detail = format!(
            "{} speaks version {}, this target speaks version {PROTOCOL_VERSION}; install both from one release",
            hello.program, hello.version
        );
        return Response::Error { detail };
    }
    *greeted = true;
    let program = format!("holdfast-target {}", env!("CARGO_PKG_VERSION"));
    Response::Hello(Hello { version: PROTOCOL_VERSION, program })
}

fn answer(request: Request, target: &SharedTarget, spool: &SharedSpool) -> Response {
    match request {
        Request::Incidents { after, limit } => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            return Response::Incidents(lock(spool).after(after, limit));
        }
        Request::AckIncidents { through } => {
            lock(spool).acknowledge(through);
            return Response::Acked;
        }
        Request::Hello(_)
        | Request::Apply(_)
        | Request::Observe
        | Request::Prepare(_)
        | Request::Abandon { .. }
        | Request::Drill(_) => {}
    }
    let dropped = lock(spool).dropped();
    let mut guard = target.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(target) = guard.as_mut() else {
        return Response::Error { detail: "the target is stopping".to_owned() };
    };
    match request {
        Request::Apply(desired) => target.apply(*desired),
        Request::Observe => Response::Observed(Box::new(target.observe(dropped))),
        Request::Prepare(order) => target.prepare(&order),
        Request::Abandon { ticket } => target.abandon(ticket),
        Request::Drill(order) => target.drill(&order),
        Request::Hello(_) | Request::Incidents { .. } | Request::AckIncidents { .. } => {
            Response::Error { detail: "not now".to_owned() }
        }
    }
}
