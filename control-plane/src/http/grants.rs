//! `/subsystems/{name}/hosts`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::Value;

use super::body::{Object, OptionalBody};
use super::openapi::{ChangeProblems, DeleteProblems, GetProblems};
use super::path::Named;
use super::query::{NoParameters, Parameters};
use crate::app::App;
use crate::app::grants::{Enforce, Grant, NewGrant, View};
use crate::app::page::Page;
use crate::error::Result;

/// Lists the grants of a subsystem by host.
#[utoipa::path(get, path = "/subsystems/{name}/hosts", tag = "subsystems", operation_id = "list_grants",
    params(
        ("name" = String, Path, description = "Name of the subsystem"),
        ("limit" = Option<u32>, Query, description = "1 to 1000", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "`next` of the part before",
            pattern = "^[A-Za-z0-9_-]*$"),
    ),
    responses((status = 200, body = Page<Grant>), GetProblems))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    parameters: Parameters,
) -> Result<Json<Page<Grant>>> {
    let page = parameters.known(&["limit", "after"])?.page()?;
    Ok(Json(app.grants(&name, &page).await?))
}

/// Lets a host use a subsystem, or changes how.
#[utoipa::path(put, path = "/subsystems/{name}/hosts/{host}", tag = "subsystems", operation_id = "put_grant",
    params(
        ("name" = String, Path, description = "Name of the subsystem"),
        ("host" = String, Path, description = "Name of the host"),
    ),
    request_body = Option<NewGrant>,
    responses(
        (status = 200, body = Grant, description = "Changed"),
        (status = 201, body = Grant, description = "New"),
        ChangeProblems))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Named((name, host)): Named<(String, String)>,
    _: NoParameters,
    OptionalBody(body): OptionalBody,
) -> Result<(StatusCode, Json<Grant>)> {
    let (grant, is_new) = app.put_grant(&name, &host, parse(&body)?).await?;
    Ok((if is_new { StatusCode::CREATED } else { StatusCode::OK }, Json(grant)))
}

/// Shows a grant.
#[utoipa::path(get, path = "/subsystems/{name}/hosts/{host}", tag = "subsystems", operation_id = "get_grant",
    params(
        ("name" = String, Path, description = "Name of the subsystem"),
        ("host" = String, Path, description = "Name of the host"),
    ),
    responses((status = 200, body = Grant), GetProblems))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named((name, host)): Named<(String, String)>,
    _: NoParameters,
) -> Result<Json<Grant>> {
    Ok(Json(app.grant(&name, &host).await?))
}

/// Takes a grant away. Sessions that lose access by it end.
#[utoipa::path(delete, path = "/subsystems/{name}/hosts/{host}", tag = "subsystems", operation_id = "delete_grant",
    params(
        ("name" = String, Path, description = "Name of the subsystem"),
        ("host" = String, Path, description = "Name of the host"),
    ),
    responses((status = 204, description = "Removed"), DeleteProblems))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Named((name, host)): Named<(String, String)>,
    _: NoParameters,
) -> Result<StatusCode> {
    app.delete_grant(&name, &host).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(body: &Value) -> Result<NewGrant> {
    let object = Object::new(body, "", &[], &["view", "enforce"])?;
    Ok(NewGrant {
        view: object.word("view", View::WORDS)?.unwrap_or(View::Auto),
        enforce: object.word("enforce", Enforce::WORDS)?.unwrap_or(Enforce::Any),
    })
}
