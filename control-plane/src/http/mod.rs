//! The API over HTTP: handlers parse, call `app` and render. What every request has in common (who may ask, what the
//! answers carry, errors of the router itself) is here and in the rooms beside.

pub(crate) mod body;
mod counters;
mod drills;
mod events;
mod grants;
mod guard;
mod health;
mod hosts;
mod incidents;
mod json;
mod metrics;
mod namespaces;
mod openapi;
mod path;
mod pools;
pub mod problem;
mod query;
mod reports;
pub mod serve;
mod subsystems;
mod tokens;
mod ui;
mod volumes;

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn;
use axum::routing::get;
use tokio::sync::watch;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::app::App;
use crate::error::Error;

/// What handlers share.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    pub(crate) app: Arc<App>,
    /// Says true when this process is going to end: streams have to.
    pub(crate) stop: watch::Receiver<bool>,
}

impl axum::extract::FromRef<Shared> for Arc<App> {
    fn from_ref(shared: &Shared) -> Self {
        Arc::clone(&shared.app)
    }
}

/// The whole API. Event streams end when `stop` says true.
pub fn router(app: Arc<App>, stop: watch::Receiver<bool>) -> Router {
    let (router, document) = documented().split_for_parts();
    let document: Arc<str> = openapi::render(&document).into();
    let state = Shared { app, stop };
    router
        .route("/openapi.json", get(move || openapi::serve(Arc::clone(&document))))
        .merge(ui::router())
        .fallback(|| async { Error::NoRoute })
        .method_not_allowed_fallback(|| async { Error::Method })
        .layer(from_fn(guard::finish_changes))
        .layer(from_fn(guard::refuse_strangers))
        .layer(from_fn(guard::harden))
        .with_state(state)
}

fn documented() -> OpenApiRouter<Shared> {
    let api = OpenApiRouter::new()
        .routes(routes!(pools::list, pools::create))
        .routes(routes!(pools::get, pools::delete))
        .routes(routes!(pools::export))
        .routes(routes!(volumes::list, volumes::create))
        .routes(routes!(volumes::get, volumes::patch, volumes::delete))
        .routes(routes!(subsystems::list, subsystems::create))
        .routes(routes!(subsystems::get, subsystems::patch, subsystems::delete))
        .routes(routes!(namespaces::list, namespaces::create))
        .routes(routes!(namespaces::delete))
        .routes(routes!(grants::list))
        .routes(routes!(grants::put, grants::get, grants::delete))
        .routes(routes!(hosts::list, hosts::create))
        .routes(routes!(hosts::get, hosts::patch, hosts::delete))
        .routes(routes!(reports::put, reports::get))
        .routes(routes!(tokens::create, tokens::get, tokens::delete))
        .routes(routes!(counters::get))
        .routes(routes!(drills::create))
        .routes(routes!(drills::get))
        .routes(routes!(incidents::list))
        .routes(routes!(incidents::get))
        .routes(routes!(events::stream));
    OpenApiRouter::with_openapi(openapi::frame())
        .nest("/api/v1", api)
        .routes(routes!(metrics::metrics))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
}
