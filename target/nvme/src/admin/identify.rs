//! Identify. Base 2.1 §5.1.13 "Identify command"; NVM Command Set 1.1 §4.1.5 "Identify Command": which data structure is asked for, of
//! what.
//!
//! Every namespace of a subsystem is attached to every controller, so what is allocated is what is active.

use holdfast_block::{BlockPort, Namespace, Session, Subsystem};
use zerocopy::IntoBytes;

use super::{AdminPlan, AdminQueue, identify_controller, identify_namespace};
use crate::connection::Context;
use crate::limits::NAMESPACES_MAX;
use crate::sgl;
use crate::status::Status;
use crate::wire::identify::{CSI_NVM, IDENTIFY_LEN, IdentifyFields, cns};
use crate::wire::sqe::Sqe;

/// Entries of a controller list, behind its count.
const CONTROLLERS_LISTED_MAX: usize = IDENTIFY_LEN / 2 - 1;
/// I/O Command Set vector 0 of the data structure that lists their combinations: the NVM command set alone.
const COMMAND_SETS: u64 = 1;
/// CNTID of the controller that is asked.
const CNTID_OWN: u16 = 0xffff;
/// Where the parts of the command are, for the error log.
mod at {
    pub(super) const CNS: u8 = 40;
    pub(super) const CNTID: u8 = 42;
    pub(super) const CSI: u8 = 47;
}

/// Answers an Identify.
pub(super) fn execute<P: BlockPort>(
    cx: &mut Context<'_, P>,
    queue: &AdminQueue,
    sqe: &Sqe,
) -> Result<AdminPlan, Status> {
    sgl::to_host(sqe, IDENTIFY_LEN)?;
    let fields = IdentifyFields::of(sqe);
    let data = match (queue.controller.session(), fields.cns) {
        (_, cns::CONTROLLER) => identify_controller::controller(cx, queue).as_bytes().to_vec(),
        (None, _) => return Err(Status::INVALID_FIELD.at(at::CNS)),
        (Some(session), _) => {
            let (subsystem, _) = cx.exports.access_of(session).ok_or(Status::INTERNAL_ERROR)?;
            Asked { cx, session, subsystem, nsid: sqe.nsid.get(), fields }.answer()?
        }
    };
    Ok(AdminPlan::Reply { data, len: IDENTIFY_LEN })
}

/// What an Identify asks about.
struct Asked<'a, 'c, P: BlockPort> {
    cx: &'a Context<'c, P>,
    session: &'a Session,
    subsystem: &'a Subsystem,
    nsid: u32,
    fields: IdentifyFields,
}

impl<P: BlockPort> Asked<'_, '_, P> {
    fn answer(&self) -> Result<Vec<u8>, Status> {
        match self.fields.cns {
            cns::NAMESPACE | cns::ALLOCATED_NAMESPACE => {
                let view = self.session.view;
                self.of_namespace(|found| {
                    identify_namespace::namespace(self.cx, view, found).as_bytes().to_vec()
                })
            }
            cns::NAMESPACE_OF_COMMAND_SET | cns::ALLOCATED_NAMESPACE_OF_COMMAND_SET => {
                self.check_command_set()?;
                let view = self.session.view;
                self.of_namespace(|found| identify_namespace::namespace_nvm(view, found).as_bytes().to_vec())
            }
            cns::INDEPENDENT_NAMESPACE | cns::ALLOCATED_INDEPENDENT_NAMESPACE => {
                self.of_namespace(|_| identify_namespace::independent().as_bytes().to_vec())
            }
            cns::DESCRIPTORS => {
                let found = self.found()?.filter(|_| !holdfast_mutant::active("identify-descriptors"));
                found.map(identify_namespace::descriptors).ok_or(Status::INACTIVE_NAMESPACE)
            }
            cns::ACTIVE_NAMESPACES | cns::ALLOCATED_NAMESPACES => self.nsids(),
            cns::ACTIVE_NAMESPACES_OF_COMMAND_SET | cns::ALLOCATED_NAMESPACES_OF_COMMAND_SET => {
                self.check_command_set()?;
                self.nsids()
            }
            cns::CONTROLLER_OF_COMMAND_SET => {
                self.check_command_set()?;
                Ok(identify_controller::controller_nvm().as_bytes().to_vec())
            }
            cns::ATTACHED_CONTROLLERS if self.nsid == u32::MAX => Err(Status::INACTIVE_NAMESPACE),
            cns::ATTACHED_CONTROLLERS => match self.found()? {
                Some(_) => Ok(self.controllers()),
                None => Err(Status::INACTIVE_NAMESPACE),
            },
            cns::CONTROLLERS => Ok(self.controllers()),
            cns::COMMAND_SETS => self.command_sets(),
            _ => Err(Status::INVALID_FIELD.at(at::CNS)),
        }
    }

    /// A data structure of the namespace that is asked about: all zero if it is inactive.
    fn of_namespace(&self, make: impl FnOnce(&Namespace) -> Vec<u8>) -> Result<Vec<u8>, Status> {
        Ok(self.found()?.map_or(Vec::new(), make))
    }

    /// The namespace that is asked about; `None` if it is inactive, an error if there can be none. There are no capabilities
    /// that all namespaces share, so FFFFFFFFh names none.
    fn found(&self) -> Result<Option<&Namespace>, Status> {
        if self.nsid == 0 || self.nsid > NAMESPACES_MAX && !holdfast_mutant::active("identify-nsid") {
            return Err(Status::INVALID_NAMESPACE);
        }
        Ok(self.subsystem.namespaces.get(&self.nsid))
    }

    fn check_command_set(&self) -> Result<(), Status> {
        if self.fields.command_set == CSI_NVM { Ok(()) } else { Err(Status::INVALID_FIELD.at(at::CSI)) }
    }

    /// The NSIDs above the one given, in order.
    fn nsids(&self) -> Result<Vec<u8>, Status> {
        let above = self.nsid.checked_add(1).filter(|above| *above != u32::MAX);
        let above = above.ok_or(Status::INVALID_NAMESPACE)?;
        let above = if holdfast_mutant::active("identify-list") { self.nsid } else { above };
        let nsids = self.subsystem.namespaces.range(above..).map(|(nsid, _)| *nsid);
        Ok(nsids.take(IDENTIFY_LEN / 4).flat_map(u32::to_le_bytes).collect())
    }

    /// Controllers of the subsystem from the one given on, behind their number.
    fn controllers(&self) -> Vec<u8> {
        let mut ids = self.cx.directory.controllers_of(self.subsystem.id, self.fields.cntid);
        ids.truncate(CONTROLLERS_LISTED_MAX);
        let count = u16::try_from(ids.len()).unwrap_or(u16::MAX);
        std::iter::once(count).chain(ids).flat_map(u16::to_le_bytes).collect()
    }

    /// The combinations of I/O command sets that a controller can work with.
    fn command_sets(&self) -> Result<Vec<u8>, Status> {
        let asked = self.fields.cntid;
        let exists = || self.cx.directory.controllers_of(self.subsystem.id, asked).first() == Some(&asked);
        if asked != CNTID_OWN && !exists() {
            return Err(Status::INVALID_FIELD.at(at::CNTID));
        }
        Ok(COMMAND_SETS.to_le_bytes().to_vec())
    }
}
