//! Keys and values as text. RFC 7143 §6.1 "Text Format".

use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use base64::{Engine, alphabet};

/// Pairs, in order.
pub type Pairs = Vec<(String, String)>;

/// `KEY=VALUE` and a zero byte for each pair.
#[must_use]
pub fn encode<K: AsRef<str>, V: AsRef<str>>(pairs: &[(K, V)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in pairs {
        bytes.extend_from_slice(key.as_ref().as_bytes());
        bytes.push(b'=');
        bytes.extend_from_slice(value.as_ref().as_bytes());
        bytes.push(0);
    }
    bytes
}

/// The pairs of a data segment; `None` when something is no pair, is not text, or does not end with a zero byte.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Pairs> {
    if bytes.is_empty() {
        return Some(Pairs::new());
    }
    let text = std::str::from_utf8(bytes.strip_suffix(&[0])?).ok()?;
    text.split('\0').map(|pair| pair.split_once('=').map(|(key, value)| (key.into(), value.into()))).collect()
}

/// The value of the first pair with this key.
#[must_use]
pub fn value<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
}

/// Bytes as `0x…`. RFC 7143 §6.1: "hex-constant".
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
    std::iter::once("0x".to_owned()).chain(digits).collect()
}

/// The bytes of `0x…` or `0b…` (base64).
#[must_use]
pub fn binary(value: &str) -> Option<Vec<u8>> {
    match value.split_at_checked(2)? {
        ("0x" | "0X", digits) => unhex(digits),
        ("0b" | "0B", digits) => unbase64(digits),
        _ => None,
    }
}

fn unhex(digits: &str) -> Option<Vec<u8>> {
    let padded = if digits.len().is_multiple_of(2) { digits.to_owned() } else { format!("0{digits}") };
    let pairs = padded.as_bytes().chunks_exact(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

fn unbase64(digits: &str) -> Option<Vec<u8>> {
    let lenient = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_survive_the_wire() {
        let pairs = [("InitiatorName", "iqn.a"), ("TargetAlias", "a=b")];
        let bytes = encode(&pairs);
        assert_eq!(bytes, b"InitiatorName=iqn.a\0TargetAlias=a=b\0");
        let back = decode(&bytes).unwrap();
        assert_eq!(value(&back, "TargetAlias"), Some("a=b"));
        assert_eq!(decode(b"InitiatorName\0"), None);
        assert_eq!(decode(b"A=1"), None);
    }

    #[test]
    fn binary_values_come_in_two_notations() {
        assert_eq!(hex(&[0, 0xa5]), "0x00a5");
        assert_eq!(binary("0x00A5"), Some(vec![0, 0xa5]));
        assert_eq!(binary("0bTWFu"), Some(b"Man".to_vec()));
        assert_eq!(binary("0bTWE="), Some(b"Ma".to_vec()));
        assert_eq!(binary("17"), None);
    }
}
