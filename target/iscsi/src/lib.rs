//! An iSCSI target as a pure state machine: RFC 7143, with the device server of `holdfast-scsi` behind it.

#![forbid(unsafe_code)]

mod chap;
mod directory;
mod discovery;
mod full_feature;
mod login;
mod negotiation_limits;
mod params;
mod text;

pub use directory::{Directory, Member, PORTAL_GROUP_TAG, SessionName};
pub use discovery::Asker;
pub use full_feature::{NO_TAG, TextAnswer, TextPhase, TextRequest, TextStep};
pub use login::{FullFeature, LoginAnswer, LoginContext, LoginHead, LoginPhase, LoginStatus, LoginStep};
pub use params::Params;
pub use text::TextError;
