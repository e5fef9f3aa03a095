//! A target that misbehaves: a relay between hosts and an honest portal, which takes the connections of both apart into PDUs and
//! hands each to a rule. The rule lets it pass, sends something else in its place, answers it itself, or cuts the connection.
//!
//! What no rule touches goes on byte by byte, so that a host notices nothing of the relay.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

pub mod iscsi;
pub mod nvme;

/// Who sent a PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The host or initiator.
    Host,
    /// The target.
    Target,
}

/// What becomes of a PDU. All bytes are sent as they are: lengths and digests may be wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Act {
    /// It goes on as it came.
    Pass,
    /// These bytes go on instead; none: it is lost.
    Send(Vec<u8>),
    /// These go on instead, and then these back to its sender.
    Answer(Vec<u8>, Vec<u8>),
    /// These go on instead, and then the connection ends in both directions.
    Cut(Vec<u8>),
    /// It goes on, and nothing that its sender sends later does until so much time has passed.
    Stall(Duration),
}

/// How one protocol's bytes become PDUs. One for each connection: it knows what was agreed and which commands are in flight.
pub trait Wire: Default + Send + 'static {
    /// A PDU as rules see it.
    type Seen;

    /// The length of the PDU at the beginning of `bytes`, as soon as that can be told.
    fn len(&self, bytes: &[u8]) -> Option<usize>;

    /// Takes one whole PDU apart. Nothing: it goes on as it is, unseen.
    fn see(&mut self, from: Side, bytes: &[u8]) -> Option<Self::Seen>;
}

type Rule<W> = Box<dyn FnMut(&<W as Wire>::Seen) -> Act + Send>;

/// A portal behind which a rule stands before the target.
pub struct Interposer<W: Wire> {
    port: u16,
    shared: Arc<Shared<W>>,
}

struct Shared<W: Wire> {
    rule: Mutex<Rule<W>>,
    /// PDUs that did not pass.
    changed: AtomicU64,
    closed: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl<W: Wire> Interposer<W> {
    /// A portal on a port of 127.0.0.1 that leads to the target's port `target`, and changes nothing as yet.
    ///
    /// # Errors
    /// When there is no port to listen on.
    pub fn before(target: u16) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(Shared {
            rule: Mutex::new(Box::new(|_: &W::Seen| Act::Pass) as Rule<W>),
            changed: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            connections: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for host in listener.incoming().flatten() {
                if accepting.closed.load(Ordering::Acquire) {
                    return;
                }
                // A target that is being restarted: the host comes again.
                let Ok(target) = TcpStream::connect((Ipv4Addr::LOCALHOST, target)) else { continue };
                // A host that has gone already.
                let _gone = accepting.relay(host, target);
            }
        });
        Ok(Self { port, shared })
    }

    /// Its port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on each PDU is handed to `rule`.
    pub fn set(&self, rule: impl FnMut(&W::Seen) -> Act + Send + 'static) {
        *locked(&self.shared.rule) = Box::new(rule);
    }

    /// From now on `rule` is asked until it has changed `times` PDUs; everything passes after that.
    pub fn set_for(&self, times: u64, mut rule: impl FnMut(&W::Seen) -> Act + Send + 'static) {
        let mut left = times;
        self.set(move |seen| {
            let act = if left == 0 { Act::Pass } else { rule(seen) };
            left -= u64::from(act != Act::Pass);
            act
        });
    }

    /// From now on everything passes.
    pub fn clear(&self) {
        self.set(|_| Act::Pass);
    }

    /// How many PDUs did not pass, so far.
    #[must_use]
    pub fn changed(&self) -> u64 {
        self.shared.changed.load(Ordering::Relaxed)
    }

    /// Ends all connections. Hosts may come again.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Ends all connections, and takes no more.
    pub fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.cut();
        // Ends the listener, if it still runs.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl<W: Wire> Drop for Interposer<W> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<W: Wire> Shared<W> {
    fn cut(&self) {
        for stream in locked(&self.connections).drain(..) {
            // It may have gone before.
            let _gone = stream.shutdown(Shutdown::Both);
        }
    }

    /// Two threads move the two directions of one connection.
    fn relay(self: &Arc<Self>, host: TcpStream, target: TcpStream) -> std::io::Result<()> {
        for stream in [&host, &target] {
            stream.set_nodelay(true)?;
            locked(&self.connections).push(stream.try_clone()?);
        }
        let wire = Arc::new(Mutex::new(W::default()));
        let ends = [&host, &target].map(|end| end.try_clone().map(|end| Arc::new(Mutex::new(end))));
        let [to_host, to_target] = ends;
        let (to_host, to_target) = (to_host?, to_target?);
        let directions =
            [(Side::Host, host, &to_target, &to_host), (Side::Target, target, &to_host, &to_target)];
        for (from, source, onward, back) in directions {
            let mut direction = Direction {
                from,
                source,
                onward: Arc::clone(onward),
                back: Arc::clone(back),
                wire: Arc::clone(&wire),
                shared: Arc::clone(self),
            };
            thread::spawn(move || {
                // Either end may go at any time, and takes the other along.
                let _gone = direction.run();
                direction.end();
            });
        }
        Ok(())
    }
}

/// One direction of a connection.
struct Direction<W: Wire> {
    from: Side,
    source: TcpStream,
    onward: Arc<Mutex<TcpStream>>,
    back: Arc<Mutex<TcpStream>>,
    wire: Arc<Mutex<W>>,
    shared: Arc<Shared<W>>,
}

impl<W: Wire> Direction<W> {
    fn run(&mut self) -> std::io::Result<()> {
        let mut bytes = Vec::new();
        let mut chunk = vec![0; 64 << 10];
        loop {
            let count = self.source.read(&mut chunk)?;
            if count == 0 {
                return Ok(());
            }
            bytes.extend_from_slice(chunk.get(..count).unwrap_or_default());
            loop {
                // The lock is for this line only.
                let pdu = first(&*locked(&self.wire), &mut bytes);
                let Some(pdu) = pdu else { break };
                if !self.pass_on(&pdu)? {
                    return Ok(());
                }
            }
        }
    }

    /// Whether the connection goes on.
    fn pass_on(&self, pdu: &[u8]) -> std::io::Result<bool> {
        let seen = locked(&self.wire).see(self.from, pdu);
        let act = seen.map_or(Act::Pass, |seen| locked(&self.shared.rule)(&seen));
        self.shared.changed.fetch_add(u64::from(act != Act::Pass), Ordering::Relaxed);
        let (onward, back, goes_on) = match &act {
            Act::Pass | Act::Stall(_) => (pdu, &[][..], true),
            Act::Send(bytes) => (bytes.as_slice(), &[][..], true),
            Act::Answer(bytes, back) => (bytes.as_slice(), back.as_slice(), true),
            Act::Cut(bytes) => (bytes.as_slice(), &[][..], false),
        };
        locked(&self.onward).write_all(onward)?;
        locked(&self.back).write_all(back)?;
        if let Act::Stall(time) = act {
            thread::sleep(time);
        }
        Ok(goes_on)
    }

    fn end(&self) {
        for end in [&self.onward, &self.back] {
            // It may have gone before.
            let _gone = locked(end).shutdown(Shutdown::Both);
        }
    }
}

/// Takes the first PDU out of `bytes`, if it is whole.
fn first<W: Wire>(wire: &W, bytes: &mut Vec<u8>) -> Option<Vec<u8>> {
    let len = wire.len(bytes)?;
    if bytes.len() < len {
        return None;
    }
    let rest = bytes.split_off(len);
    Some(std::mem::replace(bytes, rest))
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PDUs of one byte for their length, and so many bytes.
    #[derive(Default)]
    struct Counted;

    impl Wire for Counted {
        type Seen = (Side, Vec<u8>);

        fn len(&self, bytes: &[u8]) -> Option<usize> {
            bytes.first().map(|len| usize::from(*len) + 1)
        }

        fn see(&mut self, from: Side, bytes: &[u8]) -> Option<Self::Seen> {
            Some((from, bytes.to_vec()))
        }
    }

    /// A host's end and a target's end, with the interposer between them.
    fn connected() -> (TcpStream, TcpStream, Interposer<Counted>) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let between = Interposer::before(listener.local_addr().unwrap().port()).unwrap();
        let host = TcpStream::connect((Ipv4Addr::LOCALHOST, between.port())).unwrap();
        let (target, _) = listener.accept().unwrap();
        (host, target, between)
    }

    fn receive(stream: &mut TcpStream, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        stream.read_exact(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn pdus_are_found_however_the_bytes_come() {
        let mut bytes = vec![2, 1];
        assert_eq!(first(&Counted, &mut bytes), None);
        bytes.extend([9, 0, 1]);
        assert_eq!(first(&Counted, &mut bytes), Some(vec![2, 1, 9]));
        assert_eq!(first(&Counted, &mut bytes), Some(vec![0]));
        assert_eq!(first(&Counted, &mut bytes), None);
        assert_eq!(bytes, [1]);
    }

    #[test]
    fn what_no_rule_touches_passes_in_both_directions() {
        let (mut host, mut target, between) = connected();
        host.write_all(&[2, 7, 8, 0]).unwrap();
        assert_eq!(receive(&mut target, 4), [2, 7, 8, 0]);
        target.write_all(&[1, 5]).unwrap();
        assert_eq!(receive(&mut host, 2), [1, 5]);
        assert_eq!(between.changed(), 0);
    }

    #[test]
    fn a_rule_changes_so_many_pdus_of_one_side() {
        let (mut host, mut target, between) = connected();
        between.set_for(1, |(from, _)| if *from == Side::Target { Act::Send(vec![4]) } else { Act::Pass });
        host.write_all(&[1, 1]).unwrap();
        assert_eq!(receive(&mut target, 2), [1, 1]);
        target.write_all(&[1, 1, 1, 2]).unwrap();
        assert_eq!(receive(&mut host, 3), [4, 1, 2]);
        assert_eq!(between.changed(), 1);
    }

    #[test]
    fn a_rule_answers_in_the_place_of_the_target() {
        let (mut host, _target, between) = connected();
        between.set(|_| Act::Answer(Vec::new(), vec![3]));
        host.write_all(&[1, 1]).unwrap();
        assert_eq!(receive(&mut host, 1), [3]);
    }

    #[test]
    fn a_cut_ends_both_directions_after_what_was_sent() {
        let (mut host, mut target, between) = connected();
        between.set(|_| Act::Cut(vec![1]));
        host.write_all(&[1, 1]).unwrap();
        let mut rest = Vec::new();
        target.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [1]);
        assert_eq!(host.read(&mut [0]).unwrap(), 0);
    }
}
