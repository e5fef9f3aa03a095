//! What the volumes of tests lie in: the same tests run on a pool in memory and on one in a file.

use std::{env, str::FromStr};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Appliance;

/// The name of an appliance's first pool.
const FIRST: &str = "ram";
/// Says which kind of pool tests run on.
const VARIABLE: &str = "HOLDFAST_TEST_POOL";

/// What a pool lies in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backing {
    /// Memory of this machine; ends with the appliance.
    Memory,
    /// A file beside the build; lasts.
    File,
}

impl Backing {
    /// What `HOLDFAST_TEST_POOL` asks for: `memory`, which is also meant when it is not set, or `file`.
    ///
    /// # Errors
    /// When it says something else.
    pub fn asked() -> Result<Backing> {
        match env::var(VARIABLE) {
            Err(env::VarError::NotPresent) => Ok(Backing::Memory),
            word => word?.parse().context(VARIABLE),
        }
    }

    /// Whether what was written is there after the end of the whole appliance.
    #[must_use]
    pub fn lasts(self) -> bool {
        self == Backing::File
    }
}

impl FromStr for Backing {
    type Err = anyhow::Error;

    fn from_str(word: &str) -> Result<Backing> {
        match word {
            "memory" => Ok(Backing::Memory),
            "file" => Ok(Backing::File),
            other => bail!("`{other}` is neither `memory` nor `file`"),
        }
    }
}

impl Appliance {
    /// Makes a pool of `size_bytes` in what this appliance's pools lie in, and says its capacity.
    ///
    /// # Errors
    /// When the API refuses.
    pub fn make_pool(&self, name: &str, size_bytes: u64, overcommit: f64) -> Result<u64> {
        let backing = match self.backing() {
            Backing::Memory => json!({"kind": "memory", "size_bytes": size_bytes}),
            Backing::File => {
                json!({"kind": "file", "path": self.pools().join(name), "size_bytes": size_bytes})
            }
        };
        let pool = json!({"name": name, "backing": backing, "overcommit": overcommit});
        number(&self.rest().post("/pools", &pool)?, "/capacity_bytes")
    }

    /// Replaces the pool in memory that every new appliance has by one of its name and size in a file, where that is asked for:
    /// a test need not know which it is.
    pub(crate) fn settle_pool(&self) -> Result<()> {
        if self.backing() == Backing::File {
            let path = format!("/pools/{FIRST}");
            let size_bytes = number(&self.rest().get(&path)?, "/backing/size_bytes")?;
            self.rest().delete(&path)?;
            // A file has to hold more than blocks.
            self.make_pool(FIRST, size_bytes / 8 * 9, 1.0)?;
        }
        Ok(())
    }
}

fn number(object: &Value, pointer: &str) -> Result<u64> {
    object.pointer(pointer).and_then(Value::as_u64).with_context(|| format!("no {pointer} in {object}"))
}
