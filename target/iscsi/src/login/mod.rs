//! Login. RFC 7143 §6.3 "Login Phase", §11.12 "Login Request" and §11.13 "Login Response".
//!
//! One for each connection, from its first PDU to the full feature phase or to a refusal. What takes another session's place
//! waits until that has ended on whatever core it lives: [`LoginPhase::resume`].

mod identity;
mod security;
mod status;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;

use holdfast_block::reservations::{InitiatorPort, Nexus, TargetPort};
use holdfast_block::{Exports, HostBook, Session, SessionBook, SessionRequest, Transport};

use crate::directory::{Directory, Member, OpenRefused, Opening, PORTAL_GROUP_TAG, SessionName};
use crate::negotiation_limits::{LOGIN_DATA_LEN_MAX, LOGIN_REQUESTS_MAX};
use crate::params::{Params, Reply, declare, is_declared, is_operational, negotiate};
use crate::text::{Assembler, parse, put};
use identity::Identity;
use security::{Auth, Demand, SecurityKeys};
pub use status::LoginStatus;

/// A Login Request, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoginHead {
    /// T bit.
    pub transit: bool,
    /// C bit.
    pub continues: bool,
    /// Current stage, 2 bits.
    pub csg: u8,
    /// Next stage, 2 bits.
    pub nsg: u8,
    /// Highest version that the initiator speaks.
    pub version_max: u8,
    /// Lowest version that the initiator speaks.
    pub version_min: u8,
    /// Initiator Session ID.
    pub isid: [u8; 6],
    /// Target Session Identifying Handle.
    pub tsih: u16,
    /// Initiator Task Tag.
    pub itt: u32,
    /// Connection ID.
    pub cid: u16,
}

/// A Login Response, but for its sequence numbers. Version-max and Version-active are 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginAnswer {
    /// T bit. The C bit is never set: answers fit one PDU.
    pub transit: bool,
    /// Current stage.
    pub csg: u8,
    /// Next stage; 0 without the T bit.
    pub nsg: u8,
    /// As requested.
    pub isid: [u8; 6],
    /// As requested; of a new session, in the last response only.
    pub tsih: u16,
    /// As requested.
    pub itt: u32,
    /// How the login stands.
    pub status: LoginStatus,
    /// Text.
    pub data: Vec<u8>,
}

/// What is to be done.
#[derive(Debug)]
pub enum LoginStep {
    /// Send this; the login goes on.
    Answer(LoginAnswer),
    /// Send nothing yet: another session has to end first. Call [`LoginPhase::resume`] whenever the directory's generation
    /// has gone up, and take nothing from the connection until then.
    Wait,
    /// Send this, in full feature phase from here on.
    Done(LoginAnswer, FullFeature),
    /// Send this, then close the connection.
    Refused(LoginAnswer),
}

/// A connection that has come through.
#[derive(Debug)]
pub struct FullFeature {
    /// What was agreed.
    pub params: Params,
    /// The session. Whoever gets it calls [`Directory::close`] at its end.
    pub member: Arc<Member>,
}

/// What surrounds a login.
pub struct LoginContext<'a> {
    /// Seconds since 1970-01-01 UTC.
    pub unix_seconds: u64,
    /// What is exported to whom.
    pub exports: &'a Exports,
    /// The sessions of all cores.
    pub directory: &'a Directory,
    /// Hosts that nobody registered.
    pub hosts: &'a HostBook,
    /// Open sessions of the block layer.
    pub sessions: &'a SessionBook,
    /// Fills with random bytes that nobody can foresee.
    pub random: &'a mut dyn FnMut(&mut [u8]),
}

/// Security negotiation, as CSG or NSG.
const SECURITY: u8 = 0;

/// Operational negotiation.
const OPERATIONAL: u8 = 1;

/// Full feature phase.
const FULL_FEATURE: u8 = 3;

/// A login under way.
#[derive(Debug)]
pub struct LoginPhase {
    peer: SocketAddr,
    /// ISID, TSIH and CID of the first request.
    first: Option<([u8; 6], u16, u16)>,
    stage: u8,
    requests: usize,
    assembler: Assembler,
    /// Keys that have come.
    seen: Vec<String>,
    identity: Option<Identity>,
    auth: Auth,
    params: Params,
    declared: bool,
    /// The last response, while another session has to end.
    waiting: Option<LoginAnswer>,
}

impl LoginPhase {
    /// Nothing has come.
    pub fn new(peer: SocketAddr) -> LoginPhase {
        LoginPhase {
            peer,
            first: None,
            stage: SECURITY,
            requests: 0,
            assembler: Assembler::default(),
            seen: Vec::new(),
            identity: None,
            auth: Auth::Open,
            params: Params::default(),
            declared: false,
            waiting: None,
        }
    }

    /// Takes a Login Request.
    pub fn take(&mut self, cx: &mut LoginContext<'_>, head: &LoginHead, data: &[u8]) -> LoginStep {
        match self.judge(cx, head, data) {
            Ok(answer) if answer.transit && answer.nsg == FULL_FEATURE => self.begin(cx, answer, false),
            Ok(answer) => LoginStep::Answer(answer),
            Err(status) => self.refuse(head, status),
        }
    }

    /// Looks again whether a login that waits may end.
    pub fn resume(&mut self, cx: &mut LoginContext<'_>) -> Option<LoginStep> {
        let answer = self.waiting.take()?;
        Some(self.begin(cx, answer, true))
    }

    /// Whether a Login Request has come.
    pub(crate) fn has_begun(&self) -> bool {
        self.first.is_some()
    }

    /// Another PDU than a Login Request came, with this Initiator Task Tag.
    pub fn other_request(&mut self, itt: u32) -> LoginStep {
        let (isid, tsih, _) = self.first.unwrap_or_default();
        let mut answer = self.answer_to(isid, tsih, itt);
        answer.status = LoginStatus::InvalidDuringLogin;
        LoginStep::Refused(answer)
    }

    fn refuse(&mut self, head: &LoginHead, status: LoginStatus) -> LoginStep {
        self.assembler.clear();
        let mut answer = self.answer_to(head.isid, head.tsih, head.itt);
        answer.csg = head.csg;
        answer.status = status;
        LoginStep::Refused(answer)
    }

    fn answer_to(&self, isid: [u8; 6], tsih: u16, itt: u32) -> LoginAnswer {
        let status = LoginStatus::Success;
        LoginAnswer { transit: false, csg: self.stage, nsg: 0, isid, tsih, itt, status, data: Vec::new() }
    }

    /// Judges a request; the answer says whether the next stage is entered.
    fn judge(
        &mut self,
        cx: &mut LoginContext<'_>,
        head: &LoginHead,
        data: &[u8],
    ) -> Result<LoginAnswer, LoginStatus> {
        self.check_head(head, data.len())?;
        let mut answer = self.answer_to(head.isid, head.tsih, head.itt);
        let text = self.assembler.push(data, head.continues).map_err(|_| LoginStatus::InitiatorError)?;
        // The end of the text is still to come: an answer without data asks for it.
        let Some(text) = text else { return Ok(answer) };
        let pairs = parse(&text).map_err(|_| LoginStatus::InitiatorError)?;
        for (key, _) in &pairs {
            // Nothing may be said twice in a login.
            if self.seen.iter().any(|seen| seen == key) || self.seen.len() >= SEEN_MAX {
                return Err(LoginStatus::InitiatorError);
            }
            self.seen.push((*key).to_owned());
        }
        let is_first = self.identity.is_none();
        let out = &mut answer.data;
        if is_first {
            self.identify(cx, head, &pairs, out)?;
        }
        self.settle(cx, &pairs, is_first, out)?;
        if out.len() > LOGIN_DATA_LEN_MAX {
            return Err(LoginStatus::InitiatorError);
        }
        let ready = self.stage == OPERATIONAL || self.auth.may_leave(head.transit && self.must_prove())?;
        if head.transit && ready {
            answer.transit = true;
            answer.nsg = head.nsg;
            self.stage = head.nsg;
        }
        Ok(answer)
    }

    /// What a request's header may say, whatever its data.
    fn check_head(&mut self, head: &LoginHead, data_len: usize) -> Result<(), LoginStatus> {
        if head.version_min > 0 {
            return Err(LoginStatus::UnsupportedVersion);
        }
        self.requests += 1;
        let ids = (head.isid, head.tsih, head.cid);
        let first = *self.first.get_or_insert(ids);
        if self.requests == 1 && head.csg == OPERATIONAL {
            self.stage = OPERATIONAL;
        }
        let forward = matches!(
            (head.csg, head.nsg),
            (SECURITY, OPERATIONAL | FULL_FEATURE) | (OPERATIONAL, FULL_FEATURE)
        );
        let sound = first == ids
            && self.waiting.is_none()
            && self.requests <= LOGIN_REQUESTS_MAX
            && data_len <= LOGIN_DATA_LEN_MAX
            && head.csg == self.stage
            && matches!(head.csg, SECURITY | OPERATIONAL)
            && !(head.transit && head.continues)
            && (!head.transit || forward);
        sound.then_some(()).ok_or(LoginStatus::InitiatorError)
    }

    /// The first text of the login: who it is, and to what.
    fn identify(
        &mut self,
        cx: &LoginContext<'_>,
        head: &LoginHead,
        pairs: &[(&str, &str)],
        out: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        let identity = Identity::of(pairs, cx.exports)?;
        if identity.target.is_some() {
            put(out, "TargetPortalGroupTag", &PORTAL_GROUP_TAG.to_string());
        }
        // Who has to prove itself first learns only then which sessions there are.
        if head.tsih != 0 && !identity.must_prove() {
            let name = session_name(&identity, head.isid);
            let known = cx.directory.find(&name, head.tsih, head.cid).map_err(refusal)?;
            self.params = known.of_session();
        }
        self.identity = Some(identity);
        Ok(())
    }

    fn must_prove(&self) -> bool {
        self.identity.as_ref().is_some_and(Identity::must_prove) && !self.auth.is_proven()
    }

    /// Answers the pairs of a text.
    fn settle(
        &mut self,
        cx: &mut LoginContext<'_>,
        pairs: &[(&str, &str)],
        is_first: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), LoginStatus> {
        if self.stage == OPERATIONAL && self.must_prove() {
            return Err(LoginStatus::AuthenticationFailure);
        }
        let mut security = SecurityKeys::default();
        let mut last = None;
        for (key, value) in pairs.iter().copied() {
            match key {
                "InitiatorName" | "TargetName" | "SessionType" if is_first => {}
                "InitiatorAlias" => {}
                _ if self.stage == SECURITY && security.take(key, value) => {}
                "FirstBurstLength" if self.stage == OPERATIONAL => last = Some((key, value)),
                _ if self.stage == OPERATIONAL && is_operational(key) => self.agree(key, value, out)?,
                // Of targets, of the full feature phase, of the other stage, or too late.
                _ if is_operational(key) || is_declared(key) => return Err(LoginStatus::InitiatorError),
                _ => put(out, key, "NotUnderstood"),
            }
        }
        if let Some((key, value)) = last {
            self.agree(key, value, out)?;
        }
        if self.stage == OPERATIONAL {
            if !self.declared {
                self.declared = true;
                let (key, value) = declare(&mut self.params);
                put(out, key, &value);
            }
            return Ok(());
        }
        let identity = self.identity.as_ref().ok_or(LoginStatus::InitiatorError)?;
        let demand = Demand { secrets: identity.secrets.as_deref(), required: identity.must_prove() };
        self.auth.take(&security, demand, &mut *cx.random, out)
    }

    /// Settles an operational key.
    fn agree(&mut self, key: &str, value: &str, out: &mut Vec<u8>) -> Result<(), LoginStatus> {
        let discovery = self.identity.as_ref().is_some_and(|identity| identity.target.is_none());
        match negotiate(&mut self.params, discovery, key, value) {
            Reply::Value(agreed) => put(out, key, &agreed),
            Reply::Reject => put(out, key, "Reject"),
            Reply::Irrelevant => put(out, key, "Irrelevant"),
            Reply::NotUnderstood => put(out, key, "NotUnderstood"),
            Reply::Silence => {}
            Reply::Failed => return Err(LoginStatus::InitiatorError),
        }
        Ok(())
    }

    /// The full feature phase, unless another session has to end first.
    fn begin(&mut self, cx: &mut LoginContext<'_>, mut answer: LoginAnswer, took_over: bool) -> LoginStep {
        match self.open(cx, took_over) {
            Ok(member) => {
                answer.tsih = member.tsih;
                LoginStep::Done(answer, FullFeature { params: member.params, member })
            }
            Err(Opened::Wait) => {
                self.waiting = Some(answer);
                LoginStep::Wait
            }
            Err(Opened::Refused(status)) => {
                answer.transit = false;
                answer.nsg = 0;
                answer.data = Vec::new();
                answer.status = status;
                LoginStep::Refused(answer)
            }
        }
    }

    fn open(&self, cx: &mut LoginContext<'_>, took_over: bool) -> Result<Arc<Member>, Opened> {
        let broken = Opened::Refused(LoginStatus::InitiatorError);
        let (Some(identity), Some((isid, tsih, cid))) = (&self.identity, self.first) else {
            return Err(broken);
        };
        let name = session_name(identity, isid);
        let opening = Opening { name: &name, tsih, cid, params: self.params.settled() };
        // What was allowed when the login began may have been taken away since.
        let request = match identity.target {
            None => None,
            Some(_) => Some(self.session_request(cx, identity, isid).map_err(Opened::Refused)?),
        };
        let sessions = cx.sessions;
        let opened = cx.directory.open(&opening, took_over, || match request {
            None => Some(None),
            Some(request) => sessions.open(request).map(Some),
        });
        opened.map_err(|refused| match refused {
            OpenRefused::Wait => Opened::Wait,
            OpenRefused::Unknown | OpenRefused::TooManyConnections | OpenRefused::Full => {
                Opened::Refused(refusal(refused))
            }
        })
    }

    /// The session as the block layer is to know it.
    fn session_request(
        &self,
        cx: &LoginContext<'_>,
        identity: &Identity,
        isid: [u8; 6],
    ) -> Result<SessionRequest, LoginStatus> {
        let subsystem =
            identity.target.and_then(|id| cx.exports.subsystem(id)).ok_or(LoginStatus::NotFound)?;
        let on_record = cx.exports.host_by_iqn(&identity.initiator).map(|host| host.id);
        let grant = cx.exports.access(subsystem, on_record).ok_or(LoginStatus::AuthorizationFailure)?;
        // Only now: a host that may not come in is not recorded.
        let own = holdfast_block::Identity::Iqn(identity.initiator.clone());
        let host = cx.hosts.resolve(cx.exports, &own).ok_or(LoginStatus::OutOfResources)?;
        let initiator = InitiatorPort::new(&identity.initiator, isid).ok_or(LoginStatus::InitiatorError)?;
        let target = TargetPort { subsystem: subsystem.id, relative: RELATIVE_TARGET_PORT };
        Ok(SessionRequest {
            host: cx.exports.canonical(host),
            transport: Transport::Iscsi,
            peer: self.peer,
            subsystem: subsystem.id,
            view: grant.iscsi_view,
            authenticated: self.auth.is_proven(),
            label: label(isid),
            header_digest: self.params.header_digest,
            data_digest: self.params.data_digest,
            since: cx.unix_seconds,
            nexus: Nexus::Scsi { initiator, target },
        })
    }
}

/// Why there is no session yet.
enum Opened {
    Wait,
    Refused(LoginStatus),
}

/// Most keys of a login: several times those of the standard.
const SEEN_MAX: usize = 512;

/// The only target port of a subsystem.
const RELATIVE_TARGET_PORT: u16 = 1;

fn session_name(identity: &Identity, isid: [u8; 6]) -> SessionName {
    SessionName { initiator: identity.initiator.clone(), isid, subsystem: identity.target }
}

/// For people.
fn label(isid: [u8; 6]) -> String {
    let digits: String = isid.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("isid {digits}")
}

fn refusal(refused: OpenRefused) -> LoginStatus {
    match refused {
        OpenRefused::Unknown => LoginStatus::SessionDoesNotExist,
        OpenRefused::TooManyConnections => LoginStatus::TooManyConnections,
        OpenRefused::Full | OpenRefused::Wait => LoginStatus::OutOfResources,
    }
}

impl FullFeature {
    /// In the block layer; `None`: discovery.
    pub fn session(&self) -> Option<&Arc<Session>> {
        self.member.session.as_ref()
    }
}
