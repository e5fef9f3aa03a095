//! `/incidents`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;

use super::openapi::{GetProblems, ListProblems};
use super::path::Named;
use super::query::{NoParameters, Parameters};
use crate::app::App;
use crate::app::incidents::{Incident, IncidentFilter};
use crate::app::page::Page;
use crate::app::words::{Tag, VerdictWord};
use crate::clock::parse_rfc3339_ms;
use crate::error::{Error, Result};

/// Lists incidents, those that began last first.
#[utoipa::path(get, path = "/incidents", tag = "incidents", operation_id = "list_incidents",
    params(
        ("host" = Option<String>, Query, description = "Name of the host whose command failed"),
        ("volume" = Option<String>, Query, description = "Name of the volume"),
        ("tag" = Option<Tag>, Query, description = "What did not match"),
        ("verdict" = Option<VerdictWord>, Query, description = "Whose fault"),
        ("since" = Option<String>, Query, description = "RFC 3339: latest failure then or after", format = DateTime),
        ("limit" = Option<u32>, Query, description = "1 to 1000", minimum = 1, maximum = 1000),
        ("after" = Option<String>, Query, description = "`next` of the part before",
            pattern = "^[A-Za-z0-9_-]*$"),
    ),
    responses((status = 200, body = Page<Incident>), ListProblems))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    parameters: Parameters,
) -> Result<Json<Page<Incident>>> {
    let parameters = parameters.known(&["host", "volume", "tag", "verdict", "since", "limit", "after"])?;
    let since_ms = match parameters.get("since") {
        None => None,
        Some(text) => Some(parse_rfc3339_ms(text).ok_or_else(|| {
            Error::value("/since", "must be an RFC 3339 time such as 2026-11-22T18:30:00Z")
        })?),
    };
    let filter = IncidentFilter {
        host: parameters.get("host").map(str::to_owned),
        volume: parameters.get("volume").map(str::to_owned),
        tag: parameters.word("tag", Tag::WORDS)?,
        verdict: parameters.word("verdict", VerdictWord::WORDS)?,
        since_ms,
    };
    Ok(Json(app.incidents(&filter, &parameters.page()?).await?))
}

/// Shows an incident.
#[utoipa::path(get, path = "/incidents/{id}", tag = "incidents", operation_id = "get_incident",
    params(("id" = String, Path, description = "Identifier of the incident")),
    responses((status = 200, body = Incident), GetProblems))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named(id): Named<String>,
    _: NoParameters,
) -> Result<Json<Incident>> {
    Ok(Json(app.incident(&id).await?))
}
