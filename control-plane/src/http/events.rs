//! `/events`: server-sent events (WHATWG HTML, 9.2 "Server-sent events").

use std::convert::Infallible;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event as SseEvent, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use tokio_stream::wrappers::BroadcastStream;
use tokio_stream::wrappers::errors::BroadcastStreamRecvError;

use super::Shared;
use super::openapi::ListProblems;
use super::query::NoParameters;
use crate::app::Sync;
use crate::app::events::Event;
use crate::error::{Error, Result};

/// Pause after which a comment keeps an idle stream open.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// Streams what happens: events `host`, `volume`, `pool`, `target`, `incident` and `alarm` with JSON data. The first one
/// is a `target` event with the present state. A listener that falls behind gets a `target` event with `"state":"resync"`
/// and should read everything anew.
#[utoipa::path(get, path = "/events", tag = "system", operation_id = "events",
    responses(
        (status = 200, description = "An endless stream", content_type = "text/event-stream", body = String),
        (status = 503, description = "As many streams as this process serves at once are open",
            content_type = "application/problem+json", body = super::problem::Problem),
        ListProblems))]
pub(super) async fn stream(
    State(shared): State<Shared>,
    _: NoParameters,
) -> Result<Sse<impl Stream<Item = Result<SseEvent, Infallible>>>> {
    let place =
        std::sync::Arc::clone(&shared.app.streams).try_acquire_owned().map_err(|_| Error::TooManyStreams)?;
    let events = shared.app.events.listen();
    let first = match &*shared.app.sync().borrow() {
        Sync::InSync => Event::target("up", "the target runs what is wanted"),
        Sync::Waiting { reason } => Event::target("away", reason),
    };
    let mut stop = shared.stop;
    let stopped = async move {
        // A closed channel stops as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    let later = BroadcastStream::new(events).map(|event| match event {
        Ok(event) => event,
        Err(BroadcastStreamRecvError::Lagged(missed)) => {
            Event::target("resync", &format!("{missed} events were missed"))
        }
    });
    let events = stream::once(async { first }).chain(later).take_until(Box::pin(stopped)).map(move |event| {
        // The stream's place is free again when the stream is dropped.
        let _place = &place;
        Ok(SseEvent::default().event(event.kind.as_str()).data(event.data.to_string()))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)))
}
