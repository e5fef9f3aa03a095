//! The management plane under test: the real router over a real database, in a runtime of its own that can be killed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode, header};
use holdfast_control_plane::app::{App, Sync};
use holdfast_control_plane::target::TargetHandle;
use holdfast_control_plane::{http, reconcile};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tower::ServiceExt;

use crate::scripted_target::{Running, Target};

/// Upper bound of every wait: a test that needs it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const RAM_POOL_BYTES: u64 = 64 << 20;

pub(crate) struct Plane {
    pub(crate) router: Router,
    pub(crate) app: Arc<App>,
    stop: watch::Sender<bool>,
    runtime: Option<Runtime>,
}

/// A plane, its target and their folder.
pub(crate) struct Bench {
    pub(crate) plane: Plane,
    pub(crate) target: Target,
    pub(crate) running: Option<Running>,
    pub(crate) folder: TempDir,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
    pub(crate) body: Value,
}

impl Bench {
    /// A first start, in sync with its target.
    pub(crate) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let target = Target::new();
        let running = Some(target.start(&folder.path().join("target.sock")));
        let plane = Plane::start(folder.path()).await;
        plane.in_sync().await;
        Self { plane, target, running, folder }
    }

    /// The same, with drills allowed.
    pub(crate) async fn with_drills() -> Self {
        let mut bench = Self::new().await;
        bench.plane.kill();
        bench.plane = Plane::start_with(bench.folder.path(), true).await;
        bench.plane.in_sync().await;
        bench
    }

    /// Kills the plane as `kill -9` would, and starts another on what is on disk.
    pub(crate) async fn restart_plane(&mut self) {
        self.plane.kill();
        self.plane = Plane::start(self.folder.path()).await;
    }

    pub(crate) fn stop_target(&mut self) {
        self.running = None;
    }

    pub(crate) fn start_target(&mut self) {
        self.running = Some(self.target.start(&self.folder.path().join("target.sock")));
    }
}

impl Plane {
    pub(crate) async fn start(folder: &Path) -> Self {
        Self::start_with(folder, false).await
    }

    pub(crate) async fn start_with(folder: &Path, drills: bool) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let (stop, stopped) = watch::channel(false);
        let (state, socket) = (folder.to_owned(), folder.join("target.sock"));
        let app = runtime
            .spawn(async move {
                let app =
                    App::open(&state, TargetHandle::spawn(socket), RAM_POOL_BYTES, drills).await.unwrap();
                tokio::spawn(reconcile::run(Arc::clone(&app), stopped.clone()));
                (http::router(Arc::clone(&app), stopped), app)
            })
            .await;
        let (router, app) = app.unwrap();
        Self { router, app, stop, runtime: Some(runtime) }
    }

    pub(crate) fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }

    pub(crate) fn stop(&self) {
        self.stop.send(true).unwrap();
    }

    pub(crate) async fn in_sync(&self) {
        let mut sync = self.app.sync();
        let reached = sync.wait_for(|sync| *sync == Sync::InSync);
        tokio::time::timeout(PATIENCE, reached).await.expect("in sync").unwrap();
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> axum::response::Response {
        let runtime = self.runtime.as_ref().expect("the plane runs");
        runtime.spawn(self.router.clone().oneshot(request)).await.unwrap().unwrap()
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:8080");
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.ask(request.body(body).unwrap()).await
    }

    pub(crate) async fn ask(&self, request: Request<Body>) -> Answer {
        let response = self.send(request).await;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        let bytes = axum::body::to_bytes(response.into_body(), 64 << 20).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, text, body }
    }

    /// GET that has to succeed.
    pub(crate) async fn get(&self, path: &str) -> Value {
        let answer = self.call("GET", path, None).await;
        assert_eq!(answer.status, 200, "GET {path}: {}", answer.text);
        answer.body
    }

    /// POST that has to succeed.
    pub(crate) async fn post(&self, path: &str, body: Value) -> Value {
        let answer = self.call("POST", path, Some(body)).await;
        assert_eq!(answer.status, 201, "POST {path}: {}", answer.text);
        answer.body
    }

    /// Reads `path` until it looks as it should.
    pub(crate) async fn until(&self, path: &str, good: impl Fn(&Value) -> bool) -> Value {
        let look = async {
            loop {
                let answer = self.call("GET", path, None).await;
                if answer.status == 200 && good(&answer.body) {
                    return answer.body;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| panic!("{path} never looked good"))
    }
}

impl Drop for Plane {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Answer {
    /// Pointers of a problem's fields.
    pub(crate) fn pointers(&self) -> Vec<&str> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect()
    }

    /// Checks the form of an RFC 9457 problem.
    pub(crate) fn assert_problem(&self) {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.text);
        assert_eq!(self.body["status"], self.status);
        assert!(StatusCode::from_u16(self.status).unwrap().as_u16() >= 400);
        for field in ["type", "title", "detail"] {
            assert!(self.body[field].as_str().is_some_and(|text| !text.is_empty()), "{}", self.text);
        }
        assert!(self.body["errors"].is_array());
    }
}
