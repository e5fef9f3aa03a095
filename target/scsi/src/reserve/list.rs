//! What a PERSISTENT RESERVE OUT asks for. SPC-4 §6.16.1 "PERSISTENT RESERVE OUT command introduction", §6.16.3 "Basic
//! PERSISTENT RESERVE OUT parameter list", §6.16.4 "Parameter list for the PERSISTENT RESERVE OUT command with REGISTER AND
//! MOVE service action".

use holdfast_block::reservations::{
    InitiatorPort, Key, Nexus as PortPair, Reach, Request, ReservationType, TargetPort,
};

use super::transport_id::{self, Named};
use crate::ports::RELATIVE_PORT;
use crate::sense::Sense;

/// Length of the list without TransportIDs.
pub(super) const LIST_LEN: usize = 24;
/// Where TransportIDs begin that SPEC_I_PT announces: behind their length.
const IDS_AT: usize = 28;
/// Initiator ports that one list may name. A list is bounded, but a TransportID may be for all ports of an initiator.
const PORTS_MAX: usize = 1024;

/// SPEC_I_PT, ALL_TG_PT, APTPL of byte 20.
const SPEC_I_PT: u8 = 0x08;
const ALL_TG_PT: u8 = 0x04;
const APTPL: u8 = 0x01;
/// UNREG, and APTPL, of byte 17 of REGISTER AND MOVE's list.
const UNREG: u8 = 0x02;

/// A service action, and the type where it has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Register,
    Reserve(ReservationType),
    Release(ReservationType),
    Clear,
    Preempt(Option<ReservationType>),
    PreemptAndAbort(Option<ReservationType>),
    RegisterAndIgnore,
    RegisterAndMove,
    ReplaceLost(ReservationType),
}

/// What the CDB asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Asked {
    action: Action,
    list_len: u32,
}

/// A request, and where in its list each of the initiators was named that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parameters {
    pub(super) request: Request,
    pub(super) places: Vec<u16>,
}

impl Asked {
    /// Judges SERVICE ACTION, SCOPE and TYPE, and what can be said of the length before the list has come.
    pub(super) fn read((action, scope, kind): (u16, u8, u8), list_len: u32) -> Result<Asked, Sense> {
        let typed = || {
            // LU_SCOPE is the only one.
            if scope != 0 {
                return Err(Sense::invalid_in_cdb(2, Some(7)));
            }
            type_of(kind).ok_or(Sense::invalid_in_cdb(2, Some(3)))
        };
        let action = match action {
            0 => Action::Register,
            1 => Action::Reserve(typed()?),
            2 => Action::Release(typed()?),
            3 => Action::Clear,
            // Both are ignored where registrations alone are taken away.
            4 => Action::Preempt(typed().ok()),
            5 => Action::PreemptAndAbort(typed().ok()),
            6 => Action::RegisterAndIgnore,
            7 => Action::RegisterAndMove,
            8 => Action::ReplaceLost(typed()?),
            _ => return Err(Sense::invalid_in_cdb(1, Some(4))),
        };
        let len = usize::try_from(list_len).unwrap_or(usize::MAX);
        let fits = match action {
            Action::Register => len == LIST_LEN || len >= IDS_AT,
            Action::RegisterAndMove => len > LIST_LEN,
            _ => len == LIST_LEN,
        };
        if fits { Ok(Asked { action, list_len }) } else { Err(Sense::PARAMETER_LIST_LENGTH) }
    }

    /// Judges the list. `target`: through which port it came, the only one through which the target reaches its units;
    /// `known`: the ports of an initiator that have been here.
    pub(super) fn list(
        self,
        bytes: &[u8],
        target: TargetPort,
        known: &dyn Fn(&str) -> Vec<InitiatorPort>,
    ) -> Result<Parameters, Sense> {
        let expected = usize::try_from(self.list_len).unwrap_or(usize::MAX);
        let (head, rest) = bytes.split_first_chunk::<LIST_LEN>().ok_or(Sense::PARAMETER_LIST_LENGTH)?;
        if bytes.len() != expected {
            return Err(Sense::PARAMETER_LIST_LENGTH);
        }
        if self.action == Action::RegisterAndMove {
            return move_list(head, rest, target);
        }
        let [.., flags, _, _, _] = *head;
        let (initiators, places) = match (flags & SPEC_I_PT != 0, self.action) {
            (true, Action::Register) => {
                let (initiators, places) = read_ids(rest, known)?;
                (Some(initiators), places)
            }
            (true, _) => return Err(Sense::invalid_in_parameters(20, Some(3))),
            (false, _) if !rest.is_empty() => return Err(Sense::PARAMETER_LIST_LENGTH),
            (false, _) => (None, Vec::new()),
        };
        let all_ports = if flags & ALL_TG_PT != 0 { vec![target] } else { Vec::new() };
        let request = self.request(head, all_ports, initiators);
        Ok(Parameters { request, places })
    }

    fn request(
        self,
        head: &[u8; LIST_LEN],
        all_ports: Vec<TargetPort>,
        initiators: Option<Vec<InitiatorPort>>,
    ) -> Request {
        let (key, new) = (key_at(head, 0), key_at(head, 8));
        let [.., flags, _, _, _] = *head;
        let lasting = Some(flags & APTPL != 0);
        match self.action {
            Action::Register | Action::RegisterAndMove => {
                Request::Register { key, new, lasting, reach: Reach { all_ports, initiators } }
            }
            Action::RegisterAndIgnore => Request::RegisterAndIgnore { new, lasting, all_ports },
            Action::Reserve(kind) => Request::Reserve { key, kind },
            Action::Release(kind) => Request::Release { key, kind },
            Action::Clear => Request::Clear { key },
            Action::Preempt(kind) => Request::Preempt { key, new, kind, abort: false },
            Action::PreemptAndAbort(kind) => Request::Preempt { key, new, kind, abort: true },
            Action::ReplaceLost(kind) => Request::ReplaceLost { key, new, kind, lasting },
        }
    }
}

/// The list of REGISTER AND MOVE.
fn move_list(head: &[u8; LIST_LEN], rest: &[u8], target: TargetPort) -> Result<Parameters, Sense> {
    let [.., flags, port_high, port_low, len_3, len_2, len_1, len_0] = *head;
    let len = u32::from_be_bytes([len_3, len_2, len_1, len_0]);
    if usize::try_from(len).ok() != Some(rest.len()) {
        return Err(Sense::invalid_in_parameters(20, None));
    }
    if u16::from_be_bytes([port_high, port_low]) != RELATIVE_PORT {
        return Err(Sense::invalid_in_parameters(18, None));
    }
    // One port, and nothing behind it: a reservation has one holder.
    let Some((Named::Port(initiator), [])) = transport_id::read(rest) else {
        return Err(Sense::invalid_in_parameters(u16::try_from(LIST_LEN).unwrap_or(0), None));
    };
    let request = Request::Move {
        key: key_at(head, 0),
        new: key_at(head, 8),
        lasting: Some(flags & APTPL != 0),
        to: PortPair::Scsi { initiator, target },
        leave: flags & UNREG != 0,
    };
    Ok(Parameters { request, places: Vec::new() })
}

/// Additional parameter data: a length, and so many bytes of TransportIDs. Gives the ports, and where each was named.
fn read_ids(
    rest: &[u8],
    known: &dyn Fn(&str) -> Vec<InitiatorPort>,
) -> Result<(Vec<InitiatorPort>, Vec<u16>), Sense> {
    let (len, mut ids) = rest.split_first_chunk::<4>().ok_or(Sense::PARAMETER_LIST_LENGTH)?;
    if usize::try_from(u32::from_be_bytes(*len)).ok() != Some(ids.len()) {
        return Err(Sense::invalid_in_parameters(24, None));
    }
    let (mut ports, mut places) = (Vec::new(), Vec::new());
    let end = IDS_AT + ids.len();
    while !ids.is_empty() {
        let place = u16::try_from(end - ids.len()).unwrap_or(u16::MAX);
        let wrong = Sense::invalid_in_parameters(place, None);
        let (named, behind) = transport_id::read(ids).ok_or(wrong)?;
        ids = behind;
        match named {
            Named::Port(port) => ports.push(port),
            Named::Device(name) => ports.extend(known(&name)),
        }
        if ports.len() > PORTS_MAX {
            return Err(wrong);
        }
        places.resize(ports.len(), place);
    }
    Ok((ports, places))
}

fn key_at(head: &[u8; LIST_LEN], at: usize) -> Option<Key> {
    let bytes = head.get(at..).and_then(|tail| tail.first_chunk()).copied().unwrap_or_default();
    Key::new(u64::from_be_bytes(bytes))
}

/// TYPE. SPC-4 §6.15.3.4 "Type".
pub(super) fn code_of(kind: ReservationType) -> u8 {
    match kind {
        ReservationType::WriteExclusive => 1,
        ReservationType::ExclusiveAccess => 3,
        ReservationType::WriteExclusiveRegistrantsOnly => 5,
        ReservationType::ExclusiveAccessRegistrantsOnly => 6,
        ReservationType::WriteExclusiveAllRegistrants => 7,
        ReservationType::ExclusiveAccessAllRegistrants => 8,
    }
}

fn type_of(code: u8) -> Option<ReservationType> {
    ReservationType::ALL.into_iter().find(|kind| code_of(*kind) == code)
}
