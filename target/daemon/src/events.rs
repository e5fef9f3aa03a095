//! Persistent event logs as written down: NVMe wants them to outlive a power cycle.

use holdfast_contract::SubsystemId;
use holdfast_nvme::{Directory, KeptEvents, KeptSubsystem};
use serde::{Deserialize, Serialize};

use crate::clock;

/// All logs, and the age of the target.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct EventRecord {
    power_cycles: u64,
    power_on_hours: u64,
    subsystems: Vec<SubsystemEvents>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SubsystemEvents {
    subsystem: SubsystemId,
    generation: u16,
    /// Oldest first, byte for byte as hosts read them.
    events: Vec<Vec<u8>>,
}

impl EventRecord {
    /// What is to be written down now.
    pub(crate) fn of(directory: &Directory) -> EventRecord {
        let kept = directory.kept(clock::unix_ms() / 1000);
        let subsystems = kept.subsystems.into_iter().map(|kept| SubsystemEvents {
            subsystem: SubsystemId::from_nonzero(kept.id.nonzero()),
            generation: kept.generation,
            events: kept.events,
        });
        EventRecord {
            power_cycles: kept.power_cycles,
            power_on_hours: kept.power_on_hours,
            subsystems: subsystems.collect(),
        }
    }

    /// What an earlier run wrote down.
    pub(crate) fn into_kept(self) -> KeptEvents {
        let subsystems = self.subsystems.into_iter().map(|written| KeptSubsystem {
            id: holdfast_block::SubsystemId::from_nonzero(written.subsystem.nonzero()),
            generation: written.generation,
            events: written.events,
        });
        KeptEvents {
            power_cycles: self.power_cycles,
            power_on_hours: self.power_on_hours,
            subsystems: subsystems.collect(),
        }
    }
}
