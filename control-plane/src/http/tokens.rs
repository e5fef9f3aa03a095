//! `/hosts/{name}/token`, and what a request shows of one.

use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::body::{Object, OptionalBody};
use super::openapi::{ChangeProblems, DeleteProblems, GetProblems};
use super::path::Named;
use super::query::NoParameters;
use crate::app::App;
use crate::app::tokens::{NewToken, Token};
use crate::error::Result;

/// The token of `Authorization: Bearer` (RFC 6750); another scheme, or what is no text, is an empty one, which nobody has.
pub(super) struct Bearer(pub(super) Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Bearer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let shown = parts.headers.get(header::AUTHORIZATION).map(|value| {
            let (scheme, token) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
            if scheme.eq_ignore_ascii_case("bearer") { token.trim().to_owned() } else { String::new() }
        });
        Ok(Self(shown))
    }
}

/// Makes the token with which the host's agent reports, and shows it this once. The one before is no longer taken. There is no body.
#[utoipa::path(post, path = "/hosts/{name}/token", tag = "hosts", operation_id = "create_token",
    params(("name" = String, Path, description = "Name of the host")),
    responses((status = 201, body = NewToken, headers(("location" = String))), ChangeProblems))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
    OptionalBody(body): OptionalBody,
) -> Result<impl IntoResponse> {
    Object::new(&body, "", &[], &[])?;
    let token = app.create_token(&name).await?;
    let headers = [
        (header::LOCATION, format!("/api/v1/hosts/{name}/token")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, Json(token)))
}

/// Says since when the host has a token; 404 while it has none.
#[utoipa::path(get, path = "/hosts/{name}/token", tag = "hosts", operation_id = "get_token",
    params(("name" = String, Path, description = "Name of the host")),
    responses((status = 200, body = Token), GetProblems))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<Json<Token>> {
    Ok(Json(app.token(&name).await?))
}

/// Takes the host's token away: reports for it need none from now on.
#[utoipa::path(delete, path = "/hosts/{name}/token", tag = "hosts", operation_id = "delete_token",
    params(("name" = String, Path, description = "Name of the host")),
    responses((status = 204, description = "Removed"), DeleteProblems))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<StatusCode> {
    app.delete_token(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}
