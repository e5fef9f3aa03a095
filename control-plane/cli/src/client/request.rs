//! Requests to the API over HTTP/1.1.

use std::str::FromStr;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Request, Response};
use ureq::{Agent, Body};

use super::{ClientError, Purpose};

/// How long a connection may take.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How long one call may take, but for those whose purpose is patient.
const CALL_LIMIT: Duration = Duration::from_secs(120);

/// Largest answer that is read: a page of a list is far smaller.
const ANSWER_MAX_BYTES: u64 = 64 << 20;

/// The address of an API, without a slash at the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiUrl(String);

/// Why a text is no address of an API.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ApiUrlError {
    /// Another scheme, or none.
    #[error("write http://HOST:PORT")]
    Scheme,
    /// TLS is not there yet.
    #[error("https is not in this version: write http://HOST:PORT")]
    Https,
    /// No host, or characters that no address has.
    #[error("this is no address: write http://HOST:PORT without a path")]
    Malformed,
}

impl FromStr for ApiUrl {
    type Err = ApiUrlError;

    fn from_str(text: &str) -> Result<Self, ApiUrlError> {
        if text.starts_with("https://") {
            return Err(ApiUrlError::Https);
        }
        let host = text.strip_prefix("http://").ok_or(ApiUrlError::Scheme)?.trim_end_matches('/');
        let authority: ureq::http::uri::Authority = host.parse().map_err(|_| ApiUrlError::Malformed)?;
        if authority.host().is_empty() || host.contains('@') {
            return Err(ApiUrlError::Malformed);
        }
        Ok(Self(format!("http://{host}")))
    }
}

impl Default for ApiUrl {
    fn default() -> Self {
        Self("http://127.0.0.1:8080".to_owned())
    }
}

impl std::fmt::Display for ApiUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What is done to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Read.
    Get,
    /// Create.
    Post,
    /// Create or replace.
    Put,
    /// Change some members (RFC 7396).
    Patch,
    /// Delete.
    Delete,
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
        }
    }

    /// RFC 7396 names a media type of its own for patches.
    fn content_type(self) -> &'static str {
        if self == Self::Patch { "application/merge-patch+json" } else { "application/json" }
    }
}

/// A client of one API.
#[derive(Debug)]
pub(crate) struct Api {
    url: ApiUrl,
    agent: Agent,
    /// Without a limit.
    streaming: Agent,
}

impl Api {
    /// A client; nothing is sent yet.
    pub(crate) fn new(url: ApiUrl) -> Self {
        let agent = |limit| {
            let config = Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                // The API is on this machine or near it; a proxy for the web has no business in between.
                .proxy(None)
                .timeout_connect(Some(CONNECT_LIMIT))
                .timeout_global(limit)
                .user_agent(concat!("holdfast/", env!("CARGO_PKG_VERSION")))
                .build();
            Agent::new_with_config(config)
        };
        Self { url, agent: agent(Some(CALL_LIMIT)), streaming: agent(None) }
    }

    /// The API's address.
    pub(crate) fn url(&self) -> &ApiUrl {
        &self.url
    }

    /// Calls a path below the root and gives back the body of an answer that is not a refusal.
    ///
    /// # Errors
    /// Not reachable, refused, or not understood.
    pub(crate) fn call(
        &self,
        purpose: &Purpose,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<String, ClientError> {
        let (status, text) = self.exchange(purpose, method, path, body)?;
        match status {
            200..=299 => Ok(text),
            _ => Err(ClientError::refused(purpose, status, &text)),
        }
    }

    /// The status that a path below the root answers with.
    ///
    /// # Errors
    /// Not reachable or not understood.
    pub(crate) fn status_of(&self, purpose: &Purpose, path: &str) -> Result<u16, ClientError> {
        self.exchange(purpose, Method::Get, path, None).map(|(status, _)| status)
    }

    /// Opens a stream; its body has no end and no time limit.
    ///
    /// # Errors
    /// Not reachable or refused.
    pub(crate) fn open_stream(&self, purpose: &Purpose, path: &str) -> Result<Body, ClientError> {
        let request =
            Request::get(format!("{}{path}", self.url)).header("accept", "text/event-stream").body(());
        let request = request.map_err(|error| self.not_understood(purpose, error.to_string()))?;
        let mut response = self.streaming.run(request).map_err(|error| self.unreachable(purpose, &error))?;
        match response.status().as_u16() {
            200 => Ok(response.into_body()),
            status => {
                let text = self.read(purpose, &mut response)?;
                Err(ClientError::refused(purpose, status, &text))
            }
        }
    }

    /// An answer that this client does not understand.
    pub(crate) fn not_understood(&self, purpose: &Purpose, reason: impl Into<String>) -> ClientError {
        let (what, url) = (purpose.what.clone(), self.url.to_string());
        ClientError::NotUnderstood { what, url, reason: reason.into() }
    }

    fn exchange(
        &self,
        purpose: &Purpose,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(u16, String), ClientError> {
        let request = Request::builder()
            .method(method.name())
            .uri(format!("{}{path}", self.url))
            .header("accept", "application/json, application/problem+json");
        let malformed = |error: ureq::http::Error| self.not_understood(purpose, error.to_string());
        let agent = if purpose.patient { &self.streaming } else { &self.agent };
        let answer = match body {
            Some(body) => {
                let request = request.header("content-type", method.content_type()).body(body.to_string());
                agent.run(request.map_err(malformed)?)
            }
            None => agent.run(request.body(()).map_err(malformed)?),
        };
        let mut response = answer.map_err(|error| self.unreachable(purpose, &error))?;
        let text = self.read(purpose, &mut response)?;
        Ok((response.status().as_u16(), text))
    }

    fn read(&self, purpose: &Purpose, response: &mut Response<Body>) -> Result<String, ClientError> {
        let body = response.body_mut().with_config().limit(ANSWER_MAX_BYTES).read_to_string();
        body.map_err(|error| self.not_understood(purpose, error.to_string()))
    }

    fn unreachable(&self, purpose: &Purpose, error: &ureq::Error) -> ClientError {
        let (what, url) = (purpose.what.clone(), self.url.to_string());
        let reason = match error {
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "connection refused".into()
            }
            ureq::Error::HostNotFound => "no such host".into(),
            ureq::Error::Protocol(error) => return self.not_understood(purpose, error.to_string()),
            error => error.to_string(),
        };
        ClientError::Unreachable { what, url, reason }
    }
}

/// One segment of a path or one value of a query, percent-encoded. RFC 3986 §2.3 "Unreserved Characters".
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_apis_are_plain_http_without_a_path() {
        for (text, kept) in [
            ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("http://[::1]:8080/", "http://[::1]:8080"),
            ("http://storage", "http://storage"),
        ] {
            assert_eq!(text.parse::<ApiUrl>().unwrap().to_string(), kept);
        }
        assert_eq!("https://x".parse::<ApiUrl>(), Err(ApiUrlError::Https));
        assert_eq!("127.0.0.1:8080".parse::<ApiUrl>(), Err(ApiUrlError::Scheme));
        for text in ["http://", "http://a b", "http://x/api", "http://u@x", "http://:80", "http://x?y"] {
            assert_eq!(text.parse::<ApiUrl>(), Err(ApiUrlError::Malformed), "{text}");
        }
    }

    #[test]
    fn segments_cannot_leave_their_place() {
        assert_eq!(segment("v1.a_b-c~"), "v1.a_b-c~");
        assert_eq!(segment("a/b?c#d e%é"), "a%2Fb%3Fc%23d%20e%25%C3%A9");
    }
}
