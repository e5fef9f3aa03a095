//! Mistakes in the transport, the Fabrics commands, and what protects hosts from each other.

use crate::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[Mutant { name: "icreq-pfv", caught_by: &["transport.icreq.pfv"] }];
