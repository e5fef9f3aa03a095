//! One I_T nexus: an initiator port at a target, and the logical units that it reaches. SAM-5 §4.6 "SCSI ports", §4.8
//! "Logical units".
//!
//! A LUN is the NSID minus one. A nexus is admitted to a volume with the first command that needs it, once.

use std::sync::Arc;

use holdfast_block::{
    AttachRequest, AttachmentId, BlockPort, Enforce, Grant, Namespace, Session, View, VolumeInfo,
};
use holdfast_pi::{GuardKind, PiFormat};

use crate::attention::{Attention, Attentions};
use crate::context::{AbortOrder, Context, Managed, TaskFunction, WaitId};
use crate::copy::Copies;
use crate::luns;
use crate::mode::ModeValues;
use crate::protect::Scheme;
use crate::sense::{Format, Sense};
use crate::units::What;

/// A logical unit as a nexus sees it.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) lun: u16,
    pub(crate) volume: VolumeInfo,
    pub(crate) enforce: Enforce,
    /// What is shown of the volume's protection information.
    pub(crate) visible: Option<PiFormat>,
    pub(crate) mode: ModeValues,
    /// START STOP UNIT has stopped it.
    pub(crate) stopped: bool,
}

impl Seen {
    /// What the tables of protection information need.
    pub(crate) fn scheme(&self) -> Scheme<'_> {
        Scheme {
            visible: self.visible,
            stored: self.volume.format,
            enforce: self.enforce,
            ato: self.mode.app_tag_owner,
            app_tags: self.mode.known_app_tags(),
        }
    }

    /// How sense data is laid out.
    pub(crate) fn sense_format(&self) -> Format {
        if self.mode.descriptor_sense { Format::Descriptor } else { Format::Fixed }
    }
}

/// A logical unit.
#[derive(Debug)]
pub(crate) struct Unit {
    pub(crate) seen: Seen,
    pub(crate) attentions: Attentions,
    attachment: Option<AttachmentId>,
}

/// A nexus.
#[derive(Debug)]
pub struct Nexus {
    session: Arc<Session>,
    /// The target's name.
    target: String,
    /// By LUN.
    units: Vec<Unit>,
    copies: Copies,
}

impl Nexus {
    /// A nexus for a session that has just been opened. `None`: it has no access any more.
    pub fn open<P: BlockPort>(cx: &mut Context<'_, P>, session: Arc<Session>) -> Option<Nexus> {
        let (subsystem, grant) = cx.exports.access_of(&session)?;
        let again = cx.units.join(session.id, &session.nexus);
        let first = if again { Attention::NexusLoss } else { Attention::PowerOn };
        let mut nexus =
            Nexus { target: subsystem.iqn.clone(), session, units: Vec::new(), copies: Copies::default() };
        for namespace in subsystem.namespaces.values() {
            nexus.add(cx, *namespace, grant, first);
        }
        Some(nexus)
    }

    /// Follows a change of the exports. `None`: this host has no access any more.
    pub fn follow_exports<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) -> Option<()> {
        let (subsystem, grant) = cx.exports.access_of(&self.session)?;
        let before = self.units.len();
        let port = &mut *cx.port;
        self.units.retain_mut(|unit| {
            let now = subsystem.namespaces.get(&(u32::from(unit.seen.lun) + 1));
            let stays = now.filter(|now| now.volume.id == unit.seen.volume.id && is_same_kind(now, unit));
            match stays {
                Some(now) => unit.follow(port, now.volume, grant.enforce),
                None => unit.detach(port),
            }
            stays.is_some()
        });
        let mut changed = self.units.len() != before;
        for namespace in subsystem.namespaces.values() {
            if let Some(lun) = lun_of(namespace)
                && self.place(lun).is_err()
            {
                self.add(cx, *namespace, grant, Attention::PowerOn);
                changed = true;
            }
        }
        if changed {
            self.units.iter_mut().for_each(|unit| unit.attentions.add(Attention::LunsChanged));
        }
        Some(())
    }

    /// Follows what other nexuses have done. The tasks named are to be aborted, and each order then confirmed by
    /// [`Nexus::aborted`].
    pub fn follow_units<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) -> Vec<AbortOrder> {
        let mut orders = Vec::new();
        for note in cx.units.take_notes(self.session.id) {
            let unit = self.units.iter_mut().find(|unit| unit.seen.volume.id == note.volume);
            match (note.what, unit) {
                (What::Tell(attention), Some(unit)) => unit.attentions.add(attention),
                (What::Mode(values), Some(unit)) => unit.seen.mode = values,
                (What::Stopped(stopped), Some(unit)) => unit.seen.stopped = stopped,
                (What::Abort(wait, instead), Some(unit)) => {
                    let tell = unit.seen.mode.task_aborted_status;
                    orders.push(AbortOrder { lun: luns::encode(unit.seen.lun), tell, wait, instead });
                }
                (_, None) => {}
            }
            if let What::Abort(wait, _) = note.what
                && !orders.iter().any(|order| order.wait == wait)
            {
                cx.units.acknowledge(wait, self.session.id);
            }
        }
        orders
    }

    /// An order has ended a task of which the initiator hears nothing else. SAM-5 §5.6 "Aborting commands".
    pub fn aborted_in_silence(&mut self, order: &AbortOrder) {
        let unit = luns::decode(order.lun).and_then(|lun| self.unit(lun));
        if let (Some(unit), Some(instead)) = (unit, order.instead) {
            unit.attentions.add(instead);
        }
    }

    /// What an order named is aborted: call it once all orders of a round are carried out.
    pub fn aborted<P: BlockPort>(&self, cx: &mut Context<'_, P>, wait: WaitId) {
        cx.units.acknowledge(wait, self.session.id);
    }

    /// Ends the nexus. The transport has aborted its tasks.
    pub fn close<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        self.units.iter_mut().for_each(|unit| unit.detach(cx.port));
        self.units.clear();
        cx.units.leave(self.session.id);
    }

    /// Carries out a task management function as far as others are concerned. SAM-5 §7.
    pub fn manage<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        function: TaskFunction,
        lun: [u8; 8],
    ) -> Managed {
        if function == TaskFunction::TargetReset {
            let volumes: Vec<_> = self.units.iter().map(|unit| unit.seen.volume.id).collect();
            for at in 0..self.units.len() {
                self.reset(cx, at);
            }
            let wait = cx.units.order_aborts(&volumes, Attention::Reset, self.session.id);
            return wait.map_or(Managed::Done, Managed::Waits);
        }
        let Some(at) = luns::decode(lun).and_then(|lun| self.place(lun).ok()) else {
            return Managed::NoSuchUnit;
        };
        let told = match function {
            TaskFunction::AbortTaskSet => return Managed::Done,
            TaskFunction::ClearTaskSet => Attention::CommandsCleared,
            TaskFunction::UnitReset | TaskFunction::TargetReset => {
                self.reset(cx, at);
                Attention::Reset
            }
        };
        let volumes: Vec<_> = self.units.get(at).map(|unit| unit.seen.volume.id).into_iter().collect();
        let wait = cx.units.order_aborts(&volumes, told, self.session.id);
        wait.map_or(Managed::Done, Managed::Waits)
    }

    /// How sense data about a logical unit is laid out.
    pub fn sense_format(&self, lun: [u8; 8]) -> Format {
        let at = luns::decode(lun).and_then(|lun| self.place(lun).ok());
        at.and_then(|at| self.units.get(at)).map_or(Format::Fixed, |unit| unit.seen.sense_format())
    }

    /// The session.
    pub fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Its copies.
    pub(crate) fn copies(&self) -> &Copies {
        &self.copies
    }

    /// The same, to open one.
    pub(crate) fn copies_mut(&mut self) -> &mut Copies {
        &mut self.copies
    }

    /// The target's name.
    pub(crate) fn target(&self) -> &str {
        &self.target
    }

    /// All LUNs.
    pub(crate) fn luns(&self) -> impl Iterator<Item = u16> + '_ {
        self.units.iter().map(|unit| unit.seen.lun)
    }

    /// Logical units by number.
    pub(crate) fn units(&self) -> &[Unit] {
        &self.units
    }

    /// The unit at this address.
    pub(crate) fn unit(&mut self, lun: u16) -> Option<&mut Unit> {
        let at = self.place(lun).ok()?;
        self.units.get_mut(at)
    }

    /// The initiator has seen which LUNs there are, or was told through one of them that they have changed. SAM-5 §5.14;
    /// SPC-4 §7.8.7, LUICLR.
    pub(crate) fn luns_are_told(&mut self) {
        self.units.iter_mut().for_each(|unit| unit.attentions.remove(Attention::LunsChanged));
    }

    /// SAM-5 §6.3.3 "Logical unit reset": mode parameters as they come, no RESERVE (6); the own initiator is told, too.
    fn reset<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, at: usize) {
        let Some(unit) = self.units.get_mut(at) else { return };
        unit.attentions.add(Attention::Reset);
        unit.seen.mode = ModeValues::default();
        cx.units.reset(unit.seen.volume.id, self.session.id);
        let lun = unit.seen.lun;
        if let Ok(attachment) = self.attached(cx.port, lun) {
            cx.port.end_legacy_reservation(attachment);
        }
    }

    fn add<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        namespace: Namespace,
        grant: Grant,
        first: Attention,
    ) {
        let Some(lun) = lun_of(&namespace) else { return };
        let Err(at) = self.place(lun) else { return };
        let mut attentions = Attentions::default();
        attentions.add(first);
        let volume = namespace.volume;
        let seen = Seen {
            lun,
            volume,
            enforce: grant.enforce,
            visible: visible_format(self.session.view, &volume),
            mode: cx.units.mode(volume.id),
            stopped: cx.units.is_stopped(volume.id),
        };
        self.units.insert(at, Unit { seen, attentions, attachment: None });
    }

    fn place(&self, lun: u16) -> Result<usize, usize> {
        self.units.binary_search_by_key(&lun, |unit| unit.seen.lun)
    }

    /// Admission to a unit's volume.
    pub(crate) fn attached<P: BlockPort>(&mut self, port: &mut P, lun: u16) -> Result<AttachmentId, Sense> {
        let at = self.place(lun).map_err(|_| Sense::NO_SUCH_LUN)?;
        let unit = self.units.get_mut(at).ok_or(Sense::NO_SUCH_LUN)?;
        if let Some(attachment) = unit.attachment {
            return Ok(attachment);
        }
        let request = AttachRequest {
            session: Arc::clone(&self.session),
            volume: unit.seen.volume.id,
            view: self.session.view,
            enforce: unit.seen.enforce,
        };
        let attachment = port.attach(request).map_err(|_| Sense::NOT_READY)?;
        unit.attachment = Some(attachment);
        Ok(attachment)
    }
}

impl Unit {
    fn follow<P: BlockPort>(&mut self, port: &mut P, volume: VolumeInfo, enforce: Enforce) {
        if self.seen.volume.block_count != volume.block_count {
            self.attentions.add(Attention::CapacityChanged);
        }
        self.seen.volume = volume;
        if self.seen.enforce != enforce {
            self.seen.enforce = enforce;
            if let Some(attachment) = self.attachment {
                port.set_enforce(attachment, enforce);
            }
        }
    }

    fn detach<P: BlockPort>(&mut self, port: &mut P) {
        if let Some(attachment) = self.attachment.take() {
            port.detach(attachment);
        }
    }
}

fn lun_of(namespace: &Namespace) -> Option<u16> {
    let lun = u16::try_from(namespace.nsid.checked_sub(1)?).ok()?;
    (lun <= luns::LUN_MAX).then_some(lun)
}

/// A volume that was made anew under the same identifier has other names.
fn is_same_kind(now: &Namespace, unit: &Unit) -> bool {
    let grown = VolumeInfo { block_count: unit.seen.volume.block_count, ..now.volume };
    grown == unit.seen.volume
}

/// What a nexus sees of a volume's tuples: SCSI knows those with 16-bit guards alone.
fn visible_format(view: View, volume: &VolumeInfo) -> Option<PiFormat> {
    match view {
        View::Plain => None,
        View::Pi => volume.format.filter(|format| format.guard() == GuardKind::Crc16),
    }
}
