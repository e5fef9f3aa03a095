//! Drills: stored bits are damaged on purpose, to see whether that is noticed, told, and laid at the right door. Only an
//! appliance that was started for drills does it.

use holdfast_contract::{Backing, DrillOrder, DrillStage, GuardSetting, ObservedDrill, Request, Response};
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::words::{DrillStageWord, DrillState};
use super::{App, CHANGE_PATIENCE, refusal};
use crate::db::volumes::VolumeRow;
use crate::db::{pools, volumes};
use crate::error::{Error, Result};

/// A bit to damage.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDrill {
    /// Name of the volume.
    #[schema(value_type = crate::names::Name)]
    pub volume: String,
    /// The block.
    #[schema(minimum = 0, maximum = 9007199254740991_u64)]
    pub lba: u64,
    /// Where on its way.
    pub stage: DrillStageWord,
    /// Which bit: below 8 × block size one of the data, bit 0 being the lowest of the first byte; beyond, one of the tuple.
    pub bit: u32,
}

/// A drill.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Drill {
    /// Its identifier; forgotten when the target is started again.
    #[schema(pattern = "^[0-9a-f]{16}$")]
    pub id: String,
    /// Whether the bit has been flipped.
    pub state: DrillState,
    /// Why it never will be, where that is known.
    pub failure: Option<String>,
}

impl App {
    /// Damages a bit, or has the target wait for the write that it is to be damaged in.
    pub async fn create_drill(&self, new: NewDrill) -> Result<Drill> {
        let row = self.drilled_volume(&new).await?;
        let raw = getrandom::u64().map_err(|error| Error::Stored(format!("no randomness: {error}")))?;
        let stage = match new.stage {
            DrillStageWord::TargetMemory => DrillStage::TargetMemory,
            DrillStageWord::Media => DrillStage::Media,
        };
        let id = format!("{raw:016x}");
        let order = DrillOrder { id: id.clone(), volume: row.id, lba: new.lba, stage, bit: new.bit };
        self.target.up(Instant::now() + CHANGE_PATIENCE).await.map_err(Error::TargetAway)?;
        match self.target.call(Request::Drill(order)).await {
            Ok(Response::Drilled) => self.drill(&id).await,
            Ok(Response::Refused(faults)) => Err(refusal(faults)),
            Ok(Response::Error { detail }) => Err(Error::Target(detail)),
            Ok(_) => Err(Error::Target("not an answer to Drill".to_owned())),
            Err(error) => Err(Error::TargetAway(error.to_string())),
        }
    }

    /// One drill, as it is now.
    pub async fn drill(&self, id: &str) -> Result<Drill> {
        self.demand_drills()?;
        let observed = self.target.observe().await.map_err(|error| Error::TargetAway(error.to_string()))?;
        let found = observed.drills.iter().find(|drill| drill.id == id);
        found.map(render).ok_or_else(|| Error::missing("drill", id))
    }

    /// Refuses unless this appliance was started for drills.
    pub(crate) fn demand_drills(&self) -> Result<()> {
        if self.drills { Ok(()) } else { Err(Error::NoDrills) }
    }

    /// The volume of a drill that can be.
    async fn drilled_volume(&self, new: &NewDrill) -> Result<VolumeRow> {
        let mut tx = self.db.read().await?;
        let unknown = || Error::value("/volume", format!("there is no volume {}", new.volume));
        let row = volumes::by_name(&mut tx, &new.volume).await?.ok_or_else(unknown)?;
        let blocks = row.size_bytes / u64::from(row.block_size);
        if new.lba >= blocks {
            return Err(Error::value("/lba", format!("the volume has {blocks} blocks")));
        }
        let tuple_bytes = match row.pi.map(|pi| pi.guard) {
            None => 0,
            Some(GuardSetting::Crc16) => 8,
            Some(GuardSetting::Crc32c | GuardSetting::Crc64) => 16,
        };
        let bits = (row.block_size + tuple_bytes) * 8;
        if new.bit >= bits {
            return Err(Error::value("/bit", format!("a block and its tuple have {bits} bits")));
        }
        let pool = pools::by_name(&mut tx, &row.pool).await?;
        let in_memory = pool.is_some_and(|pool| matches!(pool.backing, Backing::Memory { .. }));
        if new.stage == DrillStageWord::Media && in_memory {
            return Err(Error::value("/stage", "a memory pool has no medium beneath a checksum"));
        }
        Ok(row)
    }
}

fn render(drill: &ObservedDrill) -> Drill {
    let state = if drill.done { DrillState::Done } else { DrillState::Armed };
    Drill { id: drill.id.clone(), state, failure: drill.failure.clone() }
}
