//! How commands end. SAM-5 §5.3 "Status".

use crate::sense::{Ending, Format, Sense, SenseBytes};

/// Status codes. §5.3.1 "Status codes".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Without error.
    Good,
    /// Sense data say what happened.
    CheckCondition,
    /// All that was to be fetched ahead is there.
    ConditionMet,
    /// Try again later.
    Busy,
    /// A reservation of others does not allow it.
    ReservationConflict,
    /// Too many commands.
    TaskSetFull,
    /// Aborted by another initiator.
    TaskAborted,
}

impl Status {
    /// The number on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Status::Good => 0x00,
            Status::CheckCondition => 0x02,
            Status::ConditionMet => 0x04,
            Status::Busy => 0x08,
            Status::ReservationConflict => 0x18,
            Status::TaskSetFull => 0x28,
            Status::TaskAborted => 0x40,
        }
    }
}

/// The end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ended {
    /// How.
    pub status: Status,
    /// With CHECK CONDITION alone, not empty.
    pub sense: SenseBytes,
}

impl Ended {
    /// Without error.
    pub const GOOD: Ended = Ended::plain(Status::Good);

    /// A status that comes without sense data.
    pub const fn plain(status: Status) -> Ended {
        Ended { status, sense: SenseBytes::EMPTY }
    }

    /// CHECK CONDITION.
    pub fn check(sense: &Sense, format: Format) -> Ended {
        Ended { status: Status::CheckCondition, sense: SenseBytes::of(sense, format) }
    }

    /// What the block layer's refusal comes to.
    pub(crate) fn of(ending: Ending, format: Format) -> Ended {
        match ending {
            Ending::Check(sense) => Ended::check(&sense, format),
            Ending::Busy => Ended::plain(Status::Busy),
            Ending::ReservationConflict => Ended::plain(Status::ReservationConflict),
            Ending::Aborted => Ended::plain(Status::TaskAborted),
        }
    }
}
