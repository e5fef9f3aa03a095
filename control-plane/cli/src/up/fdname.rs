//! Names of passed descriptors. sd_listen_fds(3) and sd_pid_notify_with_fds(3): FDNAME.

use std::fmt;

/// Longest name that the protocol allows.
const NAME_MAX_BYTES: usize = 255;

/// The name of a descriptor: 1 to 255 printable ASCII characters without `:`, which separates names in
/// LISTEN_FDNAMES.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FdName(String);

/// Why a text is no name of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NameError {
    /// Empty, or longer than the protocol allows.
    #[error("it must have 1 to {NAME_MAX_BYTES} characters")]
    Length,
    /// A character that would break LISTEN_FDNAMES.
    #[error("it must be printable ASCII without `:`")]
    Character,
}

impl FdName {
    /// Checks a name.
    ///
    /// # Errors
    /// A wrong length, or a character that would break LISTEN_FDNAMES.
    pub(crate) fn parse(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > NAME_MAX_BYTES {
            return Err(NameError::Length);
        }
        if !text.bytes().all(|b| (b.is_ascii_graphic() || b == b' ') && b != b':') {
            return Err(NameError::Character);
        }
        Ok(Self(text.to_owned()))
    }

    /// The name as text.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FdName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_the_list_of_names() {
        assert!(FdName::parse("pool-0123456789abcdef").is_ok());
        assert!(FdName::parse(&"a".repeat(255)).is_ok());
        assert_eq!(FdName::parse(""), Err(NameError::Length));
        assert_eq!(FdName::parse(&"a".repeat(256)), Err(NameError::Length));
        for text in ["a:b", "a\nb", "a\0", "é", "\u{7f}"] {
            assert_eq!(FdName::parse(text), Err(NameError::Character), "{text:?}");
        }
    }
}
