//! One connection of either protocol, driven in the same way.

use holdfast_block::{Completion, Disposition, Exports, HostId, Taken, TransmitSink};

use super::Shared;
use crate::router::Router;

/// Everything around a connection.
pub(super) struct Around<'a> {
    pub now_ms: u64,
    pub unix_seconds: u64,
    pub exports: &'a Exports,
    pub shared: &'a Shared,
    pub router: &'a mut Router,
}

impl Around<'_> {
    fn nvme(&mut self) -> holdfast_nvme::Context<'_, Router> {
        holdfast_nvme::Context {
            now_ms: self.now_ms,
            unix_seconds: self.unix_seconds,
            exports: self.exports,
            directory: &self.shared.directory,
            hosts: &self.shared.hosts,
            sessions: &self.shared.sessions,
            counters: &self.shared.counters,
            port: self.router,
        }
    }

    fn iscsi<R>(&mut self, work: impl FnOnce(&mut holdfast_iscsi::Context<'_, Router>) -> R) -> R {
        let mut cx = holdfast_iscsi::Context {
            now_ms: self.now_ms,
            unix_seconds: self.unix_seconds,
            exports: self.exports,
            directory: &self.shared.iscsi,
            units: &self.shared.units,
            hosts: &self.shared.hosts,
            sessions: &self.shared.sessions,
            counters: &self.shared.counters,
            random: &mut random,
            port: self.router,
        };
        work(&mut cx)
    }
}

/// The kernel's random numbers, which are always there on a running system.
fn random(bytes: &mut [u8]) {
    getrandom::fill(bytes).expect("the kernel has random numbers once it runs programs");
}

/// A connection.
pub(super) enum Connection {
    /// A queue of an NVMe controller.
    Nvme(Box<holdfast_nvme::Connection>),
    /// An iSCSI session.
    Iscsi(Box<holdfast_iscsi::Connection>),
}

impl Connection {
    pub(super) fn receive(&mut self, around: &mut Around<'_>, bytes: &[u8], budget: u64) -> Taken {
        match self {
            Connection::Nvme(connection) => connection.receive(&mut around.nvme(), bytes, budget),
            Connection::Iscsi(connection) => around.iscsi(|cx| connection.receive(cx, bytes, budget)),
        }
    }

    pub(super) fn complete(&mut self, around: &mut Around<'_>, completion: Completion) {
        match self {
            Connection::Nvme(connection) => connection.complete(&mut around.nvme(), completion),
            Connection::Iscsi(connection) => around.iscsi(|cx| connection.complete(cx, completion)),
        }
    }

    pub(super) fn poll_transmit<T: TransmitSink>(&mut self, around: &mut Around<'_>, sink: &mut T) -> bool {
        match self {
            Connection::Nvme(connection) => connection.poll_transmit(&mut around.nvme(), sink),
            Connection::Iscsi(connection) => around.iscsi(|cx| connection.poll_transmit(cx, sink)),
        }
    }

    pub(super) fn transmitted(&mut self, around: &mut Around<'_>) {
        match self {
            Connection::Nvme(connection) => connection.transmitted(&mut around.nvme()),
            Connection::Iscsi(connection) => around.iscsi(|cx| connection.transmitted(cx)),
        }
    }

    pub(super) fn deadline_ms(&self) -> Option<u64> {
        match self {
            Connection::Nvme(connection) => connection.deadline_ms(),
            Connection::Iscsi(connection) => connection.deadline_ms(),
        }
    }

    pub(super) fn tick(&mut self, around: &mut Around<'_>) {
        match self {
            Connection::Nvme(connection) => connection.tick(&mut around.nvme()),
            Connection::Iscsi(connection) => around.iscsi(|cx| connection.tick(cx)),
        }
    }

    pub(super) fn exports_changed(&mut self, around: &mut Around<'_>) {
        match self {
            Connection::Nvme(connection) => connection.exports_changed(&mut around.nvme()),
            Connection::Iscsi(connection) => around.iscsi(|cx| connection.exports_changed(cx)),
        }
    }

    /// Controllers, sessions or logical units have changed on some core.
    pub(super) fn directory_changed(&mut self, around: &mut Around<'_>) {
        match self {
            Connection::Nvme(connection) => connection.directory_changed(&mut around.nvme()),
            Connection::Iscsi(connection) => around.iscsi(|cx| {
                connection.directory_changed(cx);
                connection.units_changed(cx);
            }),
        }
    }

    /// Asks the host to go, where the protocol has words for that.
    pub(super) fn shut_down(&mut self) {
        match self {
            Connection::Nvme(_) => {}
            Connection::Iscsi(connection) => connection.shut_down(),
        }
    }

    pub(super) fn ready_responses(&self) -> usize {
        match self {
            Connection::Nvme(connection) => connection.ready_responses(),
            Connection::Iscsi(connection) => connection.ready_responses(),
        }
    }

    pub(super) fn host(&self) -> Option<HostId> {
        match self {
            Connection::Nvme(connection) => connection.host(),
            Connection::Iscsi(connection) => connection.host(),
        }
    }

    pub(super) fn is_half_open(&self) -> bool {
        match self {
            Connection::Nvme(connection) => connection.is_half_open(),
            Connection::Iscsi(connection) => connection.is_half_open(),
        }
    }

    pub(super) fn disposition(&self) -> Disposition {
        match self {
            Connection::Nvme(connection) => connection.disposition(),
            Connection::Iscsi(connection) => connection.disposition(),
        }
    }

    pub(super) fn closed(&mut self, around: &mut Around<'_>) {
        match self {
            Connection::Nvme(connection) => connection.closed(&mut around.nvme()),
            Connection::Iscsi(connection) => around.iscsi(|cx| connection.closed(cx)),
        }
    }
}
