//! `/pools`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::Value;

use super::body::{Body, Object, OptionalBody};
use super::openapi::{ChangeProblems, DeleteProblems, GetProblems, ListProblems};
use super::path::Named;
use super::query::{NoParameters, Parameters};
use crate::app::App;
use crate::app::page::Page;
use crate::app::pools::{Exported, NewBacking, NewPool, Pool};
use crate::error::{Error, Result};
use crate::names::Name;

/// Lists pools by name.
#[utoipa::path(get, path = "/pools", tag = "pools", operation_id = "list_pools",
    params(
        ("limit" = Option<u32>, Query, description = "1 to 1000", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "`next` of the part before",
            pattern = "^[A-Za-z0-9_-]*$"),
    ),
    responses((status = 200, body = Page<Pool>), ListProblems))]
pub(super) async fn list(State(app): State<Arc<App>>, parameters: Parameters) -> Result<Json<Page<Pool>>> {
    let page = parameters.known(&["limit", "after"])?.page()?;
    Ok(Json(app.pools(&page).await?))
}

/// Makes or imports a pool. It can be used when this answers; the import of a pool that was not closed well waits for its
/// recovery. Where a pool shall be made and something is already: 409; what shall be imported and is no pool: 422; an
/// identifier or name of the pool or of one of its volumes that is in use here: 409, naming it; what cannot be used as it is
/// (a folder, not writable, in use, too small): 422 or 409 at `/backing/path`. A refused pool leaves nothing behind.
#[utoipa::path(post, path = "/pools", tag = "pools", operation_id = "create_pool",
    request_body = NewPool,
    responses((status = 201, body = Pool, headers(("location" = String))), ChangeProblems))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    _: NoParameters,
    Body(body): Body,
) -> Result<impl IntoResponse> {
    let pool = app.create_pool(parse(&body)?).await?;
    let location = [(header::LOCATION, format!("/api/v1/pools/{}", pool.name))];
    Ok((StatusCode::CREATED, location, Json(pool)))
}

/// Shows a pool.
#[utoipa::path(get, path = "/pools/{name}", tag = "pools", operation_id = "get_pool",
    params(("name" = String, Path, description = "Name of the pool")),
    responses((status = 200, body = Pool), GetProblems))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<Json<Pool>> {
    Ok(Json(app.pool(&name).await?))
}

/// Removes a pool without volumes. A pool in a file or on a device is destroyed: its superblocks are wiped, and a file that was
/// made for the pool is removed; the file of an imported pool stays, without a pool in it. To keep the pool, export it.
#[utoipa::path(delete, path = "/pools/{name}", tag = "pools", operation_id = "delete_pool",
    params(("name" = String, Path, description = "Name of the pool")),
    responses((status = 204, description = "Removed"), DeleteProblems))]
pub(super) async fn delete(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<StatusCode> {
    app.delete_pool(&name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Lets a pool in a file or on a device go with its volumes, without destroying it: everything is written, the pool is closed
/// well, and this appliance forgets it. It can be imported here or elsewhere and keeps all identifiers. Refused (409) while one
/// of its volumes is mapped, and (422) for a memory pool. There is no body.
#[utoipa::path(post, path = "/pools/{name}/export", tag = "pools", operation_id = "export_pool",
    params(("name" = String, Path, description = "Name of the pool")),
    responses((status = 200, body = Exported), ChangeProblems))]
pub(super) async fn export(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
    OptionalBody(body): OptionalBody,
) -> Result<Json<Exported>> {
    Object::new(&body, "", &[], &[])?;
    Ok(Json(app.export_pool(&name).await?))
}

fn parse(body: &Value) -> Result<NewPool> {
    let object = Object::new(body, "", &["name", "backing"], &["overcommit"])?;
    let name = object.required("name", object.name("name", Name::parse)?)?;
    let backing = object.required("backing", object.get("backing"))?;
    Ok(NewPool {
        name,
        backing: parse_backing(backing)?,
        overcommit: object.number("overcommit")?.unwrap_or(1.0),
    })
}

fn parse_backing(value: &Value) -> Result<NewBacking> {
    let object = Object::open(value, "/backing")?;
    let kind = object.required("kind", object.text("kind")?)?;
    match kind {
        "memory" => {
            let object = Object::new(value, "/backing", &["kind", "size_bytes"], &[])?;
            let size_bytes = object.required("size_bytes", object.integer("size_bytes")?)?;
            Ok(NewBacking::Memory { size_bytes })
        }
        "file" => {
            let import = object.boolean("import")?.unwrap_or(false);
            let (required, optional): (&[&str], &[&str]) = if import {
                (&["kind", "path"], &["size_bytes", "import"])
            } else {
                (&["kind", "path", "size_bytes"], &["import"])
            };
            let object = Object::new(value, "/backing", required, optional)?;
            let path = object.required("path", object.text("path")?)?.to_owned();
            Ok(NewBacking::File { path, size_bytes: object.integer("size_bytes")?, import })
        }
        "block" => {
            let object = Object::new(value, "/backing", &["kind", "path"], &["import"])?;
            let path = object.required("path", object.text("path")?)?.to_owned();
            Ok(NewBacking::Block { path, import: object.boolean("import")?.unwrap_or(false) })
        }
        _ => Err(Error::value("/backing/kind", "must be one of memory, file, block")),
    }
}
