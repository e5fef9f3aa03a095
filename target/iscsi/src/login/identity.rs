//! Who logs in to what. RFC 7143 §4.2.7 "iSCSI Names", §6.3.1 "Login Phase Start", §13.4 to §13.9 and §13.21.

use std::sync::Arc;

use holdfast_block::{ChapSecrets, Exports, SubsystemId};

use crate::login::status::LoginStatus;

/// Longest iSCSI name in bytes. RFC 7143 §4.2.7.2 "iSCSI Name Encoding".
const NAME_LEN_MAX: usize = 223;

/// What the first text of a login says.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    /// InitiatorName, normalised.
    pub(super) initiator: String,
    /// `None`: discovery.
    pub(super) target: Option<SubsystemId>,
    /// What the host on record can prove itself with.
    pub(super) secrets: Option<Arc<ChapSecrets>>,
}

impl Identity {
    /// Judges the keys that identify: of the initiator, the target, and the type of the session.
    pub(super) fn of(pairs: &[(&str, &str)], exports: &Exports) -> Result<Identity, LoginStatus> {
        let value = |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
        let initiator = value("InitiatorName").ok_or(LoginStatus::MissingParameter)?;
        let initiator = normalised(initiator).ok_or(LoginStatus::InitiatorError)?;
        let host = exports.host_by_iqn(&initiator);
        let secrets = host.and_then(|host| host.chap.clone());
        match value("SessionType").unwrap_or("Normal") {
            "Normal" => {}
            "Discovery" => return Ok(Identity { initiator, target: None, secrets }),
            _ => return Err(LoginStatus::SessionTypeNotSupported),
        }
        let target = value("TargetName").ok_or(LoginStatus::MissingParameter)?;
        let target = normalised(target).ok_or(LoginStatus::NotFound)?;
        let subsystem = exports.subsystem_by_iqn(&target).ok_or(LoginStatus::NotFound)?;
        let access = exports.access(subsystem, host.map(|host| host.id));
        access.ok_or(LoginStatus::AuthorizationFailure)?;
        Ok(Identity { initiator, target: Some(subsystem.id), secrets })
    }

    /// Whether the initiator has to prove itself.
    pub(super) fn must_prove(&self) -> bool {
        self.target.is_some() && self.secrets.is_some()
    }
}

/// An iSCSI name as it is compared: `iqn.`, `eui.` or `naa.`, at most 223 bytes, no white space or signs that names cannot have.
/// Initiators are to send it in lower case.
fn normalised(name: &str) -> Option<String> {
    let name = name.to_ascii_lowercase();
    let hex = |digits: &str| digits.chars().all(|digit| digit.is_ascii_hexdigit());
    let formed = match name.split_once('.')? {
        ("iqn", own) => !own.is_empty() && own.chars().all(is_of_name),
        ("eui", own) => own.len() == 16 && hex(own),
        ("naa", own) => matches!(own.len(), 16 | 32) && hex(own),
        _ => false,
    };
    (formed && name.len() <= NAME_LEN_MAX).then_some(name)
}

/// Letters and digits of any language; of ASCII's other signs only three. RFC 7143 §4.2.7.2.
fn is_of_name(c: char) -> bool {
    c.is_alphanumeric()
        || matches!(c, '-' | '.' | ':')
        || !(c.is_ascii() || c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_a_form() {
        for good in [
            "iqn.1993-08.org.debian:01:abc",
            "iqn.2026-11.io.holdfast:a-b.c",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
            "naa.62004567ba64678d0123456789abcdef",
            "iqn.2001-04.com.example:größe",
        ] {
            assert_eq!(normalised(good).as_deref(), Some(good));
        }
        assert_eq!(normalised("IQN.2001-04.COM.x").as_deref(), Some("iqn.2001-04.com.x"));
        for bad in
            ["", "iqn", "iqn.", "host", "iqn.a b", "iqn.a\u{1}", "iqn.a,b", "iqn.a/b", "eui.12", "naa.x"]
        {
            assert_eq!(normalised(bad), None, "{bad:?}");
        }
        assert!(normalised(&format!("iqn.{}", "x".repeat(219))).is_some());
        assert!(normalised(&format!("iqn.{}", "x".repeat(220))).is_none());
    }
}
