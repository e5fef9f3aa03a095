//! `/healthz` and `/readyz`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::{App, Sync};
use crate::error::{Error, Result};

/// That something is well.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Status {
    /// `ok` or `ready`.
    status: &'static str,
}

/// Says whether this process serves.
#[utoipa::path(get, path = "/healthz", tag = "system", operation_id = "healthz",
    responses((status = 200, body = Status)))]
pub(super) async fn healthz() -> Json<Status> {
    Json(Status { status: "ok" })
}

/// Says whether the target runs what is wanted.
#[utoipa::path(get, path = "/readyz", tag = "system", operation_id = "readyz",
    responses(
        (status = 200, body = Status),
        (status = 503, description = "It does not, and why", content_type = "application/problem+json",
            body = super::problem::Problem)))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Json<Status>> {
    match &*app.sync().borrow() {
        Sync::InSync => Ok(Json(Status { status: "ready" })),
        Sync::Waiting { reason } => Err(Error::TargetAway(reason.clone())),
    }
}
