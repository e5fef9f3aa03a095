//! What a host and we know of each other for CHAP: RFC 7143 §12.1.3 "Challenge Handshake Authentication Protocol (CHAP)".

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Names and secrets of one host. They are in no log and no `Debug` output, and leave no trace in memory when dropped.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ChapSecrets {
    user: String,
    secret: String,
    mutual: Option<(String, String)>,
}

impl ChapSecrets {
    /// What the host proves itself with; and, if it may ask us to prove ourselves too, with what we do (name, secret).
    pub fn new(user: String, secret: String, mutual: Option<(String, String)>) -> Self {
        ChapSecrets { user, secret, mutual }
    }

    /// The name that the host gives.
    pub fn user(&self) -> &str {
        &self.user
    }

    /// What only the host and we know.
    pub fn secret(&self) -> &[u8] {
        self.secret.as_bytes()
    }

    /// The name that we give, and what we prove ourselves with.
    pub fn mutual(&self) -> Option<(&str, &[u8])> {
        self.mutual.as_ref().map(|(user, secret)| (user.as_str(), secret.as_bytes()))
    }
}

impl fmt::Debug for ChapSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChapSecrets").field("mutual", &self.mutual.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_neither_names_nor_secrets() {
        let mutual = Some(("our-name".to_owned(), "our-secret".to_owned()));
        let shown = format!("{:#?}", ChapSecrets::new("its-name".into(), "its-secret".into(), mutual));
        assert!(!shown.contains("name") && !shown.contains("secret"), "{shown}");
    }
}
