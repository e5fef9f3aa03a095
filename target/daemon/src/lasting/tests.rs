use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use holdfast_contract::{
    Backing, DesiredPool, FaultCause, FoundPool, ObjectFault, ObjectKind, PoolHealth, PoolId, PoolOrder,
    Progress, Response,
};

use super::{Fate, Lasting, Meter, Opener};

const PATIENCE: Duration = Duration::from_secs(20);

/// What lies at which path.
type Places = Arc<Mutex<BTreeMap<String, PoolId>>>;

/// An opener over a table. Whatever it is asked to open waits for a word from the test.
struct Table {
    places: Places,
    go: Mutex<Receiver<()>>,
}

#[derive(Debug)]
struct Opened(PoolId);

impl Table {
    fn at(&self, path: Option<&str>) -> Option<PoolId> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner).get(path?).copied()
    }
}

impl Opener for Table {
    type Open = Opened;

    fn make(&self, order: &PoolOrder, meter: &Meter) -> Result<Opened, ObjectFault> {
        meter.set(1, 2);
        self.go.lock().unwrap().recv().unwrap();
        let path = order.backing.path().unwrap();
        if self.at(Some(path)).is_some() {
            let fault = ObjectFault::new(ObjectKind::Pool, &order.name, "something is there");
            return Err(fault.because(FaultCause::Conflict).at("/backing/path"));
        }
        self.places.lock().unwrap().insert(path.to_owned(), order.ticket);
        Ok(Opened(order.ticket))
    }

    fn find(&self, order: &PoolOrder, _: &Meter) -> Result<Opened, ObjectFault> {
        self.go.lock().unwrap().recv().unwrap();
        let found = self.at(order.backing.path());
        found.map(Opened).ok_or_else(|| ObjectFault::new(ObjectKind::Pool, &order.name, "no pool"))
    }

    fn open(&self, pool: &DesiredPool, meter: &Meter) -> Result<Opened, String> {
        meter.set(3, 9);
        self.go.lock().unwrap().recv().unwrap();
        let found = self.at(pool.backing.path()).filter(|id| *id == pool.id);
        found.map(Opened).ok_or_else(|| "it is not there".to_owned())
    }

    fn describe(&self, open: &Opened) -> FoundPool {
        FoundPool {
            id: open.0,
            name: "p".to_owned(),
            uuid: String::new(),
            size_bytes: 2,
            capacity_bytes: 1,
            allocated_bytes: 0,
            volumes: Vec::new(),
        }
    }

    fn destroy(&self, pool: &DesiredPool) -> Result<(), String> {
        self.places.lock().unwrap().retain(|_, id| *id != pool.id);
        Ok(())
    }
}

struct Bench {
    lasting: Lasting<Table>,
    places: Places,
    go: std::sync::mpsc::Sender<()>,
    woken: Receiver<()>,
}

impl Bench {
    fn new(places: &[(&str, u64)]) -> Bench {
        let (go, wait) = channel();
        let (wake, woken) = channel();
        let places = places.iter().map(|(path, id)| ((*path).to_owned(), PoolId::new(*id).unwrap()));
        let places = Arc::new(Mutex::new(places.collect()));
        let table = Table { places: Arc::clone(&places), go: Mutex::new(wait) };
        Bench { lasting: Lasting::new(table, wake), places, go, woken }
    }

    /// Lets one job go on, and waits until it is done.
    fn go(&self) {
        self.go.send(()).unwrap();
        self.done();
    }

    fn done(&self) {
        self.woken.recv_timeout(PATIENCE).unwrap();
    }

    fn is_there(&self, path: &str) -> bool {
        self.places.lock().unwrap().contains_key(path)
    }
}

fn backing(path: &str, import: bool) -> Backing {
    Backing::File { path: path.to_owned(), size_bytes: 8, import }
}

fn order(ticket: u64, path: &str, import: bool) -> PoolOrder {
    PoolOrder {
        ticket: PoolId::new(ticket).unwrap(),
        name: "p".to_owned(),
        uuid: String::new(),
        backing: backing(path, import),
    }
}

fn pool(id: u64, path: &str) -> DesiredPool {
    DesiredPool {
        id: PoolId::new(id).unwrap(),
        name: "p".to_owned(),
        uuid: None,
        backing: backing(path, false),
    }
}

#[test]
fn an_order_is_asked_for_until_it_is_there_and_then_taken_up() {
    let mut bench = Bench::new(&[]);
    let order = order(1, "/a", false);
    let first = bench.lasting.orders().prepare(&order);
    assert!(matches!(first, Response::Preparing(_)), "{first:?}");
    bench.go();
    let Response::Prepared(found) = bench.lasting.orders().prepare(&order) else { panic!("it is there") };
    assert_eq!(found.id, order.ticket);
    assert_eq!(bench.lasting.want(&pool(1, "/a")).unwrap().0, order.ticket);
    bench.lasting.confirm();
    assert!(bench.lasting.observe().is_empty() && bench.lasting.hindrance(order.ticket).is_none());
    // Taken up, it is no order any more.
    bench.lasting.orders().abandon(order.ticket);
    assert!(bench.is_there("/a"));
}

#[test]
fn a_refused_order_is_told_once_and_can_be_given_again() {
    let mut bench = Bench::new(&[("/a", 7)]);
    let order = order(1, "/a", false);
    bench.lasting.orders().prepare(&order);
    bench.go();
    let Response::Refused(faults) = bench.lasting.orders().prepare(&order) else { panic!("it is refused") };
    assert_eq!((faults[0].cause, faults[0].field.as_str()), (FaultCause::Conflict, "/backing/path"));
    assert!(bench.is_there("/a"), "what was there stays");
    bench.places.lock().unwrap().clear();
    bench.lasting.orders().prepare(&order);
    bench.go();
    assert!(matches!(bench.lasting.orders().prepare(&order), Response::Prepared(_)));
}

#[test]
fn a_pool_that_was_made_and_given_up_is_destroyed_and_one_that_was_found_stays() {
    for (import, there_after) in [(false, false), (true, true)] {
        for asked_again in [false, true] {
            let mut bench = Bench::new(if import { &[("/a", 7)] } else { &[] });
            let order = order(1, "/a", import);
            bench.lasting.orders().prepare(&order);
            if asked_again {
                bench.go();
                bench.lasting.orders().prepare(&order);
                bench.lasting.orders().abandon(order.ticket);
            } else {
                bench.lasting.orders().abandon(order.ticket);
                bench.go();
                bench.lasting.settle();
            }
            assert_eq!(bench.is_there("/a"), there_after, "{import} {asked_again}");
            assert!(bench.lasting.want(&pool(7, "/b")).is_none());
        }
    }
}

#[test]
fn a_pool_that_was_made_for_a_state_that_failed_is_destroyed() {
    let mut bench = Bench::new(&[]);
    let order = order(1, "/a", false);
    bench.lasting.orders().prepare(&order);
    bench.go();
    bench.lasting.orders().prepare(&order);
    assert!(bench.lasting.want(&pool(1, "/a")).is_some());
    assert!(bench.lasting.let_go(order.ticket, Fate::Keep), "its core has to close it");
    bench.lasting.closed(order.ticket);
    bench.done();
    bench.lasting.settle();
    assert!(!bench.is_there("/a") && bench.lasting.ids().is_empty());
}

#[test]
fn opening_holds_nobody_up_and_says_how_far_it_is() {
    let mut bench = Bench::new(&[("/a", 1)]);
    assert!(bench.lasting.want(&pool(1, "/a")).is_none());
    assert!(bench.lasting.settle().is_empty() && bench.lasting.is_opening());
    // The job may not have begun yet.
    while bench.lasting.observe()[0].progress != Some(Progress { done: 3, total: 9 }) {
        std::thread::yield_now();
    }
    let seen = &bench.lasting.observe()[0];
    assert_eq!((seen.health, seen.reason.as_deref()), (PoolHealth::Degraded, Some("it is being opened")));
    bench.go();
    let opened = bench.lasting.settle();
    assert_eq!(opened[0].1.0, PoolId::new(1).unwrap());
    assert!(bench.lasting.observe().is_empty() && bench.lasting.settle().is_empty());
}

#[test]
fn a_pool_that_is_not_there_has_failed_and_is_never_made_anew() {
    let mut bench = Bench::new(&[]);
    let id = PoolId::new(1).unwrap();
    bench.lasting.want(&pool(1, "/a"));
    bench.go();
    assert!(bench.lasting.settle().is_empty());
    let seen = &bench.lasting.observe()[0];
    assert_eq!((seen.health, seen.reason.as_deref()), (PoolHealth::Failed, Some("it is not there")));
    assert_eq!(bench.lasting.hindrance(id).unwrap(), "its pool has failed: it is not there");
    assert!(bench.lasting.want(&pool(1, "/a")).is_none() && !bench.is_there("/a"));
    assert!(!bench.lasting.let_go(id, Fate::Keep));
    assert!(bench.lasting.ids().is_empty());
}

#[test]
fn a_pool_stays_in_sight_until_it_is_closed_and_destroyed() {
    for (fate, there_after) in [(Fate::Keep, true), (Fate::Destroy, false)] {
        let mut bench = Bench::new(&[("/a", 1)]);
        let id = PoolId::new(1).unwrap();
        bench.lasting.want(&pool(1, "/a"));
        bench.go();
        bench.lasting.settle();
        assert!(bench.lasting.let_go(id, fate));
        assert!(bench.lasting.is_closing(id) && bench.lasting.is_busy());
        assert_eq!(bench.lasting.observe()[0].reason.as_deref(), Some("it is being closed"));
        assert!(!bench.lasting.let_go(id, Fate::Keep), "once is enough, and a later word does not spare it");
        bench.lasting.closed(id);
        if fate == Fate::Destroy {
            bench.done();
        }
        bench.lasting.settle();
        assert!(bench.lasting.ids().is_empty());
        assert_eq!(bench.is_there("/a"), there_after);
    }
}

#[test]
fn a_pool_that_is_not_in_use_is_destroyed_where_it_lies() {
    let mut bench = Bench::new(&[("/a", 1)]);
    bench.lasting.destroy(&pool(1, "/a"));
    bench.done();
    bench.lasting.settle();
    assert!(!bench.is_there("/a") && bench.lasting.ids().is_empty());
}

#[test]
fn an_order_whose_asker_was_killed_is_destroyed_by_its_name() {
    for there in [false, true] {
        let mut bench = Bench::new(&[]);
        let order = order(1, "/a", false);
        bench.lasting.orders().prepare(&order);
        if there {
            bench.go();
            bench.lasting.orders().prepare(&order);
        }
        bench.lasting.destroy(&pool(1, "/a"));
        if !there {
            bench.go.send(()).unwrap();
            bench.done();
        }
        bench.done();
        bench.lasting.settle();
        bench.lasting.settle();
        assert!(!bench.is_there("/a") && bench.lasting.ids().is_empty(), "{there}");
    }
}
