//! Ways to break the target on purpose.
//!
//! A check that nothing can fail proves nothing. Where the data plane decides something that the specification asks for,
//! it may ask here whether it is to decide wrongly: `if holdfast_mutant::active("r2t-length") { … }`. Only with the
//! feature `mutants` can the answer be yes, and then for the one mutant that `HOLDFAST_MUTANT` names when the process
//! starts. Without the feature the answer is a constant, and nothing of it is compiled.
//!
//! `tests/conformance/tests/mutants` lists the mutants and the checks that catch each.
#![forbid(unsafe_code)]

/// Whether the target is to make this mistake.
#[cfg(not(feature = "mutants"))]
#[inline(always)]
#[must_use]
pub const fn active(_name: &str) -> bool {
    false
}

/// Whether the target is to make this mistake.
#[cfg(feature = "mutants")]
#[must_use]
pub fn active(name: &str) -> bool {
    use std::sync::OnceLock;
    static CHOSEN: OnceLock<Option<String>> = OnceLock::new();
    CHOSEN.get_or_init(|| std::env::var("HOLDFAST_MUTANT").ok()).as_deref() == Some(name)
}

#[cfg(all(test, not(feature = "mutants")))]
mod tests {
    #[test]
    fn no_mutant_lives_without_the_feature() {
        const { assert!(!super::active("anything")) };
    }
}
