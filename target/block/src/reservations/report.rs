//! What anybody may know. SPC-4 6.15 "PERSISTENT RESERVE IN command"; NVMe Base 2.1 7.8 "Reservation Report command".

use super::{Key, Nexus, REGISTRATIONS_MAX, Refusal, ReservationType, Reservations};

/// A look at reservations.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a>(&'a Reservations);

/// One registration. SPC-4 6.15.5 "READ FULL STATUS service action".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Registrant<'a> {
    /// Who.
    pub nexus: &'a Nexus,
    /// With what.
    pub key: Key,
    /// What of, if it is a holder.
    pub holds: Option<ReservationType>,
}

/// What can be asked for. SPC-4 6.15.4 "REPORT CAPABILITIES service action".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// RLR_C: lost reservations can be replaced.
    pub replaces_lost: bool,
    /// CRH: RESERVE and RELEASE (6) succeed for those who share a persistent reservation.
    pub compatible_handling: bool,
    /// SIP_C: SPEC_I_PT.
    pub specifies_initiator_ports: bool,
    /// ATP_C: ALL_TG_PT.
    pub all_target_ports: bool,
    /// PTPL_C: reservations can outlast a restart.
    pub can_last: bool,
    /// PTPL_A: they do.
    pub lasting: bool,
    /// Types.
    pub types: &'static [ReservationType],
    /// Most registrations of a volume.
    pub registrations_max: usize,
}

impl Reservations {
    /// What is shown; refused while reservations are lost, and to everybody while somebody holds the volume by RESERVE (6).
    pub fn report(&self) -> Result<Report<'_>, Refusal> {
        match (self.lost, &self.legacy) {
            (true, _) => Err(Refusal::Lost),
            (false, Some(_)) => Err(Refusal::Conflict),
            (false, None) => Ok(Report(self)),
        }
    }
}

impl<'a> Report<'a> {
    /// PRgeneration.
    pub fn generation(self) -> u32 {
        self.0.generation
    }

    /// READ KEYS: one key for each registration.
    pub fn keys(self) -> impl Iterator<Item = Key> + 'a {
        self.0.registrations.iter().map(|registration| registration.key)
    }

    /// READ RESERVATION: the type, and the holder's key unless all registrants hold it.
    pub fn reservation(self) -> Option<(Option<Key>, ReservationType)> {
        let held = self.0.held.as_ref()?;
        Some((held.holder.as_ref().and_then(|holder| self.0.key_of(holder)), held.kind))
    }

    /// READ FULL STATUS.
    pub fn registrants(self) -> impl ExactSizeIterator<Item = Registrant<'a>> {
        let Report(state) = self;
        state.registrations.iter().map(|registration| Registrant {
            nexus: &registration.nexus,
            key: registration.key,
            holds: state.held.as_ref().filter(|_| state.is_holder(&registration.nexus)).map(|held| held.kind),
        })
    }

    /// REPORT CAPABILITIES.
    pub fn capabilities(self) -> Capabilities {
        Capabilities {
            replaces_lost: true,
            compatible_handling: true,
            specifies_initiator_ports: true,
            all_target_ports: true,
            can_last: true,
            lasting: self.0.lasting,
            types: &ReservationType::ALL,
            registrations_max: REGISTRATIONS_MAX,
        }
    }
}
