//! Who may ask. Without log-in the API lives on a loopback address, which keeps other machines out but not web pages
//! in a browser on this one: those come under a foreign name (DNS rebinding) or from a foreign origin, and both
//! show in headers that pages cannot forge.

use std::net::{IpAddr, Ipv6Addr};

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::error::Error;

/// For the one page that is served: its own files and nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Refuses requests under foreign names and changes from foreign pages.
pub(crate) async fn refuse_strangers(request: Request, next: Next) -> Response {
    let host = host_of(&request);
    if !host.as_deref().is_some_and(is_loopback) {
        return Error::Forbidden("the Host header must name a loopback address").into_response();
    }
    if !is_reading(request.method()) && !same_site(request.headers(), host.as_deref().unwrap_or_default()) {
        return Error::Forbidden("a page of another site may not change anything").into_response();
    }
    next.run(request).await
}

/// Carries a change through even if the asker hangs up: half-way, nobody would know what became of it.
pub(crate) async fn finish_changes(request: Request, next: Next) -> Response {
    if is_reading(request.method()) {
        return next.run(request).await;
    }
    match tokio::spawn(next.run(request)).await {
        Ok(response) => response,
        Err(error) => Error::Stored(error.to_string()).into_response(),
    }
}

/// Adds what every answer carries for browsers' sake.
pub(crate) async fn harden(request: Request, next: Next) -> Response {
    let is_ui = request.uri().path() == "/" || request.uri().path().starts_with("/ui/");
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    let fixed = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::CACHE_CONTROL, if is_ui { "no-cache" } else { "no-store" }),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn is_reading(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The name that the asker used, with its port.
fn host_of(request: &Request) -> Option<String> {
    let header = request.headers().get(header::HOST).and_then(|value| value.to_str().ok());
    header.map(str::to_owned).or_else(|| request.uri().authority().map(ToString::to_string))
}

/// `localhost`, 127.0.0.0/8 or `[::1]`, with or without a port.
fn is_loopback(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else { return false };
        let port_is_good = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return port_is_good && address.parse::<Ipv6Addr>().is_ok_and(|address| address.is_loopback());
    }
    let (name, port) = host.split_once(':').unwrap_or((host, "0"));
    let name_is_good = name.eq_ignore_ascii_case("localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    name_is_good && is_port(port)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok()
}

/// Programs send neither header; browsers send both for what pages do.
fn same_site(headers: &HeaderMap, host: &str) -> bool {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let origin_is_ours = text(header::ORIGIN).is_none_or(|origin| {
        origin.strip_prefix("http://").is_some_and(|origin| origin.eq_ignore_ascii_case(host))
    });
    let fetch_is_ours = text(HeaderName::from_static("sec-fetch-site"))
        .is_none_or(|site| matches!(site, "same-origin" | "none"));
    origin_is_ours && fetch_is_ours
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_ours() {
        for ours in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:8080", "[::1]"] {
            assert!(is_loopback(ours), "{ours}");
        }
        for foreign in [
            "",
            "evil.example",
            "localhost.evil.example:80",
            "10.0.0.1:8080",
            "[::2]:80",
            "[::1]x",
            "127.0.0.1:x",
        ] {
            assert!(!is_loopback(foreign), "{foreign}");
        }
    }

    #[test]
    fn pages_of_other_sites_change_nothing() {
        let with = |name: &'static str, value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
            same_site(&headers, "127.0.0.1:8080")
        };
        assert!(same_site(&HeaderMap::new(), "127.0.0.1:8080"));
        assert!(with("origin", "http://127.0.0.1:8080"));
        assert!(!with("origin", "http://127.0.0.1:9090"));
        assert!(!with("origin", "https://evil.example"));
        assert!(!with("origin", "null"));
        assert!(with("sec-fetch-site", "same-origin"));
        assert!(!with("sec-fetch-site", "cross-site"));
        assert!(!with("sec-fetch-site", "same-site"));
    }
}
