//! The OpenAPI document: made from the handlers and the types that they read and write, so that it is true.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::header;
use axum::response::IntoResponse;
use serde_json::Value;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, OpenApi};

use super::problem::{MEDIA_TYPE, Problem};

/// What is not a route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Holdfast",
        description = "The management plane of a Holdfast appliance. Lists come in pages; errors are RFC 9457 problems.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem)),
    tags(
        (name = "pools", description = "Where volumes' bytes are"),
        (name = "volumes", description = "Thin volumes, with or without protection information"),
        (name = "subsystems", description = "What is exported, to whom, and how it looks"),
        (name = "hosts", description = "Who connects, and what was seen of them"),
        (name = "incidents", description = "Integrity failures, and who is to blame"),
        (name = "system", description = "The appliance itself")
    )
)]
struct Frame;

/// The document without its routes.
pub(super) fn frame() -> utoipa::openapi::OpenApi {
    Frame::openapi()
}

/// The document as text.
pub(super) fn render(document: &utoipa::openapi::OpenApi) -> String {
    let mut document = serde_json::to_value(document).unwrap_or_default();
    // The derived schema of a tagged enumeration does not say that its variants are closed.
    for name in ["NewBacking", "PoolBacking"] {
        let kinds = document.pointer_mut(&format!("/components/schemas/{name}/oneOf"));
        for kind in kinds.and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
        {
            kind.insert("additionalProperties".to_owned(), Value::Bool(false));
        }
    }
    document.to_string()
}

/// The document.
pub(super) async fn serve(document: Arc<str>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], document.to_string())
}

fn problems(cases: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let problem = || {
        let schema = RefOr::Ref(Ref::from_schema_name("Problem"));
        ContentBuilder::new().schema(Some(schema)).build()
    };
    cases
        .iter()
        .map(|(status, description)| {
            let response =
                ResponseBuilder::new().description(*description).content(MEDIA_TYPE, problem()).build();
            ((*status).to_owned(), RefOr::T(response))
        })
        .collect()
}

const BAD_REQUEST: (&str, &str) =
    ("400", "Not JSON, a wrong type, a missing or unknown field, an unknown query parameter");
const UNAUTHORIZED: (&str, &str) = ("401", "The host's token is needed, or another one was shown");
const FORBIDDEN: (&str, &str) = ("403", "A foreign Host header, or a change from a page of another site");
const NOT_FOUND: (&str, &str) = ("404", "The path names an object that does not exist");
const TIMEOUT: (&str, &str) = ("408", "The body did not arrive in time");
const CONFLICT: (&str, &str) = ("409", "A duplicate, or in use");
const TOO_LARGE: (&str, &str) = ("413", "The body is longer than 1 MiB");
const MEDIA: (&str, &str) = ("415", "The body is not JSON by its own word");
const INVALID: (&str, &str) = ("422", "A value that cannot be");
const INTERNAL: (&str, &str) = ("500", "Something is wrong inside");
const AWAY: (&str, &str) = ("503", "The target did not come back within ten seconds; nothing was changed");
const NO_ROOM: (&str, &str) = ("507", "No room");

macro_rules! problem_set {
    ($(#[$doc:meta])* $name:ident: $($case:expr),+) => {
        $(#[$doc])*
        pub(super) struct $name;

        impl IntoResponses for $name {
            fn responses() -> BTreeMap<String, RefOr<Response>> {
                problems(&[$($case),+])
            }
        }
    };
}

problem_set! {
    /// Errors of lists.
    ListProblems: BAD_REQUEST, FORBIDDEN, INVALID, INTERNAL
}
problem_set! {
    /// Errors of lists within an object, and of single objects.
    GetProblems: BAD_REQUEST, FORBIDDEN, NOT_FOUND, INVALID, INTERNAL
}
problem_set! {
    /// Errors of whatever takes a body.
    ChangeProblems: BAD_REQUEST, FORBIDDEN, NOT_FOUND, TIMEOUT, CONFLICT, TOO_LARGE, MEDIA, INVALID, INTERNAL, AWAY,
        NO_ROOM
}
problem_set! {
    /// Errors of reports.
    ReportProblems: BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, TIMEOUT, TOO_LARGE, MEDIA, INVALID, INTERNAL, AWAY
}
problem_set! {
    /// Errors of removals.
    DeleteProblems: BAD_REQUEST, FORBIDDEN, NOT_FOUND, CONFLICT, INVALID, INTERNAL, AWAY, NO_ROOM
}
