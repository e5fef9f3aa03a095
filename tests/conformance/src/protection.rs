//! Protection information on the wire. NVM Command Set 1.1 §5.3 "End-to-end Data Protection".

use crate::Case;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[];
