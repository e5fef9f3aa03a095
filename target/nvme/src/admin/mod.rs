//! Admin commands. Base 2.1 §5 "Admin Command Set".

pub(crate) mod events;
mod feature_values;
mod features;
mod identify;
mod identify_controller;
mod identify_namespace;
mod keep_alive;
mod log_effects;
mod log_events;
mod log_health;
mod log_page;

use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_block::{BlockPort, VolumeId};

use crate::connection::Context;
use crate::controller::Controller;
use crate::fabrics::properties::Properties;
use crate::status::Status;
use crate::subsystem::Moment;
use crate::wire::sqe::Sqe;

use events::{Event, Events};
use feature_values::Features;
use keep_alive::KeepAlive;
use log_events::EventReport;

/// Opcodes.
pub(crate) mod opcode {
    pub(crate) const GET_LOG_PAGE: u8 = 0x02;
    pub(crate) const IDENTIFY: u8 = 0x06;
    pub(crate) const ABORT: u8 = 0x08;
    pub(crate) const SET_FEATURES: u8 = 0x09;
    pub(crate) const GET_FEATURES: u8 = 0x0a;
    pub(crate) const ASYNC_EVENT_REQUEST: u8 = 0x0c;
    pub(crate) const KEEP_ALIVE: u8 = 0x18;
}

/// The admin queue of a controller, and what belongs to the controller alone.
#[derive(Debug)]
pub(crate) struct AdminQueue {
    pub(crate) controller: Arc<Controller>,
    /// The address that the host has connected to, and the number of its portal.
    pub(crate) local: SocketAddr,
    pub(crate) portal: u16,
    pub(crate) properties: Properties,
    pub(crate) features: Features,
    pub(crate) events: Events,
    pub(crate) keep_alive: KeepAlive,
    /// The persistent event log, as the host is reading it.
    event_report: Option<EventReport>,
    known: Known,
}

/// What the host has been told, or can find out without an event.
#[derive(Debug, PartialEq, Eq)]
enum Known {
    Namespaces(Vec<(u32, VolumeId, u64)>),
    Subsystems(Vec<String>),
}

/// What to do with an admin command.
#[derive(Debug)]
pub(crate) enum AdminPlan {
    /// It is done; Dword 0 of the completion.
    Done(u32),
    /// Send `len` bytes: `data`, and zeroes behind it.
    Reply { data: Vec<u8>, len: usize },
    /// This many bytes of payload are needed first.
    Collect { len: usize },
    /// It is answered when something happens.
    Park,
    /// Abort the command with this identifier on this queue.
    Abort { sqid: u16, cid: u16 },
}

impl AdminQueue {
    pub(crate) fn new<P: BlockPort>(
        cx: &Context<'_, P>,
        controller: Arc<Controller>,
        kato_ms: u32,
        local: SocketAddr,
        portal: u16,
    ) -> AdminQueue {
        let keep_alive = KeepAlive::new(controller.is_discovery(), kato_ms, cx.now_ms);
        let known = known(cx, &controller);
        keep_events(cx, &controller);
        AdminQueue {
            controller,
            local,
            portal,
            properties: Properties::default(),
            features: Features::new(cx.now_ms),
            events: Events::default(),
            keep_alive,
            event_report: None,
            known,
        }
    }

    /// Judges a command, and does what can be done at once.
    pub(crate) fn plan<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        sqe: &Sqe,
    ) -> Result<AdminPlan, Status> {
        self.keep_alive.command_came(cx.now_ms);
        let discovery = self.controller.is_discovery();
        match sqe.opcode {
            opcode::IDENTIFY => identify::execute(cx, self, sqe),
            opcode::GET_LOG_PAGE => log_page::execute(cx, self, sqe),
            opcode::SET_FEATURES => features::set(cx, self, sqe),
            opcode::GET_FEATURES => features::get(cx, self, sqe),
            opcode::ABORT if !discovery => {
                let [sqid_low, sqid_high, cid_low, cid_high] = sqe.cdw10.to_bytes();
                Ok(AdminPlan::Abort {
                    sqid: u16::from_le_bytes([sqid_low, sqid_high]),
                    cid: u16::from_le_bytes([cid_low, cid_high]),
                })
            }
            opcode::ASYNC_EVENT_REQUEST if self.events.is_full() => Err(Status::ASYNC_EVENT_LIMIT),
            opcode::ASYNC_EVENT_REQUEST => Ok(AdminPlan::Park),
            opcode::KEEP_ALIVE => {
                self.keep_alive.restart(cx.now_ms);
                Ok(AdminPlan::Done(0))
            }
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// Goes on with a command whose payload has come.
    pub(crate) fn collected<P: BlockPort>(
        &mut self,
        cx: &Context<'_, P>,
        sqe: &Sqe,
        payload: &[u8],
    ) -> Result<AdminPlan, Status> {
        match sqe.opcode {
            opcode::SET_FEATURES => features::set_with_data(cx, self, sqe, payload),
            _ => Err(Status::INVALID_OPCODE),
        }
    }

    /// Forgets what a controller reset makes it forget. Base 2.1 §3.7.2 "Controller Level Reset".
    pub(crate) fn reset<P: BlockPort>(&mut self, cx: &Context<'_, P>) {
        if !self.controller.is_discovery() {
            let moment = Moment::now(cx, self.controller.cntlid);
            let health = log_health::smart(cx, self);
            self.controller.subsystem.controller_reset(moment, &cx.directory.config().firmware, &health);
        }
        self.controller.health.reset();
        self.features = Features::new(cx.now_ms);
        self.events.reset();
        self.event_report = None;
        self.known = known(cx, &self.controller);
    }

    /// Tells the host that a temperature threshold is reached, if it is.
    fn look_at_temperature(&mut self) {
        if self.features.is_temperature_reached() {
            self.events.raise(Event::Temperature, self.features.async_events());
        }
    }

    /// Follows a change of the exports. `None`: the host has lost its access.
    pub(crate) fn follow<P: BlockPort>(&mut self, cx: &Context<'_, P>) -> Option<()> {
        if let Some(session) = self.controller.session() {
            cx.exports.access_of(session)?;
        }
        keep_events(cx, &self.controller);
        let now = known(cx, &self.controller);
        if let (Known::Namespaces(before), Known::Namespaces(after)) = (&self.known, &now) {
            let gone = before.iter().filter(|entry| !after.contains(entry));
            let come = after.iter().filter(|entry| !before.contains(entry));
            let mut changed: Vec<u32> = gone.chain(come).map(|(nsid, ..)| *nsid).collect();
            changed.sort_unstable();
            changed.dedup();
            if !changed.is_empty() {
                self.events.namespaces_changed(&changed);
                self.events.raise(Event::NamespaceAttribute, self.features.async_events());
            }
        } else if now != self.known {
            self.events.raise(Event::DiscoveryLog, self.features.async_events());
        }
        self.known = now;
        Some(())
    }
}

/// Lets the persistent event log of the controller's subsystem follow the exports.
fn keep_events<P: BlockPort>(cx: &Context<'_, P>, controller: &Controller) {
    let subsystem = controller.session().and_then(|session| cx.exports.subsystem(session.subsystem));
    if let Some(subsystem) = subsystem {
        let moment = Moment::now(cx, controller.cntlid);
        let firmware = &cx.directory.config().firmware;
        controller.subsystem.follow(cx.exports.revision(), subsystem, moment, firmware);
    }
}

fn known<P: BlockPort>(cx: &Context<'_, P>, controller: &Controller) -> Known {
    match controller.session() {
        Some(session) => {
            let namespaces = cx.exports.access_of(session).into_iter().flat_map(|(subsystem, _)| {
                subsystem.namespaces.values().map(|ns| (ns.nsid, ns.volume.id, ns.volume.block_count))
            });
            Known::Namespaces(namespaces.collect())
        }
        None => {
            let visible = crate::discovery::visible_to(cx.exports, &controller.association.hostnqn);
            Known::Subsystems(visible.map(|subsystem| subsystem.nqn.clone()).collect())
        }
    }
}
