//! Receive buffers that clients keep because their turn has not come. All sockets of a core share a few of them: whoever
//! holds more than what is left for everybody else is not to receive, so that one client holds half of them at most for long, two
//! a third each, and so on; what the next one needs is always there.

use std::hash::Hash;

use super::{ClientId, Fair};

impl<K: Copy + Eq + Hash, C: Copy + Eq> Fair<K, C> {
    /// A buffer is kept for a client.
    pub(crate) fn keep_buffer(&mut self, id: ClientId) {
        self.kept += 1;
        if let Some(client) = self.clients.get_mut(id) {
            client.kept += 1;
        }
    }

    /// A kept buffer is free again.
    pub(crate) fn free_buffer(&mut self, id: ClientId) {
        self.kept = self.kept.saturating_sub(1);
        if let Some(client) = self.clients.get_mut(id) {
            client.kept = client.kept.saturating_sub(1);
        }
    }

    /// Whether a client holds more buffers than are left.
    pub(crate) fn is_hoarding(&mut self, id: ClientId) -> bool {
        let left = self.buffers.saturating_sub(self.kept);
        self.clients.get_mut(id).is_some_and(|client| client.kept > left)
    }

    /// A connection does not receive until [`Fair::unpark`] names it, which happens as the client's buffers are freed.
    pub(crate) fn park(&mut self, id: ClientId, connection: C) {
        if let Some(client) = self.clients.get_mut(id) {
            client.parked.push_back(connection);
        }
    }

    /// The next parked connection that may receive again: one for each buffer that was freed, and all once none is kept, so
    /// that none waits for ever.
    pub(crate) fn unpark(&mut self, id: ClientId) -> Option<C> {
        if self.is_hoarding(id) {
            return None;
        }
        self.clients.get_mut(id)?.parked.pop_front()
    }

    /// Whether a client keeps no buffer.
    pub(crate) fn keeps_nothing(&mut self, id: ClientId) -> bool {
        self.clients.get_mut(id).is_none_or(|client| client.kept == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_client_holds_half_of_the_buffers_and_two_a_third_each() {
        let mut fair = Fair::new(12);
        let (one, other) = (fair.join(1, 1), fair.join(2, 1));
        let fill = |fair: &mut Fair<i32, usize>, id| {
            for _ in 0..12 {
                if !fair.is_hoarding(id) {
                    fair.keep_buffer(id);
                }
            }
        };
        fill(&mut fair, one);
        assert_eq!(fair.kept, 7);
        fill(&mut fair, other);
        assert_eq!(fair.kept, 10);
        for _ in 0..3 {
            fair.free_buffer(one);
        }
        assert!(!fair.is_hoarding(one) && !fair.is_hoarding(other));
    }

    #[test]
    fn parked_connections_come_back_as_buffers_are_freed() {
        let mut fair = Fair::<i32, usize>::new(4);
        let one = fair.join(1, 1);
        fair.join(1, 1);
        for _ in 0..3 {
            fair.keep_buffer(one);
        }
        fair.park(one, 10);
        fair.park(one, 11);
        assert_eq!(fair.unpark(one), None);
        fair.free_buffer(one);
        assert_eq!(fair.unpark(one), Some(10));
        fair.leave(one, 11);
        assert_eq!(fair.unpark(one), None);
    }
}
