//! The input of one connection that has not been taken yet, in the buffers that it was received into.

use std::collections::VecDeque;
use std::ops::Deref;

/// Buffers in order, and how much of the first has been taken.
#[derive(Debug)]
pub(super) struct Input<B> {
    buffers: VecDeque<B>,
    taken: usize,
}

impl<B: Deref<Target = [u8]>> Input<B> {
    pub(super) fn new() -> Self {
        Input { buffers: VecDeque::new(), taken: 0 }
    }

    /// Puts a buffer, which is not empty, behind the others.
    pub(super) fn push(&mut self, buffer: B) {
        debug_assert!(!buffer.is_empty(), "an empty buffer would never be taken");
        self.buffers.push_back(buffer);
    }

    /// What is next, never empty.
    pub(super) fn front(&self) -> Option<&[u8]> {
        self.buffers.front()?.get(self.taken..)
    }

    /// Notes that so many bytes of the front are taken; gives the number of buffers that were dropped by that.
    pub(super) fn advance(&mut self, bytes: usize) -> usize {
        self.taken += bytes;
        if self.buffers.front().is_none_or(|buffer| self.taken < buffer.len()) {
            return 0;
        }
        self.buffers.pop_front();
        self.taken = 0;
        1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.buffers.is_empty()
    }

    /// Buffers that are kept.
    pub(super) fn buffers(&self) -> usize {
        self.buffers.len()
    }

    /// Drops everything; gives the number of buffers.
    pub(super) fn clear(&mut self) -> usize {
        let dropped = self.buffers.len();
        self.buffers.clear();
        self.taken = 0;
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_and_a_buffer_goes_with_its_last_one() {
        let mut input = Input::new();
        input.push(vec![1, 2, 3]);
        input.push(vec![4]);
        assert_eq!(input.front(), Some(&[1, 2, 3][..]));
        assert_eq!(input.advance(2), 0);
        assert_eq!(input.front(), Some(&[3][..]));
        assert_eq!(input.advance(1), 1);
        assert_eq!((input.front(), input.buffers()), (Some(&[4][..]), 1));
        assert_eq!(input.advance(1), 1);
        assert_eq!(input.front(), None);
        assert!(input.is_empty());
    }

    #[test]
    fn what_is_dropped_is_counted() {
        let mut input = Input::new();
        input.push(vec![1, 2]);
        input.push(vec![3]);
        input.advance(1);
        assert_eq!(input.clear(), 2);
        input.push(vec![9]);
        assert_eq!(input.front(), Some(&[9][..]));
    }
}
