//! Tokens with which agents prove whose report it is. A host without one takes reports from whoever may use the API.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use holdfast_contract::HostId;
use serde::Serialize;
use sha2::{Digest, Sha256};
use utoipa::ToSchema;

use super::App;
use super::events::{Event, EventKind};
use super::hosts::find;
use crate::clock::{now_ms, rfc3339};
use crate::db::tokens::TokenRow;
use crate::db::{Conn, tokens};
use crate::error::{Error, Result};

/// Random bytes of a token.
const TOKEN_BYTES: usize = 32;
/// What tokens begin with, so that one that got lost is known for what it is.
const PREFIX: &str = "holdfast-agent-";

/// A new token: this is the only time that it is shown.
#[derive(Serialize, ToSchema)]
pub struct NewToken {
    /// For `holdfast-agent run --token-file`, or as `Authorization: Bearer`.
    #[schema(pattern = "^holdfast-agent-[A-Za-z0-9_-]{43}$")]
    pub token: String,
    /// When it was made.
    #[schema(format = DateTime)]
    pub created: String,
}

/// That there is a token.
#[derive(Debug, Serialize, ToSchema)]
pub struct Token {
    /// When it was made.
    #[schema(format = DateTime)]
    pub created: String,
}

impl App {
    /// Makes a host's token; the one before is no longer taken.
    pub async fn create_token(&self, name: &str) -> Result<NewToken> {
        let mut change = self.change().await?;
        let host = find(change.db(), name).await?;
        let mut random = [0; TOKEN_BYTES];
        getrandom::fill(&mut random).map_err(|error| Error::Stored(format!("no randomness: {error}")))?;
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(random));
        let row = TokenRow { time_ms: now_ms(), sha256: digest(&token) };
        tokens::put(change.db(), host.id, &row).await?;
        change.announce(Event::object(EventKind::Host, name, "token-made"));
        change.commit().await?;
        Ok(NewToken { token, created: rfc3339(row.time_ms) })
    }

    /// Whether a host has a token, and since when.
    pub async fn token(&self, name: &str) -> Result<Token> {
        let mut tx = self.db.read().await?;
        let host = find(&mut tx, name).await?;
        let row = tokens::of(&mut tx, host.id).await?.ok_or_else(|| missing(name))?;
        Ok(Token { created: rfc3339(row.time_ms) })
    }

    /// Takes a host's token away: its reports need none from now on.
    pub async fn delete_token(&self, name: &str) -> Result<()> {
        let mut change = self.change().await?;
        let host = find(change.db(), name).await?;
        if !tokens::delete(change.db(), host.id).await? {
            return Err(missing(name));
        }
        change.announce(Event::object(EventKind::Host, name, "token-removed"));
        change.commit().await
    }
}

/// That whoever sends a report for the host may do so. What they show has to be right even where nothing is asked for, so that an
/// agent with an old token does not seem to be well.
pub(super) async fn demand(conn: &mut Conn, host: HostId, shown: Option<&str>) -> Result<()> {
    match (tokens::of(conn, host).await?, shown) {
        (None, None) => Ok(()),
        // The digests are compared, whose bytes nobody can choose: how long that takes tells nothing of the token.
        (Some(kept), Some(shown)) if digest(shown) == kept.sha256 => Ok(()),
        (Some(_), None) => Err(Error::Unauthorized(
            "this host's reports need its token: give the agent --token-file with what `holdfast host token` printed",
        )),
        (_, Some(_)) => Err(Error::Unauthorized(
            "that is not this host's token: make one with `holdfast host token`, or let the agent send none",
        )),
    }
}

fn digest(token: &str) -> Vec<u8> {
    Sha256::digest(token.as_bytes()).to_vec()
}

fn missing(name: &str) -> Error {
    Error::missing("token", format!("of {name}"))
}
