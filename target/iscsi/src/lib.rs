//! An iSCSI target as a pure state machine: RFC 7143, with the device server of `holdfast-scsi` behind it.

#![forbid(unsafe_code)]
