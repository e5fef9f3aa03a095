//! Reads query strings strictly: an unknown parameter is 400, as is one given twice.

use std::str::FromStr;

use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;

use super::body::parse_word;
use crate::app::page::{LIMIT_DEFAULT, LIMIT_MAX, PageQuery};
use crate::error::{Error, Fault, Result};

/// The parameters of a request, before anybody said which are known.
#[derive(Debug)]
pub(crate) struct Parameters(Vec<(String, String)>);

/// No parameters at all.
#[derive(Debug)]
pub(crate) struct NoParameters;

impl<S: Sync> FromRequestParts<S> for Parameters {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self> {
        let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri)
            .map_err(|error| Error::shape("", format!("the query cannot be read: {error}")))?;
        Ok(Self(pairs))
    }
}

impl<S: Sync> FromRequestParts<S> for NoParameters {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        Parameters::from_request_parts(parts, state).await?.known(&[])?;
        Ok(Self)
    }
}

impl Parameters {
    /// Refuses any other parameter, and any that is given twice.
    pub(crate) fn known(self, names: &[&str]) -> Result<Self> {
        let mut faults = Vec::new();
        for (at, (name, _)) in self.0.iter().enumerate() {
            if !names.contains(&name.as_str()) {
                faults.push(Fault::new(format!("/{name}"), "unknown query parameter"));
            } else if self.0.iter().take(at).any(|(earlier, _)| earlier == name) {
                faults.push(Fault::new(format!("/{name}"), "given twice"));
            }
        }
        if faults.is_empty() { Ok(self) } else { Err(Error::Shape(faults)) }
    }

    /// One parameter's text.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// One of the words of a closed set.
    pub(crate) fn word<T: FromStr>(&self, name: &str, words: &[&str]) -> Result<Option<T>> {
        let Some(text) = self.get(name) else { return Ok(None) };
        parse_word(text, words).map(Some).map_err(|detail| Error::value(format!("/{name}"), detail))
    }

    /// `limit` and `after`.
    pub(crate) fn page(&self) -> Result<PageQuery> {
        let limit = match self.get("limit") {
            None => LIMIT_DEFAULT,
            Some(text) => {
                let limit: i128 = text.parse().map_err(|_| Error::shape("/limit", "must be an integer"))?;
                u32::try_from(limit)
                    .ok()
                    .filter(|limit| (1..=LIMIT_MAX).contains(limit))
                    .ok_or_else(|| Error::value("/limit", format!("must be 1 to {LIMIT_MAX}")))?
            }
        };
        PageQuery::new(limit, self.get("after"))
    }
}
