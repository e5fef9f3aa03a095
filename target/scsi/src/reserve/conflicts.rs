//! What each command is to a reservation of others. SPC-4 §5.13.1 "Persistent Reservations overview", table of SPC commands
//! allowed in the presence of reservations; SBC-4 §4.17 "Reservations", the same of block commands; SPC-2 §5.5.1 for
//! RESERVE (6).

use holdfast_block::reservations::Access;

use crate::cdb::Cdb;

/// What a command asks of reservations. Commands on reservations themselves have rules of their own.
pub(crate) fn access(cdb: &Cdb) -> Access {
    match cdb {
        Cdb::Inquiry { .. }
        | Cdb::ReportLuns { .. }
        | Cdb::RequestSense { .. }
        | Cdb::ReportTargetPortGroups { .. }
        | Cdb::PersistentReserveIn { .. }
        | Cdb::PersistentReserveOut { .. }
        | Cdb::Reserve6
        | Cdb::Release6 => Access::Always,
        // Starting is allowed, while stopping and power conditions are not.
        Cdb::StartStopUnit { start: true, power_condition: 0, .. }
        | Cdb::TestUnitReady
        | Cdb::LogSense { .. }
        | Cdb::ReadCapacity10
        | Cdb::ReadCapacity16 { .. } => Access::Status,
        Cdb::Read { .. }
        | Cdb::Verify { .. }
        | Cdb::PreFetch { .. }
        | Cdb::GetLbaStatus { .. }
        | Cdb::ReadDefectData { .. }
        | Cdb::ModeSense { .. }
        | Cdb::ReportOpcodes { .. }
        | Cdb::ReportTaskManagement { .. }
        | Cdb::ReceiveCopyResults { .. } => Access::Read,
        Cdb::Write { .. }
        | Cdb::WriteAndVerify { .. }
        | Cdb::WriteSame { .. }
        | Cdb::CompareAndWrite { .. }
        | Cdb::Unmap { .. }
        | Cdb::Sanitize { .. }
        | Cdb::SynchronizeCache { .. }
        | Cdb::StartStopUnit { .. }
        | Cdb::ModeSelect { .. }
        | Cdb::ExtendedCopyLid1 { .. } => Access::Write,
    }
}
