//! What can be asked of a volume's reservations, and what comes of it.

use super::{InitiatorPort, Key, Nexus, ReservationType, Reservations, TargetPort};

/// A service action of PERSISTENT RESERVE OUT (SPC-4 6.16), RESERVE or RELEASE (6) (SPC-2), or an NVMe reservation command.
///
/// `key` is the key that the asker says it is registered with (RESERVATION KEY, CRKEY), `new` the other one (SERVICE ACTION
/// RESERVATION KEY, NRKEY, PRKEY); zeroes are `None`. `lasting` is APTPL, or CPTPL if it asks for a change.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "the fields mean the same in every variant and are explained above or beside them"
)]
pub enum Request {
    /// REGISTER: makes, changes or, without `new`, removes a registration.
    Register { key: Option<Key>, new: Option<Key>, lasting: Option<bool>, reach: Reach },
    /// REGISTER AND IGNORE EXISTING KEY; NVMe's IEKEY, also for its Replace.
    RegisterAndIgnore { new: Option<Key>, lasting: Option<bool>, all_ports: Vec<TargetPort> },
    /// RESERVE.
    Reserve { key: Option<Key>, kind: ReservationType },
    /// RELEASE.
    Release { key: Option<Key>, kind: ReservationType },
    /// CLEAR.
    Clear { key: Option<Key> },
    /// PREEMPT, or with `abort` PREEMPT AND ABORT. The type is looked at if a reservation is taken over; `None`: there is none such.
    Preempt { key: Option<Key>, new: Option<Key>, kind: Option<ReservationType>, abort: bool },
    /// REGISTER AND MOVE, with UNREG as `leave`.
    Move { key: Option<Key>, new: Option<Key>, lasting: Option<bool>, to: Nexus, leave: bool },
    /// REPLACE LOST RESERVATION.
    ReplaceLost { key: Option<Key>, new: Option<Key>, kind: ReservationType, lasting: Option<bool> },
    /// RESERVE (6).
    LegacyReserve,
    /// RELEASE (6).
    LegacyRelease,
}

/// For whom else a REGISTER is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// ALL_TG_PT: all target ports through which the volume can be reached; empty without the bit.
    pub all_ports: Vec<TargetPort>,
    /// SPEC_I_PT: the initiator ports that the TransportIDs name; `None` without the bit.
    pub initiators: Option<Vec<InitiatorPort>>,
}

/// Why a request was refused: nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// RESERVATION CONFLICT.
    #[error("reservation conflict")]
    Conflict,
    /// ILLEGAL REQUEST, INVALID FIELD IN PARAMETER LIST; NVMe: Invalid Field in Command.
    #[error("a field of the parameter list cannot be: {0:?}")]
    InvalidField(Field),
    /// REGISTER AND MOVE without a reservation: ILLEGAL REQUEST, INVALID FIELD IN CDB.
    #[error("there is no reservation to move")]
    NothingToMove,
    /// PREEMPT of a reservation by one of no type: ILLEGAL REQUEST, INVALID FIELD IN CDB; NVMe: Invalid Field in Command.
    #[error("there is no such type of reservation")]
    NoType,
    /// ILLEGAL REQUEST, INVALID RELEASE OF PERSISTENT RESERVATION; NVMe: Invalid Field in Command.
    #[error("this is not the reservation")]
    InvalidRelease,
    /// ILLEGAL REQUEST, INSUFFICIENT REGISTRATION RESOURCES: [`super::REGISTRATIONS_MAX`] are registered.
    #[error("no room for more registrations")]
    NoRoom,
    /// DATA PROTECT, PERSISTENT RESERVATION INFORMATION LOST.
    #[error("reservations were lost")]
    Lost,
}

/// A field of the parameter list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Field {
    /// RESERVATION KEY, byte 0.
    Key,
    /// SERVICE ACTION RESERVATION KEY, byte 8.
    NewKey,
    /// SPEC_I_PT, byte 20 bit 3.
    SpecInitiatorPorts,
    /// A TransportID: that of REGISTER AND MOVE, or this one of REGISTER's, from 0.
    TransportId(usize),
}

/// What a nexus gets to know. As unit attention conditions, all are 2Ah; as NVMe notifications, see each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Attention {
    /// 03h RESERVATIONS PREEMPTED; NVMe: Reservation Preempted.
    ReservationsPreempted,
    /// 04h RESERVATIONS RELEASED; NVMe: Reservation Released.
    ReservationsReleased,
    /// 05h REGISTRATIONS PREEMPTED; NVMe: Registration Preempted.
    RegistrationsPreempted,
}

/// What others notice of a change.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Who gets which attention: at most one each, never who asked.
    pub attentions: Vec<(Nexus, Attention)>,
    /// Whose commands are to be aborted, all but the request itself; who asked may be among them.
    pub aborted: Vec<Nexus>,
}

/// What has to be kept over a restart, before a change is acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Keep {
    /// What is kept already.
    AsIs,
    /// This in its place.
    Value(Vec<u8>),
    /// Nothing: what is kept has to go.
    Nothing,
}

/// A change that was found right and has not happened yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What will be so then.
    pub next: Reservations,
    /// What others will notice then.
    pub effects: Effects,
    /// What has to be kept first.
    pub keep: Keep,
}
