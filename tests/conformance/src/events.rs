//! Asynchronous events. NVM Express Base 2.1 §5.1.2 "Asynchronous Event Request command".

use crate::Case;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[];
