//! Status-Class and Status-Detail. RFC 7143 §11.13.5 "Status-Class and Status-Detail".

/// How a login stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginStatus {
    /// It goes on, or has succeeded.
    Success,
    /// The initiator has broken a rule.
    InitiatorError,
    /// It could not prove who it is.
    AuthenticationFailure,
    /// It may not use the target.
    AuthorizationFailure,
    /// No such target.
    NotFound,
    /// No version in common.
    UnsupportedVersion,
    /// The session has as many connections as it may.
    TooManyConnections,
    /// InitiatorName or TargetName is missing.
    MissingParameter,
    /// Neither discovery nor normal.
    SessionTypeNotSupported,
    /// A TSIH that no session of this initiator has.
    SessionDoesNotExist,
    /// Another request than Login during login.
    InvalidDuringLogin,
    /// No room for one more session.
    OutOfResources,
}

impl LoginStatus {
    /// Status-Class, Status-Detail.
    pub fn code(self) -> (u8, u8) {
        match self {
            LoginStatus::Success => (0, 0),
            LoginStatus::InitiatorError => (2, 0x00),
            LoginStatus::AuthenticationFailure => (2, 0x01),
            LoginStatus::AuthorizationFailure => (2, 0x02),
            LoginStatus::NotFound => (2, 0x03),
            LoginStatus::UnsupportedVersion => (2, 0x05),
            LoginStatus::TooManyConnections => (2, 0x06),
            LoginStatus::MissingParameter => (2, 0x07),
            LoginStatus::SessionTypeNotSupported => (2, 0x09),
            LoginStatus::SessionDoesNotExist => (2, 0x0a),
            LoginStatus::InvalidDuringLogin => (2, 0x0b),
            LoginStatus::OutOfResources => (3, 0x02),
        }
    }
}
