//! `/hosts`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::Value;

use super::body::{Body, Object, check_patch};
use super::openapi::{ChangeProblems, DeleteProblems, GetProblems, ListProblems};
use super::path::Named;
use super::query::{NoParameters, Parameters};
use crate::app::App;
use crate::app::auth::{AuthPatch, ChapPatch, NewAuth, NewChap};
use crate::app::hosts::{Host, HostFilter, HostPatch, NewHost, NewPolicy, PolicyPatch};
use crate::app::page::Page;
use crate::app::words::Policy;
use crate::error::Result;
use crate::names::{Iqn, Name, NameError, Nqn};

/// Lists hosts by name.
#[utoipa::path(get, path = "/hosts", tag = "hosts", operation_id = "list_hosts",
    params(
        ("nqn" = Option<String>, Query, description = "Only the host with this NQN"),
        ("iqn" = Option<String>, Query, description = "Only the host with this iSCSI name"),
        ("limit" = Option<u32>, Query, description = "1 to 1000", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "`next` of the part before",
            pattern = "^[A-Za-z0-9_-]*$"),
    ),
    responses((status = 200, body = Page<Host>), ListProblems))]
pub(super) async fn list(State(app): State<Arc<App>>, parameters: Parameters) -> Result<Json<Page<Host>>> {
    let parameters = parameters.known(&["nqn", "iqn", "limit", "after"])?;
    let text = |name| parameters.get(name).map(str::to_owned);
    let filter = HostFilter { nqn: text("nqn"), iqn: text("iqn") };
    Ok(Json(app.hosts(&filter, &parameters.page()?).await?))
}

/// Registers a host. A record that was made on its first connection is merged into it, with its history.
#[utoipa::path(post, path = "/hosts", tag = "hosts", operation_id = "create_host",
    request_body = NewHost,
    responses((status = 201, body = Host, headers(("location" = String))), ChangeProblems))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    _: NoParameters,
    Body(body): Body,
) -> Result<impl IntoResponse> {
    let host = app.create_host(parse(&body)?).await?;
    let location = [(header::LOCATION, format!("/api/v1/hosts/{}", host.name))];
    Ok((StatusCode::CREATED, location, Json(host)))
}

/// Shows a host.
#[utoipa::path(get, path = "/hosts/{name}", tag = "hosts", operation_id = "get_host",
    params(("name" = String, Path, description = "Name of the host")),
    responses((status = 200, body = Host), GetProblems))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<Json<Host>> {
    Ok(Json(app.host(&name).await?))
}

/// Changes identities, the declared policy or how the host proves itself: a merge patch (RFC 7396).
#[utoipa::path(patch, path = "/hosts/{name}", tag = "hosts", operation_id = "patch_host",
    params(("name" = String, Path, description = "Name of the host")),
    request_body(content((HostPatch = "application/merge-patch+json"), (HostPatch = "application/json"))),
    responses((status = 200, body = Host), ChangeProblems))]
pub(super) async fn patch(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
    Body(body): Body,
) -> Result<Json<Host>> {
    let current = serde_json::to_value(app.host(&name).await?).unwrap_or_default();
    let policy = if body.get("policy").is_some_and(Value::is_null) { "/policy" } else { "/policy/declared" };
    check_patch(&current, &body, "", &["/nqn", "/iqn", "/auth", policy])?;
    Ok(Json(app.patch_host(&name, parse_patch(&body)?).await?))
}

/// Removes a host without sessions and grants.
#[utoipa::path(delete, path = "/hosts/{name}", tag = "hosts", operation_id = "delete_host",
    params(("name" = String, Path, description = "Name of the host")),
    responses((status = 204, description = "Removed"), DeleteProblems))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<StatusCode> {
    app.delete_host(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(body: &Value) -> Result<NewHost> {
    let object = Object::new(body, "", &["name"], &["nqn", "iqn", "policy", "auth"])?;
    Ok(NewHost {
        name: object.required("name", object.name("name", Name::parse)?)?,
        nqn: identity(&object, "nqn", Nqn::parse_host)?.flatten(),
        iqn: identity(&object, "iqn", Iqn::parse)?.flatten(),
        policy: object.get("policy").map(parse_policy).transpose()?,
        auth: object.get("auth").filter(|auth| !auth.is_null()).map(parse_auth).transpose()?,
    })
}

fn parse_auth(value: &Value) -> Result<NewAuth> {
    let auth = Object::new(value, "/auth", &[], &["chap"])?;
    let Some(chap) = auth.get("chap").filter(|chap| !chap.is_null()) else {
        return Ok(NewAuth { chap: None });
    };
    let chap = Object::new(chap, "/auth/chap", &["user", "secret"], &["mutual_user", "mutual_secret"])?;
    let text = |field| chap.text(field).map(|text| text.unwrap_or_default().to_owned());
    Ok(NewAuth {
        chap: Some(NewChap {
            user: text("user")?,
            secret: text("secret")?,
            mutual_user: nullable(&chap, "mutual_user")?.flatten(),
            mutual_secret: nullable(&chap, "mutual_secret")?.flatten(),
        }),
    })
}

fn parse_auth_patch(value: &Value) -> Result<AuthPatch> {
    let auth = Object::new(value, "/auth", &[], &["chap"])?;
    let chap = match auth.get("chap") {
        None => None,
        Some(Value::Null) => Some(None),
        Some(chap) => {
            let fields = ["user", "secret", "mutual_user", "mutual_secret"];
            let chap = Object::new(chap, "/auth/chap", &[], &fields)?;
            let text = |field| chap.text(field).map(|text| text.map(str::to_owned));
            Some(Some(ChapPatch {
                user: text("user")?,
                secret: text("secret")?,
                mutual_user: nullable(&chap, "mutual_user")?,
                mutual_secret: nullable(&chap, "mutual_secret")?,
            }))
        }
    };
    Ok(AuthPatch { chap })
}

/// A text or null; `None` where the field is not there.
fn nullable(object: &Object<'_>, field: &str) -> Result<Option<Option<String>>> {
    if object.is_null(field) {
        return Ok(Some(None));
    }
    Ok(object.text(field)?.map(|text| Some(text.to_owned())))
}

fn parse_policy(value: &Value) -> Result<NewPolicy> {
    let object = Object::new(value, "/policy", &[], &["declared"])?;
    Ok(NewPolicy { declared: object.word("declared", Policy::WORDS)? })
}

fn parse_patch(body: &Value) -> Result<HostPatch> {
    let object = Object::open(body, "")?;
    let policy = match object.get("policy") {
        None => None,
        Some(Value::Null) => Some(PolicyPatch { declared: Some(None) }),
        Some(value) => {
            let policy = Object::open(value, "/policy")?;
            let declared = if policy.is_null("declared") {
                Some(None)
            } else {
                policy.word("declared", Policy::WORDS)?.map(Some)
            };
            Some(PolicyPatch { declared })
        }
    };
    Ok(HostPatch {
        nqn: identity(&object, "nqn", Nqn::parse_host)?,
        iqn: identity(&object, "iqn", Iqn::parse)?,
        policy,
        auth: match object.get("auth") {
            None => None,
            Some(Value::Null) => Some(None),
            Some(auth) => Some(Some(parse_auth_patch(auth)?)),
        },
    })
}

/// An identity or null; `None` where the field is not there.
fn identity<T>(
    object: &Object<'_>,
    field: &str,
    parse: fn(&str) -> Result<T, NameError>,
) -> Result<Option<Option<T>>> {
    if object.is_null(field) { Ok(Some(None)) } else { Ok(object.name(field, parse)?.map(Some)) }
}
