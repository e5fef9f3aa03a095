//! Mistakes in Admin and I/O commands.

use crate::Mutant;

pub(crate) const MUTANTS: &[Mutant] = &[];
