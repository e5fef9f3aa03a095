//! CHAP, both ways. RFC 7143 §12.1.3 "Challenge Handshake Authentication Protocol (CHAP)", RFC 1994.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};
use sha3::Sha3_256;

/// A hash by which a secret is shown to be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// CHAP_A=5.
    Md5,
    /// CHAP_A=6.
    Sha1,
    /// CHAP_A=7.
    Sha256,
    /// CHAP_A=8.
    Sha3,
}

impl Algorithm {
    /// All of them, the strongest first.
    pub const ALL: [Self; 4] = [Self::Sha3, Self::Sha256, Self::Sha1, Self::Md5];

    /// The number that CHAP_A carries.
    #[must_use]
    pub fn number(self) -> &'static str {
        match self {
            Self::Md5 => "5",
            Self::Sha1 => "6",
            Self::Sha256 => "7",
            Self::Sha3 => "8",
        }
    }

    /// The algorithm with this number.
    #[must_use]
    pub fn of(number: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.number() == number)
    }

    /// The response to a challenge: the hash of identifier, secret and challenge.
    #[must_use]
    pub fn respond(self, id: u8, secret: &str, challenge: &[u8]) -> Vec<u8> {
        match self {
            Self::Md5 => hash::<Md5>(id, secret, challenge),
            Self::Sha1 => hash::<Sha1>(id, secret, challenge),
            Self::Sha256 => hash::<Sha256>(id, secret, challenge),
            Self::Sha3 => hash::<Sha3_256>(id, secret, challenge),
        }
    }
}

fn hash<D: Digest>(id: u8, secret: &str, challenge: &[u8]) -> Vec<u8> {
    D::new().chain_update([id]).chain_update(secret).chain_update(challenge).finalize().to_vec()
}

/// A name and the secret that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// CHAP_N.
    pub name: String,
    /// The secret.
    pub secret: String,
}

impl Identity {
    /// Of two words.
    #[must_use]
    pub fn new(name: &str, secret: &str) -> Self {
        Self { name: name.to_owned(), secret: secret.to_owned() }
    }
}

/// What an initiator knows and asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chap {
    /// What this side shows to the target.
    pub own: Identity,
    /// What the target must show to this side (mutual CHAP).
    pub target: Option<Identity>,
    /// CHAP_A: what is offered, in this order.
    pub algorithms: Vec<Algorithm>,
    /// The challenge and its identifier that the target gets with mutual CHAP; with `None` the target gets its own
    /// challenge back, which it has to refuse.
    pub challenge: Option<(u8, Vec<u8>)>,
}

impl Chap {
    /// One-way CHAP with any algorithm.
    #[must_use]
    pub fn one_way(name: &str, secret: &str) -> Self {
        let challenge = Some((0x5a, (1..=32).collect()));
        Self {
            own: Identity::new(name, secret),
            target: None,
            algorithms: Algorithm::ALL.to_vec(),
            challenge,
        }
    }

    /// Demands that the target knows this, too.
    #[must_use]
    pub fn mutual(self, name: &str, secret: &str) -> Self {
        Self { target: Some(Identity::new(name, secret)), ..self }
    }

    /// Offers these algorithms alone.
    #[must_use]
    pub fn offer(self, algorithms: &[Algorithm]) -> Self {
        Self { algorithms: algorithms.to_vec(), ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::iscsi::text::hex;

    /// Worked out with `printf '\x01secretchallenge' | md5sum` and its kin.
    #[test]
    fn responses_are_hashes_of_identifier_secret_and_challenge() {
        let response = |algorithm: Algorithm| hex(&algorithm.respond(1, "secret", b"challenge"));
        assert_eq!(response(Algorithm::Md5), MD5);
        assert_eq!(response(Algorithm::Sha1), SHA1);
        assert_eq!(response(Algorithm::Sha256), SHA256);
        assert_eq!(response(Algorithm::Sha3), SHA3);
    }

    const MD5: &str = "0x46e47770030e2b4e26a0db72a7efec00";
    const SHA1: &str = "0x011f25d29fe1baaced569c0d7e4878e40ddb7d7e";
    const SHA256: &str = "0x2dfa0526f4764864b7c3c5bc6596bcead3d8dbd984f4fc1d9f330299f0beced4";
    const SHA3: &str = "0x9444877c4dff778ed2add0f102dcd561e11944e7e948ee1b89508451a9e680ad";

    #[test]
    fn numbers_name_algorithms() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::of(algorithm.number()), Some(algorithm));
        }
        assert_eq!(Algorithm::of("9"), None);
    }
}
