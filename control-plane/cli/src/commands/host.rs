//! `holdfast host`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use super::Run;
use super::session::{Session, body, path};
use crate::client::{ClientError, Method, Purpose};
use crate::output::{self, Column, Doc, Format};

const COLUMNS: [Column; 7] = [
    Column::text("NAME", &["name"]),
    Column::text("REGISTERED", &["registered"]),
    Column::count("SESSIONS", &["sessions"]),
    Column::text("DECLARED", &["policy", "declared"]),
    Column::text("OBSERVED", &["policy", "observed"]),
    Column::text("NQN", &["nqn"]),
    Column::text("IQN", &["iqn"]),
];

const COUNTER_COLUMNS: [Column; 12] = [
    Column::text("VOLUME", &["volume"]),
    Column::text("OPERATION", &["operation"]),
    Column::number("CHECKED", &["blocks_checked"]),
    Column::number("ESCAPED", &["blocks_escaped"]),
    Column::number("UNCHECKED", &["blocks_unchecked"]),
    Column::number("INSERTED", &["blocks_inserted"]),
    Column::number("STRIPPED", &["blocks_stripped"]),
    Column::number("GUARD", &["guard_errors"]),
    Column::number("APP", &["app_tag_errors"]),
    Column::number("REF", &["ref_tag_errors"]),
    Column::number("STORAGE", &["storage_tag_errors"]),
    Column::number("MEDIA", &["media_errors"]),
];

const FLAGS: [(&str, &str); 8] = [
    ("/name", "NAME"),
    ("/nqn", "--nqn"),
    ("/iqn", "--iqn"),
    ("/policy/declared", "--policy"),
    ("/auth/chap/user", "--chap-user"),
    ("/auth/chap/secret", "--chap-secret-file"),
    ("/auth/chap/mutual_user", "--chap-mutual-user"),
    ("/auth/chap/mutual_secret", "--chap-mutual-secret-file"),
];

/// What can be done with hosts.
#[derive(Debug, Subcommand)]
pub(crate) enum HostCommand {
    /// Register a host
    #[command(after_help = "\
Examples:
  holdfast host create web1 --nqn nqn.2014-08.org.nvmexpress:uuid:7f2c3a54-4a0b-4d7e-9f52-1f7f6f0f2b11
  holdfast host create db1 --nqn nqn.2026-11.com.example:db1 --policy stable-pages
  holdfast host create vm1 --iqn iqn.1993-08.org.debian:01:ab12cd --chap-user vm1 --chap-secret-file ./vm1.secret")]
    Create(Identity),
    /// List hosts
    #[command(after_help = "\
Examples:
  holdfast host list
  holdfast host list --nqn nqn.2026-11.com.example:db1")]
    List {
        /// Only the host with this NQN
        #[arg(long)]
        nqn: Option<String>,
        /// Only the host with this IQN
        #[arg(long)]
        iqn: Option<String>,
    },
    /// Show one host with its sessions and policy
    #[command(after_help = "Example:\n  holdfast host show web1")]
    Show {
        /// The host
        name: String,
    },
    /// Change a host; what is not named stays
    #[command(after_help = "\
Examples:
  holdfast host set web1 --policy bounce
  holdfast host set web1 --nqn nqn.2026-11.com.example:web1
  holdfast host set web1 --no-iqn
  pass show storage/vm1 | holdfast host set vm1 --chap-user vm1 --chap-secret-file -
  holdfast host set vm1 --no-chap")]
    Set(Change),
    /// Delete a host; one with sessions or grants is refused
    #[command(after_help = "Example:\n  holdfast host delete web1")]
    Delete {
        /// The host
        name: String,
    },
    /// Make the token with which the host's agent reports, and print it this once; the one before is no longer taken
    #[command(after_help = "\
Examples:
  holdfast host token db1 --output json | jq -r .token > token
  holdfast host token db1 --revoke")]
    Token {
        /// The host
        name: String,
        /// Take the token away instead: reports need none from then on
        #[arg(long)]
        revoke: bool,
    },
    /// Show what was checked and what failed, for each volume that the host used
    #[command(after_help = "\
Examples:
  holdfast host counters web1
  holdfast host counters web1 --output json")]
    Counters {
        /// The host
        name: String,
    },
}

/// A new host.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("member").multiple(true))]
pub(crate) struct Identity {
    /// Name: lower-case letters, digits, `.`, `_`, `-`
    name: String,
    /// NQN that it connects with over NVMe (/etc/nvme/hostnqn)
    #[arg(long)]
    nqn: Option<String>,
    /// IQN that it logs in with over iSCSI
    #[arg(long)]
    iqn: Option<String>,
    /// Integrity policy that it is known to have, such as stable-pages, bounce or none
    #[arg(long)]
    policy: Option<String>,
    #[command(flatten)]
    chap: ChapFlags,
}

/// What a host proves itself with over iSCSI. Secrets come from files, so that no list of processes shows them.
#[derive(Args, Debug)]
pub(crate) struct ChapFlags {
    /// Name that the host gives for CHAP over iSCSI
    #[arg(long, value_name = "USER", group = "member")]
    chap_user: Option<String>,
    /// File with its secret in the first line, 12 to 255 characters; `-`: standard input
    #[arg(long, value_name = "FILE", group = "member")]
    chap_secret_file: Option<PathBuf>,
    /// Name that the target gives when the host asks it to prove itself (mutual CHAP)
    #[arg(long, value_name = "USER", group = "member")]
    chap_mutual_user: Option<String>,
    /// File with the target's secret, another one than the host's
    #[arg(long, value_name = "FILE", group = "member")]
    chap_mutual_secret_file: Option<PathBuf>,
}

/// What changes.
#[derive(Args, Debug)]
#[command(group = ArgGroup::new("member").required(true).multiple(true))]
pub(crate) struct Change {
    /// The host
    name: String,
    /// New NQN; one of an auto-recorded host merges that host in with its history
    #[arg(long, group = "member")]
    nqn: Option<String>,
    /// Take the NQN away
    #[arg(long, group = "member", conflicts_with = "nqn")]
    no_nqn: bool,
    /// New IQN; one of an auto-recorded host merges that host in with its history
    #[arg(long, group = "member")]
    iqn: Option<String>,
    /// Take the IQN away
    #[arg(long, group = "member", conflicts_with = "iqn")]
    no_iqn: bool,
    /// Integrity policy that it is known to have
    #[arg(long, group = "member")]
    policy: Option<String>,
    #[command(flatten)]
    chap: ChapFlags,
    /// Let it log in over iSCSI without proving itself
    #[arg(long, group = "member", conflicts_with_all = [
        "chap_user", "chap_secret_file", "chap_mutual_user", "chap_mutual_secret_file",
    ])]
    no_chap: bool,
}

impl Run for HostCommand {
    fn run(self, session: &mut Session) -> Result<(), ClientError> {
        match self {
            Self::Create(host) => {
                let purpose =
                    Purpose::new("host create", format!("create host {}", host.name)).with_flags(&FLAGS);
                let host = body([
                    ("name", Some(host.name.into())),
                    ("nqn", host.nqn.map(Value::from)),
                    ("iqn", host.iqn.map(Value::from)),
                    ("policy", host.policy.map(declared)),
                    ("auth", host.chap.auth()?),
                ]);
                session.send(&purpose, Method::Post, &path(&["hosts"]), Some(host))
            }
            Self::List { nqn, iqn } => {
                let filters = [("nqn", nqn), ("iqn", iqn)];
                let query: Vec<(&str, &str)> =
                    filters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))).collect();
                let purpose = Purpose::new("host list", "list hosts").with_flags(&FLAGS);
                session.list(&purpose, &path(&["hosts"]), &query, &COLUMNS)
            }
            Self::Show { name } => session
                .show(&Purpose::new("host show", format!("show host {name}")), &path(&["hosts", &name])),
            Self::Set(change) => set(session, change),
            Self::Delete { name } => session.delete(
                &Purpose::new("host delete", format!("delete host {name}")),
                &path(&["hosts", &name]),
                &format!("host {name} deleted"),
            ),
            Self::Token { name, revoke: false } => {
                let purpose = Purpose::new("host token", format!("make a token for host {name}"));
                session.send(&purpose, Method::Post, &path(&["hosts", &name, "token"]), None)
            }
            Self::Token { name, revoke: true } => session.delete(
                &Purpose::new("host token", format!("revoke the token of host {name}")),
                &path(&["hosts", &name, "token"]),
                &format!("token of host {name} revoked"),
            ),
            Self::Counters { name } => counters(session, &name),
        }
    }
}

impl ChapFlags {
    /// The member `auth`, if any of it is named.
    fn auth(self) -> Result<Option<Value>, ClientError> {
        let secret = |file: Option<PathBuf>| file.map(|file| read_secret(&file)).transpose();
        let chap = body([
            ("user", self.chap_user.map(Value::from)),
            ("secret", secret(self.chap_secret_file)?.map(Value::from)),
            ("mutual_user", self.chap_mutual_user.map(Value::from)),
            ("mutual_secret", secret(self.chap_mutual_secret_file)?.map(Value::from)),
        ]);
        Ok((!chap.is_empty()).then(|| json!({ "chap": chap })))
    }
}

/// The first line of a file or of standard input.
fn read_secret(file: &Path) -> Result<String, ClientError> {
    let text = if file == Path::new("-") {
        std::io::read_to_string(std::io::stdin())
    } else {
        std::fs::read_to_string(file)
    };
    let text = text.map_err(|source| ClientError::Secret { file: file.to_owned(), source })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn declared(policy: String) -> Value {
    json!({ "declared": policy })
}

fn set(session: &mut Session, change: Change) -> Result<(), ClientError> {
    let purpose = Purpose::new("host set", format!("change host {}", change.name)).with_flags(&FLAGS);
    // RFC 7396: null takes a member away.
    let identity =
        |new: Option<String>, none: bool| if none { Some(Value::Null) } else { new.map(Value::from) };
    let patch = body([
        ("nqn", identity(change.nqn, change.no_nqn)),
        ("iqn", identity(change.iqn, change.no_iqn)),
        ("policy", change.policy.map(declared)),
        ("auth", if change.no_chap { Some(Value::Null) } else { change.chap.auth()? }),
    ]);
    session.send(&purpose, Method::Patch, &path(&["hosts", &change.name]), Some(patch))
}

/// Two lines for each volume, one for each direction, and the digest errors, which belong to no volume.
fn counters(session: &mut Session, name: &str) -> Result<(), ClientError> {
    let purpose = Purpose::new("host counters", format!("show the counters of host {name}"));
    let path = path(&["hosts", name, "counters"]);
    if session.format == Format::Json {
        return session.show(&purpose, &path);
    }
    let text = session.api.call(&purpose, Method::Get, &path, None)?;
    let answer = session.parse(&purpose, &text)?;
    let rows: Vec<Doc> =
        answer.at(&["volumes"]).unwrap_or(&Doc::Null).items().iter().flat_map(directions).collect();
    output::print_list(&mut session.out, &COUNTER_COLUMNS, &rows)?;
    let digest = |part| answer.at(&["digest_errors", part]).and_then(Doc::text).unwrap_or("-").to_owned();
    writeln!(session.out, "digest errors: header {}, data {}", digest("header"), digest("data"))?;
    Ok(())
}

/// A volume's counters as one row for each direction.
fn directions(volume: &Doc) -> Vec<Doc> {
    let name = volume.at(&["volume"]).cloned().unwrap_or(Doc::Null);
    let row = |operation: &str| {
        let mut members = vec![
            ("volume".to_owned(), name.clone()),
            ("operation".to_owned(), Doc::Scalar(operation.to_owned())),
        ];
        if let Some(Doc::Object(counters)) = volume.at(&[operation]) {
            members.extend(counters.iter().cloned());
        }
        Doc::Object(members)
    };
    vec![row("write"), row("read")]
}
