//! Mailboxes between real threads: nothing is lost, nothing overtakes, and no wake-up is missed.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "helpers of tests")]

mod common;

use std::net::SocketAddr;
use std::sync::mpsc;

use holdfast_reactor::{
    CloseReason, Inboxes, Io, IoChoice, MailSender, Reactor, ReactorConfig, Received, SendBatch, Service,
    SocketId,
};

/// Senders of the flood; each counts from 0.
const SENDERS: usize = 2;

/// Messages of each sender.
const MESSAGES: u64 = 1_000_000;

/// Messages that are sent one at a time, each to a reactor that sleeps or is about to.
const ROUND_TRIPS: u64 = 20_000;

struct Counter {
    next: [u64; SENDERS],
    end: u64,
    answers: Option<mpsc::SyncSender<u64>>,
}

impl Service for Counter {
    type Message = (usize, u64);

    fn accepted(&mut self, _: &mut Io, _: u32, _: SocketId, _: SocketAddr, _: SocketAddr) {}
    fn received(&mut self, _: &mut Io, _: SocketId, _: Received) {}
    fn sent(&mut self, _: &mut Io, _: SocketId, _: SendBatch) {}
    fn closed(&mut self, _: &mut Io, _: SocketId, _: CloseReason, _: Option<SendBatch>) {}

    fn message(&mut self, _: &mut Io, (sender, number): (usize, u64)) {
        assert_eq!(self.next[sender], number);
        self.next[sender] += 1;
        if let Some(answers) = &self.answers {
            answers.send(number).unwrap();
        }
    }

    fn turn(&mut self, _: &mut Io) {}

    fn deadline_ms(&self) -> Option<u64> {
        None
    }

    fn tick(&mut self, _: &mut Io) {}

    fn keep_running(&self) -> bool {
        self.next.iter().any(|next| *next < self.end)
    }
}

fn run(io: IoChoice, inboxes: Inboxes<(usize, u64)>, spin_us: u32, mut counter: Counter) {
    let config = ReactorConfig { io, spin_us, receive_buffers: 2, ..ReactorConfig::default() };
    Reactor::new(config, inboxes).unwrap().run(&mut counter).unwrap();
    assert_eq!(counter.next, [counter.end; SENDERS]);
}

fn flood(mut mail: MailSender<(usize, u64)>, sender: usize) {
    for number in 0..MESSAGES {
        let mut message = (sender, number);
        while let Err(back) = mail.send(message) {
            assert!(!mail.is_closed());
            message = back;
            std::thread::yield_now();
        }
    }
}

on_each_interface! {
    millions_of_messages_through_small_inboxes_arrive_in_order,
    every_message_to_a_sleeping_reactor_wakes_it,
}

fn millions_of_messages_through_small_inboxes_arrive_in_order(io: IoChoice) {
    let mut inboxes = Inboxes::new().unwrap();
    for sender in 0..SENDERS {
        let mail = inboxes.add(1000);
        std::thread::spawn(move || flood(mail, sender));
    }
    run(io, inboxes, 0, Counter { next: [0; SENDERS], end: MESSAGES, answers: None });
}

fn every_message_to_a_sleeping_reactor_wakes_it(io: IoChoice) {
    for spin_us in [0, 20] {
        let mut inboxes = Inboxes::new().unwrap();
        let mut senders = [inboxes.add(1), inboxes.add(1)];
        let (tell, told) = mpsc::sync_channel(1);
        let thread = std::thread::spawn(move || {
            for number in 0..ROUND_TRIPS {
                for (sender, mail) in senders.iter_mut().enumerate() {
                    mail.send((sender, number)).unwrap();
                    assert_eq!(told.recv().unwrap(), number);
                }
            }
        });
        run(io, inboxes, spin_us, Counter { next: [0; SENDERS], end: ROUND_TRIPS, answers: Some(tell) });
        thread.join().unwrap();
    }
}
