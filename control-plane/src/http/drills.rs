//! `/drills`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use serde_json::Value;

use super::body::{Body, Object};
use super::openapi::{ChangeProblems, GetProblems};
use super::path::Named;
use super::query::NoParameters;
use crate::app::App;
use crate::app::drills::{Drill, NewDrill};
use crate::app::words::DrillStageWord;
use crate::error::Result;

/// Flips one bit of a volume on purpose. `media`: beneath the store's checksum, at once (422 on a memory pool); `target-memory`:
/// in the block's next write, after its protection information was checked and before the store's checksum is made. 404
/// unless the appliance was started with `--enable-drills`.
#[utoipa::path(post, path = "/drills", tag = "system", operation_id = "create_drill",
    request_body = NewDrill,
    responses((status = 201, body = Drill, headers(("location" = String))), ChangeProblems))]
pub(super) async fn create(
    State(app): State<Arc<App>>,
    _: NoParameters,
    Body(body): Body,
) -> Result<impl IntoResponse> {
    app.demand_drills()?;
    let drill = app.create_drill(parse(&body)?).await?;
    let location = [(header::LOCATION, format!("/api/v1/drills/{}", drill.id))];
    Ok((StatusCode::CREATED, location, Json(drill)))
}

/// Shows a drill.
#[utoipa::path(get, path = "/drills/{id}", tag = "system", operation_id = "get_drill",
    params(("id" = String, Path, description = "Identifier of the drill")),
    responses((status = 200, body = Drill), GetProblems))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named(id): Named<String>,
    _: NoParameters,
) -> Result<Json<Drill>> {
    Ok(Json(app.drill(&id).await?))
}

fn parse(body: &Value) -> Result<NewDrill> {
    let object = Object::new(body, "", &["volume", "lba", "stage", "bit"], &[])?;
    Ok(NewDrill {
        volume: object.required("volume", object.text("volume")?)?.to_owned(),
        lba: object.required("lba", object.integer("lba")?)?,
        stage: object.required("stage", object.word("stage", DrillStageWord::WORDS)?)?,
        bit: object.required("bit", object.integer("bit")?)?,
    })
}
