//! Text in the full feature phase. RFC 7143 §11.10 "Text Request" and §11.11 "Text Response".
//!
//! SendTargets, and MaxRecvDataSegmentLength anew. An answer longer than the initiator takes at once comes in parts, each
//! asked for by an empty Text Request with the Target Transfer Tag of the part before.

use holdfast_block::Exports;

use crate::directory::Directory;
use crate::discovery::{Asker, send_targets};
use crate::negotiation_limits::KEYS_MAX;
use crate::params::{Params, Reply, declare_len, is_declared, is_operational};
use crate::text::{Assembler, parse, put};

/// Target Transfer Tag of requests that begin and responses that end an exchange.
pub const NO_TAG: u32 = 0xffff_ffff;

/// A Text Request, without its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextRequest {
    /// F bit.
    pub is_final: bool,
    /// C bit.
    pub continues: bool,
    /// Initiator Task Tag.
    pub itt: u32,
    /// Target Transfer Tag.
    pub ttt: u32,
}

/// What is sent back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextStep {
    /// A Text Response.
    Answer(TextAnswer),
    /// A Reject with this reason; the exchange is over and has changed nothing.
    Reject(u8),
}

/// A Text Response, but for its sequence numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TextAnswer {
    /// F bit.
    pub is_final: bool,
    /// C bit.
    pub continues: bool,
    /// Initiator Task Tag.
    pub itt: u32,
    /// Target Transfer Tag.
    pub ttt: u32,
    /// Text.
    pub data: Vec<u8>,
}

/// Reject reason: RFC 7143 §11.17.1 "Reason".
const PROTOCOL_ERROR: u8 = 0x04;

/// Reject reason: as above.
const INVALID_FIELD: u8 = 0x09;

/// The text exchange of a session.
#[derive(Debug)]
pub struct TextPhase {
    asker: Asker,
    last_ttt: u32,
    under_way: Option<Exchange>,
}

#[derive(Debug, Default)]
struct Exchange {
    itt: u32,
    ttt: u32,
    assembler: Assembler,
    /// Keys that were settled.
    seen: Vec<String>,
    /// What is still to be sent.
    left: Vec<u8>,
    max_recv: Option<u32>,
    /// The initiator has told everything: what follows are parts of our answer.
    told: bool,
}

impl TextPhase {
    /// None is under way.
    pub fn new(asker: Asker) -> TextPhase {
        TextPhase { asker, last_ttt: 0, under_way: None }
    }

    /// Takes a Text Request. `params` change when an exchange ends.
    pub fn take(
        &mut self,
        directory: &Directory,
        exports: &Exports,
        params: &mut Params,
        request: TextRequest,
        data: &[u8],
    ) -> TextStep {
        let begins = request.ttt == NO_TAG;
        let under_way = self.under_way.take();
        let exchange = match under_way {
            // A new exchange ends the one before, RFC 7143 §11.10.4 "Target Transfer Tag".
            _ if begins => Exchange { itt: request.itt, ..Exchange::default() },
            Some(exchange) if exchange.itt == request.itt && exchange.ttt == request.ttt => exchange,
            _ => return TextStep::Reject(INVALID_FIELD),
        };
        if request.is_final && request.continues {
            return TextStep::Reject(PROTOCOL_ERROR);
        }
        self.go_on(exchange, directory, exports, params, request, data)
            .unwrap_or(TextStep::Reject(PROTOCOL_ERROR))
    }

    fn go_on(
        &mut self,
        mut exchange: Exchange,
        directory: &Directory,
        exports: &Exports,
        params: &mut Params,
        request: TextRequest,
        data: &[u8],
    ) -> Option<TextStep> {
        if exchange.told && (!data.is_empty() || request.continues) {
            return None;
        }
        let text = exchange.assembler.push(data, request.continues).ok()?;
        if let Some(text) = &text {
            self.settle(&mut exchange, directory, exports, text)?;
        }
        exchange.told |= request.is_final;
        let all = holdfast_mutant::active("planted-part");
        let room =
            if all { usize::MAX } else { usize::try_from(params.max_recv_initiator).unwrap_or(usize::MAX) };
        let data: Vec<u8> = match &text {
            Some(_) => exchange.left.drain(..exchange.left.len().min(room)).collect(),
            // A request with the C bit is answered with nothing.
            None => Vec::new(),
        };
        let continues = text.is_some() && !exchange.left.is_empty();
        let is_final = exchange.told && !continues;
        let mut answer = TextAnswer { is_final, continues, itt: request.itt, ttt: NO_TAG, data };
        if is_final {
            params.max_recv_initiator = exchange.max_recv.unwrap_or(params.max_recv_initiator);
        } else {
            // Tags count from 1 and stay clear of the reserved one.
            self.last_ttt = if self.last_ttt >= NO_TAG - 1 { 1 } else { self.last_ttt + 1 };
            exchange.ttt = self.last_ttt;
            answer.ttt = self.last_ttt;
            self.under_way = Some(exchange);
        }
        Some(TextStep::Answer(answer))
    }

    /// Answers all pairs of a text; `None`: the exchange has failed.
    fn settle(
        &self,
        exchange: &mut Exchange,
        directory: &Directory,
        exports: &Exports,
        text: &[u8],
    ) -> Option<()> {
        for (key, value) in parse(text).ok()? {
            let again = exchange.seen.iter().any(|seen| seen == key);
            if again || exchange.seen.len() >= KEYS_MAX {
                return None;
            }
            exchange.seen.push(key.to_owned());
            match key {
                "SendTargets" => {
                    let told = send_targets(directory, exports, &self.asker, value, &mut exchange.left);
                    if told.is_none() {
                        put(&mut exchange.left, key, "Reject");
                    }
                }
                "MaxRecvDataSegmentLength" => {
                    let mut len = 0;
                    if declare_len(value, &mut len) == Reply::Failed {
                        return None;
                    }
                    exchange.max_recv = Some(len);
                }
                "InitiatorAlias" | "X#NodeArchitecture" => {}
                _ if is_operational(key) || is_declared(key) => put(&mut exchange.left, key, "Reject"),
                _ => put(&mut exchange.left, key, "NotUnderstood"),
            }
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use holdfast_block::{Portal, Subsystem, SubsystemId};
    use proptest::prelude::*;

    use super::*;

    fn exports(open: u64) -> Exports {
        let subsystem = |id: u64, allow_any_host: bool| Subsystem {
            id: SubsystemId::new(id).unwrap(),
            name: format!("s{id}"),
            nqn: String::new(),
            iqn: format!("iqn.2026-11.io.holdfast:s{id}"),
            allow_any_host,
            namespaces: BTreeMap::new(),
            grants: HashMap::new(),
        };
        let closed = subsystem(open + 1, false);
        Exports::new(1, (1..=open).map(|id| subsystem(id, true)).chain([closed]).collect(), vec![])
    }

    fn directory(advertised: Option<&str>) -> Directory {
        let portal = |listening: &str| Portal {
            advertised: advertised.map(|address| address.parse().unwrap()),
            listening: listening.parse().unwrap(),
        };
        Directory::new(vec![portal("0.0.0.0:3260"), portal("[::1]:3261")])
    }

    fn phase(subsystem: Option<u64>) -> TextPhase {
        TextPhase::new(Asker {
            initiator: "iqn.a".into(),
            local: "192.0.2.9:3260".parse().unwrap(),
            portal: 0,
            subsystem: subsystem.map(|id| SubsystemId::new(id).unwrap()),
        })
    }

    const WHOLE: TextRequest = TextRequest { is_final: true, continues: false, itt: 5, ttt: NO_TAG };

    fn ask(phase: &mut TextPhase, directory: &Directory, request: TextRequest, text: &str) -> TextStep {
        let data = text.replace(' ', "\0");
        phase.take(directory, &exports(2), &mut Params::default(), request, data.as_bytes())
    }

    fn answered(step: TextStep) -> String {
        match step {
            TextStep::Answer(answer) => {
                assert!(answer.is_final && !answer.continues && answer.ttt == NO_TAG && answer.itt == 5);
                String::from_utf8(answer.data).unwrap().replace('\0', " ").trim_end().to_owned()
            }
            TextStep::Reject(reason) => panic!("{reason}"),
        }
    }

    const S1: &str =
        "TargetName=iqn.2026-11.io.holdfast:s1 TargetAddress=192.0.2.9:3260,1 TargetAddress=[::1]:3261,1";

    #[test]
    fn targets_are_told_that_the_asker_may_use() {
        let all = answered(ask(&mut phase(None), &directory(None), WHOLE, "SendTargets=All"));
        assert_eq!(all, format!("{S1} {}", S1.replace("s1", "s2")));
        let one = answered(ask(
            &mut phase(None),
            &directory(None),
            WHOLE,
            "SendTargets=iqn.2026-11.io.holdfast:s1",
        ));
        assert_eq!(one, S1);
        for hidden in ["iqn.2026-11.io.holdfast:s3", "iqn.none"] {
            let text = format!("SendTargets={hidden}");
            assert_eq!(answered(ask(&mut phase(None), &directory(None), WHOLE, &text)), "");
        }
        assert_eq!(
            answered(ask(&mut phase(None), &directory(None), WHOLE, "SendTargets=")),
            "SendTargets=Reject"
        );
    }

    #[test]
    fn a_normal_session_learns_of_its_own_target_only() {
        for text in ["SendTargets=", "SendTargets=iqn.2026-11.io.holdfast:s1"] {
            assert_eq!(answered(ask(&mut phase(Some(1)), &directory(None), WHOLE, text)), S1);
        }
        let ask = |text| answered(ask(&mut phase(Some(1)), &directory(None), WHOLE, text));
        assert_eq!(ask("SendTargets=iqn.2026-11.io.holdfast:s2"), "");
        assert_eq!(ask("SendTargets=All"), "SendTargets=Reject");
    }

    #[test]
    fn an_advertised_address_is_told_once() {
        let text = "SendTargets=iqn.2026-11.io.holdfast:s1";
        let told = answered(ask(&mut phase(None), &directory(Some("[2001:db8::1]:3260")), WHOLE, text));
        assert_eq!(told, "TargetName=iqn.2026-11.io.holdfast:s1 TargetAddress=[2001:db8::1]:3260,1");
    }

    #[test]
    fn keys_of_the_login_are_over() {
        let told = answered(ask(
            &mut phase(Some(1)),
            &directory(None),
            WHOLE,
            "HeaderDigest=None InitiatorName=iqn.a X-odd=1 InitiatorAlias=me",
        ));
        assert_eq!(told, "HeaderDigest=Reject InitiatorName=Reject X-odd=NotUnderstood");
    }

    #[test]
    fn a_long_answer_comes_in_parts() {
        let (directory, exports) = (directory(None), exports(40));
        let mut params = Params { max_recv_initiator: 512, ..Params::default() };
        let mut phase = phase(None);
        let mut told = Vec::new();
        let mut request = WHOLE;
        let mut text: &[u8] = b"SendTargets=All\0";
        loop {
            match phase.take(&directory, &exports, &mut params, request, text) {
                TextStep::Answer(part) => {
                    assert!(part.data.len() <= 512);
                    assert!(part.is_final != part.continues && part.is_final == (part.ttt == NO_TAG));
                    told.extend_from_slice(&part.data);
                    if part.is_final {
                        break;
                    }
                    request = TextRequest { ttt: part.ttt, ..WHOLE };
                    text = b"";
                }
                TextStep::Reject(reason) => panic!("{reason}"),
            }
        }
        assert_eq!(parse(&told).unwrap().len(), 40 * 3);
    }

    #[test]
    fn a_declared_length_holds_when_the_exchange_ends() {
        let (directory, exports) = (directory(None), exports(1));
        let mut params = Params::default();
        let mut phase = phase(Some(1));
        let open = TextRequest { is_final: false, ..WHOLE };
        let text = b"MaxRecvDataSegmentLength=4096\0";
        let TextStep::Answer(first) = phase.take(&directory, &exports, &mut params, open, text) else {
            panic!()
        };
        assert!(!first.is_final && first.ttt != NO_TAG && params.max_recv_initiator == 8192);
        let last = TextRequest { ttt: first.ttt, ..WHOLE };
        let TextStep::Answer(last) = phase.take(&directory, &exports, &mut params, last, b"") else {
            panic!()
        };
        assert!(last.is_final && params.max_recv_initiator == 4096);
        for bad in [&b"MaxRecvDataSegmentLength=1\0"[..], b"A=1\0A=1\0", b"A\0"] {
            let step = phase.take(&directory, &exports, &mut params, WHOLE, bad);
            assert_eq!(step, TextStep::Reject(PROTOCOL_ERROR));
        }
        let stray = TextRequest { ttt: 77, ..WHOLE };
        let step = phase.take(&directory, &exports, &mut params, stray, b"");
        assert_eq!(step, TextStep::Reject(INVALID_FIELD));
        assert_eq!(params.max_recv_initiator, 4096);
    }

    proptest! {
        #[test]
        fn any_exchange_has_a_defined_answer(
            requests in proptest::collection::vec(
                (any::<bool>(), any::<bool>(), any::<bool>(), "(SendTargets=All|A=|X-b=1|MaxRecvDataSegmentLength=512|\0){0,4}"),
                1..20,
            ),
        ) {
            let (directory, exports) = (directory(None), exports(20));
            let mut params = Params::default();
            let mut phase = phase(None);
            let mut ttt = NO_TAG;
            for (is_final, continues, anew, text) in requests {
                let request =
                    TextRequest { is_final, continues, itt: 5, ttt: if anew { NO_TAG } else { ttt } };
                let room = params.max_recv_initiator as usize;
                match phase.take(&directory, &exports, &mut params, request, text.as_bytes()) {
                    TextStep::Answer(answer) => {
                        prop_assert!(answer.data.len() <= room);
                        prop_assert!(!answer.is_final || !answer.continues);
                        ttt = answer.ttt;
                    }
                    TextStep::Reject(_) => ttt = NO_TAG,
                }
            }
        }
    }
}
