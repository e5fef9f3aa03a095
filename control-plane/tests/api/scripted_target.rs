//! A scripted target: the other end of the contract's socket, doing what a test tells it to. It stands in for the
//! data plane at the one seam between the two processes.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use holdfast_contract::{
    Applied, Backing, DesiredPool, DesiredState, DrillOrder, FoundPool, Hello, Incident, ObjectFault,
    ObjectKind, ObservedDrill, ObservedPool, ObservedState, ObservedVolume, PROTOCOL_VERSION, PoolId,
    PoolOrder, Progress, Request, Response, decode_line, encode_line,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Runtime;
use tokio::sync::Notify;

/// What it does with the next `Apply`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OnApply {
    Apply,
    Refuse(ObjectFault),
    /// Applies, and refuses all the same; from then on it applies.
    RefuseHalfWay(ObjectFault),
    /// Applies, and never answers.
    ApplyAndHang,
    /// Hangs up before applying.
    HangUp,
}

/// What it does with the next `Prepare`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum OnPrepare {
    /// Makes what is ordered, at the second time of asking.
    Make,
    /// Finds this.
    Find(FoundPool),
    Refuse(ObjectFault),
    /// Never answers.
    Hang,
}

#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) observed: ObservedState,
    pub(crate) applied: Vec<DesiredState>,
    pub(crate) on_apply: OnApply,
    pub(crate) on_prepare: OnPrepare,
    /// Orders in the making.
    pub(crate) ordered: Vec<PoolOrder>,
    pub(crate) abandoned: Vec<PoolId>,
    pub(crate) drilled: Vec<DrillOrder>,
    pub(crate) incidents: Vec<Incident>,
    /// Every `Incidents` request's `after`.
    pub(crate) asked_after: Vec<u64>,
    pub(crate) acked: Vec<u64>,
    /// Drops the connection instead of answering `AckIncidents`.
    pub(crate) lose_acks: bool,
}

/// The data that survives "restarts" of the target.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    script: Arc<Mutex<Script>>,
    hung: Arc<Notify>,
}

/// A running target; stops when dropped.
pub(crate) struct Running {
    runtime: Option<Runtime>,
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Target {
    pub(crate) fn new() -> Self {
        let script = Script {
            observed: ObservedState { boot_id: "boot-1".to_owned(), ..ObservedState::default() },
            applied: Vec::new(),
            on_apply: OnApply::Apply,
            on_prepare: OnPrepare::Make,
            ordered: Vec::new(),
            abandoned: Vec::new(),
            drilled: Vec::new(),
            incidents: Vec::new(),
            asked_after: Vec::new(),
            acked: Vec::new(),
            lose_acks: false,
        };
        Self { script: Arc::new(Mutex::new(script)), hung: Arc::new(Notify::new()) }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// The state applied last.
    pub(crate) fn last(&self) -> DesiredState {
        self.script().applied.last().cloned().unwrap_or_default()
    }

    /// Waits until an `Apply` is left hanging.
    pub(crate) async fn hung(&self) {
        self.hung.notified().await;
    }

    pub(crate) fn start(&self, socket: &Path) -> Running {
        let _ = std::fs::remove_file(socket);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = {
            let _inside = runtime.enter();
            UnixListener::bind(socket).unwrap()
        };
        let this = self.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(this.clone().talk(stream));
            }
        });
        Running { runtime: Some(runtime) }
    }

    async fn talk(self, stream: UnixStream) {
        let (reader, mut writer) = stream.into_split();
        let mut lines = BufReader::new(reader).split(b'\n');
        while let Ok(Some(line)) = lines.next_segment().await {
            let request: Request = decode_line(&line).unwrap();
            match self.answer(request) {
                Answer::Say(response) => {
                    if writer.write_all(&encode_line(&response).unwrap()).await.is_err() {
                        return;
                    }
                }
                Answer::HangUp => return,
                Answer::Hang => {
                    self.hung.notify_one();
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    fn answer(&self, request: Request) -> Answer {
        let mut script = self.script();
        Answer::Say(match request {
            Request::Hello(hello) => {
                assert_eq!(hello.version, PROTOCOL_VERSION);
                Response::Hello(Hello { version: PROTOCOL_VERSION, program: "scripted target".to_owned() })
            }
            Request::Apply(state) => match script.on_apply.clone() {
                OnApply::Apply => script.apply(*state),
                OnApply::Refuse(fault) => Response::Refused(vec![fault]),
                OnApply::RefuseHalfWay(fault) => {
                    script.apply(*state);
                    script.on_apply = OnApply::Apply;
                    Response::Refused(vec![fault])
                }
                OnApply::ApplyAndHang => {
                    script.apply(*state);
                    return Answer::Hang;
                }
                OnApply::HangUp => return Answer::HangUp,
            },
            Request::Prepare(order) => match script.on_prepare.clone() {
                OnPrepare::Make => script.make(*order),
                OnPrepare::Find(found) => Response::Prepared(Box::new(found)),
                OnPrepare::Refuse(fault) => Response::Refused(vec![fault]),
                OnPrepare::Hang => return Answer::Hang,
            },
            Request::Abandon { ticket } => {
                script.abandoned.push(ticket);
                Response::Abandoned
            }
            Request::Drill(order) => {
                let drill = ObservedDrill { id: order.id.clone(), done: false, failure: None };
                script.observed.drills.push(drill);
                script.drilled.push(order);
                Response::Drilled
            }
            Request::Observe => Response::Observed(Box::new(script.observed.clone())),
            Request::Incidents { after, limit } => {
                script.asked_after.push(after);
                let limit = usize::try_from(limit).unwrap();
                let found = script.incidents.iter().filter(|incident| incident.sequence > after);
                Response::Incidents(found.take(limit).cloned().collect())
            }
            Request::AckIncidents { .. } if script.lose_acks => return Answer::HangUp,
            Request::AckIncidents { through } => {
                script.acked.push(through);
                script.incidents.retain(|incident| incident.sequence > through);
                Response::Acked
            }
        })
    }
}

enum Answer {
    Say(Response),
    Hang,
    HangUp,
}

/// Room in a scripted pool.
fn capacity_bytes(backing: &Backing) -> u64 {
    match backing {
        Backing::Memory { size_bytes } => *size_bytes,
        Backing::File { size_bytes, .. } => size_bytes / 2,
        Backing::Block { .. } => 1 << 30,
    }
}

impl Script {
    fn make(&mut self, order: PoolOrder) -> Response {
        if !self.ordered.contains(&order) {
            self.ordered.push(order);
            return Response::Preparing(Progress { done: 1, total: 2 });
        }
        let capacity_bytes = capacity_bytes(&order.backing);
        Response::Prepared(Box::new(FoundPool {
            id: order.ticket,
            name: order.name,
            uuid: order.uuid,
            size_bytes: 2 * capacity_bytes,
            capacity_bytes,
            allocated_bytes: 0,
            volumes: Vec::new(),
        }))
    }

    fn apply(&mut self, state: DesiredState) -> Response {
        if state.revision <= self.observed.revision {
            return Response::Refused(vec![ObjectFault::new(
                ObjectKind::State,
                "",
                "older than what is applied",
            )]);
        }
        self.observed.revision = state.revision;
        let old = std::mem::take(&mut self.observed.pools);
        let known = |pool: &DesiredPool| old.iter().find(|known| known.id == pool.id).cloned();
        self.observed.pools = state
            .pools
            .iter()
            .map(|pool| {
                known(pool)
                    .unwrap_or_else(|| ObservedPool::serving(pool.id, capacity_bytes(&pool.backing), 8192))
            })
            .collect();
        self.observed.volumes = state
            .volumes
            .iter()
            .map(|volume| ObservedVolume {
                id: volume.id,
                uuid: volume.uuid.clone(),
                nguid: volume.nguid.clone(),
                size_bytes: volume.size_bytes,
                allocated_bytes: 4096,
            })
            .collect();
        let known = |id| state.hosts.iter().any(|host| host.id == id || host.aliases.contains(&id));
        self.observed.discovered_hosts.retain(|host| !known(host.id));
        let revision = state.revision;
        self.applied.push(state);
        Response::Applied(Applied { revision })
    }
}
