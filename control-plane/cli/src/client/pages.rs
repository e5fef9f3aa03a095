//! Lists over all their pages: `{"items":[…],"next":TOKEN|null}`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Api, ClientError, Method, Purpose, segment};
use crate::output::Doc;

/// Most pages that are followed: a server that never comes to an end must not keep us for ever.
const PAGES_MAX: usize = 10_000;

/// A list, every item as the API sent it.
#[derive(Debug)]
pub(crate) struct List {
    items: Vec<Box<RawValue>>,
    /// Where the list goes on, if it was cut at the asked-for length.
    next: Option<String>,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Box<RawValue>>,
    next: Option<String>,
}

impl List {
    /// Fetches a list; `query` are names and values. With `limit`, no more items than that.
    ///
    /// # Errors
    /// Not reachable, refused, or not understood.
    pub(crate) fn fetch(
        api: &Api,
        purpose: &Purpose,
        path: &str,
        query: &[(&str, &str)],
        limit: Option<usize>,
    ) -> Result<Self, ClientError> {
        let mut list = Self { items: Vec::new(), next: None };
        for _ in 0..PAGES_MAX {
            let after = list.next.as_deref().map(|token| ("after", token));
            let parts: Vec<String> = query
                .iter()
                .copied()
                .chain(after)
                .map(|(name, value)| format!("{name}={}", segment(value)))
                .collect();
            let path = if parts.is_empty() { path.to_owned() } else { format!("{path}?{}", parts.join("&")) };
            let text = api.call(purpose, Method::Get, &path, None)?;
            let page: Page = serde_json::from_str(&text)
                .map_err(|error| api.not_understood(purpose, format!("not a page of a list: {error}")))?;
            list.items.extend(page.items);
            list.next = page.next;
            match limit {
                Some(limit) if list.items.len() >= limit => {
                    list.items.truncate(limit);
                    return Ok(list);
                }
                _ if list.next.is_none() => return Ok(list),
                _ => {}
            }
        }
        Err(api.not_understood(purpose, format!("the list has more than {PAGES_MAX} pages")))
    }

    /// The list as one page of the API's form.
    pub(crate) fn json(&self) -> String {
        let items: Vec<&str> = self.items.iter().map(|item| item.get()).collect();
        let next = serde_json::Value::from(self.next.as_deref());
        format!("{{\"items\":[{}],\"next\":{next}}}", items.join(","))
    }

    /// The items, read.
    pub(crate) fn docs(&self) -> Vec<Doc> {
        // What serde_json took for a raw value is a value.
        self.items.iter().filter_map(|item| serde_json::from_str(item.get()).ok()).collect()
    }
}
