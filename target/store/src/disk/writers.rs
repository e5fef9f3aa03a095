//! Who wrote what: hosts are named by an index in cell images, so that an image stays short.
//!
//! An index must never come to mean another host. Until a journal block that states it is durable, or a checkpoint has it,
//! every block that uses it states it again: else the loss of one block could leave an index in use that the next
//! host is given.

use std::collections::HashMap;

use holdfast_block::HostId;

use super::format::{WRITER_PLACES, WRITER_UNKNOWN};

/// The hosts of a pool.
#[derive(Debug, Default)]
pub(super) struct Writers {
    hosts: Vec<Writer>,
    index: HashMap<HostId, u16>,
}

#[derive(Debug, Clone, Copy)]
struct Writer {
    /// `None`: what stated it was lost. The index is given to nobody.
    host: Option<HostId>,
    /// The first journal block that has stated it; 0: a checkpoint has it; `NEVER`: none yet.
    stated: u64,
}

const NEVER: u64 = u64::MAX;

impl Writers {
    /// The index of a host, given to it now if it has none. [`WRITER_UNKNOWN`] when the table is full.
    pub(super) fn index_of(&mut self, host: HostId) -> u16 {
        if let Some(index) = self.index.get(&host) {
            return *index;
        }
        let index = u16::try_from(self.hosts.len()).ok().filter(|index| usize::from(*index) < WRITER_PLACES);
        let Some(index) = index else { return WRITER_UNKNOWN };
        self.hosts.push(Writer { host: Some(host), stated: NEVER });
        self.index.insert(host, index);
        index
    }

    /// Takes up what a checkpoint or a journal block says. Indexes come in any order; one that is missing is nobody's.
    pub(super) fn load(&mut self, index: u16, host: HostId) {
        let at = usize::from(index);
        if at >= WRITER_PLACES {
            return;
        }
        while self.hosts.len() <= at {
            self.hosts.push(Writer { host: None, stated: 0 });
        }
        if let Some(place) = self.hosts.get_mut(at) {
            *place = Writer { host: Some(host), stated: 0 };
        }
        self.index.insert(host, index);
    }

    /// Whose index it is.
    pub(super) fn host(&self, index: u16) -> Option<HostId> {
        self.hosts.get(usize::from(index)).and_then(|writer| writer.host)
    }

    /// Whether a block has to state an index that it uses, while the blocks up to `durable` are durable.
    pub(super) fn needs_statement(&self, index: u16, durable: u64) -> bool {
        let durable = if holdfast_mutant::active("store-writer-stated-once") { NEVER - 1 } else { durable };
        self.hosts.get(usize::from(index)).is_some_and(|writer| writer.stated > durable)
    }

    /// A block states an index.
    pub(super) fn stated(&mut self, index: u16, number: u64) {
        if let Some(writer) = self.hosts.get_mut(usize::from(index)) {
            writer.stated = writer.stated.min(number);
        }
    }

    /// All hosts, by index.
    pub(super) fn hosts(&self) -> impl ExactSizeIterator<Item = Option<HostId>> {
        self.hosts.iter().map(|writer| writer.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_is_stated_until_a_statement_is_durable() {
        let mut writers = Writers::default();
        let host = |raw| HostId::new(raw).unwrap();
        let a = writers.index_of(host(7));
        assert!(writers.needs_statement(a, 1000));
        writers.stated(a, 12);
        writers.stated(a, 13);
        assert!(writers.needs_statement(a, 11));
        assert!(!writers.needs_statement(a, 12));
        assert_eq!((writers.index_of(host(7)), writers.host(a)), (a, Some(host(7))));
        assert_ne!(writers.index_of(host(8)), a);
        assert!(!writers.needs_statement(WRITER_UNKNOWN, 0));
    }

    #[test]
    fn a_full_table_names_nobody() {
        let mut writers = Writers::default();
        let hosts = (1..).map(|raw| HostId::new(raw).unwrap());
        hosts.take(WRITER_PLACES).for_each(|host| assert_ne!(writers.index_of(host), WRITER_UNKNOWN));
        assert_eq!(writers.index_of(HostId::new(1 << 40).unwrap()), WRITER_UNKNOWN);
    }
}
