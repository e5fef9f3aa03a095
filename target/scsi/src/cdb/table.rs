//! Every command there is, and the bits of its CDB that are looked at: the decoder clears all others before it looks, and
//! REPORT SUPPORTED OPERATION CODES shows these maps. SPC-4 §6.35.3 "One_command parameter data format".

/// Bytes of the longest CDB here: the variable length ones. SBC-4 §5 names them by their length, such as READ (32).
pub const CDB_LEN_MAX: usize = 32;

/// NACA of the CONTROL byte. SAM-5 §5.2 "Command descriptor block (CDB)".
pub(super) const NACA: u8 = 0x04;

/// Which command a row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// READ (6), (10), (12), (16), (32).
    Read,
    /// WRITE (6), (10), (12), (16), (32).
    Write,
    /// WRITE AND VERIFY (10), (12), (16), (32).
    WriteAndVerify,
    /// VERIFY (10), (12), (16), (32).
    Verify,
    /// WRITE SAME (10), (16), (32).
    WriteSame,
    /// COMPARE AND WRITE.
    CompareAndWrite,
    /// UNMAP.
    Unmap,
    /// PRE-FETCH (10), (16).
    PreFetch,
    /// SYNCHRONIZE CACHE (10), (16).
    SynchronizeCache,
    /// GET LBA STATUS.
    GetLbaStatus,
    /// SANITIZE.
    Sanitize,
    /// READ DEFECT DATA (10), (12).
    ReadDefectData,
    /// READ CAPACITY (10).
    ReadCapacity10,
    /// READ CAPACITY (16).
    ReadCapacity16,
    /// START STOP UNIT.
    StartStopUnit,
    /// TEST UNIT READY.
    TestUnitReady,
    /// REQUEST SENSE.
    RequestSense,
    /// INQUIRY.
    Inquiry,
    /// MODE SELECT (6), (10).
    ModeSelect,
    /// MODE SENSE (6), (10).
    ModeSense,
    /// RESERVE (6).
    Reserve6,
    /// RELEASE (6).
    Release6,
    /// LOG SENSE.
    LogSense,
    /// PERSISTENT RESERVE IN.
    PersistentReserveIn,
    /// PERSISTENT RESERVE OUT.
    PersistentReserveOut,
    /// EXTENDED COPY (LID1).
    ExtendedCopyLid1,
    /// RECEIVE COPY RESULTS of LID1.
    ReceiveCopyResults,
    /// REPORT LUNS.
    ReportLuns,
    /// REPORT TARGET PORT GROUPS.
    ReportTargetPortGroups,
    /// REPORT SUPPORTED OPERATION CODES.
    ReportOpcodes,
    /// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
    ReportTaskManagement,
}

/// A command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// OPERATION CODE.
    pub opcode: u8,
    /// SERVICE ACTION, where the operation code has such.
    pub service_action: Option<u16>,
    /// Which command it is.
    pub name: Name,
    /// The bits that are looked at, beside the operation code and the service action. As long as the CDB.
    pub usage: &'static [u8],
}

/// VARIABLE LENGTH CDB: CONTROL is byte 1, SERVICE ACTION bytes 8 and 9.
pub(super) const VARIABLE: u8 = 0x7f;

const fn row(opcode: u8, name: Name, usage: &'static [u8]) -> Row {
    Row { opcode, service_action: None, name, usage }
}

const fn action(opcode: u8, action: u16, name: Name, usage: &'static [u8]) -> Row {
    Row { opcode, service_action: Some(action), name, usage }
}

/// A block command of 10 bytes: LBA at 2, length at 7.
const fn ten(flags: u8) -> [u8; 10] {
    [0, flags, 255, 255, 255, 255, 0, 255, 255, NACA]
}

/// A block command of 12 bytes: LBA at 2, length at 6.
const fn twelve(flags: u8) -> [u8; 12] {
    [0, flags, 255, 255, 255, 255, 255, 255, 255, 255, 0, NACA]
}

/// A block command of 16 bytes: LBA at 2, length at 10.
const fn sixteen(flags: u8) -> [u8; 16] {
    [0, flags, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 0, NACA]
}

/// A block command of 32 bytes: flags at 10, LBA at 12, expected tags at 20, length at 28. ADDITIONAL CDB LENGTH is looked at.
const fn thirty_two(flags: u8) -> [u8; 32] {
    [
        0, NACA, 0, 0, 0, 0, 0, 255, 0, 0, flags, 0, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 255, 255,
    ]
}

/// 32-bit allocation or parameter list length at 10.
const LENGTH_AT_10: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, NACA];
const RECEIVE_COPY: [u8; 16] = [0, 0, 255, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 0, NACA];
/// IMMED, ZNR and AUSE, and what has to be zero.
const SANITIZE: [u8; 10] = [0, 0xe0, 255, 255, 255, 255, 255, 255, 255, NACA];
const RESERVE_IN: [u8; 10] = [0, 0, 0, 0, 0, 0, 0, 255, 255, NACA];
const RESERVE_OUT: [u8; 10] = [0, 0, 255, 0, 0, 255, 255, 255, 255, NACA];

/// RDPROTECT and its like with DPO and FUA; with DPO and BYTCHK; with ANCHOR and UNMAP.
const TRANSFER: u8 = 0xf8;
const BYTCHK: u8 = 0xf6;
const SAME: u8 = 0xf8;
/// The same with NDOB, which WRITE SAME (10) does not have.
const SAME_NDOB: u8 = 0xf9;
const IMMED: u8 = 0x02;

/// All commands. They are searched in this order, so the busy ones are in front.
pub const ROWS: &[Row] = &[
    row(0x88, Name::Read, &sixteen(TRANSFER)),
    row(0x8a, Name::Write, &sixteen(TRANSFER)),
    row(0x28, Name::Read, &ten(TRANSFER)),
    row(0x2a, Name::Write, &ten(TRANSFER)),
    row(0x00, Name::TestUnitReady, &[0, 0, 0, 0, 0, NACA]),
    row(0x03, Name::RequestSense, &[0, 0x01, 0, 0, 255, NACA]),
    row(0x08, Name::Read, &[0, 0x1f, 255, 255, 255, NACA]),
    row(0x0a, Name::Write, &[0, 0x1f, 255, 255, 255, NACA]),
    row(0x12, Name::Inquiry, &[0, 0x01, 255, 255, 255, NACA]),
    row(0x15, Name::ModeSelect, &[0, 0x11, 0, 0, 255, NACA]),
    row(0x16, Name::Reserve6, &[0, 0x11, 0, 0, 0, NACA]),
    row(0x17, Name::Release6, &[0, 0x11, 0, 0, 0, NACA]),
    row(0x1a, Name::ModeSense, &[0, 0x08, 255, 255, 255, NACA]),
    row(0x1b, Name::StartStopUnit, &[0, 0x01, 0, 0x0f, 0xf7, NACA]),
    row(0x25, Name::ReadCapacity10, &[0, 0, 0, 0, 0, 0, 0, 0, 0, NACA]),
    row(0x2e, Name::WriteAndVerify, &ten(BYTCHK)),
    row(0x2f, Name::Verify, &ten(BYTCHK)),
    row(0x34, Name::PreFetch, &ten(IMMED)),
    row(0x35, Name::SynchronizeCache, &ten(IMMED)),
    row(0x37, Name::ReadDefectData, &[0, 0, 0x1f, 0, 0, 0, 0, 255, 255, NACA]),
    row(0x41, Name::WriteSame, &ten(SAME)),
    row(0x42, Name::Unmap, &[0, 0x01, 0, 0, 0, 0, 0, 255, 255, NACA]),
    action(0x48, 0x02, Name::Sanitize, &SANITIZE),
    action(0x48, 0x1f, Name::Sanitize, &SANITIZE),
    row(0x4d, Name::LogSense, &[0, 0x01, 255, 255, 0, 255, 255, 255, 255, NACA]),
    row(0x55, Name::ModeSelect, &[0, 0x11, 0, 0, 0, 0, 0, 255, 255, NACA]),
    row(0x5a, Name::ModeSense, &[0, 0x18, 255, 255, 0, 0, 0, 255, 255, NACA]),
    action(0x5e, 0, Name::PersistentReserveIn, &RESERVE_IN),
    action(0x5e, 1, Name::PersistentReserveIn, &RESERVE_IN),
    action(0x5e, 2, Name::PersistentReserveIn, &RESERVE_IN),
    action(0x5e, 3, Name::PersistentReserveIn, &RESERVE_IN),
    action(0x5f, 0, Name::PersistentReserveOut, &RESERVE_OUT),
    action(0x5f, 1, Name::PersistentReserveOut, &RESERVE_OUT),
    action(0x5f, 2, Name::PersistentReserveOut, &RESERVE_OUT),
    action(0x5f, 3, Name::PersistentReserveOut, &RESERVE_OUT),
    action(0x5f, 4, Name::PersistentReserveOut, &RESERVE_OUT),
    action(0x5f, 5, Name::PersistentReserveOut, &RESERVE_OUT),
    action(0x5f, 6, Name::PersistentReserveOut, &RESERVE_OUT),
    action(0x5f, 7, Name::PersistentReserveOut, &RESERVE_OUT),
    action(0x5f, 8, Name::PersistentReserveOut, &RESERVE_OUT),
    action(VARIABLE, 0x09, Name::Read, &thirty_two(TRANSFER)),
    action(VARIABLE, 0x0a, Name::Verify, &thirty_two(BYTCHK)),
    action(VARIABLE, 0x0b, Name::Write, &thirty_two(TRANSFER)),
    action(VARIABLE, 0x0c, Name::WriteAndVerify, &thirty_two(BYTCHK)),
    action(VARIABLE, 0x0d, Name::WriteSame, &thirty_two(SAME_NDOB)),
    action(0x83, 0, Name::ExtendedCopyLid1, &LENGTH_AT_10),
    action(0x84, 0, Name::ReceiveCopyResults, &RECEIVE_COPY),
    action(0x84, 1, Name::ReceiveCopyResults, &RECEIVE_COPY),
    action(0x84, 3, Name::ReceiveCopyResults, &RECEIVE_COPY),
    action(0x84, 4, Name::ReceiveCopyResults, &RECEIVE_COPY),
    row(
        0x89,
        Name::CompareAndWrite,
        &[0, 0xf8, 255, 255, 255, 255, 255, 255, 255, 255, 0, 0, 0, 255, 0, NACA],
    ),
    row(0x8e, Name::WriteAndVerify, &sixteen(BYTCHK)),
    row(0x8f, Name::Verify, &sixteen(BYTCHK)),
    row(0x90, Name::PreFetch, &sixteen(IMMED)),
    row(0x91, Name::SynchronizeCache, &sixteen(IMMED)),
    row(0x93, Name::WriteSame, &sixteen(SAME_NDOB)),
    action(0x9e, 0x10, Name::ReadCapacity16, &LENGTH_AT_10),
    action(0x9e, 0x12, Name::GetLbaStatus, &sixteen(0)),
    row(0xa0, Name::ReportLuns, &[0, 0, 255, 0, 0, 0, 255, 255, 255, 255, 0, NACA]),
    action(0xa3, 0x0a, Name::ReportTargetPortGroups, &[0, 0xe0, 0, 0, 0, 0, 255, 255, 255, 255, 0, NACA]),
    action(0xa3, 0x0c, Name::ReportOpcodes, &[0, 0, 0x87, 255, 255, 255, 255, 255, 255, 255, 0, NACA]),
    action(0xa3, 0x0d, Name::ReportTaskManagement, &[0, 0, 0x80, 0, 0, 0, 255, 255, 255, 255, 0, NACA]),
    row(0xa8, Name::Read, &twelve(TRANSFER)),
    row(0xaa, Name::Write, &twelve(TRANSFER)),
    row(0xae, Name::WriteAndVerify, &twelve(BYTCHK)),
    row(0xaf, Name::Verify, &twelve(BYTCHK)),
    row(0xb7, Name::ReadDefectData, &[0, 0x1f, 0, 0, 0, 0, 255, 255, 255, 255, 0, NACA]),
];
