//! Identify, Abort, unknown and malformed Admin commands. NVM Express Base 2.1 §5 "Admin Command Set".

use crate::Case;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[];
