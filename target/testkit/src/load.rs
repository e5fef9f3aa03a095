//! What load generators have in common: the mix that is asked for, and the latencies that were found.

use std::str::FromStr;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Share of reads in percent, 0 to 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mix(pub u8);

impl FromStr for Mix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "read" => return Ok(Self(100)),
            "write" => return Ok(Self(0)),
            _ => {}
        }
        let parts = text.split_once('/').and_then(|(r, w)| Some((r.parse().ok()?, w.parse().ok()?)));
        match parts {
            Some((reads, writes)) if u8::checked_add(reads, writes) == Some(100) => Ok(Self(reads)),
            _ => Err("expected read, write, or two percentages that make 100, such as 70/30".into()),
        }
    }
}

/// Latencies in microseconds.
#[derive(Debug, Clone, Copy, Serialize)]
#[expect(missing_docs, reason = "the fields are what their names say")]
pub struct Latency {
    pub min: f64,
    pub mean: f64,
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub p99_9: f64,
    pub max: f64,
}

impl Latency {
    /// From latencies in nanoseconds.
    #[must_use]
    pub fn of(latencies: &Histogram<u64>) -> Self {
        let us = |ns: u64| ns as f64 / 1000.0;
        let quantile = |quantile| us(latencies.value_at_quantile(quantile));
        Self {
            min: us(latencies.min()),
            mean: latencies.mean() / 1000.0,
            p50: quantile(0.5),
            p95: quantile(0.95),
            p99: quantile(0.99),
            p99_9: quantile(0.999),
            max: us(latencies.max()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixes_are_words_or_percentages_that_make_a_hundred() {
        assert_eq!("read".parse(), Ok(Mix(100)));
        assert_eq!("70/30".parse(), Ok(Mix(70)));
        assert!("70/40".parse::<Mix>().is_err() && "200/156".parse::<Mix>().is_err());
    }
}
