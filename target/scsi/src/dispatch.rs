//! From a CDB to the room that carries it out. SAM-5 §5.14 "Unit attention conditions" says which commands come through while
//! something has to be told; SPC-4 §4.2 and §6 the rest.

use holdfast_block::{BlockError, BlockPort, Lba, reservations};

use crate::attention::Attention;
use crate::blocks::{Asked, capacity, defects, is_on_medium};
use crate::cdb::{Blocks, Cdb};
use crate::context::{Context, Request};
use crate::nexus::{Nexus, Seen};
use crate::opcodes::{self, Offered};
use crate::sense::{Ending, Format, Sense};
use crate::task::{List, Progress, Task};
use crate::{inquiry, log, luns, mode, ports};

impl Nexus {
    /// Judges a command and begins it.
    pub fn start<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        request: &Request<'_>,
    ) -> Progress {
        let lun = luns::decode(request.lun);
        let Some((lun, unit)) = lun.and_then(|lun| Some((lun, self.unit(lun)?))) else {
            task.begin(request, 0, Format::Fixed);
            return self.without_unit(task, request.cdb);
        };
        let format = unit.seen.sense_format();
        task.begin(request, lun, format);
        let told = unit.attentions.first().filter(|_| !passes_attentions(request.cdb));
        let cdb = Cdb::decode(request.cdb);
        let conflict = cdb.as_ref().ok().and_then(|cdb| self.conflict(cx, lun, cdb));
        // SAM-5 §5.3.3 "Status precedence": resets and losses, then reservations, then all else.
        if conflict == Some(BlockError::ReservationConflict)
            && !told.is_some_and(Attention::precedes_conflicts)
        {
            return task.end(Ending::ReservationConflict);
        }
        if let Some(attention) = told {
            self.is_told(lun, attention);
            return task.fail(&attention.sense());
        }
        if let Some(error) = conflict {
            return task.end(Ending::of(error, Lba(0)));
        }
        let stopped = self.unit(lun).is_some_and(|unit| unit.seen.stopped);
        match cdb {
            Ok(cdb) if stopped && needs_medium(&cdb) => task.fail(&Sense::STOPPED),
            Ok(cdb) => self.run(cx, task, cdb).unwrap_or_else(|sense| task.fail(&sense)),
            Err(sense) => task.fail(&sense),
        }
    }

    /// SAM-5 §4.7.2, SPC-4 §6.6.1, §6.33, §6.39: what is answered where there is no logical unit.
    fn without_unit(&mut self, task: &mut Task, cdb: &[u8]) -> Progress {
        match Cdb::decode(cdb) {
            Ok(Cdb::Inquiry { vital_product_data: false, allocation_len, .. }) => {
                inquiry::standard(None, task.buffer_mut());
                task.reply(allocation_len.into())
            }
            Ok(Cdb::ReportLuns { select, allocation_len }) => {
                self.report_luns(task, select, allocation_len).unwrap_or_else(|sense| task.fail(&sense))
            }
            Ok(Cdb::RequestSense { descriptor, allocation_len }) => {
                put_sense(&Sense::NO_SUCH_LUN, descriptor, task);
                task.reply(allocation_len.into())
            }
            _ => task.fail(&Sense::NO_SUCH_LUN),
        }
    }

    fn run<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        cdb: Cdb,
    ) -> Result<Progress, Sense> {
        match cdb {
            Cdb::TestUnitReady => {
                self.attached(cx.port, task.unit())?;
                Ok(task.good())
            }
            Cdb::ReportLuns { select, allocation_len } => self.report_luns(task, select, allocation_len),
            Cdb::RequestSense { descriptor, allocation_len } => {
                let unit = self.unit(task.unit()).ok_or(Sense::NO_SUCH_LUN)?;
                let state = if unit.seen.stopped { Sense::STOPPED } else { Sense::NONE };
                let told = unit.attentions.first();
                put_sense(&told.map_or(state, Attention::sense), descriptor, task);
                if let Some(attention) = told {
                    self.is_told(task.unit(), attention);
                }
                Ok(task.reply(allocation_len.into()))
            }
            Cdb::ModeSelect { long, page_format, save, list_len } => {
                if !page_format {
                    return Err(Sense::invalid_in_cdb(1, Some(4)));
                }
                if save {
                    return Err(Sense::invalid_in_cdb(1, Some(0)));
                }
                Ok(task.collect(cx, self, List::ModeSelect { long }, list_len.into()))
            }
            Cdb::PersistentReserveIn { action, allocation_len } => {
                self.reserve_in(cx, task, action, allocation_len)
            }
            Cdb::PersistentReserveOut { action, scope, kind, list_len } => {
                self.reserve_out(cx, task, (action, scope, kind), list_len)
            }
            Cdb::ExtendedCopyLid1 { list_len } => self.copy(cx, task, list_len),
            Cdb::ReceiveCopyResults { action, list_id, allocation_len } => {
                self.copy_results(task, action, list_id, allocation_len)
            }
            Cdb::Reserve6 => self.ask(cx, task, reservations::Request::LegacyReserve),
            Cdb::Release6 => self.ask(cx, task, reservations::Request::LegacyRelease),
            Cdb::StartStopUnit { power_condition, no_flush, loej, start, .. } => {
                // SBC-4 §5 "START STOP UNIT command": there are no power conditions, and there is nothing to eject.
                match (power_condition, loej) {
                    (0, false) => self.start_or_stop(cx, task, start, no_flush),
                    (0, true) => Err(Sense::invalid_in_cdb(4, Some(1))),
                    _ => Err(Sense::invalid_in_cdb(4, Some(7))),
                }
            }
            other if is_on_medium(&other) => self.run_on_medium(cx, task, &other),
            other => self.inform(cx, task, other),
        }
    }

    /// A unit that is stopped takes no commands on the medium until it is started, by whomever; what was written before is
    /// durable once it is.
    fn start_or_stop<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        start: bool,
        no_flush: bool,
    ) -> Result<Progress, Sense> {
        let unit = self.unit(task.unit()).ok_or(Sense::NO_SUCH_LUN)?;
        unit.seen.stopped = !start;
        cx.units.set_stopped(unit.seen.volume.id, !start);
        if start || no_flush { Ok(task.good()) } else { self.flush(cx, task) }
    }

    /// Ends a command once all that was written is durable.
    fn flush<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, task: &mut Task) -> Result<Progress, Sense> {
        let wanted_out = task.wanted_out();
        let progress = self.run_on_medium(cx, task, &Cdb::SynchronizeCache { blocks: ALL, immed: false })?;
        task.set_wanted_out(wanted_out);
        Ok(progress)
    }

    /// Judges a command on the medium, and begins it.
    fn run_on_medium<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        cdb: &Cdb,
    ) -> Result<Progress, Sense> {
        let attachment = self.attached(cx.port, task.unit())?;
        let unit = self.unit(task.unit()).ok_or(Sense::NO_SUCH_LUN)?;
        let asked = Asked { seen: &unit.seen, attachment, buffers: task.buffers(), origin: task.origin() };
        let plan = asked.plan(cdb)?;
        Ok(task.run(cx.port, plan))
    }

    /// Commands that only tell something.
    fn inform<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        cdb: Cdb,
    ) -> Result<Progress, Sense> {
        let at = self.units().binary_search_by_key(&task.unit(), |unit| unit.seen.lun);
        let unit = at.ok().and_then(|at| self.units().get(at)).ok_or(Sense::NO_SUCH_LUN)?;
        let seen = &unit.seen;
        let out = task.buffer_mut();
        let allocation_len = match cdb {
            Cdb::Inquiry { vital_product_data: false, allocation_len, .. } => {
                inquiry::standard(Some(seen), out);
                usize::from(allocation_len)
            }
            Cdb::Inquiry { page, allocation_len, .. } => {
                inquiry::vital(seen, self.target(), page, out)?;
                allocation_len.into()
            }
            Cdb::ModeSense { long, llbaa, dbd, control, page, subpage, allocation_len } => {
                let asked = mode::Asked { long, llbaa, dbd, control, page, subpage };
                mode::sense(seen, asked, out)?;
                allocation_len.into()
            }
            Cdb::LogSense { save, control, page, subpage, parameter, allocation_len } => {
                let asked = log::Asked { save, control, page, subpage, parameter };
                log::sense(asked, cx.port.blocks_allocated(seen.volume.id), out)?;
                allocation_len.into()
            }
            Cdb::ReadDefectData { long, asked, allocation_len } => {
                defects::put(long, asked, out)?;
                length(allocation_len)
            }
            Cdb::ReadCapacity10 => {
                capacity::put_short(seen, out);
                usize::MAX
            }
            Cdb::ReadCapacity16 { allocation_len } => {
                capacity::put_long(seen, out);
                length(allocation_len)
            }
            Cdb::ReportTargetPortGroups { extended, allocation_len } => {
                ports::report(extended, out);
                length(allocation_len)
            }
            Cdb::ReportOpcodes { timeouts, options, opcode, action, allocation_len } => {
                opcodes::report(offered(seen), timeouts, options, opcode, action, out)?;
                length(allocation_len)
            }
            // SPC-4 §6.36: the answer without its timeouts has to have room.
            Cdb::ReportTaskManagement { allocation_len: 0..4, .. } => {
                return Err(Sense::invalid_in_cdb(6, None));
            }
            Cdb::ReportTaskManagement { extended, allocation_len } => {
                opcodes::report_task_management(extended, out);
                length(allocation_len)
            }
            _ => return Err(Sense::INVALID_OPCODE),
        };
        Ok(task.reply(allocation_len))
    }

    fn report_luns(&mut self, task: &mut Task, select: u8, allocation_len: u32) -> Result<Progress, Sense> {
        // SPC-4 §6.33: the header and one LUN at least.
        if allocation_len < 16 {
            return Err(Sense::invalid_in_cdb(6, None));
        }
        luns::report(self.luns(), select, task.buffer_mut())?;
        self.luns_are_told();
        Ok(task.reply(length(allocation_len)))
    }

    /// A condition is over with having been told.
    fn is_told(&mut self, lun: u16, attention: Attention) {
        if attention == Attention::LunsChanged {
            self.luns_are_told();
        } else if let Some(unit) = self.unit(lun) {
            unit.attentions.remove(attention);
        }
    }
}

/// A parameter list has come.
pub(crate) fn collected<P: BlockPort>(
    cx: &mut Context<'_, P>,
    nexus: &mut Nexus,
    task: &mut Task,
    list: List,
    bytes: &[u8],
) -> Progress {
    let done = match list {
        List::ModeSelect { long } => select(cx, nexus, task, long, bytes),
        List::Copy => nexus.copy_asked(cx, task, bytes),
        List::Reserve(asked) => nexus.reserve_asked(cx, task, asked, bytes),
    };
    done.unwrap_or_else(|sense| task.fail(&sense))
}

fn select<P: BlockPort>(
    cx: &mut Context<'_, P>,
    nexus: &mut Nexus,
    task: &mut Task,
    long: bool,
    bytes: &[u8],
) -> Result<Progress, Sense> {
    let by = nexus.session().id;
    let unit = nexus.unit(task.unit()).ok_or(Sense::NO_SUCH_LUN)?;
    let (before, after) = {
        let seen = &unit.seen;
        cx.units.change_mode(seen.volume.id, by, |values| mode::select(seen, values, long, bytes))?
    };
    unit.seen.mode = after;
    // SBC-4 §6.5.6: nothing stays in a cache that is switched off.
    if before.write_cache && !after.write_cache { nexus.flush(cx, task) } else { Ok(task.good()) }
}

/// INQUIRY, REPORT LUNS and REQUEST SENSE are carried out whatever has to be told.
fn passes_attentions(cdb: &[u8]) -> bool {
    matches!(cdb.first(), Some(0x12 | 0xa0 | 0x03))
}

/// Commands that a stopped unit does not carry out. SBC-4 §5 "START STOP UNIT command".
fn needs_medium(cdb: &Cdb) -> bool {
    is_on_medium(cdb) || matches!(cdb, Cdb::TestUnitReady | Cdb::ExtendedCopyLid1 { .. })
}

/// All blocks.
const ALL: Blocks = Blocks { lba: Lba(0), count: 0, count_at: 7 };

/// The commands that a logical unit has.
fn offered(seen: &Seen) -> Offered {
    let is_type_2 = seen.visible.is_some_and(|format| format.pi_type() == holdfast_pi::PiType::Type2);
    Offered { variable_length: is_type_2 }
}

fn put_sense(sense: &Sense, descriptor: bool, task: &mut Task) {
    let format = if descriptor { Format::Descriptor } else { Format::Fixed };
    sense.encode(format, task.buffer_mut());
}

fn length(allocation_len: u32) -> usize {
    usize::try_from(allocation_len).unwrap_or(usize::MAX)
}
