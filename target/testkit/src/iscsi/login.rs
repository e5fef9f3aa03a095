//! Logging in: stages, negotiation, CHAP. RFC 7143 §6 "Login and Full Feature Phase Negotiation", §11.12, §11.13.

use std::net::ToSocketAddrs;
use std::time::Duration;

use super::chap::{Algorithm, Chap, Identity};
use super::connection::{Connection, describe};
use super::pdu::{Pdu, opcode};
use super::text::{self, Pairs};
use crate::Error;
use crate::wire::Digests;

/// Stages. RFC 7143 §11.12.3 "CSG and NSG".
const SECURITY: u8 = 0;
const OPERATIONAL: u8 = 1;
const FULL_FEATURE: u8 = 3;

/// T bit: ready to go to the next stage.
const TRANSIT: u8 = 0x80;
/// Answers that a stage may take; a target that needs more goes in circles.
const STEPS_MAX: usize = 16;
/// The largest data segment that this side takes.
const MAX_RECV: usize = 256 << 10;

/// How a session is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// InitiatorName.
    pub initiator: String,
    /// TargetName; with `None` it is a discovery session.
    pub target: Option<String>,
    /// ISID.
    pub isid: [u8; 6],
    /// TSIH: 0 for a new session.
    pub tsih: u16,
    /// CID.
    pub cid: u16,
    /// CmdSN to start with.
    pub cmd_sn: u32,
    /// CHAP, if this side is ready for it.
    pub chap: Option<Chap>,
    /// Operational keys and values to propose.
    pub keys: Pairs,
    /// How long one read or write may wait.
    pub limit: Duration,
}

/// What a Login Response said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginAnswer {
    /// The PDU.
    pub pdu: Pdu,
    /// Its keys and values.
    pub keys: Pairs,
}

/// What has been agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Params {
    /// The session's identifier.
    pub tsih: u16,
    /// Every key that the target sent, in order.
    pub answers: Pairs,
    /// Digests in use.
    pub digests: Digests,
    /// The largest data segment that the target takes, in bytes.
    pub max_send: usize,
    /// FirstBurstLength in bytes.
    pub first_burst: usize,
    /// MaxBurstLength in bytes.
    pub max_burst: usize,
    /// InitialR2T: data beyond the immediate must be asked for.
    pub initial_r2t: bool,
    /// ImmediateData: a command may carry data.
    pub immediate_data: bool,
}

impl Login {
    /// A normal session, with what stock initiators propose: immediate data, InitialR2T=No, no digests, no CHAP.
    #[must_use]
    pub fn new(initiator: &str, target: &str) -> Self {
        let proposals = [
            ("HeaderDigest", "None"),
            ("DataDigest", "None"),
            ("InitialR2T", "No"),
            ("ImmediateData", "Yes"),
            ("MaxBurstLength", "262144"),
            ("FirstBurstLength", "65536"),
            ("MaxOutstandingR2T", "1"),
            ("MaxConnections", "1"),
            ("DataPDUInOrder", "Yes"),
            ("DataSequenceInOrder", "Yes"),
        ];
        let mut login = Self { target: Some(target.to_owned()), ..Self::discovery(initiator) };
        for (key, value) in proposals {
            login = login.key(key, value);
        }
        login
    }

    /// A discovery session.
    #[must_use]
    pub fn discovery(initiator: &str) -> Self {
        let login = Self {
            initiator: initiator.to_owned(),
            target: None,
            isid: [0x80, 0x12, 0x34, 0x56, 0, 1],
            tsih: 0,
            cid: 0,
            cmd_sn: 1,
            chap: None,
            keys: Vec::new(),
            // Long enough for a target under sanitizers on a busy machine; an expected answer never takes it.
            limit: Duration::from_secs(20),
        };
        let defaults = [("ErrorRecoveryLevel", "0"), ("DefaultTime2Wait", "2"), ("DefaultTime2Retain", "0")];
        let login = defaults.into_iter().fold(login, |login, (key, value)| login.key(key, value));
        login.key("MaxRecvDataSegmentLength", &MAX_RECV.to_string())
    }

    /// Proposes this value of a key, instead of another one if it was proposed before.
    #[must_use]
    pub fn key(mut self, key: &str, value: &str) -> Self {
        match self.keys.iter_mut().find(|(name, _)| name == key) {
            Some((_, proposed)) => value.clone_into(proposed),
            None => self.keys.push((key.to_owned(), value.to_owned())),
        }
        self
    }

    /// Proposes nothing about this key.
    #[must_use]
    pub fn without(mut self, key: &str) -> Self {
        self.keys.retain(|(name, _)| name != key);
        self
    }

    /// Proposes digests, CRC32C alone where they are wanted.
    #[must_use]
    pub fn digests(self, header: bool, data: bool) -> Self {
        let word = |wanted| if wanted { "CRC32C" } else { "None" };
        self.key("HeaderDigest", word(header)).key("DataDigest", word(data))
    }

    /// With CHAP.
    #[must_use]
    pub fn chap(self, chap: Chap) -> Self {
        Self { chap: Some(chap), ..self }
    }

    /// With the last two bytes of the ISID set: another session of the same initiator.
    #[must_use]
    pub fn qualifier(mut self, qualifier: u16) -> Self {
        let [head @ .., _, _] = self.isid;
        let [high, low] = qualifier.to_be_bytes();
        let [a, b, c, d] = head;
        self.isid = [a, b, c, d, high, low];
        self
    }

    /// The keys that open a login, before any others.
    #[must_use]
    pub fn names(&self) -> Pairs {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let mut pairs = vec![pair("InitiatorName", &self.initiator)];
        match &self.target {
            Some(target) => {
                pairs.push(pair("SessionType", "Normal"));
                pairs.push(pair("TargetName", target));
            }
            None => pairs.push(pair("SessionType", "Discovery")),
        }
        pairs
    }

    /// A Login Request with this stage, which proposes to go to `next` where there is one.
    #[must_use]
    pub fn request(&self, stage: u8, next: Option<u8>, pairs: &[(String, String)]) -> Pdu {
        let flags = stage << 2 | next.map_or(0, |next| TRANSIT | next);
        Pdu::new(opcode::LOGIN)
            .immediate()
            .flags(flags)
            .bytes(8, &self.isid)
            .bytes(14, &self.tsih.to_be_bytes())
            .itt(0)
            .bytes(20, &self.cid.to_be_bytes())
            .word(24, self.cmd_sn)
            .data(text::encode(pairs))
    }

    /// Connects and logs in.
    ///
    /// # Errors
    /// [`Error::LoginRefused`] with the status when the target refuses; otherwise what went wrong.
    pub fn open(&self, portal: impl ToSocketAddrs) -> Result<(Connection, Params, u32), Error> {
        let mut connection = Connection::raw(portal, self.limit)?;
        let (params, exp_stat_sn) = self.run(&mut connection)?;
        Ok((connection, params, exp_stat_sn))
    }

    /// Logs in over a connection on which nothing has been sent. Also gives the StatSN that comes next.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn run(&self, connection: &mut Connection) -> Result<(Params, u32), Error> {
        let mut run = Run { login: self, connection, answers: Vec::new(), exp_stat_sn: 0, tsih: 0 };
        let mut opening = self.names();
        if let Some(chap) = &self.chap {
            run.security(chap, opening)?;
            opening = Vec::new();
        } else {
            opening.push(("AuthMethod".to_owned(), "None".to_owned()));
            run.stage(SECURITY, OPERATIONAL, opening)?;
            opening = Vec::new();
        }
        opening.extend_from_slice(&self.keys);
        run.stage(OPERATIONAL, FULL_FEATURE, opening)?;
        let (params, exp_stat_sn) = (self.params(run.answers, run.tsih)?, run.exp_stat_sn);
        connection.set_digests(params.digests);
        Ok((params, exp_stat_sn))
    }

    /// What holds after these answers. A key that one side did not mention keeps its default. RFC 7143 §13.
    fn params(&self, answers: Pairs, tsih: u16) -> Result<Params, Error> {
        let answer = |key: &str| text::value(&answers, key);
        let size = |key: &str, default: usize| -> Result<usize, Error> {
            answer(key).map_or(Ok(default), |value| {
                value.parse().map_err(|_| Error::unexpected(format!("a number for {key}"), value))
            })
        };
        let digest = |key: &str| answer(key) == Some("CRC32C");
        Ok(Params {
            tsih,
            digests: Digests { header: digest("HeaderDigest"), data: digest("DataDigest") },
            max_send: size("MaxRecvDataSegmentLength", 8192)?,
            first_burst: size("FirstBurstLength", 65_536)?,
            max_burst: size("MaxBurstLength", 262_144)?,
            initial_r2t: answer("InitialR2T") != Some("No"),
            immediate_data: answer("ImmediateData") != Some("No"),
            answers,
        })
    }
}

/// A login under way.
struct Run<'a> {
    login: &'a Login,
    connection: &'a mut Connection,
    answers: Pairs,
    exp_stat_sn: u32,
    tsih: u16,
}

impl Run<'_> {
    /// Goes through a stage in which this side says everything in its first request.
    fn stage(&mut self, stage: u8, next: u8, mut pairs: Pairs) -> Result<(), Error> {
        for _ in 0..STEPS_MAX {
            let answer = self.exchange(&self.login.request(stage, Some(next), &pairs))?;
            pairs = Vec::new();
            if answer.pdu.is_final() {
                return Ok(());
            }
        }
        Err(Error::unexpected(format!("the end of stage {stage}"), format!("{STEPS_MAX} answers without it")))
    }

    /// The security stage with CHAP.
    fn security(&mut self, chap: &Chap, mut opening: Pairs) -> Result<(), Error> {
        opening.push(("AuthMethod".to_owned(), "CHAP".to_owned()));
        let answer = self.exchange(&self.login.request(SECURITY, None, &opening))?;
        if text::value(&answer.keys, "AuthMethod") != Some("CHAP") {
            return Err(Error::unexpected("AuthMethod=CHAP", format!("{:?}", answer.keys)));
        }
        let numbers: Vec<&str> = chap.algorithms.iter().map(|algorithm| algorithm.number()).collect();
        let offer = [("CHAP_A".to_owned(), numbers.join(","))];
        let asked = self.exchange(&self.login.request(SECURITY, None, &offer))?.keys;
        let missing = |what: &str| Error::unexpected(what, format!("{asked:?}"));
        let algorithm = text::value(&asked, "CHAP_A").and_then(Algorithm::of);
        let algorithm = algorithm.ok_or_else(|| missing("CHAP_A"))?;
        let id = text::value(&asked, "CHAP_I").and_then(|id| id.parse::<u8>().ok());
        let id = id.ok_or_else(|| missing("CHAP_I"))?;
        let challenge = text::value(&asked, "CHAP_C").and_then(text::binary);
        let challenge = challenge.ok_or_else(|| missing("CHAP_C"))?;
        let response = algorithm.respond(id, &chap.own.secret, &challenge);
        let mut pairs =
            vec![("CHAP_N".to_owned(), chap.own.name.clone()), ("CHAP_R".to_owned(), text::hex(&response))];
        let back =
            chap.target.as_ref().map(|target| (target, chap.challenge.clone().unwrap_or((id, challenge))));
        if let Some((_, (id, challenge))) = &back {
            pairs.push(("CHAP_I".to_owned(), id.to_string()));
            pairs.push(("CHAP_C".to_owned(), text::hex(challenge)));
        }
        let answer = self.exchange(&self.login.request(SECURITY, Some(OPERATIONAL), &pairs))?;
        if let Some((target, (id, challenge))) = &back {
            check_target(target, &algorithm.respond(*id, &target.secret, challenge), &answer.keys)?;
        }
        if answer.pdu.is_final() {
            return Ok(());
        }
        self.stage(SECURITY, OPERATIONAL, Vec::new())
    }

    /// One request, one answer that accepts it.
    fn exchange(&mut self, request: &Pdu) -> Result<LoginAnswer, Error> {
        self.connection.send(&request.clone().word(28, self.exp_stat_sn))?;
        let pdu = self.connection.recv_opcode(opcode::LOGIN_RESPONSE)?;
        let (class, detail) = (pdu.byte_at(36), pdu.byte_at(37));
        let keys = text::decode(&pdu.data);
        if class != 0 {
            return Err(Error::LoginRefused { class, detail, keys: keys.unwrap_or_default() });
        }
        let keys = keys.ok_or_else(|| Error::unexpected("pairs of keys and values", describe(&pdu)))?;
        self.exp_stat_sn = pdu.stat_sn().wrapping_add(1);
        let [high, low] = [pdu.byte_at(14), pdu.byte_at(15)];
        self.tsih = u16::from_be_bytes([high, low]);
        self.answers.extend_from_slice(&keys);
        Ok(LoginAnswer { pdu, keys })
    }
}

fn check_target(target: &Identity, expected: &[u8], keys: &[(String, String)]) -> Result<(), Error> {
    let name = text::value(keys, "CHAP_N");
    let response = text::value(keys, "CHAP_R").and_then(text::binary);
    if name == Some(&target.name) && response.as_deref() == Some(expected) {
        return Ok(());
    }
    let wanted = format!("CHAP_N={} and CHAP_R={}", target.name, text::hex(expected));
    Err(Error::unexpected(wanted, format!("{keys:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_request_says_who_where_and_from_which_stage() {
        let login = Login::new("iqn.a", "iqn.t").qualifier(0x0203);
        let pdu = login.request(SECURITY, Some(OPERATIONAL), &login.names());
        assert_eq!(pdu.bhs[..2], [0x43, 0x81]);
        assert_eq!(pdu.bhs[8..16], [0x80, 0x12, 0x34, 0x56, 2, 3, 0, 0]);
        assert_eq!(pdu.data, b"InitiatorName=iqn.a\0SessionType=Normal\0TargetName=iqn.t\0");
        assert_eq!(login.request(OPERATIONAL, None, &[]).byte_at(1), 0x04);
        assert_eq!(login.request(OPERATIONAL, Some(FULL_FEATURE), &[]).byte_at(1), 0x87);
    }

    #[test]
    fn a_key_is_proposed_once() {
        let login =
            Login::new("iqn.a", "iqn.t").digests(true, false).key("X-new", "1").without("ErrorRecoveryLevel");
        assert_eq!(login.keys.iter().filter(|(key, _)| key == "HeaderDigest").count(), 1);
        assert_eq!(text::value(&login.keys, "HeaderDigest"), Some("CRC32C"));
        assert_eq!(text::value(&login.keys, "X-new"), Some("1"));
        assert_eq!(text::value(&login.keys, "ErrorRecoveryLevel"), None);
    }
}
