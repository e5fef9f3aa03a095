//! Hosts in a closed loop, served turn by turn as the shard does it, from a seed: what each is given, held against what it
//! is due. A seed that fails is printed; `HOLDFAST_SEED` runs it again.

use std::collections::{BTreeMap, VecDeque};

use super::*;

/// One command's largest cost: what a slice may overrun by.
const COMMAND_MAX: u64 = PDU_COST + (1 << 20);

/// How far a host may be behind what it is due over any number of turns. Start-time fair queueing lets two clients drift
/// apart by the largest service of each; and one that comes back may be a slice ahead and not wait.
const TOLERANCE: u64 = 3 * SLICE;

/// The same with commands that do not fit a slice.
const TOLERANCE_LARGE: u64 = 2 * (SLICE + COMMAND_MAX);

/// The highest price here, a multiple of all others.
const PRICE_MAX: u64 = 4;

/// Turns that are simulated: the tolerance is less than a hundredth of a half of what they serve.
const TURNS: u64 = 400;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % bound
    }
}

/// What is simulated: [`Fair`], and what it is compared with.
trait Scheduler {
    fn join(&mut self, key: u64, price: u64) -> ClientId;
    fn leave(&mut self, id: ClientId, connection: usize);
    fn enqueue(&mut self, id: ClientId, connection: usize);
    fn begin_turn(&mut self);
    fn next(&mut self) -> Option<Slice<usize>>;
    fn end(&mut self, slice: Slice<usize>, cost: u64, wants_more: bool);
}

impl Scheduler for Fair<u64, usize> {
    fn join(&mut self, key: u64, price: u64) -> ClientId {
        Fair::join(self, key, price)
    }
    fn leave(&mut self, id: ClientId, connection: usize) {
        Fair::leave(self, id, connection);
    }
    fn enqueue(&mut self, id: ClientId, connection: usize) {
        Fair::enqueue(self, id, connection);
    }
    fn begin_turn(&mut self) {
        Fair::begin_turn(self);
    }
    fn next(&mut self) -> Option<Slice<usize>> {
        Fair::next(self)
    }
    fn end(&mut self, slice: Slice<usize>, cost: u64, wants_more: bool) {
        Fair::end(self, slice, cost, wants_more);
    }
}

/// Serves connections in the order in which they have asked, whoever they belong to.
struct FirstCome {
    clients: Fair<u64, usize>,
    queue: VecDeque<(ClientId, usize)>,
    spent: u64,
}

impl Scheduler for FirstCome {
    fn join(&mut self, key: u64, price: u64) -> ClientId {
        self.clients.join(key, price)
    }
    fn leave(&mut self, id: ClientId, connection: usize) {
        self.clients.leave(id, connection);
        self.queue.retain(|(_, queued)| *queued != connection);
    }
    fn enqueue(&mut self, id: ClientId, connection: usize) {
        self.queue.push_back((id, connection));
    }
    fn begin_turn(&mut self) {
        self.spent = 0;
    }
    fn next(&mut self) -> Option<Slice<usize>> {
        let served = self.queue.pop_front_if(|_| self.spent < TURN);
        served.map(|(client, connection)| Slice { client, connection, budget: SLICE })
    }
    fn end(&mut self, slice: Slice<usize>, cost: u64, wants_more: bool) {
        self.spent += cost;
        if wants_more {
            self.queue.push_back((slice.client, slice.connection));
        }
    }
}

/// How a host works.
#[derive(Debug, Clone, Copy)]
struct Plan {
    queues: usize,
    depth: usize,
    /// Bytes that its commands move: from, to (excluded), in units of 4 KiB.
    units: (u64, u64),
    /// It is there in these turns.
    present: (u64, u64),
    price: u64,
}

/// A host with small commands that stays.
fn steady(queues: usize, depth: usize) -> Plan {
    Plan { queues, depth, units: (1, 2), present: (0, u64::MAX), price: 1 }
}

struct Queue {
    host: usize,
    client: ClientId,
    /// Costs of commands that have come.
    input: VecDeque<u64>,
    queued: bool,
}

/// What one host did in one turn, in bytes moved.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    /// What it had waiting when the turn began, with what came meanwhile.
    wanted: u64,
    served: u64,
    commands: u64,
}

struct Simulation<S> {
    scheduler: S,
    random: Random,
    plans: Vec<Plan>,
    queues: BTreeMap<usize, Queue>,
    next_queue: usize,
    /// Commands on their way, by the turn they come in: their connections.
    coming: BTreeMap<u64, Vec<usize>>,
    turn: u64,
    /// By turn and host.
    records: Vec<Vec<Record>>,
}

impl<S: Scheduler> Simulation<S> {
    fn new(scheduler: S, seed: u64, plans: &[Plan]) -> Self {
        println!("HOLDFAST_SEED={seed}");
        Simulation {
            scheduler,
            random: Random(seed | 1),
            plans: plans.to_vec(),
            queues: BTreeMap::new(),
            next_queue: 0,
            coming: BTreeMap::new(),
            turn: 0,
            records: Vec::new(),
        }
    }

    fn run(mut self, turns: u64) -> Self {
        for _ in 0..turns {
            self.come_and_go();
            self.arrive();
            self.serve();
            self.turn += 1;
        }
        self
    }

    fn come_and_go(&mut self) {
        for (host, plan) in self.plans.clone().into_iter().enumerate() {
            if plan.present.0 == self.turn {
                for _ in 0..plan.queues {
                    let client = self.scheduler.join(host as u64, plan.price);
                    let at = self.next_queue;
                    self.next_queue += 1;
                    self.queues.insert(at, Queue { host, client, input: VecDeque::new(), queued: false });
                    self.coming.entry(self.turn).or_default().extend((0..plan.depth).map(|_| at));
                }
            } else if plan.present.1 == self.turn {
                let gone: Vec<usize> =
                    self.queues.iter().filter(|(_, queue)| queue.host == host).map(|(at, _)| *at).collect();
                for at in gone {
                    let queue = self.queues.remove(&at).unwrap();
                    self.scheduler.leave(queue.client, at);
                }
            }
        }
    }

    fn arrive(&mut self) {
        for at in self.coming.remove(&self.turn).unwrap_or_default() {
            let Some(queue) = self.queues.get_mut(&at) else { continue };
            let (from, to) = self.plans[queue.host].units;
            let units = from + self.random.below(to - from);
            queue.input.push_back(PDU_COST + units * 4096);
            if !queue.queued {
                queue.queued = true;
                self.scheduler.enqueue(queue.client, at);
            }
        }
    }

    fn serve(&mut self) {
        let mut records = vec![Record::default(); self.plans.len()];
        for queue in self.queues.values() {
            records[queue.host].wanted += queue.input.iter().sum::<u64>();
        }
        self.scheduler.begin_turn();
        let mut spent = 0;
        while let Some(slice) = self.scheduler.next() {
            let at = slice.connection;
            let queue = self.queues.get_mut(&at).expect("a connection that has left is not served");
            let mut cost = 0;
            while cost < slice.budget
                && let Some(command) = queue.input.pop_front()
            {
                cost += command;
                records[queue.host].commands += 1;
                // The host answers at once, or a few turns later.
                let due = self.turn + 1 + self.random.below(3);
                self.coming.entry(due).or_default().push(at);
            }
            records[queue.host].served += cost;
            spent += cost;
            queue.queued = !queue.input.is_empty();
            self.scheduler.end(slice, cost, queue.queued);
        }
        let left = self.queues.values().any(|queue| !queue.input.is_empty());
        assert!(!left || spent >= TURN, "turn {}: work was left over after {spent}", self.turn);
        self.records.push(records);
    }

    /// How far each host falls behind what it is due, at worst over all windows of turns. In a turn that leaves it waiting it
    /// is due its share of what was served, by price among those that wanted something; otherwise it got all that it
    /// asked for, and is due that or its share, whichever is less.
    fn shortfalls(&self) -> Vec<u64> {
        let weight = |plan: &Plan| PRICE_MAX / plan.price;
        let mut worst = vec![0; self.plans.len()];
        let mut behind = worst.clone();
        for records in &self.records {
            let all: u64 = records.iter().map(|record| record.served).sum();
            let wanting = records.iter().zip(&self.plans).filter(|(record, _)| record.wanted > 0);
            let weights: u64 = wanting.map(|(_, plan)| weight(plan)).sum();
            for (host, record) in records.iter().enumerate() {
                let fair = all * weight(&self.plans[host]) / weights.max(1);
                let waits = record.wanted > record.served;
                let due = if waits { fair } else { record.served.min(fair) };
                // The worst window that ends here: with those before, or from here on.
                behind[host] = (behind[host] + due).saturating_sub(record.served);
                worst[host] = worst[host].max(behind[host]);
            }
        }
        worst
    }

    /// Commands served of a host from turn `from` on.
    fn commands(&self, host: usize, from: usize) -> u64 {
        self.records[from..].iter().map(|records| records[host].commands).sum()
    }
}

fn seeds() -> Vec<u64> {
    match std::env::var("HOLDFAST_SEED") {
        Ok(seed) => vec![seed.parse().unwrap()],
        Err(_) => (1..=8).map(|seed| seed * 7919).collect(),
    }
}

/// Runs hosts by seed and asserts that none is ever further behind what it is due.
fn assert_fair(plans: &[Plan], tolerance: u64) {
    for seed in seeds() {
        let done = Simulation::new(Fair::new(0), seed, plans).run(TURNS);
        for (host, shortfall) in done.shortfalls().into_iter().enumerate() {
            assert!(shortfall <= tolerance, "host {host}: {shortfall} behind");
        }
    }
}

#[test]
fn a_host_with_64_queues_at_depth_128_gets_no_more_than_its_share_against_one_with_a_single_queue() {
    for depth in [1, 32, 128] {
        assert_fair(&[steady(64, 128), steady(1, depth)], TOLERANCE);
    }
    // Whoever keeps up gets as many commands, whatever the number of queues.
    let done = Simulation::new(Fair::new(0), 1, &[steady(64, 128), steady(1, 128)]).run(TURNS);
    let (greedy, modest) = (done.commands(0, 0), done.commands(1, 0));
    assert!(modest * 100 >= greedy * 98, "{modest} against {greedy}");
}

#[test]
fn first_come_first_served_fails_the_same_check() {
    let plans = [steady(64, 128), steady(1, 32)];
    let scheduler = FirstCome { clients: Fair::new(0), queue: VecDeque::new(), spent: 0 };
    let done = Simulation::new(scheduler, 1, &plans).run(TURNS);
    let shortfall = done.shortfalls()[1];
    assert!(shortfall > 10 * TOLERANCE, "{shortfall}");
    assert!(done.commands(1, 0) * 10 < done.commands(0, 0));
}

#[test]
fn a_single_command_is_served_in_the_turn_in_which_it_comes_however_many_hosts_are_greedy() {
    for seed in seeds() {
        // It comes when the others are at work.
        let mut plans = vec![Plan { present: (20, u64::MAX), ..steady(1, 1) }];
        plans.extend([steady(16, 64); 12]);
        let done = Simulation::new(Fair::new(0), seed, &plans).run(TURNS);
        for (turn, records) in done.records.iter().enumerate() {
            assert_eq!(records[0].served, records[0].wanted, "turn {turn}");
        }
    }
}

#[test]
fn large_commands_pay_for_their_bytes() {
    let large = Plan { units: (1, 257), ..steady(4, 32) };
    let largest = Plan { units: (256, 257), ..steady(1, 1) };
    assert_fair(&[large, largest, steady(1, 128), steady(1, 8)], TOLERANCE_LARGE);
    // One mebibyte at a time, which is never queued behind another, buys no more than its share either.
    let done = Simulation::new(Fair::new(0), 1, &[largest, steady(1, 128)]).run(2000);
    let moved = |host: usize| done.records.iter().map(|records| records[host].served).sum::<u64>();
    assert!(moved(0) <= moved(1) + TOLERANCE_LARGE, "{} against {}", moved(0), moved(1));
}

#[test]
fn hosts_that_come_and_go_neither_gain_nor_cost_others_their_share() {
    let passing = |from: u64, to: u64, queues, depth| Plan { present: (from, to), ..steady(queues, depth) };
    let mut plans = vec![steady(1, 32), steady(8, 16), steady(1, 1)];
    plans.extend((0..20).map(|number| passing(number * 17, number * 17 + 60, 16, 64)));
    plans.extend((0..20).map(|number| passing(number * 13 + 5, number * 13 + 9, 4, 128)));
    assert_fair(&plans, TOLERANCE);
}

#[test]
fn peers_that_are_no_hosts_yet_get_a_fraction_together() {
    // Five hundred connections that send as fast as they can, as one client of a fourfold price.
    let newcomers = Plan { price: PRICE_MAX, ..steady(500, 4) };
    assert_fair(&[newcomers, steady(1, 128)], PRICE_MAX * TOLERANCE);
    let done = Simulation::new(Fair::new(0), 1, &[newcomers, steady(1, 128)]).run(TURNS);
    let (crowd, host) = (done.commands(0, 0), done.commands(1, 0));
    assert!(crowd * 39 <= host * 10, "{crowd} against {host}");
}

#[test]
fn connections_of_a_host_are_served_in_turn() {
    let mut fair = Fair::new(0);
    let id = fair.join(1, 1);
    for connection in [10, 11, 12] {
        fair.enqueue(id, connection);
    }
    let mut served = Vec::new();
    for _ in 0..6 {
        fair.begin_turn();
        let slice = fair.next().unwrap();
        served.push(slice.connection);
        fair.end(slice, SLICE, true);
    }
    assert_eq!(served, [10, 11, 12, 10, 11, 12]);
}

#[test]
fn a_host_alone_gets_long_turns_until_another_comes() {
    let mut fair = Fair::new(0);
    let (one, other) = (fair.join(1, 1), fair.join(2, 1));
    fair.enqueue(one, 10);
    let turn = |fair: &mut Fair<u64, usize>| {
        let mut spent = 0;
        fair.begin_turn();
        while let Some(slice) = fair.next() {
            spent += slice.budget;
            let more = slice.connection == 10;
            fair.end(slice, slice.budget, more);
        }
        spent
    };
    for _ in 0..ALONE_TURNS {
        assert_eq!(turn(&mut fair), TURN);
    }
    assert_eq!(turn(&mut fair), TURN_ALONE);
    fair.enqueue(other, 20);
    assert!(turn(&mut fair) <= TURN);
    assert_eq!(turn(&mut fair), TURN);
}

#[test]
fn a_connection_that_has_left_is_not_served_and_its_number_may_be_used_again() {
    let mut fair = Fair::new(0);
    let (one, other) = (fair.join(1, 1), fair.join(2, 1));
    fair.enqueue(one, 10);
    fair.enqueue(other, 20);
    fair.leave(one, 10);
    let again = fair.join(3, 1);
    fair.enqueue(again, 10);
    fair.begin_turn();
    let mut served = Vec::new();
    while let Some(slice) = fair.next() {
        served.push(slice.connection);
        fair.end(slice, 1, false);
    }
    served.sort_unstable();
    assert_eq!(served, [10, 20]);
    assert!(!fair.is_waiting());
}
