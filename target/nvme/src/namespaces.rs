//! Namespaces of one connection: which volume each is, how it looks to this host, and the admission to it.
//!
//! A connection is admitted to a volume on the first command that names it, once.

use std::sync::Arc;

use holdfast_block::{
    AttachRequest, AttachmentId, BlockPort, Enforce, Exports, Namespace, Operation, Session, View, VolumeInfo,
};
use holdfast_pi::PiFormat;

use crate::limits::NAMESPACES_MAX;
use crate::status::Status;

/// A namespace as its host sees it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mapped {
    pub(crate) nsid: u32,
    pub(crate) volume: VolumeInfo,
    pub(crate) enforce: Enforce,
    pub(crate) attachment: AttachmentId,
    /// Tuples on the wire: the PI view of a volume that has any.
    pub(crate) visible: Option<PiFormat>,
}

/// The format in which a host sees a volume's tuples; `None` if it sees none.
pub(crate) fn visible_format(view: View, volume: &VolumeInfo) -> Option<PiFormat> {
    match view {
        View::Plain => None,
        View::Pi => volume.format,
    }
}

/// The namespaces in use, by NSID.
#[derive(Debug, Default)]
pub(crate) struct Namespaces {
    mapped: Vec<Mapped>,
}

impl Namespaces {
    /// The namespace, attached.
    pub(crate) fn resolve<P: BlockPort>(
        &mut self,
        port: &mut P,
        exports: &Exports,
        session: &Arc<Session>,
        nsid: u32,
    ) -> Result<Mapped, Status> {
        match self.mapped.binary_search_by_key(&nsid, |mapped| mapped.nsid) {
            Ok(at) => self.mapped.get(at).copied().ok_or(Status::INTERNAL_ERROR),
            Err(at) => {
                let mapped = attach(port, exports, session, nsid)?;
                self.mapped.insert(at, mapped);
                Ok(mapped)
            }
        }
    }

    /// The volume of a namespace in use.
    pub(crate) fn volume(&self, nsid: u32) -> Option<&VolumeInfo> {
        let at = self.mapped.binary_search_by_key(&nsid, |mapped| mapped.nsid).ok()?;
        self.mapped.get(at).map(|mapped| &mapped.volume)
    }

    /// Follows a change of the exports. `None`: this host has no access any more.
    pub(crate) fn follow<P: BlockPort>(
        &mut self,
        port: &mut P,
        exports: &Exports,
        session: &Session,
    ) -> Option<()> {
        let (subsystem, grant) = exports.access_of(session)?;
        self.mapped.retain_mut(|mapped| {
            let now = subsystem.namespaces.get(&mapped.nsid);
            if now.is_none_or(|now| now.volume != mapped.volume) {
                port.detach(mapped.attachment);
                return false;
            }
            if mapped.enforce != grant.enforce {
                mapped.enforce = grant.enforce;
                port.set_enforce(mapped.attachment, grant.enforce);
            }
            true
        });
        Some(())
    }

    /// Ends all attachments.
    pub(crate) fn clear<P: BlockPort>(&mut self, port: &mut P) {
        for mapped in self.mapped.drain(..) {
            port.detach(mapped.attachment);
        }
    }
}

/// Base 2.1 §3.2.1.2 "Valid and Invalid NSIDs" and §4.1.1 "Common Command Format": an NSID that cannot be is an invalid namespace,
/// one that is not in use is an invalid field.
fn attach<P: BlockPort>(
    port: &mut P,
    exports: &Exports,
    session: &Arc<Session>,
    nsid: u32,
) -> Result<Mapped, Status> {
    let (subsystem, grant) = exports.access_of(session).ok_or(Status::INVALID_NAMESPACE)?;
    if nsid == 0 || nsid > NAMESPACES_MAX {
        return Err(Status::INVALID_NAMESPACE);
    }
    let Namespace { volume, .. } = *subsystem.namespaces.get(&nsid).ok_or(Status::INACTIVE_NAMESPACE)?;
    let request = AttachRequest {
        session: Arc::clone(session),
        volume: volume.id,
        view: session.view,
        enforce: grant.enforce,
    };
    let attachment = port.attach(request).map_err(|error| Status::from_block(error, Operation::Read))?;
    let visible = visible_format(session.view, &volume);
    Ok(Mapped { nsid, volume, enforce: grant.enforce, attachment, visible })
}
