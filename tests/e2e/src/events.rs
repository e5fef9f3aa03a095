//! The API's stream of events as a listener sees it.

use std::{
    io::{BufRead, BufReader, Lines, Write},
    net::TcpStream,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::Rest;

/// A bound for an event that never comes.
const EVENT_LIMIT: Duration = Duration::from_secs(30);

/// An open stream.
pub struct Events {
    lines: Lines<BufReader<TcpStream>>,
}

impl Rest {
    /// Listens to what happens from now on.
    ///
    /// # Errors
    /// When no stream of events is answered.
    pub fn events(&self) -> Result<Events> {
        let address = self.base().strip_prefix("http://").context("an address")?;
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(EVENT_LIMIT))?;
        write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
        let mut lines = BufReader::new(stream).lines();
        let mut head = Vec::new();
        for line in lines.by_ref() {
            let line = line?;
            if line.is_empty() {
                break;
            }
            head.push(line.to_ascii_lowercase());
        }
        ensure!(head.iter().any(|line| line.starts_with("content-type: text/event-stream")), "{head:?}");
        Ok(Events { lines })
    }
}

impl Events {
    /// The name and the data of the next event.
    ///
    /// # Errors
    /// When none comes, or it is not a JSON object with a name.
    pub fn next_event(&mut self) -> Result<(String, Value)> {
        let mut named = None;
        loop {
            let line = self.lines.next().context("the stream of events ended")?.context("no event")?;
            if let Some(name) = line.strip_prefix("event: ") {
                named = Some(name.to_owned());
            } else if let Some(data) = line.strip_prefix("data: ") {
                let data: Value = serde_json::from_str(data).with_context(|| line.clone())?;
                ensure!(data.is_object(), "{line}");
                return Ok((named.with_context(|| format!("data without a name: {line}"))?, data));
            }
        }
    }

    /// Waits for an alarm about `subject` that says `what`.
    ///
    /// # Errors
    /// When none comes.
    pub fn alarm(&mut self, subject: &str, what: &str) -> Result<()> {
        loop {
            let (name, data) = self.next_event().with_context(|| format!("no alarm: {subject}: {what}"))?;
            let field = |name: &str| data.get(name).and_then(Value::as_str).unwrap_or_default();
            if name == "alarm" && field("subject") == subject && field("detail").contains(what) {
                return Ok(());
            }
        }
    }
}
