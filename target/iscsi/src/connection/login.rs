//! From the first PDU to the full feature phase. RFC 7143 §6.3 "Login Phase".

use holdfast_block::BlockPort;
use holdfast_pi::Digests;
use holdfast_scsi::Nexus;
use zerocopy::transmute_ref;

use super::transmit::Notice;
use super::{Connection, Context, Disposition, Full, Phase};
use crate::full_feature::TextPhase;
use crate::login::{FullFeature, LoginAnswer, LoginContext, LoginHead, LoginStep};
use crate::wire::{Bhs, FINAL, LoginRequest, LoginResponse, opcode, wire_len};

/// C bit of a Login Request.
const CONTINUE: u8 = 0x40;

impl Connection {
    pub(super) fn take_login<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, bhs: &Bhs, data: &[u8]) {
        let Phase::Login(login) = &mut self.phase else { return };
        if bhs.opcode() != opcode::LOGIN {
            if !login.has_begun() {
                // §6.3: before a login has begun there is nobody to tell.
                return self.lose(cx);
            }
            let step = login.other_request(bhs.itt.get());
            return self.login_step(cx, step);
        }
        let request: &LoginRequest = transmute_ref!(bhs);
        // Login Requests are immediate; the numbers of commands begin where theirs end.
        self.exp_cmd_sn = request.cmd_sn.get();
        let head = LoginHead {
            transit: request.flags & FINAL != 0,
            continues: request.flags & CONTINUE != 0,
            csg: request.flags >> 2 & 0b11,
            nsg: request.flags & 0b11,
            version_max: request.version_max,
            version_min: request.version_min,
            isid: request.isid,
            tsih: request.tsih.get(),
            itt: request.itt.get(),
            cid: request.cid.get(),
        };
        let step = login.take(&mut around(cx), &head, data);
        self.login_step(cx, step);
    }

    /// Looks again whether a login that waits for another session's end may go on.
    pub(super) fn resume_login<P: BlockPort>(&mut self, cx: &mut Context<'_, P>) {
        if let Phase::Login(login) = &mut self.phase
            && let Some(step) = login.resume(&mut around(cx))
        {
            self.login_step(cx, step);
        }
    }

    fn login_step<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, step: LoginStep) {
        match step {
            LoginStep::Wait => {}
            LoginStep::Answer(answer) => self.answer_login(answer),
            LoginStep::Refused(answer) => {
                self.answer_login(answer);
                self.phase = Phase::Over;
                self.end = Disposition::CloseAfterTransmit;
            }
            LoginStep::Done(answer, full) => {
                self.answer_login(answer);
                self.enter(cx, full);
            }
        }
    }

    fn enter<P: BlockPort>(&mut self, cx: &mut Context<'_, P>, full: FullFeature) {
        let FullFeature { params, member } = full;
        let nexus = match &member.session {
            None => None,
            Some(session) => {
                self.digest_counters = Some(cx.counters.digest(session.host));
                match Nexus::open(&mut cx.scsi(), std::sync::Arc::clone(session)) {
                    Some(nexus) => Some(nexus),
                    None => {
                        // Access was taken away in between.
                        cx.directory.close(&member, cx.sessions);
                        self.phase = Phase::Over;
                        self.end = Disposition::CloseNow;
                        return;
                    }
                }
            }
        };
        let text = TextPhase::new(self.asker(&member));
        self.digests = Digests { header: params.header_digest, data: params.data_digest };
        let longest = usize::try_from(params.max_recv_target).unwrap_or(usize::MAX);
        self.framer.negotiated(self.digests, longest);
        self.heard_ms = cx.now_ms;
        self.phase = Phase::Full(Box::new(Full { params, member, text, nexus }));
    }

    /// §11.13 "Login Response".
    fn answer_login(&mut self, answer: LoginAnswer) {
        let mut response = LoginResponse::new(opcode::LOGIN_RESPONSE);
        let transit = if answer.transit { FINAL } else { 0 };
        response.flags = transit | answer.csg << 2 | answer.nsg;
        response.data_len = wire_len(answer.data.len());
        response.isid = answer.isid;
        response.tsih.set(answer.tsih);
        response.itt.set(answer.itt);
        let (class, detail) = answer.status.code();
        response.status = [class, detail];
        self.notice(Notice::bare(response, answer.data));
    }
}

/// What surrounds the login.
fn around<'a, P: BlockPort>(cx: &'a mut Context<'_, P>) -> LoginContext<'a> {
    LoginContext {
        unix_seconds: cx.unix_seconds,
        exports: cx.exports,
        directory: cx.directory,
        hosts: cx.hosts,
        sessions: cx.sessions,
        random: &mut *cx.random,
    }
}
