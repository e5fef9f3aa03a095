//! CHAP. RFC 7143 §12.1.3 "Challenge Handshake Authentication Protocol (CHAP)"; RFC 1994 for what is digested.

use std::fmt;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use holdfast_block::ChapSecrets;
use sha2::Digest;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::negotiation_limits::CHAP_BINARY_MAX;
use crate::text::number;

/// How a response is computed, by its number in CHAP_A.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Algorithm {
    Md5,
    Sha1,
    Sha256,
    Sha3With256,
}

impl Algorithm {
    /// The first of the proposed ones that there is.
    pub(crate) fn choose(list: &str) -> Option<Algorithm> {
        list.split(',').find_map(|item| match number(item)? {
            5 => Some(Algorithm::Md5),
            6 => Some(Algorithm::Sha1),
            7 => Some(Algorithm::Sha256),
            8 => Some(Algorithm::Sha3With256),
            _ => None,
        })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Algorithm::Md5 => "5",
            Algorithm::Sha1 => "6",
            Algorithm::Sha256 => "7",
            Algorithm::Sha3With256 => "8",
        }
    }

    /// Length of a response, and of the challenges that we make.
    fn len(self) -> usize {
        match self {
            Algorithm::Md5 => 16,
            Algorithm::Sha1 => 20,
            Algorithm::Sha256 | Algorithm::Sha3With256 => 32,
        }
    }

    /// The response to a challenge.
    fn respond(self, id: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
        fn of<D: Digest>(id: u8, secret: &[u8], challenge: &[u8]) -> Vec<u8> {
            D::new().chain_update([id]).chain_update(secret).chain_update(challenge).finalize().to_vec()
        }
        match self {
            Algorithm::Md5 => of::<md5::Md5>(id, secret, challenge),
            Algorithm::Sha1 => of::<sha1::Sha1>(id, secret, challenge),
            Algorithm::Sha256 => of::<sha2::Sha256>(id, secret, challenge),
            Algorithm::Sha3With256 => of::<sha3::Sha3_256>(id, secret, challenge),
        }
    }
}

/// What we have asked the initiator.
pub(crate) struct Challenge {
    algorithm: Algorithm,
    id: u8,
    bytes: Vec<u8>,
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Challenge").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// The initiator's answer, and what it asks of us if it does.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer<'a> {
    pub(crate) name: &'a str,
    pub(crate) response: &'a str,
    /// CHAP_I and CHAP_C.
    pub(crate) asks: Option<(&'a str, &'a str)>,
}

/// Authentication has failed; nobody learns why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Failed;

impl Challenge {
    pub(crate) fn new(algorithm: Algorithm, random: &mut dyn FnMut(&mut [u8])) -> Challenge {
        let mut id = [0];
        random(&mut id);
        let mut bytes = vec![0; algorithm.len()];
        random(&mut bytes);
        Challenge { algorithm, id: u8::from_le_bytes(id), bytes }
    }

    /// Values of CHAP_A, CHAP_I and CHAP_C.
    pub(crate) fn values(&self) -> [(&'static str, String); 3] {
        [
            ("CHAP_A", self.algorithm.name().to_owned()),
            ("CHAP_I", self.id.to_string()),
            ("CHAP_C", encode(&self.bytes)),
        ]
    }

    /// Judges the answer; gives the values of CHAP_N and CHAP_R where the initiator asks us, too.
    pub(crate) fn judge(
        &self,
        secrets: &ChapSecrets,
        answer: Answer<'_>,
    ) -> Result<Option<(String, String)>, Failed> {
        let expected = Zeroizing::new(self.algorithm.respond(self.id, secrets.secret(), &self.bytes));
        let response = decode(answer.response).ok_or(Failed)?;
        // Both are always looked at, so that a wrong name takes as long as a wrong secret.
        let proven = expected.ct_eq(&response) & secrets.user().as_bytes().ct_eq(answer.name.as_bytes());
        if !bool::from(proven) && !holdfast_mutant::active("planted-proof") {
            return Err(Failed);
        }
        let Some((id, challenge)) = answer.asks else { return Ok(None) };
        let id = number(id).and_then(|id| u8::try_from(id).ok()).ok_or(Failed)?;
        let challenge = decode(challenge).filter(|challenge| !challenge.is_empty()).ok_or(Failed)?;
        let (name, secret) = secrets.mutual().ok_or(Failed)?;
        // What we asked, sent back to us; and a secret by which our answers would do as the initiator's.
        if challenge == self.bytes || bool::from(secret.ct_eq(secrets.secret())) {
            return Err(Failed);
        }
        let response = self.algorithm.respond(id, secret, &challenge);
        Ok(Some((name.to_owned(), encode(&response))))
    }
}

/// A binary value in hexadecimal digits.
fn encode(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut text = String::with_capacity(2 + 2 * bytes.len());
    text.push_str("0x");
    for byte in bytes {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// A binary value: hexadecimal after `0x`, base64 after `0b`. RFC 7143 §6.1 "Text Format".
fn decode(value: &str) -> Option<Vec<u8>> {
    let (form, digits) = value.split_at_checked(2)?;
    let bytes = match form {
        "0x" | "0X" => decode_hex(digits),
        "0b" | "0B" => {
            let padding =
                GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
            GeneralPurpose::new(&alphabet::STANDARD, padding).decode(digits).ok()
        }
        _ => None,
    };
    bytes.filter(|bytes| bytes.len() <= CHAP_BINARY_MAX)
}

/// Two digits a byte; of an odd number of digits, the first stands alone.
fn decode_hex(digits: &str) -> Option<Vec<u8>> {
    let nibbles: Option<Vec<u8>> =
        digits.chars().map(|digit| digit.to_digit(16).and_then(|nibble| u8::try_from(nibble).ok())).collect();
    let nibbles = nibbles?;
    let (lone, pairs) = nibbles.split_at(nibbles.len() % 2);
    let pairs = pairs.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, nibble| byte << 4 | nibble));
    Some(lone.iter().copied().chain(pairs).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Algorithm; 4] = [Algorithm::Md5, Algorithm::Sha1, Algorithm::Sha256, Algorithm::Sha3With256];

    fn secrets() -> ChapSecrets {
        let mutual = Some(("target".to_owned(), "other-secret-12".to_owned()));
        ChapSecrets::new("joe".into(), "secret-of-joe-1".into(), mutual)
    }

    fn challenge(algorithm: Algorithm) -> Challenge {
        Challenge::new(algorithm, &mut |bytes| bytes.fill(0x5a))
    }

    fn answer<'a>(name: &'a str, response: &'a str) -> Answer<'a> {
        Answer { name, response, asks: None }
    }

    #[test]
    fn responses_are_those_that_others_compute() {
        // Computed with Python's hashlib over 5Ah, the secret, and the challenge of 5Ah bytes.
        for (algorithm, response) in ALL.into_iter().zip(RESPONSES) {
            let asked = challenge(algorithm);
            assert_eq!(asked.judge(&secrets(), answer("joe", response)), Ok(None), "{algorithm:?}");
            assert_eq!(asked.judge(&secrets(), answer("jim", response)), Err(Failed));
            assert_eq!(asked.judge(&secrets(), answer("joe", &response[..response.len() - 2])), Err(Failed));
        }
    }

    #[test]
    fn the_first_known_algorithm_is_taken() {
        assert_eq!(Algorithm::choose("9,7,5"), Some(Algorithm::Sha256));
        assert_eq!(Algorithm::choose("5"), Some(Algorithm::Md5));
        assert_eq!(Algorithm::choose("x,8"), Some(Algorithm::Sha3With256));
        assert_eq!(Algorithm::choose("1,2"), None);
        assert_eq!(Algorithm::choose(""), None);
    }

    #[test]
    fn we_prove_ourselves_with_the_other_secret() {
        let asked = challenge(Algorithm::Md5);
        let asks = Some(("7", "0x00010203"));
        let ours = asked.judge(&secrets(), Answer { asks, ..answer("joe", RESPONSES[0]) }).unwrap();
        assert_eq!(ours, Some(("target".to_owned(), MUTUAL_RESPONSE.to_owned())));
    }

    #[test]
    fn a_challenge_sent_back_is_refused() {
        let asked = challenge(Algorithm::Md5);
        let reflected = encode(&[0x5a; 16]);
        let asks = Some(("1", reflected.as_str()));
        assert_eq!(asked.judge(&secrets(), Answer { asks, ..answer("joe", RESPONSES[0]) }), Err(Failed));
    }

    #[test]
    fn nothing_is_proven_without_a_secret_of_our_own() {
        let asked = challenge(Algorithm::Md5);
        let asks = Some(("1", "0x01"));
        for mutual in [None, Some(("target".to_owned(), "secret-of-joe-1".to_owned()))] {
            let secrets = ChapSecrets::new("joe".into(), "secret-of-joe-1".into(), mutual);
            assert_eq!(asked.judge(&secrets, Answer { asks, ..answer("joe", RESPONSES[0]) }), Err(Failed));
        }
        for asks in [("256", "0x01"), ("1", "0x"), ("1", "01"), ("x", "0x01")] {
            let asks = Some(asks);
            assert_eq!(asked.judge(&secrets(), Answer { asks, ..answer("joe", RESPONSES[0]) }), Err(Failed));
        }
    }

    #[test]
    fn binary_values_are_hexadecimal_or_base64() {
        assert_eq!(decode("0x0a0B"), Some(vec![10, 11]));
        assert_eq!(decode("0Xabc"), Some(vec![10, 0xbc]));
        assert_eq!(decode("0bCgs="), Some(vec![10, 11]));
        assert_eq!(decode("0BCgs"), Some(vec![10, 11]));
        for bad in ["", "0", "0a0b", "0xgg", "0b!", "1234"] {
            assert_eq!(decode(bad), None, "{bad:?}");
        }
        assert_eq!(decode(&encode(&[1; 1024])).unwrap().len(), 1024);
        assert_eq!(decode(&encode(&[1; 1025])), None);
    }

    #[test]
    fn debug_output_does_not_show_the_challenge() {
        assert!(!format!("{:?}", challenge(Algorithm::Md5)).contains("90"));
    }

    const RESPONSES: [&str; 4] = [
        "0x6f50eca162952ad46ac0df1470bf65fa",
        "0x79cab0d008fdde079b414a7dbdede3533b5a1e92",
        "0x8038bcfdd230f12b241244619cf206ea622eae11db1d29526854e51ed123bbe5",
        "0xdccafd9f704ea4c5de3151b5e6d9d623d72cdd57e9e8d133b93ab06ce3bf931a",
    ];

    const MUTUAL_RESPONSE: &str = "0xeed5475b1c678b77965f833ee396b265";
}
