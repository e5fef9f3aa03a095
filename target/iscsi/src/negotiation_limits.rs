//! Every limit of text and login, by name, with its reason.

/// Longest text of one exchange over all its PDUs. RFC 7143 §6.2 "Text Mode Negotiation" wants at least 8192 bytes taken;
/// twice that leaves room for values that no authentication method of ours needs.
pub(crate) const TEXT_LEN_MAX: usize = 16 * 1024;

/// Most pairs of one text: several times what all keys of the standard make.
pub(crate) const KEYS_MAX: usize = 256;

/// Longest key in bytes. RFC 7143 §6.1 "Text Format".
pub(crate) const KEY_LEN_MAX: usize = 63;

/// Longest value in bytes: a challenge of 1024 bytes in hexadecimal digits, after `0x`. RFC 7143 §12.1.3.
pub(crate) const VALUE_LEN_MAX: usize = 2 + 2 * CHAP_BINARY_MAX;

/// Longest challenge or response in bytes. RFC 7143 §12.1.3.
pub(crate) const CHAP_BINARY_MAX: usize = 1024;

/// Longest data segment during login, in both directions: MaxRecvDataSegmentLength before anybody has declared any.
pub(crate) const LOGIN_DATA_LEN_MAX: usize = 8192;

/// Most Login Requests of one login. The longest that initiators need has about eight.
pub(crate) const LOGIN_REQUESTS_MAX: usize = 64;

/// Most sessions of all targets at once, as many as the block layer takes.
pub(crate) const SESSIONS_MAX: usize = 4096;

/// Most sessions of one initiator name: a session per target and path. One that asks for more leaves room for others.
pub(crate) const INITIATOR_SESSIONS_MAX: usize = 1024;

/// MaxRecvDataSegmentLength that we declare: as much as comes in a burst.
pub(crate) const MAX_RECV_DATA_SEGMENT: u32 = 262_144;

/// Longest MaxBurstLength that we take: a whole transfer of MAXIMUM TRANSFER LENGTH.
pub(crate) const MAX_BURST_MAX: u32 = 1 << 20;

/// Longest FirstBurstLength that we take: what has no room yet when it comes is held apart, for every command of the window.
pub(crate) const FIRST_BURST_MAX: u32 = 262_144;

/// Most outstanding R2Ts of a task that we use.
pub(crate) const OUTSTANDING_R2T_MAX: u32 = 16;
