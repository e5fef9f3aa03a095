//! `holdfast event`.

use std::io::Write;

use clap::Subcommand;

use super::Run;
use super::session::{Session, path};
use crate::client::{ClientError, Event, EventStream, Purpose};
use crate::output::{Format, printable};

/// What can be done with events.
#[derive(Debug, Subcommand)]
pub(crate) enum EventCommand {
    /// Print events as they happen, one a line, until interrupted
    #[command(after_help = "\
Examples:
  holdfast event watch
  holdfast event watch --kind incident --kind alarm --output json")]
    Watch {
        /// Only events of this kind: host, volume, pool, target, incident or alarm; may repeat
        #[arg(long)]
        kind: Vec<String>,
        /// End after this many events
        #[arg(long, value_name = "COUNT")]
        count: Option<u64>,
    },
}

impl Run for EventCommand {
    fn run(self, session: &mut Session) -> Result<(), ClientError> {
        let Self::Watch { kind, count } = self;
        let mut stream = EventStream::open(
            &session.api,
            &Purpose::new("event watch", "watch events"),
            &path(&["events"]),
        )?;
        let mut left = count.unwrap_or(u64::MAX);
        while left > 0 {
            let event = stream.next()?;
            if kind.is_empty() || kind.contains(&event.name) {
                print(session, &event)?;
                left -= 1;
            }
        }
        Ok(())
    }
}

/// The event's data is JSON; on one line, whatever its own layout is.
fn print(session: &mut Session, event: &Event) -> Result<(), ClientError> {
    let data = event.data.replace('\n', " ");
    match session.format {
        Format::Json => {
            writeln!(
                session.out,
                "{{\"event\":{},\"data\":{data}}}",
                serde_json::Value::from(event.name.as_str())
            )?;
        }
        Format::Table => writeln!(session.out, "{:<8}  {}", printable(&event.name), printable(&data))?,
    }
    session.out.flush()?;
    Ok(())
}
