//! Hosts that break rules on purpose, and the hosts beside them.

use crate::Case;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[];
