//! Admissions to volumes of other cores, named by index and generation: an old name never finds what took its place, or
//! a command would go to a volume that its host was not admitted to.

use holdfast_block::reservations::Standing;
use holdfast_block::{AttachRequest, AttachmentId, BlockError, VolumeId};

use super::REMOTE_INDEX;

/// The admissions of a core's connections.
#[derive(Default)]
pub(super) struct Attachments {
    places: Vec<Place>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Place {
    generation: u32,
    request: Option<AttachRequest>,
    /// What reservations refused to it when there had been so many changes of them.
    standing: (u64, Standing),
}

impl Attachments {
    pub(super) fn insert(&mut self, request: AttachRequest) -> Result<AttachmentId, BlockError> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                let index = u32::try_from(self.places.len()).map_err(|_| BlockError::Busy)?;
                self.places.push(Place::default());
                index
            }
        };
        let place = self.places.get_mut(at(index)).ok_or(BlockError::Internal)?;
        place.request = Some(request);
        // Looked up with its first command: there has been a change before any that count.
        place.standing = (u64::MAX, Standing::FREE);
        Ok(AttachmentId::from_parts(index | REMOTE_INDEX, place.generation))
    }

    pub(super) fn get(&self, id: AttachmentId) -> Option<&AttachRequest> {
        let (index, generation) = id.parts();
        let place = self.places.get(at(index)).filter(|place| place.generation == generation)?;
        place.request.as_ref()
    }

    pub(super) fn get_mut(&mut self, id: AttachmentId) -> Option<&mut AttachRequest> {
        let (index, generation) = id.parts();
        let place = self.places.get_mut(at(index)).filter(|place| place.generation == generation)?;
        place.request.as_mut()
    }

    /// What reservations refuse to it, by what was found out before or, after changes, by what `now` says.
    pub(super) fn standing(
        &mut self,
        id: AttachmentId,
        changes: u64,
        now: impl FnOnce(&AttachRequest) -> Standing,
    ) -> Standing {
        let (index, generation) = id.parts();
        let place = self.places.get_mut(at(index)).filter(|place| place.generation == generation);
        let Some(Place { request: Some(request), standing, .. }) = place else { return Standing::FREE };
        if standing.0 != changes {
            *standing = (changes, now(request));
        }
        standing.1
    }

    pub(super) fn remove(&mut self, id: AttachmentId) -> Option<AttachRequest> {
        let (index, generation) = id.parts();
        let place = self.places.get_mut(at(index)).filter(|place| place.generation == generation)?;
        let request = place.request.take()?;
        *place = Place { generation: generation.wrapping_add(1), ..Place::default() };
        self.free.push(index & !REMOTE_INDEX);
        Some(request)
    }

    /// Whether a session is admitted to a volume.
    pub(super) fn has(&self, session: u64, volume: VolumeId) -> bool {
        let requests = self.places.iter().filter_map(|place| place.request.as_ref());
        requests.into_iter().any(|request| request.session.id == session && request.volume == volume)
    }
}

fn at(index: u32) -> usize {
    usize::try_from(index & !REMOTE_INDEX).unwrap_or(usize::MAX)
}
