//! SMART / Health Information. Base 2.1 §5.1.12.1.3 "SMART / Health Information (Log Page Identifier 02h)": of one controller, since
//! it was made.
//!
//! Memory wears out nowhere and has no spare blocks, so those figures are those of a new device. The composite temperature may be
//! computed in any way; here it is a nominal one that never changes.

use holdfast_block::BlockPort;
use zerocopy::FromZeros;

use super::AdminQueue;
use crate::connection::Context;
use crate::limits::TEMPERATURE_KELVIN;
use crate::wire::log::{SmartLog, WARNING_TEMPERATURE};

/// Units in one of what the page counts data in.
const UNITS_PER_COUNT: u64 = 1000;

/// The page as it is now.
pub(super) fn smart<P: BlockPort>(cx: &Context<'_, P>, queue: &AdminQueue) -> SmartLog {
    let traffic = queue.controller.health.traffic();
    let (errors, damages) = queue.controller.health.errors();
    let mut page = SmartLog::new_zeroed();
    if queue.features.is_temperature_reached() {
        page.critical_warning = WARNING_TEMPERATURE;
    }
    page.temperature_kelvin.set(TEMPERATURE_KELVIN);
    page.available_spare_percent = 100;
    page.spare_threshold_percent = 10;
    page.data_units_read.set(traffic.units_read.div_ceil(UNITS_PER_COUNT));
    page.data_units_written.set(traffic.units_written.div_ceil(UNITS_PER_COUNT));
    page.host_read_commands.set(traffic.read_commands);
    page.host_write_commands.set(traffic.write_commands);
    page.power_cycles.set(cx.directory.power_cycles());
    page.power_on_hours.set(cx.directory.power_on_hours(cx.unix_seconds));
    page.media_errors.set(damages);
    page.error_log_entries.set(errors);
    page
}
