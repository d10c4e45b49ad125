//! `vethpath plan`.

use std::{
    collections::BTreeMap,
    io::{self, BufWriter, Write},
    path::Path,
};

use super::{
    Exit, Failure,
    failure::runtime,
    firewall::{self, Certain},
    labs, neighbours, subnets, up,
};
use crate::{
    apply::{self, Preview},
    kernel::home::Intent,
    output::{self, grouped, printable},
    plan::Changes,
    topology::Overrides,
};

/// The number of changes of one kind that are printed, unless all are requested.
const SHOWN: usize = 1000;

/// Prints what `up` would do.
pub fn run(
    file: &Path,
    overrides: Overrides,
    all: bool,
    json: bool,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let topology = labs::topology_with_warnings(file, overrides)?;
    up::privileged()?;
    labs::enter(&topology.lab, Intent::Change)?;
    let runtime = runtime()?;
    let adoptions = runtime.block_on(up::adoptions(&topology))?;
    // A closed stderr does not affect the plan.
    let _ = neighbours::warn(&topology, &mut io::stderr().lock());
    let _ = subnets::warn(&topology, &mut io::stderr().lock());
    firewall::check(&topology, &adoptions, Certain::Warned, &mut io::stderr().lock())?;
    let Preview { changes, refusal } = runtime.block_on(apply::preview(&topology, adoptions))?;
    let most = if all { usize::MAX } else { SHOWN };
    let mut out = BufWriter::new(out);
    let printed = match json {
        true => output::json(&up::Report { lab: topology.lab.as_str(), changes: &changes }, &mut out),
        false => print(topology.lab.as_str(), &changes, most, &mut out),
    };
    printed.and_then(|()| out.flush()).map_err(Failure::output)?;
    if let Some(refusal) = refusal {
        let _ =
            writeln!(io::stderr(), "warning: `up` refuses this file: {}", printable(&refusal.to_string()));
    }
    Ok(Exit::Done)
}

/// Prints a line for each change. After the first `most` of each action and kind, the rest are only counted.
fn print(lab: &str, changes: &Changes, most: usize, out: &mut dyn Write) -> io::Result<()> {
    if changes.is_empty() {
        return writeln!(out, "lab {lab} is up: nothing to change");
    }
    let mut counts = BTreeMap::new();
    for change in changes.iter() {
        let count = counts.entry((change.action, change.kind)).or_insert(0_usize);
        *count += 1;
        if *count <= most {
            writeln!(out, "{} {}", change.action.sign(), printable(&change.to_string()))?;
        }
    }
    let mut hint = "; `--all` prints them";
    for ((action, kind), count) in counts {
        if count > most {
            let more = grouped((count - most) as u64);
            writeln!(
                out,
                "{} ... and {more} more: {action} {kind}{}",
                action.sign(),
                std::mem::take(&mut hint)
            )?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Change;

    #[test]
    fn of_each_kind_the_first_are_printed_and_the_rest_is_counted() {
        let mut changes = Changes::default();
        changes.extend((0..3).map(|n| Change::create("route", n)));
        changes.extend((0..2).map(|n| Change::delete("route", n)));
        changes.extend((0..1004).map(|n| Change::create("pair", n)));
        let printed = |most| {
            let mut out = Vec::new();
            print("lab", &changes, most, &mut out).unwrap();
            String::from_utf8(out).unwrap()
        };
        let expected = "+ create route 0\n+ create route 1\n- delete route 0\n- delete route 1\n\
            + create pair 0\n+ create pair 1\n\
            + ... and 1,002 more: create pair; `--all` prints them\n+ ... and 1 more: create route\n";
        assert_eq!(printed(2), expected);
        assert_eq!(printed(usize::MAX).lines().count(), 1009);
    }
}
