//! What commands print: aligned tables for people, the API's own JSON for programs. Never any colour.

use std::fmt;
use std::io::{self, Write};

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

use crate::size;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    // Not doc comments: clap would spread them over four lines of every command's help.
    // Aligned columns, names and values.
    #[default]
    Table,
    // The API's JSON as it came.
    Json,
}

/// A dump of bytes longer than this is cut in tables: nobody reads a block of 4096 bytes there.
const WIDE_HEX_DIGITS: usize = 64;

/// A JSON value that keeps its members in the order in which the API sent them, which is an order made for
/// reading.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Doc {
    /// Nothing.
    Null,
    /// Number, truth value or text, as it is shown.
    Scalar(String),
    /// A list.
    List(Vec<Doc>),
    /// An object's members in order.
    Object(Vec<(String, Doc)>),
}

impl Doc {
    /// The value at a path of member names, such as `["pi", "type"]`.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Doc> {
        let Some((first, rest)) = path.split_first() else { return Some(self) };
        match self {
            Self::Object(members) => members.iter().find(|(name, _)| name == first)?.1.at(rest),
            Self::Null | Self::Scalar(_) | Self::List(_) => None,
        }
    }

    /// A list's items; empty for anything else.
    pub(crate) fn items(&self) -> &[Doc] {
        match self {
            Self::List(items) => items,
            Self::Null | Self::Scalar(_) | Self::Object(_) => &[],
        }
    }

    /// The text of a scalar.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Scalar(text) => Some(text),
            Self::Null | Self::List(_) | Self::Object(_) => None,
        }
    }

    /// For one cell of a table: `-` for nothing, scalars as they are, lists of scalars joined, other things
    /// counted.
    fn cell(&self) -> String {
        match self {
            Self::Null => "-".to_owned(),
            Self::Scalar(text) if text.is_empty() => "-".to_owned(),
            Self::Scalar(text) => printable(text),
            Self::List(items) => {
                let texts: Option<Vec<String>> =
                    items.iter().map(|item| item.text().map(printable)).collect();
                match texts {
                    Some(texts) if texts.is_empty() => "-".to_owned(),
                    Some(texts) => texts.join(","),
                    None => items.len().to_string(),
                }
            }
            Self::Object(members) => members.len().to_string(),
        }
    }

    /// Every scalar with its path, such as `pi.type` or `sessions[0].transport`.
    fn flatten(&self, path: &str, rows: &mut Vec<(String, String)>) {
        match self {
            Self::Object(members) if !members.is_empty() => {
                for (name, value) in members {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    value.flatten(&path, rows);
                }
            }
            Self::List(items) if items.iter().any(|item| item.text().is_none()) => {
                for (index, item) in items.iter().enumerate() {
                    item.flatten(&format!("{path}[{index}]"), rows);
                }
            }
            Self::Object(_) => rows.push((path.to_owned(), "-".to_owned())),
            Self::Null | Self::Scalar(_) | Self::List(_) => {
                let mut text = self.cell();
                if let (true, Ok(bytes)) = (path.ends_with("_bytes"), text.parse::<u64>()) {
                    text = format!("{text} ({})", size::human(bytes));
                }
                if text.len() > WIDE_HEX_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    let shown = text.get(..WIDE_HEX_DIGITS).unwrap_or_default();
                    text = format!("{shown}… ({} bytes; whole with --output json)", text.len() / 2);
                }
                rows.push((printable(path), text));
            }
        }
    }
}

impl<'de> Deserialize<'de> for Doc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(DocVisitor)
    }
}

struct DocVisitor;

impl<'de> Visitor<'de> for DocVisitor {
    type Value = Doc;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Doc, E> {
        Ok(Doc::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Doc, E> {
        Ok(Doc::Scalar(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Doc, E> {
        Ok(Doc::Scalar(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Doc, E> {
        Ok(Doc::Scalar(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Doc, E> {
        Ok(Doc::Scalar(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Doc, E> {
        Ok(Doc::Scalar(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Doc, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Doc::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Doc, A::Error> {
        let mut members = Vec::new();
        while let Some(member) = map.next_entry()? {
            members.push(member);
        }
        Ok(Doc::Object(members))
    }
}

/// One column of a list.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    title: &'static str,
    path: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Size,
    Count,
}

impl Column {
    /// Text, to the left.
    pub(crate) const fn text(title: &'static str, path: &'static [&'static str]) -> Self {
        Self { title, path, kind: Kind::Text }
    }

    /// A number, to the right.
    pub(crate) const fn number(title: &'static str, path: &'static [&'static str]) -> Self {
        Self { title, path, kind: Kind::Number }
    }

    /// A number of bytes with its unit, to the right.
    pub(crate) const fn size(title: &'static str, path: &'static [&'static str]) -> Self {
        Self { title, path, kind: Kind::Size }
    }

    /// How many items a list has, to the right.
    pub(crate) const fn count(title: &'static str, path: &'static [&'static str]) -> Self {
        Self { title, path, kind: Kind::Count }
    }

    fn cell(&self, row: &Doc) -> String {
        let value = row.at(self.path).unwrap_or(&Doc::Null);
        match self.kind {
            Kind::Text | Kind::Number => value.cell(),
            Kind::Count => value.items().len().to_string(),
            Kind::Size => value.cell().parse().map_or_else(|_| value.cell(), size::human),
        }
    }
}

/// Prints a header and a line for each item. The header comes even without items, so that scripts and people
/// see the same shape.
///
/// # Errors
/// `out` cannot be written to.
pub(crate) fn print_list(out: &mut impl Write, columns: &[Column], items: &[Doc]) -> io::Result<()> {
    let titles = columns.iter().map(|column| column.title.to_owned()).collect();
    let rows = items.iter().map(|item| columns.iter().map(|column| column.cell(item)).collect());
    let lines: Vec<Vec<String>> = std::iter::once(titles).chain(rows).collect();
    let right: Vec<bool> = columns.iter().map(|column| column.kind != Kind::Text).collect();
    print_aligned(out, &lines, &right)
}

/// Prints one object as lines of names and values.
///
/// # Errors
/// `out` cannot be written to.
pub(crate) fn print_object(out: &mut impl Write, object: &Doc) -> io::Result<()> {
    let mut rows = Vec::new();
    object.flatten("", &mut rows);
    let lines: Vec<Vec<String>> = rows.into_iter().map(|(name, value)| vec![name, value]).collect();
    print_aligned(out, &lines, &[false, false])
}

fn print_aligned(out: &mut impl Write, lines: &[Vec<String>], right: &[bool]) -> io::Result<()> {
    let widths: Vec<usize> = (0..right.len())
        .map(|column| {
            lines
                .iter()
                .filter_map(|line| line.get(column))
                .map(|cell| cell.chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    for line in lines {
        let mut text = String::new();
        for ((cell, &width), &right) in line.iter().zip(&widths).zip(right) {
            if !text.is_empty() {
                text.push_str("  ");
            }
            text.push_str(&if right { format!("{cell:>width$}") } else { format!("{cell:<width$}") });
        }
        writeln!(out, "{}", text.trim_end())?;
    }
    Ok(())
}

/// Text that cannot drive a terminal: names such as a host's NQN come from whoever connected.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 4] = [
        Column::text("NAME", &["name"]),
        Column::size("SIZE", &["size_bytes"]),
        Column::number("PI", &["pi", "type"]),
        Column::count("SESSIONS", &["sessions"]),
    ];

    fn shown(print: impl FnOnce(&mut Vec<u8>) -> io::Result<()>) -> String {
        let mut out = Vec::new();
        print(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn list_is_aligned_and_missing_values_are_dashes() {
        let json =
            r#"[{"name":"v1","size_bytes":1073741824,"pi":{"type":1},"sessions":[{}]},{"name":"longer"}]"#;
        let items: Doc = serde_json::from_str(json).unwrap();
        let text = shown(|out| print_list(out, &COLUMNS, items.items()));
        assert_eq!(
            text,
            "NAME     SIZE  PI  SESSIONS\n\
             v1      1 GiB   1         1\n\
             longer      -   -         0\n"
        );
        assert_eq!(shown(|out| print_list(out, &COLUMNS, &[])), "NAME  SIZE  PI  SESSIONS\n");
    }

    #[test]
    fn object_keeps_the_order_of_the_api() {
        let json = r#"{"z":"last?","pi":{"type":1,"guard":"crc16"},"size_bytes":4096,"tags":["a","b"],
            "list":[{"x":1},{"x":null}],"none":[],"empty":{}}"#;
        let doc: Doc = serde_json::from_str(json).unwrap();
        let expected = "z           last?\npi.type     1\npi.guard    crc16\nsize_bytes  4096 (4 KiB)\ntags        a,b\n\
                        list[0].x   1\nlist[1].x   -\nnone        -\nempty       -\n";
        assert_eq!(shown(|out| print_object(out, &doc)), expected);
    }

    #[test]
    fn control_characters_of_peers_are_escaped() {
        let doc: Doc = serde_json::from_str(r#"{"nqn":"nqn.\u001b[2Jx\n"}"#).unwrap();
        assert_eq!(shown(|out| print_object(out, &doc)), "nqn  nqn.\\u{1b}[2Jx\\n\n");
    }
}
