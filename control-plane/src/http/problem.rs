//! Renders errors as RFC 9457 "Problem Details for HTTP APIs".

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Fault};

/// Media type of the answer.
pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// A problem, as every error is answered.
#[derive(Debug, Serialize, ToSchema)]
pub struct Problem {
    /// Identifies the kind of problem: `urn:holdfast:problem:…`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The kind in words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// This case.
    pub detail: String,
    /// Fields that are at fault.
    pub errors: Vec<ProblemField>,
}

/// A field that is at fault.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemField {
    /// JSON pointer into the body, or `/` and the name of a query parameter; empty for the whole.
    pub pointer: String,
    /// What is wrong with it.
    pub detail: String,
}

impl From<Fault> for ProblemField {
    fn from(fault: Fault) -> Self {
        Self { pointer: fault.pointer, detail: fault.detail }
    }
}

fn class(error: &Error) -> (StatusCode, &'static str, &'static str) {
    match error {
        Error::Shape(_) => (StatusCode::BAD_REQUEST, "malformed", "The request cannot be read"),
        Error::Unauthorized(_) => {
            (StatusCode::UNAUTHORIZED, "unauthorized", "The request shows no right token")
        }
        Error::Forbidden(_) => (StatusCode::FORBIDDEN, "forbidden", "The request comes from elsewhere"),
        Error::NoRoute | Error::NoDrills | Error::Missing { .. } => {
            (StatusCode::NOT_FOUND, "not-found", "There is no such thing")
        }
        Error::Method => (StatusCode::METHOD_NOT_ALLOWED, "method", "The method does not exist here"),
        Error::SlowBody => (StatusCode::REQUEST_TIMEOUT, "timeout", "The body did not arrive"),
        Error::Conflict(_) => (StatusCode::CONFLICT, "conflict", "It exists already or is in use"),
        Error::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "The body is too long"),
        Error::MediaType => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "media-type", "The body is not JSON"),
        Error::Value(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid", "A value cannot be"),
        Error::Refused(_) => (StatusCode::UNPROCESSABLE_ENTITY, "refused", "The target refused the change"),
        Error::TooManyStreams => (StatusCode::SERVICE_UNAVAILABLE, "busy", "Too many event streams"),
        Error::TargetAway(_) => (StatusCode::SERVICE_UNAVAILABLE, "target-away", "The target is away"),
        Error::LostDatabase { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, "lost-database", "The database is not this target's")
        }
        Error::NoRoom(_) => (StatusCode::INSUFFICIENT_STORAGE, "no-room", "There is no room"),
        Error::Database(_) | Error::Target(_) | Error::Stored(_) => {
            (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something is wrong inside")
        }
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let (status, kind, title) = class(&self);
        if status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error = ?self, "request failed");
        }
        let mut detail = self.to_string();
        let errors: Vec<ProblemField> = match self {
            Self::Shape(faults) | Self::Value(faults) => faults.into_iter().map(ProblemField::from).collect(),
            Self::Conflict(fault) | Self::NoRoom(fault) => vec![fault.into()],
            Self::Refused(faults) => {
                faults.into_iter().map(|fault| Fault::from_target(&fault).into()).collect()
            }
            _ => Vec::new(),
        };
        if let (Some(first), 400 | 422) = (errors.first(), status.as_u16()) {
            detail = if first.pointer.is_empty() {
                first.detail.clone()
            } else {
                format!("{}: {}", first.pointer, first.detail)
            };
        }
        let problem = Problem {
            kind: format!("urn:holdfast:problem:{kind}"),
            title: title.to_owned(),
            status: status.as_u16(),
            detail,
            errors,
        };
        let mut response = (status, axum::Json(problem)).into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        if status == StatusCode::UNAUTHORIZED {
            // RFC 9110, 15.5.2: it has to say how.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
