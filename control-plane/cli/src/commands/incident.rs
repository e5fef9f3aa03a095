//! `holdfast incident`.

use clap::{Args, Subcommand};

use super::Run;
use super::session::{Session, path};
use crate::client::{ClientError, List, Purpose};
use crate::output::Column;

const COLUMNS: [Column; 10] = [
    Column::text("ID", &["id"]),
    Column::text("LAST", &["last_time"]),
    Column::number("COUNT", &["count"]),
    Column::text("HOST", &["host"]),
    Column::text("VOLUME", &["volume"]),
    Column::number("LBA", &["lba"]),
    Column::text("OPERATION", &["operation"]),
    Column::text("TAG", &["tag"]),
    Column::text("VERDICT", &["verdict"]),
    Column::text("WRITER", &["writer"]),
];

const FLAGS: [(&str, &str); 5] = [
    ("/host", "--host"),
    ("/volume", "--volume"),
    ("/tag", "--tag"),
    ("/verdict", "--verdict"),
    ("/since", "--since"),
];

/// What can be done with incidents.
#[derive(Debug, Subcommand)]
pub(crate) enum IncidentCommand {
    /// List incidents
    List(Filter),
    /// Show one incident with its evidence
    #[command(after_help = "Example:\n  holdfast incident show 42")]
    Show {
        /// The incident, as listed
        id: String,
    },
}

/// Which incidents.
#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  holdfast incident list --host web1 --tag guard
  holdfast incident list --verdict host-race --since 2026-11-22T00:00:00Z
  holdfast incident list --limit 10 --output json")]
pub(crate) struct Filter {
    /// Only of this host
    #[arg(long)]
    host: Option<String>,
    /// Only on this volume
    #[arg(long)]
    volume: Option<String>,
    /// Only of this tag: guard, app, ref, storage, digest or media
    #[arg(long)]
    tag: Option<String>,
    /// Only with this verdict: host-race, host-memory, wire, misdirected, target, media or undetermined
    #[arg(long)]
    verdict: Option<String>,
    /// Only since this time (RFC 3339)
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// At most this many
    #[arg(long, value_name = "COUNT")]
    limit: Option<usize>,
}

impl Run for IncidentCommand {
    fn run(self, session: &mut Session) -> Result<(), ClientError> {
        match self {
            Self::List(filter) => list(session, &filter),
            Self::Show { id } => session.show(
                &Purpose::new("incident show", format!("show incident {id}")),
                &path(&["incidents", &id]),
            ),
        }
    }
}

fn list(session: &mut Session, filter: &Filter) -> Result<(), ClientError> {
    let filters = [
        ("host", &filter.host),
        ("volume", &filter.volume),
        ("tag", &filter.tag),
        ("verdict", &filter.verdict),
        ("since", &filter.since),
    ];
    let query: Vec<(&str, &str)> =
        filters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
    let purpose = Purpose::new("incident list", "list incidents").with_flags(&FLAGS);
    let list = List::fetch(&session.api, &purpose, &path(&["incidents"]), &query, filter.limit)?;
    session.print_list(&list, &COLUMNS)
}
