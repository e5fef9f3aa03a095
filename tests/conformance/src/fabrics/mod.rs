//! Connect, properties, the life of a controller. NVM Express Base 2.1 §6 "Fabrics Command Set".

use crate::Case;

/// The cases by topic.
pub const TOPICS: &[&[Case]] = &[];
