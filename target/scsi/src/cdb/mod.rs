//! Command descriptor blocks. SPC-4 §4.2 "The Command Descriptor Block (CDB)" and §6; SBC-4 §5 "Commands for direct access
//! block devices".
//!
//! A bit that [`ROWS`] does not name is reserved, obsolete, or of a function that is not there (GROUP NUMBER, RARC, PMI), and
//! is ignored, as SPC-4 §4.2.1 leaves to the device server.

mod fields;
mod table;

pub use table::{CDB_LEN_MAX, Name, ROWS, Row};

use holdfast_block::Lba;

use crate::sense::Sense;
use fields::{Fields, find};

/// The tags that a CDB of 32 bytes brings. SBC-4 §5 "READ (32) command" and its like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExpectedTags {
    /// EXPECTED INITIAL LOGICAL BLOCK REFERENCE TAG.
    pub initial_ref: u32,
    /// EXPECTED LOGICAL BLOCK APPLICATION TAG.
    pub app_tag: u16,
    /// LOGICAL BLOCK APPLICATION TAG MASK.
    pub app_mask: u16,
}

/// Blocks that a command names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blocks {
    /// LOGICAL BLOCK ADDRESS.
    pub lba: Lba,
    /// TRANSFER LENGTH or NUMBER OF LOGICAL BLOCKS, with READ (6)'s and WRITE (6)'s 0 made 256. What else 0 means is the command's.
    pub count: u32,
    /// The byte of the CDB where that stands, for a field pointer.
    pub count_at: u16,
}

/// Blocks with what is asked of their protection information.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Protected {
    /// Which.
    pub blocks: Blocks,
    /// RDPROTECT, WRPROTECT or VRPROTECT: 0 to 7.
    pub protect: u8,
    /// What a CDB of 32 bytes brings.
    pub tags: Option<ExpectedTags>,
}

/// How much a verification compares. SBC-4 §5 "VERIFY (10) command".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ByteCheck {
    /// BYTCHK 00b: that the medium can be read.
    Medium,
    /// BYTCHK 01b: each block with its own of the Data-Out Buffer.
    EachBlock,
    /// BYTCHK 11b: each block with the single one of the Data-Out Buffer.
    SingleBlock,
}

/// A decoded command. Lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cdb {
    /// READ (6), (10), (12), (16), (32).
    Read {
        /// The blocks, and what is asked of their tuples.
        range: Protected,
        /// DPO: the blocks need not be cached.
        dpo: bool,
        /// FUA: from and to the medium.
        fua: bool,
    },
    /// WRITE (6), (10), (12), (16), (32).
    Write {
        /// The blocks, and what is asked of their tuples.
        range: Protected,
        /// DPO: the blocks need not be cached.
        dpo: bool,
        /// FUA: from and to the medium.
        fua: bool,
    },
    /// WRITE AND VERIFY (10), (12), (16), (32).
    WriteAndVerify {
        /// The blocks, and what is asked of their tuples.
        range: Protected,
        /// DPO: the blocks need not be cached.
        dpo: bool,
        /// BYTCHK.
        check: ByteCheck,
    },
    /// VERIFY (10), (12), (16), (32).
    Verify {
        /// The blocks, and what is asked of their tuples.
        range: Protected,
        /// DPO: the blocks need not be cached.
        dpo: bool,
        /// BYTCHK.
        check: ByteCheck,
    },
    /// WRITE SAME (10), (16), (32).
    WriteSame {
        /// The blocks, and what is asked of their tuples.
        range: Protected,
        /// UNMAP.
        unmap: bool,
        /// ANCHOR.
        anchor: bool,
        /// NDOB: blocks of zeroes; no Data-Out Buffer.
        no_data: bool,
    },
    /// COMPARE AND WRITE.
    CompareAndWrite {
        /// The blocks, and what is asked of their tuples.
        range: Protected,
        /// DPO: the blocks need not be cached.
        dpo: bool,
        /// FUA: from and to the medium.
        fua: bool,
    },
    /// UNMAP.
    Unmap {
        /// ANCHOR.
        anchor: bool,
        /// PARAMETER LIST LENGTH in bytes.
        list_len: u16,
    },
    /// PRE-FETCH (10), (16).
    PreFetch {
        /// The blocks; a count of 0 means all up to the last.
        blocks: Blocks,
        /// IMMED: the status need not wait for the end.
        immed: bool,
    },
    /// SYNCHRONIZE CACHE (10), (16).
    SynchronizeCache {
        /// The blocks; a count of 0 means all up to the last.
        blocks: Blocks,
        /// IMMED: the status need not wait for the end.
        immed: bool,
    },
    /// GET LBA STATUS.
    GetLbaStatus {
        /// STARTING LOGICAL BLOCK ADDRESS.
        lba: Lba,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u32,
    },
    /// SANITIZE.
    Sanitize {
        /// SERVICE ACTION: BLOCK ERASE 02h or EXIT FAILURE MODE 1Fh.
        action: u16,
        /// IMMED: the status need not wait for the end.
        immed: bool,
        /// AUSE: the failure mode may be left.
        ause: bool,
    },
    /// READ DEFECT DATA (10), (12).
    ReadDefectData {
        /// The one of 12 bytes.
        long: bool,
        /// REQ_PLIST, REQ_GLIST and DEFECT LIST FORMAT, in the bits where they stand.
        asked: u8,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u32,
    },
    /// READ CAPACITY (10).
    ReadCapacity10,
    /// READ CAPACITY (16).
    ReadCapacity16 {
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u32,
    },
    /// START STOP UNIT.
    StartStopUnit {
        /// IMMED: the status need not wait for the end.
        immed: bool,
        /// POWER CONDITION MODIFIER.
        modifier: u8,
        /// POWER CONDITION.
        power_condition: u8,
        /// NO_FLUSH.
        no_flush: bool,
        /// LOEJ.
        loej: bool,
        /// START.
        start: bool,
    },
    /// TEST UNIT READY.
    TestUnitReady,
    /// REQUEST SENSE.
    RequestSense {
        /// DESC: descriptor format is asked for.
        descriptor: bool,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u8,
    },
    /// INQUIRY.
    Inquiry {
        /// EVPD.
        vital_product_data: bool,
        /// PAGE CODE.
        page: u8,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u16,
    },
    /// MODE SELECT (6), (10).
    ModeSelect {
        /// The one of 10 bytes.
        long: bool,
        /// PF.
        page_format: bool,
        /// SP.
        save: bool,
        /// PARAMETER LIST LENGTH in bytes.
        list_len: u16,
    },
    /// MODE SENSE (6), (10).
    ModeSense {
        /// The one of 10 bytes.
        long: bool,
        /// LLBAA: long block descriptors are welcome.
        llbaa: bool,
        /// DBD: no block descriptors.
        dbd: bool,
        /// PC: 0 to 3.
        control: u8,
        /// PAGE CODE.
        page: u8,
        /// SUBPAGE CODE.
        subpage: u8,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u16,
    },
    /// RESERVE (6).
    Reserve6,
    /// RELEASE (6).
    Release6,
    /// LOG SENSE.
    LogSense {
        /// SP.
        save: bool,
        /// PC: 0 to 3.
        control: u8,
        /// PAGE CODE.
        page: u8,
        /// SUBPAGE CODE.
        subpage: u8,
        /// PARAMETER POINTER.
        parameter: u16,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u16,
    },
    /// PERSISTENT RESERVE IN.
    PersistentReserveIn {
        /// SERVICE ACTION.
        action: u16,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u16,
    },
    /// PERSISTENT RESERVE OUT.
    PersistentReserveOut {
        /// SERVICE ACTION.
        action: u16,
        /// SCOPE.
        scope: u8,
        /// TYPE.
        kind: u8,
        /// PARAMETER LIST LENGTH in bytes.
        list_len: u32,
    },
    /// EXTENDED COPY (LID1).
    ExtendedCopyLid1 {
        /// PARAMETER LIST LENGTH in bytes.
        list_len: u32,
    },
    /// RECEIVE COPY RESULTS of LID1.
    ReceiveCopyResults {
        /// SERVICE ACTION.
        action: u16,
        /// LIST IDENTIFIER.
        list_id: u8,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u32,
    },
    /// REPORT LUNS.
    ReportLuns {
        /// SELECT REPORT.
        select: u8,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u32,
    },
    /// REPORT TARGET PORT GROUPS.
    ReportTargetPortGroups {
        /// The longer form of the answer is asked for.
        extended: bool,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u32,
    },
    /// REPORT SUPPORTED OPERATION CODES.
    ReportOpcodes {
        /// RCTD.
        timeouts: bool,
        /// REPORTING OPTIONS: 0 to 3.
        options: u8,
        /// REQUESTED OPERATION CODE.
        opcode: u8,
        /// REQUESTED SERVICE ACTION.
        action: u16,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u32,
    },
    /// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
    ReportTaskManagement {
        /// The longer form of the answer is asked for.
        extended: bool,
        /// ALLOCATION LENGTH in bytes.
        allocation_len: u32,
    },
}

impl Cdb {
    /// Reads a CDB, which may be padded (iSCSI's has 16 bytes at least).
    ///
    /// # Errors
    /// Sense data: INVALID COMMAND OPERATION CODE, or INVALID FIELD IN CDB with a field pointer.
    pub fn decode(bytes: &[u8]) -> Result<Cdb, Sense> {
        let opcode = *bytes.first().ok_or(Sense::INVALID_OPCODE)?;
        let row = find(opcode, bytes)?;
        let fields = Fields::of(bytes, row)?;
        fields.command(row)
    }
}

#[cfg(test)]
mod tests;
