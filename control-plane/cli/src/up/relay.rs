//! What a child writes: passed on to our standard error line by line, the last line remembered.
//!
//! A pipe in between keeps the lines of two children from mixing, and lets `up` say at the end why a child
//! did not start.

use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::OFlags;

/// Longest line that is held back until it is complete. Longer ones are passed on in pieces.
const LINE_MAX_BYTES: usize = 8192;

/// Most bytes taken in one go, so that a child that writes without end cannot keep `up` from its other work.
const TURN_MAX_BYTES: usize = 64 * 1024;

/// How much of the last line an error message quotes, in characters.
const QUOTE_MAX_CHARS: usize = 400;

/// One child's output.
#[derive(Debug)]
pub(crate) struct Relay {
    reader: PipeReader,
    open: bool,
    partial: Vec<u8>,
    last_line: String,
}

impl Relay {
    /// A relay, and the end that the child writes to.
    ///
    /// # Errors
    /// No pipe can be had.
    pub(crate) fn new() -> io::Result<(Self, PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        rustix::fs::fcntl_setfl(&reader, OFlags::NONBLOCK)?;
        Ok((Self { reader, open: true, partial: Vec::new(), last_line: String::new() }, writer))
    }

    /// Another reading end, for the child itself to hold. As long as it does, its pipe has a reader, and a
    /// child that outlives us for the moment it takes to flush can still write its last lines (into the void)
    /// instead of failing.
    ///
    /// # Errors
    /// No descriptor can be had.
    pub(crate) fn reading_end(&self) -> io::Result<PipeReader> {
        self.reader.try_clone()
    }

    /// The descriptor to wait for, while the child still has its end open.
    pub(crate) fn pollable(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.reader.as_fd())
    }

    /// The last line that was not blank, without control characters and cut to a quotable length.
    pub(crate) fn last_line(&self) -> &str {
        &self.last_line
    }

    /// Takes what is there and writes complete lines to `out`. Never waits for the child.
    pub(crate) fn pump(&mut self, out: &mut impl Write) {
        let mut chunk = [0; 4096];
        let mut taken = 0;
        while self.open && taken < TURN_MAX_BYTES {
            match self.reader.read(&mut chunk) {
                Ok(0) => {
                    self.open = false;
                    self.flush_partial(out);
                }
                Ok(len) => {
                    taken += len;
                    self.partial.extend_from_slice(chunk.get(..len).unwrap_or_default());
                    self.flush_lines(out);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => self.open = false,
            }
        }
    }

    /// Passes on what is left of a child that is gone, complete line or not.
    pub(crate) fn finish(&mut self, out: &mut impl Write) {
        self.pump(out);
        self.flush_partial(out);
    }

    fn flush_lines(&mut self, out: &mut impl Write) {
        if let Some(end) = self.partial.iter().rposition(|&b| b == b'\n') {
            let rest = self.partial.split_off(end + 1);
            let lines = std::mem::replace(&mut self.partial, rest);
            self.emit(&lines, out);
        }
        if self.partial.len() > LINE_MAX_BYTES {
            self.flush_partial(out);
        }
    }

    fn flush_partial(&mut self, out: &mut impl Write) {
        if !self.partial.is_empty() {
            let mut line = std::mem::take(&mut self.partial);
            line.push(b'\n');
            self.emit(&line, out);
        }
    }

    fn emit(&mut self, lines: &[u8], out: &mut impl Write) {
        let text = String::from_utf8_lossy(lines);
        if let Some(line) = text.lines().rev().find(|line| !line.trim().is_empty()) {
            self.last_line = line.trim().chars().filter(|c| !c.is_control()).take(QUOTE_MAX_CHARS).collect();
        }
        // Nowhere to report to if our own standard error is gone.
        let _ = out.write_all(lines);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_lines_are_passed_on_until_the_end() {
        let (mut relay, mut writer) = Relay::new().unwrap();
        let mut out = Vec::new();
        relay.pump(&mut out);
        writer.write_all(b"one\ntw").unwrap();
        relay.pump(&mut out);
        assert_eq!(out, b"one\n");
        assert_eq!(relay.last_line(), "one");
        writer.write_all(b"o\n \n").unwrap();
        relay.pump(&mut out);
        assert_eq!(relay.last_line(), "two");
        writer.write_all(b"three").unwrap();
        drop(writer);
        relay.pump(&mut out);
        assert_eq!(out, b"one\ntwo\n \nthree\n");
        assert_eq!(relay.last_line(), "three");
        assert!(relay.pollable().is_none());
    }

    #[test]
    fn endless_line_is_passed_on_in_pieces() {
        let (mut relay, mut writer) = Relay::new().unwrap();
        let mut out = Vec::new();
        for _ in 0..3 {
            writer.write_all(&[b'x'; 4096]).unwrap();
            relay.pump(&mut out);
        }
        assert!(out.len() > LINE_MAX_BYTES && out.ends_with(b"\n"));
        assert_eq!(relay.last_line().chars().count(), QUOTE_MAX_CHARS);
    }

    #[test]
    fn what_a_dead_child_left_is_passed_on_though_others_hold_the_pipe() {
        let (mut relay, mut writer) = Relay::new().unwrap();
        let mut out = Vec::new();
        writer.write_all(b"\x1b[31mhalf").unwrap();
        relay.finish(&mut out);
        assert_eq!(out, b"\x1b[31mhalf\n");
        assert_eq!(relay.last_line(), "[31mhalf");
    }
}
