//! The page at `/` and its files, part of the program.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::Shared;

const PAGE: &str = include_str!("../ui/index.html");
const SCRIPT: &str = include_str!("../ui/app.js");
const SHARED: &str = include_str!("../ui/page.js");
const POOLS: &str = include_str!("../ui/pools.js");
const STYLE: &str = include_str!("../ui/style.css");
const ICON: &str = include_str!("../ui/icon.svg");

/// Routes of the page.
pub(super) fn router() -> Router<Shared> {
    Router::new()
        .route("/", get(|| file("text/html; charset=utf-8", PAGE)))
        .route("/ui/app.js", get(|| file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/ui/page.js", get(|| file("text/javascript; charset=utf-8", SHARED)))
        .route("/ui/pools.js", get(|| file("text/javascript; charset=utf-8", POOLS)))
        .route("/ui/style.css", get(|| file("text/css; charset=utf-8", STYLE)))
        .route("/ui/icon.svg", get(|| file("image/svg+xml", ICON)))
}

async fn file(media_type: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, media_type)], text)
}
