//! The fuzzer's bytes, read as a script. What is missing at the end reads as zeroes, so that every input is a script.

/// A script, and how far it has been read.
pub(crate) struct Script<'a> {
    rest: &'a [u8],
}

impl<'a> Script<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Script<'a> {
        Script { rest: bytes }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.rest.is_empty()
    }

    pub(crate) fn array<const N: usize>(&mut self) -> [u8; N] {
        let (now, rest) = self.rest.split_at(self.rest.len().min(N));
        self.rest = rest;
        let mut array = [0; N];
        array[..now.len()].copy_from_slice(now);
        array
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let [byte] = self.array();
        byte
    }

    pub(crate) fn half(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn word(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Whether a coin falls on its head.
    pub(crate) fn coin(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// One of these.
    pub(crate) fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::from(self.byte()) % from.len()]
    }

    /// Up to `len` bytes.
    pub(crate) fn slice(&mut self, len: usize) -> &'a [u8] {
        let (now, rest) = self.rest.split_at(self.rest.len().min(len));
        self.rest = rest;
        now
    }

    /// All that is left.
    pub(crate) fn remainder(&mut self) -> &'a [u8] {
        self.slice(usize::MAX)
    }
}
