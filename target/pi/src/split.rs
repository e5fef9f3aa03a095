//! Cutting a piece of a wire stream at block and tuple boundaries. NVM Command Set 1.1 §5.2.3
//! "Metadata Handling": metadata that is contiguous with the data makes an extended logical block.
//!
//! The network cuts a transfer wherever it likes: in the middle of a block, between a block and its
//! tuple, within a tuple. Everyone who looks at such a transfer cuts it here, so that the arithmetic
//! exists once.

/// Which part of an extended logical block bytes belong to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The block's data.
    Data,
    /// The tuple behind it.
    Tuple,
}

/// Bytes of one part of one block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece<'a> {
    /// The block's position in the command, from 0.
    pub block: u32,
    /// Data or tuple.
    pub part: Part,
    /// Where `bytes` start within the part.
    pub offset: usize,
    /// The bytes; never empty.
    pub bytes: &'a [u8],
}

/// Cuts `bytes`, which start `wire_offset` bytes into the transfer of a command, into pieces in their
/// order. `tuple_len` is 0 for a transfer of data alone.
///
/// Every byte comes out in exactly one piece, as long as block numbers fit 32 bits: what lies further
/// into a transfer, or has blocks of no bytes, comes out in none. Commands are far smaller.
#[inline]
pub fn split(block_len: usize, tuple_len: usize, wire_offset: usize, bytes: &[u8]) -> WireSplit<'_> {
    let wire_block_len = block_len.saturating_add(tuple_len);
    let place = wire_offset.checked_div(wire_block_len).and_then(|block| u32::try_from(block).ok());
    let (block, rest) = match place {
        Some(block) => (block, bytes),
        None => (0, [].as_slice()),
    };
    let within = wire_offset.checked_rem(wire_block_len).unwrap_or(0);
    WireSplit { block_len, wire_block_len, block, within, rest }
}

/// The iterator of [`split`].
#[derive(Debug, Clone)]
pub struct WireSplit<'a> {
    block_len: usize,
    wire_block_len: usize,
    /// The block that `rest` starts in.
    block: u32,
    /// Where in it; always less than `wire_block_len` while there is a `rest`.
    within: usize,
    rest: &'a [u8],
}

impl<'a> Iterator for WireSplit<'a> {
    type Item = Piece<'a>;

    #[inline]
    fn next(&mut self) -> Option<Piece<'a>> {
        if self.rest.is_empty() {
            return None;
        }
        let (part, start, end) = if self.within < self.block_len {
            (Part::Data, 0, self.block_len)
        } else {
            (Part::Tuple, self.block_len, self.wire_block_len)
        };
        let take = self.rest.len().min(end - self.within);
        let (bytes, rest) = self.rest.split_at_checked(take)?;
        let piece = Piece { block: self.block, part, offset: self.within - start, bytes };
        self.within += take;
        self.rest = rest;
        if self.within == self.wire_block_len {
            self.within = 0;
            match self.block.checked_add(1) {
                Some(block) => self.block = block,
                None => self.rest = &[],
            }
        }
        Some(piece)
    }
}
