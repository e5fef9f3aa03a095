//! Rust source with comments and literals blanked out, so that a rule about code is not met by a sentence about it.

/// The code alone: comments, strings and character literals become spaces. Lines stay where they are.
pub fn code_only(source: &str) -> String {
    let mut code = String::with_capacity(source.len());
    let mut rest = source;
    let mut previous = ' ';
    while let Some(first) = rest.chars().next() {
        let opaque = opaque_len(rest, previous);
        let (token, tail) = rest.split_at(opaque.unwrap_or(first.len_utf8()));
        match opaque {
            Some(_) => code.extend(token.chars().map(|c| if c == '\n' { '\n' } else { ' ' })),
            None => code.push_str(token),
        }
        previous = token.chars().next_back().unwrap_or(' ');
        rest = tail;
    }
    code
}

/// Whether `line` holds `word` as a whole word.
pub fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|part| part.chars().next_back());
        let after = line.get(at + word.len()..).and_then(|part| part.chars().next());
        !before.is_some_and(is_word_char) && !after.is_some_and(is_word_char)
    })
}

fn is_word_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length in bytes of the comment or literal at the start of `rest`, if there is one.
fn opaque_len(rest: &str, previous: char) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if rest.starts_with("/*") {
        return Some(block_comment_len(rest));
    }
    if let Some(inside) = rest.strip_prefix('"') {
        return Some(1 + quoted_len(inside, '"'));
    }
    if rest.starts_with('\'') {
        return character_len(rest);
    }
    if is_word_char(previous) { None } else { raw_string_len(rest) }
}

/// Block comments nest.
fn block_comment_len(rest: &str) -> usize {
    let mut depth = 0_usize;
    let mut at = 0;
    while let Some(tail) = rest.get(at..) {
        if tail.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if tail.starts_with("*/") {
            depth = depth.saturating_sub(1);
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            match tail.chars().next() {
                Some(c) => at += c.len_utf8(),
                None => break,
            }
        }
    }
    rest.len()
}

/// The length up to and including the closing `quote`, with escapes.
fn quoted_len(inside: &str, quote: char) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if c == quote {
            return at + c.len_utf8();
        }
    }
    inside.len()
}

/// A character literal; none for a lifetime or a label, which also begin with a quote.
fn character_len(rest: &str) -> Option<usize> {
    let inside = rest.strip_prefix('\'')?;
    let mut chars = inside.chars();
    let first = chars.next()?;
    if first == '\\' {
        return Some(1 + quoted_len(inside, '\''));
    }
    (chars.next() == Some('\'')).then_some(1 + first.len_utf8() + 1)
}

/// `r"…"`, `r#"…"#` and the same behind `b` and `c`.
fn raw_string_len(rest: &str) -> Option<usize> {
    let behind_prefix = ["r", "br", "cr"].iter().find_map(|prefix| rest.strip_prefix(prefix))?;
    let inside = behind_prefix.trim_start_matches('#');
    let hashes = behind_prefix.len() - inside.len();
    let body = inside.strip_prefix('"')?;
    let end = format!("\"{}", "#".repeat(hashes));
    let opening = rest.len() - body.len();
    Some(opening + body.find(&end).map_or(body.len(), |at| at + end.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_blank_and_code_stays() {
        for (source, code) in [
            ("a // b\nc", "a     \nc"),
            ("a /* b /* c */ d */ e", "a                   e"),
            (r#"f("b\"c") + d"#, "f(      ) + d"),
            (r##"f(r#"b"c"#, 'x', '\'', 'é') "##, "f(        ,    ,     ,    ) "),
            ("fn f<'a>(x: &'a str) -> r#type {}", "fn f<'a>(x: &'a str) -> r#type {}"),
            ("'outer: loop { break 'outer; }", "'outer: loop { break 'outer; }"),
            ("for c in [b'\"', b'/'] { // ' \"\n}", "for c in [b   , b   ] {       \n}"),
        ] {
            assert_eq!(code_only(source), code, "{source}");
        }
    }

    #[test]
    fn unfinished_literals_reach_to_the_end() {
        for source in ["a \"b", "a /* b", "a r#\"b\""] {
            assert_eq!(code_only(source).trim_end(), "a", "{source}");
        }
    }

    #[test]
    fn words_are_whole_words() {
        assert!(has_word("x unsafe {", "unsafe"));
        assert!(!has_word("forbid(unsafe_code)", "unsafe"));
        assert!(!has_word("mktemp job.XXXXXX", "XXXX"));
    }
}
