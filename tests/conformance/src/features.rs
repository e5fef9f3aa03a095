//! Get Features and Set Features. NVM Express Base 2.1 §5.1.11 "Get Features command", §5.1.25 "Set Features command".

use crate::Case;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[];
