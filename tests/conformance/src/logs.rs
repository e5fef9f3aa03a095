//! Log pages. NVM Express Base 2.1 §5.1.12 "Get Log Page command".

use crate::Case;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[];
