//! What all commands do: call the API and print what it answers.

use std::io::{self, Stdout, Write};

use serde_json::{Map, Value};

use crate::client::{Api, ClientError, List, Method, Purpose, segment};
use crate::output::{self, Column, Doc, Format};

/// The prefix of all resources.
const PREFIX: &str = "/api/v1";

/// An API, and how to print.
#[derive(Debug)]
pub(crate) struct Session {
    /// The API.
    pub(crate) api: Api,
    /// How to print.
    pub(crate) format: Format,
    /// Where to.
    pub(crate) out: Stdout,
}

impl Session {
    /// A session on standard output.
    pub(crate) fn new(api: Api, format: Format) -> Self {
        Self { api, format, out: io::stdout() }
    }

    /// Fetches and prints a list.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn list(
        &mut self,
        purpose: &Purpose,
        path: &str,
        query: &[(&str, &str)],
        columns: &[Column],
    ) -> Result<(), ClientError> {
        let list = List::fetch(&self.api, purpose, path, query, None)?;
        self.print_list(&list, columns)
    }

    /// Prints a list.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn print_list(&mut self, list: &List, columns: &[Column]) -> Result<(), ClientError> {
        match self.format {
            Format::Json => writeln!(self.out, "{}", list.json())?,
            Format::Table => output::print_list(&mut self.out, columns, &list.docs())?,
        }
        Ok(())
    }

    /// Fetches and prints one object.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn show(&mut self, purpose: &Purpose, path: &str) -> Result<(), ClientError> {
        self.send(purpose, Method::Get, path, None)
    }

    /// Sends a request and prints the object that it answers with.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn send(
        &mut self,
        purpose: &Purpose,
        method: Method,
        path: &str,
        body: Option<Map<String, Value>>,
    ) -> Result<(), ClientError> {
        let text = self.api.call(purpose, method, path, body.map(Value::Object).as_ref())?;
        match self.format {
            Format::Json => writeln!(self.out, "{}", text.trim_end())?,
            Format::Table => {
                let object = self.parse(purpose, &text)?;
                output::print_object(&mut self.out, &object)?;
            }
        }
        Ok(())
    }

    /// Deletes a resource and says so. The API answers without a body, so there is no JSON to print.
    ///
    /// # Errors
    /// See [`ClientError`].
    pub(crate) fn delete(&mut self, purpose: &Purpose, path: &str, done: &str) -> Result<(), ClientError> {
        self.api.call(purpose, Method::Delete, path, None)?;
        if self.format == Format::Table {
            writeln!(self.out, "{done}")?;
        }
        Ok(())
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// It is not JSON.
    pub(crate) fn parse(&self, purpose: &Purpose, text: &str) -> Result<Doc, ClientError> {
        serde_json::from_str(text)
            .map_err(|error| self.api.not_understood(purpose, format!("not JSON: {error}")))
    }
}

/// The path of a resource: fixed words and names in turn, such as `["volumes", name]`.
pub(crate) fn path(segments: &[&str]) -> String {
    let mut path = PREFIX.to_owned();
    for part in segments {
        path.push('/');
        path.push_str(&segment(part));
    }
    path
}

/// A body of the members that are there.
pub(crate) fn body<const N: usize>(members: [(&str, Option<Value>); N]) -> Map<String, Value> {
    members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_names_in_their_segment() {
        assert_eq!(path(&["volumes"]), "/api/v1/volumes");
        assert_eq!(path(&["subsystems", "a/../b", "hosts", "h"]), "/api/v1/subsystems/a%2F..%2Fb/hosts/h");
    }

    #[test]
    fn absent_members_are_left_out_and_null_is_sent() {
        let body = body([("a", Some(Value::from(1))), ("b", None), ("c", Some(Value::Null))]);
        assert_eq!(Value::Object(body).to_string(), r#"{"a":1,"c":null}"#);
    }
}
