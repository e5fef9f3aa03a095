//! `/hosts/{name}/counters`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::openapi::GetProblems;
use super::path::Named;
use super::query::NoParameters;
use crate::app::App;
use crate::app::counters::HostCounters;
use crate::error::Result;

/// Shows a host's counters since its record began; less than two seconds old while the target can be asked.
#[utoipa::path(get, path = "/hosts/{name}/counters", tag = "hosts", operation_id = "get_counters",
    params(("name" = String, Path, description = "Name of the host")),
    responses((status = 200, body = HostCounters), GetProblems))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<Json<HostCounters>> {
    Ok(Json(app.counters(&name).await?))
}
