//! I/O commands. NVM Command Set 1.1 §3.3 "I/O Command Set Specific Commands".

use crate::Case;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[];
