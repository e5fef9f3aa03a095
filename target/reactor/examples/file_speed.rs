//! Random 4 KiB reads or writes of a file through the reactor, to hold against other programs on the same file:
//! `file_speed PATH read|write DEPTH SECONDS [epoll]`. The file is there already, and all of it written. Prints transfers per
//! second.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a tool to measure with, whose errors end it")]

use std::net::SocketAddr;
use std::path::Path;

use holdfast_reactor::{
    Backing, BackingMode, CloseReason, FileError, FileId, Inboxes, Io, IoChoice, Mapping, Reactor,
    ReactorConfig, Received, RegionId, SendBatch, Service, SocketId,
};

const BLOCK: usize = 4096;

struct Load {
    backing: Option<Backing>,
    writes: bool,
    depth: u64,
    run_ms: u64,
    blocks: u64,
    arena: Mapping,
    region: Option<RegionId>,
    random: u64,
    started_us: u64,
    done: u64,
    ended: bool,
}

impl Load {
    fn next(&mut self, io: &mut Io, file: FileId, user: u64) {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let offset = self.random % self.blocks * 4096;
        let part = [(usize::try_from(user).unwrap() * BLOCK, BLOCK)];
        let region = *self.region.get_or_insert_with(|| io.register_region(self.arena.region()));
        if self.writes {
            io.file_write(file, user, offset, region, part).unwrap();
        } else {
            io.file_read(file, user, offset, region, part).unwrap();
        }
    }
}

impl Service for Load {
    type Message = ();

    fn accepted(&mut self, _: &mut Io, _: u32, _: SocketId, _: SocketAddr, _: SocketAddr) {}
    fn received(&mut self, _: &mut Io, _: SocketId, _: Received) {}
    fn sent(&mut self, _: &mut Io, _: SocketId, _: SendBatch) {}
    fn closed(&mut self, _: &mut Io, _: SocketId, _: CloseReason, _: Option<SendBatch>) {}
    fn message(&mut self, _: &mut Io, (): ()) {}
    fn turn(&mut self, _: &mut Io) {}
    fn file_done(&mut self, io: &mut Io, file: FileId, user: u64, result: Result<(), FileError>) {
        result.unwrap();
        self.done += 1;
        let passed_us = io.now_us() - self.started_us;
        if passed_us < self.run_ms * 1_000 {
            self.next(io, file, user);
        } else if !self.ended {
            self.ended = true;
            println!("{}", self.done * 1_000_000 / passed_us);
        }
    }
    fn deadline_ms(&self) -> Option<u64> {
        self.backing.is_some().then_some(0)
    }
    fn tick(&mut self, io: &mut Io) {
        let Some(backing) = self.backing.take() else { return };
        let file = io.add_file(backing.into()).unwrap();
        self.started_us = io.now_us();
        for user in 0..self.depth {
            self.next(io, file, user);
        }
    }
    fn keep_running(&self) -> bool {
        !self.ended
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, kind, depth, seconds, rest @ ..] = arguments.as_slice() else {
        panic!("file_speed PATH read|write DEPTH SECONDS [epoll]");
    };
    let backing = Backing::open(Path::new(path), BackingMode::ReadWrite).unwrap();
    let blocks = backing.info().len_bytes / 4096;
    let depth: u64 = depth.parse().unwrap();
    let arena = Mapping::create("load", usize::try_from(depth).unwrap() * BLOCK).unwrap();
    let io = if rest.is_empty() { IoChoice::Uring } else { IoChoice::Epoll };
    let mut load = Load {
        backing: Some(backing),
        writes: kind == "write",
        depth,
        run_ms: seconds.parse::<u64>().unwrap() * 1_000,
        blocks,
        arena,
        region: None,
        random: 0x9e37_79b9_7f4a_7c15,
        started_us: 0,
        done: 0,
        ended: false,
    };
    let config = ReactorConfig { io, ..ReactorConfig::default() };
    Reactor::new(config, Inboxes::new().unwrap()).unwrap().run(&mut load).unwrap();
}
