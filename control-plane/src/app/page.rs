//! Lists in pages.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Result};

/// Objects in one answer when the asker does not say.
pub const LIMIT_DEFAULT: u32 = 100;
/// Objects in one answer at most.
pub const LIMIT_MAX: u32 = 1000;

/// A part of a list.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Page<T> {
    /// Objects in the order of the list.
    pub items: Vec<T>,
    /// `after` of the next part; null at the end of the list.
    pub next: Option<String>,
}

/// Which part is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageQuery {
    /// At most so many.
    pub limit: u32,
    /// Where the part before ended, its key in plain text.
    pub after: Option<String>,
}

impl Default for PageQuery {
    fn default() -> Self {
        Self { limit: LIMIT_DEFAULT, after: None }
    }
}

impl PageQuery {
    /// Reads `after` back from its token.
    pub fn new(limit: u32, token: Option<&str>) -> Result<Self> {
        let after = token.map(decode_token).transpose()?;
        Ok(Self { limit, after })
    }

    /// One row more than asked for tells whether there is a next part.
    pub(crate) fn fetch(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// The key to go on after; empty at the beginning.
    pub(crate) fn after(&self) -> &str {
        self.after.as_deref().unwrap_or_default()
    }

    /// Cuts fetched rows to the limit and makes the token of the next part.
    pub(crate) fn cut<R>(&self, rows: &mut Vec<R>, key: impl Fn(&R) -> String) -> Option<String> {
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if rows.len() <= limit {
            return None;
        }
        rows.truncate(limit);
        rows.last().map(|row| URL_SAFE_NO_PAD.encode(key(row)))
    }
}

pub(crate) fn bad_token() -> Error {
    Error::value("/after", "not a token of this list: give back what `next` said")
}

fn decode_token(token: &str) -> Result<String> {
    let bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| bad_token())?;
    String::from_utf8(bytes).map_err(|_| bad_token())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_ends_with_the_token_of_the_next() {
        let page = PageQuery::new(2, None).unwrap();
        let mut rows = vec!["a", "b", "c"];
        let token = page.cut(&mut rows, |row| (*row).to_owned()).unwrap();
        assert_eq!(rows, ["a", "b"]);
        assert_eq!(PageQuery::new(2, Some(&token)).unwrap().after(), "b");
        let mut rest = vec!["c"];
        assert_eq!(page.cut(&mut rest, |row| (*row).to_owned()), None);
    }

    #[test]
    fn a_token_that_no_page_gave_is_refused() {
        assert!(matches!(PageQuery::new(1, Some("%%")), Err(Error::Value(_))));
    }
}
