//! The event stream. WHATWG HTML §9.2 "Server-sent events".

use std::io::{BufRead, BufReader, Read};

use ureq::{Body, BodyReader};

use super::{Api, ClientError, Purpose};

/// Longest line of a stream. One event carries one object.
const LINE_MAX_BYTES: u64 = 1 << 20;

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    /// `event:`, such as `volume`.
    pub(crate) name: String,
    /// `data:`, lines joined: JSON.
    pub(crate) data: String,
}

/// An open stream.
pub(crate) struct EventStream {
    lines: BufReader<BodyReader<'static>>,
}

impl EventStream {
    /// Opens the API's stream.
    ///
    /// # Errors
    /// Not reachable or refused.
    pub(crate) fn open(api: &Api, purpose: &Purpose, path: &str) -> Result<Self, ClientError> {
        let body: Body = api.open_stream(purpose, path)?;
        Ok(Self { lines: BufReader::new(body.into_with_config().limit(u64::MAX).reader()) })
    }

    /// Waits for the next event.
    ///
    /// # Errors
    /// The stream ended.
    pub(crate) fn next(&mut self) -> Result<Event, ClientError> {
        read_event(&mut self.lines).ok_or(ClientError::StreamEnded)
    }
}

/// The next event with data; comments (keep-alives) and members that are not used are passed over.
fn read_event(lines: &mut impl BufRead) -> Option<Event> {
    let mut event = Event::default();
    let mut has_data = false;
    loop {
        let mut line = Vec::new();
        let read = lines.by_ref().take(LINE_MAX_BYTES).read_until(b'\n', &mut line).ok()?;
        if read == 0 || line.last() != Some(&b'\n') {
            return None;
        }
        let line = String::from_utf8_lossy(&line);
        let line = line.trim_end_matches(['\n', '\r']);
        if line.is_empty() {
            if has_data {
                return Some(event);
            }
            event = Event::default();
            continue;
        }
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => event.name = value.to_owned(),
            "data" => {
                if has_data {
                    event.data.push('\n');
                }
                event.data.push_str(value);
                has_data = true;
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_keep_alives_passed_over() {
        let stream = ":\n\nevent: volume\nid: 7\ndata: {\"a\":\ndata: 1}\n\n: ping\n\nevent:host\r\ndata:{}\r\n\r\nevent: cut";
        let mut lines = stream.as_bytes();
        let first = read_event(&mut lines).unwrap();
        assert_eq!((first.name.as_str(), first.data.as_str()), ("volume", "{\"a\":\n1}"));
        let second = read_event(&mut lines).unwrap();
        assert_eq!((second.name.as_str(), second.data.as_str()), ("host", "{}"));
        assert_eq!(read_event(&mut lines), None);
    }

    #[test]
    fn endless_line_ends_the_stream() {
        let mut lines = BufReader::new(std::io::repeat(b'x'));
        assert_eq!(read_event(&mut lines), None);
    }
}
