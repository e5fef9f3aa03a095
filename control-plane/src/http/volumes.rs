//! `/volumes`.

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
use crate::app::volumes::{BLOCK_SIZE_DEFAULT, NewPi, NewVolume, Volume, VolumePatch};
use crate::app::words::Guard;
use crate::error::{Error, Result};
use crate::names::Name;

/// Lists volumes by name.
#[utoipa::path(get, path = "/volumes", tag = "volumes", operation_id = "list_volumes",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "`next` of the part before",
            pattern = "^[A-Za-z0-9_-]*$"),
    ),
    responses((status = 200, body = Page<Volume>), ListProblems))]
pub(super) async fn list(State(app): State<Arc<App>>, parameters: Parameters) -> Result<Json<Page<Volume>>> {
    let page = parameters.known(&["limit", "after"])?.page()?;
    Ok(Json(app.volumes(&page).await?))
}

/// Makes a volume. It can be mapped when this answers.
#[utoipa::path(post, path = "/volumes", tag = "volumes", operation_id = "create_volume",
    request_body = NewVolume,
    responses((status = 201, body = Volume, headers(("location" = String))), ChangeProblems))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    _: NoParameters,
    Body(body): Body,
) -> Result<impl IntoResponse> {
    let volume = app.create_volume(parse(&body)?).await?;
    let location = [(header::LOCATION, format!("/api/v1/volumes/{}", volume.name))];
    Ok((StatusCode::CREATED, location, Json(volume)))
}

/// Shows a volume.
#[utoipa::path(get, path = "/volumes/{name}", tag = "volumes", operation_id = "get_volume",
    params(("name" = String, Path, description = "Name of the volume")),
    responses((status = 200, body = Volume), GetProblems))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<Json<Volume>> {
    Ok(Json(app.volume(&name).await?))
}

/// Grows a volume: a merge patch (RFC 7396).
#[utoipa::path(patch, path = "/volumes/{name}", tag = "volumes", operation_id = "patch_volume",
    params(("name" = String, Path, description = "Name of the volume")),
    request_body(content((VolumePatch = "application/merge-patch+json"), (VolumePatch = "application/json"))),
    responses((status = 200, body = Volume), ChangeProblems))]
pub(super) async fn patch(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
    Body(body): Body,
) -> Result<Json<Volume>> {
    let current = serde_json::to_value(app.volume(&name).await?).unwrap_or_default();
    check_patch(&current, &body, "", &["/size_bytes"])?;
    let object = Object::open(&body, "")?;
    if object.is_null("size_bytes") {
        return Err(Error::value("/size_bytes", "a volume has a size"));
    }
    let patch = VolumePatch { size_bytes: object.integer("size_bytes")? };
    Ok(Json(app.patch_volume(&name, patch).await?))
}

/// Removes a volume that is mapped nowhere.
#[utoipa::path(delete, path = "/volumes/{name}", tag = "volumes", operation_id = "delete_volume",
    params(("name" = String, Path, description = "Name of the volume")),
    responses((status = 204, description = "Removed"), DeleteProblems))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<StatusCode> {
    app.delete_volume(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn parse(body: &Value) -> Result<NewVolume> {
    let object = Object::new(body, "", &["name", "pool", "size_bytes"], &["block_size", "pi"])?;
    Ok(NewVolume {
        name: object.required("name", object.name("name", Name::parse)?)?,
        pool: object.required("pool", object.text("pool")?)?.to_owned(),
        size_bytes: object.required("size_bytes", object.integer("size_bytes")?)?,
        block_size: object.integer("block_size")?.unwrap_or(BLOCK_SIZE_DEFAULT),
        pi: object.get("pi").map(parse_pi).transpose()?.unwrap_or_default(),
    })
}

fn parse_pi(value: &Value) -> Result<NewPi> {
    let object = Object::new(value, "/pi", &[], &["type", "guard", "storage_tag_bits"])?;
    Ok(NewPi {
        pi_type: object.integer("type")?,
        guard: object.word("guard", Guard::WORDS)?,
        storage_tag_bits: object.integer("storage_tag_bits")?,
    })
}
