//! Sizes as people write them: `10GiB`, `512MiB`, `1073741824`.
//!
//! Units are binary and spelled in full, since `10G` and `10GB` mean different sizes to different tools; they
//! are refused with a hint instead of guessed.

use std::fmt;
use std::str::FromStr;

/// The largest size that the REST API can carry: JSON integers there stay below 2^53.
pub(crate) const SIZE_MAX_BYTES: u64 = (1 << 53) - 1;

/// The units, largest first, with the power of two each stands for.
const UNITS: [(&str, u32); 5] = [("PiB", 50), ("TiB", 40), ("GiB", 30), ("MiB", 20), ("KiB", 10)];

/// A size in bytes, from 1 to [`SIZE_MAX_BYTES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ByteSize(u64);

/// Why a text is no size.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SizeError {
    /// There is no number in front.
    #[error("write a whole number of bytes, or one with a unit, such as 1073741824, 512MiB or 10GiB")]
    NoNumber,
    /// The unit is not one of the binary ones.
    #[error("unknown unit `{0}`: use KiB, MiB, GiB, TiB or PiB, or plain bytes")]
    Unit(String),
    /// Zero bytes.
    #[error("a size must be above zero")]
    Zero,
    /// Above what the API can carry.
    #[error("a size must be below 2^53 bytes (8 PiB)")]
    TooLarge,
}

impl ByteSize {
    /// The size in bytes.
    pub(crate) fn bytes(self) -> u64 {
        self.0
    }
}

impl FromStr for ByteSize {
    type Err = SizeError;

    fn from_str(text: &str) -> Result<Self, SizeError> {
        let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (digits, unit) = text.split_at(digits_end);
        if digits.is_empty() {
            return Err(SizeError::NoNumber);
        }
        let shift = match unit.trim_start() {
            "" | "B" => 0,
            word => UNITS
                .iter()
                .find(|(name, _)| name.eq_ignore_ascii_case(word))
                .map(|&(_, shift)| shift)
                .ok_or_else(|| SizeError::Unit(word.to_owned()))?,
        };
        // More digits than a u64 holds can only be too large.
        let number: u64 = digits.parse().map_err(|_| SizeError::TooLarge)?;
        let bytes = number.checked_mul(1 << shift).ok_or(SizeError::TooLarge)?;
        match bytes {
            0 => Err(SizeError::Zero),
            bytes if bytes > SIZE_MAX_BYTES => Err(SizeError::TooLarge),
            bytes => Ok(Self(bytes)),
        }
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&human(self.0))
    }
}

/// A size for a table: whole units where they fit, otherwise one decimal, rounded down.
pub(crate) fn human(bytes: u64) -> String {
    for (name, shift) in UNITS {
        let unit = 1_u64 << shift;
        if bytes < unit {
            continue;
        }
        let whole = bytes >> shift;
        let rest = bytes & (unit - 1);
        // The rest is below 2^50, so ten times it stays far below 2^64.
        let tenth = (rest * 10) >> shift;
        return if rest == 0 { format!("{whole} {name}") } else { format!("{whole}.{tenth} {name}") };
    }
    format!("{bytes} B")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_bytes_or_binary_units() {
        let cases = [
            ("1", 1),
            ("1073741824", 1 << 30),
            ("4096B", 4096),
            ("1KiB", 1 << 10),
            ("512MiB", 512 << 20),
            ("10GiB", 10 << 30),
            ("10 GiB", 10 << 30),
            ("2tib", 2 << 40),
            ("7PiB", 7 << 50),
            ("9007199254740991", SIZE_MAX_BYTES),
        ];
        for (text, bytes) in cases {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn sizes_that_could_be_misread_are_refused() {
        for text in ["", "GiB", "-1", "+1", " 1", ".5GiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(SizeError::NoNumber), "{text}");
        }
        for text in ["10GB", "10G", "1.5GiB", "1k", "1GiBs", "1e9", "0x10"] {
            assert!(matches!(text.parse::<ByteSize>(), Err(SizeError::Unit(_))), "{text}");
        }
        assert_eq!("0".parse::<ByteSize>(), Err(SizeError::Zero));
        assert_eq!("0GiB".parse::<ByteSize>(), Err(SizeError::Zero));
        for text in ["8PiB", "9007199254740992", "99999999999999999999", "18446744073709551615PiB"] {
            assert_eq!(text.parse::<ByteSize>(), Err(SizeError::TooLarge), "{text}");
        }
    }

    #[test]
    fn sizes_are_shown_in_the_largest_unit_that_fits() {
        assert_eq!(human(0), "0 B");
        assert_eq!(human(1023), "1023 B");
        assert_eq!(human(1 << 30), "1 GiB");
        assert_eq!(human((1 << 30) + (1 << 29)), "1.5 GiB");
        assert_eq!(human((1 << 30) - 1), "1023.9 MiB");
        assert_eq!(human(u64::MAX), "16383.9 PiB");
    }
}
