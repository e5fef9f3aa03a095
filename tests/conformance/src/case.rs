//! What a check is, and how checks are grouped.

use anyhow::Result;

use crate::Lab;

/// One check.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// `chapter.topic.fact`, unique among all cases.
    pub id: &'static str,
    /// Where the rule stands: the document, the clause's number and its title.
    pub clause: &'static str,
    /// Does it; an error says what was expected and what came.
    pub run: fn(&mut Lab) -> Result<()>,
}

/// The checks of one layer.
#[derive(Debug, Clone, Copy)]
pub struct Chapter {
    /// The first word of its cases' ids.
    pub name: &'static str,
    /// Its cases by topic.
    pub topics: &'static [&'static [Case]],
}

impl Chapter {
    /// Its cases, in order.
    pub fn cases(&self) -> impl Iterator<Item = &'static Case> + use<> {
        self.topics.iter().copied().flatten()
    }
}

/// Whether `id` is one that `pattern` means: `*` stands for any characters, everything else for itself.
#[must_use]
pub(crate) fn matches(pattern: &str, id: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == id };
    let Some(mut tail) = id.strip_prefix(head) else { return false };
    loop {
        if matches(rest, tail) {
            return true;
        }
        let mut characters = tail.chars();
        if characters.next().is_none() {
            return false;
        }
        tail = characters.as_str();
    }
}

impl Case {
    /// A case in one line.
    #[must_use]
    pub const fn new(id: &'static str, clause: &'static str, run: fn(&mut Lab) -> Result<()>) -> Case {
        Case { id, clause, run }
    }

    /// Whether its id is one that `pattern` means: `*` stands for any characters, everything else for itself.
    #[must_use]
    pub fn is_meant_by(&self, pattern: &str) -> bool {
        matches(pattern, self.id)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::matches;

    #[test]
    fn a_star_stands_for_any_characters() {
        assert!(
            matches("a.b", "a.b") && matches("*", "") && matches("a.*", "a.b.c") && matches("*.c", "a.b.c")
        );
        assert!(
            matches("a*c*e", "abcde") && !matches("a*c", "abcd") && !matches("a", "ab") && !matches("", "a")
        );
    }

    #[test]
    fn ids_are_unique_and_begin_with_their_chapter() {
        let mut seen = BTreeSet::new();
        for chapter in crate::CHAPTERS {
            for case in chapter.cases() {
                assert!(seen.insert(case.id), "{} twice", case.id);
                assert!(
                    case.id.starts_with(&format!("{}.", chapter.name)),
                    "{} in {}",
                    case.id,
                    chapter.name
                );
                assert!(case.clause.contains('§') || chapter.name == "robustness", "{}: no clause", case.id);
            }
        }
    }
}
