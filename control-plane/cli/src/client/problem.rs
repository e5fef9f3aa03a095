//! Refusals as lines for people. RFC 9457 §3.1 "Members of a Problem Details Object"; `errors` is this API's
//! extension.

use serde::Deserialize;

use super::Purpose;
use crate::output::printable;

/// A refusal. Every member may be missing: a proxy in between may have answered instead of the API.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    #[serde(skip)]
    status: u16,
    title: Option<String>,
    detail: Option<String>,
    errors: Vec<FieldError>,
}

#[derive(Debug, Deserialize)]
struct FieldError {
    #[serde(default)]
    pointer: String,
    #[serde(default)]
    detail: String,
}

impl Problem {
    /// Reads the body of a refusal; one that is no problem document counts as one without members.
    pub(crate) fn parse(status: u16, body: &str) -> Self {
        let mut problem: Self = serde_json::from_str(body).unwrap_or_default();
        problem.status = status;
        problem
    }

    /// One line for each field that was refused, or one for the whole, each with what to do.
    pub(crate) fn lines(&self, purpose: &Purpose) -> Vec<String> {
        let (what, status, advice) = (&purpose.what, self.status, advice(self.status, purpose.command));
        let line = |reason: &str| {
            format!("cannot {what}: {} ({status}); {advice}", printable(reason.trim_end_matches('.')))
        };
        if self.errors.is_empty() {
            let reason =
                self.detail.as_deref().or(self.title.as_deref()).unwrap_or("refused without a reason");
            return vec![line(reason)];
        }
        let reason = |error: &FieldError| {
            let pointer = error.pointer.trim_start_matches('#');
            let detail = &error.detail;
            match purpose.flags.iter().find(|(member, _)| *member == pointer) {
                Some((_, flag)) => format!("{flag}: {detail}"),
                None if pointer.is_empty() => detail.clone(),
                None => format!("{pointer}: {detail}"),
            }
        };
        self.errors.iter().map(|error| line(&reason(error))).collect()
    }
}

/// What to do about a status. `command` is as typed, such as `volume create`.
fn advice(status: u16, command: &str) -> String {
    // Namespaces and grants are listed by subsystem, which may be what is missing.
    let list = match command.split(' ').next().unwrap_or(command) {
        "namespace" => "`holdfast subsystem list` and `holdfast volume list` show what is there".to_owned(),
        "grant" => "`holdfast subsystem list` and `holdfast host list` show what is there".to_owned(),
        resource => format!("`holdfast {resource} list` shows what is there"),
    };
    match status {
        400 => "this client and the API may be of different versions".to_owned(),
        404 => list,
        409 => format!("choose another name or end the other use first; {list}"),
        422 => format!("`holdfast {command} --help` shows what is possible"),
        507 => "ask for less or make room; `holdfast pool list` shows what is left".to_owned(),
        500.. => "try again; the log of `holdfast up` says more".to_owned(),
        _ => format!("see `holdfast {command} --help`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purpose() -> Purpose {
        Purpose::new("volume create", "create volume v1").with_flags(&[("/size_bytes", "--size")])
    }

    #[test]
    fn each_pointer_gets_its_line_with_the_flag_to_change() {
        let body = r#"{"type":"about:blank","title":"Unprocessable","status":422,"errors":[
            {"pointer":"/size_bytes","detail":"must be a multiple of 4096"},
            {"pointer":"/pi/type","detail":"must be 0 to 3."}]}"#;
        let lines = Problem::parse(422, body).lines(&purpose());
        assert_eq!(
            lines,
            [
                "cannot create volume v1: --size: must be a multiple of 4096 (422); \
                 `holdfast volume create --help` shows what is possible",
                "cannot create volume v1: /pi/type: must be 0 to 3 (422); \
                 `holdfast volume create --help` shows what is possible",
            ]
        );
    }

    #[test]
    fn problem_without_pointers_gives_its_detail() {
        let lines = Problem::parse(404, r#"{"title":"Not Found","detail":"no volume v1"}"#).lines(&purpose());
        assert_eq!(
            lines,
            ["cannot create volume v1: no volume v1 (404); `holdfast volume list` shows what is there"]
        );
    }

    #[test]
    fn answer_that_is_no_problem_document_still_makes_a_line() {
        for body in ["", "<html>", "[]", "{\"errors\":7}"] {
            let lines = Problem::parse(502, body).lines(&purpose());
            let expected = "cannot create volume v1: refused without a reason (502); \
                            try again; the log of `holdfast up` says more";
            assert_eq!(lines, [expected], "{body}");
        }
    }
}
