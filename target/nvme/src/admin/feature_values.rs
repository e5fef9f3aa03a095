//! Values of the features that have the scope of the controller. Base 2.1 §5.1.25.1 "Feature Specific Information".

use crate::limits::TEMPERATURE_KELVIN;
use crate::wire::identify::COPY_FORMATS;

/// Bytes of the Timestamp data structure.
pub(super) const TIMESTAMP_LEN: usize = 8;

/// Arbitration Burst: no limit.
const ARBITRATION_DEFAULT: u32 = 0b111;
/// Bits of Arbitration that exist: the burst and three weights.
const ARBITRATION_BITS: u32 = 0xffff_ff07;
/// Power Management: the power state, of which there is only 0, and the workload hint.
const POWER_STATE_BITS: u32 = 0x1f;
const WORKLOAD_BITS: u32 = 0xe0;
/// Temperature Threshold for over temperature that is never reached.
const NO_THRESHOLD: u16 = 0xffff;
/// The bits of Asynchronous Event Configuration that exist: of an I/O controller critical warnings and notices of namespaces, of a
/// discovery controller those of its log.
const ASYNC_EVENTS_IO: u32 = 0x3f | (1 << 8);
const ASYNC_EVENTS_DISCOVERY: u32 = 1 << 31;
/// Timestamp Origin, in bits 3:1 of byte 6: set by the host.
const ORIGIN_SET: u8 = 0b001 << 1;
/// Descriptor formats of Copy that are there once the host has enabled them: those that name a source namespace.
const COPY_FORMATS_ENABLED_BY_HOST: u16 = COPY_FORMATS & 0b1_1100;
/// A timestamp has 48 bits.
const TIMESTAMP_MASK: u64 = (1 << 48) - 1;

/// Values of a controller.
#[derive(Debug)]
pub(crate) struct Features {
    pub(super) arbitration: u32,
    pub(super) power_management: u32,
    pub(super) write_atomicity: u32,
    async_events: u32,
    over_temperature: u16,
    under_temperature: u16,
    /// The first bytes of Host Behavior Support: ACRE, ETDAS, LBAFEE and so on; the rest is reserved.
    host_behavior: [u8; 8],
    reset_ms: u64,
    clock: Clock,
}

/// The Timestamp feature. Base 2.1 §5.1.25.1.7 "Timestamp (Feature Identifier 0Eh)".
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// The timestamp at a reading of our clock.
    timestamp: u64,
    at_ms: u64,
    is_set: bool,
}

impl Features {
    /// The defaults, as after a reset now.
    pub(super) fn new(now_ms: u64) -> Features {
        Features {
            arbitration: ARBITRATION_DEFAULT,
            power_management: 0,
            write_atomicity: 0,
            async_events: 0,
            over_temperature: NO_THRESHOLD,
            under_temperature: 0,
            host_behavior: [0; 8],
            reset_ms: now_ms,
            clock: Clock { timestamp: 0, at_ms: now_ms, is_set: false },
        }
    }

    /// Which events the host wants to be told.
    pub(crate) fn async_events(&self) -> u32 {
        self.async_events
    }

    pub(super) fn set_async_events(&mut self, value: u32, discovery: bool) {
        self.async_events = value & if discovery { ASYNC_EVENTS_DISCOVERY } else { ASYNC_EVENTS_IO };
    }

    pub(super) fn set_arbitration(&mut self, value: u32) {
        self.arbitration = value & ARBITRATION_BITS;
    }

    /// `None`: there is no such power state.
    pub(super) fn set_power_management(&mut self, value: u32) -> Option<()> {
        if value & POWER_STATE_BITS != 0 {
            return None;
        }
        self.power_management = value & WORKLOAD_BITS;
        Some(())
    }

    /// The threshold that Dword 11 selects: of the composite temperature (TMPSEL 0), over or under (THSEL).
    pub(super) fn temperature_threshold(&self, dword: u32) -> Option<u16> {
        match (dword >> 16) & 0x3f {
            0x00 => Some(self.over_temperature),
            0x10 => Some(self.under_temperature),
            _ => None,
        }
    }

    /// Sets a threshold; TMPSEL Fh means all sensors, of which there is only the composite one. `None`: there is no such sensor.
    pub(super) fn set_temperature_threshold(&mut self, dword: u32) -> Option<()> {
        let [low, high, ..] = dword.to_le_bytes();
        let threshold = match (dword >> 16) & 0x3f {
            0x00 | 0x0f => &mut self.over_temperature,
            0x10 | 0x1f => &mut self.under_temperature,
            _ => return None,
        };
        *threshold = u16::from_le_bytes([low, high]);
        Some(())
    }

    /// Whether the temperature is at or beyond a threshold.
    pub(super) fn is_temperature_reached(&self) -> bool {
        TEMPERATURE_KELVIN >= self.over_temperature || TEMPERATURE_KELVIN <= self.under_temperature
    }

    pub(super) fn host_behavior(&self) -> [u8; 8] {
        self.host_behavior
    }

    /// Sets Host Behavior Support; gives ACRE, LBAFEE and CDFE. `None`: a value that is reserved, or a descriptor format of Copy that
    /// there is not, or that needs no enabling.
    pub(super) fn set_host_behavior(&mut self, behavior: [u8; 8]) -> Option<(bool, bool, u16)> {
        let [retry, telemetry, extended_formats, dispersed, copy_low, copy_high, ..] = behavior;
        let copy_formats = u16::from_le_bytes([copy_low, copy_high]);
        let known = [retry, telemetry, extended_formats, dispersed].iter().all(|value| *value <= 1);
        if !known || copy_formats & !COPY_FORMATS_ENABLED_BY_HOST != 0 {
            return None;
        }
        self.host_behavior = behavior;
        Some((retry == 1, extended_formats == 1, copy_formats))
    }

    /// The Timestamp data structure: the time, and whether a host has set it.
    pub(super) fn timestamp(&self, now_ms: u64) -> [u8; TIMESTAMP_LEN] {
        let [a, b, c, d, e, f, ..] = self.timestamp_ms(now_ms).to_le_bytes();
        [a, b, c, d, e, f, if self.clock.is_set { ORIGIN_SET } else { 0 }, 0]
    }

    /// Sets the time; gives the time before, and how long ago the reset was, in milliseconds.
    pub(super) fn set_timestamp(&mut self, data: [u8; TIMESTAMP_LEN], now_ms: u64) -> (u64, u64) {
        let previous = self.timestamp_ms(now_ms);
        let timestamp = u64::from_le_bytes(data) & TIMESTAMP_MASK;
        self.clock = Clock { timestamp, at_ms: now_ms, is_set: true };
        (previous, now_ms.saturating_sub(self.reset_ms))
    }

    fn timestamp_ms(&self, now_ms: u64) -> u64 {
        let elapsed_ms = now_ms.saturating_sub(self.clock.at_ms);
        self.clock.timestamp.saturating_add(elapsed_ms) & TIMESTAMP_MASK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_goes_on_from_where_it_was_set() {
        let mut features = Features::new(1_000);
        assert_eq!(features.timestamp(3_500), [0xc4, 0x09, 0, 0, 0, 0, 0, 0], "since the reset");
        assert_eq!(features.set_timestamp([1, 0, 0, 0, 0, 0x80, 0xff, 0xff], 4_000), (3_000, 3_000));
        assert_eq!(features.timestamp(4_002), [3, 0, 0, 0, 0, 0x80, 0b10, 0]);
    }

    #[test]
    fn thresholds_work_in_both_directions() {
        let mut features = Features::new(0);
        assert!(!features.is_temperature_reached());
        features.set_temperature_threshold(u32::from(TEMPERATURE_KELVIN)).unwrap();
        assert!(features.is_temperature_reached(), "at the threshold is over it");
        features.set_temperature_threshold(0x000f_ffff).unwrap();
        assert!(!features.is_temperature_reached());
        features.set_temperature_threshold(0x0010_0000 | u32::from(TEMPERATURE_KELVIN)).unwrap();
        assert!(features.is_temperature_reached());
        assert_eq!(features.set_temperature_threshold(0x0001_0000), None);
        assert_eq!(features.temperature_threshold(0x000f_0000), None);
    }
}
