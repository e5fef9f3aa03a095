//! Wall-clock time in and out: milliseconds since 1970-01-01 UTC inside, RFC 3339 "Date and Time on the
//! Internet: Timestamps" outside.

use jiff::Timestamp;

/// Now.
pub fn now_ms() -> i64 {
    Timestamp::now().as_millisecond()
}

/// `2026-11-22T18:30:00.125Z`. A time that no calendar holds becomes the epoch.
pub fn rfc3339(time_ms: i64) -> String {
    let time = Timestamp::from_millisecond(time_ms).unwrap_or(Timestamp::UNIX_EPOCH);
    format!("{time:.3}")
}

/// Reads a time with its offset; `None` if it is no RFC 3339 time.
pub fn parse_rfc3339_ms(text: &str) -> Option<i64> {
    text.parse::<Timestamp>().ok().map(|time| time.as_millisecond())
}

/// A count or time of the target as SQLite and this module hold it; beyond 2^63 it is cut there.
pub fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_milliseconds_and_read_back() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(parse_rfc3339_ms("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(parse_rfc3339_ms("2026-11-22"), None);
        let now = now_ms();
        assert_eq!(parse_rfc3339_ms(&rfc3339(now)), Some(now));
    }
}
