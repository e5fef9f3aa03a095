//! `/subsystems/{name}/namespaces`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::Value;

use super::body::{Body, Object};
use super::openapi::{ChangeProblems, DeleteProblems, GetProblems};
use super::path::Named;
use super::query::{NoParameters, Parameters};
use crate::app::App;
use crate::app::namespaces::{Namespace, NewNamespace};
use crate::app::page::Page;
use crate::error::{Error, Result};

/// Lists what a subsystem maps, by number.
#[utoipa::path(get, path = "/subsystems/{name}/namespaces", tag = "subsystems", operation_id = "list_namespaces",
    params(
        ("name" = String, Path, description = "Name of the subsystem"),
        ("limit" = Option<u32>, Query, description = "1 to 1000", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "`next` of the part before",
            pattern = "^[A-Za-z0-9_-]*$"),
    ),
    responses((status = 200, body = Page<Namespace>), GetProblems))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    parameters: Parameters,
) -> Result<Json<Page<Namespace>>> {
    let page = parameters.known(&["limit", "after"])?.page()?;
    Ok(Json(app.namespaces(&name, &page).await?))
}

/// Maps a volume. Connected hosts are told.
#[utoipa::path(post, path = "/subsystems/{name}/namespaces", tag = "subsystems", operation_id = "create_namespace",
    params(("name" = String, Path, description = "Name of the subsystem")),
    request_body = NewNamespace,
    responses((status = 201, body = Namespace, headers(("location" = String))), ChangeProblems))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
    Body(body): Body,
) -> Result<impl IntoResponse> {
    let namespace = app.create_namespace(&name, parse(&body)?).await?;
    let location = [(header::LOCATION, format!("/api/v1/subsystems/{name}/namespaces/{}", namespace.nsid))];
    Ok((StatusCode::CREATED, location, Json(namespace)))
}

/// Takes a mapping away, under I/O or not.
#[utoipa::path(delete, path = "/subsystems/{name}/namespaces/{nsid}", tag = "subsystems",
    operation_id = "delete_namespace",
    params(
        ("name" = String, Path, description = "Name of the subsystem"),
        ("nsid" = u32, Path, description = "Number of the namespace", minimum = 1, maximum = 1024),
    ),
    responses((status = 204, description = "Removed"), DeleteProblems))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Named((name, nsid)): Named<(String, String)>,
    _: NoParameters,
) -> Result<StatusCode> {
    let missing = || Error::missing("namespace", format!("{nsid} in {name}"));
    let number = nsid.parse().ok().filter(|number: &u32| number.to_string() == nsid).ok_or_else(missing)?;
    app.delete_namespace(&name, number).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(body: &Value) -> Result<NewNamespace> {
    let object = Object::new(body, "", &["volume"], &["nsid"])?;
    Ok(NewNamespace {
        volume: object.required("volume", object.text("volume")?)?.to_owned(),
        nsid: object.integer("nsid")?,
    })
}
