//! The house rules as checks. Each takes what it looks at as plain values and answers with complaints, so that a test can
//! hold it against this repository and, to prove that it sees anything at all, against a bad example.
//!
//! | module | what it keeps |
//! |---|---|
//! | [`tree`] | which files are looked at: those that Git tracks or would track |
//! | [`sources`] | sizes, module docs, nothing unfinished, nothing about places outside of this repository |
//! | [`rooms`] | what only certain folders may do: `unsafe`, io_uring, SQL, clocks and sockets |
//! | [`scripts`] | executable, and stopping at the first error |
//! | [`manifests`] | lints of every crate, direction of imports, the root manifest |
//! | [`layout`] | top-level entries, and the build folder's distance from the source folder `target` |
//! | [`rust_text`] | Rust source without comments and literals |

pub mod layout;
pub mod manifests;
pub mod rooms;
pub mod rust_text;
pub mod scripts;
pub mod sources;
pub mod tree;

/// What a check found: one line each, with the place; empty when the rule is kept.
pub type Complaints = Vec<String>;
