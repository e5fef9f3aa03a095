//! What cores tell each other.

use std::collections::HashSet;

use holdfast_block::{Disposition, HostId};

use super::{Generations, Shard};
use crate::core::Mail;

impl Shard {
    /// Sends mail to other cores; what finds no room is tried again in the next turn.
    pub(super) fn send_mail(&mut self) {
        let mut waiting = std::mem::take(&mut self.unsent);
        waiting.append(&mut self.router.take_outgoing());
        for (core, mail) in waiting {
            let Some(Some(peer)) = self.peers.get_mut(core) else { continue };
            if let Err(mail) = peer.send(mail)
                && !peer.is_closed()
            {
                self.unsent.push((core, mail));
            }
        }
    }

    /// Tells everybody when a controller or session has ended, or when connections have something to do for each other.
    pub(super) fn watch_directory(&mut self) {
        self.departed = false;
        let seen = self.seen;
        // Ends: a queue has something for another only once for each thing that was left for it.
        loop {
            let generation = self.shared.generations();
            if generation == self.seen {
                break;
            }
            self.directory_changed(generation);
        }
        if seen == self.seen {
            return;
        }
        for core in 0..self.peers.len() {
            self.unsent.push((core, Mail::DirectoryChanged));
        }
    }

    pub(super) fn directory_changed(&mut self, generation: Generations) {
        self.seen = generation;
        let open = self.shared.sessions.list();
        let sessions: HashSet<u64> = open.iter().map(|session| session.id).collect();
        let hosts: HashSet<HostId> = open.iter().map(|session| session.host).collect();
        self.router.retain_sessions(|id| sessions.contains(&id));
        self.retain_guests(|host| hosts.contains(&host));
        self.for_each_connection(|connection, cx| {
            connection.directory_changed(cx);
            connection.disposition() != Disposition::Open || connection.ready_responses() > 0
        });
    }
}
