//! What hosts prove themselves with: CHAP over iSCSI. Secrets go in and never come out.

use holdfast_contract::{DesiredChap, DesiredMutual, Secret};
use serde::Serialize;
use utoipa::ToSchema;

use crate::error::{Error, Fault, Result};

/// Longest name and secret: what common initiators take.
const LEN_MAX: usize = 255;
/// Shortest secret: RFC 7143 §12.1.3 wants 96 bits at least.
const SECRET_LEN_MIN: usize = 12;

/// How a host proves itself, when it is registered.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewAuth {
    /// CHAP over iSCSI.
    pub chap: Option<NewChap>,
}

/// Names and secrets for CHAP. The secrets are in no answer.
#[derive(Clone, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewChap {
    /// Name that the host gives: 1 to 255 printable ASCII characters.
    #[schema(min_length = 1, max_length = 255, pattern = "^[ -~]+$")]
    pub user: String,
    /// What only the host and the target know: 12 to 255 printable ASCII characters.
    #[schema(min_length = 12, max_length = 255, pattern = "^[ -~]+$", write_only)]
    pub secret: String,
    /// Name that the target gives when the host asks it to prove itself; with `mutual_secret` or not at all.
    #[schema(min_length = 1, max_length = 255, pattern = "^[ -~]+$")]
    pub mutual_user: Option<String>,
    /// What the target proves itself with; another one than `secret`.
    #[schema(min_length = 12, max_length = 255, pattern = "^[ -~]+$", write_only)]
    pub mutual_secret: Option<String>,
}

impl std::fmt::Debug for NewChap {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewChap").field("user", &self.user).finish_non_exhaustive()
    }
}

/// What changes of how a host proves itself. Null takes away; what is not there stays.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthPatch {
    /// CHAP over iSCSI.
    #[schema(value_type = Option<ChapPatch>)]
    pub chap: Option<Option<ChapPatch>>,
}

/// What changes of names and secrets for CHAP.
#[derive(Clone, Default, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChapPatch {
    /// As in [`NewChap`].
    #[schema(nullable = false, min_length = 1, max_length = 255, pattern = "^[ -~]+$")]
    pub user: Option<String>,
    /// As in [`NewChap`].
    #[schema(nullable = false, min_length = 12, max_length = 255, pattern = "^[ -~]+$", write_only)]
    pub secret: Option<String>,
    /// As in [`NewChap`].
    #[schema(value_type = Option<String>, min_length = 1, max_length = 255, pattern = "^[ -~]+$")]
    pub mutual_user: Option<Option<String>>,
    /// As in [`NewChap`].
    #[schema(value_type = Option<String>, min_length = 12, max_length = 255, pattern = "^[ -~]+$", write_only)]
    pub mutual_secret: Option<Option<String>>,
}

impl std::fmt::Debug for ChapPatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChapPatch").field("user", &self.user).finish_non_exhaustive()
    }
}

/// How a host proves itself, as far as that is told.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Auth {
    /// CHAP over iSCSI; null: it need not.
    pub chap: Option<Chap>,
}

/// The names of CHAP.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Chap {
    /// Name that the host gives.
    pub user: String,
    /// Name that the target gives when it is asked to; null: it refuses to prove itself.
    pub mutual_user: Option<String>,
}

impl Auth {
    pub(super) fn of(chap: Option<&DesiredChap>) -> Self {
        let names = |chap: &DesiredChap| Chap {
            user: chap.user.clone(),
            mutual_user: chap.mutual.as_ref().map(|mutual| mutual.user.clone()),
        };
        Self { chap: chap.map(names) }
    }
}

/// All of it at once.
pub(super) fn from_new(new: NewAuth) -> Result<Option<DesiredChap>> {
    let Some(chap) = new.chap else { return Ok(None) };
    checked(Some(chap.user), Some(chap.secret), chap.mutual_user, chap.mutual_secret).map(Some)
}

/// What it is after a patch (RFC 7396).
pub(super) fn patched(before: Option<DesiredChap>, patch: AuthPatch) -> Result<Option<DesiredChap>> {
    let Some(patch) = patch.chap else { return Ok(before) };
    let Some(patch) = patch else { return Ok(None) };
    let (mut user, mut secret, mut mutual) = (None, None, None);
    if let Some(before) = before {
        user = Some(before.user);
        secret = Some(before.secret.reveal().to_owned());
        mutual = before.mutual.map(|mutual| (mutual.user, mutual.secret.reveal().to_owned()));
    }
    let (mutual_user, mutual_secret) = mutual.unzip();
    checked(
        patch.user.or(user),
        patch.secret.or(secret),
        patch.mutual_user.unwrap_or(mutual_user),
        patch.mutual_secret.unwrap_or(mutual_secret),
    )
    .map(Some)
}

fn checked(
    user: Option<String>,
    secret: Option<String>,
    mutual_user: Option<String>,
    mutual_secret: Option<String>,
) -> Result<DesiredChap> {
    let mut faults = Vec::new();
    let mut fault =
        |field: &str, detail: String| faults.push(Fault::new(format!("/auth/chap/{field}"), detail));
    for (field, value, least) in [
        ("user", &user, 1),
        ("secret", &secret, SECRET_LEN_MIN),
        ("mutual_user", &mutual_user, 1),
        ("mutual_secret", &mutual_secret, SECRET_LEN_MIN),
    ] {
        let Some(value) = value else { continue };
        let is_printable = value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !is_printable || !(least..=LEN_MAX).contains(&value.len()) {
            fault(field, format!("it has to have {least} to {LEN_MAX} printable ASCII characters"));
        }
    }
    for (field, value) in [("user", &user), ("secret", &secret)] {
        if value.is_none() {
            fault(field, "missing: a name and a secret go together".to_owned());
        }
    }
    match (&mutual_user, &mutual_secret) {
        (Some(_), None) => fault("mutual_secret", "missing: it goes together with mutual_user".to_owned()),
        (None, Some(_)) => fault("mutual_user", "missing: it goes together with mutual_secret".to_owned()),
        // RFC 7143 §12.1.3: or somebody could let the target answer its own challenge.
        (_, Some(mutual)) if Some(mutual) == secret.as_ref() => {
            fault("mutual_secret", "it has to differ from secret".to_owned());
        }
        _ => {}
    }
    match (user, secret) {
        (Some(user), Some(secret)) if faults.is_empty() => Ok(DesiredChap {
            user,
            secret: Secret::new(secret),
            mutual: mutual_user
                .zip(mutual_secret)
                .map(|(user, secret)| DesiredMutual { user, secret: Secret::new(secret) }),
        }),
        _ => Err(Error::Value(faults)),
    }
}
