//! Orders: pools that are made or found for a state to come.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use holdfast_contract::{DesiredPool, ObjectFault, ObjectKind, PoolId, PoolOrder, Response};

use super::Opener;
use super::job::{Job, Poll};

/// How long an order stays that nobody asks for any more: the control plane asks many times a second, and takes up what is there
/// at once, unless it was killed.
const UNASKED_MAX: Duration = Duration::from_secs(60);

/// Orders at one time: each holds a thread, a file and memory. The control plane has one for each request under way.
const ORDERS_MAX: usize = 16;

enum Stage<T> {
    Under(Job<Result<T, ObjectFault>>),
    There(T),
    Refused(ObjectFault),
}

impl<T: Send + 'static> Stage<T> {
    /// Takes the result in once there is one; each is given once.
    fn go_on(&mut self, name: &str) {
        let Stage::Under(job) = self else { return };
        *self = match job.poll() {
            Poll::Pending => return,
            Poll::Done(Ok(open)) => Stage::There(open),
            Poll::Done(Err(fault)) => Stage::Refused(fault),
            Poll::Lost => {
                Stage::Refused(ObjectFault::new(ObjectKind::Pool, name, "there was no thread to do it"))
            }
        };
    }
}

struct Order<T> {
    order: PoolOrder,
    stage: Stage<T>,
    asked: Instant,
    abandoned: bool,
}

/// All orders.
pub(crate) struct Orders<O: Opener> {
    opener: Arc<O>,
    wake: Sender<()>,
    orders: BTreeMap<PoolId, Order<O::Open>>,
}

impl<O: Opener> Orders<O> {
    pub(super) fn new(opener: Arc<O>, wake: Sender<()>) -> Self {
        Orders { opener, wake, orders: BTreeMap::new() }
    }

    /// Begins with an order, or tells how far it is.
    pub(crate) fn prepare(&mut self, order: &PoolOrder) -> Response {
        let known = self.orders.contains_key(&order.ticket);
        if !known && self.orders.len() >= ORDERS_MAX {
            let detail = "too many pools are being made or imported at this moment";
            return Response::Refused(vec![ObjectFault::new(ObjectKind::Pool, &order.name, detail)]);
        }
        let entry = self.orders.entry(order.ticket).or_insert_with(|| {
            let (opener, wanted) = (Arc::clone(&self.opener), order.clone());
            let job = Job::start(&self.wake, move |meter| match wanted.backing.is_import() {
                true => opener.find(&wanted, meter),
                false => opener.make(&wanted, meter),
            });
            let (order, stage) = (order.clone(), Stage::Under(job));
            Order { order, stage, asked: Instant::now(), abandoned: false }
        });
        entry.asked = Instant::now();
        entry.stage.go_on(&order.name);
        let response = match &entry.stage {
            Stage::Under(job) => return Response::Preparing(job.progress()),
            Stage::There(open) => return Response::Prepared(Box::new(self.opener.describe(open))),
            Stage::Refused(fault) => Response::Refused(vec![fault.clone()]),
        };
        self.orders.remove(&order.ticket);
        response
    }

    /// Gives an order up: what it has made is destroyed, what it has found is closed. One that is still under way ends when its
    /// thread does.
    pub(crate) fn abandon(&mut self, ticket: PoolId) {
        if let Some(order) = self.orders.get_mut(&ticket) {
            order.abandoned = true;
        }
        self.expire();
    }

    /// The pool with this identifier, if it was prepared, and whether it was made rather than found.
    pub(super) fn take(&mut self, id: PoolId) -> Option<(O::Open, bool)> {
        let opener = &self.opener;
        let is_it = |order: &Order<O::Open>| match &order.stage {
            Stage::There(open) => opener.describe(open).id == id,
            Stage::Under(_) | Stage::Refused(_) => false,
        };
        let ticket = self.orders.iter().find(|(_, order)| is_it(order)).map(|(ticket, _)| *ticket)?;
        let order = self.orders.remove(&ticket)?;
        match order.stage {
            Stage::There(open) => Some((open, !order.order.backing.is_import())),
            Stage::Under(_) | Stage::Refused(_) => None,
        }
    }

    /// Undoes what was abandoned, or what nobody asks for any more.
    pub(super) fn expire(&mut self) {
        for order in self.orders.values_mut() {
            order.abandoned |= order.asked.elapsed() > UNASKED_MAX;
            if order.abandoned {
                order.stage.go_on(&order.order.name);
            }
        }
        let is_over = |order: &Order<O::Open>| order.abandoned && !matches!(order.stage, Stage::Under(_));
        let over: Vec<PoolId> =
            self.orders.iter().filter(|(_, order)| is_over(order)).map(|(ticket, _)| *ticket).collect();
        for ticket in over {
            if let Some(Order { order, stage: Stage::There(open), .. }) = self.orders.remove(&ticket) {
                self.undo(&order, open);
            }
        }
    }

    fn undo(&self, order: &PoolOrder, open: O::Open) {
        let found = self.opener.describe(&open);
        // Its file is let go of before anything else is done with it.
        drop(open);
        if order.backing.is_import() {
            return;
        }
        let (id, uuid) = (found.id, Some(found.uuid));
        let pool = DesiredPool { id, name: order.name.clone(), uuid, backing: order.backing.clone() };
        if let Err(reason) = self.opener.destroy(&pool) {
            tracing::error!(pool = order.name, reason, "a pool that was given up could not be destroyed");
        }
    }
}
