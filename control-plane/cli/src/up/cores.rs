//! The list of cores that reactors run on: `0`, `0,2-3`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use rustix::thread::CpuSet;

/// Core numbers below this fit the kernel's affinity mask (`cpu_set_t` has 1024 bits).
const CORE_NUMBER_LIMIT: usize = 1024;

/// Most reactors of one target. Each pair of reactors has a mailbox, so memory grows with the square of this
/// number.
const REACTORS_MAX: usize = 64;

/// A set of cores, never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CoreList(BTreeSet<usize>);

/// Why a text is no list of cores.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CoresError {
    /// A part is neither a number nor a range.
    #[error("`{0}` is neither a core number nor a range: write a list such as 0,2-3")]
    Part(String),
    /// A range whose end comes before its start.
    #[error("the range `{0}` runs backwards")]
    Backwards(String),
    /// A core that appears twice.
    #[error("core {0} is named twice")]
    Twice(usize),
    /// A number that no Linux kernel uses.
    #[error("core numbers are below {CORE_NUMBER_LIMIT}")]
    Number,
    /// Too many cores.
    #[error("at most {REACTORS_MAX} cores can be used")]
    TooMany,
}

impl CoreList {
    /// The default: the first core that this process may run on. `None` if the mask is empty.
    pub(crate) fn first_of(allowed: &CpuSet) -> Option<Self> {
        (0..CORE_NUMBER_LIMIT).find(|&core| allowed.is_set(core)).map(|core| Self(BTreeSet::from([core])))
    }

    /// The first listed core that is not among the allowed ones.
    pub(crate) fn first_missing(&self, allowed: &CpuSet) -> Option<usize> {
        self.0.iter().copied().find(|&core| !allowed.is_set(core))
    }

    /// All cores of a mask, as text for a message.
    pub(crate) fn describe(allowed: &CpuSet) -> String {
        Self((0..CORE_NUMBER_LIMIT).filter(|&core| allowed.is_set(core)).collect()).to_string()
    }
}

impl FromStr for CoreList {
    type Err = CoresError;

    fn from_str(text: &str) -> Result<Self, CoresError> {
        let mut cores = BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = match part.split_once('-') {
                Some((first, last)) => (number(first, part)?, number(last, part)?),
                None => {
                    let core = number(part, part)?;
                    (core, core)
                }
            };
            if last < first {
                return Err(CoresError::Backwards(part.to_owned()));
            }
            for core in first..=last {
                if !cores.insert(core) {
                    return Err(CoresError::Twice(core));
                }
            }
        }
        if cores.len() > REACTORS_MAX { Err(CoresError::TooMany) } else { Ok(Self(cores)) }
    }
}

/// One core number; `part` is what the message names.
fn number(digits: &str, part: &str) -> Result<usize, CoresError> {
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(CoresError::Part(part.to_owned()));
    }
    match digits.parse() {
        Ok(core) if core < CORE_NUMBER_LIMIT => Ok(core),
        _ => Err(CoresError::Number),
    }
}

/// In the grammar that it is parsed from, with runs of three or more as ranges.
impl fmt::Display for CoreList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for &core in &self.0 {
            match runs.last_mut() {
                Some((_, last)) if core == *last + 1 => *last = core,
                _ => runs.push((core, core)),
            }
        }
        let parts: Vec<String> = runs
            .iter()
            .map(|&(first, last)| match last - first {
                0 => format!("{first}"),
                1 => format!("{first},{last}"),
                _ => format!("{first}-{last}"),
            })
            .collect();
        f.write_str(&parts.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_numbers_and_ranges_are_read() {
        for (text, shown) in
            [("0", "0"), ("0,2-3", "0,2,3"), ("5,1-3", "1-3,5"), ("7-7", "7"), ("0-63", "0-63")]
        {
            assert_eq!(text.parse::<CoreList>().unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        for text in ["", ",", "0,", "a", "-1", "1-", "1-2-3", "0 ,1", "+1", "0x1"] {
            assert!(matches!(text.parse::<CoreList>(), Err(CoresError::Part(_))), "{text}");
        }
        assert_eq!("3-1".parse::<CoreList>(), Err(CoresError::Backwards("3-1".into())));
        assert_eq!("0,0".parse::<CoreList>(), Err(CoresError::Twice(0)));
        assert_eq!("0-3,2".parse::<CoreList>(), Err(CoresError::Twice(2)));
        assert_eq!("1024".parse::<CoreList>(), Err(CoresError::Number));
        assert_eq!("99999999999999999999999".parse::<CoreList>(), Err(CoresError::Number));
        assert_eq!("0-64".parse::<CoreList>(), Err(CoresError::TooMany));
    }

    #[test]
    fn cores_that_the_machine_lacks_are_named() {
        let mut allowed = CpuSet::new();
        allowed.set(1);
        allowed.set(2);
        assert_eq!(CoreList::first_of(&allowed).unwrap().to_string(), "1");
        assert_eq!("1,2".parse::<CoreList>().unwrap().first_missing(&allowed), None);
        assert_eq!("1-3".parse::<CoreList>().unwrap().first_missing(&allowed), Some(3));
        assert_eq!(CoreList::describe(&allowed), "1,2");
        assert!(CoreList::first_of(&CpuSet::new()).is_none());
    }
}
