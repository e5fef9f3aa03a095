//! Cases, of either transport: what is done, what is in the way of it, and what must come of that.

use holdfast_e2e::interposer::Act;

/// What must come of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expected {
    /// The command succeeds and nobody minds: it is unusual, and allowed.
    Works,
    /// The driver gives the connection up and comes again; how the command ends is left to it.
    Reset,
    /// The command fails, and the connection stays.
    Fails,
    /// It does not succeed as if nothing had been: it fails, or the connection is made anew.
    Caught,
    /// It ends, one way or the other: what the host has sent by then decides.
    Ends,
}

impl Expected {
    /// `ended`: how the command ended, and how often the connection was made anew.
    pub(crate) fn is(self, ended: &str) -> bool {
        match self {
            Expected::Works => ended == "ok 0",
            Expected::Fails => ended == "failed 0",
            Expected::Caught => ended != "ok 0",
            Expected::Ends => true,
            Expected::Reset => ended.split_once(' ').is_some_and(|(_, resets)| resets != "0"),
        }
    }
}

/// A case.
pub(crate) struct Case<S> {
    pub(crate) name: &'static str,
    /// A word of the guest's job.
    pub(crate) operation: &'static str,
    pub(crate) expected: Expected,
    /// PDUs that are changed, at most.
    pub(crate) times: u64,
    pub(crate) rule: Box<dyn FnMut(&S) -> Act + Send>,
}

impl<S> Case<S> {
    pub(crate) fn new(
        name: &'static str,
        operation: &'static str,
        expected: Expected,
        times: u64,
        rule: impl FnMut(&S) -> Act + Send + 'static,
    ) -> Self {
        Case { name, operation, expected, times, rule: Box::new(rule) }
    }
}
