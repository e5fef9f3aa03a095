//! Text in the full feature phase. RFC 7143 §11.10 "Text Request" and §11.11 "Text Response".
//!
//! SendTargets, and MaxRecvDataSegmentLength anew. An answer longer than the initiator takes at once comes in parts, each
//! asked for by an empty Text Request with the Target Transfer Tag of the part before.

use holdfast_block::Exports;

use crate::directory::Directory;
use crate::discovery::{Asker, send_targets};
use crate::negotiation_limits::KEYS_MAX;
use crate::params::{Params, Reply, declare_len, is_operational};
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
        let room = usize::try_from(params.max_recv_initiator).unwrap_or(usize::MAX);
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
                _ if is_operational(key) || is_for_login(key) => put(&mut exchange.left, key, "Reject"),
                _ => put(&mut exchange.left, key, "NotUnderstood"),
            }
        }
        Some(())
    }
}

/// Keys that are not negotiated and have had their time.
fn is_for_login(key: &str) -> bool {
    let named = ["InitiatorName", "TargetName", "SessionType", "AuthMethod"].contains(&key);
    let ours = ["TargetAlias", "TargetAddress", "TargetPortalGroupTag"].contains(&key);
    named || ours || key.starts_with("CHAP_")
}
