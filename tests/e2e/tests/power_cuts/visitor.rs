//! A host whose volume comes, grows and goes: what the administrator was told is there after a loss of power, new blocks
//! are empty whatever lay in their place before, and a volume that was deleted stays away.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use holdfast_e2e::{Appliance, Share, host_nqn};
use holdfast_testkit::{Options, Session};
use serde_json::{Value, json};

use crate::content::Random;
use crate::host;
use crate::model::{Found, Model};
use crate::rounds::{READER, look};

/// The host, and the subsystem that stays when its volume goes.
const NAME: &str = "visitor";
const SUBSYSTEM: &str = "visited";
const BLOCK_BYTES: u64 = 4096;
/// How much a volume has at first, and gets each time that it grows.
const STEP_BYTES: u64 = 1 << 20;
const SIZE_MAX_BYTES: u64 = 4 * STEP_BYTES;
/// Commands between two orders of the administrator.
const COMMANDS: u64 = 60;

/// The host and its volume.
pub(crate) struct Visitor {
    share: Share,
    life: Life,
    /// Of the last volume.
    number: u32,
    orders: u64,
}

/// What is known of the volume.
enum Life {
    Away,
    Here(Model),
    /// Asked for, and not answered.
    Coming(Model),
    /// Asked to grow, and not answered.
    Growing(Model),
    /// Asked to go, and not answered.
    Going(Model),
}

impl Life {
    fn words(&self) -> &'static str {
        match self {
            Life::Away => "the volume was away",
            Life::Here(_) => "the volume was there",
            Life::Coming(_) => "the volume was being made",
            Life::Growing(_) => "the volume was growing",
            Life::Going(_) => "the volume was being deleted",
        }
    }
}

impl Visitor {
    /// Makes the subsystem, and lets the host and the reader use it.
    pub(crate) fn admit(appliance: &Appliance) -> Result<Visitor> {
        let rest = appliance.rest();
        rest.post("/hosts", &json!({"name": NAME, "nqn": host_nqn(NAME)}))?;
        let subsystem = rest.post("/subsystems", &json!({"name": SUBSYSTEM}))?;
        for host in [NAME, READER] {
            rest.put(&format!("/subsystems/{SUBSYSTEM}/hosts/{host}"), &json!({"view": "pi"}))?;
        }
        let nqn = subsystem.get("nqn").and_then(Value::as_str).context("an NQN")?.to_owned();
        let share = Share { name: SUBSYSTEM.to_owned(), nqn, uuid: String::new() };
        Ok(Visitor { share, life: Life::Away, number: 0, orders: 0 })
    }

    /// How many orders concerning volumes were given so far.
    pub(crate) fn orders(&self) -> u64 {
        self.orders
    }

    /// Orders and work until the power goes.
    pub(crate) fn visit(
        &mut self,
        appliance: &Appliance,
        random: &mut Random,
        gone: &AtomicBool,
    ) -> Result<()> {
        while !gone.load(Ordering::SeqCst) {
            if let Err(error) = self.step(appliance, random, gone) {
                // What the power takes away cannot answer.
                ensure!(gone.load(Ordering::SeqCst), "before the cut: {error:#}");
            }
        }
        Ok(())
    }

    fn step(&mut self, appliance: &Appliance, random: &mut Random, gone: &AtomicBool) -> Result<()> {
        match std::mem::replace(&mut self.life, Life::Away) {
            Life::Away => self.create(appliance)?,
            Life::Here(model) if random.one_in(3) => self.delete(appliance, model)?,
            Life::Here(model) if random.one_in(2) && bytes(&model) < SIZE_MAX_BYTES => {
                self.grow(appliance, model)?;
            }
            here => self.life = here,
        }
        let Life::Here(model) = &mut self.life else { bail!("no volume to work on") };
        let mut session =
            Session::open(appliance.nvme(), &host_nqn(NAME), &self.share.nqn, Options::default())?;
        if gone.load(Ordering::SeqCst) {
            // It may be the next target that answers, and what the last one took with it has not been looked at.
            return Ok(());
        }
        let (nobody, _) = channel();
        host::work(model, &mut session, random, gone, &nobody, COMMANDS)
    }

    fn create(&mut self, appliance: &Appliance) -> Result<()> {
        self.number += 1;
        self.orders += 1;
        let name = self.name();
        self.life = Life::Coming(Model::new(NAME, self.number + 100, 0..blocks(STEP_BYTES), 4096));
        appliance.rest().post(
            "/volumes",
            &json!({"name": name, "pool": "ram", "size_bytes": STEP_BYTES, "block_size": BLOCK_BYTES,
                    "pi": {"type": 1, "guard": "crc16"}}),
        )?;
        self.settle(true)?;
        self.map(appliance)
    }

    fn grow(&mut self, appliance: &Appliance, model: Model) -> Result<()> {
        self.orders += 1;
        let size_bytes = bytes(&model) + STEP_BYTES;
        self.life = Life::Growing(model);
        let path = format!("/volumes/{}", self.name());
        appliance.rest().patch(&path, &json!({"size_bytes": size_bytes}))?;
        self.settle(true)?;
        let Life::Here(model) = &mut self.life else { bail!("it has grown") };
        model.grow(blocks(size_bytes));
        Ok(())
    }

    /// Takes the volume away, and makes another one.
    fn delete(&mut self, appliance: &Appliance, model: Model) -> Result<()> {
        self.orders += 1;
        self.life = Life::Going(model);
        self.finish_deleting(appliance)?;
        self.create(appliance)
    }

    fn finish_deleting(&mut self, appliance: &Appliance) -> Result<()> {
        let namespaces = format!("/subsystems/{SUBSYSTEM}/namespaces");
        if !appliance.rest().items(&namespaces)?.is_empty() {
            appliance.rest().delete(&format!("{namespaces}/1"))?;
        }
        appliance.rest().delete(&format!("/volumes/{}", self.name()))?;
        self.settle(false)
    }

    fn map(&self, appliance: &Appliance) -> Result<()> {
        let path = format!("/subsystems/{SUBSYSTEM}/namespaces");
        appliance.rest().post(&path, &json!({"volume": self.name(), "nsid": 1}))?;
        Ok(())
    }

    /// What became of an order.
    fn settle(&mut self, here: bool) -> Result<()> {
        self.life = match (std::mem::replace(&mut self.life, Life::Away), here) {
            (Life::Here(model) | Life::Coming(model) | Life::Growing(model) | Life::Going(model), true) => {
                Life::Here(model)
            }
            (Life::Away | Life::Coming(_) | Life::Going(_), false) => Life::Away,
            (Life::Away, true) => bail!("a volume is there that was deleted"),
            (Life::Here(_) | Life::Growing(_), false) => bail!("{} was made and is not there", self.name()),
        };
        Ok(())
    }

    /// What is left of the volume after a loss of power.
    ///
    /// # Errors
    /// When something was lost.
    pub(crate) fn look(&mut self, appliance: &Appliance, deadline: Instant) -> Result<Found> {
        let volumes = appliance.rest().items("/volumes")?;
        let of_us = |volume: &&Value| {
            let name = volume.get("name").and_then(Value::as_str);
            name.is_some_and(|name| name.starts_with(NAME))
        };
        let there: Vec<&Value> = volumes.iter().filter(of_us).collect();
        ensure!(there.len() <= 1, "volumes that were deleted are there: {there:?}");
        let known = self.life.words();
        let growing = matches!(self.life, Life::Growing(_));
        if let (Life::Going(_), [_]) = (&self.life, there.as_slice()) {
            // It may be gone from its pool and on the list still: whoever was not answered asks again.
            self.finish_deleting(appliance)?;
            return Ok(Found::default());
        }
        self.settle(there.len() == 1)?;
        let (Life::Here(model), [volume]) = (&mut self.life, there.as_slice()) else {
            return Ok(Found::default());
        };
        let size_bytes = volume.get("size_bytes").and_then(Value::as_u64).context("a size")?;
        let grown = growing && size_bytes == bytes(model) + STEP_BYTES;
        ensure!(grown || size_bytes == bytes(model), "{volume} had {} bytes", bytes(model));
        model.grow(blocks(size_bytes));
        if appliance.rest().items(&format!("/subsystems/{SUBSYSTEM}/namespaces"))?.is_empty() {
            self.map(appliance)?;
        }
        let mut session = appliance.connect(&host_nqn(READER), &self.share)?;
        let Life::Here(model) = &mut self.life else { bail!("it is there") };
        look(appliance, model, &mut session, deadline).with_context(|| format!("{known}; now it is {volume}"))
    }

    fn name(&self) -> String {
        format!("{NAME}{}", self.number)
    }
}

fn blocks(size_bytes: u64) -> u64 {
    size_bytes / BLOCK_BYTES
}

fn bytes(model: &Model) -> u64 {
    model.len() as u64 * BLOCK_BYTES
}
