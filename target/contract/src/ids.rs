//! Immutable identifiers. Names may change; these never do, and they are what is kept with blocks,
//! counters and incidents. In JSON they are 16 lower-case hex digits.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A text that is not 16 hex digits of a number above zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an identifier is 16 hex digits and not zero")]
pub struct IdError;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(NonZeroU64);

        impl $name {
            /// Wraps a number that is known not to be zero.
            pub fn from_nonzero(raw: NonZeroU64) -> Self {
                Self(raw)
            }

            /// The number as it is wrapped.
            pub fn nonzero(self) -> NonZeroU64 {
                self.0
            }

            /// Wraps a raw number; `None` for zero.
            pub fn new(raw: u64) -> Option<Self> {
                NonZeroU64::new(raw).map(Self)
            }

            /// The raw number, as kept beside blocks.
            pub fn get(self) -> u64 {
                self.0.get()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({:016x})", stringify!($name), self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let digits = text.len() == 16 && text.bytes().all(|b| b.is_ascii_hexdigit());
                if !digits {
                    return Err(IdError);
                }
                u64::from_str_radix(text, 16).ok().and_then(Self::new).ok_or(IdError)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

id! {
    /// A host: an initiator machine, whatever it is called and however it connects.
    HostId
}
id! {
    /// A volume, over every change of its name, size and published identifiers.
    VolumeId
}
id! {
    /// A pool.
    PoolId
}
id! {
    /// A subsystem (an export: one NQN and one IQN).
    SubsystemId
}

#[cfg(test)]
mod tests {
    use super::HostId;

    #[test]
    fn identifier_survives_json() {
        let id = HostId::new(0x00ab_cdef_0123_4567).unwrap();
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"00abcdef01234567\"");
        assert_eq!(serde_json::from_str::<HostId>(&json).unwrap(), id);
    }

    #[test]
    fn zero_short_and_non_hex_identifiers_are_refused() {
        for text in ["0000000000000000", "1", "00abcdef0123456g", "+0abcdef01234567"] {
            assert!(text.parse::<HostId>().is_err(), "{text}");
        }
    }
}
