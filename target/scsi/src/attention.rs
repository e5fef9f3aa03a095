//! Unit attention conditions. SAM-5 §5.14 "Unit attention conditions".
//!
//! Each nexus keeps those of each of its logical units. One is told with the next command that may tell it, and is over with
//! that.

use holdfast_block::reservations;

use crate::sense::{Sense, SenseKey};

/// What an initiator has to be told. In the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attention {
    /// POWER ON, RESET, OR BUS DEVICE RESET OCCURRED: the first session of this initiator port.
    PowerOn,
    /// BUS DEVICE RESET FUNCTION OCCURRED: the logical unit was reset.
    Reset,
    /// I_T NEXUS LOSS OCCURRED: an earlier session of this initiator port has ended.
    NexusLoss,
    /// COMMANDS CLEARED BY ANOTHER INITIATOR.
    CommandsCleared,
    /// RESERVATIONS PREEMPTED.
    ReservationsPreempted,
    /// RESERVATIONS RELEASED.
    ReservationsReleased,
    /// REGISTRATIONS PREEMPTED.
    RegistrationsPreempted,
    /// CAPACITY DATA HAS CHANGED.
    CapacityChanged,
    /// MODE PARAMETERS CHANGED.
    ModeChanged,
    /// REPORTED LUNS DATA HAS CHANGED.
    LunsChanged,
}

impl From<reservations::Attention> for Attention {
    fn from(attention: reservations::Attention) -> Self {
        match attention {
            reservations::Attention::ReservationsPreempted => Attention::ReservationsPreempted,
            reservations::Attention::ReservationsReleased => Attention::ReservationsReleased,
            reservations::Attention::RegistrationsPreempted => Attention::RegistrationsPreempted,
        }
    }
}

impl Attention {
    const ALL: [Attention; 10] = [
        Attention::PowerOn,
        Attention::Reset,
        Attention::NexusLoss,
        Attention::CommandsCleared,
        Attention::ReservationsPreempted,
        Attention::ReservationsReleased,
        Attention::RegistrationsPreempted,
        Attention::CapacityChanged,
        Attention::ModeChanged,
        Attention::LunsChanged,
    ];

    fn bit(self) -> u16 {
        1 << Attention::ALL.iter().take_while(|other| **other < self).count()
    }

    /// Whether it is told even to those that a reservation of others keeps out: after a power on, a reset, and the loss of
    /// the nexus. SAM-5 §5.3.3 "Status precedence".
    pub(crate) fn precedes_conflicts(self) -> bool {
        matches!(self, Attention::PowerOn | Attention::Reset | Attention::NexusLoss)
    }

    /// What it is told with. SPC-4 §4.5.6, table of additional sense codes.
    pub fn sense(self) -> Sense {
        let (asc, ascq) = match self {
            // Stock initiators know this one: iscsi-ls waits for no other.
            Attention::PowerOn => (0x29, 0x00),
            Attention::Reset => (0x29, 0x03),
            Attention::NexusLoss => (0x29, 0x07),
            Attention::CommandsCleared => (0x2f, 0x00),
            Attention::ReservationsPreempted => (0x2a, 0x03),
            Attention::ReservationsReleased => (0x2a, 0x04),
            Attention::RegistrationsPreempted => (0x2a, 0x05),
            Attention::CapacityChanged => (0x2a, 0x09),
            Attention::ModeChanged => (0x2a, 0x01),
            Attention::LunsChanged => (0x3f, 0x0e),
        };
        Sense::new(SenseKey::UnitAttention, asc, ascq)
    }
}

/// Those of one logical unit that have not been told yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Attentions(u16);

impl Attentions {
    /// Adds one. A reset makes all before it pointless, but for a power on: §5.14 table of precedence.
    pub(crate) fn add(&mut self, attention: Attention) {
        self.0 = match attention {
            Attention::PowerOn => attention.bit(),
            Attention::Reset => (self.0 & Attention::PowerOn.bit()) | attention.bit(),
            _ => self.0 | attention.bit(),
        };
        if self.0 & Attention::PowerOn.bit() != 0 {
            self.0 &= !(Attention::Reset.bit() | Attention::NexusLoss.bit());
        }
    }

    /// The next one to tell.
    pub(crate) fn first(self) -> Option<Attention> {
        if self.is_empty() {
            return None;
        }
        Attention::ALL.into_iter().find(|attention| self.0 & attention.bit() != 0)
    }

    pub(crate) fn remove(&mut self, attention: Attention) {
        self.0 &= !attention.bit();
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(attentions: &[Attention]) -> Vec<Attention> {
        let mut set = Attentions::default();
        attentions.iter().for_each(|attention| set.add(*attention));
        std::iter::from_fn(|| set.first().inspect(|told| set.remove(*told))).collect()
    }

    #[test]
    fn each_is_told_once_in_order() {
        use Attention::{CapacityChanged, LunsChanged, ModeChanged, NexusLoss};
        let added = [LunsChanged, ModeChanged, CapacityChanged, NexusLoss, ModeChanged];
        assert_eq!(told(&added), [NexusLoss, CapacityChanged, ModeChanged, LunsChanged]);
    }

    #[test]
    fn a_reset_stands_for_what_was_before_it() {
        use Attention::{ModeChanged, PowerOn, Reset};
        assert_eq!(told(&[ModeChanged, Reset]), [Reset]);
        assert_eq!(told(&[Reset, ModeChanged]), [Reset, ModeChanged]);
        assert_eq!(told(&[ModeChanged, PowerOn, Reset]), [PowerOn]);
    }

    #[test]
    fn every_one_has_a_bit_of_its_own() {
        let bits = Attention::ALL.into_iter().fold(0, |bits, attention| {
            assert_eq!(bits & attention.bit(), 0);
            bits | attention.bit()
        });
        assert_eq!(bits.count_ones(), 10);
    }
}
