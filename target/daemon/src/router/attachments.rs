//! Admissions to volumes of other cores, named by index and generation: an old name never finds what took its place, or
//! a command would go to a volume that its host was not admitted to.

use holdfast_block::{AttachRequest, AttachmentId, BlockError};

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

    pub(super) fn remove(&mut self, id: AttachmentId) {
        if self.get(id).is_none() {
            return;
        }
        let (index, generation) = id.parts();
        if let Some(place) = self.places.get_mut(at(index)) {
            *place = Place { generation: generation.wrapping_add(1), request: None };
            self.free.push(index & !REMOTE_INDEX);
        }
    }
}

fn at(index: u32) -> usize {
    usize::try_from(index & !REMOTE_INDEX).unwrap_or(usize::MAX)
}
