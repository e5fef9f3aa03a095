//! The operational keys, and what becomes of them. RFC 7143 §13 "Login/Text Operational Text Keys".
//!
//! We answer, the initiator proposes; the one value that we give on our own is MaxRecvDataSegmentLength.

use crate::negotiation_limits::{FIRST_BURST_MAX, MAX_BURST_MAX, MAX_RECV_DATA_SEGMENT, OUTSTANDING_R2T_MAX};
use crate::text::number;

/// What was agreed. Lengths in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Params {
    /// CRC32C over headers.
    pub header_digest: bool,
    /// CRC32C over data.
    pub data_digest: bool,
    /// Data waits for an R2T, apart from immediate data.
    pub initial_r2t: bool,
    /// Data may come with its command.
    pub immediate_data: bool,
    /// Most unsolicited data of a command.
    pub first_burst_len: u32,
    /// Most data of one R2T, and of one sequence of Data-In.
    pub max_burst_len: u32,
    /// Longest data segment that the initiator takes.
    pub max_recv_initiator: u32,
    /// Longest data segment that we take.
    pub max_recv_target: u32,
    /// R2Ts of one task at once.
    pub max_outstanding_r2t: u16,
    /// DefaultTime2Wait.
    pub time2wait_s: u16,
    /// DefaultTime2Retain: 0 when the initiator negotiates it at all, as nothing is kept for a connection that is gone.
    pub time2retain_s: u16,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            header_digest: false,
            data_digest: false,
            initial_r2t: true,
            immediate_data: true,
            first_burst_len: 65_536,
            max_burst_len: 262_144,
            max_recv_initiator: 8192,
            max_recv_target: 8192,
            max_outstanding_r2t: 1,
            time2wait_s: 2,
            time2retain_s: 20,
        }
    }
}

impl Params {
    /// With what the standard leaves to us: FirstBurstLength never exceeds MaxBurstLength, though its default may.
    pub(crate) fn settled(mut self) -> Params {
        self.first_burst_len = self.first_burst_len.min(self.max_burst_len);
        self
    }

    /// What holds for a session with any connection, when a new connection takes its place.
    pub(crate) fn of_session(self) -> Params {
        let fresh = Params::default();
        Params {
            header_digest: fresh.header_digest,
            data_digest: fresh.data_digest,
            max_recv_initiator: fresh.max_recv_initiator,
            max_recv_target: fresh.max_recv_target,
            ..self
        }
    }
}

/// What becomes of a proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reply {
    /// This was agreed.
    Value(String),
    /// A value that cannot be: what held before holds on.
    Reject,
    /// It has no meaning here.
    Irrelevant,
    /// No such operational key.
    NotUnderstood,
    /// A declaration: nothing to answer.
    Silence,
    /// The negotiation has failed.
    Failed,
}

/// Words that answer, and are never proposed. RFC 7143 §6.2 "Text Mode Negotiation".
const ANSWERS: [&str; 3] = ["Reject", "Irrelevant", "NotUnderstood"];

/// Lengths of bursts and data segments: from 512 to 2^24 - 1.
const LENGTHS: std::ops::RangeInclusive<u32> = 512..=0x00ff_ffff;

/// Whether the key is one of those that are negotiated in the operational stage.
pub(crate) fn is_operational(key: &str) -> bool {
    negotiate(&mut Params::default(), false, key, "") != Reply::NotUnderstood
}

/// Known keys that are never negotiated: who is who, what targets tell, and what proves it.
pub(crate) fn is_declared(key: &str) -> bool {
    let known = [
        "InitiatorName",
        "TargetName",
        "SessionType",
        "TargetAlias",
        "TargetAddress",
        "TargetPortalGroupTag",
        "SendTargets",
        "AuthMethod",
    ];
    known.contains(&key) || key.starts_with("CHAP_")
}

/// Keys that mean nothing without SCSI commands: "Irrelevant when: SessionType=Discovery".
fn is_for_commands(key: &str) -> bool {
    matches!(
        key,
        "MaxConnections"
            | "InitialR2T"
            | "ImmediateData"
            | "MaxBurstLength"
            | "FirstBurstLength"
            | "MaxOutstandingR2T"
            | "DataPDUInOrder"
            | "DataSequenceInOrder"
            | "TaskReporting"
            | "iSCSIProtocolLevel"
    )
}

/// Settles a proposal. FirstBurstLength comes last of its text: it depends on others.
pub(crate) fn negotiate(params: &mut Params, discovery: bool, key: &str, value: &str) -> Reply {
    if ANSWERS.contains(&value) {
        return Reply::Failed;
    }
    if discovery && is_for_commands(key) {
        return Reply::Irrelevant;
    }
    match key {
        "HeaderDigest" => digest(value, &mut params.header_digest),
        "DataDigest" => digest(value, &mut params.data_digest),
        "InitialR2T" => boolean(value, |offer| offer, &mut params.initial_r2t),
        "ImmediateData" => boolean(value, |offer| offer, &mut params.immediate_data),
        // Both are on: their function is OR.
        "DataPDUInOrder" | "DataSequenceInOrder" => boolean(value, |_| true, &mut true),
        "MaxRecvDataSegmentLength" => declare_len(value, &mut params.max_recv_initiator),
        "MaxBurstLength" => least(value, LENGTHS, MAX_BURST_MAX, |agreed| params.max_burst_len = agreed),
        "FirstBurstLength" if params.initial_r2t && !params.immediate_data => Reply::Irrelevant,
        "FirstBurstLength" => {
            let ours = FIRST_BURST_MAX.min(params.max_burst_len);
            least(value, LENGTHS, ours, |agreed| params.first_burst_len = agreed)
        }
        "MaxOutstandingR2T" => least(value, 1..=65_535, OUTSTANDING_R2T_MAX, |agreed| {
            params.max_outstanding_r2t = u16::try_from(agreed).unwrap_or(1);
        }),
        "MaxConnections" => least(value, 1..=65_535, 1, |_| ()),
        "ErrorRecoveryLevel" => least(value, 0..=2, 0, |_| ()),
        // Its function is the maximum, and we need none: whoever comes again may do so at once.
        "DefaultTime2Wait" => least(value, 0..=3600, 3600, |agreed| {
            params.time2wait_s = u16::try_from(agreed).unwrap_or(0);
        }),
        "DefaultTime2Retain" => least(value, 0..=3600, 0, |_| params.time2retain_s = 0),
        "iSCSIProtocolLevel" => least(value, 0..=31, 1, |_| ()),
        "TaskReporting" => first_of(value, &["RFC3720", "ResponseFence"]),
        // RFC 7143 §13.22 "Obsoleted Keys": refused, but never as if they were unknown.
        "IFMarker" | "OFMarker" | "IFMarkInt" | "OFMarkInt" => Reply::Reject,
        "X#NodeArchitecture" => Reply::Silence,
        _ => Reply::NotUnderstood,
    }
}

/// What we declare of ourselves.
pub(crate) fn declare(params: &mut Params) -> (&'static str, String) {
    params.max_recv_target = MAX_RECV_DATA_SEGMENT;
    ("MaxRecvDataSegmentLength", MAX_RECV_DATA_SEGMENT.to_string())
}

/// A longest data segment that the initiator declares.
pub(crate) fn declare_len(value: &str, field: &mut u32) -> Reply {
    match number(value).filter(|len| LENGTHS.contains(len)) {
        Some(len) => {
            *field = len;
            Reply::Silence
        }
        None => Reply::Failed,
    }
}

fn boolean(value: &str, agree: impl Fn(bool) -> bool, field: &mut bool) -> Reply {
    let offer = match value {
        "Yes" => true,
        "No" => false,
        _ => return Reply::Reject,
    };
    *field = agree(offer);
    Reply::Value(if *field { "Yes" } else { "No" }.to_owned())
}

/// The smaller of both numbers.
fn least(value: &str, range: std::ops::RangeInclusive<u32>, ours: u32, mut store: impl FnMut(u32)) -> Reply {
    let Some(offer) = number(value).filter(|offer| range.contains(offer)) else { return Reply::Reject };
    let agreed = offer.min(ours);
    store(agreed);
    Reply::Value(agreed.to_string())
}

/// The first of the proposed values that we know.
fn first_of(list: &str, known: &[&str]) -> Reply {
    match list.split(',').find(|value| known.contains(value)) {
        Some(value) => Reply::Value(value.to_owned()),
        None => Reply::Reject,
    }
}

fn digest(list: &str, field: &mut bool) -> Reply {
    let reply = first_of(list, &["None", "CRC32C"]);
    if let Reply::Value(value) = &reply {
        *field = value == "CRC32C";
    }
    reply
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Reply {
        Reply::Value(text.to_owned())
    }

    #[test]
    fn every_key_has_its_result_function() {
        for (key, offer, reply) in [
            ("HeaderDigest", "CRC32C,None", value("CRC32C")),
            ("HeaderDigest", "None,CRC32C", value("None")),
            ("DataDigest", "X-new,CRC32C", value("CRC32C")),
            ("DataDigest", "X-new", Reply::Reject),
            ("DataDigest", "", Reply::Reject),
            ("MaxConnections", "8", value("1")),
            ("MaxConnections", "0", Reply::Reject),
            ("InitialR2T", "No", value("No")),
            ("InitialR2T", "Yes", value("Yes")),
            ("InitialR2T", "yes", Reply::Reject),
            ("ImmediateData", "No", value("No")),
            ("ImmediateData", "Yes", value("Yes")),
            ("MaxBurstLength", "16776192", value("1048576")),
            ("MaxBurstLength", "0x200", value("512")),
            ("MaxBurstLength", "511", Reply::Reject),
            ("MaxBurstLength", "16777216", Reply::Reject),
            ("FirstBurstLength", "16777215", value("262144")),
            ("FirstBurstLength", "65536", value("65536")),
            ("DefaultTime2Wait", "0", value("0")),
            ("DefaultTime2Wait", "3600", value("3600")),
            ("DefaultTime2Wait", "3601", Reply::Reject),
            ("DefaultTime2Retain", "20", value("0")),
            ("MaxOutstandingR2T", "65535", value("16")),
            ("MaxOutstandingR2T", "65536", Reply::Reject),
            ("DataPDUInOrder", "No", value("Yes")),
            ("DataSequenceInOrder", "No", value("Yes")),
            ("ErrorRecoveryLevel", "2", value("0")),
            ("ErrorRecoveryLevel", "3", Reply::Reject),
            ("IFMarker", "No", Reply::Reject),
            ("OFMarker", "Yes", Reply::Reject),
            ("IFMarkInt", "2048~8192", Reply::Reject),
            ("OFMarkInt", "2048", Reply::Reject),
            ("TaskReporting", "FastAbort,ResponseFence,RFC3720", value("ResponseFence")),
            ("iSCSIProtocolLevel", "2", value("1")),
            ("iSCSIProtocolLevel", "32", Reply::Reject),
            ("MaxRecvDataSegmentLength", "511", Reply::Failed),
            ("MaxRecvDataSegmentLength", "16777215", Reply::Silence),
            ("MaxRecvDataSegmentLength", "16777216", Reply::Failed),
            ("X#NodeArchitecture", "hw/1", Reply::Silence),
            ("X-com.example.key", "1", Reply::NotUnderstood),
            ("MaxBurstLength", "NotUnderstood", Reply::Failed),
        ] {
            assert_eq!(negotiate(&mut Params::default(), false, key, offer), reply, "{key}={offer}");
        }
    }

    #[test]
    fn a_first_burst_without_unsolicited_data_is_irrelevant() {
        let mut params = Params { immediate_data: false, ..Params::default() };
        assert_eq!(negotiate(&mut params, false, "FirstBurstLength", "4096"), Reply::Irrelevant);
        params.initial_r2t = false;
        assert_eq!(negotiate(&mut params, false, "FirstBurstLength", "4096"), value("4096"));
    }

    #[test]
    fn a_first_burst_is_never_longer_than_a_burst() {
        let mut params = Params::default();
        assert_eq!(negotiate(&mut params, false, "MaxBurstLength", "4096"), value("4096"));
        assert_eq!(params.settled().first_burst_len, 4096);
        assert_eq!(negotiate(&mut params, false, "FirstBurstLength", "8192"), value("4096"));
    }

    #[test]
    fn discovery_has_no_commands_to_negotiate_for() {
        let mut params = Params::default();
        for key in ["MaxConnections", "InitialR2T", "MaxBurstLength", "TaskReporting"] {
            assert_eq!(negotiate(&mut params, true, key, "1"), Reply::Irrelevant, "{key}");
        }
        assert_eq!(negotiate(&mut params, true, "ErrorRecoveryLevel", "2"), value("0"));
        assert_eq!(negotiate(&mut params, true, "HeaderDigest", "CRC32C"), value("CRC32C"));
    }

    #[test]
    fn a_rejected_proposal_leaves_what_held() {
        let mut params = Params::default();
        for key in ["MaxBurstLength", "FirstBurstLength", "MaxOutstandingR2T", "InitialR2T", "DataDigest"] {
            assert_eq!(negotiate(&mut params, false, key, "junk"), Reply::Reject);
        }
        assert_eq!(params, Params::default());
    }
}
