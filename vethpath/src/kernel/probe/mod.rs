//! Checks of this machine for features and obstacles.
//!
//! Distributions backport features, so a kernel version proves little. What can be tried without changing the
//! machine is tried, in a private network namespace.

mod bpf;
mod host;
mod netfilter;
mod privileges;
mod release;
mod scratch;
mod scrub;
mod xdp;

pub use privileges::privileges;
pub use scrub::peer_redirect_scrubs;
use serde::Serialize;

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// No problem.
    Ok,
    /// A lab works, but something is slower, missing or measured wrong.
    Warning,
    /// No lab can be brought up.
    Missing,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// Its consequence for a lab.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What the user should do or know.
    pub advice: Option<String>,
}

impl Check {
    fn ok(name: &str, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), status: Status::Ok, found: found.into(), advice: None }
    }

    fn warning(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        let advice = Some(advice.into());
        Self { name: name.to_owned(), status: Status::Warning, found: found.into(), advice }
    }

    fn missing(name: &str, found: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { status: Status::Missing, ..Self::warning(name, found, advice) }
    }
}

/// Checks everything that a lab needs. Nothing is changed, but modules may be loaded, as by `up`.
///
/// Settings are read in the calling thread's network namespace, which is that of a lab's host side.
#[must_use]
pub fn checks() -> Vec<Check> {
    let mut checks = vec![release::check()];
    checks.extend(privileges::checks());
    checks.push(bpf::btf());
    checks.extend(bpf::checks());
    checks.push(scrub::check());
    checks.push(xdp::check());
    checks.extend(host::checks());
    checks.extend(scratch::checks());
    checks.extend(netfilter::checks());
    checks
}

/// Whether `datapath = "xdp"` is usable. It is one of the [`checks`].
#[must_use]
pub fn xdp() -> Check {
    xdp::check()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_that_is_not_fine_gives_advice() {
        let checks = checks();
        assert!(checks.len() > 12);
        for check in &checks {
            assert!(!check.name.is_empty() && !check.found.is_empty(), "{check:?}");
            assert!(check.status == Status::Ok || check.advice.is_some(), "{check:?}");
        }
        let mut names: Vec<_> = checks.iter().map(|c| &c.name).collect();
        names.sort();
        names.dedup();
        assert_eq!(names.len(), checks.len());
    }
}
