//! A second account of the rules, as plain as can be: nexuses are numbers, sets are gone through, nothing is shared with the
//! first. Attentions are letters: P for RESERVATIONS PREEMPTED, R for RESERVATIONS RELEASED, X for REGISTRATIONS PREEMPTED.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_block::reservations::ReservationType;

/// Keys are numbers, of which 0 is none.
#[derive(Debug, Clone)]
pub(super) enum Ask {
    Register { key: u64, new: u64, last: Option<bool>, ports: bool, names: Option<Vec<usize>> },
    Ignore { new: u64, last: Option<bool>, ports: bool },
    Reserve { key: u64, kind: ReservationType },
    Release { key: u64, kind: ReservationType },
    Clear { key: u64 },
    Preempt { key: u64, victim: u64, kind: ReservationType, abort: bool },
    Move { key: u64, new: u64, last: Option<bool>, to: usize, leave: bool },
    Reserve6,
    Release6,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum No {
    Conflict,
    BadParameter,
    BadCdb,
    BadRelease,
}

#[derive(Debug, Default, PartialEq)]
pub(super) struct Noticed {
    pub(super) told: BTreeSet<(usize, char)>,
    pub(super) aborted: BTreeSet<usize>,
}

/// Nexus `n` is initiator `n / 2` at port `n % 2`.
#[derive(Debug, Clone, Default)]
pub(super) struct Naive {
    pub(super) generation: u32,
    pub(super) lasts: bool,
    pub(super) keys: BTreeMap<usize, u64>,
    pub(super) kind: Option<ReservationType>,
    pub(super) owner: usize,
    pub(super) six: Option<usize>,
}

fn everyone(kind: ReservationType) -> bool {
    let name = format!("{kind:?}");
    name.ends_with("AllRegistrants")
}

fn shared(kind: ReservationType) -> bool {
    let name = format!("{kind:?}");
    everyone(kind) || name.ends_with("RegistrantsOnly")
}

impl Naive {
    pub(super) fn holds(&self, who: usize) -> bool {
        match self.kind {
            None => false,
            Some(kind) if everyone(kind) => self.keys.contains_key(&who),
            Some(_) => self.owner == who,
        }
    }

    /// Read and write.
    pub(super) fn may(&self, who: usize) -> (bool, bool) {
        if let Some(six) = self.six {
            return (six == who, six == who);
        }
        let Some(kind) = self.kind else { return (true, true) };
        let full = self.holds(who) || (shared(kind) && self.keys.contains_key(&who));
        (full || format!("{kind:?}").starts_with("Write"), full)
    }

    fn tell_others(&self, from: usize, letter: char, noticed: &mut Noticed) {
        for who in self.keys.keys() {
            if *who != from {
                noticed.told.insert((*who, letter));
            }
        }
    }

    fn leave(&mut self, who: usize) -> bool {
        let held = self.holds(who);
        self.keys.remove(&who);
        let ends = match self.kind {
            Some(kind) if everyone(kind) => self.keys.is_empty(),
            Some(_) => held,
            None => false,
        };
        let tells = ends && self.kind.is_some_and(shared);
        if ends {
            self.kind = None;
        }
        tells
    }

    pub(super) fn ask(&mut self, from: usize, ask: &Ask) -> Result<Noticed, No> {
        let before = self.clone();
        let result = self.try_ask(from, ask);
        if result.is_err() {
            *self = before;
        }
        result
    }

    fn try_ask(&mut self, from: usize, ask: &Ask) -> Result<Noticed, No> {
        let own = self.keys.get(&from).copied();
        let mut noticed = Noticed::default();
        if !matches!(ask, Ask::Reserve6 | Ask::Release6) && self.six.is_some() {
            return Err(No::Conflict);
        }
        let (Ask::Reserve { key, .. }
        | Ask::Release { key, .. }
        | Ask::Clear { key }
        | Ask::Preempt { key, .. }
        | Ask::Move { key, .. }) = ask
        else {
            return self.ask_without_key(from, ask);
        };
        if own.is_none() || own != Some(*key) {
            return Err(No::Conflict);
        }
        match ask {
            Ask::Reserve { kind, .. } => match self.kind {
                None => (self.kind, self.owner) = (Some(*kind), from),
                Some(held) if held == *kind && self.holds(from) => {}
                Some(_) => return Err(No::Conflict),
            },
            Ask::Release { kind, .. } => {
                if self.holds(from) {
                    if self.kind != Some(*kind) {
                        return Err(No::BadRelease);
                    }
                    if shared(*kind) {
                        self.tell_others(from, 'R', &mut noticed);
                    }
                    self.kind = None;
                }
            }
            Ask::Clear { .. } => {
                self.tell_others(from, 'P', &mut noticed);
                self.keys.clear();
                self.kind = None;
                self.generation += 1;
            }
            Ask::Preempt { victim, kind, abort, .. } => {
                noticed = self.preempt(from, *victim, *kind, *abort)?;
            }
            Ask::Move { new, last, to, leave, .. } => {
                let kind = self.kind.ok_or(No::BadCdb)?;
                if everyone(kind) || self.owner != from {
                    return Err(No::Conflict);
                }
                if *new == 0 || to / 2 == from / 2 {
                    return Err(No::BadParameter);
                }
                self.keys.insert(*to, *new);
                self.owner = *to;
                if *leave {
                    self.keys.remove(&from);
                }
                self.lasts = last.unwrap_or(self.lasts);
                self.generation += 1;
            }
            _ => unreachable!("asked without a key"),
        }
        Ok(noticed)
    }

    fn preempt(
        &mut self,
        from: usize,
        victim: u64,
        kind: ReservationType,
        abort: bool,
    ) -> Result<Noticed, No> {
        let mut noticed = Noticed::default();
        let all = self.kind.is_some_and(everyone);
        if victim == 0 && !all {
            return Err(No::BadParameter);
        }
        let takes = match self.kind {
            Some(_) if all => victim == 0,
            Some(_) => self.keys.get(&self.owner) == Some(&victim),
            None => false,
        };
        let mut hit = Vec::new();
        for (who, key) in &self.keys {
            if victim == 0 || *key == victim {
                hit.push(*who);
            }
        }
        if hit.is_empty() {
            return Err(No::Conflict);
        }
        for who in hit {
            if !(takes && who == from) {
                self.keys.remove(&who);
            }
            if who != from {
                noticed.told.insert((who, 'X'));
            }
            if abort {
                noticed.aborted.insert(who);
            }
        }
        if takes {
            if self.kind != Some(kind) {
                self.tell_others(from, 'R', &mut noticed);
            }
            (self.kind, self.owner) = (Some(kind), from);
        } else if all && self.keys.is_empty() {
            self.kind = None;
        }
        self.generation += 1;
        Ok(noticed)
    }

    fn ask_without_key(&mut self, from: usize, ask: &Ask) -> Result<Noticed, No> {
        match ask {
            Ask::Register { key, new, last, ports, names } => {
                self.register(from, Some(*key), *new, *last, *ports, names.as_deref())
            }
            Ask::Ignore { new, last, ports } => self.register(from, None, *new, *last, *ports, None),
            Ask::Reserve6 | Ask::Release6 => {
                let takes = matches!(ask, Ask::Reserve6);
                if !self.keys.is_empty() {
                    let share = self.kind.is_some_and(|kind| {
                        self.holds(from) || (shared(kind) && self.keys.contains_key(&from))
                    });
                    return if share { Ok(Noticed::default()) } else { Err(No::Conflict) };
                }
                match self.six {
                    Some(six) if six != from && takes => return Err(No::Conflict),
                    Some(six) if six == from && !takes => self.six = None,
                    None if takes => self.six = Some(from),
                    _ => {}
                }
                Ok(Noticed::default())
            }
            _ => unreachable!("asked with a key"),
        }
    }

    fn register(
        &mut self,
        from: usize,
        key: Option<u64>,
        new: u64,
        last: Option<bool>,
        ports: bool,
        names: Option<&[usize]>,
    ) -> Result<Noticed, No> {
        let mut noticed = Noticed::default();
        let own = self.keys.get(&from).copied();
        if key.is_some_and(|key| key != own.unwrap_or(0)) {
            return Err(No::Conflict);
        }
        if own.is_none() && new == 0 {
            return Ok(noticed);
        }
        let all_ports = |who: usize| if ports { vec![who, who ^ 1] } else { vec![who] };
        let mut named = Vec::new();
        for initiator in names.unwrap_or_default() {
            named.extend(all_ports(initiator * 2 + from % 2));
        }
        if names.is_some() && (own.is_some() || named.iter().any(|who| self.keys.contains_key(who))) {
            return Err(No::BadParameter);
        }
        let mut tells = false;
        for who in all_ports(from) {
            if key.is_some_and(|key| key != self.keys.get(&who).copied().unwrap_or(0)) {
                return Err(No::Conflict);
            }
            if new == 0 {
                tells |= self.leave(who);
            } else {
                self.keys.insert(who, new);
            }
        }
        for who in named {
            self.keys.insert(who, new);
        }
        if tells {
            self.tell_others(from, 'R', &mut noticed);
        }
        self.lasts = last.unwrap_or(self.lasts);
        self.generation += 1;
        Ok(noticed)
    }
}
