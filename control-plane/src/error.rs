//! The one vocabulary of what can go wrong, from a body that is no JSON to a target that is away.
//! Every variant has one HTTP status; `http::problem` renders it as RFC 9457 "Problem Details for HTTP APIs".

use holdfast_contract::ObjectFault;

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// JSON pointer (RFC 6901) into the body; for a query parameter `/NAME`.
    pub pointer: String,
    /// What is wrong, and what would be right.
    pub detail: String,
}

impl Fault {
    /// A fault at `pointer`.
    pub fn new(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), detail: detail.into() }
    }

    /// What the target says against an object: named, unless one field is at fault, which is the asker's own.
    pub fn from_target(fault: &ObjectFault) -> Self {
        let detail = match fault.field.as_str() {
            "" => format!("{}: {}", fault.name, fault.detail),
            _ => fault.detail.clone(),
        };
        Self::new(fault.field.as_str(), detail)
    }
}

/// Why a request was not carried out. Whatever the variant, nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// 400: not JSON, a wrong type, a missing or an unknown field or query parameter.
    #[error("the request cannot be read")]
    Shape(Vec<Fault>),
    /// 401: whoever asks has to show a token, or another one.
    #[error("{0}")]
    Unauthorized(&'static str),
    /// 403: sent by a page of another site, or under a name that is not this machine's.
    #[error("{0}")]
    Forbidden(&'static str),
    /// 404: no such route.
    #[error("there is nothing at this address")]
    NoRoute,
    /// 404: drills are switched off.
    #[error("this appliance was not started for drills: start it with --enable-drills")]
    NoDrills,
    /// 404: the path names an object that does not exist.
    #[error("there is no {kind} {name}")]
    Missing {
        /// What kind of object.
        kind: &'static str,
        /// The name that was asked for.
        name: String,
    },
    /// 405: the route exists, the method does not.
    #[error("this address does not know that method")]
    Method,
    /// 408: the body did not arrive in time.
    #[error("the body did not arrive in time")]
    SlowBody,
    /// 409: a duplicate, or in use.
    #[error("{}", .0.detail)]
    Conflict(Fault),
    /// 413: more than the limit.
    #[error("the body is longer than {limit_bytes} bytes")]
    TooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// 415: not JSON by its own word.
    #[error("the body must be application/json")]
    MediaType,
    /// 422: a value that cannot be.
    #[error("a value cannot be")]
    Value(Vec<Fault>),
    /// 422: the target would not make it.
    #[error("the target refused the change")]
    Refused(Vec<ObjectFault>),
    /// 503: as many event streams as this process serves at once are open.
    #[error("too many event streams are open")]
    TooManyStreams,
    /// 503: the target did not answer in time, or what it keeps is not yet what is wanted.
    #[error("the target is away: {0}")]
    TargetAway(String),
    /// 503: this database is new, and the target serves volumes that it knows nothing of.
    #[error(
        "the target serves {volumes} volumes and this database knows none of them: stop the appliance and put the database \
         back, or remove the target's state folder to give the volumes up"
    )]
    LostDatabase {
        /// How many.
        volumes: usize,
    },
    /// 507: no room.
    #[error("{}", .0.detail)]
    NoRoom(Fault),
    /// 500: the database failed.
    #[error("the database failed")]
    Database(#[from] crate::db::DbError),
    /// 500: the target broke the contract between the planes.
    #[error("the target answered out of turn: {0}")]
    Target(String),
    /// 500: what is kept contradicts itself.
    #[error("stored state cannot be read: {0}")]
    Stored(String),
}

impl Error {
    /// 422 with one fault.
    pub fn value(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Value(vec![Fault::new(pointer, detail)])
    }

    /// 400 with one fault.
    pub fn shape(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Shape(vec![Fault::new(pointer, detail)])
    }

    /// 409.
    pub fn conflict(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::Conflict(Fault::new(pointer, detail))
    }

    /// 404 for an object.
    pub fn missing(kind: &'static str, name: impl Into<String>) -> Self {
        Self::Missing { kind, name: name.into() }
    }
}

/// Short form used throughout.
pub type Result<T, E = Error> = std::result::Result<T, E>;
