//! Keeps the target at what is wanted and this side informed of how it is: on every new conversation the whole state
//! is applied, then the target is looked at twice a second and its incidents are collected.

mod absorb;
mod desired;
mod incidents;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::app::telemetry::Numbers;
use crate::app::{App, Sync, Writer, witness};
use crate::error::{Error, Result};
use crate::target::Link;
use incidents::IncidentStream;

pub(crate) use desired::desired_state;

/// How often the target is looked at: counters have to be visible within two seconds.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Pause after the target refused what is kept: only a person's change can help.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);
/// How long one attempt to bring the target up to date may wait for it.
const APPLY_PATIENCE: Duration = Duration::from_secs(1);

/// Runs until `stop` says true.
pub async fn run(app: Arc<App>, mut stop: watch::Receiver<bool>) {
    let mut reconciler =
        Reconciler { link: app.target.link(), stream: None, reviewed: None, not_before: Instant::now(), app };
    let stopped = async move {
        // A closed channel stops as well.
        let _ = stop.wait_for(|stop| *stop).await;
    };
    tokio::select! {
        () = stopped => {}
        () = reconciler.work() => {}
    }
}

struct Reconciler {
    app: Arc<App>,
    link: watch::Receiver<Link>,
    /// Where the incident stream stands; read from the database on first use.
    stream: Option<IncidentStream>,
    /// Numbers that hosts' claims were held against last.
    reviewed: Option<Arc<Numbers>>,
    /// No attempt to apply before this.
    not_before: Instant,
}

impl Reconciler {
    async fn work(&mut self) {
        loop {
            if let Err(error) = self.tick().await {
                tracing::warn!(%error, "reconciliation goes on later");
            }
            tokio::select! {
                () = sleep(LOOK_EVERY) => {}
                () = self.app.wake.notified() => {}
                changed = self.link.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }

    async fn tick(&mut self) -> Result<()> {
        let link = self.link.borrow_and_update().clone();
        let generation = match link {
            Link::Down { reason } => {
                self.app.set_sync(Sync::Waiting { reason });
                self.app.telemetry.forget_observed();
                // Whoever writes at the moment waits for the target; the numbers can be saved after.
                return match self.app.try_writer() {
                    Some(_writer) => self.app.telemetry.save(&self.app.db).await,
                    None => Ok(()),
                };
            }
            Link::Up { generation, .. } => generation,
        };
        let app = Arc::clone(&self.app);
        let mut writer = app.writer().await;
        if writer.synced != Some(generation) && !self.bring_up_to_date(&mut writer).await {
            return Ok(());
        }
        look(&app, &mut writer).await;
        self.collect_incidents(generation).await?;
        self.review().await?;
        app.telemetry.save_if_due(&app.db).await
    }

    /// `false` if the target does not run what is kept yet.
    async fn bring_up_to_date(&mut self, writer: &mut Writer) -> bool {
        if Instant::now() < self.not_before {
            return false;
        }
        let deadline = Instant::now() + APPLY_PATIENCE;
        let Err(error) = self.app.apply_committed(writer, deadline).await else { return true };
        let reason = match &error {
            Error::Refused(faults) => {
                let faults: Vec<String> =
                    faults.iter().map(|fault| format!("{}: {}", fault.name, fault.detail)).collect();
                format!("the target refuses what is wanted: {}", faults.join("; "))
            }
            other => other.to_string(),
        };
        if !matches!(error, Error::TargetAway(_)) {
            self.not_before = Instant::now() + REFUSED_PAUSE;
            self.app.events.send(crate::app::events::Event::alarm("target", &reason));
            tracing::error!(reason, "the target does not run what is wanted");
        }
        self.app.set_sync(Sync::Waiting { reason });
        false
    }

    /// Holds hosts' claims against counters that changed. The caller is the writer.
    async fn review(&mut self) -> Result<()> {
        let numbers = self.app.telemetry.numbers();
        if self.reviewed.as_ref().is_some_and(|before| Arc::ptr_eq(before, &numbers)) {
            return Ok(());
        }
        let mut tx = self.app.db.write().await?;
        let events = witness::review(&mut tx, &numbers).await?;
        tx.commit().await?;
        self.reviewed = Some(numbers);
        for event in events {
            self.app.events.send(event);
        }
        Ok(())
    }

    async fn collect_incidents(&mut self, generation: u64) -> Result<()> {
        let Some(observed) = self.app.telemetry.observed() else { return Ok(()) };
        if self.stream.is_none() {
            self.stream = Some(IncidentStream::load(&self.app).await?);
        }
        match &mut self.stream {
            Some(stream) => stream.collect(&self.app, generation, &observed.boot_id).await,
            None => Ok(()),
        }
    }
}

/// Looks at the target and takes in what it says. The caller is the writer, so nothing changes meanwhile.
pub(crate) async fn look(app: &App, writer: &mut Writer) {
    let observed = match app.target.observe().await {
        Ok(observed) => observed,
        Err(error) => {
            tracing::warn!(%error, "the target could not be looked at");
            return;
        }
    };
    if let Err(error) = absorb::absorb(app, writer, observed).await {
        tracing::error!(%error, "what the target says could not be taken in");
    }
    let in_sync = match &*app.target.link().borrow() {
        Link::Up { generation, .. } => writer.synced == Some(*generation),
        Link::Down { .. } => false,
    };
    if in_sync {
        app.set_sync(Sync::InSync);
    }
}
