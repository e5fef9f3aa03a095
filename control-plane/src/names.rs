//! Names by their grammars, so that nothing further in can hold a bad one.
//!
//! - object names: `[a-z0-9][a-z0-9._-]{0,62}`, subsystems without `_`, which an iSCSI name cannot hold;
//! - NQN: NVMe Base 2.1, 4.7 "NVMe Qualified Names";
//! - iSCSI name: RFC 7143, 4.2.7 "iSCSI Names", in the ASCII form that RFC 3722 "String Profile for iSCSI Names" leaves.

use std::fmt;

use serde::Serialize;
use utoipa::ToSchema;

/// Longest NQN and iSCSI name in bytes (NVMe Base 2.1, 4.7; RFC 7143, 4.2.7.2).
pub const QUALIFIED_NAME_BYTES_MAX: usize = 223;
/// Longest object name in bytes.
pub const NAME_BYTES_MAX: usize = 63;

/// The well-known discovery subsystem; nobody else may be called so (NVMe Base 2.1, 4.7).
const DISCOVERY_NQN: &str = "nqn.2014-08.org.nvmexpress.discovery";
const UUID_NQN_PREFIX: &str = "nqn.2014-08.org.nvmexpress:uuid:";

/// Why a text is not a name of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The object name grammar.
    #[error("a name is 1 to 63 of a-z 0-9 . _ - and begins with a letter or digit")]
    Name,
    /// The same, for subsystems.
    #[error("a subsystem's name is 1 to 63 of a-z 0-9 . - and begins with a letter or digit")]
    SubsystemName,
    /// Too long for a qualified name.
    #[error("longer than 223 bytes")]
    TooLong,
    /// Neither form of an NQN.
    #[error("an NQN is nqn.yyyy-mm.reverse.domain:text or nqn.2014-08.org.nvmexpress:uuid:UUID")]
    Nqn,
    /// The discovery NQN.
    #[error("this NQN is reserved for the discovery subsystem")]
    DiscoveryNqn,
    /// No form of an iSCSI name.
    #[error(
        "an iSCSI name is iqn.yyyy-mm.reverse.domain[:text], eui. and 16 or naa. and 16 or 32 hex digits, all in lower case"
    )]
    Iqn,
}

macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
        $(#[$doc])*
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_newtype! {
    /// The name of a pool, volume or host.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,62}$", min_length = 1, max_length = 63)]
    Name
}
text_newtype! {
    /// The name of a subsystem.
    #[schema(pattern = "^[a-z0-9][a-z0-9.-]{0,62}$", min_length = 1, max_length = 63)]
    SubsystemName
}
text_newtype! {
    /// An NVMe qualified name (NVMe Base 2.1, 4.7): `nqn.yyyy-mm.reverse.domain:text`, or
    /// `nqn.2014-08.org.nvmexpress:uuid:UUID`. At most 223 bytes; the discovery NQN is refused.
    #[schema(pattern = r"^nqn\.[^\s\u0000-\u001f\u007f-\u009f]+$", max_length = 223, example = "nqn.2014-08.org.nvmexpress:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6")]
    Nqn
}
text_newtype! {
    /// An iSCSI name (RFC 7143, 4.2.7) in lower case (RFC 3722): `iqn.yyyy-mm.reverse.domain[:text]`, `eui.` and 16 or
    /// `naa.` and 16 or 32 hex digits. At most 223 bytes.
    #[schema(pattern = r"^(iqn\.[0-9]{4}-(0[1-9]|1[0-2])(\.[a-z0-9-]+)+(:[a-z0-9.:-]+)?|eui\.[0-9a-f]{16}|naa\.([0-9a-f]{16}){1,2})$", max_length = 223, example = "iqn.1993-08.org.debian:01:abcdef")]
    Iqn
}

impl Name {
    /// Checks the grammar.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_object_name(text) { Ok(Self(text.to_owned())) } else { Err(NameError::Name) }
    }
}

impl SubsystemName {
    /// Checks the grammar.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if is_object_name(text) && !text.contains('_') {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError::SubsystemName)
        }
    }

    /// The NQN of a subsystem that was given none.
    pub fn default_nqn(&self) -> Nqn {
        Nqn(format!("nqn.2026-11.io.holdfast:{}", self.0))
    }

    /// The IQN of a subsystem that was given none.
    pub fn default_iqn(&self) -> Iqn {
        Iqn(format!("iqn.2026-11.io.holdfast:{}", self.0))
    }
}

impl Nqn {
    /// Checks length and form; the discovery NQN is refused.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > QUALIFIED_NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if text == DISCOVERY_NQN {
            return Err(NameError::DiscoveryNqn);
        }
        let well_formed = match text.strip_prefix(UUID_NQN_PREFIX) {
            Some(uuid) => is_uuid(uuid),
            None => text.strip_prefix("nqn.").is_some_and(|rest| {
                let (authority, owned) = rest.split_once(':').unwrap_or((rest, ""));
                is_naming_authority(authority) && !owned.is_empty() && owned.chars().all(is_printable)
            }),
        };
        if well_formed { Ok(Self(text.to_owned())) } else { Err(NameError::Nqn) }
    }

    /// Checks a host's NQN as the target does at Connect, where hosts are not held to the naming authority's form: one that
    /// was recorded on its first connection must be registrable.
    pub fn parse_host(text: &str) -> Result<Self, NameError> {
        let own = text.strip_prefix("nqn.").unwrap_or_default();
        if text.len() <= QUALIFIED_NAME_BYTES_MAX && !own.is_empty() && own.chars().all(is_printable) {
            return if text == DISCOVERY_NQN {
                Err(NameError::DiscoveryNqn)
            } else {
                Ok(Self(text.to_owned()))
            };
        }
        Self::parse(text)
    }
}

impl Iqn {
    /// Checks length, form and case.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        if text.len() > QUALIFIED_NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        let well_formed = if let Some(rest) = text.strip_prefix("iqn.") {
            let (authority, owned) = rest.split_once(':').unwrap_or((rest, "-"));
            is_naming_authority(authority)
                && !owned.is_empty()
                && text
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.' | b':'))
        } else if let Some(digits) = text.strip_prefix("eui.") {
            digits.len() == 16 && is_lower_hex(digits)
        } else if let Some(digits) = text.strip_prefix("naa.") {
            matches!(digits.len(), 16 | 32) && is_lower_hex(digits)
        } else {
            false
        };
        if well_formed { Ok(Self(text.to_owned())) } else { Err(NameError::Iqn) }
    }
}

fn is_object_name(text: &str) -> bool {
    let begins_well = text.bytes().next().is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    begins_well
        && text.len() <= NAME_BYTES_MAX
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

/// `yyyy-mm.reverse.domain`.
fn is_naming_authority(text: &str) -> bool {
    let Some((date, domain)) = text.split_once('.') else { return false };
    let Some((year, month)) = date.split_once('-') else { return false };
    let date_is_good = year.len() == 4
        && year.bytes().all(|b| b.is_ascii_digit())
        && month.len() == 2
        && month.parse::<u8>().is_ok_and(|m| (1..=12).contains(&m))
        && month.bytes().all(|b| b.is_ascii_digit());
    date_is_good
        && domain
            .split('.')
            .all(|label| !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
}

fn is_uuid(text: &str) -> bool {
    let groups = [8, 4, 4, 4, 12];
    let parts: Vec<&str> = text.split('-').collect();
    parts.len() == groups.len()
        && parts
            .iter()
            .zip(groups)
            .all(|(part, len)| part.len() == len && part.bytes().all(|b| b.is_ascii_hexdigit()))
}

fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

fn is_printable(c: char) -> bool {
    !c.is_control() && !c.is_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn object_names_follow_their_grammar() {
        let longest = "a".repeat(63);
        for good in ["a", "0", "ram", "a.b_c-d", longest.as_str()] {
            assert!(Name::parse(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(64);
        for bad in ["", "-a", ".a", "_a", "A", "a b", "ä", "a/b", too_long.as_str()] {
            assert_eq!(Name::parse(bad), Err(NameError::Name), "{bad}");
        }
        assert_eq!(SubsystemName::parse("a_b"), Err(NameError::SubsystemName));
    }

    #[test]
    fn nqn_forms_are_known() {
        for good in [
            "nqn.2026-11.io.holdfast:a",
            "nqn.2014-08.com.example:nvme.host.sys.xyz",
            "nqn.2014-08.org.nvmexpress:uuid:F81D4FAE-7dec-11d0-a765-00a0c91e6bf6",
            "nqn.2014-08.org.nvmexpress:NVMf:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
            "nqn.2026-11.io.holdfast:größe",
        ] {
            assert!(Nqn::parse(good).is_ok(), "{good}");
        }
        let long = format!("nqn.2026-11.io.holdfast:{}", "x".repeat(200));
        for (bad, why) in [
            ("", NameError::Nqn),
            ("iqn.2026-11.io.holdfast:a", NameError::Nqn),
            ("nqn.2026-13.io.holdfast:a", NameError::Nqn),
            ("nqn.26-11.io.holdfast:a", NameError::Nqn),
            ("nqn.2026-11.io..holdfast:a", NameError::Nqn),
            ("nqn.2026-11.io.holdfast:", NameError::Nqn),
            ("nqn.2026-11.io.holdfast", NameError::Nqn),
            ("nqn.2026-11.io.holdfast:a b", NameError::Nqn),
            ("nqn.2014-08.org.nvmexpress:uuid:f81d4fae", NameError::Nqn),
            ("nqn.2014-08.org.nvmexpress.discovery", NameError::DiscoveryNqn),
            (long.as_str(), NameError::TooLong),
        ] {
            assert_eq!(Nqn::parse(bad), Err(why), "{bad}");
        }
    }

    #[test]
    fn iscsi_name_forms_are_known() {
        for good in [
            "iqn.2026-11.io.holdfast:a",
            "iqn.1993-08.org.debian:01:abcdef",
            "iqn.2026-11.io.holdfast",
            "eui.02004567a425678d",
            "naa.52004567ba64678d",
            "naa.62004567ba64678d0123456789abcdef",
        ] {
            assert!(Iqn::parse(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "IQN.2026-11.io.holdfast:a",
            "iqn.2026-11.io.Holdfast:a",
            "iqn.2026-11.io.holdfast:A",
            "iqn.2026-11.io.holdfast:a_b",
            "iqn.2026-11.io.holdfast:",
            "eui.02004567A425678D",
            "eui.0200",
            "naa.52004567ba64678",
        ] {
            assert_eq!(Iqn::parse(bad), Err(NameError::Iqn), "{bad}");
        }
    }

    #[test]
    fn default_names_are_valid() {
        let longest = SubsystemName::parse(&"a".repeat(63)).unwrap();
        assert!(Nqn::parse(longest.default_nqn().as_str()).is_ok());
        assert!(Iqn::parse(longest.default_iqn().as_str()).is_ok());
    }
}
