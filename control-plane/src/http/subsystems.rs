//! `/subsystems`.

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
use crate::app::page::Page;
use crate::app::subsystems::{NewSubsystem, Subsystem, SubsystemPatch};
use crate::error::Result;
use crate::names::{Iqn, Nqn, SubsystemName};

/// Lists subsystems by name.
#[utoipa::path(get, path = "/subsystems", tag = "subsystems", operation_id = "list_subsystems",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "`next` of the part before",
            pattern = "^[A-Za-z0-9_-]*$"),
    ),
    responses((status = 200, body = Page<Subsystem>), ListProblems))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    parameters: Parameters,
) -> Result<Json<Page<Subsystem>>> {
    let page = parameters.known(&["limit", "after"])?.page()?;
    Ok(Json(app.subsystems(&page).await?))
}

/// Makes a subsystem.
#[utoipa::path(post, path = "/subsystems", tag = "subsystems", operation_id = "create_subsystem",
    request_body = NewSubsystem,
    responses((status = 201, body = Subsystem, headers(("location" = String))), ChangeProblems))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    _: NoParameters,
    Body(body): Body,
) -> Result<impl IntoResponse> {
    let subsystem = app.create_subsystem(parse(&body)?).await?;
    let location = [(header::LOCATION, format!("/api/v1/subsystems/{}", subsystem.name))];
    Ok((StatusCode::CREATED, location, Json(subsystem)))
}

/// Shows a subsystem.
#[utoipa::path(get, path = "/subsystems/{name}", tag = "subsystems", operation_id = "get_subsystem",
    params(("name" = String, Path, description = "Name of the subsystem")),
    responses((status = 200, body = Subsystem), GetProblems))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<Json<Subsystem>> {
    Ok(Json(app.subsystem(&name).await?))
}

/// Opens or closes a subsystem to hosts without a grant: a merge patch (RFC 7396).
#[utoipa::path(patch, path = "/subsystems/{name}", tag = "subsystems", operation_id = "patch_subsystem",
    params(("name" = String, Path, description = "Name of the subsystem")),
    request_body(content((SubsystemPatch = "application/merge-patch+json"), (SubsystemPatch = "application/json"))),
    responses((status = 200, body = Subsystem), ChangeProblems))]
pub(super) async fn patch(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
    Body(body): Body,
) -> Result<Json<Subsystem>> {
    let current = serde_json::to_value(app.subsystem(&name).await?).unwrap_or_default();
    check_patch(&current, &body, "", &["/allow_any_host"])?;
    let object = Object::open(&body, "")?;
    let allow_any_host =
        if object.is_null("allow_any_host") { Some(false) } else { object.boolean("allow_any_host")? };
    Ok(Json(app.patch_subsystem(&name, SubsystemPatch { allow_any_host }).await?))
}

/// Removes a subsystem without namespaces. Its grants go with it.
#[utoipa::path(delete, path = "/subsystems/{name}", tag = "subsystems", operation_id = "delete_subsystem",
    params(("name" = String, Path, description = "Name of the subsystem")),
    responses((status = 204, description = "Removed"), DeleteProblems))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<StatusCode> {
    app.delete_subsystem(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(body: &Value) -> Result<NewSubsystem> {
    let object = Object::new(body, "", &["name"], &["nqn", "iqn", "allow_any_host"])?;
    Ok(NewSubsystem {
        name: object.required("name", object.name("name", SubsystemName::parse)?)?,
        nqn: object.name("nqn", Nqn::parse)?,
        iqn: object.name("iqn", Iqn::parse)?,
        allow_any_host: object.boolean("allow_any_host")?.unwrap_or(false),
    })
}
