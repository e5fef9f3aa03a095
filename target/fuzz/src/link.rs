//! The host's end of one connection.

use std::collections::{HashMap, HashSet};

use holdfast_nvme::Connection;

use crate::wire::{self, Digests, Pdu, Sqe};

/// A connection, and what went over it.
pub(crate) struct Link {
    pub(crate) connection: Connection,
    pub(crate) digests: Digests,
    /// What the target has sent and nobody has looked at.
    pub(crate) inbox: Vec<u8>,
    /// A batch is on its way: `transmitted` has not been called for it.
    pub(crate) sending: bool,
    /// The connection has been told that its socket is gone.
    pub(crate) closed: bool,
    /// Commands that were sent through [`Link::command`] and not answered yet: bytes that their SGL has room for, and how
    /// many have come.
    outstanding: HashMap<u16, (usize, usize)>,
    /// CIDs that are not unique any more, so that nothing can be said of their answers.
    muddled: HashSet<u16>,
    /// Bytes were sent of which this end does not know what commands they make.
    pub(crate) is_lost: bool,
    next_cid: u16,
}

impl Link {
    pub(crate) fn new(connection: Connection) -> Link {
        Link {
            connection,
            digests: Digests::default(),
            inbox: Vec::new(),
            sending: false,
            closed: false,
            outstanding: HashMap::new(),
            muddled: HashSet::new(),
            is_lost: false,
            next_cid: 0,
        }
    }

    /// The bytes of a command with a CID of its own, which is to be answered once.
    pub(crate) fn command(&mut self, sqe: Sqe, data: &[u8]) -> (u16, Vec<u8>) {
        self.next_cid = self.next_cid.wrapping_add(1);
        let cid = self.next_cid;
        (cid, self.command_with(cid, sqe, data))
    }

    /// The same with any CID.
    pub(crate) fn command_with(&mut self, cid: u16, sqe: Sqe, data: &[u8]) -> Vec<u8> {
        let sqe = sqe.cid(cid);
        let room = u32::from_le_bytes(sqe.0[32..36].try_into().unwrap()) as usize;
        if self.outstanding.insert(cid, (room, 0)).is_some() {
            self.muddled.insert(cid);
        }
        sqe.capsule(data, self.digests)
    }

    /// Takes what has come, and judges it against what was sent.
    pub(crate) fn answers(&mut self) -> Vec<Pdu> {
        let mut found = Vec::new();
        while let Some(pdu) = wire::take(&mut self.inbox, self.digests) {
            if let Pdu::IcResp(digests) = pdu {
                self.digests = digests;
            }
            if !self.is_lost {
                self.judge(&pdu);
            }
            found.push(pdu);
        }
        found
    }

    /// How many commands are still to be answered.
    pub(crate) fn outstanding(&self) -> usize {
        self.outstanding.len()
    }

    fn judge(&mut self, pdu: &Pdu) {
        match pdu {
            Pdu::IcResp(_) | Pdu::Term { .. } => {}
            Pdu::Response { cid, .. } => self.answered(*cid),
            Pdu::R2t { cid, offset, length, .. } => {
                let (room, _) = self.room(*cid);
                assert!(*offset == 0 && *length as usize <= room, "R2T beyond the buffer of {cid}");
            }
            Pdu::Data { cid, offset, data, success, .. } => {
                let (room, have) = self.room(*cid);
                if !self.muddled.contains(cid) {
                    assert_eq!(*offset, have, "C2HData of {cid} out of order");
                    assert!(have + data.len() <= room, "C2HData beyond the buffer of {cid}");
                }
                self.outstanding.insert(*cid, (room, have + data.len()));
                if *success {
                    self.answered(*cid);
                }
            }
        }
    }

    fn room(&self, cid: u16) -> (usize, usize) {
        *self.outstanding.get(&cid).unwrap_or_else(|| panic!("command {cid} is not outstanding"))
    }

    fn answered(&mut self, cid: u16) {
        let known = self.outstanding.remove(&cid).is_some();
        assert!(known || self.muddled.contains(&cid), "command {cid} was answered twice");
    }
}
