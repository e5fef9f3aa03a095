//! `holdfast status` and `holdfast openapi`.

use std::io::Write;

use super::session::{Session, path};
use crate::client::{ClientError, List, Method, Purpose};
use crate::output::{Doc, Format, printable};
use crate::size;

/// Incidents that are counted; a number beyond is shown as "or more".
const INCIDENTS_COUNTED: usize = 1000;

/// Prints a summary: readiness, and how much there is of everything.
///
/// # Errors
/// See [`ClientError`].
pub(crate) fn status(session: &mut Session) -> Result<(), ClientError> {
    let purpose = Purpose::new("status", "show the status");
    let ready = session.api.status_of(&purpose, "/readyz")? == 200;
    let fetch = |resource, limit| List::fetch(&session.api, &purpose, &path(&[resource]), &[], limit);
    let pools = fetch("pools", None)?;
    let volumes = fetch("volumes", None)?;
    let subsystems = fetch("subsystems", None)?;
    let hosts = fetch("hosts", None)?;
    let incidents = fetch("incidents", Some(INCIDENTS_COUNTED))?;
    if session.format == Format::Json {
        let parts = [
            ("pools", &pools),
            ("volumes", &volumes),
            ("subsystems", &subsystems),
            ("hosts", &hosts),
            ("incidents", &incidents),
        ];
        let lists: Vec<String> =
            parts.iter().map(|(name, list)| format!("\"{name}\":{}", list.json())).collect();
        writeln!(session.out, "{{\"ready\":{ready},{}}}", lists.join(","))?;
        return Ok(());
    }
    let (pools, hosts, incidents) = (pools.docs(), hosts.docs(), incidents.docs());
    let connected =
        hosts.iter().filter(|host| host.at(&["sessions"]).is_some_and(|s| !s.items().is_empty())).count();
    writeln!(
        session.out,
        "api         {} ({})",
        session.api.url(),
        if ready { "ready" } else { "not ready" }
    )?;
    if pools.is_empty() {
        writeln!(session.out, "pools       0")?;
    }
    for pool in &pools {
        writeln!(session.out, "pool        {}", pool_line(pool))?;
    }
    writeln!(session.out, "volumes     {}", volumes.docs().len())?;
    writeln!(session.out, "subsystems  {}", subsystems.docs().len())?;
    writeln!(session.out, "hosts       {} ({connected} connected)", hosts.len())?;
    let more = if incidents.len() >= INCIDENTS_COUNTED { " or more" } else { "" };
    writeln!(session.out, "incidents   {}{more}", incidents.len())?;
    Ok(())
}

/// `ram: ok, 12 MiB of 1 GiB allocated`.
fn pool_line(pool: &Doc) -> String {
    let text = |name| pool.at(&[name]).and_then(Doc::text).map_or_else(|| "-".to_owned(), printable);
    let bytes = |name| text(name).parse().map_or_else(|_| "-".to_owned(), size::human);
    format!(
        "{}: {}, {} of {} allocated",
        text("name"),
        text("health"),
        bytes("allocated_bytes"),
        bytes("capacity_bytes")
    )
}

/// Prints the OpenAPI document, which is JSON in either format.
///
/// # Errors
/// See [`ClientError`].
pub(crate) fn openapi(session: &mut Session) -> Result<(), ClientError> {
    let purpose = Purpose::new("openapi", "fetch the OpenAPI document");
    let document = session.api.call(&purpose, Method::Get, "/openapi.json", None)?;
    writeln!(session.out, "{}", document.trim_end())?;
    Ok(())
}
