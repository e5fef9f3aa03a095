//! The appliance's REST API as a test sees it: JSON in, JSON out, the status checked.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use ureq::http::{Method, Request};

/// A bound for an answer that never comes.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks at something that is bound to change.
const LOOK_AGAIN_AFTER: Duration = Duration::from_millis(50);

/// A client of one control plane.
#[derive(Debug, Clone)]
pub struct Rest {
    base: String,
    agent: ureq::Agent,
}

impl Rest {
    /// `base` is the `api=` of the ready line, without a path.
    pub(crate) fn new(base: &str) -> Rest {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_LIMIT))
            .build();
        Rest { base: base.to_owned(), agent: config.into() }
    }

    /// The object or list at `/api/v1` + `path`.
    ///
    /// # Errors
    /// When the answer is no 2xx with JSON.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.successful(Method::GET, path, None)
    }

    /// Creates an object and returns it.
    ///
    /// # Errors
    /// When the answer is no 2xx with JSON.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.successful(Method::POST, path, Some(body))
    }

    /// Puts an object and returns it.
    ///
    /// # Errors
    /// When the answer is no 2xx with JSON.
    pub fn put(&self, path: &str, body: &Value) -> Result<Value> {
        self.successful(Method::PUT, path, Some(body))
    }

    /// The items of the list at `path`, which fits on one page.
    ///
    /// # Errors
    /// When the answer is no list.
    pub fn items(&self, path: &str) -> Result<Vec<Value>> {
        let list = self.get(path)?;
        let items = list.get("items").and_then(Value::as_array);
        items.cloned().with_context(|| format!("{path} answered no list: {list}"))
    }

    fn successful(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let what = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(format!("{}/api/v1{path}", self.base))
            .header("content-type", "application/json")
            .body(body.map(Value::to_string).unwrap_or_default())?;
        let mut response = self.agent.run(request).with_context(|| what.clone())?;
        let text = response.body_mut().read_to_string().with_context(|| what.clone())?;
        ensure!(response.status().is_success(), "{what}: {} {text}", response.status());
        serde_json::from_str(&text).with_context(|| format!("{what}: no JSON: {text}"))
    }
}

/// Looks until `look` gives a value: for what the contract promises to become true. Errors count as "not yet".
///
/// # Errors
/// The last error, or that nothing came, when `limit` is over.
pub fn eventually<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        let seen = look();
        if let Ok(Some(value)) = seen {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            let late = format!("waited {limit:?} in vain for {what}");
            return match seen {
                Err(error) => Err(error.context(late)),
                Ok(_) => Err(anyhow::anyhow!(late)),
            };
        }
        thread::sleep(LOOK_AGAIN_AFTER);
    }
}
