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
    #[must_use]
    pub fn new(base: &str) -> Rest {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST_LIMIT))
            .build();
        Rest { base: base.to_owned(), agent: config.into() }
    }

    /// The API's address, without a path.
    #[must_use]
    pub fn base(&self) -> &str {
        &self.base
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

    /// Changes an object (RFC 7396 "JSON Merge Patch") and returns it.
    ///
    /// # Errors
    /// When the answer is no 2xx with JSON.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Value> {
        self.successful(Method::PATCH, path, Some(body))
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// When the answer is not 204.
    pub fn delete(&self, path: &str) -> Result<()> {
        let answer = self.exchange("DELETE", &format!("/api/v1{path}"), "")?;
        ensure!(answer.status == 204, "DELETE {path}: {} {}", answer.status, answer.text);
        Ok(())
    }

    /// Any request, `path` from the root on, a body sent as JSON; whatever is answered.
    ///
    /// # Errors
    /// When nothing is answered.
    pub fn exchange(&self, method: &str, path: &str, body: &str) -> Result<Answer> {
        self.exchange_as(method, path, "application/json", body)
    }

    /// As [`Rest::exchange`], with the body's media type.
    ///
    /// # Errors
    /// As there.
    pub fn exchange_as(&self, method: &str, path: &str, media_type: &str, body: &str) -> Result<Answer> {
        let what = format!("{method} {path}");
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("content-type", media_type)
            .body(body.to_owned())?;
        let mut response = self.agent.run(request).with_context(|| what.clone())?;
        let headers = response.headers().iter();
        let headers = headers.map(|(name, value)| {
            (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
        });
        let headers = headers.collect();
        let text = response.body_mut().read_to_string().with_context(|| what)?;
        Ok(Answer { status: response.status().as_u16(), headers, text })
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

/// What was answered to a request, good or bad.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Names in lower case, with their values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub text: String,
}

impl Answer {
    /// The first header of this name (in lower case), or nothing at all.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// When it is not.
    pub fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.text).with_context(|| format!("no JSON: {}", self.text))
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
