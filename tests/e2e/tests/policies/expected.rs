//! What each cell must be, and why: `tests/expected/policies.toml`.

use anyhow::{Context as _, Result, bail, ensure};
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};

use crate::cells::{Boot, Cell, FileSystem, Load, Policy, System, Transport};

const TEXT: &str = include_str!("../../../expected/policies.toml");

/// What the target must count in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    /// Guard errors of this host.
    Red,
    /// None, and the guest sees no error of its input and output.
    Green,
    /// No guard errors; the guest may see errors that have nothing to do with tuples.
    GreenWithErrors,
    /// Either; the reason says why it cannot be told.
    Either,
}

/// A rule: the cells that it is for, what they must be, and why.
#[derive(Debug)]
struct Rule {
    systems: Vec<System>,
    transports: Vec<Transport>,
    policies: Vec<Policy>,
    file_systems: Vec<FileSystem>,
    loads: Vec<Load>,
    colour: Colour,
    reason: String,
}

/// All rules; the first that fits counts.
#[derive(Debug)]
pub(crate) struct Expected(Vec<Rule>);

impl Expected {
    /// Those of `tests/expected/policies.toml`.
    pub(crate) fn read() -> Result<Expected> {
        Expected::parse(TEXT).context("tests/expected/policies.toml")
    }

    fn parse(text: &str) -> Result<Expected> {
        let document: DocumentMut = text.parse()?;
        let rules = document.get("cells").and_then(Item::as_array_of_tables).map(ArrayOfTables::iter);
        let rules = rules.context("no [[cells]]")?.map(rule).collect::<Result<Vec<_>>>()?;
        let expected = Expected(rules);
        for boot in Boot::all() {
            for cell in Cell::all() {
                expected.of(boot, cell)?;
            }
        }
        Ok(expected)
    }

    /// What `cell` must be, and the reason.
    pub(crate) fn of(&self, boot: Boot, cell: Cell) -> Result<(Colour, &str)> {
        let rule = self.0.iter().find(|rule| rule.fits(boot, cell));
        let rule = rule.with_context(|| format!("no rule for {cell}, {boot}"))?;
        Ok((rule.colour, &rule.reason))
    }
}

impl Rule {
    fn fits(&self, boot: Boot, cell: Cell) -> bool {
        self.systems.contains(&boot.system)
            && self.transports.contains(&boot.transport)
            && self.policies.contains(&cell.policy)
            && self.file_systems.contains(&cell.file_system)
            && self.loads.contains(&cell.load)
    }
}

fn rule(table: &Table) -> Result<Rule> {
    const KEYS: [&str; 7] = ["kernel", "transport", "policy", "file_system", "load", "colour", "reason"];
    for (key, _) in table {
        ensure!(KEYS.contains(&key), "unknown key {key}");
    }
    let reason = text(table, "reason")?;
    let colour = match text(table, "colour")? {
        "red" => Colour::Red,
        "green" => Colour::Green,
        "green-with-errors" => Colour::GreenWithErrors,
        "either" => Colour::Either,
        other => bail!("no colour: {other}"),
    };
    Ok(Rule {
        systems: values(table, "kernel", System::ALL, System::of)?,
        transports: values(table, "transport", Transport::ALL, Transport::of)?,
        policies: values(table, "policy", Policy::ALL, Policy::of)?,
        file_systems: values(table, "file_system", FileSystem::ALL, FileSystem::of)?,
        loads: values(table, "load", Load::ALL, Load::of)?,
        colour,
        reason: reason.to_owned(),
    })
}

fn text<'a>(table: &'a Table, key: &str) -> Result<&'a str> {
    let value = table.get(key).and_then(Item::as_str).filter(|text| !text.is_empty());
    value.with_context(|| format!("no {key}"))
}

/// The values under `key`, an array of words; all of them when it is not there.
fn values<T: Copy>(table: &Table, key: &str, all: &[T], of: impl Fn(&str) -> Option<T>) -> Result<Vec<T>> {
    let Some(item) = table.get(key) else { return Ok(all.to_vec()) };
    let words = item.as_array().with_context(|| format!("{key} is no array"))?;
    let value = |word: &toml_edit::Value| {
        let word = word.as_str().with_context(|| format!("{key}: no word"))?;
        of(word).with_context(|| format!("{key}: {word} is unknown"))
    };
    words.iter().map(value).collect()
}

#[test]
fn every_cell_has_a_rule_with_a_reason_and_every_rule_a_cell() -> Result<()> {
    let expected = Expected::read()?;
    let cells = || Boot::all().flat_map(|boot| Cell::all().map(move |cell| (boot, cell)));
    for rule in &expected.0 {
        let first = |(boot, cell)| {
            expected.of(boot, cell).is_ok_and(|found| std::ptr::eq(found.1, rule.reason.as_str()))
        };
        ensure!(cells().any(first), "no cell is left for this rule: {rule:?}");
    }
    Ok(())
}

#[test]
fn a_rule_with_a_mistake_is_refused() {
    for text in [
        "",
        "[[cells]]\ncolour = 'green'",
        "[[cells]]\ncolour = 'blue'\nreason = 'x'",
        "[[cells]]\ncolour = 'green'\nreason = 'x'\npolicy = ['nobody']",
        "[[cells]]\ncolour = 'green'\nreason = 'x'\nkernels = ['6.1']",
        "[[cells]]\ncolour = 'green'\nreason = 'x'\nkernel = ['6.1']",
    ] {
        assert!(Expected::parse(text).is_err(), "{text}");
    }
    assert!(Expected::parse("[[cells]]\ncolour = 'green'\nreason = 'x'").is_ok());
}
