//! Checks that netfilter rules of the machine accept the packets of a lab, before anything is changed.

use std::io::{self, Write};

use super::{Failure, labs};
use crate::{
    apply,
    firewall::{self, Drop, Firewall, MOST_READS},
    kernel::{
        self, Adoptions,
        probe::{Check, Status},
    },
    output::printable,
    topology::Topology,
};

/// How many warnings are printed.
const MOST: usize = 8;

/// What happens if all packets of a kind are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Certain {
    /// The command fails.
    Refused,
    /// A warning is printed, as for packets that may be dropped.
    Warned,
}

/// Which rules are checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rules {
    /// The present ones.
    Present,
    /// The present ones with those that `up` would add to `DOCKER-USER`.
    Planned,
}

/// Prints a warning for packets that are or may be dropped once the lab is up.
///
/// # Errors
/// All packets of a kind are dropped, and that is refused.
pub fn check(
    topology: &Topology,
    adoptions: &Adoptions,
    certain: Certain,
    err: &mut dyn Write,
) -> Result<(), Failure> {
    let (drops, closed) = match drops(topology, adoptions, Rules::Planned) {
        Ok(found) => found,
        Err(error) => {
            // A closed stderr does not affect the lab.
            let _ = writeln!(
                err,
                "warning: whether rules drop packets of the lab is unknown: {}",
                printable(&error.to_string())
            );
            return Ok(());
        }
    };
    let refused: Vec<_> =
        drops.iter().filter(|drop| drop.is_fatal() && certain == Certain::Refused).collect();
    if !refused.is_empty() {
        let lines: Vec<_> = refused.iter().map(ToString::to_string).collect();
        let mut hints: Vec<_> = refused.iter().map(|drop| drop.hint()).collect();
        hints.dedup();
        let hint = format!("{}; `up --allow-drops` continues nevertheless", hints.join("\nhint: "));
        return Err(Failure::request(lines.join("\n")).hint(hint));
    }
    let _ = print(&drops, err);
    for sentence in closed {
        let _ = writeln!(
            err,
            "warning: {}\nhint: a default route to what is to be reached, or no `nat`",
            printable(&sentence)
        );
    }
    Ok(())
}

/// The drops in namespaces that exist already, of which the certain ones come first, and the bridges with `nat` that
/// nothing leads out for.
fn drops(
    topology: &Topology,
    adoptions: &Adoptions,
    rules: Rules,
) -> kernel::Result<(Vec<Drop>, Vec<String>)> {
    let (mut all, mut closed) = (Vec::new(), Vec::new());
    for place in firewall::places(topology) {
        if let Some(netns) = apply::existing(&place, topology, adoptions)? {
            let mut firewall = Firewall::read(topology, &place, &netns, MOST_READS)?;
            if rules == Rules::Planned {
                let _ = firewall.accept();
            }
            all.extend(firewall.drops());
            closed.extend(firewall.closed());
        }
    }
    all.sort_by_key(|drop| !drop.is_certain);
    Ok((all, closed))
}

/// The checks of `doctor`: for each lab that is up, the packets that are dropped.
pub fn checks() -> Vec<Check> {
    let labs = labs::all().unwrap_or_default();
    let here = labs.into_iter().filter(|(name, _)| !labs::is_elsewhere(name));
    let check = |(name, record): labs::Found| {
        let found =
            drops(&record.ok()?.topology, &Adoptions::default(), Rules::Present).map(|(drops, _)| drops);
        let name = format!("packets of lab {name}");
        let certain = |drops: Vec<Drop>| drops.into_iter().filter(|drop| drop.is_certain).collect::<Vec<_>>();
        Some(match found.map(certain).as_deref() {
            Ok([]) => Check {
                name,
                status: Status::Ok,
                found: "no netfilter rule certainly drops them".into(),
                advice: None,
            },
            Ok([first, others @ ..]) => {
                let more = match others.len() {
                    0 => String::new(),
                    more => format!("; and {more} more kinds of packets"),
                };
                let (found, advice) = (format!("{first}{more}"), Some(first.hint().into()));
                Check { name, status: Status::Warning, found, advice }
            }
            Err(error) => Check {
                name,
                status: Status::Warning,
                found: format!("whether rules drop them is unknown: {error}"),
                advice: None,
            },
        })
    };
    here.filter_map(check).collect()
}

fn print(drops: &[Drop], err: &mut dyn Write) -> io::Result<()> {
    for drop in drops.iter().take(MOST) {
        writeln!(err, "warning: {}\nhint: {}", printable(&drop.to_string()), printable(drop.hint()))?;
    }
    match drops.len().saturating_sub(MOST) {
        0 => Ok(()),
        more => writeln!(err, "warning: and {more} more kinds of packets"),
    }
}
