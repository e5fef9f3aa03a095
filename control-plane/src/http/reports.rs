//! `/hosts/{name}/report`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::body::{Body, Object, parse_word};
use super::openapi::{GetProblems, ReportProblems};
use super::path::Named;
use super::query::NoParameters;
use super::tokens::Bearer;
use crate::app::App;
use crate::app::reports::{DEVICES_MAX, KERNEL_BYTES_MAX, NewReport, Report};
use crate::app::words::{Policy, Transport};
use crate::error::{Error, Result};

/// Keeps what the host's agent reports. Grants whose view is `auto` follow its `pi_transports`. A host with a token takes reports
/// only with `Authorization: Bearer TOKEN`.
#[utoipa::path(put, path = "/hosts/{name}/report", tag = "hosts", operation_id = "put_report",
    params(("name" = String, Path, description = "Name of the host")),
    request_body = NewReport,
    responses((status = 200, body = Report, description = "Replaced"),
        (status = 201, body = Report, description = "The host's first"), ReportProblems))]
pub(super) async fn put(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
    Bearer(token): Bearer,
    Body(body): Body,
) -> Result<(StatusCode, Json<Report>)> {
    let (report, is_new) = app.put_report(&name, token.as_deref(), parse(&body)?).await?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(report)))
}

/// Shows the latest report of the host's agent.
#[utoipa::path(get, path = "/hosts/{name}/report", tag = "hosts", operation_id = "get_report",
    params(("name" = String, Path, description = "Name of the host")),
    responses((status = 200, body = Report), GetProblems))]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Named(name): Named<String>,
    _: NoParameters,
) -> Result<Json<Report>> {
    Ok(Json(app.report(&name).await?))
}

fn parse(body: &Value) -> Result<NewReport> {
    let fields = ["kernel", "pi_transports", "devices", "evidence"];
    let object = Object::new(body, "", &["policy"], &fields)?;
    let kernel = if object.is_null("kernel") { None } else { object.text("kernel")? };
    if kernel.is_some_and(|kernel| kernel.len() > KERNEL_BYTES_MAX) {
        return Err(Error::value("/kernel", format!("longer than {KERNEL_BYTES_MAX} bytes")));
    }
    let devices = items(&object, "devices")?;
    if devices.len() > DEVICES_MAX {
        return Err(Error::value("/devices", format!("more than {DEVICES_MAX}")));
    }
    let devices =
        devices.iter().enumerate().map(|(index, device)| open(device, &format!("/devices/{index}")));
    Ok(NewReport {
        kernel: kernel.map(str::to_owned),
        policy: object.required("policy", object.word("policy", Policy::WORDS)?)?,
        pi_transports: transports(&object)?,
        devices: devices.collect::<Result<_>>()?,
        evidence: object.get("evidence").map_or(Ok(Map::new()), |value| open(value, "/evidence"))?,
    })
}

/// Transports, each once.
fn transports(object: &Object<'_>) -> Result<Vec<Transport>> {
    let mut transports = Vec::new();
    for (index, item) in items(object, "pi_transports")?.iter().enumerate() {
        let pointer = format!("/pi_transports/{index}");
        let word = item.as_str().ok_or_else(|| Error::shape(pointer.as_str(), "must be a string"))?;
        let transport =
            parse_word(word, Transport::WORDS).map_err(|detail| Error::value(pointer.as_str(), detail))?;
        if !transports.contains(&transport) {
            transports.push(transport);
        }
    }
    Ok(transports)
}

fn items<'a>(object: &Object<'a>, field: &str) -> Result<&'a [Value]> {
    let Some(value) = object.get(field) else { return Ok(&[]) };
    let array = value.as_array().ok_or_else(|| Error::shape(object.at(field), "must be an array"))?;
    Ok(array)
}

fn open(value: &Value, pointer: &str) -> Result<Map<String, Value>> {
    value.as_object().cloned().ok_or_else(|| Error::shape(pointer, "must be an object"))
}
