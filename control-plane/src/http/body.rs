//! Reads request bodies strictly, with a JSON pointer (RFC 6901) to whatever is wrong: what has the wrong shape is
//! 400, what has the right shape and cannot be is 422.

use std::fmt::Write;
use std::str::FromStr;
use std::time::Duration;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::json;
use crate::app::INTEGER_MAX;
use crate::error::{Error, Fault, Result};
use crate::names::NameError;

/// Longest body. The largest that any route means is a few kilobytes.
pub(crate) const BODY_BYTES_MAX: usize = 1 << 20;
/// Longest wait for a body's last byte.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// A request body that is JSON.
#[derive(Debug)]
pub(crate) struct Body(pub(crate) Value);

/// A request body that may be left out or null, which is the same as `{}`.
#[derive(Debug)]
pub(crate) struct OptionalBody(pub(crate) Value);

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self> {
        let media_type = media_type(request.headers());
        let bytes = read(request).await?;
        parse(&bytes, media_type).map(Self)
    }
}

impl<S: Sync> FromRequest<S> for OptionalBody {
    type Rejection = Error;

    async fn from_request(request: Request, _state: &S) -> Result<Self> {
        let media_type = media_type(request.headers());
        let bytes = read(request).await?;
        let nothing = || Value::Object(Map::new());
        if bytes.is_empty() {
            return Ok(Self(nothing()));
        }
        Ok(Self(match parse(&bytes, media_type)? {
            Value::Null => nothing(),
            value => value,
        }))
    }
}

/// Whether the sender calls it JSON; one that says nothing is believed to send JSON.
fn media_type(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    let essence = essence.to_ascii_lowercase();
    essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"))
}

async fn read(request: Request) -> Result<Vec<u8>> {
    let collect = async {
        let mut stream = request.into_body().into_data_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.next().await {
            let chunk = chunk.map_err(|_| Error::SlowBody)?;
            if bytes.len() + chunk.len() > BODY_BYTES_MAX {
                return Err(Error::TooLarge { limit_bytes: BODY_BYTES_MAX });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    timeout(BODY_TIMEOUT, collect).await.unwrap_or(Err(Error::SlowBody))
}

fn parse(bytes: &[u8], is_json: bool) -> Result<Value> {
    if !is_json {
        return Err(Error::MediaType);
    }
    json::parse(bytes).map_err(|error| Error::shape("", format!("not JSON: {error}")))
}

/// A JSON object with known fields. Every getter answers `None` for a field that is not there.
#[derive(Debug)]
pub(crate) struct Object<'a> {
    map: &'a Map<String, Value>,
    pointer: String,
}

impl<'a> Object<'a> {
    /// An object that has all `required` fields and beyond them only `optional` ones.
    pub(crate) fn new(value: &'a Value, pointer: &str, required: &[&str], optional: &[&str]) -> Result<Self> {
        let object = Self::open(value, pointer)?;
        let unknown = object
            .map
            .keys()
            .filter(|key| !required.contains(&key.as_str()) && !optional.contains(&key.as_str()))
            .map(|key| Fault::new(object.at(key), "unknown field"));
        let missing = required
            .iter()
            .filter(|field| !object.map.contains_key(**field))
            .map(|field| Fault::new(object.at(field), "missing"));
        let faults: Vec<Fault> = unknown.chain(missing).collect();
        if faults.is_empty() { Ok(object) } else { Err(Error::Shape(faults)) }
    }

    /// An object whose fields were checked elsewhere.
    pub(crate) fn open(value: &'a Value, pointer: &str) -> Result<Self> {
        let map = value.as_object().ok_or_else(|| wrong_type(pointer, value, "an object"))?;
        Ok(Self { map, pointer: pointer.to_owned() })
    }

    /// A field as it is.
    pub(crate) fn get(&self, field: &str) -> Option<&'a Value> {
        self.map.get(field)
    }

    /// Whether a field is there and null.
    pub(crate) fn is_null(&self, field: &str) -> bool {
        self.get(field).is_some_and(Value::is_null)
    }

    /// Pointer to a field.
    pub(crate) fn at(&self, field: &str) -> String {
        pointer_to(&self.pointer, field)
    }

    /// A text.
    pub(crate) fn text(&self, field: &str) -> Result<Option<&'a str>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| wrong_type(&self.at(field), value, "a string"))
    }

    /// `true` or `false`.
    pub(crate) fn boolean(&self, field: &str) -> Result<Option<bool>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| wrong_type(&self.at(field), value, "true or false"))
    }

    /// A number.
    pub(crate) fn number(&self, field: &str) -> Result<Option<f64>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        value.as_f64().map(Some).ok_or_else(|| wrong_type(&self.at(field), value, "a number"))
    }

    /// An integer from 0 to 2^53 - 1 that `T` holds. `4096.0` is the integer 4096, as JSON Schema has it.
    pub(crate) fn integer<T: TryFrom<u64>>(&self, field: &str) -> Result<Option<T>> {
        let Some(value) = self.get(field) else { return Ok(None) };
        let pointer = self.at(field);
        let out_of_range =
            || Error::value(pointer.as_str(), format!("must be 0 to {INTEGER_MAX} at the very most"));
        let integer = match (value.as_u64(), value.as_f64()) {
            (Some(integer), _) => Some(integer),
            (None, Some(float)) if float.fract() == 0.0 => exact(float),
            _ => return Err(wrong_type(&pointer, value, "an integer")),
        };
        let integer = integer.filter(|integer| *integer <= INTEGER_MAX).ok_or_else(out_of_range)?;
        T::try_from(integer).map(Some).map_err(|_| out_of_range())
    }

    /// One of the words of a closed set.
    pub(crate) fn word<T: FromStr>(&self, field: &str, words: &[&str]) -> Result<Option<T>> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        parse_word(text, words).map(Some).map_err(|detail| Error::value(self.at(field), detail))
    }

    /// A name by its grammar.
    pub(crate) fn name<T>(&self, field: &str, parse: fn(&str) -> Result<T, NameError>) -> Result<Option<T>> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        parse(text).map(Some).map_err(|error| Error::value(self.at(field), error.to_string()))
    }

    /// A field that [`Object::new`] found to be there.
    pub(crate) fn required<T>(&self, field: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| Error::shape(self.at(field), "missing"))
    }
}

/// One of the words of a closed set, or what is wrong.
pub(crate) fn parse_word<T: FromStr>(text: &str, words: &[&str]) -> Result<T, String> {
    text.parse().map_err(|_| format!("must be one of {}", words.join(", ")))
}

/// Refuses what a merge patch (RFC 7396) may not touch. A field that is not in `mutable` (by its pointer) may be sent
/// along with the value that it has; with any other it is 422, and one that the object does not have is 400.
pub(crate) fn check_patch(current: &Value, patch: &Value, pointer: &str, mutable: &[&str]) -> Result<()> {
    let fields = patch.as_object().ok_or_else(|| wrong_type(pointer, patch, "an object"))?;
    for (field, value) in fields {
        let at = pointer_to(pointer, field);
        if mutable.contains(&at.as_str()) {
            continue;
        }
        let Some(now) = current.get(field) else { return Err(Error::shape(at, "unknown field")) };
        if value.is_object() && now.is_object() {
            check_patch(now, value, &at, mutable)?;
        } else if value != now {
            return Err(Error::value(at, "cannot be changed"));
        }
    }
    Ok(())
}

/// Pointer to `field` of the object at `pointer`.
fn pointer_to(pointer: &str, field: &str) -> String {
    format!("{pointer}/{}", field.replace('~', "~0").replace('/', "~1"))
}

fn wrong_type(pointer: &str, value: &Value, wanted: &str) -> Error {
    let found = match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    };
    Error::shape(pointer, format!("must be {wanted}, not {found}"))
}

/// A whole number that a double holds exactly; `None` below zero or from 2^53 on.
fn exact(float: f64) -> Option<u64> {
    let mut text = String::new();
    write!(text, "{float:.0}").ok()?;
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointers(error: Error) -> (u16, Vec<String>) {
        match error {
            Error::Shape(faults) => (400, faults.into_iter().map(|fault| fault.pointer).collect()),
            Error::Value(faults) => (422, faults.into_iter().map(|fault| fault.pointer).collect()),
            other => unreachable!("{other}"),
        }
    }

    #[test]
    fn unknown_and_missing_fields_are_pointed_at() {
        let value = json!({ "a/b": 1, "c": 2 });
        let error = Object::new(&value, "/x", &["d"], &["c"]).unwrap_err();
        assert_eq!(pointers(error), (400, vec!["/x/a~1b".to_owned(), "/x/d".to_owned()]));
    }

    #[test]
    fn integers_are_exact_or_refused() {
        for (number, expected) in [
            (json!(7), Ok(7)),
            (json!(7.0), Ok(7)),
            (json!(9_007_199_254_740_991_u64), Ok(9_007_199_254_740_991)),
            (json!(9_007_199_254_740_992_u64), Err(422)),
            (json!(1e300), Err(422)),
            (json!(-1), Err(422)),
            (json!(-1.0), Err(422)),
            (json!(1.5), Err(400)),
            (json!("7"), Err(400)),
            (json!(true), Err(400)),
            (json!(null), Err(400)),
        ] {
            let value = json!({ "n": number });
            let object = Object::new(&value, "", &["n"], &[]).unwrap();
            let read = object.integer::<u64>("n").map(Option::unwrap).map_err(|error| pointers(error).0);
            assert_eq!(read, expected, "{number}");
        }
    }

    #[test]
    fn a_narrow_integer_out_of_range_is_a_value_that_cannot_be() {
        let value = json!({ "n": 256 });
        let object = Object::open(&value, "").unwrap();
        assert_eq!(pointers(object.integer::<u8>("n").unwrap_err()), (422, vec!["/n".to_owned()]));
    }

    #[test]
    fn a_patch_may_repeat_but_not_change_what_is_fixed() {
        let current = json!({ "name": "a", "size": 1, "pi": { "type": 1, "guard": "crc16" } });
        let check = |patch| check_patch(&current, &patch, "", &["/size"]).map_err(pointers);
        assert_eq!(check(json!({ "name": "a", "size": 9, "pi": { "type": 1 } })), Ok(()));
        assert_eq!(check(json!({ "name": "b" })), Err((422, vec!["/name".to_owned()])));
        assert_eq!(check(json!({ "name": null })), Err((422, vec!["/name".to_owned()])));
        assert_eq!(check(json!({ "pi": { "guard": "crc64" } })), Err((422, vec!["/pi/guard".to_owned()])));
        assert_eq!(check(json!({ "pi": { "x": 1 } })), Err((400, vec!["/pi/x".to_owned()])));
        assert_eq!(check(json!([])), Err((400, vec![String::new()])));
    }
}
