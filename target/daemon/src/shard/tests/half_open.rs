//! Peers that connect and say nothing.

use std::io::Read;
use std::net::TcpStream;

use holdfast_reactor::{Io as ReactorIo, ReactorConfig};
use holdfast_testkit::{Io, Session};

use super::stage::{NSID, PATIENCE, Stage};
use crate::shard::links::DEADLINE_GRAIN_MS;
use crate::shard::{HalfOpenLimits, Shard};

fn works(host: &mut Session, commands: u64) {
    for number in 0..commands {
        let data = vec![u8::try_from(number % 251).unwrap(); 4096];
        host.io(1).write(NSID, &Io::at(number, 1), &data).unwrap().ok().unwrap();
        assert_eq!(host.io(1).read(NSID, &Io::at(number, 1), 4096).unwrap().ok().unwrap().data, data);
    }
}

fn is_closed(mut peer: TcpStream) {
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(peer.read(&mut [0]).unwrap(), 0);
}

#[test]
fn hundreds_of_silent_peers_delay_no_host_and_are_gone_when_their_time_is_over() {
    const SILENT: usize = 500;
    // More than a slow machine needs for this test, and less than a keep-alive timeout.
    let limits = HalfOpenLimits { time_ms: 60_000, ..HalfOpenLimits::default() };
    let mut stage = Stage::new(4096, limits, ReactorConfig::default());
    let mut host = stage.session(0, 1);
    let peers: Vec<TcpStream> = (0..SILENT).map(|_| stage.silent()).collect();
    stage.until(|shard, _| shard.half_open.count == SILENT);
    works(&mut host, 100);
    // A host that comes now is served as well.
    let mut late = stage.session(1, 1);
    works(&mut late, 10);
    assert_eq!(stage.connections(), (SILENT + 4, SILENT));
    // Their time comes, by the clock that the shard is given.
    let skip_ms = limits.time_ms + DEADLINE_GRAIN_MS;
    let skip = move |shard: &mut Shard, io: &mut ReactorIo| {
        shard.clock.now_ms += skip_ms;
        shard.meet_deadlines(io);
    };
    stage.core.call(skip).unwrap();
    peers.into_iter().for_each(is_closed);
    stage.until(|_, io| io.open_sockets() == 4);
    works(&mut host, 10);
    works(&mut late, 10);
}

#[test]
fn one_half_open_connection_too_many_ends_the_oldest_and_hosts_still_come_in() {
    let limits = HalfOpenLimits { connections_max: 8, ..HalfOpenLimits::default() };
    let mut stage = Stage::new(4096, limits, ReactorConfig::default());
    let mut host = stage.session(0, 2);
    let mut peers: Vec<TcpStream> = (0..8).map(|_| stage.silent()).collect();
    stage.until(|shard, _| shard.half_open.count == 8);
    peers.push(stage.silent());
    is_closed(peers.remove(0));
    // A host needs a place for each of its queues in turn only.
    let mut other = stage.session(1, 2);
    works(&mut host, 10);
    works(&mut other, 10);
    // Queues have left no gap in the order in which the rest goes.
    for _ in 0..100 {
        peers.push(stage.silent());
        stage.until(|shard, _| shard.half_open.count <= 8);
    }
    let last = peers.split_off(peers.len() - 8);
    peers.into_iter().for_each(is_closed);
    let (open, half_open) = stage.connections();
    assert_eq!((open, half_open), (6 + 8, 8));
    drop(last);
    stage.until(|shard, io| (io.open_sockets(), shard.half_open.count) == (6, 0));
    works(&mut host, 10);
}

#[test]
fn connections_with_a_controller_are_not_half_open() {
    let mut stage = Stage::new(4096, HalfOpenLimits::default(), ReactorConfig::default());
    let _host = stage.session(0, 3);
    let options = holdfast_testkit::Options::default();
    let _discovery = Session::open_discovery(stage.address, super::stage::HOSTS[1], options).unwrap();
    assert_eq!(stage.connections(), (5, 0));
}
