//! Registrations come, change, go and are lost. SPC-4 5.13.7 "Registering", 5.13.8 "Registering and moving the reservation",
//! 5.13.11.2.3 "Unregistering", 5.13.11.3 "Replacing lost reservations".

use super::{
    Attention, Draft, Field, InitiatorPort, Key, Nexus, Reach, Refusal, ReservationType, Reservations,
    TargetPort,
};

/// What a registration asks of one nexus. SPC-4 tables 67 and 68.
enum Step {
    Nothing,
    SetKey(Key),
    Remove,
}

impl Draft<'_> {
    /// REGISTER. With SPEC_I_PT only for nexuses that are not registered; all of it or nothing.
    pub(super) fn register(
        &mut self,
        key: Option<Key>,
        new: Option<Key>,
        lasting: Option<bool>,
        reach: &Reach,
    ) -> Result<(), Refusal> {
        let own = step_of(self.state.key_of(self.from), Some(key), new)?;
        let Some(initiators) = &reach.initiators else {
            return self.register_through(own, Some(key), new, lasting, &reach.all_ports);
        };
        match own {
            Step::Nothing => return Ok(()),
            Step::SetKey(_) if !self.state.is_registered(self.from) => {}
            Step::SetKey(_) | Step::Remove => {
                return Err(Refusal::InvalidField(Field::SpecInitiatorPorts));
            }
        }
        let others = named_nexuses(self.from, initiators, &reach.all_ports);
        if let Some((place, _)) = others.iter().find(|(_, nexus)| self.state.is_registered(nexus)) {
            return Err(Refusal::InvalidField(Field::TransportId(*place)));
        }
        self.register_through(own, Some(key), new, lasting, &reach.all_ports)?;
        if let Some(new) = new {
            others.iter().try_for_each(|(_, nexus)| self.state.set_key(nexus, new))?;
        }
        Ok(())
    }

    /// REGISTER AND IGNORE EXISTING KEY.
    pub(super) fn register_and_ignore(
        &mut self,
        new: Option<Key>,
        lasting: Option<bool>,
        all_ports: &[TargetPort],
    ) -> Result<(), Refusal> {
        let own = step_of(self.state.key_of(self.from), None, new)?;
        self.register_through(own, None, new, lasting, all_ports)
    }

    /// Carries out a registration at the port of the request, and as if it had come through each of the others.
    fn register_through(
        &mut self,
        own: Step,
        key: Option<Option<Key>>,
        new: Option<Key>,
        lasting: Option<bool>,
        all_ports: &[TargetPort],
    ) -> Result<(), Refusal> {
        if matches!(own, Step::Nothing) {
            return Ok(());
        }
        self.take(self.from.clone(), own)?;
        if let Nexus::Scsi { initiator, target } = self.from {
            for port in all_ports.iter().filter(|port| *port != target) {
                let nexus = Nexus::Scsi { initiator: initiator.clone(), target: *port };
                let step = step_of(self.state.key_of(&nexus), key, new)?;
                self.take(nexus, step)?;
            }
        }
        self.set_lasting(lasting);
        self.count();
        Ok(())
    }

    fn take(&mut self, nexus: Nexus, step: Step) -> Result<(), Refusal> {
        match step {
            Step::Nothing => Ok(()),
            Step::SetKey(key) => self.state.set_key(&nexus, key),
            Step::Remove => {
                self.unregister(&nexus);
                Ok(())
            }
        }
    }

    /// A holder that leaves gives up what it holds, unless others hold it too; the registered get to know if it was for them.
    fn unregister(&mut self, nexus: &Nexus) {
        if let Ok(at) = self.state.place_of(nexus) {
            self.state.registrations.remove(at);
        }
        self.effects.attentions.retain(|(told, _)| told != nexus);
        if let Some(kind) = self.state.release_orphaned()
            && kind.admits_registrants()
        {
            self.tell_registered(Attention::ReservationsReleased);
        }
    }

    /// REGISTER AND MOVE.
    pub(super) fn move_to(
        &mut self,
        key: Option<Key>,
        new: Option<Key>,
        lasting: Option<bool>,
        to: &Nexus,
        leave: bool,
    ) -> Result<(), Refusal> {
        self.check_key(key)?;
        let held = self.state.held.as_ref().ok_or(Refusal::NothingToMove)?;
        let kind = held.kind;
        if held.holder.as_ref() != Some(self.from) {
            return Err(Refusal::Conflict);
        }
        let new = new.ok_or(Refusal::InvalidField(Field::NewKey))?;
        if is_same_initiator(self.from, to) {
            return Err(Refusal::InvalidField(Field::TransportId(0)));
        }
        if leave && let Ok(at) = self.state.place_of(self.from) {
            self.state.registrations.remove(at);
        }
        self.state.set_key(to, new)?;
        self.state.set_held(kind, to);
        self.set_lasting(lasting);
        self.count();
        Ok(())
    }

    /// REPLACE LOST RESERVATION.
    pub(super) fn replace_lost(
        &mut self,
        key: Option<Key>,
        new: Option<Key>,
        kind: ReservationType,
        lasting: Option<bool>,
    ) -> Result<(), Refusal> {
        if !self.state.lost {
            // Table 66: one that is not registered is in conflict with whoever holds the volume.
            let others = self.state.held.is_some() || self.state.legacy.is_some();
            let stranger = !self.state.is_registered(self.from);
            return Err(if others && stranger { Refusal::Conflict } else { Refusal::InvalidRelease });
        }
        if key.is_some() {
            return Err(Refusal::InvalidField(Field::Key));
        }
        let new = new.ok_or(Refusal::InvalidField(Field::NewKey))?;
        self.state = Reservations { lasting: lasting.unwrap_or(true), ..Reservations::default() };
        self.state.set_key(self.from, new)?;
        self.state.set_held(kind, self.from);
        Ok(())
    }
}

/// What becomes of one nexus. `key` is `None` where the existing key is ignored.
fn step_of(registered: Option<Key>, key: Option<Option<Key>>, new: Option<Key>) -> Result<Step, Refusal> {
    if key.is_some_and(|key| key != registered) {
        return Err(Refusal::Conflict);
    }
    Ok(match (registered, new) {
        (None, None) => Step::Nothing,
        (_, Some(new)) => Step::SetKey(new),
        (Some(_), None) => Step::Remove,
    })
}

/// The nexuses that TransportIDs name, each with the place of its TransportID.
fn named_nexuses(
    from: &Nexus,
    initiators: &[InitiatorPort],
    all_ports: &[TargetPort],
) -> Vec<(usize, Nexus)> {
    let Nexus::Scsi { target, .. } = from else { return Vec::new() };
    let ports = if all_ports.is_empty() { std::slice::from_ref(target) } else { all_ports };
    let named = initiators.iter().enumerate().flat_map(|(place, initiator)| {
        ports.iter().map(move |port| (place, Nexus::Scsi { initiator: initiator.clone(), target: *port }))
    });
    named.collect()
}

/// Whether two are of one initiator port, or of one host.
fn is_same_initiator(one: &Nexus, other: &Nexus) -> bool {
    match (one, other) {
        (Nexus::Scsi { initiator: one, .. }, Nexus::Scsi { initiator: other, .. }) => one == other,
        (Nexus::Nvme { host: one }, Nexus::Nvme { host: other }) => one == other,
        (Nexus::Scsi { .. }, Nexus::Nvme { .. }) | (Nexus::Nvme { .. }, Nexus::Scsi { .. }) => false,
    }
}
