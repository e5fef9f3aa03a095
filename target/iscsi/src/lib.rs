//! An iSCSI target as a pure state machine: RFC 7143, with the device server of `holdfast-scsi` behind it.
//!
//! A [`Connection`] takes bytes in any cut, completions of the block layer and readings of the clock, and gives back batches of
//! bytes to send. It owns no socket, no thread and no timer, and reads no clock, so all of it can be driven by a test. Data goes from
//! the receive buffer straight into the block layer's slots, and from there by reference into a send.
//!
//! | module | what it decides |
//! |---|---|
//! | `wire` | the bytes of every header |
//! | `framer` | where a PDU starts and ends, and whether its header may stand |
//! | `login`, `chap`, `params` | who may come in, as whom, and with which parameters |
//! | `text`, `full_feature`, `discovery` | `key=value` pairs, text exchanges, who is told about which target |
//! | `directory` | the sessions of all cores |
//! | `connection` | numbering, commands and their order, data transfers, task management, ends |
//! | `slots` | the tasks of one connection |
//! | `limits`, `negotiation_limits` | every limit, with its reason |

#![forbid(unsafe_code)]

mod chap;
mod connection;
mod directory;
mod discovery;
mod framer;
mod full_feature;
mod limits;
mod login;
mod negotiation_limits;
mod params;
mod slots;
mod text;
mod wire;

pub use connection::{Connection, Context};
pub use directory::{Directory, Member, PORTAL_GROUP_TAG, SessionName};
pub use discovery::Asker;
pub use full_feature::{NO_TAG, TextAnswer, TextPhase, TextRequest, TextStep};
pub use login::{FullFeature, LoginAnswer, LoginContext, LoginHead, LoginPhase, LoginStatus, LoginStep};
pub use params::Params;
pub use text::TextError;
