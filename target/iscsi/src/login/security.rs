//! The security stage. RFC 7143 §6.3.2 "iSCSI Security Negotiation" and §12.1 "iSCSI Security Negotiation".

use holdfast_block::ChapSecrets;

use crate::chap::{Algorithm, Answer, Challenge};
use crate::login::status::LoginStatus;
use crate::text::put;

/// How far authentication has come.
#[derive(Debug)]
pub(super) enum Auth {
    /// No method yet.
    Open,
    /// CHAP, waiting for the algorithms.
    Chap,
    /// CHAP, waiting for the response.
    Asked(Challenge),
    /// Over; whether the initiator has proven itself.
    Done(bool),
}

/// What is demanded of an initiator.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand<'a> {
    /// What it can prove itself with.
    pub(super) secrets: Option<&'a ChapSecrets>,
    /// Whether it has to.
    pub(super) required: bool,
}

/// The security keys of one text.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SecurityKeys<'a> {
    method: Option<&'a str>,
    algorithms: Option<&'a str>,
    name: Option<&'a str>,
    response: Option<&'a str>,
    id: Option<&'a str>,
    challenge: Option<&'a str>,
}

impl<'a> SecurityKeys<'a> {
    /// Whether the key is one of these.
    pub(super) fn take(&mut self, key: &str, value: &'a str) -> bool {
        let field = match key {
            "AuthMethod" => &mut self.method,
            "CHAP_A" => &mut self.algorithms,
            "CHAP_N" => &mut self.name,
            "CHAP_R" => &mut self.response,
            "CHAP_I" => &mut self.id,
            "CHAP_C" => &mut self.challenge,
            _ => return false,
        };
        *field = Some(value);
        true
    }

    fn has_chap(&self) -> bool {
        self.algorithms.is_some() || self.answers()
    }

    fn answers(&self) -> bool {
        [self.name, self.response, self.id, self.challenge].iter().any(Option::is_some)
    }
}

impl Auth {
    /// Takes what one text has of security. What breaks the order of the steps is an error of the initiator's; everything
    /// that is wrong with a value is a failure to authenticate, of which nothing more is said.
    pub(super) fn take(
        &mut self,
        keys: &SecurityKeys<'_>,
        demand: Demand<'_>,
        random: &mut dyn FnMut(&mut [u8]),
        out: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        let mut chosen_now = false;
        if let Some(list) = keys.method {
            if !matches!(self, Auth::Open) {
                return Err(LoginStatus::InitiatorError);
            }
            let chap = chooses_chap(list, demand).ok_or(LoginStatus::AuthenticationFailure)?;
            put(out, "AuthMethod", if chap { "CHAP" } else { "None" });
            *self = if chap { Auth::Chap } else { Auth::Done(false) };
            chosen_now = true;
        }
        match self {
            Auth::Open | Auth::Done(_) if keys.has_chap() => Err(LoginStatus::InitiatorError),
            Auth::Open | Auth::Done(_) => Ok(()),
            Auth::Chap if keys.answers() => Err(LoginStatus::InitiatorError),
            Auth::Chap => match keys.algorithms {
                None if chosen_now => Ok(()),
                None => Err(LoginStatus::AuthenticationFailure),
                Some(list) => {
                    let algorithm = Algorithm::choose(list).ok_or(LoginStatus::AuthenticationFailure)?;
                    let challenge = Challenge::new(algorithm, random);
                    challenge.values().iter().for_each(|(key, value)| put(out, key, value));
                    *self = Auth::Asked(challenge);
                    Ok(())
                }
            },
            Auth::Asked(_) if keys.algorithms.is_some() => Err(LoginStatus::InitiatorError),
            Auth::Asked(challenge) => {
                judge(challenge, keys, demand, out).ok_or(LoginStatus::AuthenticationFailure)?;
                *self = Auth::Done(true);
                Ok(())
            }
        }
    }

    /// Whether the security stage may be left; an error: it cannot come that far.
    pub(super) fn may_leave(&self, required: bool) -> Result<bool, LoginStatus> {
        match self {
            Auth::Open | Auth::Done(false) if required => Err(LoginStatus::AuthenticationFailure),
            Auth::Open | Auth::Done(_) => Ok(true),
            Auth::Chap | Auth::Asked(_) => Ok(false),
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        matches!(self, Auth::Done(true))
    }
}

/// The first method of the list that will do: whether that is CHAP.
fn chooses_chap(list: &str, demand: Demand<'_>) -> Option<bool> {
    list.split(',').find_map(|method| match method {
        "CHAP" => demand.secrets.map(|_| true),
        "None" => (!demand.required).then_some(false),
        _ => None,
    })
}

fn judge(
    challenge: &Challenge,
    keys: &SecurityKeys<'_>,
    demand: Demand<'_>,
    out: &mut Vec<u8>,
) -> Option<()> {
    let asks = match (keys.id, keys.challenge) {
        (None, None) => None,
        (id, challenge) => Some((id?, challenge?)),
    };
    let answer = Answer { name: keys.name?, response: keys.response?, asks };
    if let Some((name, response)) = challenge.judge(demand.secrets?, answer).ok()? {
        put(out, "CHAP_N", &name);
        put(out, "CHAP_R", &response);
    }
    Some(())
}
