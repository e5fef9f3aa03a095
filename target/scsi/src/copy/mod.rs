//! Copies between logical units of a nexus: EXTENDED COPY (LID1) and RECEIVE COPY RESULTS. SPC-4 §5.17 "Third-party copies",
//! §6.4, §6.20 and following.
//!
//! A segment goes in pieces, each a write that is filled from a read, inside the block layer, and published whole. Between
//! volumes whose blocks have the same form, tuples go along with their blocks, checked where they come from and where they
//! come to: guards and application tags as they are; the reference tags of type 1, which are the LBA's, as those of the place.
//!
//! | file | what it decides |
//! |---|---|
//! | `list` | what is asked for |
//! | `ends` | from where to where a segment goes, and with what checks |
//! | `accounts` | how copies go and went |
//! | `results` | what can be asked for |

mod accounts;
mod ends;
mod list;
mod results;

pub(crate) use accounts::{Account, Copies};
pub(crate) use ends::{Ends, failed};
pub(crate) use list::Copy;
pub(crate) use results::put_vital;

use holdfast_block::BlockPort;

use crate::context::Context;
use crate::nexus::Nexus;
use crate::sense::{Sense, SenseKey};
use crate::task::{List, Progress, Task};

/// OPERATION IN PROGRESS.
const IN_PROGRESS: Sense = Sense::new(SenseKey::IllegalRequest, 0x00, 0x16);

/// Service actions of RECEIVE COPY RESULTS.
const COPY_STATUS: u16 = 0;
const RECEIVE_DATA: u16 = 1;
const OPERATING_PARAMETERS: u16 = 3;

impl Nexus {
    /// EXTENDED COPY (LID1), whose parameter list is still to come. Without one there is nothing to do.
    pub(crate) fn copy<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        list_len: u32,
    ) -> Result<Progress, Sense> {
        let list_len = usize::try_from(list_len).map_err(|_| Sense::PARAMETER_LIST_LENGTH)?;
        if list_len == 0 {
            return Ok(task.good());
        }
        Ok(task.collect(cx, self, List::Copy, list_len))
    }

    /// Its parameter list has come.
    pub(crate) fn copy_asked<P: BlockPort>(
        &mut self,
        cx: &mut Context<'_, P>,
        task: &mut Task,
        bytes: &[u8],
    ) -> Result<Progress, Sense> {
        let copy = Copy::read(bytes)?;
        let account = match copy.list_id {
            Some(list_id) => Some(self.copies_mut().open((task.unit(), list_id)).ok_or(IN_PROGRESS)?),
            None => None,
        };
        Ok(task.copy(cx, self, copy, account))
    }

    /// RECEIVE COPY RESULTS.
    pub(crate) fn copy_results(
        &mut self,
        task: &mut Task,
        action: u16,
        list_id: u8,
        allocation_len: u32,
    ) -> Result<Progress, Sense> {
        let lun = task.unit();
        let out = task.buffer_mut();
        if action == OPERATING_PARAMETERS {
            let unit = self.unit(lun).ok_or(Sense::NO_SUCH_LUN)?;
            results::put_operating_parameters(unit.seen.volume.block_len, out);
        } else {
            let account = self.copies().get((lun, list_id)).ok_or(Sense::invalid_in_cdb(2, None))?;
            match action {
                COPY_STATUS => account.put_status(out),
                // No segment holds data back for the initiator.
                RECEIVE_DATA => out.extend(0_u32.to_be_bytes()),
                _ => account.put_failure(out),
            }
        }
        Ok(task.reply(usize::try_from(allocation_len).unwrap_or(usize::MAX)))
    }
}
