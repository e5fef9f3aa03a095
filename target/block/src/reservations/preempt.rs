//! Taking reservations and registrations away from others. SPC-4 5.13.11.2.4 "Preempting", 5.13.11.2.5 "Removing
//! registrations", 5.13.11.2.6 "Preempting and aborting".

use super::{Attention, Draft, Field, Key, Nexus, Refusal, ReservationType};

/// Table 72: what a key says to do.
enum Aim {
    /// The reservation is taken over. `Some`: the holder's key; `None`: all others'.
    Reservation(Option<Key>),
    /// Registrations with this key go.
    Registrations(Key),
}

impl Draft<'_> {
    /// PREEMPT and PREEMPT AND ABORT.
    pub(super) fn preempt(
        &mut self,
        key: Option<Key>,
        victim: Option<Key>,
        kind: Option<ReservationType>,
        abort: bool,
    ) -> Result<(), Refusal> {
        self.check_key(key)?;
        let aim = self.aim(victim)?;
        let named = |registered: Key| match &aim {
            Aim::Reservation(victim) => victim.is_none_or(|victim| victim == registered),
            Aim::Registrations(victim) => *victim == registered,
        };
        let (gone, left): (Vec<_>, Vec<_>) =
            self.state.registrations.drain(..).partition(|registration| named(registration.key));
        self.state.registrations = left;
        if gone.is_empty() {
            return Err(Refusal::Conflict);
        }
        match aim {
            Aim::Reservation(_) => {
                let kind = kind.ok_or(Refusal::NoType)?;
                // Who preempts stays registered, even if the key is its own.
                if let Some(own) = gone.iter().find(|registration| registration.nexus == *self.from) {
                    self.state.set_key(self.from, own.key)?;
                }
                let before = self.state.held.take().map(|held| held.kind);
                if before != Some(kind) {
                    self.tell_registered(Attention::ReservationsReleased);
                }
                self.state.set_held(kind, self.from);
            }
            Aim::Registrations(_) => {
                self.state.release_orphaned();
            }
        }
        let gone = gone.into_iter().map(|registration| registration.nexus);
        self.drop_out(gone, abort);
        self.count();
        Ok(())
    }

    fn aim(&self, victim: Option<Key>) -> Result<Aim, Refusal> {
        let holder = self.state.held.as_ref().map(|held| held.holder.as_ref());
        match (holder, victim) {
            (Some(None), None) => Ok(Aim::Reservation(None)),
            (_, None) => Err(Refusal::InvalidField(Field::NewKey)),
            (Some(Some(holder)), Some(victim)) if self.state.key_of(holder) == Some(victim) => {
                Ok(Aim::Reservation(Some(victim)))
            }
            (_, Some(victim)) => Ok(Aim::Registrations(victim)),
        }
    }

    /// Those whose registrations were named get to know, but not who asked; the commands of all of them are aborted.
    fn drop_out(&mut self, named: impl Iterator<Item = Nexus>, abort: bool) {
        for nexus in named {
            if nexus != *self.from {
                self.effects.attentions.push((nexus.clone(), Attention::RegistrationsPreempted));
            }
            if abort {
                self.effects.aborted.push(nexus);
            }
        }
    }
}
