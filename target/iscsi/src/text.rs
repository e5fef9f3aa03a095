//! Text: `key=value` pairs, each ended by NUL, over as many PDUs as the C bit asks for. RFC 7143 §6.1 "Text Format".

use thiserror::Error;

use crate::negotiation_limits::{KEY_LEN_MAX, KEYS_MAX, TEXT_LEN_MAX, VALUE_LEN_MAX};

/// Why bytes are no text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TextError {
    /// Longer than anybody needs.
    #[error("text of too many bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("text that is not UTF-8")]
    NotUtf8,
    /// A pair without `=`.
    #[error("a key without a value")]
    NoValue,
    /// A key that no key may be called.
    #[error("a key with an impossible name")]
    BadKey,
    /// A value longer than any key's.
    #[error("a value of too many bytes")]
    ValueTooLong,
    /// More pairs than anybody needs.
    #[error("too many keys")]
    TooMany,
}

/// Puts together what came in several PDUs.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    bytes: Vec<u8>,
}

impl Assembler {
    /// Takes the data of a PDU; all of the text, once a PDU came without the C bit.
    pub(crate) fn push(&mut self, data: &[u8], continues: bool) -> Result<Option<Vec<u8>>, TextError> {
        if self.bytes.len().saturating_add(data.len()) > TEXT_LEN_MAX {
            self.bytes = Vec::new();
            return Err(TextError::TooLong);
        }
        self.bytes.extend_from_slice(data);
        Ok((!continues).then(|| std::mem::take(&mut self.bytes)))
    }

    /// Forgets what has come.
    pub(crate) fn clear(&mut self) {
        self.bytes = Vec::new();
    }
}

/// The pairs of a text, in order. More than one NUL may end a pair, and the last one may lack its own.
pub(crate) fn parse(text: &[u8]) -> Result<Vec<(&str, &str)>, TextError> {
    let mut pairs = Vec::new();
    for pair in text.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()) {
        if pairs.len() >= KEYS_MAX {
            return Err(TextError::TooMany);
        }
        let pair = std::str::from_utf8(pair).map_err(|_| TextError::NotUtf8)?;
        let (key, value) = pair.split_once('=').ok_or(TextError::NoValue)?;
        if !is_key(key) {
            return Err(TextError::BadKey);
        }
        if value.len() > VALUE_LEN_MAX {
            return Err(TextError::ValueTooLong);
        }
        pairs.push((key, value));
    }
    Ok(pairs)
}

/// Appends a pair.
pub(crate) fn put(out: &mut Vec<u8>, key: &str, value: &str) {
    out.extend_from_slice(key.as_bytes());
    out.push(b'=');
    out.extend_from_slice(value.as_bytes());
    out.push(0);
}

/// A number as text has it: decimal, or hexadecimal after `0x`.
pub(crate) fn number(value: &str) -> Option<u32> {
    let hex = value.strip_prefix("0x").or_else(|| value.strip_prefix("0X"));
    let (digits, radix) = hex.map_or((value, 10), |digits| (digits, 16));
    // `from_str_radix` would take a sign.
    let plain = !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    plain.then(|| u32::from_str_radix(digits, radix).ok()).flatten()
}

/// A standard label: a capital letter, then letters, digits and a few signs.
fn is_key(key: &str) -> bool {
    let named = key.starts_with(|first: char| first.is_ascii_uppercase());
    let sign = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '@' | '_' | '#');
    named && key.len() <= KEY_LEN_MAX && key.chars().all(sign)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pairs_are_ended_by_any_number_of_nuls() {
        let text = b"A=1\0\0\0B=\0X-c.d=x=y";
        assert_eq!(parse(text).unwrap(), [("A", "1"), ("B", ""), ("X-c.d", "x=y")]);
        assert_eq!(parse(b"\0\0").unwrap(), []);
    }

    #[test]
    fn what_is_no_text_is_told_apart() {
        let long_key = [&vec![b'K'; 64][..], b"=1\0"].concat();
        let long_value = [b"K=", &vec![b'v'; VALUE_LEN_MAX + 1][..], b"\0"].concat();
        for (text, error) in [
            (&b"HeaderDigest\0"[..], TextError::NoValue),
            (b"=None\0", TextError::BadKey),
            (b"lower=None\0", TextError::BadKey),
            (b"A B=None\0", TextError::BadKey),
            (&long_key, TextError::BadKey),
            (&long_value, TextError::ValueTooLong),
            (b"A=\xff\0", TextError::NotUtf8),
            (&b"A=1\0".repeat(KEYS_MAX + 1), TextError::TooMany),
        ] {
            assert_eq!(parse(text), Err(error));
        }
    }

    #[test]
    fn text_is_put_together_from_parts_and_bounded() {
        let mut parts = Assembler::default();
        assert_eq!(parts.push(b"Header", true), Ok(None));
        assert_eq!(parts.push(b"Digest=No", true), Ok(None));
        assert_eq!(parts.push(b"ne\0", false), Ok(Some(b"HeaderDigest=None\0".to_vec())));
        assert_eq!(parts.push(&vec![0; TEXT_LEN_MAX], true), Ok(None));
        assert_eq!(parts.push(b"x", false), Err(TextError::TooLong));
    }

    #[test]
    fn numbers_are_decimal_or_hexadecimal_and_nothing_else() {
        assert_eq!(number("8192"), Some(8192));
        assert_eq!(number("0x2000"), Some(8192));
        assert_eq!(number("0XfF"), Some(255));
        for bad in ["", "+1", "-1", "0x", "0x+1", "1 ", "4294967296", "1.5", "0b1"] {
            assert_eq!(number(bad), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            if let Ok(pairs) = parse(&bytes) {
                let mut again = Vec::new();
                pairs.iter().for_each(|(key, value)| put(&mut again, key, value));
                prop_assert_eq!(parse(&again).unwrap(), pairs);
            }
        }
    }
}
