//! Checks of the NVMe/TCP target against the specifications, clause by clause, as a host sees it.
//!
//! A [`Case`] is one rule of NVM Express Base 2.1, NVM Command Set 1.1 or NVMe over TCP Transport 1.1 (or one promise to
//! hostile peers), with the clause that it comes from. A case knows only what goes over the wire: it is written from
//! the specification with the scripted host of `holdfast-testkit`, which shares no code with the target.
//!
//! Cases run one after the other on a [`Lab`], a running appliance. After each the Lab demands that an uninvolved host
//! still works and that the target is the process that it was: whatever a case sends, nobody else may notice.
//!
//! [`CHAPTERS`] lists them all; the binary `holdfast-conformance` runs them for people, `tests/suite.rs` for
//! `cargo test`, and `tests/mutants.rs` shows that they fail on a target that is broken on purpose.
#![forbid(unsafe_code)]

pub mod admin;
mod case;
pub mod check;
pub mod events;
pub mod fabrics;
pub mod features;
mod fields;
mod lab;
pub mod logs;
pub mod nvm;
pub mod protection;
pub mod robustness;
mod run;
pub mod transport;

pub use case::{Case, Chapter};
pub use lab::{Format, Guard, Lab, Share, Start, View};
pub use run::{Outcome, Report, run};

/// All chapters, in the order in which the layers build on each other.
pub const CHAPTERS: &[Chapter] = &[
    Chapter { name: "transport", topics: transport::TOPICS },
    Chapter { name: "fabrics", topics: fabrics::TOPICS },
    Chapter { name: "admin", topics: admin::TOPICS },
    Chapter { name: "features", topics: features::TOPICS },
    Chapter { name: "logs", topics: logs::TOPICS },
    Chapter { name: "events", topics: events::TOPICS },
    Chapter { name: "nvm", topics: nvm::TOPICS },
    Chapter { name: "protection", topics: protection::TOPICS },
    Chapter { name: "robustness", topics: robustness::TOPICS },
];

/// Every case of every chapter.
pub fn cases() -> impl Iterator<Item = &'static Case> {
    CHAPTERS.iter().flat_map(Chapter::cases)
}
