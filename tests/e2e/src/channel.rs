//! The control channel between a test and the job in its guest: lines over the guest's second serial port.
//!
//! Guest to test: `BOOTED` first, `RESULT key=value`, `PHASE name` (the job waits until the test answers), and last `EXIT status`.
//! Test to guest: `GO`, and what the job is told then. The console is the first serial port, so that kernel messages can never cut these lines.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    mem::take,
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::Instant,
};

use anyhow::{Context, Result, bail, ensure};

/// What a job reported: `RESULT key=value`; a later value replaces an earlier one.
#[derive(Debug, Default, Clone)]
pub struct Results(BTreeMap<String, String>);

impl Results {
    /// The value of `key`.
    ///
    /// # Errors
    /// When the job did not report it.
    pub fn text(&self, key: &str) -> Result<&str> {
        self.0.get(key).map(String::as_str).with_context(|| format!("the guest reported no `{key}`"))
    }

    /// All of them, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// Takes in a line, if it is a result.
    fn take_in(&mut self, line: &str) -> bool {
        let pair = line.strip_prefix("RESULT ").and_then(|pair| pair.split_once('='));
        if let Some((key, value)) = pair {
            self.0.insert(key.to_owned(), value.to_owned());
        }
        pair.is_some()
    }

    /// The value of `key` as a decimal number.
    ///
    /// # Errors
    /// When the job did not report it, or not as a number.
    pub fn number(&self, key: &str) -> Result<u64> {
        let text = self.text(key)?;
        text.parse().with_context(|| format!("the guest reported {key}={text}, which is no number"))
    }
}

/// The test's end of the channel.
pub(crate) struct Channel<W> {
    to_guest: W,
    lines: Receiver<String>,
    results: Results,
}

impl<W: Write> Channel<W> {
    /// Reads lines in a thread of its own, which ends with `from_guest`.
    pub(crate) fn new(to_guest: W, from_guest: impl Read + Send + 'static) -> Channel<W> {
        let (sender, lines) = channel();
        thread::spawn(move || {
            let mut from_guest = BufReader::new(from_guest);
            let mut line = String::new();
            // What the guest's end cut off is no line.
            while from_guest.read_line(&mut line).is_ok_and(|_| line.ends_with('\n')) {
                if sender.send(take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Channel { to_guest, lines, results: Results::default() }
    }

    /// Waits until the guest's first process speaks; whether it ever did.
    ///
    /// # Errors
    /// When it says something else, or has not spoken at the deadline.
    pub(crate) fn wait_booted(&mut self, deadline: Instant) -> Result<bool> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                ensure!(line.trim_end() == "BOOTED", "the guest's first line was `{line}`");
                Ok(true)
            }
            Err(RecvTimeoutError::Timeout) => bail!("the guest has not booted within its time limit"),
            Err(RecvTimeoutError::Disconnected) => Ok(false),
        }
    }

    /// Waits until the job stands at the phase `name`.
    ///
    /// # Errors
    /// When it ends, stands at another phase, or is not there at the deadline.
    pub(crate) fn wait_phase(&mut self, name: &str, deadline: Instant) -> Result<()> {
        match self.next_event(deadline)? {
            Event::Phase(at) => {
                ensure!(at == name, "the guest stands at phase {at}, not at {name}");
                Ok(())
            }
            Event::Exit(status) => bail!("the job ended with status {status} before phase {name}"),
        }
    }

    /// Lets the job go on from the phase where it stands, and tells it something: one line, which may be empty.
    pub(crate) fn go_on(&mut self, told: &str) -> Result<()> {
        ensure!(!told.contains('\n'), "the job is told one line, not `{told}`");
        writeln!(self.to_guest, "GO {told}")?;
        Ok(self.to_guest.flush()?)
    }

    /// What was reported so far.
    pub(crate) fn results(&self) -> &Results {
        &self.results
    }

    /// Waits for the job's end: its exit status.
    ///
    /// # Errors
    /// When it stands at a phase instead, or has not ended at the deadline.
    pub(crate) fn wait_exit(&mut self, deadline: Instant) -> Result<i32> {
        match self.next_event(deadline)? {
            Event::Exit(status) => Ok(status),
            Event::Phase(name) => bail!("the job waits at phase {name}, and the test for its end"),
        }
    }

    /// Waits until so many results have been reported.
    ///
    /// # Errors
    /// When the job stands or ends before that, or the deadline is over.
    pub(crate) fn wait_results(&mut self, count: u64, deadline: Instant) -> Result<()> {
        while (self.results.0.len() as u64) < count {
            let line = self.next_line(deadline)?;
            ensure!(self.results.take_in(&line), "results are waited for, and the guest sent `{line}`");
        }
        Ok(())
    }

    /// What the job had reported when the guest ended, which it has.
    pub(crate) fn into_last_results(mut self) -> Results {
        for line in &self.lines {
            self.results.take_in(line.trim_end());
        }
        self.results
    }

    /// What was reported so far.
    pub(crate) fn into_results(self) -> Results {
        self.results
    }

    fn next_line(&self, deadline: Instant) -> Result<String> {
        match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => Ok(line.trim_end().to_owned()),
            Err(RecvTimeoutError::Timeout) => bail!("the guest exceeded its time limit"),
            Err(RecvTimeoutError::Disconnected) => bail!("the guest ended without an exit status"),
        }
    }

    fn next_event(&mut self, deadline: Instant) -> Result<Event> {
        loop {
            let line = self.next_line(deadline)?;
            if self.results.take_in(&line) {
                continue;
            }
            if let Some(name) = line.strip_prefix("PHASE ") {
                return Ok(Event::Phase(name.to_owned()));
            } else if let Some(status) = line.strip_prefix("EXIT ") {
                return Ok(Event::Exit(status.parse().with_context(|| format!("guest said `{line}`"))?));
            } else if !line.is_empty() {
                bail!("the guest sent a line that is none of ours: `{line}`");
            }
        }
    }
}

enum Event {
    Phase(String),
    Exit(i32),
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn later() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn results_phases_and_exit_come_in_order() {
        let text = "RESULT a=1\nRESULT b=x=y\r\nPHASE loaded\nRESULT a=2\nEXIT 3\n";
        let mut sent = Vec::new();
        let mut channel = Channel::new(&mut sent, text.as_bytes());
        channel.wait_phase("loaded", later()).unwrap();
        channel.go_on("and on").unwrap();
        assert_eq!(channel.wait_exit(later()).unwrap(), 3);
        let results = channel.into_results();
        assert_eq!(results.number("a").unwrap(), 2);
        assert_eq!(results.text("b").unwrap(), "x=y");
        assert!(results.text("c").is_err());
        assert_eq!(sent, b"GO and on\n");
    }

    #[test]
    fn a_line_that_was_cut_off_does_not_count() {
        let channel = Channel::new(Vec::new(), "RESULT a=12\nPHASE x\nRESULT b=3\nRESULT a=1".as_bytes());
        let results = channel.into_last_results();
        assert_eq!(results.iter().collect::<Vec<_>>(), [("a", "12"), ("b", "3")]);
    }

    #[test]
    fn a_guest_has_booted_when_it_says_so() {
        let booted = |text: &'static str| Channel::new(Vec::new(), text.as_bytes()).wait_booted(later());
        assert!(booted("BOOTED\nPHASE a\n").unwrap());
        assert!(!booted("").unwrap());
        assert!(!booted("BOO").unwrap());
        assert!(booted("PHASE a\n").is_err());
    }

    #[test]
    fn a_guest_that_vanishes_is_an_error() {
        let mut channel = Channel::new(Vec::new(), "RESULT a=1\n".as_bytes());
        assert!(channel.wait_exit(later()).is_err());
    }

    #[test]
    fn an_end_before_the_phase_is_an_error() {
        let mut channel = Channel::new(Vec::new(), "EXIT 0\n".as_bytes());
        assert!(channel.wait_phase("loaded", later()).is_err());
    }
}
